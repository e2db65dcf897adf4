"""New memory for parameters and buffers, and its way into the model: of meta tensors, and of those that change their device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastinit._core.check import PLAIN
from fastinit._core.modes import safe_torch
from fastinit._core.shard import is_dtensor
from fastinit._model.plain import put
from fastinit._model.slots import Slot
from fastinit._torch import can_set_data, can_swap, own_buffers, own_parameters, swap, swap_bare


def fresh(tensor: Tensor, device: torch.device) -> Tensor:
    """Memory on a device for a tensor of the same kind, not written: a parameter with its attributes, a DTensor's shard.

    Its first fill waits for the system to clear pages. Huge ones, asked for by madvise, did not help: filled first in a
    process, 350 MB took 1.4 times and 6 GB 1.5 times as long (two virtual cores), though memory that a process had used before
    came 1.6 times faster.
    """
    if reason := _swap_refusal(tensor):
        raise ValueError(reason)
    if type(tensor) in PLAIN and tensor.is_contiguous():
        strides = tensor.stride()  # a twentieth of the time of empty_like, which is written in Python for meta
        return _dressed(torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=device), tensor)
    return _dressed(torch.empty_like(tensor, device=device), tensor)


def kind_of(error: Exception) -> type[Exception]:
    """What an error that names a parameter too is raised as: programs tell no memory from other errors by their type."""
    kinds = (TypeError, ValueError, torch.OutOfMemoryError, MemoryError)
    return next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)


def _dressed(new: Tensor, tensor: Tensor) -> Tensor:
    """A parameter with the attributes of another, if that is one. Its class comes last: until then it is a plain tensor."""
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
    return _swap_refusal(tensor)


def alias(owner: Tensor, tensor: Tensor, new: Tensor) -> Tensor:
    """What a tensor inside another's memory is in that one's new memory."""
    if tensor is owner:
        return new
    offset = new.storage_offset() + tensor.storage_offset() - owner.storage_offset()
    return _dressed(new.detach().as_strided(tensor.shape, tensor.stride(), offset), tensor)


@safe_torch()
def install(found: list[tuple[Slot, Tensor]]) -> None:
    """Put new tensors into their places. Optimizers, hooks and ties may hold the parameters that are there: see `_renewed`.

    Everything new is made before the first swap, after which a parameter is no longer what views were cut from.
    """
    ready = [(slot, new, _moved_gradient(slot, new)) for slot, new in found]
    renewed: dict[int, Tensor] = {}  # what has become of an object, which may be in several places
    for slot, new, gradient in sorted(ready, key=lambda item: item[0].buffer):  # what is a parameter elsewhere stays that one
        if slot.parametrized:
            setattr(slot.module, slot.attribute, new)
        elif slot.steps:
            put(slot.module, slot.steps, renewed.get(id(slot.tensor), new))
        elif slot.buffer:
            own_buffers(slot.module)[slot.attribute] = renewed.get(id(slot.tensor), new)
        else:
            if id(slot.tensor) not in renewed:
                renewed[id(slot.tensor)] = _renewed(slot.tensor, new, gradient)
            own_parameters(slot.module)[slot.attribute] = renewed[id(slot.tensor)]


def _moved_gradient(slot: Slot, new: Tensor) -> Tensor | None:
    """A gradient goes where its parameter goes, as in Module.to; one on meta has no values to take along."""
    if slot.buffer or slot.parametrized or slot.tensor.is_meta or slot.tensor.grad is None:
        return None
    try:
        return slot.tensor.grad.to(new.device)
    except (RuntimeError, MemoryError) as error:
        state = f"Parameters that were on {new.device} may be filled, all others are as they were"
        raise kind_of(error)(f"{slot.name}: its gradient cannot be moved: {error}. {state}.") from error


def _renewed(tensor: Tensor, new: Tensor, gradient: Tensor | None) -> Tensor:
    """The parameter with its new memory: the object that it was, where torch's Module._apply keeps it and where it can be kept.

    Module._apply swaps (DTensors, and all if torch.__future__ says so), or sets `.data`, or puts another object there: all if
    torch.__future__ says so, else what leaves meta. What leaves meta is swapped here too, unless something holds it.
    """
    others = torch.__future__.get_overwrite_module_params_on_conversion()
    if tensor.is_meta and not others and swap_bare(tensor, new):
        return tensor
    if tensor.grad is not None:
        tensor.grad = None
    if type(new) is not type(tensor):
        new.__class__ = type(tensor)
    must_swap = _must_swap(tensor)
    if not must_swap and not others and can_set_data(tensor, new):
        tensor.data = new.detach()
        new = tensor
    elif (must_swap or not others) and can_swap(tensor) and can_swap(new):
        swap(tensor, new)
        new = tensor
    if gradient is not None or new.grad is not None:
        new.grad = gradient
    return new


def _must_swap(tensor: Tensor) -> bool:
    """Whether Module._apply swaps a parameter or fails."""
    wanted = torch.__future__.get_swap_module_params_on_conversion()
    return (wanted or is_dtensor(tensor)) and isinstance(tensor, nn.Parameter)


def _swap_refusal(tensor: Tensor) -> str | None:
    """Why a parameter that must stay the same object could not; None where it can, or need not."""
    if not _must_swap(tensor) or can_swap(tensor):
        return None
    return (
        "it must stay the same object, and torch cannot swap its memory, which a weak reference, a view or a graph holds. "
        "Delete what refers to it, or initialize before"
    )
