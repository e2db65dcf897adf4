"""Recipes: the value contract, and the one place where a law's doubles become the constants that backends compute with.

**The value contract.** A weight is a pure function of (key, index in the whole tensor, law, dtype).

Words: element i (row-major index in the global tensor, 64 bits) of key k takes word i & 3 of
`philox4x32_10(counter=(b mod 2^32, b >> 32, stream, 0), key=(k mod 2^32, k >> 32))` with b = i >> 2 and stream 0.

Variate: s = int32(word) | 1 is odd, and t = s * 2^-31 is uniform on (-1, 1), never 0; word -> ~word negates it exactly.
float64 takes s = int64(word of stream 0 << 32 | word of stream 1) | 1 and t = s * 2^-63.

Values, with d = 2^31 - |s| the exact distance from the end, float() the conversion to the real type (float32, or float64
for float64 tensors), and every fused multiply-add written `fma`, every other operation rounded on its own:

    UNIFORM    fma(float(s), slope, anchor); where no value is negative (or positive), relative accuracy down to the
               bound: fma(float((s ^ flip) >> 1), slope, anchor), the shift logical
    SYMMETRIC  fma(float(s), p, anchor), p the table's polynomial at y = fma(float(d), scale, offset)
    TWO_SIDED  p, of the table's half that the sign of s names
    FMOD       z = float(s) * p; n = trunc(|z| * inverse_cut); r = fma(-n, cut, |z|), then r + cut if r < 0, then
               r - cut if r >= cut; fma(r with the sign of s, std, anchor)

then `low if v <= low else v`, `high if v >= high else v`, where [low, high] are the outermost values of the dtype inside
[a, b], a zero low being +0 and a zero high -0 (so that it is maximum and minimum of IEEE 754, one instruction each), and one
rounding to the dtype, to nearest even. So a bfloat16 weight is the float32 weight rounded, and nothing lies
outside the closed interval in any dtype.

Noise onto a tensor (`blend_`, `perturb_`): element i, of any dtype, becomes, in the real type,

    acc = keep * old, one rounding; with keep 1 old itself, with keep 0 +0, and nothing is read
    acc = fma(add[n], v_n, acc) for n in order, v_n the value of key n at index i as a float32 (float64) tensor would hold it

then one rounding to the dtype, to nearest even, with the dtype's own overflow: to infinity; in float8_e4m3fn, which
has none, to its greatest number. keep and add are numbers of the real type. Where old is NaN, all bits are written but the sign.

Changing a bit of this raises STREAM_VERSION.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from fastinit._core import tables
from fastinit._core.laws import RAW_WORDS, Law, of_parts
from fastinit._core.modes import SMALLEST, ieee_arithmetic
from fastinit._core.rounding import first, fma, representable, rounded, step
from fastinit._core.tables import WORD_BITS, Table
from fastinit._torch import without_dispatch_modes

STREAM_VERSION = 1

UNIFORM, SYMMETRIC, TWO_SIDED, FMOD, WORDS = range(5)  # as enum fastinit_kind in csrc/fastinit.h
# Half widths from which on a product with 2^(1 - bits) keeps all its bits.
_SMALLEST = {torch.float32: 2.0**-64, torch.float64: 2.0**-896}


class Constants(NamedTuple):
    """The numbers of a recipe, in the one order in which all backends have them: as struct fastinit_recipe of csrc/fastinit.h.

    A float is a real number of the recipe's arithmetic, an int a word, a tuple has an entry for each half of the table.
    """

    slope: float
    anchor: float
    std: float
    cut: float
    inverse_cut: float
    low: float
    high: float
    offset: tuple[float, float]  # lower and upper half; a table of one half has it first
    scale: tuple[float, float]
    flip: int


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: backends cache what they make of one
class Recipe:
    """Everything about a fill but its key and its place: what backends compute with. Floats are exact in `real`."""

    kind: int
    dtype: torch.dtype
    real: torch.dtype  # the arithmetic: float64 for float64, else float32
    slope: float = 0.0
    anchor: float = 0.0
    flip: int = 0  # 0: x = s. Else x = (s ^ flip) >> 1, the distance from one bound
    std: float = 1.0
    cut: float = math.inf
    inverse_cut: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    top_bits: int = 0  # k of the table
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    table: torch.Tensor | None = None  # real [halves, terms, cells]

    @functools.cached_property
    def constants(self) -> Constants:
        """What every backend reads, with zeros for a half that the table does not have."""
        (lower, upper, *_), (first_scale, second_scale, *_) = (*self.offset, 0.0, 0.0), (*self.scale, 0.0, 0.0)
        halves = (lower, upper), (first_scale, second_scale)
        ends = self.low, self.high
        return Constants(self.slope, self.anchor, self.std, self.cut, self.inverse_cut, *ends, *halves, self.flip)


def recipe(law: Law, dtype: torch.dtype) -> Recipe:
    """The recipe of a law in a dtype, cached. Float constants of any dtype but float64 are float32.

    The first call may come from inside torch.compile or a FakeTensorMode: the table is made of real tensors all the same.
    """
    if SMALLEST / 2:  # not is_flushing(): a call costs as much as the look-up
        return cached_recipe(law, dtype)
    with ieee_arithmetic():  # for the look-up too: where they are flushed, all subnormal parameters equal 0
        return cached_recipe(law, dtype)


@functools.lru_cache(maxsize=1024)
def cached_recipe(law: Law, dtype: torch.dtype) -> Recipe:
    with without_dispatch_modes(), torch.inference_mode():  # whose operations are dispatched a third faster
        made = _make_recipe(law, dtype)
        _ = made.constants  # made now: what may fail for want of memory comes before a key is drawn
        return made


def _make_recipe(law: Law, dtype: torch.dtype) -> Recipe:
    if law == RAW_WORDS:
        return words_recipe(dtype)
    if dtype.is_complex:  # of numbers, two to an element
        return cached_recipe(of_parts(law), dtype.to_real())
    real = real_of(dtype)
    law = Law(law.name, tuple(p + 0.0 for p in law.parameters))  # -0.0 and 0.0 are one law: they are equal to the cache
    if law.name == "constant":
        return _constant_recipe(law.parameters[0], -math.inf, math.inf, dtype, real)
    if law.name == "uniform":
        a, b = law.parameters
        return _uniform_recipe(a, b, dtype, real) if a < b else _constant_recipe(a, -math.inf, math.inf, dtype, real)
    if law.name == "half_open_uniform":
        a, b = law.parameters
        closed = cached_recipe(Law("uniform", law.parameters), dtype)
        return _opened(closed, b) if a < b else closed
    mean, std, *bounds = law.parameters
    a, b = bounds or (-math.inf, math.inf)
    if a == b:
        return _constant_recipe(a, -math.inf, math.inf, dtype, real)
    if std == 0:
        return _constant_recipe(mean, a, b, dtype, real)
    largest = torch.finfo(real).max
    if abs(mean) + 40 * std > largest or (std > 2.0**1000 and math.inf in (a - mean, mean - b)):
        raise ValueError(
            f"mean={mean} and std={std} leave the range of {real}, in which {dtype} is computed: "
            f"|mean| + 40 std must stay below {largest}, and so must the distance of a cut from the mean."
        )
    if law.name == "fmod_normal" and b - mean < math.inf:
        return _fmod_recipe(mean, std, a, b, dtype, real)
    return _truncated_recipe(mean, std, a, b, dtype, real)


def real_of(dtype: torch.dtype) -> torch.dtype:
    """The type that a float dtype is computed in."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def coefficient(name: str, value: float, real: torch.dtype) -> float:
    """A coefficient of a blend as a number of the real type; ValueError where it leaves its range."""
    if math.isinf(found := rounded(value, real)):
        raise ValueError(f"{name} leaves the range of {real}, in which the sum is made. Received: {value}.")
    return found


