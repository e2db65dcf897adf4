"""Dense layers, convolutions and pooling: with the page's lines, torch's outputs are Keras's."""

import re
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.guide import QUIET, ROWS, aligned, array, assert_same, codes, filled, first, keras, layers, normal
from torch import nn
from torch.nn import functional as F

pytestmark = [pytest.mark.full, QUIET]

STRIDED = 'padding="same", stride > 1'
UP, UP_SAME = 'Conv2DTranspose, padding="valid"', 'Conv2DTranspose, padding="same"'


def loading(layer):
    """torch.nn for a line of the page: its convolutions come with the weights of the layer, put there by the page's lines."""
    kinds = {"Transpose": "Conv1DTranspose, Conv2DTranspose, Conv3DTranspose: kernel", "Depthwise": "DepthwiseConv2D: kernel"}
    row = next((row for kind, row in kinds.items() if kind in type(layer).__name__), "Conv1D, Conv2D, Conv3D: kernel")

    def make(name, *args, **options):
        module = getattr(nn, name)(*args, **options)
        kernel, bias = map(array, layer.get_weights())
        module.weight.data.copy_(aligned(row, kernel=kernel))
        module.bias.data.copy_(torch.tensor(bias))
        return module

    return SimpleNamespace(**{name: partial(make, name) for name in dir(nn) if name.startswith("Conv")})


CONVOLUTIONS = [
    *(('padding="same", stride 1', layers.Conv2D(4, k, padding="same"), k, 1, (7, 9)) for k in (3, 4)),
    *((STRIDED, layers.Conv2D(4, k, s, padding="same"), k, s, (8, 11)) for k, s in ((3, 2), (4, 2), (5, 3), (1, 2))),
    ('Conv1D, padding="causal"', layers.Conv1D(4, 3, padding="causal"), 3, 1, (11,)),
    *((UP, layers.Conv2DTranspose(4, k, s), k, s, (5, 7)) for k, s in ((3, 2), (4, 1), (2, 3))),
    *((UP_SAME, layers.Conv2DTranspose(4, k, s, padding="same"), k, s, (5, 7)) for k in (3, 4, 5) for s in (1, 2, 3)),
    ("DepthwiseConv2D", layers.DepthwiseConv2D(3, depth_multiplier=2), 3, 1, (7, 9)),
]


@pytest.mark.parametrize("row, layer, k, s, space", CONVOLUTIONS, ids=[f"{row}: {k}, {s}" for row, _, k, s, _ in CONVOLUTIONS])
def test_convolutions(row, layer, k, s, space):
    x = normal(2, *space, 3)
    with warnings.catch_warnings():  # Keras warns of transposed convolutions that TensorFlow would compute otherwise
        warnings.simplefilter("ignore")
        theirs = filled(layer, *x.shape)(x)
    mine = aligned(row, nn=loading(layer), x=first(x), i=3, o=4, c=3, k=k, s=s, multiplier=2)
    assert_same(theirs, (mine(first(x)) if isinstance(mine, nn.Module) else mine).movedim(1, -1))


@pytest.mark.parametrize("k, s", [(3, 2), (2, 3), (5, 1)])
@pytest.mark.parametrize("row", [UP, UP_SAME])
def test_sizes_of_transposed_convolutions(row, k, s):
    names = {"n": 5, "k": k, "s": s, "padding": 1, "output_padding": s - 1}
    sizes = [eval(re.split("[;,]? outputs|;", ROWS[row][column])[0], names) for column in ("Keras 3", "torch")]
    shape = layers.Conv2DTranspose(4, k, s, padding="same" if row == UP_SAME else "valid").compute_output_shape((1, 5, 5, 3))
    options = {"padding": 1, "output_padding": s - 1} if row == UP_SAME else {}
    assert sizes == [shape[1], nn.ConvTranspose2d(3, 4, k, s, **options)(torch.zeros(1, 3, 5, 5)).shape[2]]


