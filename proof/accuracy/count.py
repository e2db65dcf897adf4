"""The count: every law's walk, its faults, the tables of the terminal and the files that were asked for."""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import sys
import time
from typing import Any

from fastinit._backends import cpu
from fastinit._commands import console, files
from fastinit._commands.measure import machine
from proof.accuracy import peers, report, summary
from proof.accuracy.laws import LAWS
from proof.accuracy.tally import NARROW
from proof.accuracy.walk import BLOCKS, Walk

COLUMNS = ("value", "words of 2^32", "probability", "law's probability")


def run(args: argparse.Namespace) -> int:
    """Walk, print the tables, write what was asked for."""
    reason = cpu.library_or_reason()
    if isinstance(reason, str):
        print(f"python -m proof.accuracy walks through the native library, which cannot be used: {reason}", file=sys.stderr)
        return 2
    files.check_writable(args.json)
    if args.probabilities:
        with files.writing(args.probabilities) as folder:
            folder.mkdir(parents=True, exist_ok=True)
    laws, faults = {}, []
    for name in chosen(args.laws):
        walk, seconds = walked(name)
        laws[name] = {"seconds": round(seconds, 1), **figures(walk)}
        faults += [*walk.faults, *broken_promises(walk, laws[name])]
        if args.probabilities:
            write_probabilities(walk, pathlib.Path(args.probabilities))
    others = peers.peers(list(laws)) if args.peers else {}
    for table in tables(laws, others):
        console.table(*table)
    if args.json:
        files.write(args.json, lines({"machine": machine(), "laws": laws, "peers": others, "faults": faults}))
    print(*faults, f"{len(faults)} faults" if faults else "no faults", sep="\n")
    return 1 if faults else 0


def tables(laws: dict[str, Any], others: dict[str, Any]) -> list[report.Table]:
    made = [report.errors(laws), report.moments(laws), report.narrow(laws)]
    return made + ([report.peers(laws, others), report.narrow_peers(laws, others)] if others else [])


def chosen(parts: list[str]) -> list[str]:
    """Return the laws of these names, or whose names contain them; all, if none is named."""
    found = [name for name in LAWS if name in parts or any(part in name for part in parts if part not in LAWS)]
    missed = [part for part in parts if not any(part in name for name in LAWS)]
    if missed:
        raise SystemExit(f"python -m proof.accuracy: no law is called {missed[0]!r}. There are: {', '.join(LAWS)}.")
    return found if parts else list(LAWS)


def walked(name: str) -> tuple[Walk, float]:
    """A law's walk, and its seconds."""
    walk, began = Walk(name, LAWS[name]), time.perf_counter()
    for _ in console.progress(walk.run(), name, total=BLOCKS):
        pass
    state, seconds = f"{len(walk.faults)} faults" if walk.faults else "ok", time.perf_counter() - began
    print(f"{name}: every word in {', '.join(walk.isas)}: {state} ({seconds:.0f} s)", flush=True)
    return walk, seconds


def figures(walk: Walk) -> dict[str, Any]:
    mirrored = walk.law.symmetric
    return {"errors": summary.errors(walk.tally, mirrored), **summary.figures(walk.tally, mirrored)}


def broken_promises(walk: Walk, found: dict[str, Any]) -> list[str]:
    """What every word was given, but the law does not allow."""
    worst, limit, (a, b) = found["errors"]["worst"], walk.law.promise, walk.law.bounds
    faults = [f"{walk.name}: a value is {worst:.2f} ulp from the quantile, promised are {limit}"] if worst > limit else []
    for dtype, ends in {"float32": found, **found["narrow"]}.items():
        if not a <= ends["least"] <= ends["greatest"] <= b:
            faults.append(f"{walk.name}, {dtype}: values in [{ends['least']!r}, {ends['greatest']!r}] leave [{a!r}, {b!r}]")
    return faults


def write_probabilities(walk: Walk, folder: pathlib.Path) -> None:
    """A file a law and narrow dtype: a line for each value inside the bounds."""
    folder.mkdir(parents=True, exist_ok=True)
    for dtype in NARROW:
        values, words = summary.tallied(walk.tally, dtype, walk.law.symmetric)
        wanted, scale = summary.masses(walk.law, values), 2**32 / words.sum()
        path = folder / f"{walk.name.replace(' ', '-')}.{str(dtype).removeprefix('torch.')}.csv"
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
