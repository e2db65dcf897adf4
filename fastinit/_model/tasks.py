"""What is to be done with each piece of a model's memory: decided, checked and planned before anything is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastinit._core.check import (
    is_frozen,
    is_loaded,
)
from fastinit._core.laws import Initializer, call_of, declaration_of
from fastinit._core.plan import Plan
from fastinit._core.shard import local_of
from fastinit._initializers.constants import ones_, zeros_
from fastinit._model.constructed import Giver
from fastinit._model.guard import Candidate, Guard
from fastinit._model.materialize import alias_refusal
from fastinit._model.mend import Missed, message
from fastinit._model.report import State
from fastinit._model.sharing import decider_of, padded_for, shared_numbers, sharers_of
from fastinit._model.slots import Slot
from fastinit._schemes.keras_rules import zero_
from fastinit._schemes.naming import name_of, name_of_dtype
from fastinit._schemes.norms import resolved
from fastinit._schemes.padding import zero_row_
from fastinit._schemes.rules import Choice
from fastinit._schemes.unused import Unused
from fastinit._torch import FakeTensor

_RUNNING_STATISTICS: dict[str, Initializer] = {
    "running_mean": zeros_,
    "running_var": ones_,
    "num_batches_tracked": zero_,
}


class Overwrite(NamedTuple):
    """What is filled though it would else be left."""

    loaded: bool  # weights that transformers has marked as loaded
    constants: bool  # constants of a constructor's


@dataclass(slots=True)
class Task:
    """What happens to the memory of one slot, and of those that share it."""

    slot: Slot
    state: State  # as of a report's entry
    initializer: Initializer | None = None
    key: int | None = None  # of its values, once it is prepared; None: no random bits are used
    values: Tensor | None = None  # where there is no initializer: what new memory gets, or all
    by: str = ""  # whose values they are
    target: Tensor = field(init=False)  # what is written: the slot's tensor, or new memory
    plans: Sequence[Plan] | None = None  # None: the initializer is called, by itself
    loaded: bool = False  # left because transformers has marked it so
    own: bool = True  # by a rule of the user's
    holds: str | None = None  # what is kept, in words

    def __post_init__(self) -> None:
        self.target = self.slot.tensor

    @property
    def in_place(self) -> bool:
        return self.target is self.slot.tensor


def tasks_of(found: list[Slot], source: list[int], overwrite: bool, guard: Guard, plain: Container[int]) -> dict[int, Task]:
    """A task for every slot that owns its memory, by number, but for those that are plain.

    Raises:
        ValueError: a padding row cannot be told in the memory that holds it.
    """
    sharing = sharers_of(found, source, plain)
    return {owner: _task_of(found[owner], sharers, overwrite, guard) for owner, sharers in sharing.items()}


def keep_constants(found: list[Slot], tasks: dict[int, Task], plain: dict[int, Any], guard: Guard) -> dict[int, Task]:
    """The tasks, and others instead of those that would replace what a constructor has set on purpose. What is plain and would
    do so is taken out of `plain`, and gets a task."""
    if not guard.constructed:
        return tasks
    slots = [found[number] for number in plain]
    candidates = [(slot, one.initializer) for slot in slots if (one := slot.choice) and one.initializer and not one.own]
    held = guard.replaced(candidates + _candidates(tasks.values()))
    for number in [number for number in (*tasks, *plain) if found[number].name in held] if held else ():
        plain.pop(number, None)
        tasks[number] = Task(found[number], "kept", values=found[number].tensor, holds=held[found[number].name])
    return dict(sorted(tasks.items()))


def _candidates(tasks: Iterable[Task]) -> list[Candidate]:
    """What a rule of the package's would fill."""
    return [
        (task.slot, task.initializer) for task in tasks if not task.own and not task.slot.buffer and task.initializer is not None
    ]


