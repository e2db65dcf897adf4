"""The value contract in Triton: a recipe's buffer, Philox's words, and the map from words to values. Called by the kernels.

Few globals: at every launch Triton compares each constexpr that a kernel reads, its own and those of the functions that it
calls, with its earlier value, 0.9 us apiece (Triton 3.9). So variants are told apart by strings, and the other modules read
no global of this one.
"""

from __future__ import annotations

from collections import namedtuple
from typing import get_args, get_origin, get_type_hints

import triton
import triton.language as tl

from fastinit._core.recipes import Constants

# --- a recipe on the device -----------------------------------------------------------------------------------------------------
# Rows of 32 numbers, whole cache lines: one of constants, then the table's, from its lowest term up, for each half and cell.


def numbers_of_buffer() -> dict[str, type]:
    """Name and type of what a buffer begins with: the recipe's constants, pairs as two, then Triton's own, shift and mask."""
    numbers = {}
    for name, kind in get_type_hints(Constants).items():
        if get_origin(kind) is tuple:
            numbers |= {name: get_args(kind)[0], f"upper_{name}": get_args(kind)[1]}
        else:
            numbers[name] = kind
    return numbers | {"shift": int, "mask": int}  # of y's bits: those below the cell's number, which are the local variable


NUMBERS = numbers_of_buffer()
Numbers = namedtuple("Numbers", NUMBERS)  # as a kernel has them
ORDER = tl.constexpr(tuple(NUMBERS))  # which Triton hashes, as it does not Numbers: of another order, code is compiled anew
LANES = tl.constexpr(32)  # of a warp: numbers a row


@triton.jit
def numbers_of(recipe):
    """The numbers that a recipe's buffer begins with, by name. Read before a loop: the compiler cannot know that the loop's
    stores leave them as they are, and would read them again in every turn. What a variant does not use is never read.

    The mask could be computed of the shift, but as an immediate it is moved into a register at each use, 1.1 instructions more.
    """
    numbers = ()
    for place in tl.static_range(len(ORDER.value)):
        numbers = numbers + (tl.load(recipe + place),)
    return Numbers(*numbers)


# --- words ----------------------------------------------------------------------------------------------------------------------


