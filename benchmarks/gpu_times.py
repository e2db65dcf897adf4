"""Times on a GPU, for `python -m benchmarks.gpu`: fills, calls on small tensors, lists of a model's tensors, first calls.

Contenders take turns in every round. A tensor is filled again only after others, together larger than the L2 cache; times are by
CUDA events around one call, ratios are of one round.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import fastinit
from fastinit._backends.choose import module
from fastinit._commands import gpt2
from fastinit._commands.measure import percentiles
from fastinit._commands.peers import STD, WORKS, Work, torch_truncated_
from fastinit._core.laws import truncated_normal
from fastinit._core.plan import Plan, whole
from fastinit._core.recipes import recipe

DTYPES = (torch.float32, torch.bfloat16)  # of every row
NARROW = (torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)  # of these works at the largest size
NARROW_WORKS = ("truncated_normal", "uniform", "normal")
BACKLOG = 4_000_000  # cycles, about two milliseconds
Call = Callable[[Tensor], Any]


class Pace(NamedTuple):
    """How much is measured: all, or as little as shows that this program works."""

    sizes: tuple[int, ...]
    rounds: int
    cache: int  # bytes that rotating tensors cover at least
    huge: int  # elements of the tensor that is checked beyond 2^31
    layers: int  # of the models
    width: int
    seeds: int  # of an update


FULL = Pace((1 << 24, 1 << 28), 30, 256 << 20, (1 << 31) + (1 << 20) + 5, 12, 768, 32)
DRY = Pace((1 << 11,), 1, 1 << 12, (1 << 13) + 5, 0, 64, 2)


def seconds(contenders: dict[str, Callable[[int], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every contender in every round, after one untimed; a contender is called with the round's number.

    A round begins with work that keeps the device busy while the host queues the calls, up to the first that waits: it is last.
    """
    if device.type != "cuda":
        return waited(contenders, rounds, device)
    for call in contenders.values():
        call(0)
    spans: dict[str, list[Any]] = {name: [] for name in contenders}
    torch.cuda.synchronize(device)
    for number in range(rounds):
        torch.cuda._sleep(BACKLOG)
        for name, call in contenders.items():
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            call(number)
            last.record()
            spans[name].append((first, last))
    torch.cuda.synchronize(device)
    return {name: [first.elapsed_time(last) / 1e3 for first, last in pairs] for name, pairs in spans.items()}


