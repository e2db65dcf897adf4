"""What is to be done with each piece of a model's memory: decided, checked and planned before anything is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fastinit._core import keys
from fastinit._core.check import check_tensor
from fastinit._core.laws import Initializer, Law, law_of
from fastinit._core.plan import Plan
from fastinit._core.recipes import recipe
from fastinit._fill import parts_of, plans_of
from fastinit._initializers.constants import ones_, zeros_
from fastinit._model.materialize import alias_refusal, fresh
from fastinit._model.report import State
from fastinit._model.slots import Slot
from fastinit._schemes.keras_rules import zero_
from fastinit._schemes.padding import padded

ResetBuffers = Callable[[nn.Module, str], Tensor | None]  # of a module and a buffer's name in it; None: not known
_RUNNING_STATISTICS: dict[str, Initializer] = {
    "running_mean": zeros_,
    "running_var": ones_,
    "num_batches_tracked": zero_,
}


@dataclass
class Task:
    """What happens to the memory of one slot, and of those that share it."""

    slot: Slot
    state: State  # as of a report's entry
    initializer: Initializer | None = None
    key: int | None = None  # None: no random bits are used
    values: Tensor | None = None  # where there is no initializer: what new memory gets
    target: Tensor = field(init=False)  # what is written: the slot's tensor, or new memory
    plans: list[Plan] | None = None  # None: the initializer is called, by itself

    def __post_init__(self) -> None:
        self.target = self.slot.tensor

    @property
    def in_place(self) -> bool:
        return self.target is self.slot.tensor


def tasks_of(found: list[Slot], source: list[int], seed: int) -> dict[int, Task]:
    """A task for every slot that owns its memory, by number; the first rule among those that share it decides."""
    sharing: dict[int, list[Slot]] = defaultdict(list)
    for slot, owner in zip(found, source, strict=True):
        sharing[owner].append(slot)
    return {owner: _task_of(found[owner], sharers, seed) for owner, sharers in sharing.items()}


def _task_of(slot: Slot, sharers: list[Slot], seed: int) -> Task:
    ruled = next((sharer for sharer in sharers if sharer.choice), None)
    if ruled is None:
        initializer = _running_statistic(slot)
    else:
        assert ruled.choice is not None
        initializer = ruled.choice.initializer
    if initializer is None:
        return Task(slot, "left" if ruled or slot.buffer else "missed", values=slot.tensor)
    if not slot.buffer and not slot.tensor.is_floating_point():
        return Task(slot, "missed", values=slot.tensor)
    owner = ruled or slot
    return Task(slot, "filled", padded(owner.module, owner.attribute, initializer), keys.key(seed, slot.name))


def _running_statistic(slot: Slot) -> Initializer | None:
    """What resets a buffer that is a running statistic of a normalization, whatever the scheme; None for other buffers."""
    known = slot.buffer and hasattr(slot.module, "reset_running_stats")
    return _RUNNING_STATISTICS.get(slot.attribute) if known else None


# --- checks -------------------------------------------------------------------------------------------------------------------


def check_covered(tasks: list[Task]) -> None:
    """Raise ValueError for parameters that no rule names."""
    missed = [f"  {_described(task.slot)}" for task in tasks if task.state == "missed"]
    if missed:
        raise ValueError(
            f"the scheme has no rule that fills these {len(missed)} parameters, and nothing was written:\n"
            + "\n".join(missed)
            + "\nAdd rules by scheme.override({Type: {'weight': fastinit.normal_}}), or None to leave them, or pass strict=False."
        )


def find_values(tasks: list[Task], place: torch.device | None, reset_buffers: ResetBuffers | None) -> None:
    """Ask the callback for meta buffers that no rule names.

    Raises:
        ValueError: meta tensors without a device to go to, or whose values nobody knows; names them all.
    """
    on_meta = [task for task in tasks if task.slot.tensor.is_meta]
    if on_meta and place is None:
        names = "\n".join(f"  {_described(task.slot)}" for task in on_meta)
        raise ValueError(f"these tensors are on meta, pass device= to materialize them; nothing was written:\n{names}")
    unknown = []
    for task in (task for task in on_meta if task.initializer is None):
        task.values = _given(task.slot, reset_buffers) if task.slot.buffer and reset_buffers else None
        task.state = "filled"
        if task.values is None:
            unknown.append(f"  {_described(task.slot)}")
    if unknown:
        raise ValueError(
            "nobody knows the values of these tensors on meta, and nothing was written:\n"
            + "\n".join(unknown)
            + "\nParameters need a rule that fills them; for buffers, pass reset_buffers=, a function of module and name that "
            "returns their values."
        )


def _given(slot: Slot, reset_buffers: ResetBuffers) -> Tensor | None:
    """What the callback returns for a buffer, checked."""
    values = reset_buffers(slot.module, slot.attribute)
    if values is None:
        return None
    if not isinstance(values, Tensor):
        raise TypeError(f"reset_buffers must return a tensor or None. Received: {values!r} for {_described(slot)}.")
    if values.shape != slot.tensor.shape or values.is_meta:
        what = "a tensor on meta" if values.is_meta else f"shape {tuple(values.shape)}"
        raise ValueError(f"reset_buffers must return a buffer's values. Received: {what} for {_described(slot)}.")
    return values


def check_aliases(found: list[Slot], source: list[int], place: torch.device | None) -> None:
    """Raise ValueError for tensors that share memory but could not share new memory."""
    refused = []
    for slot, owner in zip(found, source, strict=True):
        if _moves(found[owner], place) and (reason := alias_refusal(found[owner].tensor, slot.tensor)):
            refused.append(f"  {slot.name} shares memory with {found[owner].name}: {reason}")
    if refused:
        raise ValueError("the model cannot be materialized, and nothing was written:\n" + "\n".join(refused))


def _described(slot: Slot) -> str:
    kind = "buffer" if slot.buffer else "parameter"
    dtype = str(slot.tensor.dtype).removeprefix("torch.")
    return f"{slot.name} ({kind} of {type(slot.module).__name__}, {dtype}, shape {tuple(slot.tensor.shape)})"


# --- plans and memory ---------------------------------------------------------------------------------------------------------


def _moves(slot: Slot, place: torch.device | None) -> bool:
    """Whether a slot's tensor needs new memory."""
    return slot.parametrized or (place is not None and slot.tensor.device != place)


