"""`fastinit bench`: function x dtype x size: elements a second, GB/s, and ratios to torch.nn.init and to Tensor.fill_."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from fastinit._backends import cpu
from fastinit._backends.choose import choose
from fastinit._commands import console, files
from fastinit._commands.measure import Contender, affordable, described, machine, paired, percentiles, torch_threads
from fastinit._commands.peers import DTYPES, WORKS, matrix, torch_peer

_DEFAULT_DTYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn")
_DEFAULT_SIZES = (1 << 10, 1 << 26)  # a small tensor; and one that leaves every cache
_SHORT, _SHORT_ROUNDS = 1 << 14, 5  # calls of so few elements take so many times the rounds: cheap, and their ratios scatter
_PROBED = (("truncated_normal", "glorot_uniform"), ("float32", "bfloat16"))  # also with one thread and in every ISA


class _Pace(NamedTuple):
    """How long a row may take."""

    rounds: int
    peer_seconds: float  # of one call of the peer: a slower one gets a smaller tensor
    peer_total: float  # of all its calls: a slow one takes part in the first rounds only
    largest: int = 1 << 62


FULL, QUICK = _Pace(11, 1.5, 5.0), _Pace(3, 0.1, 0.3, 1 << 20)


class Row(NamedTuple):
    """One line of the table before it is measured; None: all threads, the best instruction set."""

    work: str
    dtype: str
    elements: int
    threads: int | None = None
    isa: str | None = None


def run(args: argparse.Namespace) -> int:
    if args.noise:
        from fastinit._commands import noise

        return noise.run(args)
    if args.models is not None:
        from fastinit._commands import models

        return models.run(args)
    console.require("rich")
    pace = QUICK if args.quick else FULL
    try:
        chosen = rows(args, pace)
    except ValueError as error:
        print(f"fastinit bench: {error}", file=sys.stderr)
        return 2
    files.check_writable(args.json)
    report: dict[str, Any] = {
        "machine": machine(),
        "rows": [_measure(row, pace) for row in console.progress(chosen, "measuring")],
    }
    console.table(described(report["machine"]), _COLUMNS, [_cells(row) for row in report["rows"]])
    console.say("Medians of paired rounds. of fill: Tensor.fill_'s time / fastinit's. * the peer was timed on a smaller tensor.")
    if args.json:
        files.write(args.json, json.dumps(report, indent=1) + "\n")
    return 0


def rows(args: argparse.Namespace, pace: _Pace) -> list[Row]:
    """The rows that the arguments ask for; one thread and every instruction set for the functions that matter most."""
    if args.devices:
        raise ValueError("--devices belongs to --models: fills are measured on the CPU. Add --models, or leave it out.")
    works = _known("function", args.functions, WORKS) or list(WORKS)
    dtypes = _known("dtype", args.dtypes, DTYPES) or list(_DEFAULT_DTYPES)
    sizes = sorted({min(size, pace.largest) for size in args.sizes or _DEFAULT_SIZES})
    _check_memory(sizes[-1] * max(DTYPES[dtype].itemsize for dtype in dtypes))
    plain = [Row(work, dtype, size) for work in works for dtype in dtypes for size in sizes]
    probed = [row for row in plain if row.work in _PROBED[0] and row.dtype in _PROBED[1] and row.elements == sizes[-1]]
    return plain + [row._replace(threads=1) for row in probed] + [row._replace(isa=isa) for isa in isas() for row in probed]


def _check_memory(needed: int) -> None:
    """Raise ValueError for a tensor that is larger than the machine: the kernel would end the process without a word."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > there:
        sizes = f"{needed / 1e9:,.0f} GB is larger than the memory, {there / 1e9:,.0f} GB"
        raise ValueError(f"--sizes: a tensor of {sizes}. Pass smaller sizes.")


def _known(what: str, asked: list[str] | None, allowed: dict[str, Any]) -> list[str]:
    for name in asked or []:
        if name not in allowed:
            raise ValueError(f"unknown {what}. Received: {name!r}. Allowed: {', '.join(allowed)}.")
    return asked or []


