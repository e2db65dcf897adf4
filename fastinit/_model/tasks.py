"""What is to be done with each piece of a model's memory: decided, checked and planned before anything is written."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastinit._core import keys
from fastinit._core.check import ALL_DTYPES, DRAWN_DTYPES, FLOAT_DTYPES, PLAIN, check_layout, check_tensor, is_frozen, is_loaded, is_marked
from fastinit._core.laws import Initializer, call_of, declaration_of, law_of
from fastinit._core.memory import check_memory
from fastinit._core.plan import Box, Plan, whole
from fastinit._core.recipes import Recipe, recipe
from fastinit._core.shard import is_dtensor, local_blocks, local_of
from fastinit._fill import parts_of, plans_of
from fastinit._initializers.constants import ones_, zeros_
from fastinit._model.constructed import Giver
from fastinit._model.guard import Candidate, Guard
from fastinit._model.materialize import alias_refusal, fresh, kind_of
from fastinit._model.mend import Missed, message
from fastinit._model.report import State
from fastinit._model.sharing import decider_of, padded_for, sharers_of
from fastinit._model.slots import Slot
from fastinit._schemes.keras_rules import zero_
from fastinit._schemes.naming import name_of, name_of_dtype
from fastinit._schemes.norms import is_final, resolved
from fastinit._schemes.padding import has_padding, zero_row_
from fastinit._schemes.rules import Choice
from fastinit._schemes.unused import Unused
from fastinit._torch import FakeTensor, base_of

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


def tasks_of(found: list[Slot], source: list[int], overwrite: Overwrite, planner: Planner) -> dict[int, Task]:
    """A task for every slot that owns its memory, by number; planned already, where its rule alone decides.

    Raises:
        ValueError: a padding row cannot be told in the memory that holds it.
    """
    guard = Guard(found)
    tasks: dict[int, Task] = {}
    for owner, sharers in sharers_of(found, source).items():
        plain = planner.plain_task(sharers[0]) if len(sharers) == 1 else None
        tasks[owner] = plain or _task_of(found[owner], sharers, overwrite.loaded, guard.constructed)
    return tasks if overwrite.constants or not guard.constructed else _guarded(tasks, guard)


def _guarded(tasks: dict[int, Task], guard: Guard) -> dict[int, Task]:
    """The tasks, less those that would replace what a constructor has set on purpose."""
    held = guard.replaced(_candidates(tasks.values()))
    if not held:
        return tasks
    return {
        owner: Task(task.slot, "kept", values=task.slot.tensor, holds=held[task.slot.name]) if task.slot.name in held else task
        for owner, task in tasks.items()
    }


def _candidates(tasks: Iterable[Task]) -> list[Candidate]:
    """What a rule of the package's would fill."""
    return [
        Candidate(task.slot, task.initializer)
        for task in tasks
        if not task.own and not task.slot.buffer and task.initializer is not None
    ]


def _keep_constants(tasks: list[Task], giver: Giver) -> None:
    """Let tensors on meta have what their constructor sets on purpose, as in a model that was constructed."""
    candidates = _candidates(tasks)
    held = giver.hold([one.slot for one in candidates]) if candidates else []
    pairs = [(one, values) for one, values in zip(candidates, held, strict=True) if values is not None]
    real = {one.slot.name: one._replace(slot=one.slot._replace(tensor=values)) for one, values in pairs}
    replaced = Guard([one.slot for one in real.values()]).replaced([*real.values()])
    for task in tasks:
        if task.slot.name in replaced:
            task.initializer, task.values, task.by = None, real[task.slot.name].slot.tensor, giver.by


def _task_of(slot: Slot, sharers: list[Slot], overwrite: bool, constructed: bool) -> Task:
    if not overwrite and any(is_loaded(sharer.tensor) for sharer in sharers) and not slot.tensor.is_meta:
        return Task(slot, "left", values=slot.tensor, loaded=True)
    decider = decider_of(sharers) or slot
    choice = decider.choice or Choice(_running_statistic(slot), own=True)
    named = choice.by_name
    if is_frozen(slot.tensor) and not named and all(is_frozen(sharer.tensor) for sharer in sharers):
        return Task(slot, "frozen", values=slot.tensor)
    initializer = resolved(choice, decider.module, decider.attribute, decider.tensor, constructed)
    if initializer is None:
        told = slot.buffer or (decider.choice is not None and choice.initializer is None)
        return Task(slot, "left" if told else "missed", values=slot.tensor)
    if not (slot.buffer or named or _is_drawn(slot.tensor)):  # packed or quantized weights, which a rule by type does not mean
        return Task(slot, "missed", values=slot.tensor)
    return Task(slot, "filled", padded_for(slot, sharers, initializer), own=choice.own)


