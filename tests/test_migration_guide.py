"""docs/keras-to-pytorch.md against both packages: its defaults, its lines of code, its blocks and its numbers.

What a row says is read from the page, and the lines that its last column gives are the ones that run here.
"""

import ast
import inspect
import math
import os
import pathlib
import re
import warnings
from functools import partial
from types import SimpleNamespace

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn
from torch.nn import functional as F

keras = pytest.importorskip("keras")

import fastinit  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # NumPy of torch's tensors, in Keras
layers, losses, optimizers = keras.layers, keras.losses, keras.optimizers
TEXT = (pathlib.Path(__file__).parents[1] / "docs" / "keras-to-pytorch.md").read_text()
TEXT = re.sub("<!-- study:begin -->.*<!-- study:end -->", "", TEXT, flags=re.DOTALL)  # filled in from results


def numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


ABOUT = dict(zip((keras, torch), re.search(r"between Keras (\S+) and torch (\S+),", TEXT).groups(), strict=True))
if any(numbers(package.__version__) < numbers(version) for package, version in ABOUT.items()):
    pytest.skip("the page is about later versions of Keras and torch", allow_module_level=True)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def tables():
    """The rows of all tables by their first cell (initial weights: by "initial: ..."), their cells by columns."""
    section, columns, rows = "", [], {}
    for line in TEXT.splitlines():
        if line.startswith("#"):
            section, columns = line.strip("# "), []
        elif not line.startswith("|"):
            columns = []
        elif not columns:
            columns = [cell.strip() for cell in line.strip("|").split("|")]
        elif not line.startswith("| ---"):
            cells = [cell.strip() for cell in line[1:-1].split("|")]
            assert len(cells) == len(columns), line
            kind = "initial" if section == "Initial weights" else columns[0]
            name = cells[0] if kind == "what" else f"{kind}: {cells[0]}"
            assert name not in rows, name
            rows[name] = dict(zip(columns, cells, strict=True))
    return rows


ROWS = tables()


def codes(cell):
    return re.findall(r"`([^`]+)`", cell)


def from_block(name):
    """What a block of the page defines."""
    (block,) = (block for block in BLOCKS if re.search(rf"(class|def) {name}\b", block))
    space = {}
    exec(block, space)
    return space[name]


same_pad, load_recurrent = from_block("same_pad"), from_block("load_recurrent")
KerasBatchNorm1d, KerasRMSprop, KerasAdam = map(from_block, ("KerasBatchNorm1d", "KerasRMSprop", "KerasAdam"))
SPACE = {"torch": torch, "nn": nn, "F": F, "math": math, "fastinit": fastinit, "same_pad": same_pad}
SPACE |= {"KerasBatchNorm1d": KerasBatchNorm1d, "KerasRMSprop": KerasRMSprop, "KerasAdam": KerasAdam}


def aligned(row, n=0, **names):
    """The value of the n-th line that the row gives to align torch."""
    return eval(codes(ROWS[row]["to align"])[n], SPACE | names)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype("float32")


def array(value):
    return np.array(keras.ops.convert_to_numpy(value))


def first(x):
    return torch.as_tensor(x).movedim(-1, 1)


def assert_same(theirs, mine, atol=2e-6):
    theirs = array(theirs)
    np.testing.assert_allclose(mine.detach().numpy(), theirs, rtol=1e-5, atol=atol, equal_nan=False)


def filled(layer, *shape):
    """The layer with random weights, variances among them positive."""
    layer.build(shape)
    layer.set_weights([normal(*w.shape, seed=i) / 2 for i, w in enumerate(layer.weights)])
    for w in layer.weights:
        w.assign(np.abs(array(w)) if w.name == "moving_variance" else w)
    return layer


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_runs(block):
    torch.manual_seed(0)
    exec(block, {})


def test_every_line_is_python():
    for row in ROWS.values():
        for column in ("to align", "fastinit", "with fastinit"):
            for code in codes(row.get(column, "")):
                ast.parse(code)


