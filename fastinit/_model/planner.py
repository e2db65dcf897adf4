"""How tasks are carried out by backends: laws and keys are found, memory is made, fills are planned. Nothing is written yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from fastinit._core import keys
from fastinit._core.check import ALL_DTYPES, DRAWN_DTYPES, FLOAT_DTYPES, LOADED, PLAIN, check_layout, check_tensor, is_loaded
from fastinit._core.laws import Initializer, law_of
from fastinit._core.memory import check_memory
from fastinit._core.plan import Box, Plan, plan_of, whole
from fastinit._core.recipes import Recipe, recipe
from fastinit._core.shard import is_dtensor, local_blocks, local_of
from fastinit._fill import parts_of, plans_of
from fastinit._model.materialize import fresh, kind_of
from fastinit._model.slots import Slot
from fastinit._model.tasks import Task, is_drawn, moves
from fastinit._schemes.keras_rules import zero_
from fastinit._schemes.norms import is_final
from fastinit._schemes.padding import has_padding
from fastinit._schemes.rules import Choice
from fastinit._torch import base_of


class Fill(NamedTuple):
    """How an initializer fills tensors of one shape and dtype."""

    drawn: bool  # by a key, rather than a constant
    nbytes: int
    box: Box
    key: int | None = None  # its own
    recipe: Recipe | None = None  # of its law, if a backend can write it; else it is called
    checked: bool = True  # whether elements must have places of their own


@dataclass
class Planner:
    """Prepares tasks. Many layers have the same rules and shapes: what follows from these is found once."""

    place: torch.device | None
    key_of: Callable[[str], int]
    fills: dict[tuple[int, torch.Size, torch.dtype], Fill] = field(default_factory=dict)  # by ids that choices keep
    plain: dict[int, bool] = field(default_factory=dict)  # by a choice's id: whether it says all, whatever the parameter

    def plain_task(self, slot: Slot) -> Task | None:
        """The task of what most of a model's parameters are: with nothing to be left, told or refused. It is planned if it stays.

        None: it may be something else. Of ten thousand small parameters, each call that this spares counts.
        """
        name, module, _, tensor, choice, buffer, *_ = slot
        if choice is None or buffer or type(tensor) not in PLAIN or not tensor.requires_grad:
            return None
        if (plain := self.plain.get(id(choice))) is None:
            plain = self.plain[id(choice)] = is_final(choice, module) and not has_padding(module)
        if not plain:
            return None
        if self.place is not None:  # memory is made once all is decided
            known = is_drawn(tensor) and not is_loaded(tensor)
            return Task(slot, "filled", choice.initializer, own=choice.own) if known else None
        asked = id(choice.initializer), tensor.shape, tensor.dtype
        if (fill := self.fills.get(asked)) is None and (fill := self._new_fill(asked, choice, tensor)) is None:
            return None
        storage, recipe = tensor.untyped_storage(), fill.recipe
        has_memory = storage.nbytes() == fill.nbytes and not tensor.storage_offset()
        is_here = has_memory and tensor.is_cpu and _is_simple(tensor)
        if recipe is None or recipe.dtype is not tensor.dtype or not is_here:
            return None
        key = None if not fill.drawn else self.key_of(name) if fill.key is None else fill.key
        plans = (plan_of((tensor, recipe, key or 0, fill.box)),) if fill.nbytes else ()
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
        moves_ = moves(slot, place)
        if not slot.tensor.is_meta and (given or task.initializer is not None or moves_):
            check_memory(local_of(slot.tensor))
        if moves_ and (given or task.initializer or not slot.parametrized):  # else its inverse would round
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
    if is_drawn(tensor):
        check_tensor(tensor, ALL_DTYPES)
    found = law_of(initializer, tensor.shape, tensor.dtype)
    if found is None:
        return Fill(True, tensor.nbytes, whole(tensor), checked=is_drawn(tensor))
    law, key = found
    constant = law.name == "constant"
    if initializer is not zero_ and not (constant and is_drawn(tensor)):
        check_tensor(tensor, ALL_DTYPES if constant else DRAWN_DTYPES)
    # Of a complex constant the parts differ.
    planned = tensor.dtype in FLOAT_DTYPES or (tensor.is_complex() and not constant)
    own = None if key is None or constant else keys.check(key)
    values = recipe(law, tensor.dtype) if planned else None
    return Fill(not constant, tensor.nbytes, whole(tensor), own, values, is_drawn(tensor) or initializer is not zero_)


def _is_simple(tensor: Tensor) -> bool:
    """Whether a tensor of torch's own kinds is as most are: no view, not marked, with elements in order as they are read."""
    return (
        not hasattr(tensor, LOADED)
        and base_of(tensor) is tensor
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and tensor.is_contiguous()
        and not (tensor.is_neg() or tensor.is_conj())
    )
