"""A plan: everything a backend needs to fill one tensor, or one rectangle of a larger tensor's indices."""

from __future__ import annotations

import functools
from typing import NamedTuple

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
