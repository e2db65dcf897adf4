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