@triton.jit
def numbered(COUNT: tl.constexpr):
    """0, 1, ... COUNT - 1 as [rows, 32]: neighbors in neighboring lanes of a warp."""
    return tl.arange(0, COUNT).reshape([COUNT // LANES, LANES])


@triton.jit
def widening_product(x, MULTIPLIER: tl.constexpr, PTX: tl.constexpr):
    """Upper and lower half of the 64-bit product.

    A line of PTX, 15.6 instructions an element of float32, uniform. Left to LLVM it is 17.2, as LLVM moves some keys into 64-bit
    arithmetic; by `tl.umulhi`, 20.5.
    """
    m = tl.full([], MULTIPLIER, tl.uint32)
    if PTX:
        product = tl.inline_asm_elementwise("mul.wide.u32 $0, $1, $2;", "=l,r,r", [x, m], tl.uint64, True, 1)
    else:
        product = x.to(tl.uint64) * m.to(tl.uint64)
    return (product >> 32).to(tl.uint32), product.to(tl.uint32)


@triton.jit
def philox(c0, c1, key, STREAM: tl.constexpr, PTX: tl.constexpr):
    """Philox4x32-10 of the counters (c0, c1, STREAM, 0): four words. A scalar c1 makes half of the first two rounds scalar."""
    key = key.to(tl.uint64)  # the interpreter holds integers in the fewest bits, however they are declared
    k0, k1 = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    c2, c3 = tl.full([], STREAM, tl.uint32), tl.full([], 0, tl.uint32)
    for r in tl.static_range(10):
        high0, low0 = widening_product(c0, 0xD2511F53, PTX)
        high1, low1 = widening_product(c2, 0xCD9E8D57, PTX)
        c0 = high1 ^ (c1 ^ (k0 + tl.full([], (0x9E3779B9 * r) & 0xFFFFFFFF, tl.uint32)))
        c2 = high0 ^ (c3 ^ (k1 + tl.full([], (0xBB67AE85 * r) & 0xFFFFFFFF, tl.uint32)))
        c1, c3 = low1, low0
    return c0, c1, c2, c3


@triton.jit
def words_of(c0, c1, key, BITS: tl.constexpr, PTX: tl.constexpr):
    """A block's four words: of stream 0, or of 64 bits with stream 1 below."""
    a, b, c, d = philox(c0, c1, key, 0, PTX)
    if BITS == 64:
        e, f, g, h = philox(c0, c1, key, 1, PTX)
        a, b, c, d = wide(a, e), wide(b, f), wide(c, g), wide(d, h)
    return a, b, c, d


@triton.jit
def wide(high, low):
    """64 bits of two words."""
    return (high.to(tl.uint64) << 32) | low.to(tl.uint64)


@triton.jit
def word_at(index, key, BITS: tl.constexpr, PTX: tl.constexpr):
    """The word of each index of the whole tensor."""
    block = (index >> 2).to(tl.uint64)
    a, b, c, d = words_of(block.to(tl.uint32), (block >> 32).to(tl.uint32), key, BITS, PTX)
    odd, upper = (index & 1) != 0, (index & 2) != 0
    return tl.where(upper, tl.where(odd, d, c), tl.where(odd, b, a))


# --- word -> value: the docstring of fastinit/_core/recipes.py, line by line ----------------------------------------------------


@triton.jit
def table_rows(recipe, KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr):
    """The rows of a table that is looked up by shuffles, a cell a lane; of other tables, nothing.

    `tl.gather` is one shuffle where the last axis is the warp and a lane holds one cell; so each of a block's four words goes
    through the map by itself, as [rows, 32]. Instructions an element, float32 and bfloat16, of a truncated normal at 2 sigmas,
    whose table has 32 cells: by shuffles 32.4 and 33.0; by loads through L1 34.9 and 34.8; by shared memory 35.9 and 37.6 (a
    store and two barriers a coefficient, 80 registers instead of 48); a tree of selections takes 31 a coefficient. A table of 64
    cells is loaded, 38.9 and 38.8 for the normal: two shuffles and a selection would take its place.
    """
    rows = ()
    if CELLS == LANES and KIND != "two-sided":
        for term in tl.static_range(TERMS):
            rows = rows + (tl.load(recipe + LANES + term * LANES + tl.arange(0, LANES)),)
    return rows


@triton.jit
def coefficient(recipe, rows, cell, TERM: tl.constexpr, WIDTH: tl.constexpr):
    """Each cell's coefficient of a term, of a table that is WIDTH cells wide."""
    if WIDTH == LANES:
        return tl.gather(tl.broadcast_to(rows[TERM][None, :], cell.shape), cell, 1)
    else:
        # Flat: of [rows, 32] Triton 3.6 loads in another order, through shared memory, with spills: 82 instructions, not 39.
        return tl.load(recipe + LANES + TERM * WIDTH + tl.ravel(cell)).reshape(cell.shape)


@triton.jit
def polynomial(s, recipe, c, rows, KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, PTX: tl.constexpr):
    """The table's polynomial at each s, by Horner's rule."""
    REAL: tl.constexpr = recipe.dtype.element_ty
    BITS: tl.constexpr = REAL.primitive_bitwidth
    UNSIGNED: tl.constexpr = tl.uint64 if BITS == 64 else tl.uint32
    ONE: tl.constexpr = 1023 << 52 if BITS == 64 else 127 << 23  # the bits of 1.0
    WIDTH: tl.constexpr = CELLS * 2 if KIND == "two-sided" else CELLS
    offset, scale = c.offset, c.scale
    distance = magnitude(s, PTX) ^ ((1 << (BITS - 1)) - 2)  # 2^(bits - 1) - |s|, as s is odd
    if KIND == "two-sided":
        offset, scale = tl.where(s > 0, c.upper_offset, offset), tl.where(s > 0, c.upper_scale, scale)
    y = tl.fma(distance.to(REAL), scale, offset).to(UNSIGNED, bitcast=True)
    cell = ((y >> c.shift.to(UNSIGNED, bitcast=True)) & (CELLS - 1)).to(tl.int32)
    if KIND == "two-sided":
        cell += tl.where(s > 0, CELLS, 0)
    r = ((y & c.mask.to(UNSIGNED, bitcast=True)) | ONE).to(REAL, bitcast=True) - 1.0
    p = coefficient(recipe, rows, cell, TERMS - 1, WIDTH)
    for i in tl.static_range(TERMS - 1):
        p = tl.fma(p, r, coefficient(recipe, rows, cell, TERMS - 2 - i, WIDTH))
    return p


@triton.jit
def magnitude(s, PTX: tl.constexpr):
    """|s|. LLVM makes a negation and a maximum of it, 1.0 instructions an element more than a line of PTX."""
    if PTX and s.dtype.primitive_bitwidth == 32:
        return tl.inline_asm_elementwise("abs.s32 $0, $1;", "=r,r", [s], tl.int32, True, 1)
    else:
        return tl.abs(s)


@triton.jit
def remainder(z, cut, inverse_cut):
    """fmod(z, cut), exactly: the quotient may be one off; its remainder is then corrected without rounding."""
    size = tl.abs(z)
    n = (size * inverse_cut).to(tl.int32).to(z.dtype)
    r = tl.fma(-n, cut, size)
    r = tl.where(r < 0, r + cut, r)
    r = tl.where(r < cut, r, r - cut)
    return tl.where(z < 0, -r, r)


@triton.jit
def clamped(v, low, high, PTX: tl.constexpr):
    """low if v <= low, high if v >= high. PTX's instructions for float32 order -0 below +0, as the contract does."""
    if PTX and v.dtype.primitive_bitwidth == 32:
        return tl.minimum(tl.maximum(v, low), high)
    else:
        v = tl.where(v <= low, low, v)
        return tl.where(v >= high, high, v)


@triton.jit
def values(word, recipe, c, rows, KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, PTX: tl.constexpr):
    """Words [rows, 32] to values before their rounding."""
    REAL: tl.constexpr = recipe.dtype.element_ty
    SIGNED: tl.constexpr = tl.int64 if REAL.primitive_bitwidth == 64 else tl.int32
    if KIND == "words":
        return word.to(SIGNED, bitcast=True)
    else:
        odd = word | 1
        s = odd.to(SIGNED, bitcast=True)
        if KIND == "uniform":
            v = tl.fma(s.to(REAL), c.slope, c.anchor)
        elif KIND == "uniform from a bound":
            x = (odd ^ c.flip.to(odd.dtype, bitcast=True)) >> 1
            v = tl.fma(x.to(SIGNED, bitcast=True).to(REAL), c.slope, c.anchor)
        else:
            v = polynomial(s, recipe, c, rows, KIND, CELLS, TERMS, PTX)
            if KIND == "symmetric":
                v = tl.fma(s.to(REAL), v, c.anchor)
            elif KIND == "fmod":
                v = tl.fma(remainder(s.to(REAL) * v, c.cut, c.inverse_cut), c.std, c.anchor)
        return clamped(v, c.low, c.high, PTX)


@triton.jit
def encoded(v, TYPE: tl.constexpr, FORMAT: tl.constexpr, PTX: tl.constexpr):
    """The one rounding. NVIDIA's conversions round to nearest even; the interpreter's truncate, so it rounds in integers."""
    if FORMAT == 1:
        return small_float(v, 3, 7)
    elif FORMAT == 2:
        return small_float(v, 2, 15)
    elif TYPE == tl.bfloat16 and not PTX:
        bits = v.to(tl.uint32, bitcast=True)
        return ((bits + ((bits >> 16) & 1) + 0x7FFF) >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return v.to(TYPE)


@triton.jit
def small_float(v, MANTISSA: tl.constexpr, BIAS: tl.constexpr):
    """float32 to the bits of a float8 inside its range, as small_float_bits of csrc/transform.h."""
    DROP: tl.constexpr = 23 - MANTISSA
    bits = v.to(tl.uint32, bitcast=True)
    size = bits & 0x7FFFFFFF
    normal = ((size + ((size >> DROP) & 1) + ((1 << (DROP - 1)) - 1)) >> DROP) - ((127 - BIAS) << MANTISSA)
    # adding 2^(23 + e), e the exponent of the least subnormal, leaves the rounded multiple of it in the low mantissa bits
    magic = tl.full([], (127 + 23 + 1 - BIAS - MANTISSA) << 23, tl.uint32)
    sum_ = size.to(tl.float32, bitcast=True) + magic.to(tl.float32, bitcast=True)
    subnormal = sum_.to(tl.uint32, bitcast=True) - magic
    rounded = tl.where(size < ((127 + 1 - BIAS) << 23), subnormal, normal)
    return (rounded | ((bits >> 24) & 0x80)).to(tl.uint8)
