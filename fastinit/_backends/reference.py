"""The reference backend: the value contract in plain torch, on any device. Every other backend is tested against it.

It works in chunks, so that its temporaries stay below a few MB. Its values are bit for bit those of the native backend: torch's
elementwise +, -, * and conversions round once, and the fused multiply-adds, which torch does not have, are emulated exactly (in
float64 as long as no product is subnormal).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch

from fastinit._backends.exact import Operand, fma, fma_of_any
from fastinit._core.modes import safe_torch
from fastinit._core.plan import Blending, Box, Plan
from fastinit._core.recipes import FMOD, SYMMETRIC, TWO_SIDED, UNIFORM, WORDS, Recipe
from fastinit._core.rounding import INTEGERS
from fastinit._core.tables import BIAS, MANTISSA, WORD_BITS

NAME = "reference"
# Elements at once. Temporaries of 1.5 MB fit into caches; and torch uses several threads from 2^15 elements on, also for the
# counters, which are a quarter of a chunk. 2^17 and 2^18 elements are 1.2 times slower.
CHUNK = 3 << 16
# Elements at once where numbers may be subnormal: so few that torch leaves them to this thread. Its other threads flush such
# numbers for good if they were started in flush mode.
_FEW = (1 << 15) - 8
# What no constant that is not 0 may be below, for no number to be subnormal where it matters. In float32 a fused multiply-add of
# an integer or a remainder, 2^-54 or more, by a constant is normal; one whose addend is not 0 cancels down to the last of its
# product's 48 bits, 2^-49 of the addend or more. A table's higher terms may be 2^-28 of that: where a sum of them is subnormal,
# the next one, 2^26 times as large, is what it would be without. float64's sums and products have errors 2^-106 below them, which
# are summed and multiplied in turn: its bound is far from both.
_LEAST = {torch.float32: 2.0**-72, torch.float64: 2.0**-512}
_LOW32 = 0xFFFFFFFF


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot fill tensors on the device; None where it can."""
    return "meta tensors hold no values" if device.type == "meta" else None


@safe_torch()
@torch.inference_mode()  # operations are dispatched faster
def fill(plans: list[Plan]) -> None:
    """Fill the tensors of all plans, which are on one device, in the order of its current stream, without waiting for it."""
    _keep_heap()
    for plan in plans:
        total = plan.out.numel()
        chunk = chunk_of(plan.recipe)
        for first in range(0, total, chunk):
            count = min(chunk, total - first)
            words = _words_of(plan, first, count)
            _write(plan.out, first, values(plan.recipe, words))


def blend(blendings: list[Blending]) -> None:
    """Blend into the tensors of all blendings, which are on one device, likewise."""
    for out, recipe, keys, box, add, keep, source in blendings:
        plans = [Plan(out, recipe, key, box) for key in keys]
        add_up(out, source, [functools.partial(_values_of, plan) for plan in plans], add, keep, recipe.real)


def _values_of(plan: Plan, first: int, count: int) -> torch.Tensor:
    return values(plan.recipe, _words_of(plan, first, count))


@safe_torch()
@torch.inference_mode()
def add_up(
    out: torch.Tensor,
    source: torch.Tensor,
    members: Sequence[Callable[[int, int], torch.Tensor]],
    add: Sequence[float],
    keep: float,
    real: torch.dtype,
) -> None:
    """Make `out` the sum of keep * source and of each member's values times its coefficient.

    A member gives the values of `count` elements from `first` on, in the real type. The source may be of another dtype.
    """
    for first in range(0, out.numel(), _FEW):  # what the tensors hold may be subnormal
        count = min(_FEW, out.numel() - first)
        acc = torch.zeros(count, dtype=real, device=out.device)
        if keep != 0:
            acc = _read(source, first, count).to(real) * keep
        for values_at, factor in zip(members, add, strict=True):
            acc = fma_of_any(values_at(first, count), factor, acc)
        _write(out, first, _rounded(acc, out.dtype))


