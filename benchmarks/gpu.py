"""Everything that only a GPU can show, in one command without a network: `python -m benchmarks.gpu`.

In a source tree that is not installed it compiles the libraries first. Then the bits: `fastinit check`, then a tensor of more
than 2^31 elements, lists, shards, streams and graphs, blends, against the reference on the CPU and each backend against the
other; a fault ends it. Then the times: large fills against Tensor.fill_ and torch's functions, whole models against a loop of
torch.nn.init, noise onto a model against torch.randn, a call on 1,024 elements, the first call of a process. Last,
compute-sanitizer on a small run. Results go to benchmarks/results/gpu-NAME.json, from which `python -m benchmarks.readme_tables`
writes the table of docs/gpus.md. Exit status 1 on a fault, 2 where there is no GPU.

Contenders take turns in every round. A tensor is filled again only after others, together larger than the L2 cache; times are by
CUDA events around one call, ratios are of one round.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import fastinit
from benchmarks import gpu_bits, gpu_noise
from fastinit._backends import cpu, cuda
from fastinit._backends.choose import module
from fastinit._commands import check, files, gpt2
from fastinit._commands.measure import machine, percentiles
from fastinit._commands.peers import STD, WORKS, Work, torch_truncated_
from fastinit._core.laws import truncated_normal
from fastinit._core.plan import Plan, whole
from fastinit._core.recipes import recipe

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BACKENDS = ("native", "triton")  # those that are measured where they serve
DTYPES = (torch.float32, torch.bfloat16)
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, help="the results file (default: benchmarks/results/gpu-NAME.json)")
    parser.add_argument("--dry-run", action="store_true", help="a few elements on the CPU (TRITON_INTERPRET=1)")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        print("there is no GPU here: nothing was checked or measured", file=sys.stderr)
        return 2
    device = torch.device("cpu") if arguments.dry_run else torch.device("cuda", torch.cuda.current_device())
    files.check_writable(arguments.output or RESULTS / "gpu-.json")
    pace, began = DRY if arguments.dry_run else FULL, time.monotonic()
    built = "not built: a dry run" if arguments.dry_run else build(device)
    print(f"libraries: {built}", flush=True)
    reasons = fastinit.backends(device)
    backends = [name for name in BACKENDS if reasons[name] is None]
    print(*(f"{name}: {reasons[name] or 'serves'}" for name in BACKENDS), sep="\n", flush=True)
    if not backends:
        return 2
    if not arguments.dry_run and check.run(argparse.Namespace()):
        return 1
    found = list(gpu_bits.faults(backends, device, pace.huge))
    if found:
        print(*(f"FAULT {fault}" for fault in found), sep="\n", file=sys.stderr)
        return 1
    print(f"bits: equal to the reference ({time.monotonic() - began:.0f} s)", flush=True)
    report = {
        "machine": gpu_machine(device) | {"libraries": built},
        "rows": list(rows(backends, device, pace)),
        "models": models(backends, device, pace),
        "noise": [row for dtype in DTYPES for row in gpu_noise.rows(backends, gpt2_of(pace, dtype, device), pace, waited)],
    }
    report["first_call"] = {name: first_calls(name, device, pace) for name in backends}
    output = arguments.output or RESULTS / f"gpu-{slug(report['machine']['gpu'])}.json"
    write(report, output, began)
    report["sanitizer"] = {name: gpu_bits.sanitized(name) for name in backends} if device.type == "cuda" else {}
    print(*(f"{name}: {tools}" for name, tools in report["sanitizer"].items()), sep="\n", flush=True)
    write(report, output, began)
    print(f"{output}: written after {report['seconds']} s; python -m benchmarks.readme_tables")
    return 1 if any("exit status" in told for tools in report["sanitizer"].values() for told in tools.values()) else 0


def write(report: dict[str, Any], output: pathlib.Path, began: float) -> None:
    """Write the report as it is so far: the sanitizer comes last and is slow."""
    report["seconds"] = round(time.monotonic() - began)
    files.write(output, json.dumps(report, indent=1) + "\n")


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def gpu_machine(device: torch.device) -> dict[str, Any]:
    """What must be known to read a measurement: the machine, its GPU and the versions."""
    import triton

    facts = machine() | {"triton": triton.__version__, "gpu": "none: a dry run", "driver": None, "cuda": torch.version.cuda}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "multiprocessors": properties.multi_processor_count, "memory": properties.total_memory}
        facts["driver"] = driver()
    return facts


def driver() -> str | None:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return None


# --- build ------------------------------------------------------------------------------------------------------------------


def build(device: torch.device) -> str:
    """Compile the libraries into a source tree that is not installed, for this GPU alone; return what was done."""
    if pathlib.Path(fastinit.__file__).parents[1] != ROOT:
        return f"installed at {pathlib.Path(fastinit.__file__).parent}"
    sources = max(path.stat().st_mtime for path in (ROOT / "csrc").rglob("*"))
    if all(path.is_file() and path.stat().st_mtime > sources for path in (cpu.library_path(), cuda.library_path())):
        return "in the source tree, up to date"
    architecture = "".join(map(str, torch.cuda.get_device_capability(device)))
    environment = {**os.environ, "FASTINIT_CUDA_ARCHS": architecture}
    command, began = [sys.executable, "setup.py", "build_ext", "--inplace"], time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode or not cuda.library_path().is_file():
        return f"in the source tree, without CUDA's library: {(done.stdout + done.stderr)[-1500:]}"
    return f"in the source tree, for sm_{architecture}, in {time.monotonic() - began:.0f} s"


# --- times ------------------------------------------------------------------------------------------------------------------


def seconds(contenders: dict[str, Callable[[int], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every contender in every round, after one untimed; a contender is called with the round's number."""
    if device.type != "cuda":
        return waited(contenders, rounds, device)
    for call in contenders.values():
        call(0)
    spans: dict[str, list[Any]] = {name: [] for name in contenders}
    torch.cuda.synchronize(device)
    for number in range(rounds):
        for name, call in contenders.items():
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            call(number)
            last.record()
            spans[name].append((first, last))
    torch.cuda.synchronize(device)
    return {name: [first.elapsed_time(last) / 1e3 for first, last in pairs] for name, pairs in spans.items()}


