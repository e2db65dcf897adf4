"""Masses, quantiles and tables in float64, against mpmath; what a table promises its users; independence of the machine."""

import decimal
import math
import random
from decimal import Decimal

import mpmath
import pytest
import torch
from helpers.quick import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastinit._core import normal, tables
from fastinit._core.tables import BIAS, DOUBLE, F64, LARGE, MANTISSA, SMALL, WORD_BITS, cell_number, cut_normal, mapping

INF = math.inf
SHAPES = {"float32": [SMALL, LARGE], "float64": [DOUBLE]}
# Relative error of a value at the worst d, as a power of 2. float32 keeps 2^-24, so 2^-26 costs half an ulp at most.
SYMMETRIC = {
    "narrow": (1e-3, -45),
    "half a sigma": (0.5, -40),
    "2 sigmas": (2.0, -26.9),
    "2.5 sigmas": (2.5, -26.5),
    "5 sigmas": (5.0, -26.5),
    "100 sigmas": (100.0, -26.5),
    "uncut": (INF, -26.5),
}
# Where values cross 0 amid the interval, the error is absolute, in units of the larger bound.
TWO_SIDED = {
    "asymmetric": (-1.5, 2.5, -28),
    "half-normal": (0.0, INF, -26),
    "lower half-normal": (-INF, 0.0, -26),
    "above -1": (-1.0, INF, -26),
    "below 1": (-INF, 1.0, -26),
    "right of 0": (0.5, 3.0, -26),
    "narrow, right": (1.0, 1.001, -44),
    "narrow, left": (-3.0001, -3.0, -44),
    "[8, 9]": (8.0, 9.0, -26),
    "[-9, -8]": (-9.0, -8.0, -26),
    "[30, 31]": (30.0, 31.0, -26),
    "[38, inf]": (38.0, INF, -26),
    "[1000, 1001]": (1000.0, 1001.0, -26),
    "[-7, 6.5]": (-7.0, 6.5, -26),
    "[5.9, 20]": (5.9, 20.0, -26),
    "[-1, 100]": (-1.0, 100.0, -26),
}


@pytest.fixture(autouse=True)
def many_digits():
    with mpmath.workdps(60):
        yield


def tail(x):
    """1 - Phi(x)."""
    return mpmath.erfc(mpmath.mpf(x) / mpmath.sqrt(2)) / 2


def quantile_error(found, low: float, high: float, share_above) -> mpmath.mpf:
    """found - Q, where Q has the share of the cut's mass above it: to first order the mass between them over the density."""
    below_low, above_high = (tail(low), tail(high)) if low > 0 else (1 - tail(-low), tail(high))
    target = above_high + share_above * (below_low - above_high)
    return -(tail(found) - target) / mpmath.npdf(found)


def distances(bits: int) -> list[float]:
    """d = 2^(1 - bits) to 1, in every octave; multiples of the smallest, as the words give them."""
    unit, rng = 2.0 ** (1 - bits), random.Random(bits)
    spread = [unit * rng.randrange(1 << e, 2 << e) for e in range(bits - 1) for _ in range(2)]
    return [unit, *spread, *(unit * rng.randrange(1, 2 ** (bits - 1)) for _ in range(40)), 1 - unit]


@pytest.mark.parametrize("x", [1e-300, 1e-10, 0.1, 0.5, 1.0, 3.0, 5.9, 6.0, 6.1, 8.0, 12.0])
def test_center(x):
    with decimal.localcontext(normal.PRECISE):
        for sign in (1, -1):
            found = mpmath.mpf(str(normal.center(Decimal(sign * x))))
            exact = sign * mpmath.erf(mpmath.mpf(x) / mpmath.sqrt(2)) / 2
            assert abs(found / exact - 1) < 1e-32
        assert normal.center(Decimal("Infinity")) == Decimal("0.5") == -normal.center(Decimal("-Infinity"))


@pytest.mark.parametrize("x", [6.0, 6.5, 10.0, 40.0, 1000.0])
def test_mills_ratio(x):
    with decimal.localcontext(normal.PRECISE):
        found = mpmath.mpf(str(normal.mills_ratio(Decimal(x))))
    assert abs(found * mpmath.npdf(x) / tail(x) - 1) < 1e-30


