"""Quantile tables, which a first fill of a law waits for: ``pytest benchmarks --benchmark-only -k table``. Users notice 5 ms."""

import math

import pytest
import torch

from fastinit._core import tables

SHAPES = {"float32": [tables.SMALL, tables.LARGE], "float64": [tables.DOUBLE]}
CUTS = {
    "2 sigmas": (-2.0, 2.0),
    "uncut": (-math.inf, math.inf),
    "asymmetric": (-1.5, 2.5),
    "half-normal": (0.0, math.inf),
    "right of 0": (0.5, 3.0),
    "narrow, right": (1.0, 1.001),
    "[8, 9]": (8.0, 9.0),
    "[1000, 1001]": (1000.0, 1001.0),
    "[-7, 6.5]": (-7.0, 6.5),
}


@pytest.mark.parametrize("real", SHAPES)
@pytest.mark.parametrize("name", CUTS)
def test_table(benchmark, name, real):
    benchmark.group, (low, high) = f"table {real}", CUTS[name]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if low == -high:
            benchmark(lambda: tables.symmetric_table(tables.cut_normal(low, high), SHAPES[real]))
        else:
            benchmark(lambda: tables.two_sided_table(tables.cut_normal(low, high).halves(0.0, 1.0), SHAPES[real]))
    finally:
        torch.set_num_threads(before)