def rows(backends: list[str], device: torch.device, pace: Pace) -> Iterator[dict[str, Any]]:
    """Yield a row for every function, dtype and size, then for calls on 1,024 elements."""
    for size in pace.sizes:
        for dtype in DTYPES:
            count = max(3, -(-pace.cache // (size * dtype.itemsize)))
            tensors = [torch.empty(size >> 6, 64, dtype=dtype, device=device).fill_(1.0) for _ in range(count)]
            for work in WORKS.values():
                yield from row(work, tensors, backends, device, pace)
            del tensors
    for dtype in DTYPES:
        for work in WORKS.values():
            yield from small_row(work, torch.empty(32, 32, dtype=dtype, device=device), backends, device, pace)


def row(work: Work, tensors: list[Tensor], backends: list[str], device: torch.device, pace: Pace) -> Iterator[dict[str, Any]]:
    first = tensors[0]
    calls = {"fill": lambda t: t.fill_(1.0), "peer": work.peer, **{name: forced(name, work.ours) for name in backends}}
    stateless = torch_stateless(work, first)
    if stateless:
        calls["torch.func._random"] = stateless

    def rotating(call: Call) -> Callable[[int], Any]:
        return lambda number: call(tensors[number % len(tensors)])

    spans = seconds({name: rotating(call) for name, call in calls.items()}, pace.rounds, device)
    for name in backends:
        fitting = percentiles(spans[name])
        facts = {"work": work.name, "dtype": str(first.dtype).removeprefix("torch."), "elements": first.numel(), "backend": name}
        facts |= {"rounds": pace.rounds, "seconds": fitting, "elements_per_s": first.numel() / fitting["p50"]}
        facts |= {"gb_per_s": first.nbytes / fitting["p50"] / 1e9, "of_fill": ratio(spans["fill"], spans[name])}
        facts |= {"fill_gb_per_s": first.nbytes / percentiles(spans["fill"])["p50"] / 1e9}
        facts |= {"peer": work.peer_name, "times_peer": ratio(spans["peer"], spans[name])}
        if stateless:
            facts["times_stateless"] = ratio(spans["torch.func._random"], spans[name])
        yield facts


def forced(name: str, call: Call) -> Call:
    def run(tensor: Tensor) -> Any:
        with fastinit.backend(name):
            return call(tensor)

    return run


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


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    return percentiles([a / b for a, b in zip(above, below, strict=True)])


def small_row(work: Work, tensor: Tensor, backends: list[str], device: torch.device, pace: Pace) -> Iterator[dict[str, Any]]:
    """What a call costs the host, and what nn.init.uniform_ does: a hundred calls and the wait for the last, in wall time."""
    calls = {"uniform_": nn.init.uniform_, "peer": work.peer, **{name: forced(name, work.ours) for name in backends}}
    spans: dict[str, list[float]] = {name: [] for name in calls}
    repeats = 100 if device.type == "cuda" else 1
    for number in range(pace.rounds + 1):  # the first does not count
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(repeats):
                call(tensor)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                spans[name].append((time.perf_counter() - began) / repeats)
    for name in backends:
        facts = {
            "work": work.name,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "elements": tensor.numel(),
            "backend": name,
        }
        facts |= {"rounds": pace.rounds, "seconds": percentiles(spans[name]), "peer": work.peer_name}
        yield facts | {"times_peer": ratio(spans["peer"], spans[name]), "of_uniform": ratio(spans[name], spans["uniform_"])}


def models(backends: list[str], device: torch.device, pace: Pace) -> list[dict[str, Any]]:
    """Every weight matrix of a model in one call, against one nn.init call each; wall time until the device is done."""
    found = []
    for title, shapes in {"ResNet-50": resnet50(pace), "GPT-2 small": gpt2_shapes(pace)}.items():
        for dtype in DTYPES:
            tensors = [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
            plans = [
                Plan(t, recipe(truncated_normal(0.0, STD, -2 * STD, 2 * STD), dtype), i, whole(t)) for i, t in enumerate(tensors)
            ]
            contenders: dict[str, Callable[[int], Any]] = {name: functools.partial(fill_all, name, plans) for name in backends}
            contenders["peer"] = functools.partial(torch_loop, tensors)
            spans = waited(contenders, pace.rounds, device)
            for name in backends:
                facts = {"model": title, "dtype": str(dtype).removeprefix("torch."), "tensors": len(tensors), "backend": name}
                facts |= {"elements": sum(t.numel() for t in tensors), "seconds": percentiles(spans[name])}
                found.append(facts | {"peer": "nn.init.trunc_normal_", "times_peer": ratio(spans["peer"], spans[name])})
    return found


def fill_all(name: str, plans: list[Plan], number: int) -> None:
    module(name, plans[0].out.device.type).fill(plans)


def torch_loop(tensors: list[Tensor], number: int) -> None:
    for tensor in tensors:
        torch_truncated_(tensor)


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


def first_calls(name: str, device: torch.device, pace: Pace) -> dict[str, float]:
    """Seconds of the first fill of a process: with nothing compiled, and with what the process before has left on disk."""
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TRITON_CACHE_DIR": cache, "FASTINIT_BACKEND": name}
        command = [sys.executable, "-c", FIRST_CALL.format(path=sys.path, device=str(device), width=pace.width)]
        for state in ("cold", "warm"):
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found["import"], found[state] = map(float, done.stdout.split())
    return found


if __name__ == "__main__":
    sys.exit(files.status_of("python -m benchmarks.gpu", main))
