"""Normalizations: with the page's lines, torch's outputs and running statistics are Keras's."""

import math
import re

import numpy as np
import pytest
import torch
from helpers.guide import QUIET, ROWS, TEXT, KerasBatchNorm1d, aligned, array, assert_same, filled, first, layers, normal
from torch import nn
from torch.nn import functional as F

import fastinit

pytestmark = [pytest.mark.full, QUIET]


@pytest.mark.parametrize("shape", [(6, 3), (4, 5, 3)])
def test_batch_normalization(shape):
    x = normal(*shape) * 2 + 1
    layer = filled(layers.BatchNormalization(), *shape)
    gamma, beta, mean, variance = (torch.tensor(w) for w in layer.get_weights())
    rows = ("BatchNormalization: momentum", "BatchNormalization: running variance")
    plain, exact = (aligned(row, c=3) for row in rows)
    for module in (plain, exact):
        module.load_state_dict(
            {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance, "num_batches_tracked": torch.tensor(0)}
        )
    theirs, mine, own = (array(layer(x, training=True)), plain(first(x)), exact(first(x)))
    assert_same(theirs, mine.movedim(1, -1))
    assert_same(theirs, own.movedim(1, -1))
    n = x.size // 3
    assert "n / (n - 1) times what Keras adds" in ROWS[rows[1]]["torch"]
    added = array(layer.moving_variance) - 0.99 * variance.numpy()
    np.testing.assert_allclose(plain.running_var.numpy() - 0.99 * variance.numpy(), added * n / (n - 1), rtol=1e-4)
    assert_same(layer.moving_mean, plain.running_mean)
    assert_same(layer.moving_mean, exact.running_mean)
    assert_same(layer.moving_variance, exact.running_var)
    assert_same(layer(x, training=False), exact.eval()(first(x)).movedim(1, -1))
    assert_same(KerasBatchNorm1d(3).apply(fastinit.keras_like).weight, torch.ones(3))


def test_batch_normalization_at_its_borders():
    """A batch of one value, a frozen layer, and how long the first statistics last."""
    one = normal(1, 3)
    layer = filled(layers.BatchNormalization(), 1, 3)
    assert_same(layer.beta, torch.tensor(array(layer(one, training=True)))[0])
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(3)(torch.tensor(one))
    layer.trainable = False
    assert_same(layer(one, training=False), torch.tensor(array(layer(one, training=True))))
    module = nn.BatchNorm1d(3).requires_grad_(False)
    module(torch.tensor(normal(4, 3)))
    assert module.running_mean.any()
    batches = [math.ceil(math.log(0.01) / math.log(kept)) for kept in (0.99, 0.9)]
    said = re.search(
        r"momentum of (\S+) it takes (\d+) batches until only 1 % of.*torch's (\S+) it takes (\d+)\.", TEXT, re.DOTALL
    )
    assert said.groups() == ("0.99", str(batches[0]), "0.1", str(batches[1]))


def test_other_normalizations():
    x = normal(2, 5, 5, 64) * 0.03  # small, for epsilons to matter
    for row, layer, channels_first in (
        ("LayerNormalization", layers.LayerNormalization(), False),
        ("RMSNormalization", layers.RMSNormalization(), False),
        ("GroupNormalization", layers.GroupNormalization(), True),
        ("GroupNormalization(-1)", layers.GroupNormalization(-1), True),
    ):
        mine = aligned(row, c=64)(first(x)).movedim(1, -1) if channels_first else aligned(row, c=64)(torch.tensor(x))
        assert_same(layer(x), mine, atol=1e-5)
    assert f"{torch.finfo(torch.float32).eps:.3g}".replace("e-0", "e-") in ROWS["RMSNormalization"]["torch"]
    assert_same(F.rms_norm(torch.tensor(x), [64], eps=torch.finfo(torch.float32).eps), nn.RMSNorm(64)(torch.tensor(x)))