def test_logarithm_of_every_size():
    rng = random.Random(1)
    x = [math.ldexp(rng.uniform(0.5, 1), rng.randrange(-1021, 1024)) for _ in range(3000)]
    x += [1 + s * 2.0**-i for i in range(1, 53) for s in (1, -1)] + [1.0, 2.0, 0.5, math.sqrt(0.5), math.sqrt(2)]
    for a, b in zip(x, normal.log(torch.tensor(x, dtype=F64)).tolist(), strict=True):
        exact = mpmath.log(mpmath.mpf(a))
        assert abs(b - exact) <= 1.25 * math.ulp(float(exact))


def test_logarithm_of_one_plus():
    """To relative accuracy, however small; over all that `tail` asks for."""
    rng = random.Random(4)
    x = [rng.uniform(-0.6, 1.2) for _ in range(1000)] + [s * 10 ** rng.uniform(-300, 0) / 2 for s in (1, -1) for _ in range(200)]
    for a, b in zip(x, normal.log1p(torch.tensor(x, dtype=F64)).tolist(), strict=True):
        exact = mpmath.log1p(mpmath.mpf(a))
        assert abs(b - exact) <= 2 * math.ulp(float(exact))


def test_square_root_is_correctly_rounded():
    x = torch.rand(5000, dtype=F64, generator=torch.Generator().manual_seed(1)) * 800
    assert normal.root(x).tolist() == [math.sqrt(v) for v in x.tolist()]
    assert normal.root(torch.tensor([[-1.0, 4.0]], dtype=F64)).tolist() == [[0.0, 2.0]]


def test_tail_quantile():
    """From where it takes over, through both seams (r = 5, 27), to a million: at most 5 ulps."""
    rng = random.Random(2)
    depths = [2.5903, 2.6, 3, 10, 24.99, 25, 25.01, 100, 728.99, 729, 729.01, 800, 1e4, 1e5, 1e6]
    depths += [rng.uniform(2.6, 45) for _ in range(300)]
    found = normal.tail_quantile(torch.tensor(depths, dtype=F64)).tolist()
    for depth, x in zip(depths, found, strict=True):
        error = (mpmath.log(tail(x)) + depth) * tail(x) / mpmath.npdf(x)
        assert abs(error) <= 5 * math.ulp(x), depth
    alone = [float(normal.tail_quantile(torch.tensor([depth], dtype=F64))) for depth in depths[:15]]
    assert alone == found[:15], "elements do not see each other"


def test_central_quantile():
    """To relative accuracy, however small; and the same from both sides of the seam at 0.425."""
    rng = random.Random(3)
    middle, small = [rng.uniform(-0.425, 0.425) for _ in range(300)], [10 ** rng.uniform(-290, -1) for _ in range(100)]
    for q in [*middle, *small, 0.425, -0.425]:
        x = float(normal.quantile(torch.tensor([q], dtype=F64), torch.tensor([3.0], dtype=F64)))
        exact = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(q)) if abs(q) > 1e-8 else mpmath.mpf(q) * mpmath.sqrt(2 * mpmath.pi)
        assert abs(x - exact) <= 5 * math.ulp(x), q
    inside = float(normal.quantile(torch.tensor([0.425], dtype=F64), torch.tensor([-math.log(0.075)], dtype=F64)))
    outside = float(normal.quantile(torch.tensor([0.4250000000000001], dtype=F64), torch.tensor([-math.log(0.075)], dtype=F64)))
    assert abs(inside - outside) <= 1e-15 * inside


