"""What noise each parameter of a model gets, and the blendings that add it: of whole tensors, of shards, around padding rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastinit._blend import (
    Coefficients,
    Noise,
    add_made_,
    blendings_of,
    check_source,
    coefficients,
    is_without_memory,
    memory_of,
    noise_of,
    parts_of,
)
from fastinit._core import shard
from fastinit._core.check import FLOAT_DTYPES, check_tensor, is_frozen
from fastinit._core.laws import Initializer, Law, call_of, constant, law_of
from fastinit._core.memory import shares_part
from fastinit._core.plan import Blending
from fastinit._core.recipes import real_of, recipe
from fastinit._model.report import State
from fastinit._model.sharing import decider_of, padded_for
from fastinit._model.slots import Slot, canonical
from fastinit._schemes.naming import name_of_dtype
from fastinit._schemes.norms import resolved
from fastinit._schemes.padding import zero_row_
from fastinit._torch import storage_number

# Of a plain tensor that is a part of a larger one: the shape of that, and for each of its axes the indices that the part holds:
# the first of so many as it has, a range, or several ranges in its order.
Place = tuple[Sequence[int], Sequence[int | range | Sequence[range]]]
Where = Callable[[str, Tensor], Place | None]
_ZERO = constant(0.0)


@dataclass
class Step:
    """What happens to the memory of one slot, and of those that share it."""

    slot: Slot
    state: State
    initializer: Initializer | None = None
    sharers: Sequence[Slot] = ()
    keys: list[int] = field(default_factory=list)
    noise: Noise | None = None  # once it is known
    late: Callable[[], None] | None = None  # what adds noise that no law draws
    made: Tensor | None = None  # of a parametrized weight, which has no memory of its own: what it becomes


def step_of(slot: Slot, sharers: list[Slot]) -> Step:
    decider = decider_of(sharers)
    choice = decider.choice if decider else None
    if all(sharer.buffer for sharer in sharers):
        return Step(slot, "left")
    named = choice is not None and choice.by_name
    if not named and all(is_frozen(sharer.tensor) or sharer.buffer for sharer in sharers):
        return Step(slot, "frozen")
    initializer = resolved(choice, decider.module, decider.attribute, decider.tensor) if decider and choice else None
    if initializer is None:
        told = choice is not None and choice.initializer is None
        return Step(slot, "left" if told else "missed")
    if not named and not slot.tensor.is_floating_point():  # packed or quantized weights
        return Step(slot, "missed")
    return Step(slot, "filled", padded_for(slot, sharers, initializer), sharers)


def check_covered(steps: list[Step]) -> None:
    """Raise ValueError for parameters that no rule names, and for those that have no values."""
    missed = [step.slot for step in steps if step.state == "missed"]
    if missed:
        raise ValueError(
            "no rule of the scheme has noise for these parameters, and nothing was written:\n"
            + "\n".join(f"  {slot.name} ({type(slot.module).__name__}, {name_of_dtype(slot.tensor.dtype)})" for slot in missed)
            + "\nGive them a rule; None leaves them: scheme.override({'name': None})."
        )
    on_meta = [step.slot.name for step in steps if step.state == "filled" and step.slot.tensor.is_meta]
    if on_meta:
        raise ValueError(f"these parameters are on meta, and hold nothing: {', '.join(on_meta)}. Call initialize_ first.")


class OldValues:
    """Old values by canonical names."""

    def __init__(self, given: Any, found: list[Slot]) -> None:
        if not isinstance(given, Mapping):
            raise TypeError(
                f"source must be a mapping from names to tensors, or None. Received: a {type(given).__name__}. "
                "Pass e.g. {name: p.clone() for name, p in model.named_parameters()}."
            )
        self.tensors: dict[str, Tensor] = {canonical(name): tensor for name, tensor in given.items()}
        self.written: dict[int, list[Tensor]] = defaultdict(list)  # by their storages
        for tensor in (shard.local_of(slot.tensor) for slot in found):
            if not is_without_memory(tensor):
                self.written[storage_number(tensor)].append(tensor)

    def of(self, slot: Slot, sharers: Sequence[Slot]) -> Tensor:
        """Those of a slot, by its name or by that of one tied to it."""
        names = [slot.name, *(sharer.name for sharer in sharers if sharer.tensor.shape == slot.tensor.shape)]
        name = next((name for name in names if name in self.tensors), None)
        if name is None:
            raise ValueError("source has no values of this name. Pass a mapping with all parameters that are perturbed.")
        old = self.tensors[name]
        check_source(slot.tensor, old)
        here, there = shard.local_of(slot.tensor), shard.local_of(old)
        others = [] if is_without_memory(there) else self.written[storage_number(there)]
        if any(each.data_ptr() == there.data_ptr() or shares_part(each, there) for each in others if each is not here):
            raise ValueError("source's values are in the memory of another parameter, which changes too. Pass a clone().")
        return old


@dataclass
class Planner:
    """Makes the blendings of steps, in memory that is there until the stack is closed. What many have in common is found once."""

    stack: ExitStack
    add: Sequence[float]
    keep: float
    source: OldValues | None
    where: Where | None
    numbers: dict[torch.dtype, Coefficients] = field(default_factory=dict)
    known: dict[Any, Noise] = field(default_factory=dict)  # by initializers, which the steps keep, with shapes and dtypes

    def blendings(self, step: Step) -> list[Blending]:
        """What backends do for a step; every check is made. What no law draws is noted in the step.

        Raises:
            TypeError, ValueError: the tensor cannot be blended into, or is not the part of a whole that `where` says; its
                initializer cannot be called by a key; source has not its old values.
        """
        tensor, initializer = step.slot.tensor, step.initializer
        check_tensor(tensor, FLOAT_DTYPES)
        old = None if self.source is None else self.source.of(step.slot, step.sharers)
        place = None if self.where is None or shard.is_dtensor(tensor) else self.where(step.slot.name, tensor)
        shape, runs = (tensor.shape, None) if place is None else _checked_place(tensor, place)
        row = None
        function, _, given = call_of(initializer)  # type: ignore[arg-type]
        if function is zero_row_:
            law_of(initializer, shape, tensor.dtype)  # type: ignore[arg-type]  # refuses a row
            initializer, row = given["initializer"], given["row"] % shape[-2]
        step.noise = noise = self._noise(initializer, shape, tensor.dtype)
        numbers = self._numbers(tensor.dtype)
        if is_without_memory(tensor):
            return []
        if step.slot.parametrized:
            step.made, old = torch.empty_like(tensor), tensor if old is None else old
        out = tensor if step.made is None else step.made
        out, read = self.stack.enter_context(memory_of(out, old if numbers.keep != 0 else None))
        blocks, rows = _blocks_of(tensor, shape, runs, row)
        zeros = blendings_of(parts_of(shape, rows, out, read), _ZERO, step.keys, numbers) if rows else []
        if isinstance(noise, Law):
            return zeros + blendings_of(parts_of(shape, blocks, out, read), noise, step.keys, numbers)
        step.late = partial(add_made_, shape, blocks, out, read, noise, step.keys, numbers)
        return zeros

    def _noise(self, initializer: Any, shape: torch.Size, dtype: torch.dtype) -> Noise:
        asked = id(initializer), shape, dtype
        if asked not in self.known:
            self.known[asked] = noise_of(initializer, shape, dtype)
        if isinstance(noise := self.known[asked], Law):
            recipe(noise, real_of(dtype))  # refuses a law
        return noise

    def _numbers(self, dtype: torch.dtype) -> Coefficients:
        if dtype not in self.numbers:
            self.numbers[dtype] = coefficients(self.add, self.keep, dtype)
        return self.numbers[dtype]


def _blocks_of(
    tensor: Tensor, shape: torch.Size, runs: list[list[range]] | None, row: int | None
) -> tuple[list[shard.Block] | None, list[shard.Block]]:
    """What of the whole a tensor holds, in blocks; None: all of it. Those of a row that is apart are the second."""
    if shard.is_dtensor(tensor):
        blocks = shard.local_blocks(tensor)
    elif runs is None and row is None:
        return None, []
    else:
        blocks = list(shard.blocks([[range(n)] for n in shape] if runs is None else runs))
    if row is None:
        return blocks, []
    cut = [each for block in blocks for each in shard.without_row(block, len(shape) - 2, row)]
    return [block for block, is_row in cut if not is_row], [block for block, is_row in cut if is_row]


def _checked_place(tensor: Tensor, place: Any) -> tuple[torch.Size, list[list[range]]]:
    """The whole's shape and the runs of indices that a tensor holds of it."""
    try:
        shape, axes = place
        shape = torch.Size(shape)
        runs = [_runs_of(axis, size) for axis, size in zip(axes, tensor.shape, strict=True)]
    except (TypeError, ValueError):
        raise TypeError(
            "where must return None, or the whole's shape and for each axis the first index, a range or a list of ranges. "
            f"Received: {place!r} for shape {tuple(tensor.shape)}."
        ) from None
    held = tuple(sum(map(len, axis)) for axis in runs)
    inside = len(shape) == len(runs) and all(_lie_in(axis, size) for axis, size in zip(runs, shape, strict=True))
    if held != tuple(tensor.shape) or not inside:
        raise ValueError(
            f"where must name indices of the whole, as many on each axis as the tensor has, {tuple(tensor.shape)}. "
            f"Received: shape {tuple(shape)}, indices {axes!r}."
        )
    return shape, runs


def _lie_in(runs: list[range], size: int) -> bool:
    return all(run.start >= 0 and run.stop <= size for run in runs)


def _runs_of(axis: Any, size: int) -> list[range]:
    if isinstance(axis, int):
        return [range(axis, axis + size)]
    runs = [axis] if isinstance(axis, range) else list(axis)
    if any(not isinstance(run, range) or run.step != 1 for run in runs):
        raise TypeError
    return [run for run in runs if run]