def words_recipe(dtype: torch.dtype) -> Recipe:
    """The raw words of stream 0 (32-bit integers), or stream 0 above stream 1 (64-bit integers)."""
    return Recipe(WORDS, dtype, torch.float64 if dtype.itemsize == 8 else torch.float32)


def _constant_recipe(value: float, a: float, b: float, dtype: torch.dtype, real: torch.dtype) -> Recipe:
    """One value, or what of [a, b] is nearest to it."""
    low, high = representable(a, b, dtype)
    anchor = rounded(min(max(value, a), b), real)
    if math.isinf(anchor):
        raise ValueError(f"{value} leaves the range of {real}, in which {dtype} is computed.")
    return Recipe(UNIFORM, dtype, real, anchor=anchor, low=low, high=high)


def _uniform_recipe(a: float, b: float, dtype: torch.dtype, real: torch.dtype) -> Recipe:
    low, high = representable(a, b, dtype)
    bits = WORD_BITS[real]
    half = b / 2 - a / 2
    if not rounded(half, real) < math.inf:
        raise ValueError(f"U({a}, {b}) leaves the range of {real}, in which {dtype} is computed.")
    if half < _SMALLEST[real]:  # a normal is flat on 2^-40 of a sigma
        return _truncated_recipe(a / 2 + b / 2, (half or math.ulp(0.0)) * 2.0**40, a, b, dtype, real)
    if a >= 0 or b <= 0:  # u = (2x + 1) 2^-bits counts from the bound nearer to 0
        near, far, sign = (a, high, 1.0) if a >= 0 else (b, low, -1.0)
        anchor = rounded(near + sign * half * 2.0 ** (1 - bits), real)
        flip = 1 << (bits - 1) if a >= 0 else (1 << (bits - 1)) - 1
        slope = _reaching(rounded(sign * half * 2.0 ** (2 - bits), real), 2.0 ** (bits - 1), anchor, far, real)
        return Recipe(UNIFORM, dtype, real, slope, anchor, flip, low=low, high=high)
    anchor = rounded(a / 2 + b / 2, real)
    slope = rounded(half * 2.0 ** (1 - bits), real)
    for at, bound in ((2.0 ** (bits - 1), high), (-(2.0 ** (bits - 1)), low)):
        slope = _reaching(slope, at, anchor, bound, real)
    return Recipe(UNIFORM, dtype, real, slope, anchor, low=low, high=high)


