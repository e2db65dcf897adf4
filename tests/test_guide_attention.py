"""Attention and activations: with the page's lines, torch's outputs are Keras's."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers.guide import QUIET, aligned, array, assert_same, filled, layers, normal
from torch import nn
from torch.nn import functional as F

pytestmark = [pytest.mark.full, QUIET]


def test_attention():
    query, key, value = (normal(2, steps, 6, seed=i) for i, steps in enumerate((4, 5, 5)))
    q, k, v = map(torch.tensor, (query, key, value))
    layer = layers.MultiHeadAttention(2, 3)
    layer.build(query.shape, value.shape, key.shape)
    layer.set_weights([normal(*w.shape, seed=i) / 2 for i, w in enumerate(layer.weights)])
    weights = {w.path.split("/", 1)[1]: array(w) for w in layer.weights}
    attention = aligned("MultiHeadAttention", heads=2, key_dim=3)
    names = {name: weights[f"{name}/kernel"] for name in ("query", "key", "value")}
    names["output"] = weights["attention_output/kernel"]
    attention.in_proj_weight.data.copy_(aligned("MultiHeadAttention: kernels", **names))
    attention.in_proj_bias.data.copy_(torch.cat([torch.tensor(weights[f"{name}/bias"]).flatten() for name in list(names)[:3]]))
    attention.out_proj.weight.data.copy_(aligned("MultiHeadAttention: kernels", 1, **names))
    attention.out_proj.bias.data.copy_(torch.tensor(weights["attention_output/bias"]))

    line = partial(aligned, attention=attention, query=q, key=k, value=v)
    assert_same(layer(query, value, key), line("MultiHeadAttention: call")[0])
    assert_same(layer(query, value, key), line("MultiHeadAttention: result"))
    assert_same(layer(query, value), attention(q, v, v)[0])
    mask = np.tril(np.ones((4, 5), bool), 1)
    assert_same(layer(query, value, key, attention_mask=mask[None]), line("MultiHeadAttention: mask", mask=torch.tensor(mask))[0])
    causal = aligned("MultiHeadAttention: causal", steps=4)
    assert_same(layer(query, query, use_causal_mask=True), attention(q, q, q, attn_mask=causal, is_causal=True)[0])
    assert_same(layers.Attention()([query, value, key]), line("Attention"))


def test_activations():
    x = normal(40, 6) * 3
    t = torch.tensor(x)
    assert_same(layers.LeakyReLU()(x), aligned("LeakyReLU")(t))
    assert_same(layers.Activation("leaky_relu")(x), aligned('activation="leaky_relu"')(t))
    assert_same(layers.PReLU()(x), aligned("PReLU", c=6)(t))
    assert_same(layers.Softmax()(x), aligned("Softmax")(t))
    assert_same(layers.ELU()(x), nn.ELU()(t))
    assert_same(layers.Activation("gelu")(x), nn.GELU()(t))
    assert filled(layers.PReLU(), None, 4, 5, 3).alpha.shape == (4, 5, 3) and nn.PReLU().weight.shape == (1,)
    assert filled(layers.PReLU(shared_axes=[1, 2]), None, 4, 5, 3).alpha.shape == (1, 1, 3)
    for name in ("relu", "silu", "selu", "celu", "mish", "softplus", "hard_sigmoid"):
        assert_same(layers.Activation(name)(x), getattr(F, name.replace("_", ""))(t), atol=1e-5)
