"""Train batches of runs in processes of their own, one a core, and keeps what is done."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager

from benchmarks.convergence import results, runs
from benchmarks.convergence.runs import Run
from benchmarks.convergence.training import Curve

# One choice of instructions on every x86 processor, and sums in an order that does not depend on addresses or on how many
# networks train together: training is chaotic, and a last bit decides over the curve.
PINNED = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def train_all(wanted: Sequence[Run], path: pathlib.Path, processes: int | None = None) -> Iterator[Run]:
    """Train the runs, add them to the results file, and yield them.

    Interrupted, it loses the batches in progress alone.
    """
    with pinned(), ProcessPoolExecutor(processes or cores(), multiprocessing.get_context("spawn"), deaf) as pool:
        futures = [pool.submit(timed, batch) for batch in runs.batches(wanted)]
        try:
            for future in as_completed(futures):
                batch, curves, seconds = future.result()
                results.append(path, zip(batch, curves, strict=True), seconds / len(batch))
                yield from batch
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def deaf() -> None:
    """Ctrl-C is for the parent process, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def timed(batch: list[Run]) -> tuple[list[Run], list[Curve], float]:
    import torch

    torch.set_num_threads(1)
    began = time.perf_counter()
    curves = runs.trained(batch)
    return batch, curves, time.perf_counter() - began


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pinned() -> Iterator[None]:
    """The environment of processes started meanwhile."""
    before = {name: os.environ.get(name) for name in PINNED}
    os.environ.update(PINNED)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
