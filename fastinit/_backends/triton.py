"""The Triton backend: one in-place pass on CUDA, ROCm and XPU devices, without a build. This is its host; beside it are the
kernels (triton_kernels.py), what they compute (triton_values.py), and blends, host and kernels. No other files import triton.

A recipe's constants and table are one small buffer on the device, uploaded once a stream, so that a launch takes few arguments
and nothing but what decides the code (variant and dtype) decides what is compiled.
"""

from __future__ import annotations

import functools
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from fastinit._backends.triton_kernels import fill_blocks, fill_elements, fill_list, transform_words
from fastinit._backends.triton_values import LANES, NUMBERS
from fastinit._core import recipes
from fastinit._core.modes import ieee_arithmetic, safe_torch
from fastinit._core.plan import Blending, Plan
from fastinit._core.recipes import Recipe
from fastinit._core.rounding import INTEGERS
from fastinit._core.tables import MANTISSA

NAME = "triton"
FLOAT8 = {torch.float8_e4m3fn: 1, torch.float8_e5m2: 2}  # FORMAT of what Triton cannot convert to everywhere; 0: the rest
_FUSED_FMA = (3, 9)  # since then the interpreter's tl.fma rounds once
_INTERPRETED = not isinstance(fill_blocks, triton.JITFunction)  # TRITON_INTERPRET=1 when this module was imported
WARPS = 4
OPTIONS: dict[str, Any] = {} if _INTERPRETED else {"num_warps": WARPS, "enable_fp_fusion": False}
TILE = {torch.float32: 4096, torch.float64: 1024}  # elements a program and turn: 32 a thread; of float64 8, or they spill
SMALL = 1024  # elements a program of fill_elements
DIMS = 4  # axes that fill_elements takes
_PROGRAMS_A_PROCESSOR = 64  # turns of a few tiles: even loads without knowing how many programs run at once
TILES_A_PROGRAM = 8  # of a list: the search of its entry costs a program about as much as a tile
_ENTRY = struct.Struct("<QQQqqqqq")  # of a list, as fill_list reads it
_CACHED = 1024  # recipes' buffers on devices
_buffers: OrderedDict[tuple[Recipe, torch.device, int], torch.Tensor] = OrderedDict()
_captured: dict[int, torch.Tensor] = {}  # a CUDA graph may be replayed at any time: what it reads lives as long as the process
_KINDS = {
    recipes.UNIFORM: "uniform",  # "uniform from a bound", where there is a flip
    recipes.SYMMETRIC: "symmetric",
    recipes.TWO_SIDED: "two-sided",
    recipes.FMOD: "fmod",
    recipes.WORDS: "words",
}
_Axis = tuple[int, ...]  # size, step of the logical index, stride in memory, and in that of each other tensor
Blocks = tuple[int, int, int, int]  # the first, the elements, blocks a row, blocks from row to row


class Variant(NamedTuple):
    """What of a recipe decides the code of the map: its kind, split by the flip, and the size of its table."""

    kind: str
    cells: int
    terms: int


