"""The host of the Triton backend's blends: keep * old + the sum of add[n] times the values of key n, in one pass.

A launch for each dtype of a list, as fills have it; a list of one is no other. Where tensors lie and what their members are, keys
and coefficients, travels in one copy from pinned memory, so that their number decides nothing of what is compiled.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
import triton.language as tl

from fastinit._backends.triton import (
    DIMS,
    FLOAT8,
    OPTIONS,
    SMALL,
    TILE,
    TILES_A_PROGRAM,
    Blocks,
    Variant,
    axes_of,
    axis_arguments,
    blocks_of,
    code_of,
    current,
    integer_view,
    is_capturing,
    is_ptx,
    memory_to_send,
    uploaded,
    variant_of,
)
from fastinit._backends.triton_blend_kernels import blend_elements, blend_list
from fastinit._core.modes import ieee_arithmetic
from fastinit._core.plan import Blending
from fastinit._core.recipes import Recipe

_ENTRY = struct.Struct("<QQQqqqqqqqqq")  # of a list, as blend_list reads it
_Together = Sequence[tuple[Blending, Blocks]]


@ieee_arithmetic()  # for the coefficients
def blend(blendings: list[Blending]) -> None:
    """Blend into the tensors of all blendings, which are on one device, in the order of its current stream, without waiting."""
    blendings = [blending for blending in blendings if blending.out.numel()]
    if not blendings:
        return
    device = blendings[0].out.device
    if is_capturing(device):
        raise RuntimeError(
            "Triton's kernels cannot blend while a CUDA graph is captured: the keys travel in memory that would have to live as "
            "long as the graph. Blend outside of the capture."
        )
    lists: dict[tuple[torch.dtype, bool], list[tuple[Blending, Blocks]]] = {}
    with current(device):
        for blending in blendings:
            blocks = blocks_of(blending) and blocks_of(blending._replace(out=blending.source))
            if blocks is None:
                _blend_one(blending)
            else:
                lists.setdefault((blending.out.dtype, blending.box.rows > 1), []).append((blending, blocks))
        for (_, boxed), together in lists.items():
            _blend_together(together, boxed)


def _blend_together(together: _Together, boxed: bool) -> None:
    """Blend into tensors of one dtype by one launch."""
    out, real, device = together[0][0].out, together[0][0].recipe.real, together[0][0].out.device
    recipes = {blending.recipe: uploaded(blending.recipe, device) for blending, _ in together}  # alive until the launch
    variants = sorted({variant_of(recipe) for recipe in recipes})
    addresses = {recipe: buffer.data_ptr() for recipe, buffer in recipes.items()}
    data, programs = _entries_of(together, addresses, variants)
    numbers = (_sent(data, device), len(together), (len(together) - 1).bit_length(), integer_view(out))
    code = {"FORMAT": FLOAT8.get(out.dtype, 0), "TILE": TILE[real], "BOXED": boxed, "PTX": is_ptx(device)}
    code["REAL"] = tl.float64 if real is torch.float64 else tl.float32
    blend_list[(programs,)](*numbers, *zip(*variants, strict=True), **code, **OPTIONS)


def _entries_of(together: _Together, addresses: dict[Recipe, int], variants: list[Variant]) -> tuple[bytes, int]:
    """What blend_list reads of each tensor, behind all the members, and the programs that blend all."""
    entries, members, programs = bytearray(), bytearray(), 0
    for blending, (first, total, cols, pitch) in together:
        out, recipe, many = blending.out, blending.recipe, len(blending.keys)
        count = -(-total // (TILE[recipe.real] * max(TILES_A_PROGRAM // max(many, 1), 1)))
        place = (len(together) * _ENTRY.size + len(members)) // 8
        pointers = out.data_ptr(), blending.source.data_ptr(), addresses[recipe]
        blocks = first, total, cols, pitch, programs, count
        entries += _ENTRY.pack(*pointers, place, many, *blocks, variants.index(variant_of(recipe)))
        members += _members_of(blending)
        programs += count
    return bytes(entries + members), programs


def _members_of(blending: Blending) -> bytes:
    """64 bits each: keep and each add as a number of the real type, and the keys. keep is no -0, which would make a zero -0."""
    number, many = "d" if blending.recipe.real is torch.float64 else "f4x", len(blending.keys)
    return struct.pack(f"<{number * (1 + many)}{many}Q", blending.keep + 0.0, *blending.add, *blending.keys)


def _sent(data: bytes, device: torch.device) -> torch.Tensor:
    """The bytes on the device, as 64-bit integers."""
    on_host, sent = memory_to_send(len(data), device)
    on_host[:] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    if sent is not on_host:
        sent.copy_(on_host, non_blocking=True)
    return sent.view(torch.int64)


def _blend_one(blending: Blending) -> None:
    """Blend into a tensor of any layout; one of more than four axes by way of a contiguous copy of the source."""
    out, recipe, keys, box, _, _, source = blending
    axes, device = axes_of(out, source), out.device
    if len(axes) > DIMS:
        copy = source.clone(memory_format=torch.contiguous_format)
        blend([blending._replace(out=copy, source=copy)])
        out.copy_(copy)
        return
    tensors = integer_view(out), integer_view(source), uploaded(recipe, device), _sent(_members_of(blending), device)
    place = (box.start, box.cols if box.rows > 1 else 0, box.pitch)
    code = {**code_of(recipe, device), "FORMAT": FLOAT8.get(out.dtype, 0), "SIZE": SMALL}
    grid = (-(-out.numel() // SMALL),)
    blend_elements[grid](*tensors, len(keys), out.numel(), *place, *axis_arguments(axes), **code, **OPTIONS)
