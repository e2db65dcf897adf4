"""Distributions to constants: what is refused and how, representable bounds, bounds in sigmas, bounds that are reached."""

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from helpers.oracle import nearest, polynomial, unclamped

import fastinit
from fastinit._core import laws, recipes
from fastinit._core import normal as normals
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.laws import fmod_normal, normal, truncated_normal, uniform
from fastinit._core.normal import cut_normal
from fastinit._core.recipes import FMOD, SYMMETRIC, TWO_SIDED, UNIFORM, cached_recipe, in_sigmas, recipe
from fastinit._core.rounding import rounded

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    "make, arguments, error, named",
    [
        (uniform, (2.0, -1.0), ValueError, ["a=2.0", "b=-1.0", "a <= b"]),
        (uniform, (-INF, 0.0), ValueError, ["a must be finite", "-inf"]),
        (uniform, (0.0, NAN), ValueError, ["b must not be NaN", "nan"]),
        (uniform, ("0", 1.0), TypeError, ["a must be a number", "'0'", "str"]),
        (uniform, (0.0, b"1"), TypeError, ["b must be a number", "b'1'", "bytes"]),
        (uniform, (0.0, 10**400), ValueError, ["b must lie in the range of a float"]),
        (uniform, (torch.zeros(2), 1.0), TypeError, ["a must be a number", "Tensor"]),
        (normal, (INF, 1.0), ValueError, ["mean must be finite", "inf"]),
        (normal, (0.0, -1), ValueError, ["std must not be negative", "-1.0"]),
        (normal, (0.0, INF), ValueError, ["std must be finite", "inf"]),
        (normal, (0.0, 1j), TypeError, ["std must be a number", "1j"]),
        (truncated_normal, (0.0, 1.0, 2.0, 1.0), ValueError, ["a=2.0", "b=1.0", "a <= b", "absolute values"]),
        (truncated_normal, (0.0, 1.0, INF, -INF), ValueError, ["a=inf", "b=-inf"]),
        (truncated_normal, (0.0, 1.0, NAN, 2.0), ValueError, ["a must not be NaN"]),
        (truncated_normal, (0.0, 1.0, None, 2.0), TypeError, ["a must be a number", "None"]),
        (fmod_normal, (0.0, 1.0, -1.0, 2.0), ValueError, ["symmetric", "a=-1.0", "b=2.0", "method='exact'"]),
        (fmod_normal, (0.5, 1.0, -1.0, 1.0), ValueError, ["symmetric", "mean=0.5"]),
        (fmod_normal, (0.0, 1.0, -INF, 1.0), ValueError, ["symmetric", "a=-inf"]),
        (fmod_normal, (0.0, 1.0, -1e-5, 1e-5), ValueError, ["2^-10 sigmas", "1e-05", "method='exact'"]),
    ],
)
def test_bad_input_is_refused_by_name_value_and_mend(make, arguments, error, named):
    with pytest.raises(error) as caught:
        make(*arguments)
    message = str(caught.value)
    assert "Received" in message
    for text in named:
        assert text in message


def test_integers_are_taken_as_floats():
    assert uniform(0, 1) == uniform(0.0, 1.0) and normal(0, 2).parameters == (0.0, 2.0)
    assert all(type(x) is float for x in truncated_normal(0, 1, -2, 2).parameters)


@pytest.mark.parametrize(
    "law, dtype, named",
    [
        (uniform(-3e38, 1e39), torch.float32, ["U(-3e+38, 1e+39)", "torch.float32"]),
        (uniform(-1.7e308, 1.7e308), torch.bfloat16, ["torch.bfloat16"]),
        (normal(0.0, 1e38), torch.float16, ["std=1e+38", "torch.float16", "3.40"]),
        (normal(3.4e38, 1e37), torch.float32, ["mean=3.4e+38"]),
        (truncated_normal(0.0, 1e307, -1.0, 1.0), torch.float64, ["std=1e+307", "torch.float64"]),
        (truncated_normal(-1.6e308, 4e306, 1e308, INF), torch.float64, ["mean=-1.6e+308", "distance of a cut"]),
        (uniform(1.01, 1.02), torch.float8_e4m3fn, ["no torch.float8_e4m3fn value lies in [1.01, 1.02]", "widen"]),
        (truncated_normal(0.0, 1.0, 500.0, INF), torch.float8_e4m3fn, ["no torch.float8_e4m3fn value", "wider dtype"]),
        (uniform(1e-9, 2e-9), torch.float16, ["no torch.float16 value"]),
        (uniform(1e-50, 2e-50), torch.float32, ["no torch.float32 value"]),
    ],
)
def test_laws_that_a_dtype_cannot_hold(law, dtype, named):
    with pytest.raises(ValueError) as caught:
        recipe(law, dtype)
    for text in named:
        assert text in str(caught.value)


