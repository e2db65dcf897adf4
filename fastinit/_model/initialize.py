"""Whole models: names become keys, initializers become laws, and one batched fill for each device writes every parameter."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fastinit._core import keys
from fastinit._core.check import PLAIN, unmarked
from fastinit._core.laws import Initializer
from fastinit._core.modes import safe_torch, uncollected
from fastinit._core.plan import Plan
from fastinit._core.shard import copy_whole_, local_of
from fastinit._fill import check_backends, run
from fastinit._model.constructed import Giver, ResetBuffers, from_constructor, giver_of
from fastinit._model.guard import Guard
from fastinit._model.materialize import alias, install
from fastinit._model.planner import Plain, Planner
from fastinit._model.report import Report, Row
from fastinit._model.sharing import sources
from fastinit._model.slots import Slot, canonical, slots
from fastinit._model.tasks import (
    Overwrite,
    Task,
    check_aliases,
    check_covered,
    check_rules,
    equal_values,
    find_values,
    is_known,
    keep_constants,
    tasks_of,
)
from fastinit._schemes.calling import fill_with
from fastinit._schemes.naming import name_of
from fastinit._schemes.ready import keras_like
from fastinit._schemes.scheme import Scheme
from fastinit._torch import FakeTensor, without_own_references, written

_ALL_FROZEN = "all that rules name is frozen (requires_grad is False), and nothing was filled: only rules for full names fill it"


def initialize_(
    model: nn.Module,
    scheme: Scheme = keras_like,
    *,
    seed: int,
    device: str | torch.device | None = None,
    strict: bool = True,
    prefix: str = "",
    reset_buffers: ResetBuffers | from_constructor | None = None,
    overwrite_loaded: bool = False,
    overwrite_constants: bool = False,
) -> Report:
    """Fill every parameter of a model: one call, one seed, the same bits in any order and on any devices.

    A parameter's values depend on the seed, its canonical name, its initializer, its whole shape and its dtype, and on nothing
    else: not on the order of modules, on threads, devices, or how DTensors are sharded (each rank fills its shard, without
    communication). Its key is ``fastinit.key(seed, name)``, its name the one in ``named_parameters()`` without the parts that
    wrappers add (``module``, ``_orig_mod``, ``_checkpoint_wrapped_module``, ``_fsdp_wrapped_module``).

    Initializers that declare a law are filled in one batch; the others run one by one. One that takes ``key`` gets the
    parameter's; what any other draws from torch's default generators comes from generators of its own, seeded by the key: the
    default ones are not touched. One that writes nothing is an error.

    Parameters that share memory are filled once, under the name that comes first in the model (the larger one's, if one lies
    inside another). The first rule decides; before it goes one for the full name of any of them, then that of an embedding with
    a padding row. Weights under a parametrization with an inverse (weight_norm) are set through it.

    Frozen parameters (requires_grad is False) are left as they are, unless a rule of yours names them by a full name.

    A module that is in several places is one module, under the first of its names, as in ``named_parameters()``: its parameters
    are reported once, and patterns match this name. A rule for a full name, or for a name below a type, may use any of them.

    Parameters stay the objects that they are, also those that are materialized or moved: an optimizer made before trains them,
    hooks on them run, gradients move with them (not from meta). Exceptions are those of `Module.to`: buffers are replaced, and
    what moves under ``torch.__future__.set_overwrite_module_params_on_conversion``. A parameter on meta that a weak reference,
    a view or a graph holds is replaced too; but refused, as torch fails there, if it is a DTensor or under
    ``torch.__future__.set_swap_module_params_on_conversion``.

    Args:
        model: the model, of any size. Its parameters may be on meta.
        scheme: what fills each parameter, such as `keras_like`, `torch_like`, ``gpt2_like(n_layer)`` or a `Scheme` of your own.
        seed: any integer.
        device: where the model goes: tensors on meta are made there, others moved. None: all stay, and none may be on meta.
        strict: whether a parameter that no rule names is an error. False: it is left as it is, and reported as missed. Likewise
            for constants that the model's constructor has set, see overwrite_constants; they are reported as kept.
        prefix: goes before all names, for a part of a larger model: "model.layers.7" for one layer. The default adds nothing.
        reset_buffers: what no rule gives. Either `from_constructor`, for all of it. Or a function, called as
            ``reset_buffers(module, name)`` for buffers on meta that no rule names and that are no running statistics, and for
            tensors on meta that are plain attributes of modules (also in their lists, tuples and dicts, by names such as
            "cache['k']", "steps[0]"): it returns the values, a tensor of that shape, or None; of a plain attribute itself, to
            leave it on meta. None: there are no such.
        overwrite_loaded: whether tensors that transformers has marked as loaded (by a true attribute ``_is_hf_initialized``)
            are filled too. False: they are left as they are, and reported so.
        overwrite_constants: whether constants of the model's constructor are filled too: a gate of zeros, a Dirac kernel, a last
            gain of 0, where a scheme that comes with the package would draw or set something else (rules of your own fill them
            anyway). They are seen where a constructor has written the values: in place, in half of the matrices at least. Not
            on meta, after `to_empty`, in copies and in shards, and not after training. False: strict refuses them.

    Returns:
        A `Report` of what was filled (by which initializer, under which key), tied, left and missed, and of unused rules.

    Warns:
        UserWarning: a rule with a key of its own fills several parameters with equal values; names them.

    Raises:
        TypeError: an argument has a wrong type; or an initializer's error, with the parameter's name.
        ValueError: names all parameters that no rule names, rules of `Scheme.override` and for full names that match nothing
            (where strict, and the prefix is empty), modules that cannot be initialized (lazy, quantized, FSDP1,
            parametrized without an inverse), a module that contains itself, tensors that cannot get new memory, and meta
            tensors without a device or values; or what `from_constructor` built does not fit the model.
            Nothing was written.
        RuntimeError: a fill failed; says at which parameter, if its initializer has no law, and what had been written, if
            anything. Where memory is short, it is torch.OutOfMemoryError or MemoryError if that was the error. Or there is no
            memory for a parameter, which it names; or no backend can serve a device as asked. Then nothing was written.

    Reference:
        PyTorch, "Deferred module initialization": a model is built on meta, and filled once it has memory.

    Examples:
        >>> with torch.device("meta"):
        ...     model = nn.Linear(3, 2)
        >>> print(fastinit.initialize_(model, seed=0, device="cpu"))
        name    shape  dtype    state   by
        weight  2x3    float32  filled  glorot_uniform_, key 4483fb62b4adb6d8
        bias    2      float32  filled  zeros_
        seed 0: 2 filled
    """
    _check_arguments(model, scheme, prefix, reset_buffers)
    keys.key(seed)  # names a wrong one
    place = None if device is None else _real_device(device)
    giver = giver_of(reset_buffers, model, int(seed), canonical(prefix))
    overwrite = Overwrite(overwrite_loaded, overwrite_constants)
    with uncollected():
        rows, unused = _initialize(model, scheme, prefix, int(seed), place, strict, giver, overwrite)
    return Report.of_rows(seed, rows, unused)


def _initialize(
    model: nn.Module,
    scheme: Scheme,
    prefix: str,
    seed: int,
    place: torch.device | None,
    strict: bool,
    giver: Giver | None,
    overwrite: Overwrite,
) -> tuple[list[Row], tuple[str, ...]]:
    """The rows of the report, and the rules that match nothing."""
    found, unused = slots(model, scheme, prefix)
    if strict and not prefix:
        check_rules(unused)
    return _fill_model(found, seed, place, strict, giver, overwrite), tuple(rule.words for rule in unused)


def _fill_model(
    found: list[Slot], seed: int, place: torch.device | None, strict: bool, giver: Giver | None, overwrite: Overwrite
) -> list[Row]:
    """Decide, check and plan everything, then write."""
    source = sources(found)
    with torch.no_grad():
        planner = Planner(place, keys.of_names(seed))
        knows_all = bool(giver and giver.knows_all)
        plain = planner.plain(found, source, knows_all)
        guard = Guard(found, plain)
        tasks = tasks_of(found, source, overwrite.loaded, guard, plain)
        if not overwrite.constants:
            tasks = keep_constants(found, tasks, plain, guard)
        all_tasks = list(tasks.values())
        if strict and not knows_all:
            check_covered(all_tasks, (found[number] for number in plain))
        find_values(all_tasks, place, giver, overwrite.constants)
        with without_own_references({slot.module for slot in found if slot.tensor.device != place} if place else set()):
            check_aliases(found, source, place)
            for task in all_tasks:
                planner.prepare(task)
            for words in equal_values(all_tasks):
                warnings.warn(f"{words}. Leave the key out: each gets its own.", UserWarning, stacklevel=4)
            plans, made = planner.plan_plain(found, plain)
            _carry_out(all_tasks, plans, plain.values())
            others = [(slot, tasks[owner]) for slot, owner in zip(found, source, strict=True) if owner in tasks] if tasks else []
            made += [(slot, alias(task.slot.tensor, slot.tensor, task.target)) for slot, task in others if not task.in_place]
            install(made)
            states = {"filled"} if plain else {task.state for task in all_tasks}
            if "frozen" in states and "filled" not in states:
                warnings.warn(_ALL_FROZEN, UserWarning, stacklevel=4)
    return _rows_of(found, source, tasks, plain)


def _check_arguments(model: Any, scheme: Any, prefix: Any, reset_buffers: Any) -> None:
    """Raise TypeError for arguments of wrong types."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"initialize_ takes a torch.nn.Module. Received: {model!r} ({type(model).__name__}). "
            "Pass the model, or call an initializer on a tensor."
        )
    if not isinstance(scheme, Scheme):
        raise TypeError(
            f"scheme must be a fastinit.Scheme. Received: {scheme!r} ({type(scheme).__name__}). Pass e.g. fastinit.keras_like."
        )
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str. Received: {prefix!r} ({type(prefix).__name__}). Pass e.g. 'model.layers.7'.")
    if reset_buffers is not None and not callable(reset_buffers):
        raise TypeError(
            f"reset_buffers must be from_constructor(...), a function of module and name, or None. Received: {reset_buffers!r} "
            f"({type(reset_buffers).__name__}). Pass e.g. fastinit.from_constructor(lambda: Model(...))."
        )


