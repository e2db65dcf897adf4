"""A plan: everything a backend needs to fill one tensor, or one rectangle of a larger tensor's indices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import torch

from fastinit._core.recipes import Recipe


class Box(NamedTuple):
    """Which global elements the local tensor holds: local (r, c), row-major, is global start + r * pitch + c.

    Covers any shard along one axis, and the whole tensor (start 0, one row).
    """

    start: int
    rows: int
    cols: int
    pitch: int


class Plan(NamedTuple):
    """Fill `out`, in its logical (row-major) order, with the recipe's values of `key` at the box's indices."""

    out: torch.Tensor
    recipe: Recipe
    key: int  # 0 <= key < 2^64
    box: Box


plan_of: Callable[[tuple[torch.Tensor, Recipe, int, Box]], Plan] = functools.partial(tuple.__new__, Plan)  # in half of the time


class Blending(NamedTuple):
    """Make `out` keep * source + the sum of add[n] times the recipe's values of keys[n], in its logical order, in one pass.

    `source` is `out` itself, or a tensor of its shape, dtype and device that shares no memory with it.
    """

    out: torch.Tensor
    recipe: Recipe  # of the real type: float64 for a float64 tensor, else float32
    keys: tuple[int, ...]
    box: Box
    add: tuple[float, ...]  # numbers of the real type, as keep
    keep: float
    source: torch.Tensor


_Job = TypeVar("_Job", Plan, Blending)


def whole(tensor: torch.Tensor) -> Box:
    """The box of a tensor that is not a shard."""
    return row_of(tensor.numel())


@functools.lru_cache(maxsize=1024)  # a third of the time of making it
def row_of(elements: int) -> Box:
    return Box(0, 1, elements, elements)


def of_parts(plan: Plan) -> Plan:
    """The plan; of complex numbers that of their real and imaginary parts, two elements for each."""
    if plan.out.dtype is plan.recipe.dtype:
        return plan
    start, rows, cols, pitch = plan.box
    return plan._replace(out=torch.view_as_real(plan.out.detach()), box=Box(2 * start, rows, 2 * cols, 2 * pitch))


def is_staged(device_type: str) -> bool:
    """Whether tensors of a type of device are filled on the CPU and copied (unless Triton fills them): no kernel of this package
    writes their memory, and torch may lack operations or number types there."""
    return device_type not in ("cpu", "cuda", "meta")


def by_device(jobs: Iterable[_Job]) -> dict[torch.device, list[_Job]]:
    """Plans or blendings, in order, of each device."""
    devices: dict[torch.device, list[_Job]] = {}
    jobs = list(jobs)
    if len(only := {job.out.device for job in jobs}) == 1:  # mostly
        return {only.pop(): jobs}
    for job in jobs:
        devices.setdefault(job.out.device, []).append(job)
    return devices


# --- in pieces ----------------------------------------------------------------------------------------------------------------


def batches(plans: Iterable[_Job], most: int) -> Iterator[list[_Job]]:
    """The plans or blendings, in order, in lists of at most so many elements each; a larger one is cut."""
    together: list[_Job] = []
    held = 0
    for plan in plans:
        elements = plan.box.rows * plan.box.cols
        for part in [plan] if elements <= most else _cut(plan, most):
            elements = part.box.rows * part.box.cols
            if held + elements > most and together:
                yield together
                together, held = [], 0
            together.append(part)
            held += elements
    if together:
        yield together


def _cut(plan: _Job, most: int) -> Iterator[_Job]:
    """Plans of at most so many elements that fill what a plan fills. Most begin at multiples of `most` in it."""
    box = plan.box
    tensors = [plan.out, plan.source] if isinstance(plan, Blending) else [plan.out]
    flat = all(tensor.is_contiguous() for tensor in tensors)
    bare = [tensor.detach() for tensor in tensors]  # a view of a leaf could not be written
    rows = [tensor.view(box.rows, box.cols) if flat else tensor for tensor in bare]
    for (out, first), *source in zip(*(_parts(each, 0, box, most) for each in rows), strict=True):
        cut = plan._replace(out=out, box=_box_of(box, first, out.numel()))
        yield cut._replace(source=source[0][0]) if isinstance(cut, Blending) else cut


def _parts(out: torch.Tensor, first: int, box: Box, most: int) -> Iterator[tuple[torch.Tensor, int]]:
    """Slices along the leading axes, each with the local index of its first element: so large that one box holds each."""
    row = out.numel() // out.shape[0]
    step = max(most // row, 1)
    for i in range(0, out.shape[0], step):
        part, at = out[i : i + step], first + i * row
        if part.numel() <= most and _is_box(box, at, part.numel()):
            yield part, at
        else:
            for number in range(len(part)):
                place = at + number * row
                yield from [(part[number], place)] if row == 1 else _parts(part[number], place, box, most)


def _is_box(box: Box, first: int, count: int) -> bool:
    """Whether local elements are whole rows of a box, or lie in one."""
    return first // box.cols == (first + count - 1) // box.cols or first % box.cols == count % box.cols == 0


def _box_of(box: Box, first: int, count: int) -> Box:
    """The box of local elements that are one."""
    row, column = divmod(first, box.cols)
    start = box.start + row * box.pitch + column
    return Box(start, count // box.cols, box.cols, box.pitch) if count > box.cols else Box(start, 1, count, count)
