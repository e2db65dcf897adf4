"""The Triton backend: one in-place pass on CUDA, ROCm and XPU devices, without a build. The only file that imports triton.

Three kernels share the words and the map:

    fill_blocks    whole Philox blocks at 16-byte aligned places: contiguous tensors, and shards cut at multiples of four
    fill_list      the same for a list of tensors in one launch
    fill_elements  an element at a time, four times the words: any start, box and strides, in the order of memory

A recipe's constants and table are one small buffer on the device, uploaded once a stream, so that a launch takes few arguments
and nothing but what decides the code (kind, dtype, shape of the table) decides what is compiled.

Instructions an element of float32 and bfloat16, on sm_90 by Triton 3.9 (`python -m benchmarks.machine_code` prints today's): 15.6
and 15.8 for uniform, 32.4 and 33.0 for the truncated normal at 2 sigmas. What was tried, by these counts; nothing was timed:

    table of 32 cells  a shuffle within the warp 32.4 and 33.0; loads through L1 34.9 and 34.8; shared memory 35.9 and 37.6 (a
                       store and two barriers a coefficient, 80 registers instead of 48); a tree of selections, 31 a coefficient.
                       `tl.gather` is one shuffle where the last axis is the warp and a lane holds one cell: so each of a block's
                       four words goes through the map by itself, as [rows, 32]
    table of 64 cells  loads, 38.9 and 38.8 for the normal: a shuffle would be two and a selection
    64-bit product     a line of PTX 15.6; left to LLVM 17.2, as it moves some keys into 64-bit arithmetic; `tl.umulhi` 20.5
    |s|                a line of PTX; LLVM makes a negation and a maximum of it, 1.0 more
    fraction's mask    read from the buffer; an immediate is moved into a register at each use, 1.1 more
"""

from __future__ import annotations

import functools
import struct
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from fastinit._core import recipes
from fastinit._core.plan import Plan
from fastinit._core.recipes import Recipe
from fastinit._core.tables import MANTISSA

NAME = "triton"
FLOAT8 = {torch.float8_e4m3fn: 1, torch.float8_e5m2: 2}  # FORMAT of what Triton cannot convert to everywhere; 0: the rest
INTEGERS = {1: torch.uint8, 4: torch.int32, 8: torch.int64}
FUSED_FMA = (3, 9)  # since then the interpreter's tl.fma rounds once

# --- what kernels and host share ------------------------------------------------------------------------------------------------
# Few globals: a launch compares each one that its kernel reads with what it was, 0.9 us a piece (Triton 3.9). So kinds are
# strings, and constants have no numbered places.

KINDS = {recipes.UNIFORM: "uniform", recipes.SYMMETRIC: "symmetric", recipes.TWO_SIDED: "two-sided"}
KINDS |= {recipes.FMOD: "fmod", recipes.WORDS: "words"}  # and "uniform from a bound", where there is a flip
TABLE = tl.constexpr(32)  # where a buffer's table begins, after the constants: rows of 32 floats are whole cache lines
LANES = tl.constexpr(32)
WARPS = 4
TILE = {torch.float32: 4096, torch.float64: 1024}  # elements a program and turn: 32 a thread; of float64 8, or they spill
SMALL = 1024  # elements a program of fill_elements
ROW = 8  # 64-bit numbers a row of a list
DIMS = 4  # axes that fill_elements takes


# --- words ------------------------------------------------------------------------------------------------------------------


@triton.jit
def widening_product(x, MULTIPLIER: tl.constexpr, PTX: tl.constexpr):
    """Upper and lower half of the 64-bit product."""
    m = tl.full([], MULTIPLIER, tl.uint32)
    if PTX:
        product = tl.inline_asm_elementwise("mul.wide.u32 $0, $1, $2;", "=l,r,r", [x, m], tl.uint64, True, 1)
    else:
        product = x.to(tl.uint64) * m.to(tl.uint64)
    return (product >> 32).to(tl.uint32), product.to(tl.uint32)