def _real_device(device: str | torch.device) -> torch.device:
    """The device with its index, as tensors have it."""
    place = torch.empty(0, device=device).device
    if place.type == "meta":
        raise ValueError(f"device must be one with memory. Received: {device!r}. Pass e.g. 'cuda', or leave it out.")
    return place


def _carry_out(tasks: list[Task], plans: list[Plan], plain: Iterable[Plain]) -> None:
    """Fill: first what must be done one by one, which is what may fail, then all the rest in one batch for each device.

    Args:
        tasks: what is planned one by one.
        plans: of what is plain, on one device.
        plain: what that is.

    Raises:
        RuntimeError: a fill failed; names what may have been written. torch.OutOfMemoryError, MemoryError: likewise.
        ValueError, RuntimeError: no backend can serve a device as asked; nothing was written.
    """
    batch = [task for task in tasks if task.plans is not None]
    check_backends(task.target.device for task in tasks if task.initializer and not _is_fake(task.target))
    check_backends([plans[0].out.device] if plans else [])
    begun: list[Task] = []
    at = ""
    try:
        for task in (task for task in tasks if task.plans is None):
            at = f" at {task.slot.name}"
            begun.append(task)
            _write(task)
        begun, at = begun + batch, ""
        others = [plan for task in batch for plan in task.plans or ()]
        run(plans + others, None if others or not plans else plans[0].out.device)
    except Exception as error:
        names = [task.slot.name for task in begun if task.in_place and task.initializer]
        names += [] if at else [row[0] for row, *_, place in plain if not place]
        state = f"Written, perhaps in part: {', '.join(names)}" if names else "The model is as it was"
        kind = type(error) if isinstance(error, (torch.OutOfMemoryError, MemoryError)) else RuntimeError
        raise kind(f"initialization failed{at}: {error}. {state}.") from error
    written(*[plan.out for plan in plans], *[task.target for task in batch])