def _rounded(acc: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Sums in a dtype, NaN as its number of all bits but the sign."""
    integer = INTEGERS[dtype.itemsize]
    if dtype is torch.float8_e4m3fn:  # some versions of torch make NaN of what overflows
        acc = acc.clamp(-448.0, 448.0)
    nan = torch.iinfo(torch.int8 if dtype.itemsize == 1 else integer).max
    return torch.where(acc.isnan(), nan, acc.to(dtype).view(integer)).view(dtype)


@functools.lru_cache(maxsize=1024)
def chunk_of(recipe: Recipe) -> int:
    """How many elements of a recipe are computed at once."""
    least, (*numbers, offset, scale, _) = _LEAST[recipe.real], recipe.constants
    table = torch.empty(1, 0, 1) if recipe.table is None else recipe.table.abs()
    firsts, others = table[:, :1].flatten().tolist(), table[:, 1:].flatten().tolist()
    near = any(0 < abs(x) < least for x in (*numbers, *offset, *scale, *firsts)) or any(0 < x < least * 2.0**-28 for x in others)
    return _FEW if near else CHUNK


@functools.cache
def _keep_heap() -> None:
    """Make glibc keep freed memory. It gives large blocks back to the kernel, and each page that it gets anew costs 2 us.

    Temporaries took a third of the time so. What counts as large becomes, for good, twice the largest block that was freed; any
    program that frees a large tensor has this effect.
    """
    torch.empty(1 << 24, dtype=torch.uint8, device="cpu")


@safe_torch()
def transform(recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
    """The values that a recipe gives to words (one in each int64 or int32; float64 recipes take 64-bit ones)."""
    return torch.cat([values(recipe, part) for part in words.split(chunk_of(recipe))])


def _words_of(plan: Plan, first: int, count: int) -> torch.Tensor:
    """Words of `count` local elements from `first` on: of stream 0, as int32, or of both streams, as int64."""
    high = _stream(plan, first, count, 0)
    if plan.recipe.real is torch.float32:
        return high
    return high.long() << 32 | _stream(plan, first, count, 1).long() & _LOW32


def _stream(plan: Plan, first: int, count: int, number: int) -> torch.Tensor:
    """The words that a stream has for `count` local elements from `first` on, as int32."""
    box, device = plan.box, plan.out.device
    if box.rows == 1:
        start = box.start + first
        block = torch.arange(start >> 2, (start + count + 3) >> 2, device=device)
        return philox(block, plan.key, number).flatten()[start & 3 :][:count]
    index = _element_index(box, torch.arange(first, first + count, device=device))
    return philox(index >> 2, plan.key, number).gather(1, (index & 3)[:, None])[:, 0]


def _element_index(box: Box, local: torch.Tensor) -> torch.Tensor:
    """Where local elements are in the whole tensor."""
    row = local // box.cols
    return box.start + row * box.pitch + (local - row * box.cols)


def philox(block: torch.Tensor, key: int, number: int) -> torch.Tensor:
    """Philox4x32-10 (Salmon et al. 2011): words [n, 4] of counters (block, stream number), as int32.

    The arithmetic is in int64, whose products wrap as unsigned ones do. c0 and c2 are kept to 32 bits; c1 and c3 may hold more.
    """
    c0, c1 = block & _LOW32, block >> 32
    c2, c3 = torch.full_like(block, number), torch.zeros_like(block)
    k0, k1 = key & _LOW32, key >> 32
    for _ in range(10):
        p0, p1 = c0.mul_(0xD2511F53), c2.mul_(0xCD9E8D57)
        c0 = c1.bitwise_xor_(p1 >> 32).bitwise_xor_(k0).bitwise_and_(_LOW32)
        c2 = c3.bitwise_xor_(p0 >> 32).bitwise_xor_(k1).bitwise_and_(_LOW32)
        c1, c3 = p1, p0
        k0, k1 = k0 + 0x9E3779B9 & _LOW32, k1 + 0xBB67AE85 & _LOW32
    words = torch.empty(len(block), 4, dtype=torch.int32, device=block.device)
    for i, c in enumerate((c0, c1, c2, c3)):
        words[:, i] = c  # the low 32 bits
    return words


def values(recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
    """Words to values of the recipe's dtype: the second half of the contract (recipes.py), line by line."""
    if recipe.kind == WORDS:
        return words.to(INTEGERS[recipe.dtype.itemsize]).view(recipe.dtype)
    bits, real = WORD_BITS[recipe.real], recipe.real
    s = words.to(INTEGERS[real.itemsize]) | 1
    if recipe.kind == UNIFORM:
        signed_flip = recipe.flip - (recipe.flip >> bits - 1 << bits)
        x = s if not recipe.flip else (s ^ signed_flip) >> 1 & (1 << bits - 1) - 1
        v = fma(x.to(real), recipe.slope, recipe.anchor, real)
    else:
        p = _polynomial(recipe, s)
        v = p if recipe.kind == TWO_SIDED else s.to(real)
        if recipe.kind == SYMMETRIC:
            v = fma(v, p, recipe.anchor, real)
        elif recipe.kind == FMOD:
            v = fma(_remainder(recipe, v * p), recipe.std, recipe.anchor, real)
    return _clamped(v, recipe.low, recipe.high).to(recipe.dtype)


def _clamped(v: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """low if v <= low else v, then high if v >= high else v."""
    if low and high:
        return v.clamp_(low, high)
    v = torch.where(v <= low, low, v)  # of a bound of 0 and a value of -0, torch does not say which one clamp() takes
    return torch.where(v >= high, high, v)


def _polynomial(recipe: Recipe, s: torch.Tensor) -> torch.Tensor:
    """The table's polynomial at each s, by Horner's rule."""
    assert recipe.table is not None
    real, bits, (halves, terms, cells) = recipe.real, WORD_BITS[recipe.real], recipe.table.shape
    half = (s >> bits - 1) + 1 if halves == 2 else None  # 0 where s < 0
    d = (s.abs() ^ (1 << bits - 1) - 1) + 1  # 2^(bits - 1) - |s|
    y = _position(recipe, d.to(real), half)
    low_bits = MANTISSA[real] - recipe.top_bits
    pattern = y.view(s.dtype)
    cell = pattern >> low_bits & cells - 1
    if half is not None:
        cell += half * cells
    one = BIAS[real] << MANTISSA[real]  # the bits of 1.0
    r = ((pattern & (1 << low_bits) - 1).bitwise_or_(one).view(real) - 1).double()
    rows = recipe.table.to(s.device, torch.float64).transpose(0, 1).reshape(terms, -1)  # [term, half and cell]
    p = rows[-1].index_select(0, cell).to(real)
    for row in reversed(rows[:-1]):
        p = fma(p, r, row.index_select(0, cell), real)
    return p


def _position(recipe: Recipe, d: torch.Tensor, half: torch.Tensor | None) -> torch.Tensor:
    """y = fma(d, scale, offset); where the table has two halves, with the constants of each element's half."""
    scale: Operand = recipe.scale[0]
    offset: Operand = recipe.offset[0]
    if half is not None:
        both = torch.tensor((recipe.scale, recipe.offset), dtype=torch.float64, device=d.device)
        scale, offset = both[0].index_select(0, half), both[1].index_select(0, half)
    if recipe.real is torch.float32:  # exact in float64 (see tables.mapping), so this rounds once
        return (d.double() * scale + offset).float()
    return fma(d, scale, offset, recipe.real)


def _remainder(recipe: Recipe, z: torch.Tensor) -> torch.Tensor:
    """fmod(z, cut), exactly: the quotient may be one off, its remainder is then corrected without rounding."""
    n = (z.abs() * recipe.inverse_cut).trunc()
    r = fma(-n, recipe.cut, z.abs(), recipe.real)
    r = torch.where(r < 0, r + recipe.cut, r)
    r = torch.where(r >= recipe.cut, r - recipe.cut, r)
    return torch.copysign(r, z)


def _write(out: torch.Tensor, first: int, values: torch.Tensor) -> None:
    """Store values at logical positions first, first + 1, ..., through integers: float8 has no indexing."""
    flat, places = _places_of(out, first, len(values))
    flat[places] = values.view(INTEGERS[out.itemsize])


def _read(source: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """What is at logical positions first, first + 1, ..."""
    flat, places = _places_of(source, first, count)
    return flat[places].view(source.dtype)


def _places_of(tensor: torch.Tensor, first: int, count: int) -> tuple[torch.Tensor, slice | torch.Tensor]:
    """A tensor's memory as integers, and where in it logical positions first, first + 1, ... are."""
    seen = tensor.view(INTEGERS[tensor.itemsize])
    if seen.is_contiguous():
        return seen.view(-1), slice(first, first + count)
    position = torch.arange(first, first + count, device=seen.device)
    offset = torch.zeros_like(position)
    for size, stride in zip(reversed(seen.shape), reversed(seen.stride()), strict=True):
        offset += position % size * stride
        position = position // size
    span = 1 + sum((size - 1) * stride for size, stride in zip(seen.shape, seen.stride(), strict=True))
    return seen.as_strided((span,), (1,)), offset
