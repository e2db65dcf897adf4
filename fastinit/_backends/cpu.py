"""The native backend on the CPU: the C++ library.

The library is found beside the package, checked without running any of it, loaded at the first fill, and called with the
GIL released. Where it is missing or does not fit, `unavailable` says why and another backend serves.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch

from fastinit._backends import abi
from fastinit._core.plan import Blending, Plan, batches
from fastinit._core.recipes import Recipe
from fastinit._torch import without_dispatch_modes

NAME = "native"
AT_ONCE = 1 << 24  # elements that the library fills in a call, a thread: 20 to 150 ms, and a thread starts in 0.1
ISAS = {"scalar": 1, "avx2": 2, "avx512": 3, "neon": 4}  # as enum fastinit_isa, where 0 is the best
_forced: ContextVar[int] = ContextVar("fastinit_isa", default=0)


@functools.cache
def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot fill tensors on the device; None where it can."""
    if device.type != "cpu":
        return "it fills CPU and CUDA tensors"
    found = library_or_reason()
    if isinstance(found, str):
        return found
    try:
        check_environment()
    except (ValueError, RuntimeError) as error:
        return str(error)
    return None


def fill(plans: list[Plan]) -> None:
    """Fill the tensors of all plans, in as many threads as torch has. Ctrl-C is heard between pieces of some 100 ms."""
    _in_pieces(_fill, plans, AT_ONCE)


def fill_one(out: int, key: int, elements: int, recipe: int) -> None:
    """Fill contiguous memory of at most AT_ONCE elements, by its address and that of abi.raw_recipe: `fill` without a plan."""
    raw = abi.FIELDS.pack(out, key, 0, 1, elements, elements, 0, recipe, 0)
    # As `_call`, whose frame and stars would be 0.1 us of a small tensor's 5.
    status = _fill_unchecked()(raw, abi.ONE, torch.get_num_threads(), _forced.get() or _isa_of_environment())
    if status:
        raise abi.refusal(library(), status)


@functools.cache
def _fill_unchecked() -> Callable[..., int]:
    return abi.unchecked(library(), "fastinit_fill")


def blend(blendings: list[Blending]) -> None:
    """Blend into the tensors of all blendings, likewise."""
    as_fills = max(len(blending.keys) for blending in blendings) + 1
    _in_pieces(_blend, blendings, max(AT_ONCE // as_fills, 1 << 16))


def _in_pieces(run: Callable[[list[Any]], None], jobs: list[Any], most: int) -> None:
    """Run jobs by calls of so many elements a thread."""
    if len(jobs) == 1 and (box := jobs[0].box).rows * box.cols <= most:  # nearly always
        run(jobs)
        return
    threads = torch.get_num_threads()
    if sum(job.box.rows * job.box.cols for job in jobs) <= most * threads:  # nearly always, of many
        run(jobs)
        return
    with without_dispatch_modes():  # none of which need see how a job is cut
        for together in batches(jobs, most * threads):
            run(together)


def _fill(plans: list[Plan]) -> None:
    raw, kept = abi.packed(plans)
    _call(library().fastinit_fill, raw, len(plans))
    del kept


def _blend(blendings: list[Blending]) -> None:
    raw, kept = abi.packed_blendings(blendings)
    _call(library().fastinit_blend, raw, len(blendings))
    del kept


def transform(recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
    """The values that a recipe gives to words (int64 for 8-byte dtypes, else int32)."""
    raw, words, out, kept = abi.packed_map(recipe, words)
    _call(library().fastinit_transform, raw, words.data_ptr(), words.numel())
    del kept
    return out


def _call(function: Callable[..., int], *given: Any) -> None:
    """Call a function of the library. Raises what its status says."""
    status = function(*given, torch.get_num_threads(), _forced.get() or _isa_of_environment())
    if status:
        raise abi.refusal(library(), status)


def library_path() -> pathlib.Path:
    return abi.PACKAGE / "libfastinit.so"


@functools.cache
def library_or_reason() -> abi.Library | str:
    """The package's library, loaded once a process, or why it cannot be used."""
    return abi.load(library_path(), abi.CPU)


@functools.cache
def library() -> abi.Library:
    """The library. Raises RuntimeError where it cannot be used."""
    return abi.usable(library_or_reason())


# --- instruction sets ---------------------------------------------------------------------------------------------------------


def isas() -> dict[str, str | None]:
    """Every instruction set: None where it can be used here, else the reason why not."""
    found = library_or_reason()
    if isinstance(found, str):
        return dict.fromkeys(ISAS, found)
    status = {name: found.fastinit_check_isa(number) for name, number in ISAS.items()}
    return {name: f"{name}: {found.fastinit_message(code).decode()}" if code else None for name, code in status.items()}


def isa() -> str:
    """The instruction set that fills use now."""
    used = _forced.get() or _isa_of_environment() or library().fastinit_best_isa()
    return next(name for name, number in ISAS.items() if number == used)


@contextlib.contextmanager
def forced_isa(name: str) -> Iterator[None]:
    """Force an instruction set inside a `with` block. Raises RuntimeError where it cannot be used."""
    reason = isas()[_check_isa_name(name)]
    if reason:
        raise RuntimeError(f"the instruction set {name!r} was asked for and cannot be used: {reason}")
    token = _forced.set(ISAS[name])
    try:
        yield
    finally:
        _forced.reset(token)


def _check_isa_name(name: str) -> str:
    if name not in ISAS:
        raise ValueError(f"unknown instruction set. Received: {name!r}. Allowed: {', '.join(map(repr, ISAS))}.")
    return name


def check_environment() -> None:
    """Raise ValueError for an instruction set of FASTINIT_CPU_ISA that is unknown, RuntimeError for one that is not here."""
    name = os.environ.get("FASTINIT_CPU_ISA")
    if not name:
        return
    reasons = isas()
    here = ", ".join(repr(isa) for isa, reason in reasons.items() if reason is None) or "none"
    mend = f"Name one that can be used here ({here}), or unset it for the best one"
    if name not in ISAS:
        known = ", ".join(map(repr, ISAS))
        raise ValueError(
            f"unknown instruction set. Received: {name!r} in the environment variable FASTINIT_CPU_ISA. Allowed: {known}. {mend}."
        )
    if reasons[name]:
        raise RuntimeError(
            f"the environment variable FASTINIT_CPU_ISA asks for {name!r}, which cannot be used: {reasons[name]}. {mend}."
        )


@functools.cache
def _isa_of_environment() -> int:
    """The number of the instruction set that FASTINIT_CPU_ISA names; 0, the best, where it names none."""
    name = os.environ.get("FASTINIT_CPU_ISA")
    return ISAS[_check_isa_name(name)] if name else 0
