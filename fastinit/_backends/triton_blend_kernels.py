"""The Triton kernels of blends, keep * old + the sum of add[n] times the values of key n, in one pass over memory:

    blend_list       a list's tensors, or one: whole Philox blocks at 16-byte aligned places
    blend_elements   an element at a time: any start, box and strides, in the order of memory

Arguments are those of triton_kernels.py, and `members`, 64 bits each: keep, then coefficients and keys, `count` of each. The loop
over members is one of the running kernel, so that nothing about them decides what is compiled. Where keep is 0, nothing is read.

Instructions an element and member, on sm_90 by Triton 3.9 (`python -m benchmarks.machine_code`), float32 and bfloat16: 16.5 and
16.2 for uniform, 33.2 and 33.3 for the truncated normal at 2 sigmas, a fill's and 0.3 to 0.9 more; none was timed. The sums of a
thread's 32 elements stay in registers, and who makes an element reads it too, without shared memory (but of float64).
With a mask of what is read that was no comparison of the position, ptxas spilled a register of float32, uniform.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastinit._backends.triton_kernels import (
    entry_of,
    index_at,
    index_of,
    placed,
    side_by_side,
    tiles_of,
    words_in_tile,
)
from fastinit._backends.triton_values import clamped, encoded, numbered, numbers_of, table_rows, values, word_at


@triton.jit
def real_at(numbers, REAL: tl.constexpr):
    """A number of the real type, in the low bits of 64."""
    if REAL == tl.float64:
        return tl.load(numbers).to(tl.float64, bitcast=True)
    else:
        return tl.load(numbers).to(tl.uint32).to(tl.float32, bitcast=True)


@triton.jit
def decoded(old, FORMAT: tl.constexpr, REAL: tl.constexpr):
    """What a tensor holds, in the real type, exactly. A float8_e5m2 is the upper byte of a float16."""
    if FORMAT == 1:
        size = (old & 0x7F).to(tl.uint32)
        v = (size << 20).to(tl.float32, bitcast=True) * 2.0**120  # of subnormal ones too
        v = tl.where(size == 0x7F, float("nan"), v)
        return (v.to(tl.uint32, bitcast=True) | ((old & 0x80).to(tl.uint32) << 24)).to(tl.float32, bitcast=True)
    elif FORMAT == 2:
        return (old.to(tl.uint16) << 8).to(tl.float16, bitcast=True).to(tl.float32)
    elif old.dtype == tl.bfloat16:
        return (old.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        return old.to(REAL)


@triton.jit
def kept(source, position, size, members, FORMAT: tl.constexpr, REAL: tl.constexpr):
    """keep times what is there, from which a sum begins. A keep of 0 has no bit set: nothing is read, and it is +0."""
    old = tl.load(source, mask=position < tl.where(tl.load(members) != 0, size, 0), other=0)
    return decoded(old, FORMAT, REAL) * real_at(members, REAL)


@triton.jit
def rounded(acc, TYPE: tl.constexpr, FORMAT: tl.constexpr, PTX: tl.constexpr):
    """A sum in the tensor's dtype, NaN as all bits but the sign, as float32's arithmetic and conversions of NVIDIA have it."""
    BITS: tl.constexpr = TYPE.primitive_bitwidth
    v = acc
    if FORMAT == 1:
        v = clamped(v, -448.0, 448.0, PTX)  # it has no infinity
    elif FORMAT == 2:
        v = clamped(v, -65536.0, 65536.0, PTX)
    v = encoded(v, TYPE, FORMAT, PTX)
    if PTX and (BITS == 32 or BITS == 16):
        return v
    else:
        SIGNED: tl.constexpr = tl.int64 if BITS == 64 else tl.int32 if BITS == 32 else tl.int16 if BITS == 16 else tl.int8
        bits = tl.where(acc != acc, (1 << (BITS - 1)) - 1, v.to(SIGNED, bitcast=True))
        return bits.to(SIGNED).to(TYPE, bitcast=True)


@triton.jit
def blend_places(
    out, source, index, position, n, recipe, c, rows, members, count,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Elements each at a place of its own; flat in memory, for Triton 3.6, as coefficients are."""
    REAL: tl.constexpr = recipe.dtype.element_ty
    out, source, flat = tl.ravel(out), tl.ravel(source), tl.ravel(position)
    keys = members + 1 + count
    acc = kept(source, flat, n, members, FORMAT, REAL).reshape(index.shape)
    for member in tl.range(0, count):
        key = tl.load(keys + member).to(tl.uint64, bitcast=True)
        word = word_at(index, key, REAL.primitive_bitwidth, PTX)
        v = values(word, recipe, c, rows, KIND, CELLS, TERMS, PTX)
        acc = tl.fma(v, real_at(members + 1 + member, REAL), acc)
    tl.store(out, tl.ravel(rounded(acc, out.dtype.element_ty, FORMAT, PTX)), mask=flat < n)


