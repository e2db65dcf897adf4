"""Which backend fills a tensor: the fastest that can, unless one is forced; reasons are kept for `fastinit info`.

A backend is a module with NAME, `unavailable(device) -> reason or None`, and `fill(plans)`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pathlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType

import torch

SOURCE_TREE = pathlib.Path(__file__).parents[2] / "csrc"  # exists where the package is not installed
ORDER = ("native", "triton", "reference")  # fastest first
forced: ContextVar[str | None] = ContextVar("fastinit_backend", default=None)


def module(name: str) -> ModuleType:
    return importlib.import_module(f"fastinit.backends.{name}")


def unavailable(name: str, device: torch.device) -> str | None:
    """Why a backend cannot fill tensors on the device; None where it can."""
    try:
        return module(name).unavailable(device)
    except ImportError as error:  # triton, where it is not installed or does not fit
        return f"it cannot be imported: {error}"


def choose(device: torch.device) -> ModuleType:
    """The backend for tensors on the device.

    Raises:
        RuntimeError: the backend forced by `backend()` or FASTINIT_BACKEND cannot serve the device; says why.
    """
    name = forced.get() or environment()
    return forced_choice(check_name(name), device) if name else automatic_choice(device)


@functools.cache
def environment() -> str | None:
    """FASTINIT_BACKEND, read once: reading it at every fill would cost a small tensor a tenth of its time."""
    return os.environ.get("FASTINIT_BACKEND")


@functools.cache  # by device: its type, a string made anew each time, would cost three times the look-up
def automatic_choice(device: torch.device) -> ModuleType:
    # Triton's interpreter may serve on the CPU, but it is a test bench: forced only, and triton need not be imported to know it
    names = [name for name in ORDER if name != "triton" or device.type != "cpu"]
    name = next(name for name in names if unavailable(name, device) is None)
    if name == "reference" and device.type == "cpu" and SOURCE_TREE.is_dir():
        reason = unavailable("native", device)
        warnings.warn(
            f"fastinit runs from its source tree without its native library ({reason}); the values are the same, filling is "
            "100 times slower. Install it with `pip install -e .`, or start Python from another folder.",
            RuntimeWarning,
            stacklevel=2,
        )
    return module(name)


@functools.cache
def forced_choice(name: str, device: torch.device) -> ModuleType:
    reason = unavailable(name, device)
    if reason:
        raise RuntimeError(f"the backend {name!r} was asked for and cannot fill {device.type} tensors: {reason}")
    return module(name)


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Forces a backend inside a `with` block (this thread, this task).

    Args:
        name: one of `backends()`.

    Raises:
        ValueError: an unknown name.
        RuntimeError: at the first fill, if the backend cannot serve the tensor's device. Never falls back.
    """
    token = forced.set(check_name(name))
    try:
        yield
    finally:
        forced.reset(token)


def check_name(name: str) -> str:
    if name not in ORDER:
        raise ValueError(f"unknown backend. Received: {name!r}. Allowed: {', '.join(map(repr, ORDER))}.")
    return name


def backends(device: str | torch.device = "cpu") -> dict[str, str | None]:
    """Every backend by name, fastest first: None where it can fill tensors on the device, else the reason why not."""
    return {name: unavailable(name, torch.device(device)) for name in ORDER}
