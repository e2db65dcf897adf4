"""Programs that read raw words from standard input: how ours are compiled, and how all are fed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterable

import numpy as np

HERE = pathlib.Path(__file__).parent
PIECE = 1 << 16  # words of a write: a count of what a program took is right to about one piece


class NotCompiled(Exception):
    """What the compiler said."""


def compiled(name: str, folder: str | os.PathLike[str], *options: str) -> str:
    """Compile a source of this folder for this processor and return the program. Raises NotCompiled where it cannot be."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        raise SystemExit("the battery's own tests need a C++ compiler: c++, g++ or $CXX.")
    program = os.path.join(folder, name)
    command = [*compiler.split(), "-std=c++17", "-O3", str(HERE / f"{name}.cpp"), "-o", program, *options]
    for flags in (["-march=native"], []):  # counts are integers on any processor
        done = subprocess.run([*command, *flags], capture_output=True, text=True)
        if not done.returncode:
            return program
    raise NotCompiled(done.stderr)


def fed(command: list[str], blocks: Iterable[np.ndarray]) -> tuple[str, int]:
    """What a program prints that reads raw words until it has enough, and how many went into the pipe."""
    words = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        with contextlib.suppress(BrokenPipeError), process.stdin:
            for piece in (block[i : i + PIECE] for block in blocks for i in range(0, len(block), PIECE)):
                process.stdin.write(np.ascontiguousarray(piece, "<u4").data)
                words += len(piece)
        output = process.stdout.read().decode()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}: {output}")
    return output, words
