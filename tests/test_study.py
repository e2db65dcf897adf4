"""The study of convergence: its networks do what torch's and Keras's do, its runs are those of their seeds, its files survive."""

import os

import pytest
import torch
from torch import nn

from fastinit.study import data, optimizers, runs
from fastinit.study.ensemble import Ensemble
from fastinit.study.network import KERAS, TORCH, Network


def networks(count, channels=8, classes=10):
    torch.manual_seed(0)
    return [Network(channels, classes) for _ in range(count)]


def batch_of(count, size=16, channels=8, classes=10, steps=8):
    sequences = torch.randn(count, size, channels, steps, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(classes, (count, size), generator=torch.Generator().manual_seed(2))
    return sequences, nn.functional.one_hot(labels, classes).float()


@pytest.mark.parametrize("name", optimizers.COMPARED)
def test_an_ensemble_trains_as_its_networks_alone(name):
    alone = networks(3)
    together = Ensemble(alone, TORCH._replace(dropout=0.0))
    sequences, targets = batch_of(3)
    optimizer = optimizers.OPTIMIZERS[name](together.parameters())
    singles = [optimizers.OPTIMIZERS[name](network.parameters()) for network in alone]
    for network in alone:
        network.dropout.p = 0.0
    for _ in range(4):
        optimizer.zero_grad()
        errors = (together(sequences, torch.ones_like(targets)) - targets).abs().mean((1, 2))
        errors.sum().backward()
        optimizer.step()
        for network, single, inputs, wanted, error in zip(alone, singles, sequences, targets, errors, strict=True):
            single.zero_grad()
            loss = nn.functional.l1_loss(network(inputs), wanted)
            loss.backward()
            single.step()
            assert loss.item() == pytest.approx(error.item(), abs=2e-5)
    with torch.no_grad():
        expected = torch.stack([network.eval()(inputs) for network, inputs in zip(alone, sequences, strict=True)])
        torch.testing.assert_close(together(sequences), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(together.var.squeeze(1), torch.stack([network.norm.running_var for network in alone]))


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


@pytest.mark.parametrize(("name", "ours"), runs.TWINS.items())
def test_the_port_to_the_letter_trains_as_keras(keras, name, ours):
    from fastinit.study import keras_twin

    sequences, targets = batch_of(1)
    model = keras_twin.build(data.Sequences(10, (sequences[0], None), None), "MAE", name)
    (network,) = networks(1)
    model.layers[4].rate = 0.0
    port = Ensemble([network], KERAS._replace(dropout=0.0))
    copy_weights(model, port)
    optimizer = optimizers.OPTIMIZERS[ours](p for p in port.parameters() if p.requires_grad)
    for _ in range(3):
        optimizer.zero_grad()
        error = (port(sequences, torch.ones_like(targets)) - targets).abs().mean()
        error.backward()
        optimizer.step()
        their_error, _ = model.train_on_batch(sequences[0].mT.numpy(), targets[0].numpy())
        assert float(their_error) == pytest.approx(error.item(), abs=1e-6)
    theirs = model.predict(sequences[0].mT.numpy(), verbose=0)
    torch.testing.assert_close(port(sequences)[0].detach(), torch.tensor(theirs), atol=1e-5, rtol=0)


def copy_weights(model, port):
    """Keras's weights into an ensemble of one: its matrices are [in, out] as well."""
    conv, norm, lstm, dense = (model.layers[number] for number in (0, 1, 2, 3))
    forward, backward = lstm.forward_layer.cell, lstm.backward_layer.cell

    def put(parameter, *values):
        parameter.data = torch.stack([torch.tensor(value.numpy()) for value in values]).view_as(parameter)

    kernel = torch.tensor(conv.kernel.numpy())  # [width, in, out]
    port.conv.data = kernel.transpose(0, 1).reshape(1, -1, kernel.shape[2]).contiguous()
    put(port.conv_bias, conv.bias)
    put(port.scale, norm.gamma)
    put(port.shift, norm.beta)
    put(port.lstm_input, forward.kernel, backward.kernel)
    put(port.lstm_hidden, forward.recurrent_kernel, backward.recurrent_kernel)
    put(port.lstm_bias, forward.bias, backward.bias)
    put(port.dense, dense.kernel)
    put(port.dense_bias, dense.bias)
