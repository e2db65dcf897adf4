"""Which elements of its storage a tensor holds: whether they overlap, and which of several tensors hold those of others.

A set of elements is a Python integer, a bit for each: exact for any strides, a byte for eight elements, and quick to compare.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether two indices of a tensor meet one address."""
    reach, axes = 0, sorted((stride, size) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1)
    apart = True  # each axis steps over all that the axes before it reach
    for stride, size in axes:
        apart = apart and stride > reach
        reach += (size - 1) * stride
    if apart or not tensor.numel():
        return False
    if axes[0][0] == 0 or tensor.numel() > reach + 1:
        return True
    return _set_of([(size, stride) for stride, size in axes]).bit_count() < tensor.numel()


def shares_part(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors share memory, but are not the same elements in the same places."""
    if not (one.numel() and other.numel()) or (one.data_ptr() == other.data_ptr() and _same_place(one, other)):
        return False
    unit = min(one.element_size(), other.element_size())
    offset, rest = divmod(other.data_ptr() - one.data_ptr(), unit)
    here, there = _axes_of(one, unit), _axes_of(other, unit)
    reach = [sum((n - 1) * stride for n, stride in axes) for axes in (here, there)]
    if offset > reach[0] or offset + reach[1] + (rest > 0) < 0:
        return False
    bits = _set_of(here) << max(-offset, 0) & _set_of(there) << max(offset, 0)
    return bool(rest or bits)  # elements that are not aligned to each other are taken to meet


def _axes_of(tensor: Tensor, unit: int) -> list[tuple[int, int]]:
    """A tensor's axes, and that of the parts of an element, in units of so many bytes."""
    parts = tensor.element_size() // unit
    return [(parts, 1), *((n, stride * parts) for n, stride in zip(tensor.shape, tensor.stride(), strict=True))]


def real_views(tensor: Tensor) -> tuple[Tensor, ...]:
    """A plain complex tensor's real and imaginary parts, any other tensor itself: where torch's own operations write constants.

    Whole numbers of complex128 they write by instructions that end the process where memory is not aligned to 16 bytes.
    """
    whole = not tensor.is_complex() or type(tensor) not in (Tensor, torch.nn.Parameter) or torch.compiler.is_compiling()
    return (tensor,) if whole else (tensor.real, tensor.imag)


def memory_of(tensor: Tensor, count: int) -> bytes | None:
    """The first elements of a tensor on the CPU, as they lie in its memory, which must be there: a microsecond, a third of what
    torch takes. None: it is not on the CPU, or has gaps."""
    if not tensor.is_cpu or not tensor.is_contiguous():
        return None
    return ctypes.string_at(tensor.data_ptr(), min(count, tensor.numel()) * tensor.element_size())


def starts_of(tensors: Iterable[Tensor], count: int) -> bytes:
    """The first elements, as many of each, of tensors of one dtype that lie alone, one after the other."""
    return b"".join([ctypes.string_at(tensor.data_ptr(), count * tensor.itemsize) for tensor in tensors])


def lies_alone(tensor: Tensor) -> bool:
    """Whether a strided tensor of torch's own kinds is on the CPU, in a storage of its size, without gaps: as nearly all are."""
    return (
        tensor.is_cpu
        and tensor.untyped_storage().nbytes() == tensor.nbytes
        and not tensor.storage_offset()
        and tensor.is_contiguous()
    )


def check_memory(tensor: Tensor) -> None:
    """Raise ValueError for a tensor whose memory is smaller than its elements: a write could end the process."""
    try:
        held = tensor.untyped_storage().nbytes()
    except RuntimeError:  # a wrapper's, or a device's that has no storages: others write it
        return
    if held == tensor.nbytes and not tensor.storage_offset():  # nearly always: 0.3 us of a small tensor's 12
        return
    plain = tensor.is_contiguous()  # a third of the time
    needed = (tensor.storage_offset() + tensor.numel()) * tensor.itemsize if plain else _span_of(tensor).stop
    if held < needed and tensor.numel():
        raise ValueError(
            f"the tensor's memory is not there: its elements (shape {tuple(tensor.shape)}) take {needed} bytes of a storage of "
            f"{held}, as while FSDP or offloading has freed it, or after untyped_storage().resize_(). Gather it, or give it its "
            "memory back, first."
        )


def _set_of(axes: Sequence[tuple[int, int]]) -> int:
    """The addresses that axes of (size, stride) reach from 0."""
    found = 1
    for size, stride in axes:
        done = 1
        while done < size:  # found reaches `done` steps; shifted by at most so many, it leaves no gap
            more = min(done, size - done)
            found |= found << more * stride
            done += more
    return found


def _span_of(tensor: Tensor) -> range:
    """The bytes of its storage between a tensor's first and last."""
    size = tensor.element_size()
    first = tensor.storage_offset() * size
    reach = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)) if tensor.numel() else -1
    return range(first, first + (reach + 1) * size)


def holders_of(tensors: Sequence[Tensor]) -> list[int]:
    """For each of several tensors of one storage the number of the one that holds its elements: its own, if no other does.

    Of two that hold the same, it is the earlier one.

    Raises:
        PartlyShared: two share elements, and neither holds all of the other's.
    """
    spans, sets = [_span_of(tensor) for tensor in tensors], _Sets(tensors)
    sizes = [min(tensor.numel() * tensor.element_size(), len(span)) for tensor, span in zip(tensors, spans, strict=True)]
    found = list(range(len(tensors)))
    holders: list[int] = []
    for number in sorted(found, key=lambda n: (-sizes[n], n)):
        near = [h for h in holders if spans[h].start < spans[number].stop and spans[number].start < spans[h].stop]
        for h in near:
            inside = spans[h].start <= spans[number].start and spans[number].stop <= spans[h].stop
            if inside and (sizes[h] == len(spans[h]) or _same_place(tensors[h], tensors[number])):
                found[number] = h  # in one that has no gaps
                break
        else:
            if near and sets.meets(number, holders):
                found[number] = sets.holder(number, near)
            else:
                holders.append(number)
    return found


def _same_place(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)


class PartlyShared(Exception):
    """Two tensors, by number, share a part of their memory."""


class _Sets:
    """The elements of tensors as sets, made when first needed: of most storages never."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.unit = min((tensor.element_size() for tensor in tensors), default=1)  # bytes of one bit
        self.seen, self.union = 0, 0  # of so many holders

    def of(self, number: int) -> int:
        tensor = self.tensors[number]
        if not tensor.numel():
            return 0
        return _set_of(_axes_of(tensor, self.unit)) << int(tensor.storage_offset()) * (tensor.element_size() // self.unit)

    def meets(self, number: int, holders: list[int]) -> bool:
        """Whether a tensor has elements that a holder has."""
        for holder in holders[self.seen :]:
            self.union |= self.of(holder)
        self.seen = len(holders)
        return bool(self.union & self.of(number))

    def holder(self, number: int, holders: list[int]) -> int:
        """The holder of all its elements."""
        own = self.of(number)
        for holder in holders:
            common = own & self.of(holder)
            if common == own:
                return holder
            if common:
                raise PartlyShared(holder, number)
        raise AssertionError("some holder has an element of it")