RECURRENT = [layers.LSTM, layers.GRU, layers.SimpleRNN]
NORMS = [layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization]
INIT, SCHEDULES = keras.initializers, torch.optim.lr_scheduler
CATEGORICAL = [losses.CategoricalCrossentropy, losses.SparseCategoricalCrossentropy]
# The row, whose defaults its second cell states, and its third. Of several owners those count that have the parameter.
OWNERS = {
    "initial: Dense": (layers.Dense, None),
    "initial: Embedding": (layers.Embedding, None),
    "initial: LSTM, GRU, SimpleRNN: kernel": (RECURRENT, None),
    "initial: LSTM, GRU, SimpleRNN: recurrent kernel": (RECURRENT, None),
    "initial: LSTM, GRU, SimpleRNN: bias": (RECURRENT, None),
    "initial: MultiHeadAttention: query, key, value": (layers.MultiHeadAttention, None),
    "initial: PReLU": (layers.PReLU, nn.PReLU),
    "initial: all normalizations": (NORMS, None),
    "Dense: bias": (layers.Dense, nn.Linear),
    "Conv1D, Conv2D, Conv3D": ([layers.Conv1D, layers.Conv2D, layers.Conv3D], [nn.Conv1d, nn.Conv2d, nn.Conv3d]),
    "DepthwiseConv2D": (layers.DepthwiseConv2D, None),
    "SeparableConv2D": (layers.SeparableConv2D, None),
    "MaxPooling2D": (layers.MaxPooling2D, nn.MaxPool2d),
    'AveragePooling2D, padding="same"': (None, nn.AvgPool2d),
    "GlobalAveragePooling2D": (layers.GlobalAveragePooling2D, None),
    "UpSampling2D": (layers.UpSampling2D, nn.Upsample),
    'UpSampling2D, "bilinear"': (None, nn.Upsample),
    "Resizing": (layers.Resizing, F.interpolate),
    "ZeroPadding2D": (layers.ZeroPadding2D, None),
    "Dropout": (None, nn.Dropout),
    "SpatialDropout2D": (None, nn.Dropout2d),
    "Embedding": (layers.Embedding, nn.Embedding),
    "LSTM, GRU, SimpleRNN: layout": (None, nn.RNNBase),
    "LSTM, GRU, SimpleRNN: result": (RECURRENT, None),
    "SimpleRNN": (layers.SimpleRNN, nn.RNN(1, 1)),
    "GRU: reset gate": (layers.GRU, None),
    "Stacked layers": (None, nn.RNNBase),
    "LSTM, GRU, SimpleRNN: dropout": (RECURRENT, nn.RNNBase),
    "LSTM, GRU, SimpleRNN: recurrent dropout": (RECURRENT, None),
    "Bidirectional: last output": (layers.Bidirectional, None),
    "BatchNormalization: momentum": (layers.BatchNormalization, [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d]),
    "BatchNormalization: epsilon": (layers.BatchNormalization, [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d]),
    "BatchNormalization: axis": (layers.BatchNormalization, None),
    "LayerNormalization": (layers.LayerNormalization, nn.LayerNorm),
    "GroupNormalization": (layers.GroupNormalization, nn.GroupNorm),
    "GroupNormalization(-1)": (None, nn.InstanceNorm2d),
    "RMSNormalization": (layers.RMSNormalization, nn.RMSNorm),
    "MultiHeadAttention": (layers.MultiHeadAttention, nn.MultiheadAttention),
    "Attention": (layers.Attention, None),
    "LeakyReLU": (layers.LeakyReLU, nn.LeakyReLU),
    'activation="leaky_relu"': (keras.activations.leaky_relu, F.leaky_relu),
    "PReLU": (layers.PReLU, nn.PReLU),
    "ELU": (layers.ELU, nn.ELU),
    "GELU": (keras.activations.gelu, nn.GELU),
    "Softmax": (layers.Softmax, nn.Softmax),
    **{name: (getattr(optimizers, name), getattr(torch.optim, name)) for name in ("SGD", "RMSprop", "Adam", "AdamW", "Adagrad")},
    **{name: (getattr(optimizers, name), getattr(torch.optim, name)) for name in ("Adadelta", "Adamax", "Adafactor", "Muon")},
    "Nadam": (optimizers.Nadam, torch.optim.NAdam),
    'kernel_regularizer="l2"': (keras.regularizers.L2, torch.optim.SGD),
    'kernel_regularizer="l1"': (keras.regularizers.L1, None),
    "Adam(weight_decay=w), Nadam": (None, [torch.optim.Adam, torch.optim.NAdam]),
    "ExponentialDecay(lr, steps, rate)": (optimizers.schedules.ExponentialDecay, None),
    "CosineDecay(lr, steps)": (optimizers.schedules.CosineDecay, SCHEDULES.CosineAnnealingLR),
    "ReduceLROnPlateau": (keras.callbacks.ReduceLROnPlateau, SCHEDULES.ReduceLROnPlateau),
    "CategoricalCrossentropy, SparseCategoricalCrossentropy": (CATEGORICAL, None),
    "Classes of a sequence": (CATEGORICAL, None),
    "Label smoothing": (losses.CategoricalCrossentropy, nn.CrossEntropyLoss),
    "class_weight, sample_weight": (None, nn.CrossEntropyLoss),
    "Ignored class": (losses.SparseCategoricalCrossentropy, nn.CrossEntropyLoss),
    "BinaryCrossentropy": (losses.BinaryCrossentropy, None),
    "BinaryCrossentropy: label smoothing": (losses.BinaryCrossentropy, None),
    "MeanSquaredError": (losses.MeanSquaredError, nn.MSELoss),
    "Huber": (losses.Huber, nn.HuberLoss),
    "KLDivergence": (None, nn.KLDivLoss),
    "Poisson": (None, nn.PoissonNLLLoss),
    "CTC": (None, nn.CTCLoss),
    "Batch": (keras.Model.fit, torch.utils.data.DataLoader),
    "Order": (keras.Model.fit, torch.utils.data.DataLoader),
    "The last, partial batch": (None, torch.utils.data.DataLoader),
    "Validation": (keras.Model.fit, None),
    "Keras 3: `VarianceScaling()`": (None, [INIT.VarianceScaling, fastinit.variance_scaling_]),
    "Keras 3: `TruncatedNormal()`": (None, nn.init.trunc_normal_),
    "Keras 3: `RandomNormal()`": (None, nn.init.normal_),
    "Keras 3: `RandomUniform()`": (None, nn.init.uniform_),
}
# What a row must state: the defaults that differ between an optimizer and its namesake cannot be forgotten.
PAIRS = {"learning_rate": "lr", "epsilon": "eps", "rho": "alpha", "initial_accumulator_value": "initial_accumulator_value"}


