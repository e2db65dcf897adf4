"""What a tensor holds before it is filled: one constant, mostly one, or varied values."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from fastinit._core.check import is_plain
from fastinit._core.memory import check_memory
from fastinit._core.modes import safe_torch
from fastinit._core.shard import is_dtensor
from fastinit._torch import FakeTensor, without_dispatch_modes

_FIRST, _SOME = 8, 4096  # elements that are looked at


def is_vector(shape: torch.Size) -> bool:
    """Whether at most one dimension is above 1: such a parameter is no matrix, whatever its number of dimensions."""
    return sum(size > 1 for size in shape) <= 1


def common_value(tensor: Tensor) -> float | None:
    """The value that all elements of a tensor of floats have, or at least half of four or more, as in a Dirac kernel.

    None: there is no such value, or it is not finite, or the tensor has no memory. A single element is a draw as well as a
    constant, unless it is 0 or 1. Of large tensors some elements are looked at.
    """
    local = _readable(tensor)
    if local is None or _begins_varied(local):
        return None
    with safe_torch(without_dispatch_modes()), torch.no_grad():
        some = _some(local)
        if _is_repeated(some):
            value, is_common = float(some[0]), True
        else:
            values, counts = some.float().unique(return_counts=True)
            value, is_common = float(values[counts.argmax()]), some.numel() >= 4 and 2 * int(counts.max()) >= some.numel()
    alone = local.numel() == 1 and value not in (0.0, 1.0)
    return value if is_common and math.isfinite(value) and not alone else None


def constant_value(tensor: Tensor) -> float | None:
    """The value that all elements have; None as above."""
    value, local = common_value(tensor), _readable(tensor)
    if value is None or local is None:
        return None
    with safe_torch(without_dispatch_modes()), torch.no_grad():
        if local.numel() <= _SOME and local.device.type == "cpu":
            return value if _is_repeated(_some(local)) else None
        return value if bool((local.float() == value).all()) else None


def is_varied(tensor: Tensor) -> bool:
    """Whether a tensor has several elements, and values that no constant explains."""
    local = _readable(tensor)
    return local is not None and local.numel() > 1 and common_value(tensor) is None


def _readable(tensor: Tensor) -> Tensor | None:
    """The elements that are here, if there are any."""
    if is_dtensor(tensor):  # ranks that hold other parts could come to other decisions
        return None
    if tensor.is_meta or isinstance(tensor, FakeTensor) or tensor.layout is not torch.strided or not is_plain(tensor):
        return None
    if not tensor.numel() or not tensor.is_floating_point():
        return None
    try:
        check_memory(tensor)
    except ValueError:
        return None
    return tensor.detach()


def _begins_varied(tensor: Tensor) -> bool:
    """Whether the first elements in memory all differ, as drawn ones do nearly always. It takes a microsecond on the CPU."""
    count = min(_FIRST, tensor.numel())
    if count < 2 or tensor.device.type != "cpu" or not tensor.is_contiguous():
        return False
    size = tensor.element_size()
    memory = ctypes.string_at(tensor.data_ptr(), count * size)
    return len({memory[start : start + size] for start in range(0, count * size, size)}) == count


def _some(tensor: Tensor) -> Tensor:
    """Elements of a tensor, evenly spaced if it has more than some thousands: on the CPU, one after the other."""
    every = -(-tensor.numel() // _SOME)
    return tensor.flatten()[::every].cpu().contiguous()


def _is_repeated(tensor: Tensor) -> bool:
    """Whether all elements of a vector have the bits of the first."""
    size = tensor.element_size()
    memory = ctypes.string_at(tensor.data_ptr(), tensor.numel() * size)
    return memory == memory[:size] * tensor.numel()