def test_symmetric_padding_shifts():
    """What the page says of the usual lines: the right sizes, the wrong windows."""
    x = normal(2, 8, 8, 3)
    layer = filled(layers.Conv2D(4, 3, 2, padding="same"), *x.shape)
    usual = loading(layer).Conv2d(3, 4, 3, 2, padding=3 // 2)(first(x)).movedim(1, -1)
    assert usual.shape == layer(x).shape and not np.allclose(usual.detach(), array(layer(x)), atol=0.1)
    with pytest.raises(ValueError, match="padding='same' is not supported"):
        nn.Conv2d(3, 4, 3, 2, padding="same")
    layer = filled(layers.Conv2DTranspose(4, 3, 2, padding="same"), *x.shape)
    (line,) = (code for code in codes(ROWS[UP_SAME]["torch"]) if code.startswith("nn."))
    usual = eval(line, {"nn": loading(layer)})(first(x)).movedim(1, -1)
    assert usual.shape == layer(x).shape
    assert_same(array(layer(x))[:, 1:, 1:], usual[:, :-1, :-1])


def test_dense_and_separable_layers():
    x = normal(2, 6, 5, 3)
    layer = filled(layers.SeparableConv2D(4, 3, depth_multiplier=2), *x.shape)
    depthwise, pointwise, bias = map(array, layer.get_weights())
    module = aligned("SeparableConv2D", i=3, o=4, k=3, multiplier=2)
    module[0].weight.data.copy_(aligned("DepthwiseConv2D: kernel", kernel=depthwise))
    module[1].weight.data.copy_(aligned("Conv1D, Conv2D, Conv3D: kernel", kernel=pointwise))
    module[1].bias.data.copy_(torch.tensor(bias))
    assert_same(layer(x), module(first(x)).movedim(1, -1))

    flat = aligned("Flatten", x=first(x))
    assert_same(layers.Flatten()(x), flat)
    assert_same(layers.Flatten(data_format="channels_first")(first(x).numpy()), flat)
    layer = filled(layers.Dense(4), None, 90)
    kernel, bias = map(array, layer.get_weights())
    assert_same(layer(array(flat)), F.linear(flat, aligned("Dense: kernel", kernel=kernel), torch.tensor(bias)))
    weight = aligned("Dense after Flatten: kernel", kernel=kernel, height=6, width=5, c=3)
    assert_same(layer(array(flat)), F.linear(first(x).flatten(1), weight, torch.tensor(bias)))


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize("k, s", [(2, 2), (3, 2), (3, 1)])
def test_pooling(n, k, s):
    x = normal(2, n, n, 3)
    theirs = array(layers.MaxPooling2D(k, s, padding="same")(x))
    assert_same(theirs, aligned('MaxPooling2D, padding="same"', x=first(x), k=k, s=s).movedim(1, -1))
    ceil = nn.MaxPool2d(k, s, ceil_mode=True)(first(x)).movedim(1, -1)
    if (k, s) == (2, 2):
        assert_same(theirs, ceil)
    elif n == 7:
        assert ceil.shape != theirs.shape
    mine = aligned('AveragePooling2D, padding="same"', x=first(x), k=k, s=s).movedim(1, -1)
    theirs = array(layers.AveragePooling2D(k, s, padding="same")(x))
    if (n, k, s) != (8, 3, 2):
        assert_same(theirs, mine)
        return
    # The page: on torch Keras repeats the edge where the padding is uneven. Its other backends count what is real.
    assert not np.allclose(theirs[:, -1], mine[:, -1], atol=0.05) or keras.backend.backend() != "torch"
    np.testing.assert_allclose(mine[:, -1, 0], x[:, 6:8, 0:3].mean((1, 2)), rtol=1e-4, atol=1e-6)


def test_shapes_and_resizing():
    x = normal(2, 4, 6, 3)
    cases = {
        "MaxPooling2D": (layers.MaxPooling2D(), {}),
        "UpSampling2D": (layers.UpSampling2D(), {}),
        'UpSampling2D, "bilinear"': (layers.UpSampling2D(interpolation="bilinear"), {}),
        "Resizing": (layers.Resizing(5, 9), {"height": 5, "width": 9}),
        "ZeroPadding2D": (layers.ZeroPadding2D(((1, 2), (3, 4))), {"top": 1, "bottom": 2, "left": 3, "right": 4}),
    }
    for row, (layer, names) in cases.items():
        mine = aligned(row, x=first(x), **names)
        assert_same(layer(x), (mine(first(x)) if callable(mine) else mine).movedim(1, -1))
    assert_same(layers.GlobalAveragePooling2D()(x), aligned("GlobalAveragePooling2D", x=first(x)))
    assert nn.AdaptiveAvgPool2d(1)(first(x)).shape == (2, 3, 1, 1)
    ones = np.ones((8, 5, 5, 16), "float32")
    theirs, mine = array(layers.SpatialDropout2D(0.5)(ones, training=True)), aligned("SpatialDropout2D", rate=0.5)(first(ones))
    assert (theirs == theirs[:, :1, :1]).all() and (mine == mine[..., :1, :1]).all() and set(np.unique(theirs)) == {0, 2}
    theirs, mine = array(layers.Dropout(0.2)(ones, training=True)), aligned("Dropout", rate=0.2)(torch.tensor(ones))
    for values in (theirs, mine.numpy()):
        np.testing.assert_allclose(np.unique(values), [0, 1.25])
        assert abs((values == 0).mean() - 0.2) < 0.06  # 8.5 standard errors