def _give_constants(tasks: list[Task], giver: Giver) -> None:
    """Let tensors on meta have what their constructor sets on purpose, as in a model that was constructed."""
    candidates = _candidates(tasks)
    held = giver.hold([slot for slot, _ in candidates]) if candidates else []
    pairs = [(one, values) for one, values in zip(candidates, held, strict=True) if values is not None]
    real = {slot.name: (slot._replace(tensor=values), initializer) for (slot, initializer), values in pairs}
    replaced = Guard([slot for slot, _ in real.values()]).replaced([*real.values()])
    for task in tasks:
        if task.slot.name in replaced:
            task.initializer, task.values, task.by = None, real[task.slot.name][0].tensor, giver.by


def _task_of(slot: Slot, sharers: list[Slot], overwrite: bool, guard: Guard) -> Task:
    if not overwrite and any(is_loaded(sharer.tensor) for sharer in sharers) and not slot.tensor.is_meta:
        return Task(slot, "left", values=slot.tensor, loaded=True)
    decider = decider_of(sharers) or slot
    choice = decider.choice or Choice(_running_statistic(slot), own=True)
    named = choice.by_name
    if is_frozen(slot.tensor) and not named and all(is_frozen(sharer.tensor) for sharer in sharers):
        return Task(slot, "frozen", values=slot.tensor)
    initializer = resolved(choice, decider.module, decider.attribute, decider.tensor, guard.constructed)
    if initializer is None:
        told = slot.buffer or (decider.choice is not None and choice.initializer is None)
        return Task(slot, "left" if told else "missed", values=slot.tensor)
    if not (slot.buffer or named or is_drawn(slot.tensor)):  # packed or quantized weights, which a rule by type does not mean
        return Task(slot, "missed", values=slot.tensor)
    return Task(slot, "filled", padded_for(slot, sharers, initializer), own=choice.own)


def _running_statistic(slot: Slot) -> Initializer | None:
    """What resets a buffer that is a running statistic of a normalization, whatever the scheme; None for other buffers."""
    known = slot.buffer and hasattr(slot.module, "reset_running_stats")
    return _RUNNING_STATISTICS.get(slot.attribute) if known else None


# --- checks -------------------------------------------------------------------------------------------------------------------


def check_covered(tasks: list[Task], others: Iterable[Slot]) -> None:
    """Raise ValueError for parameters that no rule names, and for constants that a rule would replace."""
    missed = [Missed(task.slot, task.holds) for task in tasks if task.state in ("missed", "kept")]
    if missed:
        raise ValueError(message(missed, [*(task.slot for task in tasks if task.state not in ("missed", "kept")), *others]))


def find_values(tasks: list[Task], place: torch.device | None, giver: Giver | None, constants: bool) -> None:
    """Ask for what no initializer gives: for meta tensors, and where all is known for what no rule names.

    Raises:
        ValueError: meta tensors without a device to go to, or whose values nobody knows; names them all.
    """
    on_meta = [task for task in tasks if task.slot.tensor.is_meta]
    if on_meta and place is None:
        names = "\n".join(f"  {_described(task.slot)}" for task in on_meta)
        raise ValueError(f"these tensors are on meta, pass device= to materialize them; nothing was written:\n{names}")
    asked = [task for task in tasks if task.initializer is None and _is_asked(task, giver)]
    given = giver.give([task.slot for task in asked]) if giver and asked else [None] * len(asked)
    unknown = []
    for task, values in zip(asked, given, strict=True):
        if values is None and task.slot.tensor.numel():
            unknown.append(f"  {_described(task.slot)}{_why_left(task)}")
            continue
        task.values = torch.empty(task.slot.tensor.shape) if values is None else _checked(task.slot, values)
        task.state = "left" if task.values.is_meta else "filled"
        task.by = giver.by if giver else ""
    if giver and giver.knows_all and not constants:
        _give_constants([task for task in tasks if task.slot.tensor.is_meta], giver)
    if unknown:
        raise ValueError(
            "nobody knows the values of these tensors on meta, and nothing was written:\n"
            + "\n".join(unknown)
            + "\nPass reset_buffers=fastinit.from_constructor(lambda: Model(...)): what no rule fills takes what a construction "
            "writes. Or give parameters a rule that fills them, and pass a function of module and name for the others."
        )


def _is_told(task: Task) -> bool:
    """Whether a rule None leaves it."""
    return task.state == "left" and not task.loaded and (task.slot.choice is not None or not task.slot.buffer)


