"""Many networks trained side by side: the matrix products of all in one call each, so that a small network is not all overhead.

Every network of an ensemble does what `network.Network` does alone, to rounding (tests/test_study.py), five times as fast on
digits and twice on vowels in groups of twenty. torch's optimizers work element by element, so one optimizer of the stacked
parameters is one for each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.convergence.network import WIDTH, Constants, Network


class Ensemble(nn.Module):
    """[networks, batch, channels, time] -> class probabilities [networks, batch, classes]."""

    mean: Tensor
    var: Tensor

    def __init__(self, networks: Sequence[Network], constants: Constants) -> None:
        super().__init__()
        self.constants = constants
        self.count, self.units = len(networks), networks[0].lstm.hidden_size

        def stack(name: str) -> Tensor:
            return torch.stack([network.get_parameter(name).detach() for network in networks])

        def row(name: str) -> nn.Parameter:  # a vector of each network, to be added to matrices
            return nn.Parameter(stack(name).unsqueeze(1))

        def both(name: str) -> Tensor:  # the two directions of an LSTM, which are as two networks
            return torch.stack([stack(f"lstm.{name}_l0"), stack(f"lstm.{name}_l0_reverse")], 1).flatten(0, 1)

        def matrix(stacked: Tensor) -> nn.Parameter:  # [n, out, in] -> [n, in, out]
            return nn.Parameter(stacked.mT.contiguous())

        self.conv, self.conv_bias = matrix(stack("conv.weight").flatten(2)), row("conv.bias")
        self.scale, self.shift = row("norm.weight"), row("norm.bias")
        self.register_buffer("mean", torch.zeros_like(self.shift))
        self.register_buffer("var", torch.ones_like(self.shift))
        self.lstm_input, self.lstm_hidden = matrix(both("weight_ih")), matrix(both("weight_hh"))
        self.lstm_bias, self.second_bias = (nn.Parameter(both(f"bias_{end}").unsqueeze(1)) for end in ("ih", "hh"))
        if not constants.two_biases:
            with torch.no_grad():
                self.lstm_bias.add_(self.second_bias)
                self.second_bias.zero_().requires_grad_(False)
        self.dense, self.dense_bias = matrix(stack("dense.weight")), row("dense.bias")

    def forward(self, sequences: Tensor, keep: Tensor | None = None) -> Tensor:
        """keep: while training, 1 where dropout lets a logit through, 0 elsewhere; None: no dropout, averages of before."""
        steps = sequences.shape[-1] - WIDTH + 1
        windows = sequences.unfold(3, WIDTH, 1).transpose(2, 3).reshape(self.count, -1, self.conv.shape[1])
        features = self.normalized(torch.baddbmm(self.conv_bias, windows, self.conv).relu(), training=keep is not None)
        last = self.last_states(features.unflatten(1, (-1, steps)).transpose(1, 2))
        logits = torch.baddbmm(self.dense_bias, last, self.dense)
        if keep is not None:
            logits = logits * (keep / (1 - self.constants.dropout))
        return logits.softmax(-1)

    def normalized(self, features: Tensor, training: bool) -> Tensor:
        """Batch normalization of [networks, values, filters]."""
        if not training:
            return torch.addcmul(self.shift, features - self.mean, self.scale * (self.var + self.constants.norm_eps).rsqrt())
        var, mean = torch.var_mean(features, 1, correction=0, keepdim=True)
        with torch.no_grad():
            values = features.shape[1]
            spread = var * (values / (values - 1)) if self.constants.unbiased else var
            self.mean.lerp_(mean, self.constants.momentum)
            self.var.lerp_(spread, self.constants.momentum)
        return torch.addcmul(self.shift, features - mean, self.scale * (var + self.constants.norm_eps).rsqrt())

    def last_states(self, features: Tensor) -> Tensor:
        """The LSTM's last states, forward and backward: [networks, time, batch, filters] -> [networks, batch, 2 units]."""
        count, steps, batch, filters = features.shape
        both = torch.stack([features, features.flip(1)], 1).view(2 * count, steps * batch, filters)
        inputs = torch.baddbmm(self.lstm_bias + self.second_bias, both, self.lstm_input).view(2 * count, steps, batch, -1)
        hidden = cell = inputs.new_zeros(2 * count, batch, self.units)
        for step in inputs.unbind(1):
            enter, forget, new, leave = torch.baddbmm(step, hidden, self.lstm_hidden).chunk(4, -1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            hidden = leave.sigmoid() * cell.tanh()
        return hidden.view(count, 2, batch, self.units).transpose(1, 2).flatten(2)
