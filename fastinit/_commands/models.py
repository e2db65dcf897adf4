"""`fastinit bench --models`: time and peak memory to an initialised model, by its library's constructor and by fastinit.

The first table: the library's own constructor; the same inside `fastinit.accelerate`; and a model built without memory and
filled by `fastinit.initialize_`. Every run on the CPU is a process of its own; on a GPU torch's allocator tells the peak of each.
The second: the fills alone, in memory that is there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from fastinit._commands import apart, console, files, footprint
from fastinit._commands.footprint import CONTENDERS, Job
from fastinit._commands.measure import machine, percentiles
from fastinit._commands.zoo import MODELS, unusable

_LIBRARIES = ("transformers", "timm")
_PLAIN = next(iter(CONTENDERS))  # what the others are compared with
_AWAY = {"HF_HUB_OFFLINE": "1"}  # configurations are built here; nothing is to be looked up


class _Pace(NamedTuple):
    """How much is measured, and whether every build has a process of its own."""

    rounds: int
    fill_rounds: int
    peer_seconds: float
    small: bool
    apart: bool


FULL, QUICK = _Pace(5, 5, 60.0, small=False, apart=True), _Pace(1, 3, 1.0, small=True, apart=False)


def run(args: argparse.Namespace) -> int:
    console.require("rich", extra="bench")
    try:
        names, devices = asked(args)
    except ValueError as error:
        print(f"fastinit bench: {error}", file=sys.stderr)
        return 2
    files.check_writable(args.json)
    usable, skipped = sorted_out(names)
    pace = QUICK if args.quick else FULL
    builds = build_jobs(usable, devices, pace)
    fills = _fill_jobs(usable, devices, pace)
    results = [(job, result_of(job, pace)) for job in console.progress([*builds, *fills], "measuring")]
    report = _collected(results, skipped)
    _print_tables(report)
    if args.json:
        files.write(args.json, json.dumps(report, indent=1) + "\n")
    return 0


def asked(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Names of models, all that need a library unless some are given; and devices."""
    for option in ("functions", "dtypes", "sizes"):
        if getattr(args, option):
            raise ValueError(f"--{option} and --models exclude each other: models come with their own. Leave one out.")
    names = args.models or [name for name, model in MODELS.items() if model.package in _LIBRARIES]
    for name in names:
        if name not in MODELS:
            raise ValueError(f"unknown model. Received: {name!r}. Allowed: {', '.join(MODELS)}.")
    here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in args.devices or here:
        if device not in here:
            raise ValueError(f"unknown device, or none here. Received: {device!r}. Allowed: {', '.join(here)}.")
    return names, args.devices or here