def stated(cell):
    """The `name=value` of a cell."""
    pairs = (re.fullmatch(r"(\w+)=(.+)", code) for code in codes(cell))
    return {pair[1]: ast.literal_eval(pair[2]) for pair in pairs if pair}


def default(owner, name):
    if hasattr(owner, "__name__"):
        return inspect.signature(owner).parameters[name].default
    return getattr(owner, name)


def has(owner, name):
    return name in inspect.signature(owner).parameters if hasattr(owner, "__name__") else hasattr(owner, name)


def sides(row):
    cells = [cell for column, cell in ROWS[row].items() if column == "Keras 3" or "torch" in column]
    return zip(cells[-2:], OWNERS.get(row, (None, None)), strict=False) if len(cells) > 1 else ()


@pytest.mark.parametrize("row", ROWS)
def test_defaults_are_those_of_both_packages(row):
    for cell, owners in sides(row):
        owners = owners if isinstance(owners, list) else [] if owners is None else [owners]
        assert bool(owners) == bool(stated(cell)), f"stated {stated(cell)} of {owners}"
        for name, value in stated(cell).items():
            owned = [default(owner, name) for owner in owners if has(owner, name)]
            assert owned, f"nothing has {name}"
            for real in owned:
                real = real[0] if isinstance(real, tuple) and not isinstance(value, tuple) else real
                assert real == value and isinstance(real, bool) == isinstance(value, bool), name


@pytest.mark.parametrize("row", [row for row in OWNERS if isinstance(OWNERS[row][0], type) and row in vars(optimizers)])
def test_optimizers_rows_are_complete(row):
    theirs, mine = OWNERS[row]
    shared = [name for name in inspect.signature(theirs).parameters if has(mine, PAIRS.get(name, name))]
    assert "learning_rate" in shared
    for name in shared:
        ours = PAIRS.get(name, name)
        if name != "weight_decay" and default(theirs, name) != default(mine, ours):
            assert name in stated(ROWS[row]["Keras 3"]) and ours in stated(ROWS[row]["torch"]), name
    for name in ROWS["Only in one"]["Keras 3"].split(", "):
        assert hasattr(optimizers, name) and not hasattr(torch.optim, name)
    for name in ROWS["Only in one"]["torch"].split(", "):
        assert hasattr(torch.optim, name) and not hasattr(optimizers, name)


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


SAME, SAME_STRIDED = 'padding="same", stride 1', 'padding="same", stride > 1'
UP, UP_SAME = 'Conv2DTranspose, padding="valid"', 'Conv2DTranspose, padding="same"'
CONVOLUTIONS = [
    *((SAME, layers.Conv2D(4, k, padding="same"), k, 1, (7, 9)) for k in (3, 4)),
    *((SAME_STRIDED, layers.Conv2D(4, k, s, padding="same"), k, s, (8, 11)) for k, s in ((3, 2), (4, 2), (5, 3), (1, 2))),
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
    said = re.search(r"momentum of (\S+) the.*need (\d+) batches to leave 1 %.*\s(\S+) they need (\d+)\.", TEXT, re.DOTALL)
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


# The largest difference of the weights as a share of the largest move. Muon's iteration in bfloat16 is of another precision.
OPTIMIZERS = dict.fromkeys(("SGD", "RMSprop", "Adam", "Adagrad", "Adadelta", "Adamax", "Nadam", "Adafactor"), 1e-4)
OPTIMIZERS |= {"Muon": 0.02, "Adagrad": 3e-7}  # the 1e-7 in Adagrad's accumulator is 5e-7 of a step


def differs(theirs, make, scale, start=0.0, steps=12, shape=(5, 4)):
    """Run both optimizers on the same gradients from the same weights; the largest difference as a share of the largest move."""
    weights = start + start * normal(*shape, seed=9)
    variable, parameter = keras.Variable(weights), nn.Parameter(torch.tensor(weights))
    theirs.build([variable])
    mine = make([parameter])
    for step in range(steps):
        gradient = scale * (1 + np.abs(normal(*shape, seed=step))) * np.sign(normal(*shape, seed=step + 50))
        theirs.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        parameter.grad = torch.tensor(gradient)
        mine.step()
    return np.abs(array(variable) - parameter.detach().numpy()).max() / np.abs(array(variable) - weights).max()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5])
@pytest.mark.parametrize("row", OPTIMIZERS)
def test_optimizers(row, scale):
    make = lambda params: aligned(row, params=params, matrices=params)  # noqa: E731
    assert differs(getattr(optimizers, row)(), make, scale) < OPTIMIZERS[row]


@pytest.mark.parametrize("momentum, nesterov", [(0.9, False), (0.9, True)])
def test_momentum_of_sgd(momentum, nesterov):
    theirs = partial(optimizers.SGD, momentum=momentum, nesterov=nesterov)
    mine = partial(torch.optim.SGD, momentum=momentum, nesterov=nesterov)
    assert differs(theirs(), partial(mine, lr=0.01), 1.0) < 1e-5

    def falling(params):
        optimizer = mine(params, lr=0.01)
        optimizer.register_step_post_hook(lambda *_: optimizer.param_groups[0].update(lr=optimizer.param_groups[0]["lr"] / 2))
        return optimizer

    rates = optimizers.schedules.ExponentialDecay(0.01, 1, 0.5)
    assert differs(theirs(rates), falling, 1.0) > 0.1  # Keras's old steps keep their size
    mine = torch.optim.SGD
    assert differs(optimizers.SGD(rates), falling, 1.0) < 1e-5


