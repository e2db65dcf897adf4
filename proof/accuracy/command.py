"""The command: walk all 2^32 words through every law and show the values beside the law; or rewrite the page about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fastinit._commands import console, files

PROGRAM = "python -m proof.accuracy"
DESCRIPTION = """\
Gives every 32-bit word to every law, in every instruction set of this processor, and compares the values with the law: ten
minutes with AVX-512. Exit status 1 on a fault, 2 where the native library cannot be used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 after a fault or if the page is out of date, 2 where there is nothing to walk."""
    args = parser().parse_args(argv)
    try:
        console.require("numpy", "scipy", extra="test")
        if args.page:
            console.require("matplotlib", extra="test-all")
    except console.MissingExtra as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    from proof.accuracy import count, page  # which import SciPy

    return files.status_of(PROGRAM, lambda: page.run(args.check) if args.page or args.check else count.run(args))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION)
    made.add_argument(
        "--laws", type=names, default=[], metavar="A,B", help="those whose names contain these words (default: all)"
    )
    made.add_argument(
        "--peers", action="store_true", help="show the same figures of torch.nn.init, Keras and JAX: three minutes more"
    )
    made.add_argument("--probabilities", metavar="FOLDER", help="write those of each value of the narrow dtypes here")
    made.add_argument("--json", metavar="FILE", help="write all figures")
    shown = made.add_mutually_exclusive_group()
    shown.add_argument(
        "--page", action="store_true", help="walk nothing: rewrite docs/accuracy.md and its figures from proof/results"
    )
    shown.add_argument("--check", action="store_true", help="walk nothing: exit status 1 if docs/accuracy.md is out of date")
    return made


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]
