"""`fastinit bench --noise`: `blend_` and `perturb_` against the code that people write, in time and in memory.

One perturbation, and the update of 32 members of an evolution strategy, of a tensor and of a model. The others make a tensor of
noise for each parameter and member, from torch's seeded generator or from a generator of its own, and add it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import fastinit
from fastinit._commands import console, files, gpt2, models
from fastinit._commands.footprint import footprint
from fastinit._commands.measure import Contender, described, machine, paired, percentiles, timed
from fastinit._commands.peers import DTYPES, matrix

_MODEL = "gpt2-124m"
SUBJECTS = {"2^20": 1 << 20, "2^24": 1 << 24, _MODEL: 124_439_808}  # what noise is added to; elements
MEMBERS = (1, 32)
_DTYPES = ("float32", "bfloat16")
_KNOWN = tuple(name for name, dtype in DTYPES.items() if dtype.itemsize > 1)  # torch.randn has no others
_ADD = 1e-3
_SMALL = 1 << 16
_LOOP = 2  # members of a loop that make its peak
FULL, QUICK = models.FULL._replace(rounds=5, peer_seconds=2.0), models.QUICK._replace(rounds=3, peer_seconds=0.02)


class Job(NamedTuple):
    """What to measure: the peak of memory of a contender, or, without one, the times of all in turns."""

    subject: str
    dtype: str
    members: int
    small: bool
    contender: str | None = None
    rounds: int = FULL.rounds
    peer_seconds: float = FULL.peer_seconds  # a slower call of a peer's loops over as many members as fit, and is scaled up


def subject_of(name: str, dtype: str, small: bool) -> Tensor | nn.Module:
    """A matrix or a model, in memory that was used before; small: for trials."""
    if name != _MODEL:
        return matrix(min(SUBJECTS[name], _SMALL) if small else SUBJECTS[name], DTYPES[dtype])
    sizes = {"layers": 2, "width": 128, "vocabulary": 1000, "positions": 64} if small else {}
    return gpt2.allocated(**sizes).to(DTYPES[dtype])


def tensors_of(subject: Tensor | nn.Module) -> list[Tensor]:
    return [subject] if isinstance(subject, Tensor) else [p.detach() for p in subject.parameters()]


def _ours(subject: Tensor | nn.Module, members: int) -> None:
    seeds, add = range(members), [_ADD] * members
    if isinstance(subject, Tensor):
        fastinit.blend_(subject, fastinit.normal_, key=seeds, add=add)
    else:
        fastinit.perturb_(subject, fastinit.normal_, seed=seeds, add=add)


def _randn(subject: Tensor | nn.Module, members: int) -> None:
    for seed in range(members):
        torch.manual_seed(seed)
        for tensor in tensors_of(subject):
            tensor.add_(torch.randn_like(tensor), alpha=_ADD)


def _generators(subject: Tensor | nn.Module, members: int) -> None:
    for seed in range(members):
        for number, tensor in enumerate(tensors_of(subject)):
            generator = torch.Generator().manual_seed((seed << 16) + number)  # of 32 bits
            tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype), alpha=_ADD)


OURS = "fastinit"
CONTENDERS: dict[str, Callable[[Tensor | nn.Module, int], None]] = {OURS: _ours, "randn": _randn, "generators": _generators}
PEERS = tuple(CONTENDERS)[1:]


# --- a job --------------------------------------------------------------------------------------------------------------------


def main() -> None:
    print(json.dumps(measure(Job(**json.loads(sys.argv[2])))))


def measure(job: Job) -> dict[str, Any]:
    return _peak(job, job.contender) if job.contender else _times(job)


def _peak(job: Job, contender: str) -> dict[str, Any]:
    """Bytes beyond the subject's, after a small call: without tables and the starts of threads."""
    call, subject = CONTENDERS[contender], subject_of(job.subject, job.dtype, job.small)
    members = job.members if contender == OURS else min(job.members, _LOOP)
    call(subject_of(job.subject, job.dtype, True), members)
    _, result = footprint(partial(call, subject, members), "cpu")
    return {"peak_bytes": result["peak_bytes"]}


def _times(job: Job) -> dict[str, Any]:
    """The contenders in turns: members, seconds, and a peer's time for a member over fastinit's, round by round."""
    subject, none = subject_of(job.subject, job.dtype, job.small), torch.empty(0)
    members = {
        name: job.members if name == OURS else _affordable(partial(call, subject), job) for name, call in CONTENDERS.items()
    }
    calls = {name: Contender(partial(_called, call, subject, members[name]), none) for name, call in CONTENDERS.items()}
    seconds = paired(calls, job.rounds)
    tensors = tensors_of(subject)
    result: dict[str, Any] = {"elements": sum(t.numel() for t in tensors), "bytes": sum(t.nbytes for t in tensors)}
    for name, count in members.items():
        pairs = zip(seconds[name], seconds[OURS], strict=True)
        result[name] = {
            "members": count,
            "rounds": job.rounds,
            "seconds": percentiles(seconds[name]),
            "times": percentiles([other / count / (own / job.members) for other, own in pairs]),
        }
    return result


