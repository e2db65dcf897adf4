"""The value contract in exact integers and fractions, one element at a time: shares no arithmetic with any backend."""

import math
import pathlib
from fractions import Fraction

import torch

from fastinit._core.recipes import FMOD, SYMMETRIC, UNIFORM, Recipe

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1
DATA = pathlib.Path(__file__).parents[1] / "data"
# Of a binary format: bits of precision, and the exponent of its smallest positive value.
FORMATS = {
    torch.float64: (53, -1074),
    torch.float32: (24, -149),
    torch.float16: (11, -24),
    torch.bfloat16: (8, -133),
    torch.float8_e4m3fn: (4, -9),
    torch.float8_e5m2: (3, -16),
}


def philox4x32(counter: list[int], key: list[int], rounds: int = 10) -> list[int]:
    """Salmon et al. 2011, section 3: the S-box of multiplications, and Weyl sequences for keys."""
    (x0, x1, x2, x3), (k0, k1) = counter, key
    for _ in range(rounds):
        product0, product2 = 0xD2511F53 * x0, 0xCD9E8D57 * x2
        x0, x1, x2, x3 = (product2 >> 32) ^ x1 ^ k0, product2 & MASK32, (product0 >> 32) ^ x3 ^ k1, product0 & MASK32
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return [x0, x1, x2, x3]


def word32(key: int, index: int, stream: int = 0) -> int:
    block = index >> 2
    return philox4x32([block & MASK32, block >> 32, stream, 0], [key & MASK32, key >> 32])[index & 3]


def word64(key: int, index: int) -> int:
    return word32(key, index, 0) << 32 | word32(key, index, 1)


def nearest(x: Fraction, dtype: torch.dtype) -> Fraction:
    """The format's value nearest to x, ties to even; of formats without a largest value."""
    if x == 0:
        return Fraction(0)
    precision, smallest = FORMATS[dtype]
    exponent = x.numerator.bit_length() - x.denominator.bit_length()  # of x, or one more
    exponent -= abs(x) < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - precision + 1, smallest)
    return round(x / unit) * unit


def value(recipe: Recipe, word: int) -> Fraction:
    """The contract's value of a word. The sign of a zero is not told."""
    bits = 64 if recipe.real is torch.float64 else 32
    s = (word - (word >> (bits - 1) << bits)) | 1
    v = unclamped(recipe, s, bits)
    if math.isfinite(recipe.low) and v <= Fraction(recipe.low):
        v = Fraction(recipe.low)
    if math.isfinite(recipe.high) and v >= Fraction(recipe.high):
        v = Fraction(recipe.high)
    return nearest(v, recipe.dtype)


def unclamped(recipe: Recipe, s: int, bits: int) -> Fraction:
    real = recipe.real
    if recipe.kind == UNIFORM:
        x = ((s & ((1 << bits) - 1)) ^ recipe.flip) >> 1 if recipe.flip else s
        return fma(nearest(Fraction(x), real), recipe.slope, recipe.anchor, real)
    p = polynomial(recipe, s, bits)
    if recipe.kind == SYMMETRIC:
        return fma(nearest(Fraction(s), real), p, recipe.anchor, real)
    if recipe.kind == FMOD:
        z = nearest(nearest(Fraction(s), real) * p, real)
        return fma((-1 if z < 0 else 1) * remainder(abs(z), recipe), recipe.std, recipe.anchor, real)
    return p


def polynomial(recipe: Recipe, s: int, bits: int) -> Fraction:
    """Of the table's half that the sign of s names, if there are two; by Horner's rule in the cell of y."""
    halves, _, cells = recipe.table.shape
    half, real = int(s > 0 and halves == 2), recipe.real
    y = fma(nearest(Fraction(2 ** (bits - 1) - abs(s)), real), recipe.scale[half], recipe.offset[half], real)
    exponent = math.frexp(float(y))[1] - 1
    mantissa = y / Fraction(2) ** exponent - 1
    top = math.floor(mantissa * 2**recipe.top_bits)
    cell = ((exponent + (1023 if bits == 64 else 127)) * 2**recipe.top_bits + top) % cells
    r = mantissa - Fraction(top, 2**recipe.top_bits)
    *rest, p = (Fraction(c) for c in recipe.table[half, :, cell].tolist())
    for c in reversed(rest):
        p = fma(p, r, c, real)
    return p


def remainder(z: Fraction, recipe: Recipe) -> Fraction:
    cut, real = Fraction(recipe.cut), recipe.real
    r = fma(-math.floor(nearest(z * Fraction(recipe.inverse_cut), real)), cut, z, real)
    if r < 0:
        r = nearest(r + cut, real)
    return nearest(r - cut, real) if r >= cut else r


def fma(a, b, c, dtype: torch.dtype) -> Fraction:
    return nearest(Fraction(a) * Fraction(b) + Fraction(c), dtype)


# --- sums onto what is there: numbers are Python's, which have zeros with signs, infinities and NaN -----------------------------


def cast(x: float | Fraction, dtype: torch.dtype) -> float:
    """A number rounded once to a dtype, with its own overflow; a zero keeps the sign."""
    if isinstance(x, float) and not math.isfinite(x):
        return math.copysign(448.0, x) if dtype is torch.float8_e4m3fn and not math.isnan(x) else x
    found, sign = nearest(Fraction(x), dtype), -1.0 if x < 0 or str(x) == "-0.0" else 1.0
    if abs(found) > Fraction(torch.finfo(dtype).max):
        return sign * (448.0 if dtype is torch.float8_e4m3fn else math.inf)
    return math.copysign(float(found), sign)


def blended(recipe: Recipe, keys, add, keep: float, old: float, index: int, dtype: torch.dtype) -> float:
    """What element `index` becomes that is `old`."""
    acc = (
        (cast(Fraction(keep) * Fraction(old), recipe.real) if math.isfinite(old) and keep * old else keep * old) if keep else 0.0
    )
    for key, factor in zip(keys, add, strict=True):
        v = value(recipe, word64(key, index) if recipe.real is torch.float64 else word32(key, index))
        if math.isfinite(acc):
            exact = v * Fraction(factor) + Fraction(acc)
            acc = cast(exact, recipe.real) if exact else float(v) * factor + acc
    return cast(acc, dtype)
