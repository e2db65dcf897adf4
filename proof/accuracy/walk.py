"""`fastinit check --full`: every 32-bit word through every law, in every instruction set; the figures beside the law's."""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

from fastinit._backends import cpu
from fastinit._commands import console
from fastinit._commands.measure import machine

if TYPE_CHECKING:
    from proof.accuracy.sweep import Sweep

COLUMNS = ("value", "words of 2^32", "probability", "law's probability")


def run(args: argparse.Namespace) -> int:
    """Walks, prints the tables, writes what was asked for. Exit status 1 after a fault, 2 where there is nothing to walk."""
    console.require("scipy", extra="check")
    reason = cpu.library_or_reason()
    if isinstance(reason, str):
        print(f"fastinit check --full walks through the native library, which cannot be used: {reason}", file=sys.stderr)
        return 2
    from proof.accuracy import peers, report

    laws, faults = {}, []
    for name in chosen(args.laws or []):
        sweep, seconds = walked(name)
        laws[name] = {"seconds": round(seconds, 1), **figures(sweep)}
        faults += [*sweep.faults, *broken_promises(sweep, laws[name])]
        if args.probabilities:
            write_probabilities(sweep, pathlib.Path(args.probabilities))
    others = peers.peers(list(laws)) if args.peers else {}
    tables = [report.errors(laws), report.moments(laws), report.narrow(laws)]
    if others:
        tables += [report.peers(laws, others), report.narrow_peers(laws, others)]
    for table in tables:
        console.table(*table)
    if args.json:
        pathlib.Path(args.json).write_text(lines({"machine": machine(), "laws": laws, "peers": others, "faults": faults}))
    print(*faults, f"{len(faults)} faults" if faults else "no faults", sep="\n")
    return 1 if faults else 0


def chosen(parts: list[str]) -> list[str]:
    """The laws of these names, or whose names hold them; all, if there are none."""
    from proof.accuracy.laws import LAWS

    found = [name for name in LAWS if name in parts or any(part in name for part in parts if part not in LAWS)]
    missed = [part for part in parts if not any(part in name for name in LAWS)]
    if missed:
        raise SystemExit(f"fastinit check --full: no law is called {missed[0]!r}. There are: {', '.join(LAWS)}.")
    return found if parts else list(LAWS)


def walked(name: str) -> tuple[Sweep, float]:
    """A law's walk, and its seconds."""
    from proof.accuracy.laws import LAWS
    from proof.accuracy.sweep import BLOCKS, Sweep

    sweep, began = Sweep(name, LAWS[name]), time.perf_counter()
    for _ in console.progress(sweep.run(), name, total=BLOCKS):
        pass
    state, seconds = f"{len(sweep.faults)} faults" if sweep.faults else "ok", time.perf_counter() - began
    print(f"{name}: every word in {', '.join(sweep.isas)}: {state} ({seconds:.0f} s)", flush=True)
    return sweep, seconds


def figures(sweep: Sweep) -> dict[str, Any]:
    from proof.accuracy import summary

    mirrored = sweep.law.symmetric
    return {"errors": summary.errors(sweep.tally, mirrored), **summary.figures(sweep.tally, mirrored)}


def broken_promises(sweep: Sweep, found: dict[str, Any]) -> list[str]:
    """What every word was given, but the law does not allow."""
    worst, limit, (a, b) = found["errors"]["worst"], sweep.law.promise, sweep.law.bounds
    faults = [f"{sweep.name}: a value is {worst:.2f} ulp from the quantile, promised are {limit}"] if worst > limit else []
    for dtype, ends in {"float32": found, **found["narrow"]}.items():
        if not a <= ends["least"] <= ends["greatest"] <= b:
            faults.append(f"{sweep.name}, {dtype}: values in [{ends['least']!r}, {ends['greatest']!r}] leave [{a!r}, {b!r}]")
    return faults


def write_probabilities(sweep: Sweep, folder: pathlib.Path) -> None:
    """A file a law and narrow dtype: a line for each value inside the bounds."""
    from proof.accuracy import summary
    from proof.accuracy.tally import NARROW

    folder.mkdir(parents=True, exist_ok=True)
    for dtype in NARROW:
        values, words = summary.tallied(sweep.tally, dtype, sweep.law.symmetric)
        wanted, scale = summary.masses(sweep.law, values), 2**32 / words.sum()
        path = folder / f"{sweep.name.replace(' ', '-')}.{str(dtype).removeprefix('torch.')}.csv"
        with path.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for value, count, mass in zip(values.tolist(), (words * scale).tolist(), wanted.tolist(), strict=True):
                table.writerow((repr(value), int(count), f"{count / 2**32:.9e}", f"{mass:.9e}"))


def lines(content: dict[str, Any]) -> str:
    """JSON with a line for each law and library."""
    parts = [
        f"{json.dumps(key)}: "
        + (
            "{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in part.items()) + "\n}"
            if part and key != "faults"
            else json.dumps(part)
        )
        for key, part in content.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"