def test_epsilon_of_adafactor():
    """torch's default also bounds the mean of a matrix's v: with gradients of 1e-5 it is another optimizer."""
    assert f"under {math.sqrt(torch.finfo(torch.float32).eps):.0e} feel".replace("e-0", "e-") in ROWS["Adafactor"]["torch"]
    assert differs(optimizers.Adafactor(), lambda p: torch.optim.Adafactor(p, lr=1e-3), 1e-5) > 0.05
    assert differs(optimizers.Adafactor(), lambda p: torch.optim.Adafactor(p, lr=1e-3), 1e-2) < 1e-4


def test_adamw_decays_as_it_should():
    make = lambda params: aligned("AdamW", params=params)  # noqa: E731
    for scale in (1.0, 1e-5):
        assert differs(optimizers.AdamW(learning_rate=0.5), lambda p: KerasAdam(p, 0.5, weight_decay=0.004), scale, 1.0) > 0.01
        assert differs(optimizers.AdamW(), make, scale, start=1.0) < 2e-4
    assert differs(optimizers.AdamW(), lambda p: aligned("AdamW", 1, params=p), 1e-5, start=1.0) > 0.05  # in the first steps


def test_epsilon_of_rmsprop():
    """The table of steps at a constant gradient, the first step, and how far torch's own class is."""
    for row in [row for row in ROWS if row.startswith("g: ")]:
        g = torch.tensor([float(row[3:])])
        moved = {}
        for column, make in {
            "Keras 3": KerasRMSprop,
            "torch, eps=1e-8": partial(torch.optim.RMSprop, lr=1e-3, alpha=0.9),
            "torch, eps=3.16e-4": partial(torch.optim.RMSprop, lr=1e-3, alpha=0.9, eps=3.16e-4),
        }.items():
            parameter = nn.Parameter(torch.zeros(1))
            optimizer, parameter.grad = make([parameter]), g
            for _ in range(120):
                parameter.data.zero_()
                optimizer.step()
            moved[column] = -parameter.item() / 1e-3
        for column, share in moved.items():
            assert ROWS[row][column] == f"{share:.4f}", column
    theirs, variable = optimizers.RMSprop(), keras.Variable([0.0])
    theirs.build([variable])
    theirs.apply([torch.ones(1)], [variable])
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    torch.optim.RMSprop([parameter]).step()
    steps = -array(variable)[0], -parameter.item()
    assert f"{steps[0]:.4f} with Keras's defaults, {steps[1]:.1f} with torch's, which is {steps[1] / steps[0]:.1f} times" in TEXT
    theirs, torch_s = optimizers.RMSprop, lambda p: aligned("RMSprop", 1, params=p)
    scale, share = map(float, re.search(r"for gradients over (\S+), to (\S+) %", ROWS["RMSprop"]["to align"]).groups())
    assert differs(theirs(), torch_s, scale) < share / 100 < differs(theirs(), torch_s, scale / 10)


def test_epsilon_of_adam():
    for t in (1, 10, 100, 1000):
        value = f"{1e-7 / math.sqrt(1 - 0.999**t):.2e}".replace("e-0", "e-")
        assert ROWS[f"step t: {t}"]["epsilon in torch's place"] == value
    torch_s = lambda p: aligned("Adam", 1, params=p)  # noqa: E731
    assert differs(optimizers.Adam(), torch_s, 1e-5) > 0.01 and differs(optimizers.Adam(), torch_s, 1.0) < 1e-4
    for row in ("Adam", "AdamW"):  # where the first steps' epsilons end
        assert aligned(row, 1, params=[nn.Parameter(torch.zeros(1))]).defaults["eps"] == 1e-7
    assert differs(optimizers.Adam(amsgrad=True), lambda p: KerasAdam(p, amsgrad=True), 1e-4) < 1e-4


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_l2_regularizer_is_twice_the_weight_decay(kind):
    x = normal(8, 3)
    layer = filled(layers.Dense(2, kernel_regularizer="l2"), None, 3)
    module = nn.Linear(3, 2)
    kernel, bias = map(array, layer.get_weights())
    module.weight.data.copy_(torch.tensor(kernel).T)
    module.bias.data.copy_(torch.tensor(bias))
    names = {"kernels": [module.weight], "others": [module.bias]}
    mine = aligned('kernel_regularizer="l2"', **names)
    if kind == "Adam":
        mine = KerasAdam([{"params": module.weight, "weight_decay": 0.02}, {"params": module.bias}], lr=0.01)
    theirs = getattr(optimizers, kind)(learning_rate=0.01)
    for _ in range(3):
        for w in layer.trainable_weights:
            w.value.grad = None
        (layer(x).square().mean() + sum(layer.losses)).backward()
        with torch.no_grad():
            theirs.apply([w.value.grad for w in layer.trainable_weights], layer.trainable_weights)
        mine.zero_grad()
        module(torch.tensor(x)).square().mean().backward()
        mine.step()
    assert_same(layer.kernel, module.weight.T)
    layer = filled(layers.Dense(2, kernel_regularizer="l1"), None, 3)
    assert_same(layer.losses[0], aligned('kernel_regularizer="l1"', loss=0, kernels=[torch.tensor(array(layer.kernel))]))


