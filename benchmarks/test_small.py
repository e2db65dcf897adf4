"""One call on a small tensor: by this package, by torch.nn.init, and served in a block: ``pytest benchmarks/test_small.py``.

And constructors of single layers, outside of a block and inside, where torch shows it each of their functions.
"""

import contextlib
import os

import pytest
import torch
from torch import nn

import fastinit

ROUNDS = 3 if os.environ.get("FASTINIT_BENCH_QUICK", "") not in ("", "0") else 15
NAMES = ("uniform_", "normal_", "xavier_uniform_", "kaiming_uniform_", "zeros_")


@pytest.mark.parametrize("who", ["fastinit", "nn.init", "served"])
@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize("name", NAMES)
def test_small(benchmark, name, side, who):
    benchmark.group = f"{name} {side * side:,}"
    weight = nn.Parameter(torch.empty(side, side))
    with fastinit.accelerate(seed=0) if who == "served" else contextlib.nullcontext():
        function = getattr(fastinit if who == "fastinit" else nn.init, name)
        benchmark.pedantic(function, args=(weight,), rounds=ROUNDS, iterations=2000, warmup_rounds=1)


LAYERS = {
    "Linear(8, 8)": lambda: nn.Linear(8, 8),
    "Linear(128, 128)": lambda: nn.Linear(128, 128),
    "LayerNorm(8)": lambda: nn.LayerNorm(8),
    "Conv2d(8, 8, 3)": lambda: nn.Conv2d(8, 8, 3),
    "MultiheadAttention(64, 4)": lambda: nn.MultiheadAttention(64, 4),
}


@pytest.mark.parametrize("who", ["torch", "served"])
@pytest.mark.parametrize("layer", LAYERS)
def test_constructor(benchmark, layer, who):
    benchmark.group = layer
    with fastinit.accelerate(seed=0) if who == "served" else contextlib.nullcontext():
        benchmark.pedantic(LAYERS[layer], rounds=ROUNDS, iterations=200, warmup_rounds=1)