def _why_left(task: Task) -> str:
    if _is_told(task):
        return ": its rule is None, which leaves it"
    return ": it is frozen, and no rule has its full name" if task.state == "frozen" else ""


def _is_asked(task: Task, giver: Giver | None) -> bool:
    if task.slot.tensor.is_meta:
        return True
    known = giver is not None and giver.knows_all and not isinstance(local_of(task.slot.tensor), FakeTensor)
    return known and not task.loaded and not _is_told(task)


def _checked(slot: Slot, values: Tensor) -> Tensor:
    """What was given for a slot. A plain attribute may stay on meta."""
    if not isinstance(values, Tensor):
        raise TypeError(f"reset_buffers must return a tensor or None. Received: {values!r} for {_described(slot)}.")
    if values.shape != slot.tensor.shape or (values.is_meta and not slot.steps):
        what = "a tensor on meta" if values.is_meta else f"shape {tuple(values.shape)}"
        raise ValueError(f"reset_buffers must return a {slot.kind}'s values. Received: {what} for {_described(slot)}.")
    return values


def check_aliases(found: list[Slot], source: list[int], place: torch.device | None) -> None:
    """Raise ValueError for tensors that share memory but could not share new memory."""
    refused = []
    if not shared_numbers(source):
        return
    for slot, owner in ((slot, owner) for number, (slot, owner) in enumerate(zip(found, source, strict=True)) if owner != number):
        if found[owner].steps and not slot.steps:
            refused.append(
                f"  {slot.name} is a part of {found[owner].name}, a plain attribute. Make that a view of it, or a copy"
            )
        elif moves(found[owner], place) and (reason := alias_refusal(found[owner].tensor, slot.tensor)):
            refused.append(f"  {slot.name} shares memory with {found[owner].name}: {reason}")
    if refused:
        raise ValueError("the model cannot be materialized, and nothing was written:\n" + "\n".join(refused))


def is_drawn(tensor: Tensor) -> bool:
    """Whether initializers other than constants can fill it."""
    return tensor.is_floating_point() or tensor.is_complex()


def _described(slot: Slot) -> str:
    dtype = name_of_dtype(slot.tensor.dtype)
    return f"{slot.name} ({slot.kind} of {type(slot.module).__name__}, {dtype}, shape {tuple(slot.tensor.shape)})"


def check_rules(unused: list[Unused]) -> None:
    """Raise ValueError for rules that match nothing, and must."""
    wrong = [rule.words for rule in unused if rule.must]
    if wrong:
        raise ValueError(
            "these rules of the scheme match nothing in the model, and nothing was written:\n"
            + "\n".join(f"  {rule}" for rule in wrong)
            + "\nCorrect or remove them, or pass strict=False, or prefix= where the model is a part of a larger one."
        )


def equal_values(tasks: list[Task]) -> list[str]:
    """The parameters that a rule's own key gives equal values, in words: a rule for several should leave the key to the name."""
    own = {number: _own_key(one) for number, one in {id(task.initializer): task.initializer for task in tasks}.items() if one}
    filled: dict[tuple[str, int], list[str]] = defaultdict(list)
    for task in tasks if any(key is not None for key in own.values()) else ():
        key = None if task.key is None else own[id(task.initializer)]
        if key is not None and task.slot.tensor.numel():
            filled[name_of(task.initializer), key].append(task.slot.name)
    return [f"{rule} gives {', '.join(names)} equal values" for (rule, _), names in filled.items() if len(names) > 1]


def is_known(initializer: Initializer) -> bool:
    """Whether it is declared, and so writes its whole tensor."""
    function, _, given = call_of(initializer)
    return is_known(given["initializer"]) if function is zero_row_ else declaration_of(function) is not None


def _own_key(initializer: Initializer) -> int | None:
    """The key that a partial carries."""
    function, _, given = call_of(initializer)
    key: int | None = _own_key(given["initializer"]) if function is zero_row_ else given.get("key")
    return key


def moves(slot: Slot, place: torch.device | None) -> bool:
    """Whether a slot's tensor needs new memory."""
    return slot.parametrized or (place is not None and slot.tensor.device != place)
