"""The default initializers of Keras 3, module type by module type, in torch's names and layouts.

Checked against Keras 3.15: Dense, Conv, ConvTranspose, DepthwiseConv, SimpleRNN, LSTM, GRU and their cells, Embedding,
the normalizations, MultiHeadAttention, PReLU. Where torch has what Keras lacks (grouped transposed convolutions,
projections of an LSTM, Bilinear), the rule is Keras's for a kernel of that shape.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastinit._core.check import is_loaded, left
from fastinit._core.laws import Initializer, Law, constant, declares
from fastinit._core.modes import safe_torch
from fastinit._core.shard import is_dtensor
from fastinit._initializers.constants import forget_gate_bias_, ones_, zeros_
from fastinit._initializers.glorot import glorot_uniform_, glorot_uniform_law
from fastinit._initializers.plain import uniform_
from fastinit._initializers.structured import orthogonal_
from fastinit._schemes.rules import Mapped, Rule


@declares(lambda shape, dtype: constant(0.0))
def zero_(tensor: Tensor) -> Tensor:
    """Fill a tensor of any dtype with 0: a counter of batches too."""
    if is_loaded(tensor):
        return left(tensor)
    with safe_torch():
        return tensor.zero_()


def glorot_blocks_law(shape: torch.Size, dtype: torch.dtype, blocks: int) -> Law:
    fan_out, fan_in = shape[0] // blocks, shape[1]
    return glorot_uniform_law(shape, dtype, 1.0, fan_in, fan_out, 0, 1)


@declares(glorot_blocks_law)
def glorot_blocks_(tensor: Tensor, blocks: int, *, key: int | None = None) -> Tensor:
    """Fill the equal blocks of dimension 0 with glorot_uniform_, each with the fans it has by itself.

    Without a key each block draws one of its own. With a key the whole is filled at once, as a shard of it must be.
    """
    if key is None and not is_dtensor(tensor):
        with torch.no_grad():
            for block in tensor.unflatten(0, (blocks, -1)):
                glorot_uniform_(block)
        return tensor
    return glorot_uniform_(tensor, key=key, fan_in=tensor.shape[1], fan_out=tensor.shape[0] // blocks)


def gates(name: str, initializer: Initializer) -> Mapped:
    """The rule for what torch's recurrent layers and cells call so, and not for a scale of it, such as weight_ih_l0_scale."""
    return dict.fromkeys((name, f"{name}_l*[0-9]", f"{name}_l*_reverse"), initializer)


def convolution(module: Any) -> Mapped:
    """Return the rule of a convolution; depthwise ones (groups == in_channels) have the fans of Keras's DepthwiseConv.

    Keras's depthwise kernel is (*kernel, in, multiplier): fan_in is in * positions, though each output sees a single
    input, and fan_out is multiplier * positions.
    """
    if module.groups != module.in_channels:
        return {"weight": glorot_uniform_, "bias": zeros_}
    positions = math.prod(module.kernel_size)
    multiplier = module.out_channels // module.in_channels
    fans = {"fan_in": module.in_channels * positions, "fan_out": multiplier * positions}
    return {"weight": partial(glorot_uniform_, **fans), "bias": zeros_}


_DENSE: Mapped = {"weight": glorot_uniform_, "bias": zeros_}
_NORM: Mapped = {
    "weight": ones_,
    "bias": zeros_,
    "running_mean": zeros_,
    "running_var": ones_,
    "num_batches_tracked": zero_,
}
NORMS: dict[type[nn.Module], Rule] = dict.fromkeys(
    (
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        *(nn.GroupNorm, nn.LayerNorm, nn.RMSNorm),
    ),
    _NORM,
)
_EMBEDDING: Mapped = {"weight": partial(uniform_, a=-0.05, b=0.05)}
# Keras draws one kernel for all gates, so the fans and the orthogonality are those of the whole stacked matrix.
_RECURRENT: Mapped = {
    **gates("weight_ih", glorot_uniform_),
    **gates("weight_hh", orthogonal_),
    **gates("bias_?h", zeros_),
}
# torch adds two biases where Keras has one: a 1 in both would make the forget gate start at 2.
_LSTM: Mapped = {**_RECURRENT, **gates("bias_ih", forget_gate_bias_), **gates("weight_hr", glorot_uniform_)}
# Keras's query, key and value are three kernels of fans (features, heads * size), and its output kernel has the fans
# (heads * size, features): out_proj is an ordinary Linear. bias_k and bias_v are torch's own and count as biases.
_ATTENTION: Mapped = {
    "in_proj_weight": partial(glorot_blocks_, blocks=3),
    "[qkv]_proj_weight": glorot_uniform_,
    "in_proj_bias": zeros_,
    "bias_[kv]": zeros_,
}

KERAS_RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Linear, nn.Bilinear), _DENSE),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), convolution),
    **dict.fromkeys((nn.RNN, nn.RNNCell, nn.GRU, nn.GRUCell), _RECURRENT),
    **dict.fromkeys((nn.LSTM, nn.LSTMCell), _LSTM),
    **dict.fromkeys((nn.Embedding, nn.EmbeddingBag), _EMBEDDING),
    **NORMS,
    nn.MultiheadAttention: _ATTENTION,
    nn.PReLU: {"weight": zeros_},
}