def test_decoupled_weight_decay():
    row = "Adam(weight_decay=w), Nadam"
    assert differs(optimizers.Nadam(weight_decay=0.1), lambda p: aligned(row, params=p, w=0.1), 1.0, start=1.0) < 2e-4
    assert differs(optimizers.Nadam(weight_decay=0.1), lambda p: aligned("Nadam", params=p), 1.0, start=1.0) > 0.01
    momentum = partial(optimizers.SGD, momentum=0.9, weight_decay=0.1)

    def decaying(params):
        mine = torch.optim.SGD(params, lr=0.01, momentum=0.9)
        line = partial(torch.no_grad()(aligned), "SGD(weight_decay=w) and the others", params=params, lr=0.01, w=0.1)
        mine.register_step_pre_hook(lambda *_: line() and None)
        return mine

    assert differs(momentum(), decaying, 0.1, start=1.0) < 1e-4
    assert differs(momentum(), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1), 0.1, start=1.0) > 1e-3


@pytest.mark.parametrize("row", ["clipnorm=1.0", "global_clipnorm=1.0", "clipvalue=0.5"])
def test_clipping(row):
    gradients = [normal(4, 3), normal(5, seed=1) * 0.1]
    name, value = row.split("=")
    clipped = optimizers.SGD(**{name: float(value)})._clip_gradients([torch.tensor(g) for g in gradients])
    params = [nn.Parameter(torch.zeros(g.shape)) for g in gradients]
    for parameter, gradient in zip(params, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    aligned(row, params=params)
    assert not np.allclose(array(clipped[0]), gradients[0])
    for theirs, parameter in zip(clipped, params, strict=True):
        assert_same(theirs, parameter.grad)


def test_accumulated_gradients_are_averaged():
    theirs, variable = optimizers.SGD(1.0, gradient_accumulation_steps=2), keras.Variable([0.0])
    theirs.build([variable])
    for gradient in (1.0, 2.0):
        theirs.apply([torch.tensor([gradient])], [variable])
    assert array(variable)[0] == -1.5


@pytest.mark.parametrize("row", ["ExponentialDecay(lr, steps, rate)", "CosineDecay(lr, steps)"])
def test_schedules(row):
    arguments = (0.1, 6, 0.5) if "Exponential" in row else (0.1, 6)
    theirs = getattr(optimizers.schedules, row.split("(")[0])(*arguments)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = aligned(row, optimizer=optimizer, steps=6, rate=0.5)
    for t in range(10):
        assert abs(float(theirs(t)) - optimizer.param_groups[0]["lr"]) < 1e-7
        optimizer.step()
        scheduler.step()


def plateau(values):
    """The epochs in which Keras's callback, the page's scheduler and torch's default reduce the rate first."""
    model = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=1.0))
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", mode="min")
    callback.set_model(model)
    callback.on_train_begin()
    mine, usual = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(2))
    schedulers = aligned("ReduceLROnPlateau", optimizer=mine), SCHEDULES.ReduceLROnPlateau(usual)
    rates = []
    for epoch, loss in enumerate(values):
        callback.on_epoch_end(epoch, {"loss": loss})
        for scheduler in schedulers:
            scheduler.step(loss)
        rates.append((model.optimizer.learning_rate, mine.param_groups[0]["lr"], usual.param_groups[0]["lr"]))
    return [next((epoch for epoch, rate in enumerate(column) if rate < 1), None) for column in zip(*rates, strict=True)]


def test_plateau():
    reduced = plateau([5.0, 4.0] + [3.99995] * 20)
    assert reduced[0] == reduced[1]
    assert f"after {reduced[0] - 1} epochs" in ROWS["ReduceLROnPlateau"]["Keras 3"]
    assert f"after {reduced[2] - 1} epochs" in ROWS["ReduceLROnPlateau"]["torch"]
    assert plateau([40.0 - 2e-4 * epoch for epoch in range(15)]) == [None, None, 11]  # 2e-4 is over 1e-4, not over 1e-4 of 40


PROBABILITIES = torch.tensor(normal(6, 5)).softmax(-1).numpy()
LABELS, LOGITS = np.array([0, 3, 1, 4, 2, 0]), normal(6, 5, seed=1)
BINARY = np.eye(5, dtype="float32")[LABELS]
WEIGHTS = np.array([1, 2, 3, 0.5, 4], "float32")
COUNTS = np.floor(np.abs(normal(6, 5, seed=3)) * 4)
SPARSE = partial(losses.SparseCategoricalCrossentropy, from_logits=True)
# row, Keras's loss, y_true, y_pred, the names of torch's line
LOSSES = [
    (0, losses.CategoricalCrossentropy(), BINARY, PROBABILITIES, {"logits": np.log(PROBABILITIES), "target": LABELS}),
    (0, SPARSE(), LABELS, LOGITS, {"logits": LOGITS, "target": BINARY}),
    ("Classes of a sequence", SPARSE(), LABELS.reshape(2, 3), LOGITS.reshape(2, 3, 5), {}),
    ("Ignored class", SPARSE(ignore_class=0), LABELS, LOGITS, {}),
    ("BinaryCrossentropy", losses.BinaryCrossentropy(from_logits=True), BINARY, LOGITS, {}),
    ("BinaryCrossentropy: label smoothing", losses.BinaryCrossentropy(True, 0.2), BINARY, LOGITS, {"a": 0.2}),
    ("MeanSquaredError", losses.MeanSquaredError(), BINARY, LOGITS, {}),
    ("MeanAbsoluteError", losses.MeanAbsoluteError(), BINARY, LOGITS, {}),
    ("Shapes (N, 1) and (N,)", losses.MeanSquaredError(), LOGITS[:, 0], LOGITS[:, 1:2], {}),
    ("Huber", losses.Huber(), BINARY, LOGITS * 2, {}),
    ("KLDivergence", losses.KLDivergence(), PROBABILITIES, PROBABILITIES[::-1].copy(), {}),
    ("Poisson", losses.Poisson(), COUNTS, PROBABILITIES, {}),
    ("CosineSimilarity", losses.CosineSimilarity(), BINARY, LOGITS, {}),
    ("Hinge", losses.Hinge(), BINARY, LOGITS, {}),
]