def isas() -> list[str]:
    """The instruction sets this machine can run: no choice where the native backend does not serve."""
    if choose(torch.device("cpu")).NAME != "native":
        return []
    return [isa for isa, reason in cpu.isas().items() if reason is None]


def _measure(row: Row, pace: _Pace) -> dict[str, Any]:
    """A row of the report. The peer's tensor is smaller where the peer is slow; its size is reported."""
    work, dtype = WORKS[row.work], DTYPES[row.dtype]
    with _conditions(row):
        tensor = matrix(row.elements, dtype)
        contenders = {"ours": Contender(work.ours, tensor), "fill": Contender(lambda t: t.fill_(1.0), tensor)}
        peer = torch_peer(work, dtype) if row.isa is None else None
        if peer is not None:
            contenders["peer"] = _slowed(peer, tensor, pace)
        seconds = paired(contenders, pace.rounds * (_SHORT_ROUNDS if row.elements <= _SHORT else 1))
    result = {**row._asdict(), "threads": row.threads or torch.get_num_threads(), **_rates(row.elements, tensor, seconds["ours"])}
    result["fill"] = _rates(row.elements, tensor, seconds["fill"])
    result["of_fill"] = percentiles([f / o for f, o in zip(seconds["fill"], seconds["ours"], strict=True)])
    if peer is not None:
        size = contenders["peer"].tensor.numel()
        result["peer"] = {"name": work.peer_name, "elements": size, **_rates(size, tensor, seconds["peer"])}
        rounds = zip(seconds["peer"], seconds["ours"], strict=False)  # a slow peer's end early
        times = [p / size * row.elements / o for p, o in rounds]
        result["times_peer"] = percentiles(times)
    return result


def _slowed(peer: Callable[[torch.Tensor], Any], tensor: torch.Tensor, pace: _Pace) -> Contender:
    """The peer on as large a tensor, and in as many rounds, as the pace affords."""
    size = affordable(peer, lambda elements: matrix(elements, tensor.dtype), tensor.numel(), pace.peer_seconds)
    smaller = tensor if size == tensor.numel() else matrix(size, tensor.dtype)
    once = paired({"peer": Contender(peer, smaller)}, 1)["peer"][0]
    return Contender(peer, smaller, max(3, int(pace.peer_total / once)) if once > 1e-3 else None)


@contextlib.contextmanager
def _conditions(row: Row) -> Iterator[None]:
    """The row's number of threads and instruction set."""
    isa = cpu.forced_isa(row.isa) if row.isa else contextlib.nullcontext()
    with torch_threads(row.threads or torch.get_num_threads()), isa:
        yield


def _rates(elements: int, tensor: torch.Tensor, seconds: list[float]) -> dict[str, Any]:
    spread = percentiles(seconds)
    per_second = elements / spread["p50"]
    return {
        "rounds": len(seconds),
        "seconds": spread,
        "elements_per_s": per_second,
        "gb_per_s": per_second * tensor.itemsize / 1e9,
    }


_COLUMNS = ("function", "dtype", "elements", "by", "G elem/s", "GB/s", "of fill", "x nn.init")


def _cells(row: dict[str, Any]) -> list[str]:
    """A measured row as text."""
    times = "-"
    if "times_peer" in row:
        times = f"{row['times_peer']['p50']:.3g}{'*' if row['peer']['elements'] != row['elements'] else ''}"
    return [
        row["work"],
        row["dtype"],
        _size_text(row["elements"]),
        row["isa"] or console.counted(row["threads"], "thread"),
        f"{row['elements_per_s'] / 1e9:.3g}",
        f"{row['gb_per_s']:.3g}",
        f"{row['of_fill']['p50']:.2f}",
        times,
    ]


def _size_text(elements: int) -> str:
    power = elements.bit_length() - 1
    return f"2^{power}" if power > 10 and elements == 1 << power else f"{elements:,}"
