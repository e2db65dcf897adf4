"""Everything that only a GPU can show, in one command without a network: `python -m benchmarks.gpu [PART ...]`.

In a source tree that is not installed it compiles the libraries first. Then the parts, all of them unless some are named:

    bits       `fastinit check`; then every kernel, a tensor of more than 2^31 elements, lists, shards, streams and graphs,
               blends, against the reference on the CPU and each backend against the other
    tests      the tests of the kernels and of models, there on the GPU
    times      fills against Tensor.fill_ and torch's functions, lists of tensors against a loop of torch.nn.init with the
               launches counted, noise onto a model against torch.randn, calls on 1,024 elements, the first call of a process
    models     `fastinit bench --models` on the GPU, into models-NAME.json
    counters   Nsight Compute's, of large fills
    sanitizer  compute-sanitizer over every kernel
    tuning     other kernels beside those that are (gpu_tuning.py)

A fault of the bits or tests ends it, unless parts are named. Each part's results replace its last ones in
benchmarks/results/gpu-NAME.json, as soon as it is done; `python -m benchmarks.readme_tables` writes the tables of README.md and
docs/gpus.md from them. Exit status 1 on a fault, 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

import fastinit
from benchmarks import gpu_bits, gpu_noise, gpu_times, gpu_tools, gpu_tuning
from benchmarks.gpu_times import DRY, FULL, Pace
from fastinit._backends import cpu, cuda
from fastinit._commands import files
from fastinit._commands.measure import machine

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BACKENDS = ("native", "triton")  # those that are measured where they serve
MODELS = ("gpt2-124m", "gpt2-1.5b", "llama-1b", "timm-vit-b16", "timm-resnet50")


class Run(NamedTuple):
    """What the parts are run on."""

    backends: list[str]
    device: torch.device
    pace: Pace
    output: pathlib.Path

    @property
    def is_dry(self) -> bool:
        return self.device.type != "cuda"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", type=part, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--output", type=pathlib.Path, help="the results file (default: benchmarks/results/gpu-NAME.json)")
    parser.add_argument("--commit", help="of this source tree, where git cannot tell")
    parser.add_argument("--dry-run", action="store_true", help="a few elements on the CPU (TRITON_INTERPRET=1)")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        print("there is no GPU here: nothing was checked or measured", file=sys.stderr)
        return 2
    device = torch.device("cpu") if arguments.dry_run else torch.device("cuda", torch.cuda.current_device())
    output = arguments.output or RESULTS / f"gpu-{slug(device)}.json"
    files.check_writable(output)
    built = "not built: a dry run" if arguments.dry_run else build(device)
    print(f"libraries: {built}", flush=True)
    reasons = fastinit.backends(device)
    backends = [name for name in BACKENDS if reasons[name] is None]
    print(*(f"{name}: {reasons[name] or 'serves'}" for name in BACKENDS), sep="\n", flush=True)
    if not backends:
        return 2
    facts = gpu_machine(device) | {"libraries": built}
    facts["commit"] = arguments.commit or facts["commit"]
    run = Run(backends, device, DRY if arguments.dry_run else FULL, output)
    return all_parts(run, arguments.parts or list(PARTS), facts, to_the_end=bool(arguments.parts))


def part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"there is no {name!r}, only {', '.join(PARTS)}")
    return name


def all_parts(run: Run, names: list[str], facts: dict[str, Any], to_the_end: bool) -> int:
    """Run the parts, write each one's results, and tell of faults."""
    report = files.read_json(run.output) if run.output.is_file() else {}
    failed = 0
    for name in names:
        began = time.monotonic()
        try:
            found = PARTS[name](run)
        except Exception:  # the parts after it may still tell something
            found = {"verdicts": {name: failure()}}
        report[name] = {"machine": facts, "seconds": round(time.monotonic() - began), **found}
        files.write(run.output, json.dumps(report, indent=1) + "\n")
        wrong = faults(report[name])
        print(f"{name}: {report[name]['seconds']} s, {wrong or 'no'} faults", flush=True)
        failed += wrong
        if wrong and not to_the_end:
            break
    print(f"{run.output}: written; python -m benchmarks.readme_tables")
    return 1 if failed else 0


