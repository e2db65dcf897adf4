"""What a tensor holds before it is filled: one constant, mostly one, or varied values."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Container, Iterable
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from fastinit._core.check import PLAIN
from fastinit._core.memory import check_memory, lies_alone, memory_of, starts_of
from fastinit._core.modes import safe_torch
from fastinit._core.plan import is_staged
from fastinit._torch import without_dispatch_modes

_FIRST, _SOME = 4, 4096  # elements that are looked at
_SMALL = 65536  # bytes that are compared as they are


def is_vector(shape: torch.Size) -> bool:
    """Whether at most one dimension is above 1: such a parameter is no matrix, whatever its number of dimensions."""
    return sum(size > 1 for size in shape) <= 1


def first_values(tensors: Iterable[Tensor], alone: Container[int] = ()) -> tuple[dict[int, list[float]], set[int]]:
    """The first elements in memory of each tensor of floats that has some, by its id; and the ids of those of several elements
    where they are numbers and all differ, as drawn ones do nearly always.

    Args:
        tensors: any.
        alone: the ids of plain ones of which it is known that they lie alone.
    """
    found: dict[int, list[float]] = {}
    varied: set[int] = set()
    near: dict[Any, list[Tensor]] = defaultdict(list)  # by dtype, and by how many elements are read
    others: dict[Any, list[tuple[int, Tensor]]] = defaultdict(list)  # likewise, and by device
    with safe_torch(without_dispatch_modes()), torch.no_grad():
        for tensor in tensors:
            if id(tensor) in alone or (type(tensor) in PLAIN and tensor.layout is torch.strided and lies_alone(tensor)):
                near[tensor.dtype, min(tensor.numel(), _FIRST)].append(tensor)
            elif _is_readable(tensor):
                first = here(_row(tensor)[:_FIRST])
                others[first.device, first.dtype, len(first)].append((id(tensor), first))
        read = [([*map(id, same)], _starts(same, *kind)) for kind, same in near.items() if kind[0].is_floating_point and kind[1]]
        read += [([number for number, _ in same], torch.stack([first for _, first in same])) for same in others.values()]
        for numbers, first in read:
            values = first if first.dtype is torch.float64 else first.float()
            found |= zip(numbers, values.tolist(), strict=True)
            if values.shape[1] > 1:
                ordered = values.sort(1).values
                differ = (ordered[:, 1:] != ordered[:, :-1]).all(1) & values.isfinite().all(1)
                varied |= {*compress(numbers, differ.tolist())}
    return found, varied


def _starts(tensors: list[Tensor], dtype: torch.dtype, count: int) -> Tensor:
    """The first elements of tensors that lie alone, a row for each."""
    return torch.frombuffer(bytearray(starts_of(tensors, count)), dtype=dtype).view(-1, count)


def common_value(tensor: Tensor) -> float | None:
    """The value that all elements of a tensor of floats have, or at least half of sixteen or more; 0 and 1 of four or more, as in
    a Dirac kernel.

    None: there is no such value, or it is not finite, or the tensor has no memory. A single element is a draw as well as a
    constant, unless it is 0 or 1. Of large tensors some elements are looked at.
    """
    if not _is_readable(tensor):
        return None
    with safe_torch(without_dispatch_modes()), torch.no_grad():
        some = _some(tensor)
        value, share = float(some[0]), 1.0
        if not bool((some == some[0]).all()):
            values, counts = some.unique(return_counts=True)
            value, share = float(values[counts.argmax()]), int(counts.max()) / some.numel()
            enough = 4 if value in (0.0, 1.0) else 16  # of a few drawn values of 8 or 16 bits, half may well be equal
            share = share if some.numel() >= enough else 0.0
    alone = tensor.numel() == 1 and value not in (0.0, 1.0)
    return value if share >= 0.5 and math.isfinite(value) and not alone else None


def constant_value(tensor: Tensor) -> float | None:
    """The value that all elements have; None as above."""
    value = common_value(tensor)
    return value if value is not None and are_all(tensor, value) else None


def are_all(tensor: Tensor, value: float) -> bool:
    """Whether all elements of a tensor are a value."""
    memory = memory_of(tensor, tensor.numel()) if tensor.nbytes <= _SMALL else None
    if memory is not None and memory == _pattern(value, tensor.dtype) * tensor.numel():
        return True
    with safe_torch(without_dispatch_modes()), torch.no_grad():
        return bool((here(tensor).float() == value).all())


@functools.lru_cache(64)
def _pattern(value: float, dtype: torch.dtype) -> bytes:
    """The bytes of an element."""
    return memory_of(torch.full((1,), value, dtype=dtype, device="cpu"), 1) or b""


def is_varied(tensor: Tensor) -> bool:
    """Whether a tensor has several elements, all numbers, and values that no constant explains."""
    if not _is_readable(tensor) or tensor.numel() < 2:
        return False
    return id(tensor) in first_values([tensor])[1] or (common_value(tensor) is None and bool(here(tensor).isfinite().all()))


def _is_readable(tensor: Tensor) -> bool:
    """Whether the elements are here, and all of them. Not of DTensors: ranks that hold other parts could decide otherwise."""
    if type(tensor) not in PLAIN or tensor.is_meta or tensor.layout is not torch.strided or not tensor.is_floating_point():
        return False
    try:
        check_memory(tensor)
    except ValueError:
        return False
    return tensor.numel() > 0


def here(tensor: Tensor) -> Tensor:
    """A tensor where torch has all operations: on the CPU, if its device may lack some."""
    return tensor.detach().cpu() if is_staged(tensor.device.type) else tensor.detach()


def _row(tensor: Tensor) -> Tensor:
    """The first elements of a tensor with gaps, without a copy of the whole."""
    while not tensor.is_contiguous() and tensor.ndim > 1:
        tensor = tensor[0]
    return tensor.flatten()


def _some(tensor: Tensor) -> Tensor:
    """Elements of a tensor, evenly spaced if it has more than some thousands: floats on the CPU."""
    every = -(-tensor.numel() // _SOME)
    return here(tensor).flatten()[::every].cpu().float()
