"""Modes of a thread or a process in which arithmetic, or torch, does not do what it says: flushed subnormal numbers, a fork."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch

SMALLEST = sys.float_info.min  # of the normal numbers: its half is 0 where subnormal ones are flushed, results or operands


def is_flushing() -> bool:
    """Whether this thread flushes subnormal numbers to 0: by torch.set_flush_denormal, or by a library built with -ffast-math."""
    return SMALLEST / 2 == 0.0


@contextlib.contextmanager
def ieee_arithmetic() -> Iterator[None]:
    """Subnormal numbers are numbers inside a `with` block or a decorated function, in this thread.

    torch switches the flushing of results and that of operands together: a thread that had one of them has both afterwards.
    """
    flushing = is_flushing()
    try:
        if flushing:
            torch.set_flush_denormal(False)
        yield
    finally:
        if flushing:
            torch.set_flush_denormal(True)


def _is_forked() -> bool:
    """Whether multiprocessing forked this process before this module was imported."""
    process = sys.modules.get("multiprocessing.process")
    anew = ("from multiprocessing.spawn", "from multiprocessing.forkserver")  # how children that are no forks of a user begin
    started = any(argument.startswith(anew) for argument in sys.orig_argv)
    return process is not None and process.parent_process() is not None and not started


_forked, _alone = _is_forked(), threading.RLock()


def _after_fork() -> None:
    global _forked, _alone
    _forked, _alone = True, threading.RLock()  # another thread may have held the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_troubled() -> bool:
    """Whether torch's operations need `safe_torch`."""
    return _forked or is_flushing()


@contextlib.contextmanager
def safe_torch(mode: contextlib.AbstractContextManager[object] | None = None) -> Iterator[None]:
    """What torch computes on the CPU inside a `with` block or a decorated function is IEEE 754's, and ends.

    The threads of GNU's OpenMP do not live on in a forked child, and where torch shares work with them it waits for ever: there
    it works in one thread. `mode` is entered too.
    """
    with mode or contextlib.nullcontext(), ieee_arithmetic():
        if not _forked:
            yield
            return
        with _alone:  # the number is every thread's
            threads = torch.get_num_threads()
            try:
                torch.set_num_threads(1)
                yield
            finally:
                torch.set_num_threads(threads)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No cycle is looked for inside a `with` block, which makes many objects that live as long as it runs: with all that
    torch has loaded, one search takes 0.1 s, and there would be one for every few thousand parameters."""
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.enable()


blocks: ContextVar[tuple[Any, ...]] = ContextVar("blocks of fastinit.accelerate", default=())  # some may be closed


@contextlib.contextmanager
def not_accelerated() -> Iterator[None]:
    """No block of `accelerate` that is open now serves what is called inside this one; those opened inside do."""
    token = blocks.set(())
    try:
        yield
    finally:
        blocks.reset(token)
