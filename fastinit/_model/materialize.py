"""New memory for parameters and buffers, and its way into the model: of meta tensors, and of those that change their device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastinit._core.modes import safe_torch
from fastinit._core.shard import is_dtensor
from fastinit._model.slots import Slot
from fastinit._torch import own_buffers, own_parameters


def fresh(tensor: Tensor, device: torch.device) -> Tensor:
    """Memory on a device for a tensor of the same kind, not written: a parameter with its attributes, a DTensor's shard.

    Its first fill waits for the system to clear pages. Huge ones, asked for by madvise, did not help: filled first in a
    process, 350 MB took 1.4 times and 6 GB 1.5 times as long (two virtual cores), though memory that a process had used before
    came 1.6 times faster.
    """
    new = torch.empty_like(tensor, device=device)
    if isinstance(tensor, nn.Parameter):
        new = nn.Parameter(new, requires_grad=tensor.requires_grad)
        for name, value in vars(tensor).items():
            vars(new).setdefault(name, value)
    return new


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


@safe_torch()
def install(slot: Slot, new: Tensor) -> None:
    """Put a tensor into its place. A parameter with memory stays the same object, as in Module.to: optimizers may hold it."""
    if slot.parametrized:
        setattr(slot.module, slot.attribute, new)
    elif slot.buffer:
        own_buffers(slot.module)[slot.attribute] = new
    elif slot.tensor.is_meta or is_dtensor(slot.tensor):
        own_parameters(slot.module)[slot.attribute] = new
    else:
        slot.tensor.data, slot.tensor.grad = new.detach(), None