def _opened(recipe: Recipe, b: float) -> Recipe:
    """The recipe whose greatest value is the dtype's last below b. Where b is the only value in the interval, it stays."""
    below = step(b, -math.inf, recipe.dtype) if recipe.high == b else recipe.high
    return dataclasses.replace(recipe, high=below) if recipe.low <= below else recipe


def _reaching(slope: float, x: float, anchor: float, bound: float, real: torch.dtype) -> float:
    """The slope, made longer by a few ulps where rounding would keep fma(x, slope, anchor) from reaching the bound."""
    sign = math.copysign(1.0, x * slope)
    return first(slope, slope, real, lambda longer: sign * fma(x, longer, anchor, real) >= sign * bound)


def _truncated_recipe(mean: float, std: float, a: float, b: float, dtype: torch.dtype, real: torch.dtype) -> Recipe:
    low, high = representable(a, b, dtype)
    lower, upper = in_sigmas(a, mean, std), in_sigmas(b, mean, std)
    near = max(lower, -upper, 0.0)
    tolerance = _tolerance(near, std, a, b, real)
    if lower == upper or not _blur(near, mean, std, a, b) <= tolerance:
        if near * ((b - a) / std) * (b - a) <= 2 * tolerance:  # flat: a fall of the density by e moves values by e (b - a) / 8
            return _uniform_recipe(a, b, dtype, real)
        law = tables.tail(mean, std, a, b) if lower > 0 else tables.tail(-mean, std, -b, -a).negated()
    else:
        law = tables.cut_normal(lower, upper).halves(mean, std)
    # SYMMETRIC's coefficients have the factor 2^(1 - bits), TWO_SIDED's do not.
    if lower == -upper and std * min(upper, 1.0) > _SMALLEST[real]:
        table = _scaled_table(symmetric_table(upper, real), std, real)
        recipe = Recipe(SYMMETRIC, dtype, real, anchor=rounded(mean, real), low=low, high=high, **table)
    else:
        table = _scaled_table(tables.two_sided_table(law, _shapes(real)), 1.0, real)
        recipe = Recipe(TWO_SIDED, dtype, real, low=low, high=high, **table)
    return _closed(recipe, law)


def _tolerance(near: float, std: float, a: float, b: float, real: torch.dtype) -> float:
    """How far off values may be: 4 ulps, or about a millionth of the quartile range of a cut `near` sigmas from the mean."""
    least = 0.0 if a <= 0 <= b else min(abs(a), abs(b))
    ulp = math.ulp(least) if real is torch.float64 else max(math.ulp(least) * 2.0**29, 2.0**-149)
    return max(4 * ulp, 1e-6 * min(b / 2 - a / 2, std / near if near else math.inf))


def _blur(near: float, mean: float, std: float, a: float, b: float) -> float:
    """How far off values may be where places are counted in sigmas: by 6 ulps of those, 2 where quantiles are asymptotic, and by
    what in_sigmas moves a bound, unless that lies twice as far out as the other and is not felt."""
    moved = [abs(in_sigmas(x, mean, std) - (x - mean) / std) for x in (a, b) if abs(x - mean) < 2 * near * std]
    in_ulps = near * (12 if near < 38 else 4) * 2.0**-53
    return min(b - a, std * (in_ulps + max(moved, default=0.0)))  # never NaN: b - a comes first


