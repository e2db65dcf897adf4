"""The command: train what a results file lacks, tell what all of it says; or rewrite the page about the committed results."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from benchmarks.convergence import figures, page, pool, results, runs, summary
from benchmarks.convergence.runs import Run
from fastinit._commands import console, files

PROGRAM = "python -m benchmarks.convergence"
DESCRIPTION = """\
Does the initializer decide whether the network that fastinit began with converges? Trains 2,940 networks, in two hours on two
cores, and goes on where the results file ends."""


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 if results differ or the page is out of date, 2 if the study cannot run, 130 if interrupted."""
    args = parser().parse_args(argv)
    try:
        console.require("rich", "matplotlib", "scipy", "sklearn", "sktime", "keras", extra="study")
        return page.run(args.check) if args.page or args.check else study(args, pathlib.Path(args.output))
    except (console.MissingExtra, files.Refused, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; the same command goes on from {args.output}", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION)
    made.add_argument("--output", default="convergence.jsonl", metavar="FILE", help="results; goes on where they end")
    made.add_argument("--figures", metavar="FOLDER", help="draw the figures here")
    made.add_argument("--slice", action="store_true", help="a few runs, of less than half a minute")
    made.add_argument("--against", metavar="FILE", help="compare with these results; exit status 1 if they differ")
    made.add_argument("--processes", type=count, metavar="N", help="trainings at a time (default: one a core)")
    shown = made.add_mutually_exclusive_group()
    shown.add_argument(
        "--page", action="store_true", help="train nothing: rewrite docs/porting.md and its figures from the results"
    )
    shown.add_argument("--check", action="store_true", help="train nothing: exit status 1 if docs/porting.md is out of date")
    return made


def count(text: str) -> int:
    """Return a number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 is needed. Received: {text!r}.")
    return int(text)


def study(args: argparse.Namespace, path: pathlib.Path) -> int:
    """Train what the results file lacks; then compare it with another, or tell what all of it says."""
    reference = args.against and pathlib.Path(args.against)
    wanted = runs.slice_of(runs.study()) if args.slice else runs.study()
    if reference:
        lacking = len(results.missing(reference, wanted))
        if lacking:
            raise results.Mismatch(f"{reference} lacks {lacking} of the runs to compare.")
    if args.figures:
        pathlib.Path(args.figures).mkdir(parents=True, exist_ok=True)  # raises before the work
    results.start(path)
    left = results.missing(path, wanted)
    print(f"{len(wanted) - len(left)} of {len(wanted)} runs are in {path}", file=sys.stderr)
    for _ in console.progress(pool.train_all(left, path, args.processes), "training", total=len(left)):
        pass
    tell(path, args.figures)
    return compare(path, reference, wanted) if reference else 0


def compare(path: pathlib.Path, reference: pathlib.Path, wanted: list[Run]) -> int:
    other = "; ".join(results.differences(results.header(reference), results.header(path)))
    print(f"compared roughly: {other}" if other else "compared digit by digit: the same versions and processor")
    found = results.disagreements(path, reference, wanted)
    print(*found, f"{len(found)} of {len(wanted)} runs differ from {reference}", sep="\n")
    return 1 if found else 0


def tell(path: pathlib.Path, folder: str | None) -> None:
    """Print the tables, and draw the figures into the folder; of a part of the study print a list of its outcomes."""
    found = results.read(path)
    complete = not results.missing(path, runs.study())
    print(summary.budget())
    for table in summary.TABLES if complete else [summary.outcomes]:
        console.table(*table(found))
    if folder and complete:
        print("figures:", *figures.draw_all(found, pathlib.Path(folder)))
    elif folder:
        print("no figures: they need the whole study", file=sys.stderr)