@triton.jit
def philox(c0, c1, key, STREAM: tl.constexpr, PTX: tl.constexpr):
    """Philox4x32-10 of the counters (c0, c1, STREAM, 0): four words. A scalar c1 makes half of the first two rounds scalar."""
    key = key.to(tl.uint64)  # the interpreter holds integers in the fewest bits, whatever they are declared as
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
    return (high.to(tl.uint64) << 32) | low.to(tl.uint64)


@triton.jit
def word_at(index, key, BITS: tl.constexpr, PTX: tl.constexpr):
    """The word of each index of the whole tensor."""
    block = (index >> 2).to(tl.uint64)
    a, b, c, d = words_of(block.to(tl.uint32), (block >> 32).to(tl.uint32), key, BITS, PTX)
    odd, upper = (index & 1) != 0, (index & 2) != 0
    return tl.where(upper, tl.where(odd, d, c), tl.where(odd, b, a))


# --- word -> value: the docstring of fastinit/recipes.py, line by line --------------------------------------------------


@triton.jit
def constants(recipe):
    """The recipe's 14 constants, as packed() orders them. Read before a loop: inside, a store may change them, to a compiler."""
    c = ()
    for place in tl.static_range(14):
        c = c + (tl.load(recipe + place),)  # what a kind does not use is never read
    return c


@triton.jit
def table_rows(recipe, KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr):
    """The rows of a table that is looked up by shuffles, a cell a lane; of others, nothing."""
    rows = ()
    if CELLS == LANES and KIND != "two-sided":
        for term in tl.static_range(TERMS):
            rows = rows + (tl.load(recipe + TABLE + term * LANES + tl.arange(0, LANES)),)
    return rows


@triton.jit
def coefficient(recipe, rows, cell, TERM: tl.constexpr, WIDTH: tl.constexpr):
    if WIDTH == LANES:
        return tl.gather(tl.broadcast_to(rows[TERM][None, :], cell.shape), cell, 1)
    else:
        return tl.load(recipe + TABLE + TERM * WIDTH + cell)


@triton.jit
def polynomial(s, recipe, c, rows, KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, PTX: tl.constexpr):
    REAL: tl.constexpr = recipe.dtype.element_ty
    BITS: tl.constexpr = REAL.primitive_bitwidth
    UNSIGNED: tl.constexpr = tl.uint64 if BITS == 64 else tl.uint32
    ONE: tl.constexpr = 1023 << 52 if BITS == 64 else 127 << 23  # the bits of 1.0
    WIDTH: tl.constexpr = CELLS * 2 if KIND == "two-sided" else CELLS
    _, _, _, _, _, _, _, offset, upper_offset, scale, upper_scale, _, shift, mask = c
    distance = magnitude(s, PTX) ^ ((1 << (BITS - 1)) - 2)  # 2^(bits - 1) - |s|, as s is odd
    if KIND == "two-sided":
        offset, scale = tl.where(s > 0, upper_offset, offset), tl.where(s > 0, upper_scale, scale)
    y = tl.fma(distance.to(REAL), scale, offset).to(UNSIGNED, bitcast=True)
    cell = ((y >> shift.to(UNSIGNED, bitcast=True)) & (CELLS - 1)).to(tl.int32)
    if KIND == "two-sided":
        cell += tl.where(s > 0, CELLS, 0)
    r = ((y & mask.to(UNSIGNED, bitcast=True)) | ONE).to(REAL, bitcast=True) - 1.0
    p = coefficient(recipe, rows, cell, TERMS - 1, WIDTH)
    for i in tl.static_range(TERMS - 1):
        p = tl.fma(p, r, coefficient(recipe, rows, cell, TERMS - 2 - i, WIDTH))
    return p


@triton.jit
def magnitude(s, PTX: tl.constexpr):
    if PTX and s.dtype.primitive_bitwidth == 32:  # LLVM makes two instructions of it
        return tl.inline_asm_elementwise("abs.s32 $0, $1;", "=r,r", [s], tl.int32, True, 1)
    else:
        return tl.abs(s)