def test_wide_laws_of_narrow_dtypes_are_cut_to_the_finite_values():
    for dtype in FLOAT_DTYPES:
        constants = recipe(normal(0.0, 1e30), dtype)
        assert (constants.low, constants.high) == (-torch.finfo(dtype).max, torch.finfo(dtype).max)


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (0.3, 0.05), (-7.0, 0.02), (0.1, 1e-3), (1e5, 3.0)])
@pytest.mark.parametrize("cut", [0.5, 2.0, 2.5, 3.0])
def test_bounds_made_of_mean_and_std_are_whole_sigmas_again(mean, std, cut):
    assert in_sigmas(mean + cut * std, mean, std) == cut or abs(mean) > 1e3 * std
    constants = recipe(truncated_normal(mean, std, mean - cut * std, mean + cut * std), torch.float32)
    assert constants.kind == SYMMETRIC or abs(mean) > 1e3 * std


def test_sigmas_keep_other_values():
    for x in (2.0000001, 1 / 3, 0.87962566103423978, math.pi, 1e-30, -5.000000001):
        assert in_sigmas(x, 0.0, 1.0) == x
    assert in_sigmas(INF, 0.0, 1e-300) == INF and in_sigmas(-1.0, 0.0, 1e-310) == -INF


CUTS = [(-2, 2), (-0.5, 0.5), (-1e-3, 1e-3), (-1.5, 2.5), (0.25, 0.75), (8, 9), (-31, -30), (1, 1.001), (-3, 3), (-6.0, 1.0)]
PLACES = [(0.0, 1.0), (0.0, 0.02), (0.7, 0.3), (-13.7, 1e-2), (0.0, 3e-21), (1e6, 17.0), (0.0, 1e-41), (0.0, 1e30)]


@pytest.mark.parametrize("mean, std", PLACES)
@pytest.mark.parametrize("low, high", CUTS)
def test_bounds_are_reached_where_the_outermost_word_rounds_to_them(mean, std, low, high):
    """Elsewhere the outermost word's value is its quantile. It is passed by the few ulps of the constant at most."""
    constants = recipe(truncated_normal(mean, std, mean + low * std, mean + high * std), torch.float32)
    cut, d = cut_normal(low, high), torch.tensor([2.0**-31], dtype=torch.float64)
    ends = [(2**31 - 1, constants.high, cut.upper_half(d), 1), (1 - 2**31, constants.low, cut.lower_half(d), -1)]
    for s, bound, quantile, outward in ends:
        found, exact = float(unclamped(constants, s, 32)), mean + std * quantile.item()
        if outward * rounded(exact, torch.float32) >= outward * bound:
            assert outward * found >= outward * bound
        assert abs(found - exact) <= 5 * 2.0**-24 * max(abs(exact), abs(mean)) + 2.0**-148


@pytest.mark.parametrize("name, half", [("symmetric", 0), ("two-sided", 0), ("two-sided", 1)])
def test_value_at_end_is_what_a_backend_computes(name, half):
    law = truncated_normal(0.0, 1.0, -2.0, 2.0) if name == "symmetric" else truncated_normal(0.3, 0.7, 0.1, 2.9)
    constants = recipe(law, torch.float32)
    cell, r = recipes.cell_of_end(constants, half)
    found = recipes.value_at_end(constants, constants.table[half, :, cell].tolist(), r)
    s = 2**31 - 1 if half == 1 or name == "symmetric" else 1 - 2**31
    assert Fraction(found) == unclamped(constants, s, 32)
    table = constants.table.clone()
    table[half, 0, cell] += 1.0  # the cell is the one that the word looks up
    changed = dataclasses.replace(constants, table=table)
    assert polynomial(changed, s, 32) != polynomial(constants, s, 32)


@pytest.mark.parametrize(
    "a, b", [(-1.0, 1.0), (-0.3, 0.7), (0.0, 1.0), (1.0, 1.5), (-3.0, -1.0), (-0.1, 0.0), (0.1, 0.1000001), (-1e-3, 5.0)]
)
@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=str)
def test_uniform_reaches_its_bounds(a, b, real):
    constants = recipe(uniform(a, b), real)
    bits = 32 if real is torch.float32 else 64
    least, greatest = (unclamped(constants, s, bits) for s in (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1))
    near = Fraction(b - a) * Fraction(2) ** -bits * Fraction(1.001) if 0.0 in (a, b) else 0  # half a step from the bound 0
    assert constants.kind == UNIFORM
    assert greatest >= Fraction(constants.high) - near and least <= Fraction(constants.low) + near
    largest = max(abs(a), abs(b)) * 2.0 ** (-22 if bits == 32 else -51)
    assert abs(greatest - Fraction(b)) <= largest + near and abs(least - Fraction(a)) <= largest + near


def test_a_uniform_on_one_side_of_zero_keeps_relative_accuracy_to_it():
    for a, b in [(0.0, 1.0), (-1.0, 0.0), (0.0, 3e-3)]:
        constants = recipe(uniform(a, b), torch.float32)
        smallest = Fraction(b - a) * Fraction(2) ** -32
        s = 1 - 2**31 if a == 0 else 2**31 - 1
        assert abs(unclamped(constants, s, 32)) == nearest(smallest, torch.float32)


