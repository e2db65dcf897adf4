"""Timing: contenders take turns in every round, so that what slows the machine slows them all; medians and percentiles."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import torch

import fastinit
from fastinit._commands import console
from fastinit._commands.info import collect

_SHORTEST = 1e-3  # seconds of one timing: a shorter call is repeated
SETTLE = 0.01  # seconds; the workers of torch's last long call spin for about 5 ms, on the cores that the next one needs


class Contender(NamedTuple):
    """A call on its own tensor; `last_round` ends the turns of a slow one early."""

    call: Callable[[torch.Tensor], Any]
    tensor: torch.Tensor
    last_round: int | None = None


def paired(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender's call in each round, all contenders once a round, after one untimed call each.

    Calls so short that they are repeated follow each other at once: they use one thread, and a pause would cool the caches.
    """
    calls = {name: repeats(contender) for name, contender in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, (call, tensor, last) in contenders.items():
            if last is None or number < last:
                if calls[name] == 1:
                    time.sleep(SETTLE)
                seconds[name].append(timed(call, tensor, calls[name]))
    return seconds


def timed(call: Callable[[torch.Tensor], Any], tensor: torch.Tensor, calls: int = 1) -> float:
    """Seconds of one call, averaged over `calls`."""
    began = time.perf_counter()
    for _ in range(calls):
        call(tensor)
    return (time.perf_counter() - began) / calls


def repeats(contender: Contender) -> int:
    """How many calls make a timing long enough; the first call, which may build a table, does not count."""
    first = timed(contender.call, contender.tensor)
    if first > 20 * _SHORTEST:
        return 1
    return math.ceil(_SHORTEST / timed(contender.call, contender.tensor, 2 if first > _SHORTEST else 20))


def affordable(call: Callable[[torch.Tensor], Any], make: Callable[[int], torch.Tensor], elements: int, budget: float) -> int:
    """The largest size, `elements` or a power of two below it, whose call takes no longer than the budget in seconds."""
    trial = min(elements, 1 << 16)
    tensor = make(trial)
    call(tensor)
    rate = trial / timed(call, tensor)
    size = elements
    while size > trial and size / rate > budget:
        size = 1 << (size - 1).bit_length() - 1
    return size


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch's number of threads, and so fastinit's, inside a `with` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """p20, p50 and p80."""
    cuts = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    p20, p50, p80 = torch.tensor(samples, dtype=torch.float64).quantile(cuts).tolist()
    return {"p20": p20, "p50": p50, "p80": p80}


def machine() -> dict[str, Any]:
    """What a measurement needs beside it."""
    facts = collect()
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **{name: facts[name] for name in ("threads", "backend", "isa", "platform", "python", "torch")},
        "fastinit": facts["version"],
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
    }


def described(facts: dict[str, Any]) -> str:
    """The machine in a line."""
    place = f"{facts['cpu']}, {facts['cores']} cores, {console.counted(facts['threads'], 'thread')}"
    return f"{place}, {facts['isa'] or facts['backend'] + ' backend'}, torch {facts['torch']}"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout that the package is imported from, marked -dirty if it was changed; None elsewhere."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(fastinit.__file__)))
    if not os.path.exists(os.path.join(root, "csrc", "fastinit.h")):
        return None
    command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