@pytest.mark.parametrize("row, loss, y_true, y_pred, names", LOSSES, ids=[str(case[0]) for case in LOSSES])
def test_losses(row, loss, y_true, y_pred, names):
    row = row or "CategoricalCrossentropy, SparseCategoricalCrossentropy"
    given = {"x": y_pred, "logits": y_pred, "target": y_true} | names
    mine = aligned(row, **{name: torch.as_tensor(value) for name, value in given.items()})
    if isinstance(mine, nn.Module):
        mine = mine(torch.tensor(y_pred), torch.as_tensor(y_true))
    assert_same(loss(y_true, y_pred), mine, atol=1e-5)


def test_losses_weighted_and_smoothed():
    z, target, weight = torch.tensor(LOGITS), torch.tensor(LABELS), torch.tensor(WEIGHTS)
    theirs = SPARSE()(LABELS, LOGITS, sample_weight=WEIGHTS[LABELS])
    assert_same(theirs, aligned("class_weight, sample_weight", logits=z, target=target, weight=weight), 1e-5)
    assert abs(nn.CrossEntropyLoss(weight=weight)(z, target) * weight[target].mean() - float(theirs)) < 1e-5
    assert "label_smoothing" not in inspect.signature(losses.SparseCategoricalCrossentropy).parameters
    theirs = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)(BINARY, LOGITS)
    assert_same(theirs, aligned("Label smoothing")(z, target), 1e-5)
    assert_same(nn.CrossEntropyLoss()(z, target), nn.CrossEntropyLoss()(z, torch.tensor(BINARY)))


def test_ctc_loss():
    x, target = normal(2, 9, 5), np.array([[1, 2, 0], [3, 1, 2]])
    lengths = {"lengths": torch.tensor([9, 9]), "target_lengths": torch.tensor([2, 3])}
    assert_same(losses.CTC()(target, x), aligned("CTC", x=torch.tensor(x), target=torch.tensor(target), **lengths), 1e-5)


def test_what_the_losses_do_otherwise():
    """The traps: the cut of probabilities and its gradient, Softmax applied twice, the broadcast, means of other things."""
    z = torch.tensor([[30.0, 0.0, 0.0]], requires_grad=True)
    losses.SparseCategoricalCrossentropy()(np.array([1]), z.softmax(-1)).backward()
    assert not z.grad.any()
    nn.CrossEntropyLoss()(z, torch.tensor([1])).backward()
    assert abs(z.grad[0, 1] + 1) < 1e-4
    worst = float(losses.BinaryCrossentropy()(np.array([[1.0]]), np.array([[0.0]])))
    for row in ("CategoricalCrossentropy, SparseCategoricalCrossentropy", "BinaryCrossentropy"):
        assert "cut to [1e-7, 1 - 1e-7]" in ROWS[row]["Keras 3"] and keras.config.epsilon() == 1e-7
    assert f"a loss of {worst:.1f} at most" in ROWS["BinaryCrossentropy"]["Keras 3"]
    assert f"{nn.BCELoss()(torch.zeros(1), torch.ones(1)):.0f} at most" in ROWS["BinaryCrossentropy"]["torch"]
    z, target = torch.tensor(LOGITS), torch.tensor(LABELS)
    assert abs(nn.CrossEntropyLoss()(z.softmax(-1), target) - nn.CrossEntropyLoss()(z, target)) > 0.1
    with pytest.warns(UserWarning, match="broadcasting"):
        assert nn.MSELoss(reduction="none")(z[:, :1], z[:, 1]).shape == (6, 6)
    p, q = torch.tensor(PROBABILITIES), torch.tensor(PROBABILITIES[::-1].copy())
    with pytest.warns(UserWarning, match="batchmean"):
        assert_same(nn.KLDivLoss(reduction="batchmean")(q.log(), p), 5 * nn.KLDivLoss()(q.log(), p))
    assert_same(nn.HuberLoss(delta=0.5)(z, q), 0.5 * nn.SmoothL1Loss(beta=0.5)(z, q))
    cosine = nn.CosineEmbeddingLoss()(z, q, torch.ones(6))
    assert_same(cosine - 1, torch.tensor(float(losses.CosineSimilarity()(array(q), LOGITS))))


