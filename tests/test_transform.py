"""Words to values: bit for bit the contract in exact fractions; ulps from the true quantile; symmetry, bounds, narrow dtypes.

Every check takes a backend's `transform(recipe, words)`. tests/test_exhaustive.py goes over all 2^32 words.
"""

import functools
import math
import random
from fractions import Fraction

import mpmath
import pytest
import torch
from helpers.laws import INTEGERS, LAWS
from helpers.oracle import value
from helpers.quick import compiled_backends

from fastinit._backends.choose import choose
from fastinit._core import check, laws, recipes
from fastinit._core.recipes import SYMMETRIC, recipe
from fastinit._core.rounding import representable

pytestmark = pytest.mark.one_of_each

INF = math.inf
ROOT2 = math.sqrt(2)
NARROW = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
SWEEP = 1 << 22
MORE_LAWS = {
    **LAWS,
    "tiny uniform": laws.uniform(-1e-25, 3e-25),
    "wide uniform": laws.uniform(-3e38, 3e38),
    "tiny truncated": laws.truncated_normal(0.0, 1e-15, -1e-30, 1e-30),
    "6.3 sigmas": laws.truncated_normal(0.0, 1.0, -6.3, 6.3),
    "100 sigmas": laws.truncated_normal(0.0, 1.0, -100.0, 100.0),
    "narrow": laws.truncated_normal(0.0, 1.0, -1e-3, 1e-3),
    "below": laws.truncated_normal(0.3, 0.7, -INF, 0.1),
    "beyond 30": laws.truncated_normal(0.0, 2.0, 60.0, 62.0),
    "fmod with std a power of 2": laws.fmod_normal(0.0, 0.25, -0.5, 0.5),
    "fmod of a small std": laws.fmod_normal(3e-22, 1e-21, -7e-22, 1.3e-21),
}


def signed(words, bits: int) -> torch.Tensor:
    integer = torch.int32 if bits == 32 else torch.int64
    return torch.tensor([w - (w >> bits - 1 << bits) for w in words], dtype=torch.int64).to(integer)


def telling_words(bits: int, count: int) -> list[int]:
    """Ends, medians, every octave of the distance from an end and of the distance from the median; and random ones."""
    near = [1 << i for i in range(bits)] + [(1 << i) - 1 for i in range(bits)] + [(1 << i) + 2 for i in range(1, bits - 1)]
    mirrored = [(1 << bits) - 1 - w for w in near]
    from_ends = [(1 << bits - 1) ^ w for w in near + mirrored]
    rng = random.Random(bits)
    return near + mirrored + from_ends + [rng.getrandbits(bits) for _ in range(count)]


@functools.cache
def expected_values(name: str, dtype: torch.dtype) -> tuple[list[int], list[Fraction]]:
    bits, constants = 64 if dtype is torch.float64 else 32, recipe(MORE_LAWS[name], dtype)
    words = telling_words(bits, 100)[:: 1 if dtype is torch.float32 else 7]  # narrow dtypes: of the same float32 values
    return words, [value(constants, word) for word in words]