@functools.cache
def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot fill tensors on the device; None where it can."""
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if device.type == "cpu":
        if not _INTERPRETED:
            return "it fills CUDA, ROCm and XPU tensors (CPU tensors under TRITON_INTERPRET=1, for tests)"
        if version < _FUSED_FMA:
            return f"the interpreter of Triton {triton.__version__} rounds a fused multiply-add twice: 3.9 or newer does not"
        return None
    if device.type not in ("cuda", "xpu"):
        return "it fills CUDA, ROCm and XPU tensors"
    if not torch.get_device_module(device).is_available():
        return f"there is no {device.type} device here"
    if _INTERPRETED:
        return "TRITON_INTERPRET=1 is set, and the interpreter takes CPU tensors"
    if version < (3, 6):
        return f"it needs Triton 3.6 or newer, this is {triton.__version__}"
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return f"Triton needs compute capability 8.0, this device has {torch.cuda.get_device_capability(device)}"
    return None


# --- fills ----------------------------------------------------------------------------------------------------------------------


def fill(plans: list[Plan]) -> None:
    """Fill the tensors of all plans, which are on one device, in the order of its current stream, without waiting for it.

    A list takes one launch for each dtype, and one more for each tensor that is not made of whole, aligned blocks. While a stream
    is captured each tensor takes one: the memory that a list travels in would have to live as long as the graph.
    """
    if len(plans) < 2 or is_capturing(plans[0].out.device):
        for plan in plans:
            _fill_one(plan)
        return
    lists: dict[torch.dtype, list[tuple[Plan, Blocks]]] = {}
    for plan in plans:
        blocks = blocks_of(plan)
        if blocks is None or plan.box.rows > 1:
            _fill_one(plan)
        elif plan.out.numel():
            lists.setdefault(plan.out.dtype, []).append((plan, blocks))
    for together in lists.values():
        if len(together) == 1:
            _fill_one(together[0][0])
        else:
            with current(plans[0].out.device):
                _fill_together(together)


def blend(blendings: list[Blending]) -> None:
    """Blend into the tensors of all blendings, likewise. Raises RuntimeError where the stream is being captured."""
    from fastinit._backends import triton_blend  # it launches with what this module has

    triton_blend.blend(blendings)


def _fill_one(plan: Plan) -> None:
    """Fill the plan's tensor by one launch; a layout of more than four axes by way of a contiguous copy."""
    out, recipe, key, box = plan
    total = out.numel()
    if not total:
        return
    with current(out.device):
        buffer, pointer, code = uploaded(recipe, out.device), integer_view(out), code_of(recipe, out.device)
        blocks = blocks_of(plan)
        if blocks is not None:
            tile = TILE[recipe.real]
            grid = min(-(-total // tile), _PROGRAMS_A_PROCESSOR * _processors(out.device))
            fill_blocks[(grid,)](pointer, buffer, key, *blocks, **code, TILE=tile, BOXED=box.rows > 1, **OPTIONS)
            return
        axes = axes_of(out)
        if len(axes) > DIMS:
            copy = torch.empty(out.shape, dtype=out.dtype, device=out.device)
            _fill_one(plan._replace(out=copy))
            out.copy_(copy)
            return
        place = (box.start, box.cols if box.rows > 1 else 0, box.pitch)
        fill_elements[(-(-total // SMALL),)](
            pointer, buffer, key, total, *place, *axis_arguments(axes), **code, SIZE=SMALL, **OPTIONS
        )


def _fill_together(together: list[tuple[Plan, Blocks]]) -> None:
    """Fill tensors of one dtype by one launch: their entries and recipes travel in one copy from pinned memory."""
    (first, _), *_ = together
    out, real, device = first.out, first.recipe.real, first.out.device
    data = {plan.recipe: _packed(plan.recipe).view(torch.uint8) for plan, _ in together}
    places, size = {}, _in_lines(len(together) * _ENTRY.size)
    for recipe, part in data.items():
        places[recipe], size = size, size + _in_lines(len(part))
    on_host, sent = memory_to_send(size, device)
    addresses = {recipe: sent.data_ptr() + place for recipe, place in places.items()}
    variants = sorted({variant_of(recipe) for recipe in data})
    entries, programs = _entries_of(together, addresses, variants)
    on_host[: len(entries)] = torch.frombuffer(entries, dtype=torch.uint8)
    for recipe, part in data.items():
        on_host[places[recipe] : places[recipe] + len(part)] = part
    if sent is not on_host:
        sent.copy_(on_host, non_blocking=True)
    numbers = (sent.view(torch.int64), len(together), (len(together) - 1).bit_length(), integer_view(out))
    kinds_cells_terms = zip(*variants, strict=True)
    code = {"FORMAT": FLOAT8.get(out.dtype, 0), "TILE": TILE[real], "PTX": is_ptx(device)}
    code["REAL"] = tl.float64 if real is torch.float64 else tl.float32
    fill_list[(programs,)](*numbers, *kinds_cells_terms, **code, **OPTIONS)


def _entries_of(
    together: list[tuple[Plan, Blocks]], addresses: dict[Recipe, int], variants: list[Variant]
) -> tuple[bytearray, int]:
    """What fill_list reads of each tensor, and the programs that fill all."""
    entries, programs = bytearray(), 0
    for (out, recipe, key, _), (first, total, *_) in together:
        count = -(-total // (TILE[recipe.real] * TILES_A_PROGRAM))
        variant = variants.index(variant_of(recipe))
        entries += _ENTRY.pack(out.data_ptr(), addresses[recipe], key, first, total, programs, count, variant)
        programs += count
    return entries, programs


def memory_to_send(size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """So many bytes from which a device can copy without waiting, and as many on it. On the CPU they are the same."""
    on_host = torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=device.type != "cpu")
    return on_host, on_host if device.type == "cpu" else torch.empty(size, dtype=torch.uint8, device=device)


def _in_lines(size: int) -> int:
    """Bytes rounded up, so that what follows them begins as aligned as memory that is allocated."""
    return -(-size // 256) * 256


def transform(recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
    """The values that a recipe gives to words (int64 for 8-byte dtypes, else int32), on the words' device."""
    words, out = words.contiguous(), torch.empty(words.shape, dtype=recipe.dtype, device=words.device)
    if words.itemsize != (8 if recipe.dtype.itemsize == 8 else 4):
        raise TypeError(f"words of {words.dtype} do not go with {recipe.dtype}: int64 for 8-byte dtypes, else int32.")
    if words.numel():
        with current(out.device):
            arguments = (words, integer_view(out), uploaded(recipe, out.device), words.numel())
            transform_words[(-(-words.numel() // SMALL),)](*arguments, **code_of(recipe, out.device), SIZE=SMALL, **OPTIONS)
    return out


# --- what a launch takes --------------------------------------------------------------------------------------------------------


def blocks_of(plan: Plan | Blending) -> Blocks | None:
    """The plan in blocks; None where it is not made of whole ones."""
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


def axes_of(out: torch.Tensor, *others: torch.Tensor) -> list[_Axis]:
    """The tensor's axes of more than one element, the least stride first; those that continue one another are one.

    Other tensors have its shape, and axes continue one another in all of them.
    """
    step, axes = 1, []
    for size, *strides in zip(reversed(out.shape), *(reversed(tensor.stride()) for tensor in (out, *others)), strict=True):
        if size > 1:
            axes.append((size, step, *strides))
        step *= size
    joined: list[_Axis] = []
    for size, *steps in sorted(axes, key=lambda axis: axis[2]):
        if joined and steps == [step * joined[-1][0] for step in joined[-1][1:]]:
            joined[-1] = (joined[-1][0] * size, *joined[-1][1:])
        else:
            joined.append((size, *steps))
    return joined or [(1,) * (3 + len(others))]


def axis_arguments(axes: Sequence[_Axis]) -> Iterable[int]:
    """Those of fill_elements: three axes with their sizes, 0 where there is none, and the last without."""
    *inner, last = axes
    padded = [*inner, *[(0,) * len(last)] * (DIMS - 1 - len(inner))]
    return *(number for axis in padded for number in axis), *last[1:]


def variant_of(recipe: Recipe) -> Variant:
    """The variant of a recipe."""
    kind = "uniform from a bound" if recipe.flip else _KINDS[recipe.kind]
    if recipe.table is None:
        return Variant(kind, 0, 0)
    _, terms, cells = recipe.table.shape
    return Variant(kind, cells, terms)


@functools.lru_cache(maxsize=_CACHED)
def code_of(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """The arguments that decide what is compiled."""
    kind, cells, terms = variant_of(recipe)
    return {"KIND": kind, "CELLS": cells, "TERMS": terms, "FORMAT": FLOAT8.get(recipe.dtype, 0), "PTX": is_ptx(device)}


def is_ptx(device: torch.device) -> bool:
    """Whether kernels for the device may have lines of PTX."""
    return device.type == "cuda" and torch.version.hip is None


def integer_view(out: torch.Tensor) -> torch.Tensor:
    """What a kernel sees of a tensor: float8 as bytes, words as signed ones."""
    return out if out.dtype.is_floating_point and out.dtype not in FLOAT8 else out.view(INTEGERS[out.itemsize])


# --- recipes on devices ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=_CACHED)
@ieee_arithmetic()
def _packed(recipe: Recipe) -> torch.Tensor:
    """The recipe's buffer, as triton_values.py describes it, in its real type."""
    real = recipe.real
    shift = MANTISSA[real] - recipe.top_bits
    given = [*recipe.constants, shift, (1 << shift) - 1]
    numbers = [number for value in given for number in (value if isinstance(value, tuple) else (value,))]
    codes = {float: "d", int: "Q"} if real is torch.float64 else {float: "f", int: "I"}
    data = bytearray(struct.pack("=" + "".join(codes[kind] for kind in NUMBERS.values()), *numbers))
    table = torch.empty(0, dtype=real, device="cpu") if recipe.table is None else recipe.table.transpose(0, 1).reshape(-1)
    buffer = torch.zeros(LANES.value + len(table), dtype=real, device="cpu")
    buffer.view(torch.uint8)[: len(data)] = torch.frombuffer(data, dtype=torch.uint8)
    buffer[LANES.value :] = table
    return buffer


def uploaded(recipe: Recipe, device: torch.device) -> torch.Tensor:
    """The recipe's buffer on the device, from now on; one for each stream, whose order makes it safe without waiting.

    Raises:
        RuntimeError: the stream is being captured and the buffer is not there yet.
    """
    if device.type == "cpu":
        return _packed(recipe)
    stream = triton.runtime.driver.active.get_current_stream(device.index)
    place, capturing = (recipe, device, stream), is_capturing(device)
    buffer = _buffers.get(place)
    if buffer is None and capturing:
        buffer = next((made for (known, where, _), made in _buffers.items() if known is recipe and where == device), None)
        if buffer is None:
            raise RuntimeError("a captured fill needs its constants on the device: fill once with this law before the capture.")
    if buffer is None:
        buffer = _packed(recipe).pin_memory().to(device, non_blocking=True)
        _buffers[place] = buffer
        if len(_buffers) > _CACHED:
            _buffers.popitem(last=False)
    if capturing:
        _captured[id(buffer)] = buffer
    return buffer


# --- devices --------------------------------------------------------------------------------------------------------------------


def is_capturing(device: torch.device) -> bool:
    """Whether the device's current stream is being captured into a CUDA graph."""
    if device.type != "cuda":
        return False
    with current(device):
        return torch.cuda.is_current_stream_capturing()


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make the device the current one, which Triton launches on, where it is not."""
    if device.type == "cpu":
        return safe_torch()
    module = torch.get_device_module(device)
    return nullcontext() if module.current_device() == device.index else module.device(device)


@functools.cache
def _processors(device: torch.device) -> int:
    """Streaming multiprocessors, compute units or subslices."""
    if device.type == "cpu":
        return 1
    properties = torch.get_device_module(device).get_device_properties(device)
    return int(getattr(properties, "multi_processor_count", 0) or getattr(properties, "gpu_subslice_count", 64))