def _running_statistic(slot: Slot) -> Initializer | None:
    """What resets a buffer that is a running statistic of a normalization, whatever the scheme; None for other buffers."""
    known = slot.buffer and hasattr(slot.module, "reset_running_stats")
    return _RUNNING_STATISTICS.get(slot.attribute) if known else None


# --- checks -------------------------------------------------------------------------------------------------------------------


def check_covered(tasks: list[Task]) -> None:
    """Raise ValueError for parameters that no rule names, and for constants that a rule would replace."""
    missed = [Missed(task.slot, task.holds) for task in tasks if task.state in ("missed", "kept")]
    if missed:
        raise ValueError(message(missed, [task.slot for task in tasks if task.state not in ("missed", "kept")]))


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
        _keep_constants([task for task in tasks if task.slot.tensor.is_meta], giver)
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
    for slot, owner in ((slot, owner) for number, (slot, owner) in enumerate(zip(found, source, strict=True)) if owner != number):
        if found[owner].steps and not slot.steps:
            refused.append(
                f"  {slot.name} is a part of {found[owner].name}, a plain attribute. Make that a view of it, or a copy"
            )
        elif _moves(found[owner], place) and (reason := alias_refusal(found[owner].tensor, slot.tensor)):
            refused.append(f"  {slot.name} shares memory with {found[owner].name}: {reason}")
    if refused:
        raise ValueError("the model cannot be materialized, and nothing was written:\n" + "\n".join(refused))


def _is_drawn(tensor: Tensor) -> bool:
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


# --- plans and memory ---------------------------------------------------------------------------------------------------------


def _moves(slot: Slot, place: torch.device | None) -> bool:
    """Whether a slot's tensor needs new memory."""
    return slot.parametrized or (place is not None and slot.tensor.device != place)


class Fill(NamedTuple):
    """How an initializer fills tensors of one shape and dtype."""

    drawn: bool  # by a key, rather than a constant
    nbytes: int
    box: Box
    key: int | None = None  # its own
    recipe: Recipe | None = None  # of its law, if a backend can write it; else it is called
    checked: bool = True  # whether elements must have places of their own


_plan: Callable[[tuple[Any, ...]], Plan] = functools.partial(tuple.__new__, Plan)  # in half of the time