def sweep_words(backend) -> torch.Tensor:
    """2^22 of the 2^32 words, evenly, and all within 2^13 of the ends and the median; for slower backends fewer."""
    count = SWEEP if backend is choose(torch.device("cpu")) else SWEEP >> 8 if backend.NAME == "triton" else SWEEP >> 4
    even = torch.arange(count, dtype=torch.int64) * (2**32 // count) + 361
    reach = min(2**13, count >> 4)
    ends = torch.arange(-reach, reach)
    return torch.cat([even, ends, ends + 2**31]).to(torch.int32)


def variate(words: torch.Tensor) -> torch.Tensor:
    return (words | 1).double() * 2.0**-31


@pytest.mark.parametrize("name", MORE_LAWS)
@pytest.mark.parametrize("dtype", check.FLOAT_DTYPES, ids=str)
def test_values_are_those_of_the_contract(backend, name, dtype):
    try:
        constants = recipe(MORE_LAWS[name], dtype)
    except ValueError as error:
        pytest.skip(str(error))  # no value of the dtype lies between the bounds
    words, expected = expected_values(name, dtype)
    got = backend.transform(constants, signed(words, 64 if dtype is torch.float64 else 32)).double().tolist()
    for word, found, exact in zip(words, got, expected, strict=True):
        assert Fraction(found) == exact, hex(word)


def ulps(found: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Errors in units in the last place of the float32 nearest to the exact value."""
    _, exponent = torch.frexp(exact)
    return (found.double() - exact).abs() * torch.ldexp(torch.ones_like(exact), 24 - exponent.clamp(min=-125))


def cut_quantile(low: float, high: float):
    """Q(t) by SciPy, from the nearer end so that no tail cancels."""
    from scipy.special import log_ndtr, ndtr, ndtri, ndtri_exp

    def central(t):
        share = (1 + t.numpy()) / 2
        return torch.from_numpy(ndtri(ndtr(low) + share * (ndtr(high) - ndtr(low))))

    def right_tail(t):  # low > 0: log of the mass above = log(tail(high) + (1 - t)/2 (tail(low) - tail(high)))
        share, log_low, log_high = (1 - t.numpy()) / 2, log_ndtr(-low), log_ndtr(-high)
        ratio = math.exp(log_high - log_low)
        return torch.from_numpy(-ndtri_exp(log_low + torch.from_numpy(ratio + share * (1 - ratio)).log().numpy()))

    return right_tail if low > 0 else central


def uniform_on(a: float, b: float):
    return lambda t: a / 2 + b / 2 + t * (b / 2 - a / 2)


ACCURACY = {  # law, its quantile at t, worst ulps
    "uniform(-1, 1)": (laws.uniform(-1.0, 1.0), lambda t: t, 0.5),
    "uniform(0, 1)": (laws.uniform(0.0, 1.0), uniform_on(0.0, 1.0), 1.5),
    "uniform(-2, -1)": (laws.uniform(-2.0, -1.0), uniform_on(-2.0, -1.0), 1.5),
    "2 sigmas": (
        laws.truncated_normal(0.0, 1.0, -2.0, 2.0),
        lambda t: ROOT2 * torch.special.erfinv(t * math.erf(ROOT2)),
        3.0,
    ),
    "2 sigmas of 0.05": (
        laws.truncated_normal(0.0, 0.05, -0.1, 0.1),
        lambda t: 0.05 * ROOT2 * torch.special.erfinv(t * math.erf(ROOT2)),
        3.0,
    ),
    "normal": (laws.normal(0.0, 1.0), lambda t: ROOT2 * torch.special.erfinv(t), 3.0),
    "half-normal": (laws.truncated_normal(0.0, 1.0, 0.0, INF), lambda t: ROOT2 * torch.special.erfinv((1 + t) / 2), 3.0),
    "[8, 9] sigmas": (laws.truncated_normal(0.0, 1.0, 8.0, 9.0), cut_quantile(8.0, 9.0), 1.5),
    "[30, 31] sigmas": (laws.truncated_normal(0.0, 1.0, 30.0, 31.0), cut_quantile(30.0, 31.0), 1.5),
    "[1/2, 3] sigmas": (laws.truncated_normal(0.0, 1.0, 0.5, 3.0), cut_quantile(0.5, 3.0), 2.0),
}


@pytest.mark.parametrize("name", ACCURACY)
@compiled_backends
def test_ulps_from_the_quantile(backend, name):
    law, exact, limit = ACCURACY[name]
    words = sweep_words(backend)
    error = ulps(backend.transform(recipe(law, torch.float32), words), exact(variate(words)))
    worst, mean = float(error.max()), float(error.mean())
    print(f"{backend.NAME}, {name}: worst {worst:.3f} ulp, mean {mean:.3f}")
    assert worst <= limit and mean <= 0.6


@compiled_backends
def test_ulps_across_zero(backend):
    """Relative accuracy has no meaning where values cross 0 amid the interval: ulps of the larger bound, instead."""
    for a, b in [(-1.5, 2.5), (-2.0, 0.5)]:
        words = sweep_words(backend)
        found = backend.transform(recipe(laws.truncated_normal(0.0, 1.0, a, b), torch.float32), words).double()
        error = (found - cut_quantile(a, b)(variate(words))).abs().max() / 2.0**-22
        assert float(error) <= 1.5


@compiled_backends
def test_fmod_is_the_remainder_of_the_normal(backend):
    """Off by what the normal itself is off: ulps of z. Next to a multiple of the cut the remainder may wrap."""
    for cut in (0.01, 0.5, 0.87962566103423978, 2.0, 5.9):
        words = sweep_words(backend)[::4]
        found = backend.transform(recipe(laws.fmod_normal(0.0, 1.0, -cut, cut), torch.float32), words).double()
        z = ROOT2 * torch.special.erfinv(variate(words))
        cut32 = float(torch.tensor(cut))
        gap = (found - torch.fmod(z, cut32)).abs()
        gap = torch.minimum(gap, (gap - cut32).abs())
        _, exponent = torch.frexp(z)
        assert float((gap * torch.ldexp(torch.ones_like(z), 24 - exponent)).max()) <= 3.5
        assert bool((found * z >= 0).all()) and float(found.abs().max()) <= cut32


SYMMETRIC_LAWS = {
    "uniform": laws.uniform(-0.05, 0.05),
    "normal": laws.normal(0.0, 0.02),
    "2 sigmas": laws.truncated_normal(0.0, 1.0, -2.0, 2.0),
    "2.5 sigmas": laws.truncated_normal(0.0, 0.3, -0.75, 0.75),
    "half a sigma": laws.truncated_normal(0.0, 1.0, -0.5, 0.5),
    "fmod": laws.fmod_normal(0.0, 1.0, -0.7, 0.7),
    "tiny": laws.truncated_normal(0.0, 1e-25, -2e-25, 2e-25),
}


@pytest.mark.parametrize("law", SYMMETRIC_LAWS.values(), ids=SYMMETRIC_LAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@compiled_backends
def test_complementing_a_word_negates_its_value(backend, law, dtype):
    words = sweep_words(backend)[::16]
    if dtype is torch.float64:
        words = words[::16].long() * 0x9E3779B97F4A7C15 % 2**62 * 2
    integer, constants = INTEGERS[dtype.itemsize], recipe(law, dtype)
    values, mirrored = backend.transform(constants, words), backend.transform(constants, ~words)
    assert torch.equal((-values).view(integer), mirrored.view(integer))
    assert torch.equal(backend.transform(constants, words ^ 1), values), "the lowest bit is not used"


@pytest.mark.parametrize("law", SYMMETRIC_LAWS.values(), ids=SYMMETRIC_LAWS)
@compiled_backends
def test_values_grow_with_the_variate(backend, law):
    """Up to rounding: a monotone map keeps quantiles, stratification and antithetic pairs."""
    if recipe(law, torch.float32).kind not in (recipes.UNIFORM, SYMMETRIC):
        pytest.skip("the remainder wraps, and the two-sided kind rounds to ulps of the bounds near 0")
    words = sweep_words(backend)
    values = backend.transform(recipe(law, torch.float32), words[words.argsort()]).double()
    fall = values[:-1] - values[1:]
    assert float((fall / values[1:].abs().clamp(min=1e-40)).max()) <= 4 * 2.0**-24


BOUNDED = {  # every kind of cut whose outermost word's quantile is the bound
    "2 sigmas": (0.0, 1.0, -2.0, 2.0),
    "2 sigmas, 0.1": (0.0, 0.1, -0.2, 0.2),
    "off centre": (0.7, 0.3, 0.1, 1.3),
    "narrow": (0.0, 1.0, -1e-3, 1e-3),
    "asymmetric": (0.0, 1.0, -1.5, 2.5),
    "one side of 0": (0.0, 1.0, 0.25, 0.75),
    "far": (0.0, 1.0, 8.0, 9.0),
}


@pytest.mark.parametrize("dtype", check.FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("name", [*BOUNDED, "uniform(-1, 1)", "uniform(-0.3, 0.7)"])
def test_least_and_greatest_are_the_representable_bounds(backend, name, dtype):
    """Reached, by the outermost words, and never passed."""
    law = laws.truncated_normal(*BOUNDED[name]) if name in BOUNDED else None
    law = law or laws.uniform(*eval(name.removeprefix("uniform")))
    a, b = law.parameters[-2:]
    try:
        low, high = representable(a, b, dtype)
    except ValueError:
        pytest.skip(f"no {dtype} value lies in [{a}, {b}]")
    assert a <= low <= high <= b
    bits = 64 if dtype is torch.float64 else 32
    ends = backend.transform(recipe(law, dtype), signed([1 << bits - 1, (1 << bits - 1) - 1], bits))
    assert ends.double().tolist() == [low, high]
    if bits == 32:
        values = backend.transform(recipe(law, dtype), sweep_words(backend)[::16]).double()
        assert low <= float(values.min()) and float(values.max()) <= high


def test_the_lower_bound_of_uniform_from_zero_is_half_a_word(backend):
    ends = backend.transform(recipe(laws.uniform(0.0, 1.0), torch.float32), signed([1 << 31, (1 << 31) - 1], 32))
    assert ends.tolist() == [2.0**-32, 1.0]


def rounded_by_search(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float32 values to the dtype's nearest, ties to an even pattern, by search in the list of all its finite values >= 0."""
    integer = INTEGERS[dtype.itemsize]
    patterns = torch.arange(2 ** (8 * dtype.itemsize - 1)).to(integer)
    grid = patterns.view(dtype).double()
    grid = grid[torch.isfinite(grid)]
    middles = (grid[1:] + grid[:-1]) / 2
    size = x.double().abs()
    index = torch.searchsorted(middles, size, right=False)
    tie = (index < len(middles)) & (middles[index.clamp(max=len(middles) - 1)] == size)
    return grid[index + (tie & (index % 2 == 1))].copysign(x.double())


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize(
    "law",
    [*LAWS.values(), laws.truncated_normal(0.0, 2e-3, -5.01e-3, 5.01e-3), laws.uniform(-0.0101, 0.0101)],
    ids=[*LAWS, "small", "small uniform"],
)
def test_narrow_values_are_the_float32_values_rounded(backend, law, dtype):
    narrow, wide = recipe(law, dtype), recipe(law, torch.float32)
    words = sweep_words(backend)[::16]
    expected = rounded_by_search(backend.transform(wide, words).clamp(narrow.low, narrow.high), dtype)
    assert torch.equal(backend.transform(narrow, words).double(), expected)


DOUBLE_LAWS = {  # low, high, and the least value whose ulps count: where values cross 0 amid the interval, 1
    "2 sigmas": (-2.0, 2.0, 0.0),
    "normal": (-INF, INF, 0.0),
    "half-normal": (0.0, INF, 0.0),
    "[8, 9] sigmas": (8.0, 9.0, 0.0),
    "[30, 31] sigmas": (30.0, 31.0, 0.0),
    "asymmetric": (-1.5, 2.5, 1.0),
}


def double_ulps(found: float, low: float, high: float, least: float, word: int) -> float:
    """From the mass above `found`: a quantile's error is its mass's error over the density."""
    t = (word - (word >> 63 << 64) | 1) * mpmath.mpf(2) ** -63
    above = [mpmath.erfc(x / mpmath.sqrt(2)) / 2 for x in (mpmath.mpf(low), mpmath.mpf(high), mpmath.mpf(found))]
    error = (above[2] - above[1] - (1 - t) / 2 * (above[0] - above[1])) / mpmath.npdf(found)
    return float(abs(error)) / math.ulp(max(abs(found), least))


@pytest.mark.parametrize("name", DOUBLE_LAWS)
def test_float64_ulps(backend, name):
    low, high, least = DOUBLE_LAWS[name]
    constants = recipe(laws.truncated_normal(0.0, 1.0, low, high), torch.float64)
    words = telling_words(64, 100)[::3]
    found = backend.transform(constants, signed(words, 64)).tolist()
    with mpmath.workdps(50):
        worst = max(double_ulps(x, low, high, least, word) for x, word in zip(found, words, strict=True))
    print(f"{backend.NAME}, {name} in float64: worst {worst:.2f} ulp")
    assert worst <= 16.0


def test_kinds_are_as_meant():
    """Which arithmetic a law gets; the symmetric kind, exactly odd, wherever it keeps its bits."""
    assert recipe(LAWS["2 sigmas"], torch.float32).kind == SYMMETRIC
    assert recipe(laws.truncated_normal(0.1, 0.05, 0.0, 0.2), torch.float32).kind == SYMMETRIC
    assert recipe(MORE_LAWS["tiny truncated"], torch.float32).kind == recipes.TWO_SIDED
    assert recipe(MORE_LAWS["tiny uniform"], torch.float32).kind == recipes.TWO_SIDED
    assert recipe(MORE_LAWS["tiny uniform"], torch.float64).kind == recipes.UNIFORM
