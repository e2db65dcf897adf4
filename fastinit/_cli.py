"""The command line: ``fastinit info | check | bench | demo | study``. Parses, hands over; failures become exit statuses."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from fastinit import __version__
from fastinit._commands.console import MissingExtra


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the arguments without the program's name; None: those of the process.

    Returns:
        The exit status: 0; 1 if `check` found a fault, or `study` other results; 2 if an optional package is missing.

    Raises:
        SystemExit: wrong arguments (status 2), --help or --version (status 0), as argparse does.
    """
    args = parser().parse_args(argv)
    try:
        return int(importlib.import_module(f"fastinit._commands.{args.command}").run(args))
    except MissingExtra as error:
        print(f"fastinit {args.command}: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="fastinit", description="Exact, fast weight initializers for PyTorch.")
    top.add_argument("--version", action="version", version=f"fastinit {__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="versions, backends, instruction sets, threads, and what is missing and why")
    info.add_argument("--json", action="store_true", help="print JSON")
    add_check(
        commands.add_parser(
            "check", help="verify this installation on this machine, in about a minute; exit status 1 on any fault"
        )
    )
    add_bench(commands.add_parser("bench", help="measure fills against torch.nn.init and Tensor.fill_, in some minutes"))
    demo = commands.add_parser("demo", help="initialise GPT-2 small, then train a small network from four")
    demo.add_argument("--output", default="fastinit-demo.png", metavar="PNG", help="where the figure goes (default: %(default)s)")
    demo.add_argument("--quick", action="store_true", help="a small transformer and one epoch: a trial run")
    study = commands.add_parser("study", help="does the initializer decide over convergence? Two hours on two cores")
    study.add_argument("--output", default="fastinit-study.jsonl", metavar="FILE", help="results; goes on where they end")
    study.add_argument("--figures", metavar="FOLDER", help="draw the figures here")
    study.add_argument("--slice", action="store_true", help="a part that takes about a minute")
    study.add_argument("--against", metavar="FILE", help="compare with these results; exit status 1 if they differ")
    study.add_argument("--processes", type=count, metavar="N", help="trainings at a time (default: one a core)")
    return top


def add_check(check: argparse.ArgumentParser) -> None:
    check.add_argument(
        "--full", action="store_true", help="instead: all 2^32 words through every law, beside the law; ten minutes"
    )
    check.add_argument("--laws", type=names, metavar="A,B", help="of --full: those whose names hold these words (default: all)")
    check.add_argument("--peers", action="store_true", help="of --full: the same figures of torch.nn.init, Keras and JAX")
    check.add_argument("--probabilities", metavar="FOLDER", help="of --full: write those of each value of the narrow dtypes here")
    check.add_argument("--json", metavar="FILE", help="of --full: write all figures")


def add_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("--quick", action="store_true", help="few rounds, 2^20 elements at most: seconds, and noisy")
    bench.add_argument("--functions", type=names, metavar="A,B", help="such as truncated_normal,glorot_uniform (default: all)")
    bench.add_argument(
        "--dtypes", type=names, metavar="A,B", help="such as float32,bfloat16 (default: and float16, float8_e4m3fn)"
    )
    bench.add_argument("--sizes", type=sizes, metavar="N,M", help="elements, as integers or powers: 1024,2^26 (default)")
    bench.add_argument(
        "--models", type=names, nargs="?", const=[], metavar="A,B", help="instead: build and initialise models (default: all)"
    )
    bench.add_argument("--devices", type=names, metavar="A,B", help="of --models: cpu,cuda (default: all that are here)")
    bench.add_argument("--json", metavar="FILE", help="write the results, with the machine and all versions")


def count(text: str) -> int:
    """A number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 is needed. Received: {text!r}.")
    return int(text)


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def sizes(text: str) -> list[int]:
    """Elements: "1024,2^26" -> [1024, 2**26]."""
    try:
        found = [int(base) ** int(power or 1) for base, _, power in (part.partition("^") for part in names(text))]
    except ValueError:
        raise argparse.ArgumentTypeError(f"sizes are integers or powers, such as 1024,2^26. Received: {text!r}.") from None
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"sizes are at least 1. Received: {text!r}.")
    return found