def _is_fake(tensor: Tensor) -> bool:
    return type(tensor) not in PLAIN and isinstance(tensor, FakeTensor)  # mostly, the first is enough


@safe_torch()
def _write(task: Task) -> None:
    """A fill that is no plan."""
    if task.initializer is None and task.values is not None and task.values is not task.target:
        if not (task.values.is_meta or isinstance(task.target, FakeTensor)):
            copy_whole_(task.target, task.values)
    elif task.initializer is not None:
        with unmarked(task.target):
            if task.key is None:  # a constant, of integers
                task.initializer(task.target)
            elif is_known(task.initializer):
                fill_with(task.initializer, task.target, task.key)
            else:
                _call_unknown(task, task.initializer, task.key)


def _call_unknown(task: Task, initializer: Initializer, key: int) -> None:
    """Call an initializer that may go by what is there: new memory holds what was there before, or NaN, where nothing was.

    Raises:
        ValueError: it has left elements of new memory as they were.
    """
    raw = task.slot.tensor.is_meta and task.target.is_floating_point()
    if raw:
        task.target.fill_(math.nan)
    elif not task.in_place:
        task.target.copy_(task.slot.tensor)
    fill_with(initializer, task.target, key)
    if raw and not isinstance(task.target, FakeTensor) and bool(local_of(task.target).float().isnan().any()):
        raise ValueError(f"{name_of(initializer)} has not written all elements of {task.slot.name}, or has written NaN")


def _rows_of(found: list[Slot], source: list[int], tasks: dict[int, Task], plain: dict[int, Plain]) -> list[Row]:
    """The lines of the report: of what the model is now, and without its tensors."""
    rows = []
    for number, (slot, owner) in enumerate(zip(found, source, strict=True)):
        if number in plain:
            rows.append(plain[number].row)
            continue
        task = tasks[owner]
        tied = owner != number
        if tied and slot.steps:
            continue
        initializer, key, state = task.initializer, task.key, task.state
        if tied:
            name, key = None, None
            state = state if task.loaded else "tied"
        else:
            name = name_of(initializer) if initializer else task.by or None
        tensor = slot.tensor
        rows.append(
            (slot.name, tensor.shape, tensor.dtype, state, slot.kind, name, key, task.slot.name if tied else None, task.loaded)
        )
    return rows