@triton.jit
def remainder(z, cut, inverse_cut):
    """fmod(z, cut), exactly: the quotient may be one off, its remainder is then mended without rounding."""
    size = tl.abs(z)
    n = (size * inverse_cut).to(tl.int32).to(z.dtype)
    r = tl.fma(-n, cut, size)
    r = tl.where(r < 0, r + cut, r)
    r = tl.where(r < cut, r, r - cut)
    return tl.where(z < 0, -r, r)


@triton.jit
def clamped(v, low, high, PTX: tl.constexpr):
    """low if v <= low, high if v >= high: of float32, PTX's instructions order -0 below +0, as the contract does."""
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
    slope, anchor, std, cut, inverse_cut, low, high, _, _, _, _, flip, _, _ = c
    if KIND == "words":
        return word.to(SIGNED, bitcast=True)
    else:
        odd = word | 1
        s = odd.to(SIGNED, bitcast=True)
        if KIND == "uniform":
            v = tl.fma(s.to(REAL), slope, anchor)
        elif KIND == "uniform from a bound":
            x = (odd ^ flip.to(odd.dtype, bitcast=True)) >> 1
            v = tl.fma(x.to(SIGNED, bitcast=True).to(REAL), slope, anchor)
        else:
            v = polynomial(s, recipe, c, rows, KIND, CELLS, TERMS, PTX)
            if KIND == "symmetric":
                v = tl.fma(s.to(REAL), v, anchor)
            elif KIND == "fmod":
                v = tl.fma(remainder(s.to(REAL) * v, cut, inverse_cut), std, anchor)
        return clamped(v, low, high, PTX)


@triton.jit
def encoded(v, TYPE: tl.constexpr, FORMAT: tl.constexpr, PTX: tl.constexpr):
    """The one rounding. NVIDIA's conversions round to nearest even; the interpreter's cut off, so it rounds in integers."""
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


# --- kernels ------------------------------------------------------------------------------------------------------------------


@triton.jit
def interleaved(a, b, c, d):
    """Four tensors as one with a last axis of 2 x 2, in their order: what a thread holds of them lies side by side."""
    return tl.join(tl.join(a, c), tl.join(b, d))


