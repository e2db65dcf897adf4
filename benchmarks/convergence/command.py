"""`fastinit study`: does the initializer decide whether the network that fastinit began with converges?"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING

from fastinit._commands import console

if TYPE_CHECKING:
    from benchmarks.convergence.runs import Run


def run(args: argparse.Namespace) -> int:
    console.require("rich", "matplotlib", "scipy", "sklearn", "sktime", "keras", extra="study")
    from benchmarks.convergence import results

    try:
        return train(args, pathlib.Path(args.output))
    except (results.Mismatch, OSError) as error:
        print(f"fastinit study: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"fastinit study: interrupted; the same command goes on from {args.output}", file=sys.stderr)
        return 130


def train(args: argparse.Namespace, path: pathlib.Path) -> int:
    """Trains what the results file lacks; then compares it with another, or tells what all of it says."""
    from benchmarks.convergence import pool, results, runs

    reference = args.against and pathlib.Path(args.against)
    wanted = runs.study()
    if args.slice:
        wanted = runs.slice_of(wanted)
    if reference:
        lacking = len(results.missing(reference, wanted))
        if lacking:
            raise results.Mismatch(f"{reference} lacks {lacking} of the runs to compare.")
    results.start(path)
    left = results.missing(path, wanted)
    print(f"{len(wanted) - len(left)} of {len(wanted)} runs are in {path}", file=sys.stderr)
    for _ in console.progress(pool.train_all(left, path, args.processes), "training", total=len(left)):
        pass
    tell(path, args.figures)
    return compare(path, reference, wanted) if reference else 0


def compare(path: pathlib.Path, reference: pathlib.Path, wanted: list[Run]) -> int:
    from benchmarks.convergence import results

    other = "; ".join(results.differences(results.header(reference), results.header(path)))
    print(f"compared roughly: {other}" if other else "compared digit by digit: the same versions and processor")
    found = results.disagreements(path, reference, wanted)
    print(*found, f"{len(found)} of {len(wanted)} runs differ from {reference}", sep="\n")
    return 1 if found else 0


def tell(path: pathlib.Path, folder: str | None) -> None:
    """Prints the tables, and draws the figures into the folder; of a part of the study a list of its outcomes."""
    from benchmarks.convergence import figures, results, runs, summary

    found = results.read(path)
    complete = not results.missing(path, runs.study())
    print(summary.budget())
    for table in summary.TABLES if complete else [summary.outcomes]:
        console.table(*table(found))
    if folder and complete:
        print("figures:", *figures.draw_all(found, pathlib.Path(folder)))
    elif folder:
        print("no figures: they need the whole study", file=sys.stderr)
