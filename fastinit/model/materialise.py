"""New memory for parameters and buffers, and its way into the model: of meta tensors, and of those that change their device."""

from __future__ import annotations

import ctypes
import functools
import sys

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from fastinit.model.slots import Slot, local_of
from fastinit.shard import is_dtensor

HUGE = 1 << 21  # bytes of a huge page
MADV_HUGEPAGE = 14  # of Linux's mman.h


def fresh(tensor: Tensor, device: torch.device) -> Tensor:
    """Memory on a device for a tensor of the same kind, not written: a parameter with its attributes, a DTensor's shard."""
    new = torch.empty_like(tensor, device=device)
    if device.type == "cpu" and not isinstance(new, FakeTensor):
        prefer_huge_pages(local_of(new))
    if isinstance(tensor, nn.Parameter):
        new = nn.Parameter(new, requires_grad=tensor.requires_grad)
        for name, value in vars(tensor).items():
            vars(new).setdefault(name, value)
    return new


def prefer_huge_pages(tensor: Tensor) -> None:
    """Advises Linux to back fresh memory by pages of 2 MB: filled for the first time, most of the time goes into page faults.

    A first fill of 1 GB, truncated normal, two cores: 0.8 s instead of 1.4 s; any later one 0.4 s. Where the system gives
    such pages to all who ask or to nobody, it changes nothing.
    """
    first, end = (-(-tensor.data_ptr() // HUGE) * HUGE, (tensor.data_ptr() + tensor.nbytes) // HUGE * HUGE)
    if sys.platform == "linux" and end > first:
        libc().madvise(first, end - first, MADV_HUGEPAGE)


@functools.cache
def libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def alias_refusal(owner: Tensor, tensor: Tensor) -> str | None:
    """Why a tensor that shares memory with another could not share its new memory; None where it could."""
    if tensor is owner:
        return None
    if is_dtensor(owner) or is_dtensor(tensor):
        return "DTensors that share memory must be one object"
    if owner.dtype != tensor.dtype or torch.empty_like(owner, device="meta").stride() != owner.stride():
        return "it is a view that cannot be made again in new memory"
    return None


def alias(owner: Tensor, tensor: Tensor, new: Tensor) -> Tensor:
    """What a tensor inside another's memory is in that one's new memory."""
    if tensor is owner:
        return new
    offset = new.storage_offset() + tensor.storage_offset() - owner.storage_offset()
    view = new.detach().as_strided(tensor.shape, tensor.stride(), offset)
    return nn.Parameter(view, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else view


def install(slot: Slot, new: Tensor) -> None:
    """Puts a tensor into its place. A parameter with memory stays the same object, as in Module.to: optimizers may hold it."""
    if slot.parametrized:
        setattr(slot.module, slot.attribute, new)
    elif slot.buffer:
        slot.module._buffers[slot.attribute] = new
    elif slot.tensor.is_meta or is_dtensor(slot.tensor):
        slot.module._parameters[slot.attribute] = new  # type: ignore[assignment]
    else:
        slot.tensor.data, slot.tensor.grad = new.detach(), None