@triton.jit
def fill_tiles(
    out, recipe, key, first, n, turn, turns, cols, pitch,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, TILE: tl.constexpr,
    BOXED: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Tiles turn, turn + turns, ... of a contiguous tensor of n elements, whose first is the first of block `first`.

    BOXED: rows of `cols` blocks, `pitch` blocks from one to the next in the whole tensor. A thread makes 16 bytes of consecutive
    elements at once, so bfloat16 blocks come in pairs; the less than 16 bytes at the end, one program does.
    """
    TYPE: tl.constexpr = out.dtype.element_ty
    BITS: tl.constexpr = recipe.dtype.element_ty.primitive_bitwidth
    GROUP: tl.constexpr = 1 if TYPE.primitive_bitwidth >= 32 else 32 // TYPE.primitive_bitwidth  # blocks side by side
    STRANDS: tl.constexpr = TILE // (4 * GROUP)  # of 16 bytes, or of a float64 block's 32
    c, rows = constants(recipe), table_rows(recipe, KIND, CELLS, TERMS)
    aligned = n & -(4 * GROUP)
    tiles = ((aligned + (TILE - 1)) // TILE).to(tl.int32)
    last = tl.multiple_of((aligned - (tiles - 1).to(tl.int64) * TILE).to(tl.int32), 4 * GROUP)  # elements of the last tile
    for tile in tl.range(turn, tiles, turns):
        at = tl.full([], TILE, tl.int64) * tile
        start = first + at // 4
        v = ()
        for member in tl.static_range(GROUP):
            local = (tl.arange(0, STRANDS) * GROUP + member).reshape([STRANDS // LANES, LANES])
            if BOXED:
                block = in_whole(at // 4 + local, first, cols, pitch).to(tl.uint64)
                words = words_of(block.to(tl.uint32), (block >> 32).to(tl.uint32), key, BITS, PTX)
            else:  # no tile crosses a multiple of 2^32 blocks
                words = words_of(start.to(tl.uint32) + local.to(tl.uint32), (start >> 32).to(tl.uint32), key, BITS, PTX)
            for i in tl.static_range(4):
                v = v + (encoded(values(words[i], recipe, c, rows, KIND, CELLS, TERMS, PTX), TYPE, FORMAT, PTX),)
        if GROUP == 4:
            v = (
                interleaved(v[0], v[4], v[8], v[12]),
                interleaved(v[1], v[5], v[9], v[13]),
                interleaved(v[2], v[6], v[10], v[14]),
                interleaved(v[3], v[7], v[11], v[15]),
            )
        elif GROUP == 2:
            v = (tl.join(v[0], v[4]), tl.join(v[1], v[5]), tl.join(v[2], v[6]), tl.join(v[3], v[7]))
        local = tl.arange(0, TILE)
        inside = local < tl.where(tile == tiles - 1, last, TILE)
        tl.store(out + at + local, interleaved(v[0], v[1], v[2], v[3]).reshape([TILE]), mask=inside)
    if (turn == 0) & (aligned < n):
        position = aligned + tl.arange(0, LANES).reshape([1, LANES]).to(tl.int64)
        block = position >> 2
        if BOXED:
            block = in_whole(block, first, cols, pitch)
        else:
            block += first
        word = word_at((block << 2) | (position & 3), key, BITS, PTX)
        v = encoded(values(word, recipe, c, rows, KIND, CELLS, TERMS, PTX), TYPE, FORMAT, PTX)
        tl.store(out + position, v, mask=position < n)


@triton.jit
def in_whole(local, start, cols, pitch):
    """Where a local element (or block) of a box is in the whole tensor."""
    row = local // cols
    return start + row * pitch + (local - row * cols)


# No argument may be named params: Triton's launcher has a variable of this name. out and recipe are specialised, to their
# alignment, which the compiler is to know and is always 16 bytes or more; nothing else is.
@triton.jit(do_not_specialize=["key", "first", "n", "cols", "pitch"])
def fill_blocks(
    out, recipe, key: tl.uint64, first: tl.int64, n: tl.int64, cols: tl.int64, pitch: tl.int64,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, TILE: tl.constexpr,
    BOXED: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    turn, turns = tl.program_id(0), tl.num_programs(0)
    fill_tiles(out, recipe, key, first, n, turn, turns, cols, pitch, KIND, CELLS, TERMS, FORMAT, TILE, BOXED, PTX)


@triton.jit(do_not_specialize=["table", "rows", "steps", "example"])
def fill_list(
    table, rows: tl.int32, steps: tl.int32, example,
    VARIANTS: tl.constexpr, FORMAT: tl.constexpr, TILE: tl.constexpr, REAL: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Rows of (out, recipe, key, first block, elements, first program, programs, number in VARIANTS), by first program.

    `example` is any of the tensors: it tells their dtype. VARIANTS are the (KIND, CELLS, TERMS) that occur.
    """
    program = tl.program_id(0).to(tl.int64)
    low, high = tl.full([], 0, tl.int32), rows
    for _ in tl.range(0, steps):  # the last row that begins at or before this program
        middle = (low + high) // 2
        after = tl.load(table + middle * 8 + 5) > program
        low, high = tl.where(after, low, middle), tl.where(after, middle, high)
    row = table + low * 8
    out = tl.multiple_of(tl.load(row).to(tl.pointer_type(example.dtype.element_ty)), 16)
    recipe = tl.multiple_of(tl.load(row + 1).to(tl.pointer_type(REAL)), 16)
    key, first, n = tl.load(row + 2).to(tl.uint64, bitcast=True), tl.load(row + 3), tl.load(row + 4)
    turn, turns = (program - tl.load(row + 5)).to(tl.int32), tl.load(row + 6).to(tl.int32)
    variant = tl.load(row + 7)
    for i in tl.static_range(len(VARIANTS)):
        if variant == i:
            KIND: tl.constexpr = VARIANTS[i][0]
            CELLS: tl.constexpr = VARIANTS[i][1]
            TERMS: tl.constexpr = VARIANTS[i][2]
            fill_tiles(out, recipe, key, first, n, turn, turns, first, first, KIND, CELLS, TERMS, FORMAT, TILE, False, PTX)


@triton.jit
def divided(position, size, narrow):
    """Quotient and remainder. 64-bit division takes several times as long, and few tensors need it."""
    if narrow:
        quotient = (position.to(tl.uint32) // size.to(tl.uint32)).to(tl.int64)
    else:
        quotient = position // size
    return quotient, position - quotient * size


@triton.jit
def with_axis(rest, local, place, size, step, stride, narrow):
    """Takes an axis off the position, if there is one (its size is not 0), and adds its share to index and place."""
    if size > 0:
        rest, at = divided(rest, size, narrow)
        local += at * step
        place += at * stride
    return rest, local, place


@triton.jit(do_not_specialize=list(range(18)))
def fill_elements(
    out, recipe, key: tl.uint64, n: tl.int64, start: tl.int64, cols: tl.int64, pitch: tl.int64,
    size0: tl.int64, step0: tl.int64, stride0: tl.int64,
    size1: tl.int64, step1: tl.int64, stride1: tl.int64,
    size2: tl.int64, step2: tl.int64, stride2: tl.int64,
    last_step: tl.int64, last_stride: tl.int64,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, SIZE: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """n elements of any layout of up to four axes, taken in the order of memory, an element at a time.

    An axis has a size (0: no such axis; the last's follows from n), a step of the local index and a stride in memory. Local index
    r * cols + c is index start + r * pitch + c of the whole tensor; with cols 0, start + itself.
    """
    BITS: tl.constexpr = recipe.dtype.element_ty.primitive_bitwidth
    c, rows = constants(recipe), table_rows(recipe, KIND, CELLS, TERMS)
    position = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE).reshape([SIZE // LANES, LANES]).to(tl.int64)
    inside, narrow = position < n, n <= 0x7FFFFFFF
    rest, local, place = position, position * 0, position * 0
    rest, local, place = with_axis(rest, local, place, size0, step0, stride0, narrow)
    rest, local, place = with_axis(rest, local, place, size1, step1, stride1, narrow)
    rest, local, place = with_axis(rest, local, place, size2, step2, stride2, narrow)
    local += rest * last_step
    place += rest * last_stride
    index = start + local
    if cols > 0:
        row, column = divided(local, cols, narrow)
        index = start + row * pitch + column
    word = word_at(index, key, BITS, PTX)
    v = encoded(values(word, recipe, c, rows, KIND, CELLS, TERMS, PTX), out.dtype.element_ty, FORMAT, PTX)
    tl.store(out + place, v, mask=inside)


@triton.jit(do_not_specialize=["words", "out", "recipe", "n"])
def transform_words(
    words, out, recipe, n: tl.int64,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, SIZE: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    BITS: tl.constexpr = recipe.dtype.element_ty.primitive_bitwidth
    UNSIGNED: tl.constexpr = tl.uint64 if BITS == 64 else tl.uint32
    c, rows = constants(recipe), table_rows(recipe, KIND, CELLS, TERMS)
    position = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE).reshape([SIZE // LANES, LANES]).to(tl.int64)
    word = tl.load(words + position, mask=position < n, other=0).to(UNSIGNED, bitcast=True)
    v = encoded(values(word, recipe, c, rows, KIND, CELLS, TERMS, PTX), out.dtype.element_ty, FORMAT, PTX)
    tl.store(out + position, v, mask=position < n)


# --- host -----------------------------------------------------------------------------------------------------------------------

INTERPRETED = not isinstance(fill_blocks, triton.JITFunction)  # TRITON_INTERPRET=1 when this module was imported
OPTIONS: dict[str, Any] = {} if INTERPRETED else {"num_warps": WARPS, "enable_fp_fusion": False}
PROGRAMS_A_PROCESSOR = 64  # turns of a few tiles: even loads without knowing how many programs run at once
TILES_A_PROGRAM = 8  # of a list: the search of its row costs a program about as much as a tile
CACHED = 1024  # recipes' buffers on devices
buffers: OrderedDict[tuple[Recipe, torch.device, int], torch.Tensor] = OrderedDict()
captured: dict[int, torch.Tensor] = {}  # a CUDA graph may be replayed at any time: what it reads lives as long as the process


class Variant(NamedTuple):
    """What of a recipe decides the code of the map."""

    kind: str
    cells: int
    terms: int


@functools.cache
def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot fill tensors on the device; None where it can."""
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if device.type == "cpu":
        if not INTERPRETED:
            return "it fills CUDA, ROCm and XPU tensors (CPU tensors under TRITON_INTERPRET=1, a test bench)"
        if version < FUSED_FMA:
            return f"the interpreter of Triton {triton.__version__} rounds a fused multiply-add twice: 3.9 or newer does not"
        return None
    if device.type not in ("cuda", "xpu"):
        return "it fills CUDA, ROCm and XPU tensors"
    if not torch.get_device_module(device).is_available():
        return f"there is no {device.type} device here"
    if INTERPRETED:
        return "TRITON_INTERPRET=1 is set, and what it interprets are CPU tensors"
    if version < (3, 6):
        return f"it needs Triton 3.6 or newer, this is {triton.__version__}"
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return f"Triton needs compute capability 8.0, this device has {torch.cuda.get_device_capability(device)}"
    return None


def fill(plans: list[Plan]) -> None:
    """Fills every plan's tensor on the current stream of its device, without waiting for it.

    A list takes one launch for each device and dtype, and one more for each tensor that is not made of whole, aligned blocks.
    """
    if len(plans) == 1:
        return fill_one(plans[0])
    lists: dict[tuple[torch.device, torch.dtype], list[Plan]] = {}
    for plan in plans:
        if not plan.out.numel():
            continue
        if blocks_of(plan) is not None and plan.box.rows == 1 and not is_capturing(plan.out.device):
            lists.setdefault((plan.out.device, plan.out.dtype), []).append(plan)
        else:
            fill_one(plan)
    for (device, _), together in lists.items():
        with current(device):
            fill_one(together[0]) if len(together) == 1 else fill_together(together)


def fill_one(plan: Plan) -> None:
    """The plan's tensor, by one launch; a layout of more than four axes by way of a contiguous copy."""
    out, recipe, key, box = plan
    total = out.numel()
    if not total:
        return
    with current(out.device):
        buffer, pointer, code = uploaded(recipe, out.device), integer_view(out), code_of(recipe, out.device)
        blocks = blocks_of(plan)
        if blocks is not None:
            tile = TILE[recipe.real]
            grid = min(-(-total // tile), PROGRAMS_A_PROCESSOR * processors(out.device))
            fill_blocks[(grid,)](pointer, buffer, key, *blocks, **code, TILE=tile, BOXED=box.rows > 1, **OPTIONS)
            return
        axes = axes_of(out)
        if len(axes) > DIMS:
            copy = torch.empty(out.shape, dtype=out.dtype, device=out.device)
            fill_one(plan._replace(out=copy))
            out.copy_(copy)
            return
        place = (box.start, box.cols if box.rows > 1 else 0, box.pitch)
        fill_elements[(-(-total // SMALL),)](
            pointer, buffer, key, total, *place, *axis_arguments(axes), **code, SIZE=SMALL, **OPTIONS
        )


def fill_together(plans: list[Plan]) -> None:
    """Plans of one device and dtype in one launch: their rows and recipes travel in one copy from pinned memory."""
    first = plans[0]
    device, variants = first.out.device, sorted({variant_of(plan.recipe) for plan in plans})
    recipes = list({plan.recipe: None for plan in plans})
    width = 8 * ROW
    offsets, size = {}, -(-len(plans) * width // 256) * 256
    for recipe in recipes:
        offsets[recipe] = size
        size += -(-packed(recipe).nbytes // 256) * 256
    on_host = torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=device.type != "cpu")
    table = on_host if device.type == "cpu" else torch.empty(size, dtype=torch.uint8, device=device)
    for recipe, offset in offsets.items():
        data = packed(recipe).view(torch.uint8)
        on_host[offset : offset + len(data)] = data
    rows, programs = bytearray(), 0
    for plan in plans:
        blocks = blocks_of(plan)
        assert blocks is not None
        count = -(-plan.out.numel() // (TILE[plan.recipe.real] * TILES_A_PROGRAM))
        place = (plan.out.data_ptr(), table.data_ptr() + offsets[plan.recipe], plan.key)
        rows += struct.pack("<QQQqqqqq", *place, *blocks[:2], programs, count, variants.index(variant_of(plan.recipe)))
        programs += count
    on_host[: len(rows)] = torch.frombuffer(rows, dtype=torch.uint8)
    if table is not on_host:
        table.copy_(on_host, non_blocking=True)
    real = tl.float64 if first.recipe.real is torch.float64 else tl.float32
    code = {"FORMAT": FLOAT8.get(first.recipe.dtype, 0), "TILE": TILE[first.recipe.real], "REAL": real, "PTX": is_ptx(device)}
    steps = (len(plans) - 1).bit_length()
    example = integer_view(first.out)
    fill_list[(programs,)](table.view(torch.int64), len(plans), steps, example, tuple(map(tuple, variants)), **code, **OPTIONS)


def transform(recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
    """The values of given words (int32, or int64 for recipes of 8-byte dtypes), on the words' device."""
    words, out = words.contiguous(), torch.empty(words.shape, dtype=recipe.dtype, device=words.device)
    if words.itemsize != (8 if recipe.dtype.itemsize == 8 else 4):
        raise TypeError(f"words of {words.dtype} do not go with {recipe.dtype}: int64 for 8-byte dtypes, else int32.")
    if words.numel():
        with current(out.device):
            arguments = (words, integer_view(out), uploaded(recipe, out.device), words.numel())
            transform_words[(-(-words.numel() // SMALL),)](*arguments, **code_of(recipe, out.device), SIZE=SMALL, **OPTIONS)
    return out


def blocks_of(plan: Plan) -> tuple[int, int, int, int] | None:
    """The plan in blocks: the first, the elements, blocks a row, blocks from row to row. None where it is not made of blocks."""
    out, (start, rows, cols, pitch) = plan.out, plan.box
    if start % 4 or out.data_ptr() % 16 or not out.is_contiguous():
        return None
    first, total = start // 4, out.numel()
    if rows > 1:
        return None if cols % 4 or pitch % 4 else (first, total, cols // 4, pitch // 4)
    tile = TILE[plan.recipe.real] // 4
    if first % tile and (first & 0xFFFFFFFF) + total // 4 + tile > 1 << 32:  # a tile may cross a multiple of 2^32 blocks
        return None
    return first, total, 0, 0


def axes_of(out: torch.Tensor) -> list[tuple[int, int, int]]:
    """(size, step of the logical index, stride in memory), the least stride first, axes that are one in both joined."""
    step, axes = 1, []
    for size, stride in zip(reversed(out.shape), reversed(out.stride()), strict=True):
        if size > 1:
            axes.append((size, step, stride))
        step *= size
    joined: list[tuple[int, int, int]] = []
    for size, step, stride in sorted(axes, key=lambda axis: axis[2]):
        if joined and step == joined[-1][1] * joined[-1][0] and stride == joined[-1][2] * joined[-1][0]:
            joined[-1] = (joined[-1][0] * size, *joined[-1][1:])
        else:
            joined.append((size, step, stride))
    return joined or [(1, 1, 1)]


def axis_arguments(axes: list[tuple[int, int, int]]) -> Iterable[int]:
    """Those of fill_elements: three axes with their sizes, 0 where there is none, and the last without."""
    *inner, (_, last_step, last_stride) = axes
    padded = [*inner, *[(0, 0, 0)] * (DIMS - 1 - len(inner))]
    return *(number for axis in padded for number in axis), last_step, last_stride


def variant_of(recipe: Recipe) -> Variant:
    kind = "uniform from a bound" if recipe.flip else KINDS[recipe.kind]
    if recipe.table is None:
        return Variant(kind, 0, 0)
    _, terms, cells = recipe.table.shape
    return Variant(kind, cells, terms)


@functools.lru_cache(maxsize=CACHED)
def code_of(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """The arguments that decide what is compiled."""
    kind, cells, terms = variant_of(recipe)
    return {"KIND": kind, "CELLS": cells, "TERMS": terms, "FORMAT": FLOAT8.get(recipe.dtype, 0), "PTX": is_ptx(device)}


def is_ptx(device: torch.device) -> bool:
    return device.type == "cuda" and torch.version.hip is None


def integer_view(out: torch.Tensor) -> torch.Tensor:
    """What a kernel sees of a tensor: float8 as bytes, words as signed ones."""
    return out if out.dtype.is_floating_point and out.dtype not in FLOAT8 else out.view(INTEGERS[out.itemsize])


@functools.lru_cache(maxsize=CACHED)
def packed(recipe: Recipe) -> torch.Tensor:
    """The recipe's buffer: its constants, then from TABLE on the table as [term, half and cell], in its real type."""
    real, integer = recipe.real, INTEGERS[recipe.real.itemsize]
    shift = MANTISSA[real] - recipe.top_bits
    offsets, scales = ((*halves, 0.0, 0.0)[:2] for halves in (recipe.offset, recipe.scale))
    floats = (recipe.slope, recipe.anchor, recipe.std, recipe.cut, recipe.inverse_cut, recipe.low, recipe.high, *offsets, *scales)
    bits = torch.tensor([recipe.flip, shift, (1 << shift) - 1], dtype=torch.uint64, device="cpu").view(torch.int64)
    table = torch.empty(0, dtype=real, device="cpu") if recipe.table is None else recipe.table.transpose(0, 1).reshape(-1)
    buffer = torch.zeros(TABLE.value + len(table), dtype=real, device="cpu")
    buffer[: len(floats)] = torch.tensor(floats, dtype=real, device="cpu")
    buffer.view(integer)[len(floats) : len(floats) + len(bits)] = bits.to(integer)
    buffer[TABLE.value :] = table
    return buffer


def uploaded(recipe: Recipe, device: torch.device) -> torch.Tensor:
    """The recipe's buffer on the device, from now on; one for each stream, whose order makes it safe without waiting.

    Raises:
        RuntimeError: the stream is being captured and the buffer is not there yet.
    """
    if device.type == "cpu":
        return packed(recipe)
    stream = triton.runtime.driver.active.get_current_stream(device.index)
    place, capturing = (recipe, device, stream), is_capturing(device)
    buffer = buffers.get(place)
    if buffer is None and capturing:
        buffer = next((made for (known, where, _), made in buffers.items() if known is recipe and where == device), None)
        if buffer is None:
            raise RuntimeError("a captured fill needs its constants on the device: fill once with this law before the capture.")
    if buffer is None:
        buffer = packed(recipe).pin_memory().to(device, non_blocking=True)
        buffers[place] = buffer
        if len(buffers) > CACHED:
            buffers.popitem(last=False)
    if capturing:
        captured[id(buffer)] = buffer
    return buffer


def is_capturing(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with current(device):
        return torch.cuda.is_current_stream_capturing()


def current(device: torch.device) -> AbstractContextManager:
    """Makes the device the current one, which Triton launches on, where it is not."""
    if device.type == "cpu":
        return nullcontext()
    module = torch.get_device_module(device)
    return nullcontext() if module.current_device() == device.index else module.device(device)


@functools.cache
def processors(device: torch.device) -> int:
    """Streaming multiprocessors, compute units or subslices."""
    if device.type == "cpu":
        return 1
    properties = torch.get_device_module(device).get_device_properties(device)
    return int(getattr(properties, "multi_processor_count", 0) or getattr(properties, "gpu_subslice_count", 64))
