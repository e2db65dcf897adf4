"""Noise onto the parameters of a whole model: names become keys, initializers become laws, one batched blend a device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastinit._blend import (
    Coefficients,
    blendings_of,
    check_source,
    coefficients,
    is_without_memory,
    law_for,
    memory_of,
    pairs,
    parts_of,
    run,
)
from fastinit._core import keys, shard
from fastinit._core.check import FLOAT_DTYPES, check_tensor, is_frozen
from fastinit._core.laws import Initializer, Law, call_of, constant, law_of
from fastinit._core.modes import safe_torch
from fastinit._core.plan import Blending
from fastinit._fill import check_backends, written
from fastinit._model.materialize import kind_of
from fastinit._model.report import Entry, Report, State
from fastinit._model.sharing import decider_of, padded_for, sharers_of, sources
from fastinit._model.slots import Slot, canonical, slots
from fastinit._model.tasks import check_rules
from fastinit._schemes.naming import name_of, name_of_dtype
from fastinit._schemes.norms import resolved
from fastinit._schemes.padding import zero_row_
from fastinit._schemes.scheme import Scheme
from fastinit._torch import storage_number

# Of a plain tensor that is a part of a larger one: the shape of that, and for each of its axes the indices that the part holds, as
# the first of so many as it has, a range, or several ranges in its order.
Place = tuple[Sequence[int], Sequence[int | range | Sequence[range]]]
Where = Callable[[str, Tensor], Place | None]
_ZERO = constant(0.0)


def perturb_(
    model: nn.Module,
    scheme: Scheme | Initializer,
    *,
    seed: int | Sequence[int],
    add: float | Sequence[float],
    keep: float = 1.0,
    source: Mapping[str, Tensor] | None = None,
    where: Where | None = None,
) -> Report:
    """Blend noise into the parameters of a model: ``keep * w`` plus the sum of ``add[n] *`` what `initialize_` fills by ``seed[n]``.

    Each parameter's noise has the key that `initialize_` would fill it by, ``fastinit.key(seed, name)``: it depends on the seed,
    the canonical name, the initializer, the whole shape and the dtype, and on nothing else. The arithmetic is that of `blend_`: one
    pass over memory for any number of seeds, no tensors of noise, the same bits on all devices and meshes. All parameters of a
    device take one call.

    So an evolution strategy perturbs by ``perturb_(model, normal_, seed=s, add=sigma)``, takes that back by ``add=-sigma``, and
    updates by one call with the seeds of its members and their weights; ``perturb_(model, keras_like, seed=1, keep=0.4, add=0.1)``
    shrinks and perturbs; and ``keep=1 - rate, add=rate`` with the seed of initialize_ pulls toward the initial weights, which
    nobody keeps.

    Parameters that share memory are perturbed once, as `initialize_` fills them. Frozen ones (requires_grad is False) are left,
    unless a rule of yours names them by a full name. Weights under a parametrization with an inverse are set through it. Buffers
    are left. A padding row of an embedding gets no noise. Weights that are loaded from a checkpoint are perturbed as any.

    Args:
        model: the model, with its memory. DTensors are perturbed shard by shard, without communication.
        scheme: a `Scheme`, or one initializer for all parameters, such as `normal_`. All initializers must declare a law, see
            `blend_`. A rule None leaves a parameter.
        seed: any integer, or a sequence of them.
        add: what the noise is multiplied by: finite, or a sequence of as many numbers as there are seeds.
        keep: what the old values are multiplied by: finite. 1 keeps them exactly; 0 reads nothing.
        source: old values by name, such as a snapshot ``{name: p.clone() for name, p in model.named_parameters()}``: perturbing
            from it never drifts. It must have all parameters that are perturbed, of their shapes, dtypes, devices and shardings;
            what it has besides is ignored. None: each parameter's own values.
        where: for plain tensors that are shards of larger ones (vLLM, Megatron): called as ``where(name, tensor)`` it returns None
            for a whole tensor, or the whole's shape and the indices that the tensor holds: for each axis the first one, a range, or
            a list of ranges, such as `shard.indices` returns.

    Returns:
        A `Report` of what was perturbed (state "filled"), tied, left, frozen.

    Warns:
        UserWarning: all that rules name is frozen, and nothing was perturbed.

    Raises:
        TypeError, ValueError: an argument is wrong, as in `blend_`; parameters that no rule names, or whose noise has no law; rules
            of `Scheme.override` and for full names that match nothing; modules that cannot be initialized; parameters on meta. They
            are named, and nothing was written.
        RuntimeError: no backend can serve a device as asked. Nothing was written.

    Reference:
        J. T. Ash and R. P. Adams, [On Warm-Starting Neural Network Training](https://arxiv.org/abs/1910.08475), 2020: shrink and
        perturb. S. Kumar, H. Marklund and B. Van Roy, [Maintaining Plasticity in Continual Learning via Regenerative
        Regularization](https://arxiv.org/abs/2308.11958), 2023: toward the initial weights. Others in `blend_`.

    Examples:
        >>> model = nn.Linear(3, 2)
        >>> print(fastinit.perturb_(model, fastinit.normal_, seed=[1, 2], add=[0.01, -0.01]))
        name    shape  dtype    state   by
        weight  2x3    float32  filled  normal_, 2 keys
        bias    2      float32  filled  normal_, 2 keys
        seeds 1, 2: 2 filled
    """
    scheme = _scheme_of(model, scheme)
    seeds, factors = pairs("seed", seed, add)
    for each in seeds:
        keys.key(each)  # names a wrong one
    coefficients(factors, keep, torch.float64)  # likewise
    found, unused = slots(model, scheme, "")
    check_rules(unused)
    holders = sources(found)
    sharing = sharers_of(found, holders)
    steps = {owner: _step_of(found[owner], sharers) for owner, sharers in sharing.items()}
    _check_covered(list(steps.values()))
    read = None if keep == 0 or source is None else _Source(source, [slot for slot in found if not slot.parametrized])
    key_of = [keys.of_names(int(each)) for each in seeds]
    filled = [(step, sharing[owner]) for owner, step in steps.items() if step.state == "filled"]
    with torch.no_grad(), ExitStack() as stack:
        blendings: list[Blending] = []
        numbers: dict[torch.dtype, Coefficients] = {}
        for step, sharers in filled:
            try:
                step.keys.extend(key(step.slot.name) for key in key_of)
                dtype = step.slot.tensor.dtype
                if dtype not in numbers:
                    check_tensor(step.slot.tensor, FLOAT_DTYPES)
                    numbers[dtype] = coefficients(factors, keep, dtype)
                old = None if read is None else read.of(step.slot, sharers)
                blendings += _blendings(stack, step, numbers[dtype], old, where)
            except (TypeError, ValueError, RuntimeError, MemoryError) as error:
                raise kind_of(error)(f"{step.slot.name}: {error} (nothing was written)") from error
        check_backends(blending.out.device for blending in blendings)
        run(blendings)
    for step, _ in filled:
        _put(step)
    if not filled and any(step.state == "frozen" for step in steps.values()):
        warnings.warn(_ALL_FROZEN, UserWarning, stacklevel=2)
    rows = zip(found, holders, strict=True)
    entries = tuple(_entry_of(slot, steps[owner], found[owner] is not slot) for slot, owner in rows)
    return Report(_one_or_all(seeds), entries, tuple(rule.words for rule in unused))


_ALL_FROZEN = (
    "all that rules name is frozen (requires_grad is False), and nothing was perturbed: only rules for full names perturb it"
)


def _one_or_all(numbers: Sequence[int]) -> Any:
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _scheme_of(model: Any, scheme: Any) -> Scheme:
    """The scheme; of an initializer the one that has it for all parameters."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"perturb_ takes a torch.nn.Module. Received: {model!r} ({type(model).__name__}). Pass the model, or call blend_ on a tensor."
        )
    if isinstance(scheme, Scheme):
        return scheme
    if not callable(scheme) or isinstance(scheme, type):
        raise TypeError(
            f"scheme must be a fastinit.Scheme, or an initializer. Received: {scheme!r} ({type(scheme).__name__}). "
            "Pass e.g. fastinit.normal_."
        )
    return Scheme({nn.Module: {"*": scheme}})


# --- what is to be done -------------------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """What happens to the memory of one slot, and of those that share it."""

    slot: Slot
    state: State
    initializer: Initializer | None
    target: Tensor  # what is written: the slot's tensor, or of a parametrized one new memory
    keys: list[int]
    laws: list[Law]  # the one of its noise, once it is known


def _step_of(slot: Slot, sharers: list[Slot]) -> _Step:
    decider = decider_of(sharers)
    choice = decider.choice if decider else None
    if all(sharer.buffer for sharer in sharers):
        return _Step(slot, "left", None, slot.tensor, [], [])
    named = choice is not None and choice.by_name
    if not named and all(is_frozen(sharer.tensor) or sharer.buffer for sharer in sharers):
        return _Step(slot, "frozen", None, slot.tensor, [], [])
    initializer = resolved(choice, decider.module, decider.attribute, decider.tensor) if decider and choice else None
    if initializer is None:
        told = choice is not None and choice.initializer is None
        return _Step(slot, "left" if told else "missed", None, slot.tensor, [], [])
    if not named and not slot.tensor.is_floating_point():  # packed or quantized weights
        return _Step(slot, "missed", None, slot.tensor, [], [])
    target = torch.empty_like(slot.tensor) if slot.parametrized else slot.tensor
    return _Step(slot, "filled", padded_for(slot, sharers, initializer), target, [], [])


def _check_covered(steps: list[_Step]) -> None:
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


class _Source:
    """Old values by canonical names."""

    def __init__(self, given: Any, found: list[Slot]) -> None:
        if not isinstance(given, Mapping):
            raise TypeError(
                f"source must be a mapping from names to tensors, or None. Received: a {type(given).__name__}. "
                "Pass e.g. {name: p.clone() for name, p in model.named_parameters()}."
            )
        self.tensors = {canonical(name): tensor for name, tensor in given.items()}
        self.storages = {storage_number(shard.local_of(slot.tensor)) for slot in found if not slot.tensor.is_meta}

    def of(self, slot: Slot, sharers: list[Slot]) -> Tensor:
        """Those of a slot, by its name or by that of one tied to it."""
        names = [slot.name, *(sharer.name for sharer in sharers if sharer.tensor.shape == slot.tensor.shape)]
        name = next((name for name in names if name in self.tensors), None)
        if name is None:
            raise ValueError("source has no values of this name. Pass a mapping with all parameters that are perturbed.")
        old = self.tensors[name]
        check_source(slot.tensor, old)
        here, there = shard.local_of(slot.tensor), shard.local_of(old)
        if not is_without_memory(here):
            numbers = storage_number(here), storage_number(there)
            if numbers[0] != numbers[1] and numbers[1] in self.storages and there.numel():
                raise ValueError(
                    "source's values are in the memory of another parameter, which is perturbed too. Pass a clone()."
                )
        return old


# --- blendings ----------------------------------------------------------------------------------------------------------------


def _blendings(stack: ExitStack, step: _Step, numbers: Coefficients, old: Tensor | None, where: Where | None) -> list[Blending]:
    """What backends do for a step, in memory that is there until the stack is closed."""
    tensor, initializer = step.slot.tensor, step.initializer
    place = None if where is None or shard.is_dtensor(tensor) else where(step.slot.name, tensor)
    shape, runs = (tensor.shape, None) if place is None else _checked_place(tensor, place)
    function, _, given = call_of(initializer)  # type: ignore[arg-type]
    row = None
    if function is zero_row_:
        law_of(initializer, shape, tensor.dtype)  # type: ignore[arg-type]  # refuses a row
        initializer, row = given["initializer"], given["row"] % shape[-2]
    law = law_for(initializer, shape, tensor.dtype)
    step.laws.append(law)
    if is_without_memory(tensor):
        return []
    if old is None and step.target is not tensor and numbers.keep != 0:
        old = tensor
    out, read = stack.enter_context(memory_of(step.target, old))
    blocks = shard.local_blocks(tensor) if shard.is_dtensor(tensor) else None
    if blocks is None and (runs is not None or row is not None):
        blocks = list(shard.blocks([[range(n)] for n in shape] if runs is None else runs))
    if row is None or blocks is None:
        return blendings_of(parts_of(shape, blocks, out, read), law, step.keys, numbers)
    cut = [each for block in blocks for each in shard.without_row(block, len(shape) - 2, row)]
    return [
        blending
        for zero, part in ((False, law), (True, _ZERO))
        for blending in blendings_of(
            parts_of(shape, [block for block, is_row in cut if is_row == zero], out, read), part, step.keys, numbers
        )
    ]


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
    inside = len(shape) == len(runs) and all(
        r.start >= 0 and r.stop <= n for n, axis in zip(shape, runs, strict=True) for r in axis
    )
    if held != tuple(tensor.shape) or not inside:
        raise ValueError(
            f"where must name indices of the whole, as many on each axis as the tensor has, {tuple(tensor.shape)}. "
            f"Received: shape {tuple(shape)}, indices {axes!r}."
        )
    return shape, runs


def _runs_of(axis: Any, size: int) -> list[range]:
    if isinstance(axis, int):
        return [range(axis, axis + size)]
    runs = [axis] if isinstance(axis, range) else list(axis)
    if any(not isinstance(run, range) or run.step != 1 for run in runs):
        raise TypeError
    return [run for run in runs if run]


def _put(step: _Step) -> None:
    """Tell autograd, or set what a parametrization computes."""
    if step.target is step.slot.tensor:
        written(step.slot.tensor)
        return
    with torch.no_grad(), safe_torch():
        setattr(step.slot.module, step.slot.attribute, step.target)


def _entry_of(slot: Slot, step: _Step, tied: bool) -> Entry:
    """A slot's line of the report."""
    filled = step.state == "filled" and not tied
    return Entry(
        name=slot.name,
        shape=tuple(slot.tensor.shape),
        dtype=name_of_dtype(slot.tensor.dtype),
        state="tied" if tied and step.state == "filled" else step.state,
        kind=slot.kind,
        initializer=name_of(step.initializer) if filled else None,
        key=_one_or_all(step.keys) if filled and step.laws[0].name != "constant" else None,
        source=step.slot.name if tied and step.state == "filled" else None,
    )