def _fmod_recipe(mean: float, std: float, a: float, b: float, dtype: torch.dtype, real: torch.dtype) -> Recipe:
    low, high = representable(a, b, dtype)
    cut = rounded(in_sigmas(b / 2 - a / 2, 0.0, std), real)
    table = _fmod_table(real)
    anchor, scale, inverse = rounded(mean, real), rounded(std, real), rounded(1 / cut, real)
    return Recipe(FMOD, dtype, real, anchor=anchor, std=scale, cut=cut, inverse_cut=inverse, low=low, high=high, **table)


def in_sigmas(bound: float, mean: float, std: float) -> float:
    """(bound - mean) / std, without the rounding of bounds such as mean + 2 * std: 2 sigmas are exactly 2, and share a table."""
    x = (bound - mean) / std
    short, slack = float(f"{x:.12g}"), 8 * math.ulp(x) + 2 * math.ulp(max(abs(bound), abs(mean))) / std
    return short if abs(x - short) <= slack else x


@functools.lru_cache(maxsize=512)
def symmetric_table(upper: float, real: torch.dtype) -> Table:
    return tables.symmetric_table(tables.cut_normal(-upper, upper), _shapes(real))


@functools.lru_cache(maxsize=2)
def _fmod_table(real: torch.dtype) -> dict[str, Any]:
    return _scaled_table(symmetric_table(math.inf, real), 1.0, real)


def _shapes(real: torch.dtype) -> list[tables.Shape]:
    return [tables.DOUBLE] if real is torch.float64 else [tables.SMALL, tables.LARGE]


def _scaled_table(table: Table, std: float, real: torch.dtype) -> dict[str, Any]:
    """The fields of a recipe that come from its table, rounded. A table of one half is multiplied by std, and made for float(s)
    instead of t."""
    unit = 2.0 ** (1 - WORD_BITS[real])
    scaled = table.coefficients * (std * unit) if len(table.offset) == 1 else table.coefficients
    return dict(
        top_bits=table.top_bits,
        offset=table.offset,
        scale=tuple(scale * unit for scale in table.scale),
        table=scaled.to(real),
    )


def _closed(recipe: Recipe, law: tables.Halves) -> Recipe:
    """The recipe with bounds that are reached: the first cell's constant is raised by the ulps that rounding took away.

    This is done only where the quantile of the outermost word itself rounds to the bound, which it does not for wide cuts. In
    float64 that quantile is known to 4 ulps.
    """
    assert recipe.table is not None
    last = tables.Point(2.0 ** -WORD_BITS[recipe.real] * 2)
    ends = [(recipe.high, float(law.upper(last)))]
    if recipe.kind == TWO_SIDED:
        ends.insert(0, (recipe.low, float(law.lower(last))))
    for half, (bound, exact) in enumerate(ends):
        outward = 1.0 if half == len(ends) - 1 else -1.0
        unsure = 4 * math.ulp(bound) if recipe.real is torch.float64 else 0.0
        if outward * rounded(exact, recipe.real) < outward * bound - unsure:
            continue
        cell, r = cell_of_end(recipe, half)
        constant, *rest = recipe.table[half, :, cell].tolist()
        slope = _horner(rest, r, recipe.real)

        def reaches(raised: float) -> bool:
            return outward * value_at_end(recipe, [raised, slope], r) >= outward * bound  # noqa: B023

        if (raised := first(constant, outward, recipe.real, reaches)) != constant:
            recipe.table[half, 0, cell] = raised
    return recipe


def cell_of_end(recipe: Recipe, half: int) -> tuple[int, float]:
    """The cell and the local variable of d = 1."""
    assert recipe.table is not None
    return _cell_of_end(recipe.offset[half], recipe.scale[half], recipe.top_bits, recipe.table.shape[2], recipe.real)


@functools.lru_cache(maxsize=1024)
def _cell_of_end(offset: float, scale: float, top_bits: int, cells: int, real: torch.dtype) -> tuple[int, float]:
    y = fma(1.0, scale, offset, real)
    return tables.cell_number(y, top_bits, real) % cells, (2 * math.frexp(y)[0] - 1) % 2.0**-top_bits


def value_at_end(recipe: Recipe, coefficients: list[float], r: float) -> float:
    """The value of d = 1 before the clamp, exactly as a backend computes it."""
    p = _horner(coefficients, r, recipe.real)
    if recipe.kind == SYMMETRIC:
        p = fma(2.0 ** (WORD_BITS[recipe.real] - 1), p, recipe.anchor, recipe.real)
    return p


def _horner(coefficients: list[float], r: float, real: torch.dtype) -> float:
    """The polynomial's value, each step rounded once."""
    *rest, p = coefficients
    for c in reversed(rest):
        p = fma(p, r, c, real)
    return p
