"""The Triton kernels, which share the words and the map of triton_values.py:

    fill_blocks      whole Philox blocks at 16-byte aligned places: contiguous tensors, and shards cut at multiples of four
    fill_list        the same for a list of tensors in one launch
    fill_elements    an element at a time, four times the words: any start, box and strides, in the order of memory
    transform_words  given words

Arguments that all of them take: `recipe`, the buffer of triton_values.py; KIND, CELLS and TERMS, the variant; FORMAT, 1 or 2 for
the float8 dtypes; PTX, whether lines of it may be used. None may be named params: Triton's launcher has a variable of this name.

Instructions an element of float32 and bfloat16, on sm_90 by Triton 3.9 (`python -m benchmarks.machine_code` prints today's): 15.6
and 15.8 for uniform, 32.4 and 33.0 for the truncated normal at 2 sigmas. What else was tried stands where it belongs, with its
count; nothing was timed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastinit._backends.triton_values import encoded, numbered, numbers_of, table_rows, values, word_at, words_of


@triton.jit
def interleaved(a, b, c, d):
    """Four tensors as one with a last axis of 2 x 2, in their order: what a thread holds of them lies side by side."""
    return tl.join(tl.join(a, c), tl.join(b, d))


@triton.jit
def side_by_side(v, GROUP: tl.constexpr):
    """The four tensors of each of GROUP blocks as one tensor, in the order of the elements."""
    if GROUP == 4:
        v = (
            interleaved(v[0], v[4], v[8], v[12]),
            interleaved(v[1], v[5], v[9], v[13]),
            interleaved(v[2], v[6], v[10], v[14]),
            interleaved(v[3], v[7], v[11], v[15]),
        )
    elif GROUP == 2:
        v = (tl.join(v[0], v[4]), tl.join(v[1], v[5]), tl.join(v[2], v[6]), tl.join(v[3], v[7]))
    return interleaved(v[0], v[1], v[2], v[3])


@triton.jit
def in_whole(local, start, cols, pitch):
    """Where a local element (or block) of a box is in the whole tensor."""
    row = local // cols
    return start + row * pitch + (local - row * cols)


@triton.jit
def tiles_of(n, GROUP: tl.constexpr, TILE: tl.constexpr):
    """Of n elements those that are made 16 bytes at a time, their tiles, and the elements of the last."""
    aligned = n & -(4 * GROUP)
    tiles = ((aligned + (TILE - 1)) // TILE).to(tl.int32)
    return aligned, tiles, tl.multiple_of((aligned - (tiles - 1).to(tl.int64) * TILE).to(tl.int32), 4 * GROUP)


@triton.jit
def words_in_tile(at, start, local, key, first, cols, pitch, BITS: tl.constexpr, BOXED: tl.constexpr, PTX: tl.constexpr):
    """The four words of each of a tile's blocks `local`. Its first element is `at`; its first block `start`, where not boxed."""
    if BOXED:
        block = in_whole(at // 4 + local, first, cols, pitch).to(tl.uint64)
        words = words_of(block.to(tl.uint32), (block >> 32).to(tl.uint32), key, BITS, PTX)
    else:  # no tile crosses a multiple of 2^32 blocks
        words = words_of(start.to(tl.uint32) + local.to(tl.uint32), (start >> 32).to(tl.uint32), key, BITS, PTX)
    return words


@triton.jit
def index_at(position, first, cols, pitch, BOXED: tl.constexpr):
    """Where local elements of a tensor of whole blocks are in the whole tensor."""
    block = position >> 2
    if BOXED:
        block = in_whole(block, first, cols, pitch)
    else:
        block += first
    return (block << 2) | (position & 3)


@triton.jit
def fill_tiles(
    out, recipe, key, first, n, turn, turns, cols, pitch,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, TILE: tl.constexpr,
    BOXED: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Tiles turn, turn + turns, ... of a contiguous tensor of n elements, whose first is the first of block `first`.

    BOXED: rows of `cols` blocks, `pitch` blocks from one to the next in the whole tensor. A thread makes 16 bytes of consecutive
    elements at once, so bfloat16 blocks come in pairs; the end, less than 16 bytes, is filled by one program.
    """
    TYPE: tl.constexpr = out.dtype.element_ty
    BITS: tl.constexpr = recipe.dtype.element_ty.primitive_bitwidth
    GROUP: tl.constexpr = 1 if TYPE.primitive_bitwidth >= 32 else 32 // TYPE.primitive_bitwidth  # blocks side by side
    STRANDS: tl.constexpr = TILE // (4 * GROUP)  # of 16 bytes, or of a float64 block's 32
    c, rows = numbers_of(recipe), table_rows(recipe, KIND, CELLS, TERMS)
    aligned, tiles, last = tiles_of(n, GROUP, TILE)
    for tile in tl.range(turn, tiles, turns):
        at = tl.full([], TILE, tl.int64) * tile
        start = first + at // 4
        v = ()
        for member in tl.static_range(GROUP):
            local = numbered(STRANDS) * GROUP + member
            words = words_in_tile(at, start, local, key, first, cols, pitch, BITS, BOXED, PTX)
            for i in tl.static_range(4):
                v = v + (encoded(values(words[i], recipe, c, rows, KIND, CELLS, TERMS, PTX), TYPE, FORMAT, PTX),)
        local = tl.arange(0, TILE)
        inside = local < tl.where(tile == tiles - 1, last, TILE)
        tl.store(out + at + local, side_by_side(v, GROUP).reshape([TILE]), mask=inside)
    if (turn == 0) & (aligned < n):
        position = aligned + numbered(32).to(tl.int64)
        word = word_at(index_at(position, first, cols, pitch, BOXED), key, BITS, PTX)
        v = encoded(values(word, recipe, c, rows, KIND, CELLS, TERMS, PTX), TYPE, FORMAT, PTX)
        tl.store(out + position, v, mask=position < n)


@triton.jit
def entry_of(program, entries, count, steps, LONG: tl.constexpr, PLACE: tl.constexpr):
    """The last entry, of LONG numbers, whose first program, at PLACE in it, is at or before this one."""
    low, high = tl.full([], 0, tl.int32), count
    for _ in tl.range(0, steps):
        middle = (low + high) // 2
        after = tl.load(entries + middle * LONG + PLACE) > program
        low, high = tl.where(after, low, middle), tl.where(after, middle, high)
    return entries + low * LONG


# Specialized are out and recipe alone, to their alignment, which is always 16 bytes or more and which the compiler must know.
@triton.jit(do_not_specialize=["key", "first", "n", "cols", "pitch"])
def fill_blocks(
    out, recipe, key: tl.uint64, first: tl.int64, n: tl.int64, cols: tl.int64, pitch: tl.int64,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, TILE: tl.constexpr,
    BOXED: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """A contiguous tensor, or box of rows of whole blocks."""
    turn, turns = tl.program_id(0), tl.num_programs(0)
    fill_tiles(out, recipe, key, first, n, turn, turns, cols, pitch, KIND, CELLS, TERMS, FORMAT, TILE, BOXED, PTX)


@triton.jit(do_not_specialize=["entries", "count", "steps", "example"])
def fill_list(
    entries, count: tl.int32, steps: tl.int32, example,
    KINDS: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, TILE: tl.constexpr,
    REAL: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """A list's tensors, of one dtype. `example` is any of them: it tells the dtype.

    An entry: out, recipe, key, first block, elements, first program, programs, number of its variant, as 64 bits each. Entries
    are in the order of their first programs. KINDS, CELLS and TERMS are tuples, of the variants that occur (Triton 3.6 cannot
    take one of tuples).
    """
    program = tl.program_id(0).to(tl.int64)
    entry = entry_of(program, entries, count, steps, 8, 5)
    out = tl.multiple_of(tl.load(entry).to(tl.pointer_type(example.dtype.element_ty)), 16)
    recipe = tl.multiple_of(tl.load(entry + 1).to(tl.pointer_type(REAL)), 16)
    key, first, n = tl.load(entry + 2).to(tl.uint64, bitcast=True), tl.load(entry + 3), tl.load(entry + 4)
    turn, turns = (program - tl.load(entry + 5)).to(tl.int32), tl.load(entry + 6).to(tl.int32)
    variant = tl.load(entry + 7)
    for i in tl.static_range(len(KINDS)):
        if variant == i:
            KIND: tl.constexpr = KINDS[i]
            HALF: tl.constexpr = CELLS[i]
            LENGTH: tl.constexpr = TERMS[i]
            fill_tiles(out, recipe, key, first, n, turn, turns, first, first, KIND, HALF, LENGTH, FORMAT, TILE, False, PTX)


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
    """Split an axis off `rest`, what is left of the position, and add its share to the local index and to the place in memory.

    An axis of size 0 does not exist.
    """
    if size > 0:
        rest, at = divided(rest, size, narrow)
        local += at * step
        place += at * stride
    return rest, local, place


@triton.jit
def placed(
    position, size0, step0, stride0, size1, step1, stride1, size2, step2, stride2, last_step, last_stride, narrow,
):  # fmt: skip
    """Each position's local index and place in memory: fill_elements says what the axes are."""
    rest, local, place = position, position * 0, position * 0
    rest, local, place = with_axis(rest, local, place, size0, step0, stride0, narrow)
    rest, local, place = with_axis(rest, local, place, size1, step1, stride1, narrow)
    rest, local, place = with_axis(rest, local, place, size2, step2, stride2, narrow)
    local += rest * last_step
    place += rest * last_stride
    return local, place


@triton.jit
def index_of(local, start, cols, pitch, narrow):
    """Where local elements are in the whole tensor."""
    index = start + local
    if cols > 0:
        row, column = divided(local, cols, narrow)
        index = start + row * pitch + column
    return index


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
    c, rows = numbers_of(recipe), table_rows(recipe, KIND, CELLS, TERMS)
    position = tl.program_id(0).to(tl.int64) * SIZE + numbered(SIZE).to(tl.int64)
    inside, narrow = position < n, n <= 0x7FFFFFFF
    local, place = placed(
        position, size0, step0, stride0, size1, step1, stride1, size2, step2, stride2, last_step, last_stride, narrow
    )
    word = word_at(index_of(local, start, cols, pitch, narrow), key, BITS, PTX)
    v = encoded(values(word, recipe, c, rows, KIND, CELLS, TERMS, PTX), out.dtype.element_ty, FORMAT, PTX)
    tl.store(out + tl.ravel(place), tl.ravel(v), mask=tl.ravel(inside))  # flat, for Triton 3.6, as coefficients are


@triton.jit(do_not_specialize=["words", "out", "recipe", "n"])
def transform_words(
    words, out, recipe, n: tl.int64,
    KIND: tl.constexpr, CELLS: tl.constexpr, TERMS: tl.constexpr, FORMAT: tl.constexpr, SIZE: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """The values of n given words."""
    BITS: tl.constexpr = recipe.dtype.element_ty.primitive_bitwidth
    UNSIGNED: tl.constexpr = tl.uint64 if BITS == 64 else tl.uint32
    c, rows = numbers_of(recipe), table_rows(recipe, KIND, CELLS, TERMS)
    position = tl.program_id(0).to(tl.int64) * SIZE + numbered(SIZE).to(tl.int64)
    word = tl.load(words + position, mask=position < n, other=0).to(UNSIGNED, bitcast=True)
    v = encoded(values(word, recipe, c, rows, KIND, CELLS, TERMS, PTX), out.dtype.element_ty, FORMAT, PTX)
    tl.store(out + position, v, mask=position < n)