@triton.jit
def blend_tiles(
    out, source, recipe, members, count, first, n, turn, turns, cols, pitch,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, TILE: tl.constexpr,
    BOXED: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Tiles turn, turn + turns, ... of a tensor, as fill_tiles has them."""
    TYPE: tl.constexpr = out.dtype.element_ty
    REAL: tl.constexpr = recipe.dtype.element_ty
    BITS: tl.constexpr = REAL.primitive_bitwidth
    GROUP: tl.constexpr = 1 if TYPE.primitive_bitwidth >= 32 else 32 // TYPE.primitive_bitwidth
    c, rows = numbers_of(recipe), table_rows(recipe, KIND, CELLS, TERMS)
    aligned, tiles, last = tiles_of(n, GROUP, TILE)
    keys = members + 1 + count
    for tile in tl.range(turn, tiles, turns):
        at = tl.full([], TILE, tl.int64) * tile
        start = first + at // 4
        local = tl.arange(0, TILE)
        size = tl.where(tile == tiles - 1, last, TILE)
        acc = kept(source + at + local, local, size, members, FORMAT, REAL)
        for member in tl.range(0, count):
            key, add = tl.load(keys + member).to(tl.uint64, bitcast=True), real_at(members + 1 + member, REAL)
            v = ()
            for number in tl.static_range(GROUP):
                blocks = numbered(TILE // (4 * GROUP)) * GROUP + number
                words = words_in_tile(at, start, blocks, key, first, cols, pitch, BITS, BOXED, PTX)
                for i in tl.static_range(4):
                    v = v + (values(words[i], recipe, c, rows, KIND, CELLS, TERMS, PTX),)
            acc = tl.fma(side_by_side(v, GROUP).reshape([TILE]), add, acc)
        tl.store(out + at + local, rounded(acc, TYPE, FORMAT, PTX), mask=local < size)
    if (turn == 0) & (aligned < n):
        position = aligned + numbered(32).to(tl.int64)
        index = index_at(position, first, cols, pitch, BOXED)
        blend_places(
            out + position, source + position, index, position, n, recipe, c, rows, members, count,
            KIND, CELLS, TERMS, FORMAT, PTX,
        )  # fmt: skip


@triton.jit(do_not_specialize=["entries", "count", "steps", "example"])
def blend_list(
    entries, count: tl.int32, steps: tl.int32, example,
    KINDS: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, TILE: tl.constexpr,
    BOXED: tl.constexpr, REAL: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Tensors of one dtype, as fill_list has them: all of them rows of whole blocks, or none.

    An entry: out, source, recipe, the place of its members in `entries`, how many they are, first block, elements, blocks a row,
    blocks from row to row, first program, programs, number of its variant.
    """
    program = tl.program_id(0).to(tl.int64)
    entry = entry_of(program, entries, count, steps, 12, 9)
    out = tl.multiple_of(tl.load(entry).to(tl.pointer_type(example.dtype.element_ty)), 16)
    source = tl.multiple_of(tl.load(entry + 1).to(tl.pointer_type(example.dtype.element_ty)), 16)
    recipe = tl.multiple_of(tl.load(entry + 2).to(tl.pointer_type(REAL)), 16)
    members, many = entries + tl.load(entry + 3), tl.load(entry + 4).to(tl.int32)
    first, n, cols, pitch = tl.load(entry + 5), tl.load(entry + 6), tl.load(entry + 7), tl.load(entry + 8)
    turn, turns = (program - tl.load(entry + 9)).to(tl.int32), tl.load(entry + 10).to(tl.int32)
    variant = tl.load(entry + 11)
    for i in tl.static_range(len(KINDS)):
        if variant == i:
            KIND: tl.constexpr = KINDS[i]
            HALF: tl.constexpr = CELLS[i]
            LENGTH: tl.constexpr = TERMS[i]
            blend_tiles(
                out, source, recipe, members, many, first, n, turn, turns, cols, pitch,
                KIND, HALF, LENGTH, FORMAT, TILE, BOXED, PTX,
            )  # fmt: skip


@triton.jit(do_not_specialize=list(range(24)))
def blend_elements(
    out, source, recipe, members, count: tl.int32, n: tl.int64, start: tl.int64, cols: tl.int64, pitch: tl.int64,
    size0: tl.int64, step0: tl.int64, stride0: tl.int64, from0: tl.int64,
    size1: tl.int64, step1: tl.int64, stride1: tl.int64, from1: tl.int64,
    size2: tl.int64, step2: tl.int64, stride2: tl.int64, from2: tl.int64,
    last_step: tl.int64, last_stride: tl.int64, last_from: tl.int64,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, SIZE: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """n elements of any layout of up to four axes, as fill_elements has them; an axis has a stride in the source too."""
    c, rows = numbers_of(recipe), table_rows(recipe, KIND, CELLS, TERMS)
    position = tl.program_id(0).to(tl.int64) * SIZE + numbered(SIZE).to(tl.int64)
    narrow = n <= 0x7FFFFFFF
    local, place = placed(
        position, size0, step0, stride0, size1, step1, stride1, size2, step2, stride2, last_step, last_stride, narrow
    )
    local, there = placed(position, size0, step0, from0, size1, step1, from1, size2, step2, from2, last_step, last_from, narrow)
    index = index_of(local, start, cols, pitch, narrow)
    blend_places(
        out + place, source + there, index, position, n, recipe, c, rows, members, count, KIND, CELLS, TERMS, FORMAT, PTX
    )
