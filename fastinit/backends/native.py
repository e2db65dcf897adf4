"""The native backend: the C++ libraries, of CPU tensors and of NVIDIA GPUs', over ctypes.

A library is found beside the package, checked without running any of it, loaded at the first fill, and called with the
GIL released. Where it is missing or does not fit, `unavailable` says why and another backend serves.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pathlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from fastinit.backends import abi
from fastinit.distributions import Recipe
from fastinit.plan import Plan, whole

NAME = "native"
ISAS = {"scalar": 1, "avx2": 2, "avx512": 3, "neon": 4}  # as enum fastinit_isa; 0 is the best
PACKAGE = pathlib.Path(__file__).parents[1]  # where setup.py puts the libraries
forced: ContextVar[str | None] = ContextVar("fastinit_isa", default=None)


@functools.cache
def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot fill tensors on the device; None where it can."""
    if device.type == "cuda":
        return cuda_unavailable(device)
    if device.type != "cpu":
        return "it fills CPU and CUDA tensors"
    library = library_or_reason()
    if isinstance(library, str):
        return library
    name = os.environ.get("FASTINIT_CPU_ISA")
    return isas()[check_isa_name(name)] if name else None


def fill(plans: list[Plan]) -> None:
    """Fills every plan's tensor: on the CPU, or on GPUs in the order of their current streams, without waiting for them."""
    if plans and plans[0].out.is_cuda:
        return cuda_fill(plans)
    library = usable(library_or_reason())
    raw, kept = abi.packed(plans)
    abi.check(library, library.fastinit_fill(raw, len(plans), torch.get_num_threads(), isa_number()))
    del kept


def transform(recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
    """The values of given words (int32, or int64 for recipes of 8-byte dtypes), on the words' device."""
    words, out = words.contiguous(), torch.empty(words.shape, dtype=recipe.dtype, device=words.device)
    if words.itemsize != (8 if recipe.dtype.itemsize == 8 else 4):
        raise TypeError(f"words of {words.dtype} do not go with {recipe.dtype}: int64 for 8-byte dtypes, else int32.")
    raw, _ = abi.raw_plan(Plan(out, recipe, 0, whole(out)))
    if out.is_cuda:
        library, place = usable(cuda_library_or_reason()), (out.device.index, current_stream(out.device.index))
        abi.check(library, library.fastinit_cuda_transform(raw, words.data_ptr(), words.numel(), *place))
    else:
        library, place = usable(library_or_reason()), (torch.get_num_threads(), isa_number())
        abi.check(library, library.fastinit_transform(raw, words.data_ptr(), words.numel(), *place))
    return out


def usable(library: ctypes.CDLL | str) -> ctypes.CDLL:
    if isinstance(library, str):
        raise RuntimeError(f"the native backend cannot be used: {library}")
    return library


# --- the CPU's ----------------------------------------------------------------------------------------------------------------


def library_path() -> pathlib.Path:
    return PACKAGE / "libfastinit.so"


@functools.cache
def library_or_reason() -> ctypes.CDLL | str:
    """The package's library, loaded once a process, or why it cannot be used."""
    return abi.load(library_path(), abi.CPU)


def isas() -> dict[str, str | None]:
    """Every instruction set: None where it can be used here, else the reason why not."""
    library = library_or_reason()
    if isinstance(library, str):
        return dict.fromkeys(ISAS, library)
    status = {name: library.fastinit_check_isa(number) for name, number in ISAS.items()}
    return {name: f"{name}: {library.fastinit_message(code).decode()}" if code else None for name, code in status.items()}


def isa() -> str:
    """The instruction set that fills use now."""
    name = forced.get() or os.environ.get("FASTINIT_CPU_ISA")
    if name:
        return check_isa_name(name)
    best = usable(library_or_reason()).fastinit_best_isa()
    return next(name for name, number in ISAS.items() if number == best)


@contextlib.contextmanager
def forced_isa(name: str) -> Iterator[None]:
    """Forces an instruction set inside a `with` block. Raises RuntimeError where it cannot be used."""
    reason = isas()[check_isa_name(name)]
    if reason:
        raise RuntimeError(f"the instruction set {name!r} was asked for and cannot be used: {reason}")
    token = forced.set(name)
    try:
        yield
    finally:
        forced.reset(token)


def check_isa_name(name: str) -> str:
    if name not in ISAS:
        raise ValueError(f"unknown instruction set. Received: {name!r}. Allowed: {', '.join(map(repr, ISAS))}.")
    return name


@functools.cache
def isa_of_environment() -> int:
    name = os.environ.get("FASTINIT_CPU_ISA")
    return ISAS[name] if name else 0


def isa_number() -> int:
    name = forced.get()
    return ISAS[name] if name else isa_of_environment()


# --- CUDA's -------------------------------------------------------------------------------------------------------------------


def cuda_library_path() -> pathlib.Path:
    return PACKAGE / "libfastinit_cuda.so"


@functools.cache
def cuda_library_or_reason() -> ctypes.CDLL | str:
    """Likewise; it loads without a driver."""
    return abi.load(cuda_library_path(), abi.CUDA)


def cuda_unavailable(device: torch.device) -> str | None:
    if torch.version.hip is not None:
        return "of GPUs it fills NVIDIA's, and this torch is built for ROCm"
    if not torch.cuda.is_available():
        return "there is no cuda device here"
    library = cuda_library_or_reason()
    if isinstance(library, str):
        return library
    index = torch.cuda.current_device() if device.index is None else device.index
    status = library.fastinit_cuda_check(index)
    return f"cuda:{index}: {library.fastinit_message(status).decode()} (status {status})" if status else None


def cuda_fill(plans: list[Plan]) -> None:
    """Fills the tensors of each device in one call of the library."""
    library = usable(cuda_library_or_reason())
    lists: dict[int, list[Plan]] = {}
    for plan in plans:
        lists.setdefault(plan.out.device.index, []).append(plan)
    for index, together in lists.items():
        raw, kept = abi.packed(together)
        abi.check(library, library.fastinit_cuda_fill(raw, len(together), index, current_stream(index)))
        del kept


def current_stream(index: int) -> int:
    """The address of torch's current stream on a device."""
    return torch._C._cuda_getCurrentRawStream(index)