def sorted_out(names: list[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The models whose library is usable, and the others with the reason; MissingExtra if there are others only."""
    packages = list(dict.fromkeys(MODELS[name].package for name in names))
    reasons = {package: reason_against(package) for package in packages}
    usable = [name for name in names if reasons[MODELS[name].package] is None]
    if not usable:
        console.require(*packages, extra="bench")
        raise console.MissingExtra(" ".join(str(reason) for reason in reasons.values()))
    skipped = [{"model": name, "reason": str(reasons[MODELS[name].package])} for name in names if name not in usable]
    return usable, skipped


def reason_against(package: str) -> str | None:
    return unusable(package) if console.installed(package) else f"{package} is not installed"


def build_jobs(names: list[str], devices: list[str], pace: _Pace) -> list[Job]:
    """All contenders once a round, in an order that turns with the rounds: what slows the machine slows them all."""
    order = list(CONTENDERS)
    return [
        Job(name, device, pace.small, order[(turn + number) % len(order)])
        for number in range(pace.rounds)
        for name in names
        for device in devices
        for turn in range(len(order))
    ]


def _fill_jobs(names: list[str], devices: list[str], pace: _Pace) -> list[Job]:
    return [
        Job(name, device, pace.small, None, start, pace.fill_rounds, pace.peer_seconds)
        for name in names
        for device in devices
        for start in range(len(MODELS[name].fills))
    ]


def result_of(job: Any, pace: _Pace, measure: Callable[[Any], dict[str, Any]] = footprint.run) -> dict[str, Any]:
    """What a job measured, or the last line of why it failed. Apart it is the main() of the function's module that measures."""
    if not pace.apart or getattr(job, "device", "cpu") != "cpu":
        try:
            return measure(job)
        except Exception as error:  # a row that failed is reported and the others are measured
            return {"error": f"{type(error).__name__}: {error}"}
    command = [sys.executable, apart.__file__, measure.__module__.rpartition(".")[2], json.dumps(job._asdict())]
    # Without empty entries, which are the current directory.
    path = os.pathsep.join(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **_AWAY, "PYTHONPATH": path})
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _collected(results: list[tuple[Job, dict[str, Any]]], skipped: list[dict[str, str]]) -> dict[str, Any]:
    """The report."""
    built: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for job, result in results:
        if job.contender:
            built.setdefault((job.model, job.device), {name: [] for name in CONTENDERS})[job.contender].append(result)
    fills = [
        {"model": job.model, "device": job.device, "law": MODELS[job.model].fills[job.start].text, **result}
        for job, result in results
        if job.contender is None
    ]
    models = [_build_row(*place, runs) for place, runs in built.items()]
    return {"machine": _facts(), "models": models, "fills": fills, "skipped": skipped}


def _facts() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {**machine(), "gpu": gpu, "libraries": {name: _version(name) for name in (*_LIBRARIES, "torchvision")}}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _build_row(name: str, device: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A model's contenders: seconds, bytes, and how many times as fast as the constructor, round by round."""
    model = MODELS[name]
    row: dict[str, Any] = {"model": name, "package": model.package, "device": device, "contenders": {}}
    for contender, results in runs.items():
        entry: dict[str, Any] = {"law": model.start.text if contender == "initialize_" else model.own_start, "runs": len(results)}
        errors = [result["error"] for result in results if "error" in result]
        row["contenders"][contender] = {**entry, **({"error": errors[0]} if errors else _summary(results, runs[_PLAIN]))}
    return row


def _summary(results: list[dict[str, Any]], plain: list[dict[str, Any]]) -> dict[str, Any]:
    peaks = [result["peak_bytes"] for result in results if result["peak_bytes"] is not None]
    sizes = {key: results[0][key] for key in ("parameters", "model_bytes")}
    pairs = [(p["seconds"], r["seconds"]) for p, r in zip(plain, results, strict=True) if "error" not in p]
    return {
        **sizes,
        "seconds": percentiles([result["seconds"] for result in results]),
        "peak_bytes": percentiles(peaks) if peaks else None,
        "times": percentiles([p / r for p, r in pairs]) if pairs else None,
    }


_BUILD_COLUMNS = ("model", "on", "by", "M parameters", "seconds", "p20 to p80", "times", "peak MB", "above the model")
_FILL_COLUMNS = ("model", "law", "on", "M elements", "seconds", "G elem/s", "nn.init, s", "x nn.init", "p20 to p80")


def _print_tables(report: dict[str, Any]) -> None:
    about = report["machine"]
    libraries = [f"{name} {number}" for name, number in about["libraries"].items() if number]
    place = [about["cpu"], f"{about['cores']} cores", *([about["gpu"]] if about["gpu"] else []), f"torch {about['torch']}"]
    title = f"Building a model. {', '.join([*place, *libraries])}"
    console.table(title, _BUILD_COLUMNS, [cells for row in report["models"] for cells in _build_cells(row)])
    if report["fills"]:
        console.table("Filling a model's memory", _FILL_COLUMNS, [_fill_cells(row) for row in report["fills"]])
    console.say("times: the constructor's time / this one's. Peak: above what was in use before; MB: 10^6 bytes.")
    console.say("* of nn.init's calls the first ones, as many as the time allows; compared by elements a second.")
    for name in dict.fromkeys(row["model"] for row in report["models"]):
        if MODELS[name].own_start != MODELS[name].start.text:
            console.say(f"{name}: its constructor draws {MODELS[name].own_start}; initialize_ {MODELS[name].start.text}.")
    failed = [(row["model"], entry) for row in report["models"] for entry in row["contenders"].values()]
    failed += [(row["model"], row) for row in report["fills"]]
    for name, reason in [(name, entry["error"]) for name, entry in failed if "error" in entry]:
        console.say(f"failed: {name}: {reason}")
    for row in report["skipped"]:
        console.say(f"skipped: {row['model']}: {row['reason']}")


def _build_cells(row: dict[str, Any]) -> list[list[str]]:
    """A line for each contender."""
    lines = []
    for contender, entry in row["contenders"].items():
        cells = ["failed", *"-----"] if "error" in entry else _measured_cells(entry)
        lines.append([row["model"], row["device"], contender, *cells])
    return lines


def _measured_cells(entry: dict[str, Any]) -> list[str]:
    seconds, peak, times = entry["seconds"], entry["peak_bytes"], entry["times"]
    return [
        f"{entry['parameters'] / 1e6:.1f}",
        f"{seconds['p50']:.3g}",
        f"{seconds['p20']:.3g} to {seconds['p80']:.3g}",
        f"{times['p50']:.3g}" if times else "-",
        f"{peak['p50'] / 1e6:,.0f}" if peak else "-",
        f"{(peak['p50'] - entry['model_bytes']) / 1e6:+,.0f}" if peak else "-",
    ]


def _fill_cells(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return [row["model"], row["law"], row["device"], "failed", *"-----"]
    ours, peer, times = row["ours"], row["peer"], row["times_peer"]
    cut = "*" if peer["elements"] != ours["elements"] else ""
    return [
        row["model"],
        row["law"],
        row["device"],
        f"{ours['elements'] / 1e6:.1f}",
        f"{ours['seconds']['p50']:.3g}",
        f"{ours['elements'] / ours['seconds']['p50'] / 1e9:.3g}",
        f"{peer['seconds']['p50']:.3g}{cut}",
        f"{times['p50']:.3g}",
        f"{times['p20']:.3g} to {times['p80']:.3g}",
    ]
