"""`fastinit info`: what is installed, what serves a fill on this machine, and why the rest does not."""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any

import torch

import fastinit
from fastinit._backends import cpu, cuda
from fastinit._backends.choose import choose
from fastinit._commands import console
from fastinit._core.plan import is_staged


def run(args: argparse.Namespace) -> int:
    facts = collect()
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        console.say(_text(facts), indent=10)
    return 0


def collect() -> dict[str, Any]:
    """The facts, as JSON has them. A reason of None means: works."""
    return {
        "version": fastinit.__version__,
        "stream_version": fastinit.STREAM_VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "package": os.path.dirname(fastinit.__file__),
        "backend": _in_use(),
        "backends": fastinit.backends(),
        "devices": {device: fastinit.backends(device) for device in accelerators()},
        **_native_facts(),
        **_cuda_facts(),
        "threads": torch.get_num_threads(),
    }


def accelerators() -> list[str]:
    """The types of device beside the CPU that are here."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return [] if found is None else [found.type]


def _in_use(device: str = "cpu") -> str:
    """The backend of the device's tensors, or why there is none: one that was forced and cannot serve."""
    try:
        return choose(torch.device(device)).NAME
    except (RuntimeError, ValueError) as error:
        return f"none: {error}"


def _native_facts() -> dict[str, Any]:
    """Library and instruction sets of the native backend; None and nothing where there is none. The set is None where
    FASTINIT_CPU_ISA names one that cannot be used."""
    if isinstance(cpu.library_or_reason(), str):
        return {"library": None, "isa": None, "isas": {}}
    isas = {name: reason and reason.removeprefix(f"{name}: ") for name, reason in cpu.isas().items()}
    used = cpu.isa() if fastinit.backends()["native"] is None else None
    return {"library": str(cpu.library_path()), "isa": used, "isas": isas}


def _cuda_facts() -> dict[str, str | None]:
    """CUDA's library, whether there is a GPU or not; None and the reason where it cannot be used."""
    found = cuda.library_or_reason()
    missing = found if isinstance(found, str) else None
    return {"cuda_library": None if missing else str(cuda.library_path()), "cuda_library_missing": missing}


def _text(facts: dict[str, Any]) -> str:
    lines = [
        f"fastinit {facts['version']} (stream version {facts['stream_version']})",
        f"torch {facts['torch']}, Python {facts['python']}, {facts['platform']}",
        f"package   {facts['package']}",
        f"library   {facts['library'] or 'none'}",
        f"for CUDA  {facts['cuda_library'] or 'none: ' + facts['cuda_library_missing']}",
        f"threads   {facts['threads']} (torch.set_num_threads)",
        f"backend   {facts['backend']}",
        *_listed("backends", facts["backends"], facts["backend"]),
        *(line for name, reasons in facts["devices"].items() for line in _listed(_title(name), reasons, _in_use(name))),
        *_listed("instruction sets", facts["isas"], facts["isa"]),
    ]
    return "\n".join(lines)


def _title(device: str) -> str:
    staged = " (native and reference: on the CPU, then copied)" if is_staged(device) else ""
    return f"backends, {device}{staged}"


def _listed(title: str, reasons: dict[str, str | None], used: str | None) -> list[str]:
    if not reasons:
        return []
    width = max(map(len, reasons))
    states = {name: reason or ("in use" if name == used else "available") for name, reason in reasons.items()}
    return [f"{title}:", *(f"  {name:{width}}  {state}" for name, state in states.items())]
