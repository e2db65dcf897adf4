"""The command line: ``fastinit info | check | audit | bench | demo | completion``. Parses, and hands over."""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from fastinit import __version__
from fastinit._commands import files

_MOST_BITS = 40  # of a size: 1 to 8 terabytes
_STUDY = """\
The study of convergence trains networks and is not part of the installed package. It runs in a checkout of the source:
pip install -e '.[study]' && python -m benchmarks.convergence"""
_FULL = """\
The count over all 2^32 words needs SciPy and is not part of the installed package. It runs in a checkout of the source:
pip install -e '.[test]' && python -m proof.accuracy"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the arguments without the program's name; None: those of the process.

    Returns:
        The exit status: 0; 1 if `check` found a fault, or `audit` a parameter; 2 if an optional package is missing, a file
            cannot be written, what is named is not there, or the command has moved; 130 after Ctrl-C; 141 if what reads its
            output has left.

    Raises:
        SystemExit: wrong arguments (status 2), --help or --version (status 0), as argparse does.
    """
    top = parser()
    args, unknown = top.parse_known_args(argv)  # what has moved is said so whatever options follow
    if args.moved:
        print(args.moved, file=sys.stderr)
        return 2
    if unknown:
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    return files.status_of(f"fastinit {args.command}", functools.partial(_run, args))


def _run(args: argparse.Namespace) -> int:
    results = None if args.command == "info" else getattr(args, "json", None)
    with files.results_alone(results):
        return int(importlib.import_module(f"fastinit._commands.{args.command}").run(args))


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong: the usage of a command with many options would hide it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.removesuffix('.')}. See {self.prog} --help.\n")


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog="fastinit", description="Exact, fast weight initializers for PyTorch.")
    top.add_argument("--version", action="version", version=f"fastinit {__version__}")
    top.set_defaults(moved=None)
    commands = top.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="versions, backends, instruction sets, threads, and what is missing and why")
    info.add_argument("--json", action="store_true", help="print JSON")
    check_help = "verify this installation on this machine, in about a minute; exit status 1 on any fault"
    check = commands.add_parser("check", help=check_help)
    check.add_argument("--full", dest="moved", action="store_const", const=_FULL, help="moved; says where to")
    audit_help = "whether a scheme suits a model: what its constructor sets is kept, the rest drawn; exit status 1 where not"
    _add_audit(commands.add_parser("audit", help=audit_help))
    _add_bench(commands.add_parser("bench", help="measure fills against torch.nn.init and Tensor.fill_, in some minutes"))
    demo = commands.add_parser(
        "demo", help="initialize GPT-2 small, then train a small network from four kinds of initial weights"
    )
    demo.add_argument("--output", default="fastinit-demo.png", metavar="PNG", help="where the figure goes (default: %(default)s)")
    demo.add_argument("--quick", action="store_true", help="a small transformer, one seed and two epochs: a trial run")
    completion = commands.add_parser("completion", help="print the code by which a shell completes this command's arguments")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh", "fish"))
    completion.set_defaults(parser=top)
    study = commands.add_parser("study", help="moved; says where to", description=_STUDY)
    study.set_defaults(moved=_STUDY)
    return top


def _add_audit(audit: argparse.ArgumentParser) -> None:
    audit.add_argument("target", metavar="package.module:function", help="takes nothing, and returns a new model; built twice")
    audit.add_argument(
        "--scheme", default="keras_like", metavar="NAME", help="such as gpt2_like(12), or package.module:scheme (%(default)s)"
    )
    audit.add_argument("--seed", type=int, default=0, metavar="N", help="of the constructions, and of the keys (%(default)s)")
    audit.add_argument("--allow", action="append", default=[], metavar="PATTERN", help="names that may be changed or left")
    audit.add_argument("--json", metavar="FILE", help="write the audit; -: to standard output, all else to standard error")


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("--quick", action="store_true", help="few rounds, 2^20 elements at most: seconds, and noisy")
    bench.add_argument("--functions", type=_names, metavar="A,B", help="such as truncated_normal,glorot_uniform (default: all)")
    bench.add_argument(
        "--dtypes", type=_names, metavar="A,B", help="such as float32,bfloat16 (default: and float16, float8_e4m3fn)"
    )
    bench.add_argument("--sizes", type=_sizes, metavar="N,M", help="elements, as integers or powers: 1024,2^26 (default)")
    bench.add_argument(
        "--models", type=_names, nargs="?", const=[], metavar="A,B", help="instead: build and initialize models (default: all)"
    )
    bench.add_argument("--noise", action="store_true", help="instead: noise onto tensors and a model, and its peak of memory")
    bench.add_argument("--devices", type=_names, metavar="A,B", help="of --models: cpu,cuda (default: all that are here)")
    bench.add_argument("--json", metavar="FILE", help="write the results with the machine and all versions; -: standard output")


def _names(text: str) -> list[str]:
    """Names: "a,b" -> ["a", "b"]; none would mean all."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"name one at least, or leave the option out. Received: {text!r}.")
    return found


def _sizes(text: str) -> list[int]:
    """Elements: "1024,2^26" -> [1024, 2**26]."""
    try:
        parts = [part.partition("^") for part in text.split(",") if part.strip()]
        found = [int(base) ** min(int(power or 1), _MOST_BITS + 1) for base, _, power in parts]  # 9^999999999 would take hours
    except ValueError:
        raise argparse.ArgumentTypeError(f"sizes are integers or powers, such as 1024,2^26. Received: {text!r}.") from None
    if not found or min(found) < 1 or max(found) > 1 << _MOST_BITS:
        raise argparse.ArgumentTypeError(f"sizes are from 1 to 2^{_MOST_BITS} elements. Received: {text!r}.")
    return found
