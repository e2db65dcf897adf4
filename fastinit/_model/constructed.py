"""Values that no rule gives: what a function knows of a module, or what the model's constructor writes.

The constructor runs once, but for the matrices that nobody asks for (`fastinit._model.building`). Where something that is asked
for depends on them, it runs once more, with all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fastinit._core.modes import safe_torch
from fastinit._model.building import Building, Wanted, on_cpu, storage_of
from fastinit._model.materialize import kind_of
from fastinit._model.plain import look_up
from fastinit._model.slots import Slot, child_at, unwrapped

ResetBuffers = Callable[[nn.Module, str], Tensor | None]  # of a module and a name in it; None: not known


class Giver(Protocol):
    """What knows values that no rule gives."""

    by: str  # what the report calls it
    knows_all: bool  # parameters too, and what holds something already

    def give(self, slots: list[Slot]) -> list[Tensor | None]:
        """The values of slots; None where they are not known."""

    def hold(self, slots: list[Slot]) -> list[Tensor | None]:
        """What slots would hold that a rule fills, asked after `give`; None where it is not known."""


class from_constructor:
    """Values that no rule of a scheme gives are those that the model's constructor writes: for `initialize_`'s ``reset_buffers``.

    Rotary tables, masks, relative indices, schedules, ``A_log``, class tokens: buffers, parameters that no rule fills (frozen
    ones too), and tensors that are plain attributes take the values of a model that ``build()`` makes on the CPU. On meta that
    is also what a rule None leaves. What is not on meta is set too, unless a rule says None or it is marked as loaded; plain
    attributes that are not on meta stay.

    Each call of `initialize_` that needs a value calls ``build`` once, under ``torch.device("cpu")``. Matrices that are not
    asked for stay on meta while it runs. Where a value depends on them, or that fails, it is called once more, with all of them.
    Its random draws come from the seed of `initialize_` and their order in the constructor alone, in equal values on all ranks;
    what a constructor draws after a ``torch.manual_seed`` of its own is torch's. torch's CPU generator, Python's and
    NumPy's are put back afterwards. Blocks of `accelerate` around it do not serve it.

    Modules are found by their canonical names. Where `initialize_` has a prefix, the model built may be the whole one or the
    part. Values are rounded once to the dtype of the model's tensor; a DTensor takes its shard of them.

    Args:
        build: makes the model, or one of its structure, without arguments.

    Raises:
        TypeError: it is not callable. (`initialize_` raises if it returns no module; and names what the module does not have,
            or in another shape, by a ValueError.)

    Reference:
        PyTorch, "Deferred module initialization".

    Examples:
        >>> class Model(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear, self.scale = nn.Linear(2, 2), nn.Parameter(torch.full((2,), 0.1))
        ...         self.register_buffer("angles", torch.arange(3.0))
        >>> with torch.device("meta"):
        ...     model = Model()
        >>> print(fastinit.initialize_(model, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(Model)))
        name           shape  dtype    state   by
        scale          2      float32  filled  as constructed
        angles         3      float32  filled  as constructed
        linear.weight  2x2    float32  filled  glorot_uniform_, key ce63d1f1fd643b2e
        linear.bias    2      float32  filled  zeros_
        seed 0: 4 filled
    """

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        if not callable(build) or isinstance(build, nn.Module):
            raise TypeError(
                f"from_constructor takes a function that builds the model. Received: {build!r} ({type(build).__name__}). "
                "Pass e.g. lambda: Model(config)."
            )
        self._build = build

    def __repr__(self) -> str:
        return f"from_constructor({self._build!r})"

    def __call__(self) -> nn.Module:
        """Build the model.

        Returns:
            The model.

        Raises:
            TypeError: what was built is no torch.nn.Module.
        """
        built = self._build()
        if not isinstance(built, nn.Module):
            raise TypeError(f"from_constructor: build() must return a torch.nn.Module. Received: {built!r}. Nothing was written.")
        return built


def giver_of(reset_buffers: ResetBuffers | from_constructor | None, model: nn.Module, seed: int, prefix: str) -> Giver | None:
    """What `initialize_` asks."""
    if isinstance(reset_buffers, from_constructor):
        return _Construction(reset_buffers, model, seed, prefix)
    return None if reset_buffers is None else _Function(reset_buffers)


@dataclass
class _Function:
    """A function that knows buffers, and plain attributes."""

    function: ResetBuffers
    by: str = "reset_buffers"
    knows_all: bool = False

    def give(self, slots: list[Slot]) -> list[Tensor | None]:
        return [self.function(slot.module, slot.attribute) if slot.buffer else None for slot in slots]

    def hold(self, slots: list[Slot]) -> list[Tensor | None]:
        return [None] * len(slots)


@dataclass
class _Construction:
    """What the constructor of one model writes under one seed."""

    build: from_constructor
    model: nn.Module
    seed: int
    prefix: str  # canonical
    by: str = "as constructed"
    knows_all: bool = True
    built: nn.Module | None = None
    building: Building | None = None  # of the light one

    def give(self, slots: list[Slot]) -> list[Tensor | None]:
        self.light(frozenset((slot.attribute, tuple(slot.tensor.shape)) for slot in slots))
        found: list[Tensor | None] = [None] * len(slots) if self.built is None else self.values(self.built, slots)
        again = [number for number, values in enumerate(found) if values is None or values.is_meta]
        if again:
            self.built, self.building = None, None  # its memory
            self.built = self.whole()
            for number, values in zip(again, self.values(self.built, [slots[number] for number in again]), strict=True):
                found[number] = values
        return [None if values is None else _cast(values, slot.tensor) for values, slot in zip(found, slots, strict=True)]

    def hold(self, slots: list[Slot]) -> list[Tensor | None]:
        if self.built is None:
            self.light(frozenset())
        built, building = self.built or self.whole(), self.building
        self.built, self.building = None, None
        start, found = len(self.start(built)), []
        for slot in slots:
            values = _value_of(child_at(built, slot.path[start:]), slot)
            if isinstance(values, Tensor) and values.is_meta:
                values = building and building.constant_of(values)
            found.append(values.detach() if isinstance(values, Tensor) and values.shape == slot.tensor.shape else None)
        return found

    def light(self, wanted: Wanted) -> None:
        """Build a model whose matrices are on meta, unless they are wanted, if it can be built so."""
        with on_cpu(self.seed, wanted) as building, contextlib.suppress(Exception):
            built = self.build()
            self.built, self.building = (None, None) if building.confused else (built, building)

    def whole(self) -> nn.Module:
        try:
            with on_cpu(self.seed):
                return self.build()
        except Exception as error:
            words = f"from_constructor: build() failed: {error} ({type(error).__name__}). Nothing was written."
            raise (error if "from_constructor" in str(error) else kind_of(error)(words)) from error

    def values(self, built: nn.Module, slots: list[Slot]) -> list[Tensor | None]:
        """What a model holds in the places of slots.

        Raises:
            ValueError: it has no such places, or of another shape; names them all.
        """
        start = len(self.start(built))
        found = [_value_of(child_at(built, slot.path[start:]), slot) for slot in slots]
        given = {storage_of(values) for values, slot in zip(found, slots, strict=True) if not slot.steps}
        drawn = {storage_of(parameter) for parameter in built.parameters()} - given
        wrong = [
            f"  {slot.name}: {reason}"
            for values, slot in zip(found, slots, strict=True)
            if (reason := _refusal(values, slot) or _alias_refusal(values, slot, drawn))
        ]
        if wrong:
            raise ValueError(
                f"from_constructor: build() made a {type(built).__name__} that does not fit the model, a "
                f"{type(self.model).__name__}, and nothing was written:\n" + "\n".join(wrong) + "\nBuild the same model."
            )
        return [values.detach() for values in found]

    def start(self, built: nn.Module) -> str:
        """The canonical name of what was built: the prefix, unless it is the whole model, which has its part there."""
        whole = self.prefix and child_at(built, self.prefix) is not None
        return "" if whole and not isinstance(unwrapped(self.model), type(unwrapped(built))) else self.prefix


def _value_of(module: nn.Module | None, slot: Slot) -> Any:
    """What a module holds in the place of a slot."""
    steps = slot.steps or (slot.attribute,)
    return None if module is None else look_up(unwrapped(module, steps[0]), steps)


def _refusal(values: Any, slot: Slot) -> str | None:
    """Why what was built cannot be a slot's values; None where it can."""
    if not isinstance(values, Tensor):
        return "there is none" if values is None else f"there is a {type(values).__name__}"
    if values.shape != slot.tensor.shape:
        return f"shape {tuple(values.shape)} instead of {tuple(slot.tensor.shape)}"
    if not torch.can_cast(values.dtype, slot.tensor.dtype):
        return f"{values.dtype} instead of {slot.tensor.dtype}"
    return None


def _alias_refusal(values: Any, slot: Slot, drawn: set[int | None]) -> str | None:
    if not slot.steps or storage_of(values) not in drawn:
        return None
    return "a plain attribute that is a parameter there, or a view of one, which a rule fills, and is none here. Set it anew"


def _cast(values: Tensor, tensor: Tensor) -> Tensor:
    """The values, rounded once: torch rounds a double to a narrow type by way of float32, which must then be odd."""
    if values.dtype is not torch.float64 or not tensor.is_floating_point() or tensor.itemsize > 2 or values.is_meta:
        return values
    with torch.no_grad(), safe_torch():
        single = values.float()
        lost = values - single.double()
        toward = torch.where(lost > 0, torch.inf, -torch.inf).float()
        even = (single.view(torch.int32) & 1) == 0
        return torch.where(even & (lost != 0) & single.isfinite(), torch.nextafter(single, toward), single)
