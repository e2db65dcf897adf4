"""docs/porting.md as its tests read it: its tables, its blocks of code, and its lines, evaluated.

Generated sections and the section of the study are left out: their numbers come from results.
"""

import math
import os
import pathlib
import re

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

keras = pytest.importorskip("keras")

import fastinit  # noqa: E402

QUIET = pytest.mark.filterwarnings("ignore:__array__ implementation")  # NumPy of torch's tensors, in Keras
layers, losses, optimizers = keras.layers, keras.losses, keras.optimizers
TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "porting.md").read_text()
GENERATED = r"<!-- (study[^:]*):begin -->.*?<!-- \1:end -->"
STUDY = r"^## What decides whether it converges$.*?(?=^## How to read the tables$)"
for pattern in (GENERATED, STUDY):
    TEXT = re.sub(pattern, "", TEXT, flags=re.DOTALL | re.MULTILINE)


def numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


for package, version in zip((keras, torch), re.search(r"between Keras (\S+) and torch (\S+),", TEXT).groups(), strict=True):
    if numbers(package.__version__) < numbers(version):
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
    """The class or function of this name that a block of the page defines."""
    (block,) = (block for block in BLOCKS if re.search(rf"(class|def) {name}\b", block))
    space = {}
    exec(block, space)
    return space[name]


load_recurrent, same_pad = from_block("load_recurrent"), from_block("same_pad")
KerasBatchNorm1d, KerasRMSprop, KerasAdam = map(from_block, ("KerasBatchNorm1d", "KerasRMSprop", "KerasAdam"))
SPACE = {"torch": torch, "nn": nn, "F": F, "math": math, "fastinit": fastinit, "same_pad": same_pad}
SPACE |= {kind.__name__: kind for kind in (KerasBatchNorm1d, KerasRMSprop, KerasAdam)}


def aligned(row, n=0, **names):
    """The value of the n-th line that the row gives to align torch."""
    return eval(codes(ROWS[row]["to align"])[n], SPACE | names)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype("float32")


def array(value):
    return np.array(keras.ops.convert_to_numpy(value))


def first(x):
    """Channels first, as a tensor."""
    return torch.as_tensor(x).movedim(-1, 1)


def assert_same(theirs, mine, atol=2e-6):
    np.testing.assert_allclose(mine.detach().numpy(), array(theirs), rtol=1e-5, atol=atol, equal_nan=False)


def filled(layer, *shape):
    """The layer with random weights, variances among them positive."""
    layer.build(shape)
    layer.set_weights([normal(*w.shape, seed=i) / 2 for i, w in enumerate(layer.weights)])
    for w in layer.weights:
        w.assign(np.abs(array(w)) if w.name == "moving_variance" else w)
    return layer
