"""Whole models: names become keys, initializers become laws, and one batched fill a device writes every parameter."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fastinit._core import keys
from fastinit._fill import run, written
from fastinit._model.materialise import alias, install
from fastinit._model.report import Entry, Report
from fastinit._model.slots import Slot, slots, sources
from fastinit._model.tasks import ResetBuffers, Task, check_aliases, check_covered, find_values, prepare, tasks_of
from fastinit._schemes.calling import fill_with
from fastinit._schemes.ready import keras_like
from fastinit._schemes.scheme import Scheme, name_of


def initialize_(
    model: nn.Module,
    scheme: Scheme = keras_like,
    *,
    seed: int,
    device: str | torch.device | None = None,
    strict: bool = True,
    prefix: str = "",
    reset_buffers: ResetBuffers | None = None,
) -> Report:
    """Fill every parameter of a model: one call, one seed, the same bits in any order and on any devices.

    A parameter's values depend on the seed, its canonical name, its initializer, its whole shape and its dtype, and on
    nothing else: not on the order of modules, on other parameters, on threads, devices, or how DTensors are sharded
    (tensor and expert parallelism, FSDP2: each rank fills its shard, without communication). Its key is
    ``fastinit.key(seed, name)``, its name the one in ``named_parameters()`` without the parts that wrappers add
    (``module``, ``_orig_mod``, ``_checkpoint_wrapped_module``, ``_fsdp_wrapped_module``).

    An initializer that takes ``key`` gets the parameter's; any other is called with torch's default generators seeded by it.
    Those that fill the whole parameter from one distribution are batched, the others run one by one. Parameters that
    share memory are filled once, by the rule and under the name that comes first in the model (of one that lies inside
    another: the larger one's). Weights under a parametrization with an inverse (weight_norm) are set through it.

    Args:
        model: the model, of any size. Its parameters may be on meta.
        scheme: what fills each parameter: `keras_like`, `torch_like`, `gpt2_like(n_layer)`, `truncated_like(std, cutoff)`,
            or a `Scheme` of your own.
        seed: any integer.
        device: where the model shall be. Parameters and buffers on meta are materialised there, others moved; new memory is
            written once. None: where they are.
        strict: a parameter that no rule names is an error; else it is left as it is, and reported as missed.
        prefix: goes before all names, for a part of a larger model: "model.layers.7" for one layer, a pipeline stage.
        reset_buffers: for buffers on meta that no rule names and that are no running statistics: called as
            ``reset_buffers(module, name)`` with the module that owns one and its name there, returns its values (a tensor
            of its shape, on any device), or None if it does not know them.

    Returns:
        A `Report`: what was filled (by which initializer, under which key), tied, left and missed. Printable, and as JSON.

    Raises:
        TypeError: a wrong model, scheme, seed, prefix or callback; or from an initializer, with the parameter's name.
        ValueError: parameters that no rule names; modules that cannot be initialised (uninitialised lazy ones, quantised,
            FSDP1, parametrized without an inverse); meta tensors without a device, or whose values nobody knows. All are named,
            and nothing was written.
        RuntimeError: a fill failed; says which parameters had been written, if any.

    Example:
        ``with torch.device("meta"): model = Model(config)``, then
        ``print(fastinit.initialize_(model, fastinit.gpt2_like(n_layer=12), seed=0, device="cuda"))``
    """
    check_arguments(model, scheme, prefix, reset_buffers)
    keys.key(seed)  # names a wrong one
    place = None if device is None else real_device(device)
    found = slots(model, scheme, prefix)
    source = sources(found)
    with torch.no_grad():
        tasks = tasks_of(found, source, seed)
        all_tasks = list(tasks.values())
        if strict:
            check_covered(all_tasks)
        find_values(all_tasks, place, reset_buffers)
        check_aliases(found, source, place)
        for task in all_tasks:
            prepare(task, place)
        carry_out(all_tasks)
        for slot, owner in zip(found, source, strict=True):
            if not tasks[owner].in_place:
                install(slot, alias(tasks[owner].slot.tensor, slot.tensor, tasks[owner].target))
    entries = [entry_of(slot, tasks[owner], tied=found[owner] is not slot) for slot, owner in zip(found, source, strict=True)]
    return Report(int(seed), tuple(entries))


def check_arguments(model: Any, scheme: Any, prefix: Any, reset_buffers: Any) -> None:
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
            f"reset_buffers must be a function of module and name, or None. Received: {reset_buffers!r} "
            f"({type(reset_buffers).__name__}). Pass e.g. lambda module, name: module.computed(name)."
        )


def real_device(device: str | torch.device) -> torch.device:
    """The device with its index, as tensors have it."""
    place = torch.empty(0, device=device).device
    if place.type == "meta":
        raise ValueError(f"device must be one with memory. Received: {device!r}. Pass e.g. 'cuda', or leave it out.")
    return place


def carry_out(tasks: list[Task]) -> None:
    """Fills: first what must be done one by one, which is what may fail, then all the rest in a batch a device.

    Raises:
        RuntimeError: a fill failed; names what may have been written.
    """
    batch = [task for task in tasks if task.plans is not None]
    begun: list[Task] = []
    try:
        for task in (task for task in tasks if task.plans is None):
            begun.append(task)
            write(task)
        begun += batch
        run(plan for task in batch for plan in task.plans or ())
    except Exception as error:
        names = [task.slot.name for task in begun if task.in_place and task.initializer]
        state = f"Written, perhaps in part: {', '.join(names)}" if names else "The model is as it was"
        raise RuntimeError(f"initialisation failed: {error}. {state}.") from error
    for task in batch:
        written(task.target)


def write(task: Task) -> None:
    """A fill that is no plan."""
    if task.initializer is not None and task.key is None:  # a constant, of integers
        task.initializer(task.target)
    elif task.initializer is not None:
        assert task.key is not None
        fill_with(task.initializer, task.target, task.key)
    elif not task.in_place:
        assert task.values is not None
        task.target.copy_(task.values)


def entry_of(slot: Slot, task: Task, tied: bool) -> Entry:
    """A slot's line of the report."""
    return Entry(
        name=slot.name,
        shape=tuple(slot.tensor.shape),
        dtype=str(slot.tensor.dtype).removeprefix("torch."),
        state="tied" if tied else task.state,
        kind="buffer" if slot.buffer else "parameter",
        initializer=None if tied else initializer_of(task),
        key=None if tied or task.initializer is None else task.key,
        source=task.slot.name if tied else None,
    )


def initializer_of(task: Task) -> str | None:
    if task.initializer is not None:
        return name_of(task.initializer)
    return "reset_buffers" if task.state == "filled" else None