def waited(contenders: dict[str, Callable[[int], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Wall time from the call to the end of its work."""
    spans: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, call in contenders.items():
            began = time.perf_counter()
            call(number)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                spans[name].append(time.perf_counter() - began)
    return spans


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    return percentiles([a / b for a, b in zip(above, below, strict=True)])


def forced(name: str, call: Call) -> Call:
    def run(tensor: Tensor) -> Any:
        with fastinit.backend(name):
            return call(tensor)

    return run


def able(call: Call, example: Tensor) -> bool:
    """Whether torch has the function for the device and dtype."""
    try:
        call(torch.empty_like(example[:2]))
    except (NotImplementedError, RuntimeError):
        return False
    return True


# --- fills ------------------------------------------------------------------------------------------------------------------


def rows(backends: list[str], device: torch.device, pace: Pace) -> Iterator[dict[str, Any]]:
    """Yield a row for every function, dtype and size, then for calls on 1,024 elements."""
    for size in pace.sizes:
        for dtype in (*DTYPES, *NARROW):
            works = [work for work in WORKS.values() if dtype in DTYPES or work.name in NARROW_WORKS]
            if dtype in NARROW and size != pace.sizes[-1]:
                continue
            count = max(3, -(-pace.cache // (size * dtype.itemsize)))
            tensors = [torch.empty(size >> 6, 64, dtype=dtype, device=device).fill_(1.0) for _ in range(count)]
            for work in works:
                yield from row(work, tensors, backends, device, pace)
            del tensors
    for dtype in DTYPES:
        for work in WORKS.values():
            yield from small_row(work, torch.empty(32, 32, dtype=dtype, device=device), backends, device, pace)


def row(work: Work, tensors: list[Tensor], backends: list[str], device: torch.device, pace: Pace) -> Iterator[dict[str, Any]]:
    first = tensors[0]
    calls = {"fill": lambda t: t.fill_(1.0), **{name: forced(name, work.ours) for name in backends}}
    if stateless := torch_stateless(work, first):
        calls["torch.func._random"] = stateless
    if able(work.peer, first):
        calls["peer"] = work.peer

    def rotating(call: Call) -> Callable[[int], Any]:
        return lambda number: call(tensors[number % len(tensors)])

    spans = seconds({name: rotating(call) for name, call in calls.items()}, pace.rounds, device)
    for name in backends:
        fitting = percentiles(spans[name])
        facts = {"work": work.name, "dtype": str(first.dtype).removeprefix("torch."), "elements": first.numel(), "backend": name}
        facts |= {"rounds": pace.rounds, "seconds": fitting, "elements_per_s": first.numel() / fitting["p50"]}
        facts |= {"gb_per_s": first.nbytes / fitting["p50"] / 1e9, "of_fill": ratio(spans["fill"], spans[name])}
        facts |= {"fill_gb_per_s": first.nbytes / percentiles(spans["fill"])["p50"] / 1e9}
        if "peer" in spans:
            facts |= {"peer": work.peer_name, "times_peer": ratio(spans["peer"], spans[name])}
        if stateless:
            facts["times_stateless"] = ratio(spans["torch.func._random"], spans[name])
        yield facts


def torch_stateless(work: Work, example: Tensor) -> Call | None:
    """torch.func._random's in-place function for the law, where torch has it for the device and dtype."""
    try:
        from torch.func import _random as stateless

        key = stateless.key(0, device=example.device)
        calls = {
            "uniform": lambda tensor: stateless.uniform_(key, tensor),
            "normal": lambda tensor: stateless.normal_(key, tensor, std=STD),
        }
        calls[work.name](torch.empty_like(example[:1]))
    except (ImportError, AttributeError, KeyError, TypeError, RuntimeError):  # absent, another signature, another law
        return None
    return calls[work.name]


def small_row(work: Work, tensor: Tensor, backends: list[str], device: torch.device, pace: Pace) -> Iterator[dict[str, Any]]:
    """What a call costs the host, and what nn.init.uniform_ does: a hundred calls and the wait for the last, in wall time."""
    repeats = 100 if device.type == "cuda" else 1

    def repeated(call: Call) -> Call:
        def run(given: Tensor) -> None:
            for _ in range(repeats):
                call(given)

        return run

    ours = {name: forced(name, repeated(work.ours)) for name in backends}  # forced once: that takes time too
    calls = {"uniform_": repeated(nn.init.uniform_), "peer": repeated(work.peer), **ours}
    spans = waited({name: lambda number, call=call: call(tensor) for name, call in calls.items()}, pace.rounds, device)
    spans = {name: [span / repeats for span in found] for name, found in spans.items()}
    for name in backends:
        facts: dict[str, Any] = {"work": work.name, "dtype": str(tensor.dtype).removeprefix("torch.")}
        facts |= {"elements": tensor.numel(), "backend": name, "rounds": pace.rounds, "seconds": percentiles(spans[name])}
        facts |= {"peer": work.peer_name, "times_peer": ratio(spans["peer"], spans[name])}
        yield facts | {"of_uniform": ratio(spans[name], spans["uniform_"])}


# --- lists --------------------------------------------------------------------------------------------------------------------


def lists(backends: list[str], device: torch.device, pace: Pace) -> Iterator[dict[str, Any]]:
    """Every weight matrix of a model in one call, against one nn.init call each; wall time until the device is done."""
    for title, shapes in {"ResNet-50": resnet50(pace), "GPT-2 small": gpt2_shapes(pace)}.items():
        for dtype in DTYPES:
            tensors = [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
            values = recipe(truncated_normal(0.0, STD, -2 * STD, 2 * STD), dtype)
            plans = [Plan(tensor, values, key, whole(tensor)) for key, tensor in enumerate(tensors)]
            contenders: dict[str, Callable[[int], Any]] = {name: functools.partial(fill_all, name, plans) for name in backends}
            contenders["peer"] = functools.partial(torch_loop, tensors)
            spans = waited(contenders, pace.rounds, device)
            for name in backends:
                facts = {"model": title, "dtype": str(dtype).removeprefix("torch."), "tensors": len(tensors), "backend": name}
                facts |= {"elements": sum(t.numel() for t in tensors), "seconds": percentiles(spans[name])}
                facts |= {"launches": launches(functools.partial(contenders[name], 0), device)}
                yield facts | {"peer": "nn.init.trunc_normal_", "times_peer": ratio(spans["peer"], spans[name])}


def initialized(backends: list[str], device: torch.device, pace: Pace) -> Iterator[dict[str, Any]]:
    """The launches of `initialize_`, of weights, biases and constants together."""
    for dtype in DTYPES:
        model = gpt2_of(pace, dtype, device)
        for name in backends:
            with fastinit.backend(name):
                call = functools.partial(fastinit.initialize_, model, fastinit.torch_like, seed=0, overwrite_constants=True)
                call()  # compiles and uploads
                facts = {"model": "GPT-2 small", "dtype": str(dtype).removeprefix("torch."), "backend": name}
                yield facts | {"tensors": len(list(model.parameters())), "launches": launches(call, device)}


def fill_all(name: str, plans: list[Plan], number: int) -> None:
    module(name, plans[0].out.device.type).fill(plans)


def torch_loop(tensors: list[Tensor], number: int) -> None:
    for tensor in tensors:
        torch_truncated_(tensor)


def launches(call: Callable[[], Any], device: torch.device) -> dict[str, int] | None:
    """How often each kernel was launched in a call, without copies; None where there is no GPU to ask."""
    if device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as seen:
        call()
        torch.cuda.synchronize(device)
    found: dict[str, int] = {}
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.name.startswith(("Memcpy", "Memset")):
            name = event.name.partition("<")[0].split("::")[-1].split(" ")[-1]
            found[name] = found.get(name, 0) + 1
    return found


def resnet50(pace: Pace) -> list[tuple[int, ...]]:
    """Its convolutions and its last layer (He et al. 2015)."""
    shapes, channels = [(64, 3, 7, 7)], 64
    stages = ((64, 3), (128, 4), (256, 6), (512, 3)) if pace is FULL else ((8, 1),)
    for width, blocks in stages:
        for block in range(blocks):
            shapes += [(width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                shapes.append((4 * width, channels, 1, 1))
            channels = 4 * width
    return [*shapes, (1000 if pace is FULL else 10, channels)]


def gpt2_of(pace: Pace, dtype: torch.dtype, device: torch.device) -> nn.Module:
    with torch.device("meta"):
        model = gpt2.GPT2(pace.layers, pace.width, *((50257, 1024) if pace is FULL else (20, 16))).to(dtype)
    return model.to_empty(device=device)


def gpt2_shapes(pace: Pace) -> list[tuple[int, ...]]:
    model = gpt2_of(pace, torch.float32, torch.device("meta"))
    most = sys.maxsize if pace is FULL else 16  # rows and columns
    return [tuple(min(size, most) for size in parameter.shape) for parameter in model.parameters() if parameter.ndim > 1]


# --- first calls --------------------------------------------------------------------------------------------------------------

FIRST_CALL = """
import sys
sys.path[:] = {path!r}
import time, torch
tensor = torch.zeros({width}, 64, dtype=torch.bfloat16, device={device!r})
began = time.perf_counter()
import fastinit
imported = time.perf_counter()
fastinit.truncated_normal_(tensor, key=1)
tensor[0, 0].item()
print(imported - began, time.perf_counter() - imported)
"""


def first_calls(name: str, device: torch.device, pace: Pace) -> dict[str, Any]:
    """Seconds of the first fill of a process: with nothing compiled, and with what the process before has left on disk."""
    found: dict[str, Any] = {"backend": name}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TRITON_CACHE_DIR": cache, "FASTINIT_BACKEND": name}
        command = [sys.executable, "-c", FIRST_CALL.format(path=sys.path, device=str(device), width=pace.width)]
        for state in ("cold", "warm"):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise RuntimeError(f"the first call by {name} failed: {done.stderr[-1000:]}")
            found["import"], found[state] = map(float, done.stdout.split())
    return found