def test_kinds():
    assert recipe(normal(0.1, 2.0), torch.float32).kind == SYMMETRIC
    assert recipe(truncated_normal(0.0, 1.0, -1.0, 2.0), torch.float32).kind == TWO_SIDED
    assert recipe(truncated_normal(0.0, 1.0, -INF, 2.0), torch.float32).kind == TWO_SIDED
    assert recipe(fmod_normal(0.0, 1.0, -1.0, 1.0), torch.float32).kind == FMOD
    assert recipe(fmod_normal(0.0, 1.0, -INF, INF), torch.float32).kind == SYMMETRIC, "nothing to wrap"


@pytest.mark.parametrize("std", [2.0**-63, 2.0**-65, 1e-30, 1e-37, 1e-40, 1e-44])
def test_tiny_stds_keep_what_float32_can_hold(std):
    """Coefficients times 2^-31 would be subnormal below 2^-95: the other kind serves."""
    for law in (normal(0.0, std), truncated_normal(0.0, std, -2 * std, 2 * std), uniform(-std, std), uniform(0.0, std)):
        constants = recipe(law, torch.float32)
        for s, share in ((2**30 + 1, 0.5), (2**31 - 2**28 + 1, 0.875), (-(2**30) - 1, -0.5)):
            t = share + s / abs(s) * 2.0**-31
            exact = quantile_of(law, t) * std
            found = float(unclamped(constants, s, 32))
            assert abs(found - exact) <= 4 * 2.0**-24 * abs(exact) + 3 * 2.0**-149, (law, t)


def quantile_of(law: laws.Law, t: float) -> float:
    """In units of std, of the laws of the test above."""
    if law.name == "uniform":
        return t if law.parameters[0] else (1 + t) / 2
    mass = math.erf(math.sqrt(2)) if law.name == "truncated_normal" else 1.0
    return math.sqrt(2) * float(torch.special.erfinv(torch.tensor(t * mass, dtype=torch.float64)))


def test_extreme_cuts_are_fast_and_finite():
    """A bound at or near 0, or far out of reach: constants are found in a few steps and values stay inside."""
    for a, b in [
        (0.0, 1e-45),
        (-1e-45, 0.0),
        (0.0, 1e-38),
        (1e9, 1e10),
        (5e11, INF),
        (-1e300, -1e200),
        (1e-300, 1.0),
        (0.5, 1e300),
    ]:
        for dtype in (torch.float32, torch.float64):
            try:
                constants = recipe(truncated_normal(0.0, 1.0, a, b), dtype)
            except ValueError as error:
                assert "lies in" in str(error)
                continue
            assert bool(torch.isfinite(constants.table).all())
            assert a <= constants.low <= constants.high <= b


def test_recipes_are_cached_by_distribution_and_dtype():
    first = recipe(truncated_normal(0.0, 1.0, -2.0, 2.0), torch.float32)
    assert recipe(truncated_normal(0, 1, -2, 2), torch.float32) is first
    assert recipe(truncated_normal(0.0, 1.0, -2.0, 2.0), torch.bfloat16) is not first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("cut", [(-INF, INF), (-2.0, 2.0), (-1.0, 2.0), (0.0, INF), (7.0, 9.0)], ids=str)
def test_a_new_deviation_of_a_known_cut_costs_no_quantile(cut, dtype, monkeypatch):
    """What depends on the cut alone is kept by the cut: masses, quantiles, and a symmetric cut's table."""

    def made(std):
        return cached_recipe.__wrapped__(truncated_normal(0.0, std, *(std * bound for bound in cut)), dtype)

    def refuse(*args):
        raise AssertionError("made anew")

    expected = made(0.25)
    made(0.5)
    for name in ("quantile", "center", "mills_ratio"):
        monkeypatch.setattr(normals, name, refuse)
    found = made(0.25)
    assert found is not expected and torch.equal(found.table, expected.table) and found.constants == expected.constants
    made(0.02)


@pytest.mark.parametrize("device", ["meta"])
def test_a_default_device_does_not_reach_the_constants(device):
    """Models are often built under torch.device("meta")."""
    cached_recipe.cache_clear()
    with torch.device(device):
        for law in (
            uniform(-0.3, 0.7),
            normal(0.1, 1.7),
            truncated_normal(0.2, 1.0, -1.7, 3.1),
            fmod_normal(0.0, 1.0, -0.7, 0.7),
        ):
            for dtype in FLOAT_DTYPES:
                table = recipe(law, dtype).table
                assert table is None or table.device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
def test_bounds_that_are_one_number_of_sigmas_from_the_mean(dtype):
    """There the normal is flat, unless they are very far from it: then it falls off as an exponential."""
    got = fastinit.trunc_normal_(torch.empty(500, dtype=dtype), 1e20, 1e18, -2.0, 3.0, key=5)
    assert torch.equal(got, fastinit.uniform_(torch.empty(500, dtype=dtype), -2.0, 3.0, key=5))
    far = fastinit.trunc_normal_(torch.empty(1 << 16, dtype=dtype), 1e20, 1e10, -2.0, 3.0, key=5)
    assert abs(far.double().mean().item() - (2 + 5 / math.expm1(5))) < 0.02
