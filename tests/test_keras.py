"""The real Keras as the oracle: constants and limits equal, and values of one law."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

keras = pytest.importorskip("keras")

import fastinit  # noqa: E402
from fastinit import keras_like  # noqa: E402

pytestmark = pytest.mark.full

# Two-sample KS at fixed seeds: one p in a million is what a correct law gives by chance.
LEAST_P = 1e-6
layers = keras.layers


def built(layer, shape):
    keras.utils.set_random_seed(20)
    layer.build(shape)
    return {w.path.split("/", 1)[-1]: w.value.detach().cpu().numpy() for w in layer.weights}


def ours(module):
    torch.manual_seed(10)
    return {name: tensor.detach().numpy() for name, tensor in module.apply(keras_like).state_dict().items()}


def assert_same_law(mine, theirs, uniform=True):
    """The law of one tensor against that of another; for uniform ones the limits too, to what n values can tell."""
    assert mine.size == theirs.size
    assert stats.ks_2samp(mine.ravel(), theirs.ravel()).pvalue > LEAST_P
    if uniform:
        # Each largest value is within a share 21/n of the limit but for one case in 1e9.
        assert abs(np.abs(mine).max() / np.abs(theirs).max() - 1) < 21 / mine.size


def assert_same_cut(mine, theirs):
    """Keras on torch draws four normals a value and, once in 233,000 values, has none inside: a stray beyond 2."""
    mine, theirs = np.sort(np.abs(mine).ravel()), np.sort(np.abs(theirs).ravel())
    assert abs(mine[-1] / theirs[-10] - 1) < 0.01


def assert_same_constants(mine, theirs):
    np.testing.assert_array_equal(np.unique(mine), np.unique(theirs))
    assert mine.size == theirs.size


# torch module, Keras layer, its input shape: both have a kernel and a bias of the same sizes
KERNELS = {
    "dense": (nn.Linear(60, 90), layers.Dense(90), (None, 60)),
    "conv1d": (nn.Conv1d(16, 40, 5), layers.Conv1D(40, 5), (None, 30, 16)),
    "conv2d": (nn.Conv2d(16, 40, 3), layers.Conv2D(40, 3), (None, 9, 9, 16)),
    "conv3d": (nn.Conv3d(8, 20, 3), layers.Conv3D(20, 3), (None, 9, 9, 9, 8)),
    "grouped": (nn.Conv2d(16, 40, 3, groups=4), layers.Conv2D(40, 3, groups=4), (None, 9, 9, 16)),
    "transpose1d": (nn.ConvTranspose1d(16, 40, 5), layers.Conv1DTranspose(40, 5), (None, 30, 16)),
    "transpose2d": (nn.ConvTranspose2d(16, 40, 3), layers.Conv2DTranspose(40, 3), (None, 9, 9, 16)),
    "transpose3d": (nn.ConvTranspose3d(8, 20, 3), layers.Conv3DTranspose(20, 3), (None, 9, 9, 9, 8)),
    "depthwise1d": (nn.Conv1d(64, 192, 7, groups=64), layers.DepthwiseConv1D(7, depth_multiplier=3), (None, 30, 64)),
    "depthwise2d": (nn.Conv2d(64, 64, 5, groups=64), layers.DepthwiseConv2D(5), (None, 9, 9, 64)),
    "depthwise2d x2": (
        nn.Conv2d(64, 128, 5, groups=64),
        layers.DepthwiseConv2D(5, depth_multiplier=2),
        (None, 9, 9, 64),
    ),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_kernels(kind):
    module, layer, shape = KERNELS[kind]
    mine, theirs = ours(module), built(layer, shape)
    assert_same_law(mine["weight"], theirs["kernel"])
    assert_same_constants(mine["bias"], theirs["bias"])


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_recurrent_layers(kind):
    units = 48
    mine = ours(getattr(nn, kind.removeprefix("Simple"))(40, units))
    theirs = built(getattr(layers, kind)(units), (None, 7, 40))
    theirs = {name.split("/")[-1]: value for name, value in theirs.items()}
    assert_same_law(mine["weight_ih_l0"], theirs["kernel"])
    recurrent, reference = mine["weight_hh_l0"].T.astype(np.float64), theirs["recurrent_kernel"].astype(np.float64)
    assert_same_law(recurrent, reference, uniform=False)
    for kernel in (recurrent, reference):
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(units), atol=1e-5)
    biases = np.stack([mine["bias_ih_l0"], mine["bias_hh_l0"]])
    # Only Keras's GRU has two biases, as torch always does; elsewhere torch adds what Keras holds once.
    np.testing.assert_array_equal(biases if kind == "GRU" else biases.sum(0), theirs["bias"])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_bidirectional_layers(kind):
    mine = ours(getattr(nn, kind)(40, 24, bidirectional=True))
    theirs = built(layers.Bidirectional(getattr(layers, kind)(24)), (None, 7, 40))
    for suffix, direction in (("", "forward"), ("_reverse", "backward")):
        kernel = next(v for k, v in theirs.items() if direction in k and k.endswith("/kernel"))
        assert_same_law(mine["weight_ih_l0" + suffix], kernel)


def test_embedding():
    mine, theirs = ours(nn.Embedding(200, 50)), built(layers.Embedding(200, 50), (None,))
    assert_same_law(mine["weight"], theirs["embeddings"])
    assert_same_law(ours(nn.EmbeddingBag(200, 50))["weight"], theirs["embeddings"])


@pytest.mark.parametrize("separate", [False, True])
def test_attention(separate):
    dim, heads, kdim = 96, 4, 72 if separate else 96
    module = nn.MultiheadAttention(dim, heads, kdim=kdim, vdim=kdim)
    mine = ours(module)
    layer = layers.MultiHeadAttention(heads, dim // heads)
    keras.utils.set_random_seed(20)
    layer.build((None, 7, dim), (None, 7, kdim), (None, 7, kdim))
    theirs = {w.path.split("/", 1)[-1]: w.value.detach().numpy() for w in layer.weights}
    blocks = [mine[f"{x}_proj_weight"] for x in "qkv"] if separate else np.split(mine["in_proj_weight"], 3)
    for block, name in zip(blocks, ("query", "key", "value"), strict=True):
        assert_same_law(block, theirs[f"{name}/kernel"])
    assert_same_law(mine["out_proj.weight"], theirs["attention_output/kernel"])
    biases = np.concatenate([theirs[f"{name}/bias"].ravel() for name in ("query", "key", "value")])
    np.testing.assert_array_equal(mine["in_proj_bias"], biases)
    np.testing.assert_array_equal(mine["out_proj.bias"], theirs["attention_output/bias"])


NORMS = {
    "batch": (nn.BatchNorm1d(6), layers.BatchNormalization(), (None, 6)),
    "layer": (nn.LayerNorm(6), layers.LayerNormalization(), (None, 6)),
    "group": (nn.GroupNorm(2, 6), layers.GroupNormalization(2), (None, 4, 6)),
    "rms": (nn.RMSNorm(6), layers.RMSNormalization(), (None, 6)),
    "prelu": (nn.PReLU(6), layers.PReLU(), (None, 6)),
}
NAMES = {"gamma": "weight", "scale": "weight", "beta": "bias", "moving_mean": "running_mean"}
NAMES |= {"moving_variance": "running_var", "alpha": "weight"}


@pytest.mark.parametrize("kind", NORMS)
def test_constants(kind):
    module, layer, shape = NORMS[kind]
    mine, theirs = ours(module), built(layer, shape)
    assert theirs
    for name, value in theirs.items():
        np.testing.assert_array_equal(mine[NAMES[name]], value)


INITIALIZERS = [f"{who}_{law}" for who in ("glorot", "he", "lecun") for law in ("uniform", "normal")]


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers(name):
    theirs = keras.initializers.get(name)((64, 512)).detach().numpy()
    mine = getattr(fastinit, name + "_")(torch.empty(512, 64), key=1).numpy()
    assert_same_law(mine, theirs, uniform=name.endswith("uniform"))
    if name.endswith("normal"):
        assert_same_cut(mine, theirs)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
def test_variance_scaling(mode, distribution):
    initializer = keras.initializers.VarianceScaling(1.7, mode, distribution, seed=3)
    theirs = initializer((3, 3, 24, 96)).detach().numpy()
    mine = fastinit.variance_scaling_(torch.empty(96, 24, 3, 3), 1.7, mode, distribution, key=1).numpy()
    assert_same_law(mine, theirs, uniform=distribution == "uniform")


def test_truncated_normal_defaults():
    theirs = keras.initializers.TruncatedNormal(1.0, 0.3, seed=3)((300, 100)).detach().numpy()
    mine = fastinit.truncated_normal_(torch.empty(300, 100), 1.0, 0.3, key=1).numpy()
    assert_same_law(mine, theirs, uniform=False)
    assert_same_cut(mine - 1, theirs - 1)


def test_orthogonal():
    theirs = keras.initializers.Orthogonal(gain=1.3, seed=3)((40, 160)).detach().numpy()
    mine = fastinit.orthogonal_(torch.empty(160, 40), 1.3, key=1).numpy()
    assert_same_law(mine, theirs, uniform=False)
    np.testing.assert_allclose(theirs @ theirs.T, mine.T @ mine, atol=1e-5)
