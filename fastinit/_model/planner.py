"""How tasks are carried out by backends: laws and keys are found, memory is made, fills are planned. Nothing is written yet."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastinit._core import keys
from fastinit._core.check import ALL_DTYPES, DRAWN_DTYPES, FLOAT_DTYPES, LOADED, PLAIN, check_layout, check_tensor
from fastinit._core.laws import Initializer, law_of
from fastinit._core.memory import check_memory, lies_alone
from fastinit._core.plan import Box, Plan, plan_of, whole
from fastinit._core.recipes import Recipe, recipe
from fastinit._core.shard import is_dtensor, local_blocks, local_of
from fastinit._fill import parts_of, plans_of
from fastinit._model.materialize import fresh, kind_of
from fastinit._model.report import Row
from fastinit._model.sharing import shared_numbers
from fastinit._model.slots import Slot, check_tensors
from fastinit._model.tasks import Task, is_drawn, moves
from fastinit._schemes.keras_rules import zero_
from fastinit._schemes.naming import name_of
from fastinit._schemes.norms import is_final
from fastinit._schemes.padding import has_padding
from fastinit._schemes.rules import Choice
from fastinit._torch import base_of, dispatch_modes


class Fill(NamedTuple):
    """How an initializer fills tensors of one shape and dtype."""

    drawn: bool  # by a key, rather than a constant
    nbytes: int
    box: Box
    key: int | None = None  # its own
    recipe: Recipe | None = None  # of its law, if a backend can write it; else it is called
    checked: bool = True  # whether elements must have places of their own
    by: str = ""  # the initializer, as one would write the call
    shape: tuple[int, ...] = ()  # of all, one object: the search for cycles looks at each that a report has


class Plain(NamedTuple):
    """A parameter that its rule alone decides: nothing is to be told or refused, and its memory is its own."""

    row: Row
    key: int | None  # None: its values are not random
    fill: Fill  # with a recipe, and no key of its own
    place: torch.device | None  # where it goes, if it leaves meta


_Fields = tuple[Row, int | None, Fill, torch.device | None]
_plain: Callable[[_Fields], Plain] = functools.partial(tuple.__new__, Plain)  # in half of the time


@dataclass
class Planner:
    """Prepares tasks. Many layers have the same rules and shapes: what follows from these is found once."""

    place: torch.device | None
    key_of: Callable[[str], int]
    fills: dict[tuple[int, torch.Size, torch.dtype], Fill] = field(default_factory=dict)  # by ids that choices keep
    known: dict[tuple[int, torch.Size, torch.dtype], Fill | None] = field(default_factory=dict)  # of `plain`, likewise

    def plain(self, found: list[Slot], source: list[int], is_given: bool) -> dict[int, Plain]:
        """What is plain, by number, as most of a model's parameters are.

        Of ten thousand small ones, each attribute that is looked up counts: it is a tenth of a microsecond.

        Args:
            found: the slots of a model.
            source: for each the number of the one that holds its memory.
            is_given: whether somebody knows the values of all that is on meta, which then is not plain.
        """
        done: dict[int, Plain] = {}
        known, key_of, place, shared = self.known, self.key_of, self.place, shared_numbers(source)
        makes_new = place is not None and not is_given and not dispatch_modes()
        for number, slot in enumerate(found):
            name, module, _, tensor, choice, buffer, _, _ = slot
            if choice is None or buffer or type(tensor) is not nn.Parameter or number in shared:
                continue
            try:
                asked = _, _, dtype = id(choice), tensor.shape, tensor.dtype
                fill = known[asked]
            except RuntimeError:  # torch's, of nested ones
                check_tensors(found)
                raise
            except KeyError:
                fill = known[asked] = self._plain_fill(module, tensor, choice)
            new = place if place and moves(slot, place) else None
            if fill is None or not (makes_new and _is_usual_on_meta(tensor) if new else _is_usual(tensor)):
                continue
            drawn, _, _, _, _, _, by, shape = fill
            key = key_of(name) if drawn else None
            done[number] = _plain(((name, shape, dtype, "filled", "parameter", by, key, None, False), key, fill, new))
        return done

    def plan_plain(self, found: list[Slot], plain: dict[int, Plain]) -> tuple[list[Plan], list[tuple[Slot, Tensor]]]:
        """The plans of what is plain, and the new memory of some of it. Raises as `prepare`."""
        plans, made = [], []
        for number, (_, key, fill, place) in plain.items():
            slot = found[number]
            target = slot.tensor
            if place:
                with _named(slot):
                    target = fresh(target, place)
                made.append((slot, target))
            _, nbytes, box, _, recipe, _, _, _ = fill
            if nbytes and recipe:
                plans.append(plan_of((target, recipe, key or 0, box)))
        return plans, made

    def _plain_fill(self, module: nn.Module, tensor: Tensor, choice: Choice) -> Fill | None:
        """How such parameters of such modules are filled, if they may be plain."""
        initializer = choice.initializer
        if initializer is None or not is_final(choice, module) or has_padding(module):
            return None
        try:
            fill = self.fills[id(initializer), tensor.shape, tensor.dtype] = _fill_of(initializer, tensor)
        except (TypeError, ValueError, RuntimeError, MemoryError):
            return None  # it is said when its turn comes
        ready = fill.recipe is not None and fill.recipe.dtype is tensor.dtype and fill.key is None
        return fill if ready else None

    def prepare(self, task: Task) -> None:
        """Find a task's law, make its memory, plan its fill.

        Raises:
            TypeError: the tensor or an argument of the initializer has a wrong type; begins with the parameter's name.
            ValueError: another of its values is wrong, or its memory is not there, likewise.
            RuntimeError, torch.OutOfMemoryError, MemoryError: there is no memory for it, likewise.
        """
        slot, initializer = task.slot, task.initializer
        tensor = slot.tensor
        with _named(slot):
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
        task.plans = plans_of(parts_of(target), recipe, task.key or 0)


def _fill_of(initializer: Initializer, tensor: Tensor) -> Fill:
    if is_drawn(tensor):
        check_tensor(tensor, ALL_DTYPES)
    found, by = law_of(initializer, tensor.shape, tensor.dtype), name_of(initializer)
    if found is None:
        return Fill(True, tensor.nbytes, whole(tensor), checked=is_drawn(tensor), by=by, shape=tuple(tensor.shape))
    law, key = found
    constant = law.name == "constant"
    if initializer is not zero_ and not (constant and is_drawn(tensor)):
        check_tensor(tensor, ALL_DTYPES if constant else DRAWN_DTYPES)
    # Of a complex constant the parts differ.
    planned = tensor.dtype in FLOAT_DTYPES or (tensor.is_complex() and not constant)
    own = None if key is None or constant else keys.check(key)
    values = recipe(law, tensor.dtype) if planned else None
    checked = is_drawn(tensor) or initializer is not zero_
    return Fill(not constant, tensor.nbytes, whole(tensor), own, values, checked, by, tuple(tensor.shape))


class _named:  # a class, as contextmanager's generator takes a microsecond
    """Errors inside a `with` block begin with a slot's name."""

    def __init__(self, slot: Slot) -> None:
        self.name = slot.name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (TypeError, ValueError, RuntimeError, MemoryError)):
            raise kind_of(error)(f"{self.name}: {error} (nothing was written)") from error


def _is_usual(tensor: Tensor) -> bool:
    """Whether a parameter is as most are: trained, no view, neither loaded nor negated, with memory of its own on the CPU."""
    return (
        tensor.requires_grad
        and lies_alone(tensor)
        and not hasattr(tensor, LOADED)
        and base_of(tensor) is tensor
        and not tensor.is_neg()
    )


def _is_usual_on_meta(tensor: Tensor) -> bool:
    return tensor.is_meta and tensor.requires_grad and tensor.is_contiguous() and base_of(tensor) is tensor