def test_training_conventions():
    x, y, seen = normal(70, 2), normal(70, 1), []
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(1)(inputs))
    model.compile(optimizers.SGD(0.0), loss="mse")
    call = model.call

    def spy(batch, training=None, mask=None):
        seen.append((len(batch), bool(training), array(batch)[:, 0]))
        return call(batch, training=training)

    model.call = spy
    history = model.fit(x, y, epochs=2, verbose=0).history["loss"]
    trained = [batch for batch in seen if batch[1]]
    assert [batch[0] for batch in trained] == [32, 32, 6, 32, 32, 6]
    assert not np.array_equal(trained[0][2], trained[3][2]) and not np.array_equal(trained[0][2], x[:32, 0])
    assert abs(history[0] - float(losses.MeanSquaredError()(y, model.predict(x, verbose=0)))) < 1e-5  # a mean over samples
    seen.clear()
    model.fit(x, y, validation_split=0.2, verbose=0)
    held = np.concatenate([batch[2] for batch in seen if not batch[1]])
    subset = aligned("Validation", data=torch.utils.data.TensorDataset(torch.tensor(x)), held=14)
    np.testing.assert_array_equal(held, [item[0][0].item() for item in subset])
    loader = aligned("Batch", DataLoader=torch.utils.data.DataLoader, data=torch.utils.data.TensorDataset(torch.tensor(x)))
    assert [len(batch[0]) for batch in loader] == [32, 32, 6]
    assert isinstance(loader.sampler, torch.utils.data.RandomSampler)
    assert array(layers.Dense(1)(x.astype("float64"))).dtype == np.float32
    with pytest.raises(RuntimeError, match="dtype"):
        nn.Linear(2, 1)(torch.tensor(x.astype("float64")))
    nn.Linear(2, 1)(aligned("dtype", array=x.astype("float64")))


def limit(tensor):
    return tensor.detach().abs().max().item()


def bound(row, column, **names):
    """The value of the a in a cell's U(a)."""
    text = ROWS[f"initial: {row}"][column].split("U(")[1]
    end = next(i for i in range(len(text)) if text[: i + 1].count(")") > text[: i + 1].count("("))
    return eval(re.sub(r"\bin\b", "fan_in", text[:end]), {"sqrt": math.sqrt} | names)


