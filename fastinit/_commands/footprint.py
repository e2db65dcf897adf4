"""Time and peak memory of one model's initialisation: by a process of its own, ``python .../apart.py footprint JOB``.

A job is a JSON object, see `Job`; the result, a JSON object too, is the last line printed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

import fastinit
from fastinit._commands.measure import Contender, paired, percentiles
from fastinit._commands.zoo import MODELS, Fill, Model

_T = TypeVar("_T")
_SLOW = 10.0  # seconds of a peer's pass, above which three rounds do
_TRIAL = 1 << 22  # elements from which a peer's speed is estimated


class Job(NamedTuple):
    """What to measure: building a model by a contender, or, without one, filling its memory from one of its starts."""

    model: str
    device: str
    small: bool
    contender: str | None = None
    start: int = 0
    rounds: int = 5  # of fills
    peer_seconds: float = 60.0  # a slower pass of the peer's is cut to a part of the parameters


def main() -> None:
    print(json.dumps(run(Job(**json.loads(sys.argv[2])))))


def run(job: Job) -> dict[str, Any]:
    return _build(job) if job.contender else fill(job)


def _build(job: Job) -> dict[str, Any]:
    """Seconds and peak bytes of building a model, after a small one: without lazy imports, tables and the starts of threads."""
    model, contender = MODELS[job.model], CONTENDERS[str(job.contender)]
    contender(model, True, job.device)
    built, result = footprint(lambda: contender(model, job.small, job.device), job.device)
    check(built, job.device)
    return {**result, "parameters": sum(p.numel() for p in built.parameters()), "model_bytes": size(built)}


def _constructed(model: Model, small: bool, device: str) -> nn.Module:
    """The library's own constructor; on a GPU it makes and fills the tensors there, its fastest way."""
    with torch.device(device) if device != "cpu" else contextlib.nullcontext():
        return model.make(small)


def _accelerated(model: Model, small: bool, device: str) -> nn.Module:
    with fastinit.accelerate():
        return _constructed(model, small, device)


def materialised(model: Model, small: bool, device: str, start: int | None = None) -> nn.Module:
    """Built without memory, then given memory and values at once."""
    chosen = model.start if start is None else model.fills[start]
    with torch.device("meta"):
        built = model.make(small)
    rest = fastinit.from_constructor(lambda: model.make(small)) if model.rest else None
    fastinit.initialize_(built, chosen.scheme(built), seed=0, device=device, reset_buffers=rest)
    chosen.finish(built)
    return built


CONTENDERS: dict[str, Callable[[Model, bool, str], nn.Module]] = {
    "nn.init": _constructed,
    "accelerate": _accelerated,
    "initialize_": materialised,
}


def footprint(call: Callable[[], _T], device: str) -> tuple[_T, dict[str, Any]]:
    """What a call returns, its seconds, and the bytes by which it raised the memory in use at its peak (None: unknown)."""
    _release()
    before = _reset_peak(device)
    _synchronize(device)
    began = time.perf_counter()
    result = call()
    _synchronize(device)
    seconds = time.perf_counter() - began
    after = _peak(device)
    return result, {"seconds": seconds, "peak_bytes": None if before is None or after is None else after - before}


def _release() -> None:
    """Gives free memory back: what malloc keeps would be used again uncounted."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak(device: str) -> int | None:
    """Forgets the peak so far; the bytes in use now: the process's resident memory, or what torch allocated on the GPU."""
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak becomes what is resident: man 5 proc_pid_clear_refs
    except OSError:
        return None
    return resident("VmRSS")


def _peak(device: str) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device != "cpu" else resident("VmHWM")


def resident(field: str) -> int | None:
    try:
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
    except (OSError, StopIteration):
        return None


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def size(model: nn.Module) -> int:
    """Bytes of parameters and buffers; a shared one counts once."""
    return sum(tensor.nbytes for tensor in itertools.chain(model.parameters(), model.buffers()))


def check(model: nn.Module, device: str) -> None:
    """Raises RuntimeError if a tensor was left out: elsewhere, not finite, or a matrix of floats of one value only."""
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.device.type != torch.device(device).type:
            raise RuntimeError(f"{name} is on {tensor.device}, not on {device}.")
        least, greatest = (bound.item() for bound in tensor.detach().aminmax())
        matrix = tensor.ndim > 1 and tensor.is_floating_point()
        if not (math.isfinite(least) and math.isfinite(greatest)) or (matrix and least == greatest):
            raise RuntimeError(f"{name} is not initialised: its values lie from {least} to {greatest}.")


def fill(job: Job) -> dict[str, Any]:
    """Rounds of `initialize_` and of torch.nn.init's calls for the same laws, on the same memory, which was used before."""
    model = MODELS[job.model]
    start = model.fills[job.start]
    built = materialised(model, job.small, job.device, job.start)
    scheme, fills = start.scheme(built), [*start.peer(built), Fill(lambda: start.finish(built), 0)]

    def ours(_: torch.Tensor) -> None:
        fastinit.initialize_(built, scheme, seed=0, overwrite_constants=True)
        start.finish(built)
        _synchronize(job.device)

    def peer(_: torch.Tensor) -> None:
        passed(chosen, job.device)

    with torch.no_grad():
        chosen, expected = affordable(fills, job)
        none, last = torch.empty(0), 3 if expected > _SLOW else None
        seconds = paired({"ours": Contender(ours, none), "peer": Contender(peer, none, last)}, job.rounds)
    check(built, job.device)
    return compared(seconds, elements_of(fills), elements_of(chosen))


def affordable(fills: list[Fill], job: Job) -> tuple[list[Fill], float]:
    """The calls, from the first on, whose pass fits the budget, and its expected seconds."""
    trial = _upto(fills, _TRIAL)
    passed(trial, job.device)
    rate = elements_of(trial) / passed(trial, job.device)
    chosen = _upto(fills, math.floor(rate * job.peer_seconds))
    return chosen, elements_of(chosen) / rate


def _upto(fills: list[Fill], elements: int) -> list[Fill]:
    """The first calls, one at least, until the elements are reached."""
    before = itertools.accumulate((fill.elements for fill in fills), initial=0)
    return [fill for fill, done in zip(fills, before, strict=False) if done < elements]


def passed(fills: list[Fill], device: str) -> float:
    """Seconds of a pass."""
    began = time.perf_counter()
    for each in fills:
        each.call()
    _synchronize(device)
    return time.perf_counter() - began


def elements_of(fills: list[Fill]) -> int:
    return sum(each.elements for each in fills)


def compared(seconds: dict[str, list[float]], elements: int, peer_elements: int) -> dict[str, Any]:
    """Of both: elements, rounds, seconds; and the ratios of their elements a second, round by round."""
    ratios = [p / peer_elements / (o / elements) for p, o in zip(seconds["peer"], seconds["ours"], strict=False)]
    return {
        "ours": {"elements": elements, "rounds": len(seconds["ours"]), "seconds": percentiles(seconds["ours"])},
        "peer": {"elements": peer_elements, "rounds": len(seconds["peer"]), "seconds": percentiles(seconds["peer"])},
        "times_peer": percentiles(ratios),
    }