def _called(call: Callable[[Tensor | nn.Module, int], None], subject: Tensor | nn.Module, members: int, _: Tensor) -> None:
    call(subject, members)


def _affordable(call: Callable[[int], None], job: Job) -> int:
    """How many members a peer loops over within its seconds; one at least."""
    if job.members == 1:
        return 1
    call(1)
    return max(1, min(job.members, int(job.peer_seconds / timed(lambda _: call(1), torch.empty(0)))))


# --- the report ---------------------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> int:
    console.require("rich")
    try:
        dtypes = asked(args)
    except ValueError as error:
        print(f"fastinit bench: {error}", file=sys.stderr)
        return 2
    files.check_writable(args.json)
    pace = QUICK if args.quick else FULL
    plans = [
        Job(name, dtype, n, pace.small, None, pace.rounds, pace.peer_seconds)
        for name in SUBJECTS
        for dtype in dtypes
        for n in MEMBERS
    ]
    report = {"machine": machine(), "rows": [_row(job, pace) for job in console.progress(plans, "measuring")]}
    _print_table(report)
    if args.json:
        files.write(args.json, json.dumps(report, indent=1) + "\n")
    return 0


def asked(args: argparse.Namespace) -> list[str]:
    """Dtypes."""
    for option in ("functions", "sizes", "devices", "models"):
        if getattr(args, option) is not None:
            raise ValueError(f"--{option} and --noise exclude each other: noise comes with its own sizes. Leave one out.")
    for name in args.dtypes or []:
        if name not in _KNOWN:
            raise ValueError(
                f"unknown dtype, or one that torch draws no noise in. Received: {name!r}. Allowed: {', '.join(_KNOWN)}."
            )
    return args.dtypes or list(_DTYPES)


def _row(job: Job, pace: Any) -> dict[str, Any]:
    """A line of the table: the times, and each contender's peak, each by a process of its own, but in a trial."""
    row = {"subject": job.subject, "dtype": job.dtype, "members": job.members}
    found = models.result_of(job, pace, measure)
    peaks = {name: models.result_of(job._replace(contender=name), pace, measure) for name in CONTENDERS}
    for result in (found, *peaks.values()):
        if "error" in result:
            return {**row, "error": result["error"]}
    for name, peak in peaks.items():
        found[name] |= peak
    seconds = found[OURS]["seconds"]["p50"]
    rates = {"elements_per_s": found["elements"] * job.members / seconds, "gb_per_s": 2 * found["bytes"] / seconds / 1e9}
    return {**row, **found, **rates}


_COLUMNS = (
    *("noise onto", "dtype", "members", "M elements", "seconds", "G noise/s", "GB/s"),
    *(f"x {name}" for name in PEERS),
    *(f"{name}, MB" for name in CONTENDERS),
)


def _print_table(report: dict[str, Any]) -> None:
    console.table(described(report["machine"]), _COLUMNS, [_cells(row) for row in report["rows"]])
    console.say("randn: torch.manual_seed, then randn and add_ for each parameter. generators: each with a torch.Generator.")
    console.say("x: their time / fastinit's; * of a part of the members. GB/s: read and written once. MB: 10^6 bytes, beyond it.")
    for row in report["rows"]:
        if "error" in row:
            console.say(f"failed: {row['subject']}, {row['dtype']}, {row['members']} members: {row['error']}")


def _cells(row: dict[str, Any]) -> list[str]:
    """A measured row as text."""
    place = [row["subject"], row["dtype"], str(row["members"])]
    if "error" in row:
        return [*place, "failed", *"-" * (len(_COLUMNS) - 4)]
    times = [f"{row[name]['times']['p50']:.3g}{'*' * (row[name]['members'] < row['members'])}" for name in PEERS]
    peaks = [row[name]["peak_bytes"] for name in CONTENDERS]
    return [
        *place,
        f"{row['elements'] / 1e6:.1f}",
        f"{row[OURS]['seconds']['p50']:.3g}",
        f"{row['elements_per_s'] / 1e9:.3g}",
        f"{row['gb_per_s']:.3g}",
        *times,
        *("-" if peak is None else f"{peak / 1e6:,.1f}" for peak in peaks),
    ]
