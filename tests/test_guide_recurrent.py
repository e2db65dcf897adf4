"""Embeddings and recurrent layers: with the page's lines, torch's outputs and steps are Keras's."""

import numpy as np
import pytest
import torch
from helpers.guide import QUIET, ROWS, aligned, array, assert_same, codes, filled, keras, layers, load_recurrent, normal
from torch import nn

import fastinit

pytestmark = [pytest.mark.full, QUIET]


def recurrent(kind, bidirectional=False, **options):
    """A Keras layer with random weights, and torch's with the same."""
    layer = getattr(layers, kind)(4, **options)
    layer = filled(layers.Bidirectional(layer) if bidirectional else layer, None, 7, 5)
    module = getattr(nn, kind.removeprefix("Simple"))(5, 4, batch_first=True, bidirectional=bidirectional)
    weights = layer.get_weights()
    load_recurrent(module, *weights[:3])
    if bidirectional:
        load_recurrent(module, *weights[3:], suffix="_l0_reverse")
    return layer, module


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_recurrent_layers(kind):
    x = normal(3, 7, 5)
    layer, module = recurrent(kind, return_sequences=True)
    assert len(array(layer.get_weights()[2]).shape) == (2 if kind == "GRU" else 1)  # biases
    assert_same(layer(x), module(torch.tensor(x))[0])
    if kind == "LSTM":
        line, last = codes(ROWS["LSTM, GRU, SimpleRNN: result"]["to align"])
        exec(line, space := {"lstm": module, "x": torch.tensor(x)})
        assert_same(array(layer(x))[:, -1], eval(last, space))
    layer, module = recurrent(kind, bidirectional=True)
    output, state = module(torch.tensor(x))
    state = state[0] if kind == "LSTM" else state
    assert_same(layer(x), aligned("Bidirectional: last output", state=state))
    assert not np.allclose(array(layer(x))[:, 4:], output[:, -1, 4:].detach(), atol=0.1)


def test_masked_steps():
    ids, lengths = np.array([[1, 2, 0, 0], [3, 4, 5, 0], [1, 2, 3, 4]]), torch.tensor([2, 3, 4])
    embedding = layers.Embedding(6, 5, mask_zero=True)
    x = embedding(ids)
    layer, module = recurrent("LSTM")
    theirs = layer(x)
    x = torch.tensor(array(x))
    assert x[0, 2].any() and not aligned("Embedding", i=6, o=5)(torch.tensor(ids))[0, 2].any()  # row 0
    assert_same(theirs, module(aligned("Masked steps", x=x, lengths=lengths))[1][0][-1])
    kept = nn.Embedding(6, 5, padding_idx=0).apply(fastinit.keras_like)
    assert not kept.weight[0].any() and 0.04 < kept.weight.abs().max() <= 0.05


@pytest.mark.parametrize("kind", ["LSTM", "SimpleRNN"])
@pytest.mark.parametrize("frozen", [True, False])
def test_two_biases_move_twice_as_far(kind, frozen):
    x = normal(3, 7, 5)
    layer, module = recurrent(kind)
    before = array(layer.get_weights()[2])
    if frozen:
        aligned("LSTM, SimpleRNN: bias", rnn=module)
    for parameters, outputs in (
        ([w.value for w in layer.trainable_weights], lambda: layer(x)),
        ([p for p in module.parameters() if p.requires_grad], lambda: module(torch.tensor(x))[0][:, -1]),
    ):
        outputs().square().sum().backward()
        torch.optim.SGD(parameters, lr=0.1).step()
    kernel, recurrent_kernel, bias = map(array, layer.get_weights())
    assert_same(kernel, module.weight_ih_l0.T)
    assert_same(recurrent_kernel, module.weight_hh_l0.T)
    moved = module.bias_ih_l0 + module.bias_hh_l0 - torch.tensor(before)
    assert np.abs(bias - before).max() > 0.01
    assert_same((bias - before) * (1 if frozen else 2), moved)


def test_dropout_of_recurrent_layers_has_one_mask():
    """A layer that returns its input shows its mask: the same at all time steps, as nn.Dropout1d's; nn.LSTM's is not."""
    keras.utils.set_random_seed(1)
    layer = layers.SimpleRNN(8, activation=None, dropout=0.5, return_sequences=True)
    layer.build((None, 6, 8))
    layer.set_weights([np.eye(8), np.zeros((8, 8)), np.zeros(8)])
    ones = np.ones((4, 6, 8), "float32")
    theirs, mine = array(layer(ones, training=True)), aligned("LSTM, GRU, SimpleRNN: dropout", x=torch.tensor(ones), rate=0.5)
    for mask in (theirs, mine.numpy()):
        assert (mask == mask[:, :1]).all() and set(np.unique(mask)) == {0, 2}
    layer = layers.SimpleRNN(8, activation=None, recurrent_dropout=0.5, return_sequences=True)
    layer.build((None, 6, 8))
    layer.set_weights([np.zeros((8, 8)), np.eye(8), np.zeros(8)])
    state = array(layer(ones, initial_state=torch.ones(4, 8), training=True))
    np.testing.assert_array_equal(state[:, -1], np.where(state[:, 0], 2.0**6, 0))  # new masks would leave an eighth of it
    torch.manual_seed(1)
    alone, stacked = (nn.LSTM(8, 8, count, batch_first=True, dropout=0.5) for count in (1, 2))
    assert torch.equal(alone(torch.tensor(ones))[0], alone.eval()(torch.tensor(ones))[0])  # none after the last layer
    assert not torch.equal(stacked(torch.tensor(ones))[0], stacked(torch.tensor(ones))[0])