def faults(part: dict[str, Any]) -> int:
    """How many of a part's verdicts are faults; each is told. What could not be run here is none."""
    wrong = 0
    for what, verdict in part.get("verdicts", {}).items():
        is_fault = not verdict.startswith(("ok", "not run"))
        wrong += is_fault
        print(f"{'FAULT ' if is_fault else ''}{what}: {verdict}", file=sys.stderr if is_fault else sys.stdout, flush=True)
    return wrong


def slug(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def gpu_machine(device: torch.device) -> dict[str, Any]:
    """What must be known to read a measurement: the machine, its GPU and the versions."""
    import triton

    facts = machine() | {"triton": triton.__version__, "gpu": "none: a dry run", "driver": None, "cuda": torch.version.cuda}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "multiprocessors": properties.multi_processor_count, "memory": properties.total_memory}
        facts |= {"capability": f"{properties.major}{properties.minor}"}
        facts |= dict(zip(("driver", "megahertz"), asked_of_driver("driver_version", "clocks.max.sm"), strict=True))
    return facts


def asked_of_driver(*fields: str) -> list[str | None]:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0].split(", ")
        return [*told] if len(told) == len(fields) else [None] * len(fields)
    except (OSError, subprocess.CalledProcessError):
        return [None] * len(fields)


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


# --- parts ------------------------------------------------------------------------------------------------------------------


def bits(run: Run) -> dict[str, Any]:
    groups = list(gpu_bits.groups(run.backends[0], run.device, run.pace.huge))
    if len(run.backends) < 2:
        groups.remove("each-other")
    return {"verdicts": gpu_tools.checked(run.backends, str(run.device), run.pace.huge, groups, apart=not run.is_dry)}


def tests(run: Run) -> dict[str, Any]:
    return {"verdicts": {"tests": "not run: a dry run"} if run.is_dry else gpu_tools.tested()}


def times(run: Run) -> dict[str, Any]:
    """What was measured before something failed is kept."""
    backends, device, pace = run.backends, run.device, run.pace
    models = (gpu_times.gpt2_of(pace, dtype, device) for dtype in gpu_times.DTYPES)
    sections: dict[str, Iterator[dict[str, Any]]] = {
        "rows": gpu_times.rows(backends, device, pace),
        "lists": gpu_times.lists(backends, device, pace),
        "initialized": gpu_times.initialized(backends, device, pace),
        "noise": (row for model in models for row in gpu_noise.rows(backends, model, pace, gpu_times.waited)),
        "first_calls": (gpu_times.first_calls(name, device, pace) for name in backends),
    }
    found: dict[str, Any] = {name: [] for name in sections} | {"verdicts": {}}
    for name, rows in sections.items():
        try:
            for row in rows:
                found[name].append(row)
            found["verdicts"][name] = "ok"
        except Exception:
            found["verdicts"][name] = failure()
    return found


def failure() -> str:
    """Of the exception at hand."""
    return f"failed: {traceback.format_exc()[-1500:]}"


def models(run: Run) -> dict[str, Any]:
    """The command's report has a file of its own, beside the output."""
    path = run.output.with_name(f"models-{run.output.stem.removeprefix('gpu-')}.json")
    asked = ["torch-gpt2", "--quick"] if run.is_dry else [",".join(MODELS)]
    arguments = ["bench", "--devices", run.device.type, "--json", str(path), "--models", *asked]
    command = [sys.executable, "-m", "fastinit", *arguments]
    done = gpu_tools.ran(command, 540)
    report = files.read_json(path) if done.status == 0 else {"models": []}
    ways = [(row["model"], way, entry) for row in report["models"] for way, entry in row["contenders"].items()]
    failed = {f"{model}, {way}": f"failed: {entry['error']}" for model, way, entry in ways if "error" in entry}
    return {"verdicts": {"bench --models": gpu_tools.verdict(done), **failed}, "told": done.told[-4000:]}


def counters(run: Run) -> dict[str, Any]:
    return {"launches": {"ncu": "not run: a dry run"} if run.is_dry else gpu_tools.counted(run.backends)}


def sanitizer(run: Run) -> dict[str, Any]:
    return {"verdicts": {"sanitizer": "not run: a dry run"} if run.is_dry else gpu_tools.sanitized(run.backends)}


def tuning(run: Run) -> dict[str, Any]:
    return {"rows": []} if run.is_dry else gpu_tuning.tuned(run.backends, run.device, run.pace)


PARTS = {part.__name__: part for part in (bits, tests, times, models, counters, sanitizer, tuning)}


if __name__ == "__main__":
    sys.exit(files.status_of("python -m benchmarks.gpu", main))