@pytest.mark.parametrize("name", TWO_SIDED)
def test_halves_of_a_cut(name):
    low, high, _ = TWO_SIDED[name]
    cut, d = cut_normal(low, high), torch.tensor(distances(64)[::3], dtype=F64)
    least = max(abs(x) for x in (low, high) if math.isfinite(x)) if low * high < 0 else 0.0
    for half, shares in ((cut.upper_half, d / 2), (cut.lower_half, 1 - d / 2)):
        for x, share, distance in zip(half(d).tolist(), shares.tolist(), d.tolist(), strict=True):
            exact_share = mpmath.mpf(distance) / 2 if half == cut.upper_half else 1 - mpmath.mpf(distance) / 2
            assert low <= x <= high and share >= 0
            assert abs(quantile_error(x, low, high, exact_share)) <= 6 * math.ulp(max(abs(x), least)) + mpmath.mpf(2) ** -1074


def test_a_cut_out_of_reach_is_a_point():
    d = torch.tensor([2.0**-63, 0.3, 1.0], dtype=F64)
    for low, high in [(1e10, INF), (1e10, 2e10), (1e200, 1e300), (2e9, 2.0000000001e9)]:
        cut, below = cut_normal(low, high), cut_normal(-high, -low)
        assert cut.upper_half(d).tolist() == cut.lower_half(d).tolist() == [low] * 3
        assert below.upper_half(d).tolist() == below.lower_half(d).tolist() == [-low] * 3


def test_mirrored_cuts_are_mirror_images():
    d = torch.tensor(distances(32), dtype=F64)
    for low, high, _ in TWO_SIDED.values():
        cut, mirror = cut_normal(low, high), cut_normal(-high, -low)
        assert torch.equal(cut.upper_half(d), -mirror.lower_half(d)) and torch.equal(cut.lower_half(d), -mirror.upper_half(d))


def lookup(table: tables.Table, half: int, d: float) -> float:
    """The table's polynomial at y = offset + scale * d, in float64."""
    y = table.offset[half] + table.scale[half] * d
    cell = cell_number(y, table.top_bits, table.shape.real) % table.shape.cells
    r = (2 * math.frexp(y)[0] - 1) % 2.0**-table.top_bits
    *rest, p = table.coefficients[half, :, cell].tolist()
    for c in reversed(rest):
        p = p * r + c
    return p


@pytest.mark.parametrize("real", SHAPES)
@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_tables(name, real):
    high, limit = SYMMETRIC[name]
    table = tables.symmetric_table(cut_normal(-high, high), SHAPES[real])
    worst = 0.0
    for d in distances(WORD_BITS[table.shape.real])[::2]:
        x = lookup(table, 0, d) * (1 - mpmath.mpf(d))
        worst = max(worst, abs(quantile_error(x, -high, high, mpmath.mpf(d) / 2) / x))
    print(f"{name}, {real}: {table.shape.cells} cells, relative error 2^{float(mpmath.log(worst, 2)):.1f}")
    assert worst <= 2.0 ** (limit if real == "float32" else -49.5)


@pytest.mark.parametrize("real", SHAPES)
@pytest.mark.parametrize("name", TWO_SIDED)
def test_two_sided_tables(name, real):
    low, high, limit = TWO_SIDED[name]
    table = tables.two_sided_table(cut_normal(low, high).halves(0.0, 1.0), SHAPES[real])
    least = max(abs(x) for x in (low, high) if math.isfinite(x)) if low * high < 0 else 0.0
    worst = 0.0
    for d in distances(WORD_BITS[table.shape.real])[::3]:
        for half, share in ((1, mpmath.mpf(d) / 2), (0, 1 - mpmath.mpf(d) / 2)):
            x = lookup(table, half, d)
            worst = max(worst, abs(quantile_error(x, low, high, share) / max(abs(x), least)))
    print(f"{name}, {real}: {table.shape.cells} cells, error 2^{float(mpmath.log(worst, 2)):.1f}")
    assert worst <= 2.0 ** (limit if real == "float32" else -49.5)


def test_mean_and_std_move_two_sided_tables():
    table = tables.two_sided_table(cut_normal(-1.0, 2.0).halves(3.0, 0.5), [SMALL, LARGE])
    for d in (2.0**-31, 0.01, 0.5, 0.999):
        x = (lookup(table, 1, d) - 3.0) / 0.5
        assert abs(quantile_error(x, -1.0, 2.0, mpmath.mpf(d) / 2)) < 2.0**-25


