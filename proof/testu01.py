"""TestU01's batteries on a stream of words: SmallCrush in one go, Crush and BigCrush test by test, so that a long run can resume.

They read a word's highest bits for the most part; the streams of reversed words and of low bits show them the others. Needs
TestU01 1.2.3 and its headers: Debian and Ubuntu have `libtestu01-0-dev`, in the non-free or universe part.

Reference:
    L'Ecuyer and Simard, "TestU01: a C library for empirical testing of random number generators", ACM TOMS 33 (2007) 22.
"""

from __future__ import annotations

import os

from proof import programs, streams

SMALL = ["smallcrush 0"]
CRUSH = [f"crush {number}" for number in range(1, 97)]
BIG = [f"bigcrush {number}" for number in range(1, 107)]
TESTS = [*SMALL, *CRUSH, *BIG]
LIBRARIES = ("-I/usr/include/testu01", "-ltestu01", "-ltestu01probdist", "-ltestu01mylib", "-lm")


def compiled(folder: str | os.PathLike[str]) -> str | None:
    """The program that runs its tests, or nothing where TestU01 is not installed."""
    try:
        return programs.compiled("testu01", folder, *LIBRARIES)
    except programs.NotCompiled:
        return None


def run(program: str, test: str, blocks: streams.Blocks) -> tuple[dict[str, float], int]:
    """The p values of a test, or of all of SmallCrush, by name; and the words that it took."""
    output, words = programs.fed([program, *test.split()], blocks)
    lines = [line.split("\t") for line in output.splitlines()]
    return {f"{name}/{place}": float(p) for place, name, p in lines}, words
