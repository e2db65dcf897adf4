"""What `python -m benchmarks.gpu` runs as processes of their own: groups of checks, tests, compute-sanitizer, Nsight Compute.

`python -m benchmarks.gpu_tools BACKEND` is the program that Nsight Compute counts: one large fill for each of COUNTED.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from fastinit._backends.choose import module
from fastinit._core.laws import Law, normal, truncated_normal, uniform
from fastinit._core.plan import Plan, whole
from fastinit._core.recipes import recipe

ROOT = pathlib.Path(__file__).parents[1]
SANITIZERS = ("memcheck", "racecheck", "initcheck")  # of compute-sanitizer
SANITIZED = 7  # its exit status on an error
LEAST = 8  # processors from which several processes run at once
TESTS = ("test_cuda.py", "test_cuda_blend.py", "test_triton.py", "test_triton_blend.py", "test_model_cuda.py")  # on a GPU
COUNTED: dict[str, tuple[Law, torch.dtype]] = {
    f"{title} {str(dtype).removeprefix('torch.')}": (law, dtype)
    for title, law in {
        "uniform": uniform(-1.0, 1.0),
        "truncated_normal": truncated_normal(0.0, 0.02, -0.04, 0.04),
        "normal": normal(0.0, 0.02),
    }.items()
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn)
}
KERNELS = "regex:fill_(one|list|blocks|elements)"
SECTIONS = ("SpeedOfLight", "LaunchStats", "Occupancy", "SchedulerStats", "ComputeWorkloadAnalysis", "InstructionStats")


running: set[subprocess.Popen[str]] = set()  # what Ctrl-C is to end


class Done(NamedTuple):
    """How a process ended; None where its time was over."""

    status: int | None
    seconds: float
    told: str

    def end(self, characters: int = 1500) -> str:
        return self.told[-characters:]


def ran(command: Sequence[str], limit: float, place: pathlib.Path = ROOT, **environment: str) -> Done:
    """Run a program of a source tree, this one unless another is given, to its end, or to the limit in seconds."""
    began, surroundings, pipe = time.monotonic(), {**os.environ, **environment}, subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=place, env=surroundings, text=True, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True
    )
    running.add(process)
    try:
        told, _ = process.communicate(timeout=limit)
        status: int | None = process.returncode
    except subprocess.TimeoutExpired:
        killed(process)
        told, _ = process.communicate()
        status = None
    except BaseException:  # Ctrl-C, which a group of its own does not hear
        killed(process)
        raise
    finally:
        running.discard(process)
    return Done(status, round(time.monotonic() - began, 1), told)


def killed(process: subprocess.Popen[str]) -> None:
    """End a program and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def all_ran(
    commands: dict[str, list[str]], limit: float, places: Mapping[str, pathlib.Path] = MappingProxyType({}), **environment: str
) -> dict[str, Done]:
    """Run programs, several at once where there are processors for them."""
    here = os.cpu_count() or 1
    with ThreadPoolExecutor(here // 2 if here >= LEAST else 1) as pool:
        found = {
            name: pool.submit(ran, command, limit, places.get(name, ROOT), **environment) for name, command in commands.items()
        }
        try:
            return {name: future.result() for name, future in found.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                killed(process)
            raise


def verdict(done: Done) -> str:
    """ "ok", or what is wrong."""
    if done.status is None:
        return f"out of time after {done.seconds:.0f} s: {done.end()}"
    return "ok" if done.status == 0 else f"exit status {done.status}: {done.end()}"


def checked(backends: list[str], device: str, huge: int, groups: Sequence[str], apart: bool) -> dict[str, str]:
    """Check -> verdict: `fastinit check` and each group and backend in a process of its own; or, where they are not to be apart,
    all groups of a backend in one, and these alone."""
    python = [sys.executable, "-m", "benchmarks.gpu_bits"]
    parts = [(group,) for group in groups] if apart else [tuple(groups)]
    commands = {"check": [sys.executable, "-m", "fastinit", "check"]} if apart else {}
    for part, name in itertools.product(parts, backends):
        commands[f"{name}: {', '.join(part)}"] = [*python, name, device, str(huge), *part]
    return {name: verdict(done) for name, done in all_ran(commands, 540).items()}


def tested() -> dict[str, str]:
    """File of tests -> verdict, with how many passed."""
    options = ["-q", "-m", "", "-p", "no:cacheprovider", "-W", "ignore", "--tb=short"]
    commands = {name: [sys.executable, "-m", "pytest", *options, f"tests/{name}"] for name in TESTS}
    found = {}
    for name, done in all_ran(commands, 540, OMP_NUM_THREADS="1").items():
        last = (done.told.strip().splitlines() or [""])[-1]
        found[name] = f"ok: {last}" if done.status == 0 else verdict(done)
    return found


def sanitized(backends: list[str]) -> dict[str, str]:
    """Backend and tool -> verdict, or why it did not run."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"compute-sanitizer": "not run: it is not on the PATH"}
    commands = {}
    for name, tool in itertools.product(backends, SANITIZERS):
        watched = [sys.executable, "-m", "benchmarks.gpu_bits", name, "cuda", "0", "every-kernel"]
        commands[f"{name}: {tool}"] = [program, "--tool", tool, "--error-exitcode", str(SANITIZED), *watched]
    found = {}
    # Without torch's cache of memory, or it cannot tell tensors apart.
    for name, done in all_ran(commands, 540, PYTORCH_NO_CUDA_MEMORY_CACHING="1").items():
        if done.status is None:  # they take many times as long: that alone is no fault
            found[name] = f"not run to its end: {verdict(done)}"
        elif done.status == 0 and "ERROR SUMMARY: 0 errors" not in done.told:
            found[name] = f"no summary of errors: {done.end()}"
        else:
            found[name] = verdict(done)
    return found


# --- Nsight Compute -------------------------------------------------------------------------------------------------------------


def counted(backends: list[str]) -> dict[str, Any]:
    """Backend -> work and dtype -> metric -> value with its unit; or why there are none."""
    program = shutil.which("ncu")
    if program is None:
        return {"ncu": "not run: it is not on the PATH"}
    found: dict[str, Any] = {}
    options = ["--clock-control", "none", "--csv", "--page", "details", "--print-details", "all", "--kernel-name", KERNELS]
    options += [word for section in SECTIONS for word in ("--section", section)]
    for name in backends:
        done = ran([program, *options, sys.executable, "-m", "benchmarks.gpu_tools", name], 240)
        launches = metrics(done.told)
        fits = done.status == 0 and len(launches) == len(COUNTED)
        found[name] = dict(zip(COUNTED, launches, strict=True)) if fits else f"{len(launches)} launches: {verdict(done)}"
    return found


def metrics(told: str) -> list[dict[str, str]]:
    """The metrics of every launch in what Nsight Compute prints: a line for each, after a head of the columns' names."""
    lines = told.splitlines()
    head = next((number for number, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    found: dict[str, dict[str, str]] = {}
    for entry in csv.DictReader(line for line in lines[head:] if line.startswith('"')):
        launch = found.setdefault(entry["ID"], {})
        if entry["Metric Name"]:  # of a rule there is none
            launch[entry["Metric Name"]] = f"{entry['Metric Value']} {entry['Metric Unit']}".strip()
    return list(found.values())


def main() -> int:
    for law, dtype in COUNTED.values():
        out = torch.empty(1 << 28, dtype=dtype, device="cuda")
        module(sys.argv[1], "cuda").fill([Plan(out, recipe(law, dtype), 1, whole(out))])
    torch.cuda.synchronize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