def test_the_smaller_shape_serves_where_it_is_accurate():
    shapes = {high: tables.symmetric_table(cut_normal(-high, high), [SMALL, LARGE]).shape for high in (0.1, 1.0, 2.0, 4.0, INF)}
    assert shapes == {0.1: SMALL, 1.0: SMALL, 2.0: SMALL, 4.0: LARGE, INF: LARGE}


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "erf", "erfc", "erfinv", "pow", "cos", "matmul", "mm", "sum", "exp2"])
def test_tables_use_no_library_whose_last_bits_differ_between_machines(monkeypatch, name):
    """torch's vectorised functions and reductions are not the same bits on every processor: whatever calls one fails here."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"torch.{name} was called")

    methods = {"matmul": ["__matmul__"], "pow": ["__pow__", "__rpow__"]}.get(name, [])
    monkeypatch.setattr(torch, name, refuse)
    for method in [name, *methods]:
        if hasattr(torch.Tensor, method):
            monkeypatch.setattr(torch.Tensor, method, refuse)
    for function in ("erfcx", "ndtri", "log_ndtr", "erfinv", "erf"):
        monkeypatch.setattr(torch.special, function, refuse)
    tables.chebyshev.cache_clear()
    tables.symmetric_table(cut_normal(-3.3, 3.3), [SMALL, LARGE])
    tables.two_sided_table(cut_normal(28.0, 30.0).halves(0.1, 2.0), [DOUBLE])
    tables.two_sided_table(normal.tail(-1e5, 1.0, 0.0, INF), [DOUBLE])
    tables.two_sided_table(normal.tail(-1e5, 1.0, 0.0, 1e-6), [DOUBLE])


def visited(shape: tables.Shape, k: int, offset: float, scale: float) -> int:
    step = 2.0 ** (1 - WORD_BITS[shape.real])
    return cell_number(offset + scale, k, shape.real) - cell_number(offset + scale * step, k, shape.real) + 1


@settings(max_examples=examples(300))
@example(shape=LARGE, k=1, distance=2.0**-31.5)  # 32 octaves: 2^32 - 2^20 - 1 has more bits than float32
@given(
    shape=st.sampled_from([SMALL, LARGE, DOUBLE]),
    k=st.integers(1, 5),
    distance=st.one_of(st.just(0.0), st.floats(-80, 3).map(lambda e: 2.0**e)),
)
def test_mapping(shape, k, distance):
    """Never more cells than the table has; offset and scale exact in the real type; float32's y exact in float64."""
    k = 2 if shape is DOUBLE else k
    offset, scale = mapping(shape, k, distance)
    assert visited(shape, k, offset, scale) <= shape.cells
    for number in (offset, scale):
        assert torch.tensor(number, dtype=F64).to(shape.real).item() == number
    assert offset >= 0 and scale > 0 and (offset == 0 or offset * 2**k % 2.0 ** math.floor(math.log2(offset)) == 0)
    if shape.real is torch.float32:
        for d in (2.0**-31, 2.0**-31 * 0xFFFFFF, 2.0**-20 * 3, 0.3333333432674408, 1 - 2.0**-24, 1.0):
            with mpmath.workdps(60):
                assert mpmath.mpf(offset) + mpmath.mpf(scale) * mpmath.mpf(d) == offset + scale * d


@settings(max_examples=examples(200))
@given(y=st.floats(2.0**-60, 2.0**60), k=st.integers(0, 5), real=st.sampled_from([torch.float32, F64]))
def test_cells_are_exponents_and_top_bits(y, k, real):
    y = torch.tensor(y, dtype=real)
    integer = torch.int32 if real is torch.float32 else torch.int64
    assert cell_number(y.item(), k, real) == y.view(integer).item() >> MANTISSA[real] - k
    number = torch.tensor([cell_number(y.item(), k, real)])
    start = tables.float_of(number, k, real).item()
    assert start <= y.item() < tables.float_of(number + 1, k, real).item()
    assert BIAS[real] << k <= number.item() or start < 1