@dataclass
class Planner:
    """Finds laws, makes memory, plans fills. Many layers have the same rules and shapes: what follows from these is found once."""

    place: torch.device | None
    key_of: Callable[[str], int]
    fills: dict[tuple[int, torch.Size, torch.dtype], Fill] = field(default_factory=dict)  # by ids that choices keep
    plain: dict[int, bool] = field(default_factory=dict)  # by a choice's id: whether it says all, whatever the parameter

    def plain_task(self, slot: Slot) -> Task | None:
        """The task of what most of a model's parameters are, all in one: with nothing to be made, left, told or refused.

        None: it may be something else. Of ten thousand small parameters, each call that this spares counts.
        """
        name, module, _, tensor, choice, buffer, *_ = slot
        if choice is None or buffer or self.place is not None or type(tensor) not in PLAIN or not tensor.requires_grad:
            return None
        if (plain := self.plain.get(id(choice))) is None:
            plain = self.plain[id(choice)] = is_final(choice, module) and not has_padding(module)
        asked = id(choice.initializer), tensor.shape, tensor.dtype
        if not plain or ((fill := self.fills.get(asked)) is None and (fill := self._new_fill(asked, choice, tensor)) is None):
            return None
        storage, recipe = tensor.untyped_storage(), fill.recipe
        has_memory = storage.nbytes() == fill.nbytes and not tensor.storage_offset() and base_of(tensor) is tensor
        is_simple = tensor.layout is torch.strided and not tensor.is_nested and tensor.is_contiguous() and not tensor.is_neg()
        if recipe is None or recipe.dtype is not tensor.dtype or not (has_memory and is_simple and tensor.is_cpu) or is_marked(tensor):
            return None
        key = None if not fill.drawn else self.key_of(name) if fill.key is None else fill.key
        plans = (_plan((tensor, recipe, key or 0, fill.box)),) if fill.nbytes else ()
        return Task(slot, "filled", choice.initializer, key, plans=plans, own=choice.own)

    def _new_fill(self, asked: tuple[int, torch.Size, torch.dtype], choice: Choice, tensor: Tensor) -> Fill | None:
        assert choice.initializer is not None
        try:
            self.fills[asked] = _fill_of(choice.initializer, tensor)
        except (TypeError, ValueError, RuntimeError, MemoryError):
            return None  # it is said when its turn comes
        return self.fills[asked]

    def prepare(self, task: Task) -> None:
        """Find a task's law, make its memory, plan its fill.

        Raises:
            TypeError: the tensor or an argument of the initializer has a wrong type; begins with the parameter's name.
            ValueError: another of its values is wrong, or its memory is not there, likewise.
            RuntimeError, torch.OutOfMemoryError, MemoryError: there is no memory for it, likewise.
        """
        if task.plans is not None:
            return
        slot, initializer = task.slot, task.initializer
        tensor = slot.tensor
        try:
            fill = None if initializer is None else self.fills.get((id(initializer), tensor.shape, tensor.dtype))
            if initializer is not None and fill is None:
                fill = self.fills[id(initializer), tensor.shape, tensor.dtype] = _fill_of(initializer, tensor)
            elif fill is not None and fill.checked:
                check_layout(tensor)
            if fill is None or self.place is not None or slot.parametrized or tensor.is_meta:
                if not self.make_memory(task):
                    return
            else:
                check_memory(tensor if type(tensor) in PLAIN else local_of(tensor))
            if fill is not None:
                self.plan(task, fill)
        except (TypeError, ValueError, RuntimeError, MemoryError) as error:
            raise kind_of(error)(f"{slot.name}: {error} (nothing was written)") from error

    def make_memory(self, task: Task) -> bool:
        """Make a task's memory, where it needs new one; False: it stays on meta."""
        slot, place = task.slot, self.place
        if slot.parametrized and place not in (None, slot.tensor.device):
            raise ValueError(f"it is parametrized, and stays on {slot.tensor.device}. Call .to({str(place)!r}) first.")
        if slot.steps and task.state == "left":
            return False
        given = task.values is not None and task.values is not slot.tensor
        if given and is_dtensor(slot.tensor):
            local_blocks(slot.tensor)  # raises
        moves = _moves(slot, place)
        if not slot.tensor.is_meta and (given or task.initializer is not None or moves):
            check_memory(local_of(slot.tensor))
        if moves and (given or task.initializer or not slot.parametrized):  # else its inverse would round
            task.target = fresh(slot.tensor, place or slot.tensor.device)
        return True

    def plan(self, task: Task, fill: Fill) -> None:
        """Give a task its key, and its plans."""
        target, recipe = task.target, fill.recipe
        if fill.drawn:
            task.key = self.key_of(task.slot.name) if fill.key is None else fill.key
        if recipe is None or target.is_neg() or (recipe.dtype is not target.dtype and task.slot.tensor.is_conj()):
            return
        if type(target) in PLAIN and target.dtype is recipe.dtype and not target.is_meta:
            task.plans = [Plan(target, recipe, task.key or 0, fill.box)] if fill.nbytes else []
        else:
            task.plans = plans_of(parts_of(target), recipe, task.key or 0)


def _fill_of(initializer: Initializer, tensor: Tensor) -> Fill:
    if _is_drawn(tensor):
        check_tensor(tensor, ALL_DTYPES)
    found = law_of(initializer, tensor.shape, tensor.dtype)
    if found is None:
        return Fill(True, tensor.nbytes, whole(tensor), checked=_is_drawn(tensor))
    law, key = found
    constant = law.name == "constant"
    if initializer is not zero_ and not (constant and _is_drawn(tensor)):
        check_tensor(tensor, ALL_DTYPES if constant else DRAWN_DTYPES)
    # Of a complex constant the parts differ.
    planned = tensor.dtype in FLOAT_DTYPES or (tensor.is_complex() and not constant)
    own = None if key is None or constant else keys.check(key)
    values = recipe(law, tensor.dtype) if planned else None
    return Fill(not constant, tensor.nbytes, whole(tensor), own, values, _is_drawn(tensor) or initializer is not zero_)