def prepare(task: Task, place: torch.device | None) -> None:
    """Find a task's law, make its memory, plan its fill.

    Raises:
        TypeError: the tensor or an argument of the initializer has a wrong type; begins with the parameter's name.
        ValueError: another of its values is wrong, likewise.
    """
    slot = task.slot
    try:
        law = None if task.initializer is None else _law_of_task(task)
        if slot.parametrized and place not in (None, slot.tensor.device):
            raise ValueError(f"it is parametrized, and stays on {slot.tensor.device}. Call .to({str(place)!r}) first.")
        if _moves(slot, place):
            task.target = fresh(slot.tensor, place or slot.tensor.device)
        if law is not None:
            values, task.key = law
            if slot.tensor.is_floating_point() and not slot.tensor.is_neg():
                task.plans = plans_of(parts_of(task.target), recipe(values, slot.tensor.dtype), task.key or 0)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{slot.name}: {error} (nothing was written)") from error


def _law_of_task(task: Task) -> tuple[Law, int | None] | None:
    """The declared law that fills the tensor, and its key, None of a constant; None where there is none."""
    assert task.initializer is not None and task.key is not None
    tensor = task.slot.tensor
    if tensor.is_floating_point():
        check_tensor(tensor)
    found = law_of(task.initializer, tensor.shape, tensor.dtype)
    if found is None:
        return None
    if task.initializer is not zero_:
        check_tensor(tensor)
    law, key = found
    if law.name == "constant":
        return law, None
    return law, task.key if key is None else keys.check(key)
