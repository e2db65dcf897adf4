"""The page's blocks of code run, and the defaults that its tables state are those of Keras's and torch's signatures."""

import ast
import inspect
import re

import pytest
import torch
from helpers.guide import BLOCKS, ROWS, codes, keras, layers, losses, optimizers
from torch import nn
from torch.nn import functional as F

import fastinit

pytestmark = pytest.mark.full


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
SCHEDULES = torch.optim.lr_scheduler
CATEGORICAL = [losses.CategoricalCrossentropy, losses.SparseCategoricalCrossentropy]
# By row: whose defaults its cells for Keras and for torch state. Of several owners those count that have the parameter.
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
    "Keras 3: `VarianceScaling()`": (None, [keras.initializers.VarianceScaling, fastinit.variance_scaling_]),
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
