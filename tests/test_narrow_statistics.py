"""Narrow dtypes as samples: every representable value has the share of the law that rounds to it, so nothing is biased."""

import math

import numpy
import pytest
import scipy.stats
import torch
from helpers.laws import INTEGERS, filled

from fastinit._backends.choose import choose
from fastinit._core import laws
from fastinit._core.rounding import representable

pytestmark = pytest.mark.one_of_each

BACKEND = choose(torch.device("cpu"))  # all give the same bits
N = 1 << 24 if BACKEND.NAME != "reference" else 1 << 21
Z, P = 5.0, 1e-6
LAWS = {
    "glorot": (laws.uniform(-0.0765, 0.0765), scipy.stats.uniform(-0.0765, 0.153)),
    "uniform(0.1, 0.3)": (laws.uniform(0.1, 0.3), scipy.stats.uniform(0.1, 0.2)),
    "2 sigmas": (laws.truncated_normal(0.0, 0.02, -0.04, 0.04), scipy.stats.truncnorm(-2, 2, 0, 0.02)),
    "asymmetric": (laws.truncated_normal(0.0, 1.0, -1.5, 2.5), scipy.stats.truncnorm(-1.5, 2.5)),
}


def every_value(dtype: torch.dtype) -> numpy.ndarray:
    """By bit pattern."""
    return torch.arange(2 ** (8 * dtype.itemsize)).to(INTEGERS[dtype.itemsize]).view(dtype).double().numpy()


def shares_of(exact, a: float, b: float, dtype: torch.dtype) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The dtype's values in [a, b], and the probability that rounds to each, or is clamped to it."""
    values, (low, high) = numpy.unique(every_value(dtype)), representable(a, b, dtype)
    values = values[(values >= low) & (values <= high)]
    edges = exact.cdf((values[1:] + values[:-1]) / 2)
    return values, numpy.diff(numpy.concatenate([[0.0], edges, [1.0]]))


def counted(x: torch.Tensor, values: numpy.ndarray) -> numpy.ndarray:
    """How often each of the values, which are all there are, stands in x. Both zeros count as one."""
    patterns = x.view(INTEGERS[x.itemsize]).numpy().view(f"uint{8 * x.itemsize}")
    counts = numpy.bincount(patterns, minlength=2 ** (8 * x.itemsize))
    seen = numpy.flatnonzero(counts)
    index = numpy.searchsorted(values, every_value(x.dtype)[seen])
    assert (values[index] == every_value(x.dtype)[seen]).all()
    return numpy.bincount(index, counts[seen], len(values))


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_every_value_has_its_share(name, dtype):
    """Chi-square over the values expected 50 times or more, and the rest together. p near 1 would be as wrong as near 0."""
    law, exact = LAWS[name]
    values, shares = shares_of(exact, *law.parameters[-2:], dtype)
    counts, expected = counted(filled(BACKEND, law, dtype, N, key=4), values), shares * N
    often = expected >= 50
    assert (counts[often] > 0).all()
    found, right = counts[often], expected[often]
    if expected[~often].sum() >= 50:
        found, right = numpy.append(found, counts[~often].sum()), numpy.append(right, expected[~often].sum())
    p = scipy.stats.chi2.sf(((found - right) ** 2 / right).sum(), len(found) - 1)
    assert P < p < 1 - P


def mean_z(counts: numpy.ndarray, values: numpy.ndarray, shares: numpy.ndarray) -> float:
    """The sample mean's distance from the rounded law's, in standard errors."""
    mean, n = (values * shares).sum(), counts.sum()
    return float(((values * counts).sum() / n - mean) / math.sqrt(((values - mean) ** 2 * shares).sum() / n))


def test_bfloat16_has_no_bias_and_torch_s_would_be_caught():
    """torch 2.13 sends what rounds to the upper bound to the lower one: z is about -28 at 2^24 values, -10 at 2^21."""
    law, exact = LAWS["glorot"]
    values, shares = shares_of(exact, *law.parameters, torch.bfloat16)
    for key in range(8):
        counts = counted(filled(BACKEND, law, torch.bfloat16, N, key=key), values)
        assert abs(mean_z(counts, values, shares)) < Z
        moved = counts.copy()
        moved[0], moved[-1] = counts[0] + counts[-1], 0
        assert mean_z(moved, values, shares) < -Z