def test_initial_weights():
    """Largest values of Keras's, torch's and keras_like's weights against the limits that the page gives."""
    keras.utils.set_random_seed(0)  # torch's too
    near = partial(pytest.approx, rel=0.01)
    c, h, rnn = 100, 50, "LSTM, GRU, SimpleRNN: "
    names = {"fan_in": c, "out": c, "c": c, "h": h, "gates": 4, "positions": 9, "multiplier": 2}
    linear, attention, embedding = nn.Linear(c, c), nn.MultiheadAttention(c, 4), nn.Embedding(c, c)
    depthwise, lstm = nn.Conv2d(c, 2 * c, 3, groups=c), nn.LSTM(c, h)
    theirs = [layers.Dense(c), layers.DepthwiseConv2D(3, depth_multiplier=2), layers.Embedding(c, c), layers.LSTM(h)]
    for layer, shape in zip(theirs, ((1, c), (1, 5, 5, c), (1, c), (1, 7, c)), strict=True):
        layer.build(shape)
    theirs.append(layers.MultiHeadAttention(4, c // 4))
    theirs[-1].build((1, 7, c), (1, 7, c))
    query, output = theirs[-1].query_dense.kernel, theirs[-1].output_dense.kernel
    cases = {  # row: Keras's weight, torch's, and the torch module
        "Dense": (theirs[0].kernel, linear.weight, linear),
        "DepthwiseConv2D": (theirs[1].kernel, depthwise.weight, depthwise),
        rnn + "kernel": (theirs[3].cell.kernel, lstm.weight_ih_l0, lstm),
        "MultiHeadAttention: query, key, value": (query, attention.in_proj_weight, attention),
        "MultiHeadAttention: output": (output, attention.out_proj.weight, attention),
    }
    for row, (kernel, weight, _) in cases.items():
        ends = [bound(row, column, **names) for column in ("Keras 3", "torch")]
        assert [np.abs(array(kernel)).max(), limit(weight)] == near(ends), row
        if said := re.search(r"([\d.]+) of Keras's", ROWS[f"initial: {row}"]["torch"]):
            assert said[1] == f"{ends[1] / ends[0]:.3f}"
    assert np.abs(array(theirs[2].embeddings)).max() == near(bound("Embedding", "Keras 3"))
    assert f"std {1 / (bound('Embedding', 'Keras 3') / math.sqrt(3)):.1f} times" in ROWS["initial: Embedding"]["torch"]
    assert 0.98 < embedding.weight.std() < 1.02
    for row, name in (("recurrent kernel", "weight_hh_l0"), ("bias", "bias_ih_l0"), ("bias", "bias_hh_l0")):  # biases: 200 values
        assert limit(getattr(lstm, name)) == pytest.approx(bound(rnn + row, "torch", h=h), rel=0.1)
    cases |= {"Embedding": (theirs[2].embeddings, embedding.weight, embedding), "PReLU": (np.zeros(1), *[nn.PReLU()] * 2)}
    for row, (kernel, weight, module) in cases.items():
        module.apply(fastinit.keras_like)
        assert np.abs(array(kernel)).max() == near(limit(getattr(weight, "weight", weight))), row
        for n, line in enumerate(codes(ROWS[f"initial: {row}"]["to align"])):
            before = {name: limit(parameter) for name, parameter in module.named_parameters()}
            aligned(f"initial: {row}", n, module=module)
            assert {name: limit(parameter) for name, parameter in module.named_parameters()} == near(before), line
    assert lstm.bias_ih_l0.tolist() == [0.0] * h + [1.0] * h + [0.0] * 2 * h == array(theirs[3].cell.bias).tolist()
    assert not lstm.bias_hh_l0.any() and not linear.bias.any()
    rows = aligned("initial: " + rnn + "recurrent kernel", module=lstm)
    assert_same(np.eye(h, dtype="float32"), rows.T @ rows, 1e-5)


def test_initializers_have_keras_s_spread():
    keras.utils.set_random_seed(0)  # torch's too
    for row, cells in ROWS.items():
        if "fastinit" not in cells:
            continue
        w, said = torch.empty(120, 100), cells["what differs in `torch.nn.init`"]
        theirs = torch.tensor(array(eval(codes(cells["Keras 3"])[0], dict(vars(INIT)))((100, 120))))
        eval(*codes(cells["fastinit"]), {"fastinit": fastinit, "w": w})
        assert w.std().item() == pytest.approx(theirs.std().item(), rel=0.02), row
        if not re.search("RandomNormal|Orthogonal", row):  # Keras's truncated normal, on torch, strays once in 233,000 values
            largest = theirs.abs().flatten().kthvalue(theirs.numel() - 5).values
            assert limit(w) == pytest.approx(largest.item(), rel=0.02), row
        for name, options in re.findall(r"^`(\w+_)(?:\(w(.*?)\))?`", said):
            eval(f"{name}(w{options})", vars(nn.init) | {"w": w})
            if "the same law" in said:
                assert w.std().item() == pytest.approx(theirs.std().item(), rel=0.02), row
            if "not truncated" in said:
                assert limit(w) > 3 * w.std(), row
    assert limit(nn.init.kaiming_uniform_(w, a=math.sqrt(5))) == pytest.approx(math.sqrt(1 / 100), rel=0.01)


def truncated(c):
    """The std and the density at 0 of N(0, 1) cut at c."""
    law = stats.truncnorm(-c, c)
    return law.std(), law.pdf(0)


def folded(c):
    """The same of fmod(N(0, 1), c), whose density is the sum of the normal's at |x| + k c."""
    density = lambda x: stats.norm.pdf(x + c * np.arange(40)).sum()  # noqa: E731
    return math.sqrt(2 * integrate.quad(lambda x: x * x * density(x), 0, c)[0]), density(0.0)


@pytest.mark.parametrize("row, c", [("1", 1.0), ("sqrt(2)", math.sqrt(2)), ("2", 2.0)])
def test_fmod_against_the_exact_law(row, c):
    (std, height), (folded_std, folded_height) = truncated(c), folded(c)
    numbers = [f"{value:.4f}" for value in (std, folded_std, height, folded_height)]
    assert list(ROWS[f"c: {row}"].values())[1:] == [*numbers, f"{folded_height / height:.3f}"]
    torch.manual_seed(0)
    n = 1_000_000
    for method, expected in (("exact", std), ("fmod", folded_std)):
        drawn = fastinit.truncated_normal_(torch.empty(n), 0.0, 0.02, -0.02 * c, 0.02 * c, method=method)
        assert drawn.std().item() / 0.02 == pytest.approx(expected, rel=5e-3)  # 7 standard errors
        assert limit(drawn) <= 0.02 * c * (1 + 1e-6)
    value, becomes = re.search(r"a value of (\S+) becomes (\S+)\. So", TEXT).groups()
    assert math.fmod(float(value), 2) == pytest.approx(float(becomes))
    assert torch.fmod(torch.randn(n), c).std().item() == pytest.approx(folded_std, rel=5e-3)


def test_four_conventions_of_the_truncated_normal():
    keras.utils.set_random_seed(0)
    rows = {row: cells for row, cells in ROWS.items() if "with fastinit" in cells}
    assert len(rows) == 4
    for row, cells in rows.items():
        (code, *_), (line,) = codes(cells["convention"]), codes(cells["with fastinit"])
        w = torch.empty(300, 400)
        value = eval(code, {"keras": keras, "nn": nn, "torch": torch, "w": w, "n": w.numel()})
        theirs = torch.tensor(array(value((400, 300)))) if callable(value) else value.clone()
        eval(line, {"fastinit": fastinit, "w": w})
        assert w.std().item() == pytest.approx(theirs.std().item(), rel=0.02), row
        said = cells["std of the values"].split("=")[-1]
        said = eval(re.sub(r"\bin\b", "400", said), {"sqrt": math.sqrt})
        assert theirs.std().item() == pytest.approx(said, rel=0.01), row
    assert f"{truncated(2)[0]:.4f} * 0.05 = {truncated(2)[0] * 0.05:.4f}" in TEXT
    assert f"{folded(2)[0]:.4f} * 0.02 = {folded(2)[0] * 0.02:.4f}" in TEXT
    assert f"at 2 sigmas, sigma = sqrt(2 / in) / {truncated(2)[0]:.8f}: corrected" in TEXT
    assert f"at the absolute bounds -2 and 2, {2 / 0.02:.0f} sigmas away" in TEXT and "| 0.0200 |" in TEXT
    assert limit(nn.init.trunc_normal_(torch.empty(10_000), std=0.02)) > 0.06
    *_, line = re.findall(r"`(nn\.init\.trunc_normal_\(.*?\))`", TEXT)
    assert limit(eval(line, {"nn": nn, "w": w})) == pytest.approx(2 * 0.02, rel=1e-3)
