"""The host's numbers: one rounding, neighbours, and the outermost values inside bounds, against fractions and every value."""

import bisect
import math
import random
from fractions import Fraction

import pytest
import torch
from helpers.laws import INTEGERS
from helpers.oracle import nearest

from fastinit._core.rounding import first, representable, rounded, step

INF = math.inf
SMALL_DTYPES = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


def finite_values(dtype: torch.dtype) -> list[float]:
    patterns = torch.arange(2 ** (8 * dtype.itemsize)).to(INTEGERS[dtype.itemsize])
    values = patterns.view(dtype).double()
    return sorted({float(v) for v in values[torch.isfinite(values)]})


@pytest.mark.parametrize("dtype", SMALL_DTYPES, ids=str)
def test_representable_against_every_value(dtype):
    grid, rng = finite_values(dtype), random.Random(4)
    points = [rng.choice(grid) for _ in range(60)] + [grid[0], grid[-1], 0.0, -0.0, 1e9 * grid[0], 1e9 * grid[-1], -INF, INF]
    points += [math.nextafter(rng.choice(grid), rng.choice([-INF, INF])) for _ in range(60)]
    points += [(grid[i] + grid[i + 1]) / 2 for i in rng.sample(range(len(grid) - 1), 60)]
    for _ in range(1500):
        a, b = sorted(rng.sample(points, 2))
        first, last = bisect.bisect_left(grid, a), bisect.bisect_right(grid, b) - 1
        if first > last:
            with pytest.raises(ValueError, match="lies in"):
                representable(a, b, dtype)
        else:
            low, high = representable(a, b, dtype)
            assert [low, high] == [grid[first], grid[last]], (a, b)
            assert low != 0 or math.copysign(1, low) == 1, "a zero low is +0"
            assert high != 0 or math.copysign(1, high) == -1, "a zero high is -0"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_representable_of_wide_dtypes(dtype):
    rng = random.Random(5)
    for _ in range(2000):
        a = math.ldexp(rng.uniform(-1, 1), rng.randrange(-140, 120))
        low, high = representable(a, a + abs(a), dtype)
        below = step(low, -INF, dtype)
        assert low >= a > below and high <= a + abs(a) < step(high, INF, dtype)


@pytest.mark.parametrize("dtype", SMALL_DTYPES, ids=str)
def test_step_goes_to_the_neighbour(dtype):
    grid = finite_values(dtype)
    for i in range(0, len(grid) - 1, 1 if len(grid) < 1000 else 17):
        assert step(grid[i], INF, dtype) == grid[i + 1] and step(grid[i + 1], -INF, dtype) == grid[i]
    middle = grid.index(0.0)
    assert step(0.0, INF, dtype) == grid[middle + 1] and step(0.0, -INF, dtype) == grid[middle - 1]
    assert step(grid[middle - 1], INF, dtype) == 0 == step(grid[middle + 1], -INF, dtype)
    for i, j in [(0, len(grid) - 1), (middle - 5, middle + 9), (3, middle)]:
        assert step(grid[i], INF, dtype, j - i) == grid[j] and step(grid[j], -INF, dtype, j - i) == grid[i]
    assert step(grid[-2], INF, dtype, 10) == grid[-1] == -step(grid[0], -INF, dtype), "infinity, or the greatest, is the end"


@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("x, wanted", [(1.0, 1.0), (1.0, 1.0 + 3e-7), (5e-25, -1e-30), (-3.0, 2.0), (1e-20, 1e20), (0.0, INF)])
def test_first_is_the_nearest_value_that_is_enough(x, wanted, real):
    x, toward = rounded(x, real), wanted - x or 1.0
    sign = math.copysign(1.0, toward)
    found = first(x, toward, real, lambda value: sign * value >= sign * wanted)
    assert sign * found >= sign * wanted
    assert found == x or sign * step(found, -toward, real) < sign * wanted


def test_rounded_is_to_the_nearest_float32():
    rng = random.Random(6)
    for _ in range(3000):
        x = math.ldexp(rng.choice([rng.uniform(-1, 1), rng.randrange(2**25) + 0.5]), rng.randrange(-175, 60))
        assert Fraction(rounded(x, torch.float32)) == nearest(Fraction(x), torch.float32)
    assert rounded(1e39, torch.float32) == INF and rounded(-1e39, torch.float32) == -INF
    assert rounded(math.pi, torch.float64) == math.pi
