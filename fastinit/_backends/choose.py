"""Which backend fills a tensor: the fastest that can, unless one is forced; reasons are kept for `fastinit info`."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pathlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal, Protocol, get_args

import torch

from fastinit._backends import cpu
from fastinit._core.plan import Blending, Plan, is_staged
from fastinit._core.recipes import Recipe

BackendName = Literal["native", "triton", "reference"]
ORDER: tuple[BackendName, ...] = get_args(BackendName)  # fastest first
_SOURCE_TREE = pathlib.Path(__file__).parents[2] / "csrc"  # exists where the package is not installed
_forced: ContextVar[BackendName | None] = ContextVar("fastinit_backend", default=None)


class Backend(Protocol):
    """What every backend's module has."""

    NAME: str  # one of ORDER

    def unavailable(self, device: torch.device) -> str | None:
        """Why it cannot fill tensors on the device; None where it can."""

    def fill(self, plans: list[Plan]) -> None:
        """Fill the tensors of all plans, which are on one device, in the order of its current stream, without waiting."""

    def blend(self, blendings: list[Blending]) -> None:
        """Blend into the tensors of all blendings, likewise."""

    def transform(self, recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
        """The values that a recipe gives to words (int64 for 8-byte dtypes, else int32), on the words' device."""


def module(name: str, device_type: str = "cpu") -> Backend:
    """A backend's module: the native backend has one for CPU tensors and one for NVIDIA GPUs', and `staged` serves the rest."""
    if name != "triton" and is_staged(device_type):
        staged: Backend = importlib.import_module("fastinit._backends.staged").Staged(name)
        return staged
    leaf = name if name != "native" else "cuda" if device_type == "cuda" else "cpu"
    found: Backend = importlib.import_module(f"fastinit._backends.{leaf}")
    return found


def unavailable(name: str, device: torch.device) -> str | None:
    """Why a backend cannot fill tensors on the device; None where it can."""
    try:
        return module(name, device.type).unavailable(device)
    except ImportError as error:  # triton, where it is not installed or does not fit
        return f"it cannot be imported: {error}"


def choose(device: torch.device) -> Backend:
    """The backend for tensors on the device.

    Raises:
        RuntimeError: the backend forced by `backend()` or FASTINIT_BACKEND cannot serve the device; says why.
    """
    name = _forced.get()
    return automatic_choice(device) if name is None else _forced_choice(name, device)


@functools.cache  # by device: its type, a string made anew each time, would cost three times the look-up
def automatic_choice(device: torch.device) -> Backend:
    """The backend of FASTINIT_BACKEND, else the first that can. Once a process: reading the environment costs a small fill.

    Raises:
        ValueError: FASTINIT_BACKEND or FASTINIT_CPU_ISA names nothing that there is.
        RuntimeError: the backend or the instruction set that they name cannot serve the device; says why.
    """
    wanted = os.environ.get("FASTINIT_BACKEND")
    if wanted:
        return _forced_choice(_check_name(wanted, " in the environment variable FASTINIT_BACKEND"), device)
    # Triton's interpreter may serve on the CPU, but it is a test bench: forced only, and triton need not be imported to know it
    names = [name for name in ORDER if name != "triton" or device.type != "cpu"]
    if is_staged(device.type):
        names.sort(key=lambda name: name != "triton")  # on an XPU, it spares the copies
    name = next((name for name in names if unavailable(name, device) is None), "reference")
    if name == "reference" and device.type != "meta":
        if device.type != "cuda":
            cpu.check_environment()
        say_slow(device.type)
    return module(name, device.type)


@functools.cache  # once a process
def say_slow(device_type: str) -> None:
    """Warn where plain torch fills: an install without a compiler, or one that is damaged, works and is slow."""
    device = torch.device(device_type)
    native = f"the native library cannot be used: {unavailable('native', device)}"
    others = f"; Triton: {unavailable('triton', device)}" if device_type != "cpu" else ""
    factor = "20 to 150" if device_type != "cuda" else "many"
    mend = "Install it again where there is a compiler"
    if _SOURCE_TREE.is_dir():
        mend = "fastinit runs from its source tree: install it with `pip install -e .`, or start Python from another folder"
    warnings.warn(
        f"{device_type} tensors are filled in plain torch: {native}{others}. The values are the same, filling is {factor} "
        f"times slower. {mend}; FASTINIT_BACKEND=reference takes it without this warning.",
        RuntimeWarning,
        stacklevel=2,
    )


@functools.cache
def _forced_choice(name: str, device: torch.device) -> Backend:
    reason = unavailable(name, device)
    if reason:
        raise RuntimeError(f"the backend {name!r} was asked for and cannot fill {device.type} tensors: {reason}")
    return module(name, device.type)


@contextlib.contextmanager
def backend(name: BackendName) -> Iterator[None]:
    """Force a backend inside a `with` block, in this thread and this task.

    Args:
        name: "native" (C++ on the CPU, CUDA C++ on NVIDIA GPUs), "triton", or "reference" (plain torch). On devices other than
            CPU and CUDA, native and reference fill on the CPU and copy.

    Returns:
        A context manager.

    Raises:
        ValueError: the name is unknown. It is checked on entering the block.
        RuntimeError: at the first fill, if the backend cannot serve the tensor's device. It never falls back to another.

    Examples:
        >>> with fastinit.backend("reference"):
        ...     weight = fastinit.zeros_(torch.empty(2))
    """
    token = _forced.set(_check_name(name))
    try:
        yield
    finally:
        _forced.reset(token)


def _check_name(name: str, source: str = "") -> BackendName:
    """The name, if it is a backend's; raises ValueError otherwise."""
    for known in ORDER:
        if name == known:
            return known
    raise ValueError(f"unknown backend. Received: {name!r}{source}. Allowed: {', '.join(map(repr, ORDER))}.")


def backends(device: str | torch.device = "cpu") -> dict[str, str | None]:
    """Tell what can fill tensors on a device, and why the rest cannot.

    Args:
        device: the device of the tensors, such as "cuda:0".

    Returns:
        Every backend by name, fastest first, with None where it can fill tensors on the device, else the reason why not.

    Raises:
        RuntimeError: the device is not a name that torch knows.

    Examples:
        >>> fastinit.backends()["reference"] is None
        True
    """
    return {name: unavailable(name, torch.device(device)) for name in ORDER}
