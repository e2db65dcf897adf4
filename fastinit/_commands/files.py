"""Files of results, and how a program ends: what cannot be written is said before the work, what cannot be read in one line."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

_STANDARD = "-"  # in the place of a file: standard output
_outputs: list[TextIO] = []  # what that is, inside of `results_alone`


class Refused(Exception):
    """A file, or what else is named, is not there, or not what it should be; says which, and why, in a line."""


def check_writable(path: str | pathlib.Path | None) -> None:
    """Raise Refused for a file that cannot be written, before long work is lost; None for none. Nothing is left there."""
    if path is not None and path != _STANDARD:
        with writing(path) as file:
            new = not file.exists()
            file.open("a").close()
        if new:
            file.unlink()


def write(path: str | pathlib.Path, text: str) -> None:
    if path == _STANDARD:
        print(text, end="", file=_outputs[-1] if _outputs else sys.stdout)
        return
    with writing(path) as file:
        file.write_text(text)


@contextlib.contextmanager
def results_alone(path: str | pathlib.Path | None) -> Iterator[None]:
    """What the block prints goes to standard error, if its results go to standard output: there they are alone."""
    if path != _STANDARD:
        yield
        return
    _outputs.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _outputs.pop()


@contextlib.contextmanager
def writing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """A file that the block writes to; where the block fails, it does not leave a new one in part."""
    file = pathlib.Path(path)
    try:
        new = not file.exists()
        try:
            yield file
        except BaseException:
            if new:
                file.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror or error}. Name another file.") from error


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
    """What goes wrong in the block is the fault of a results file: it cannot be read, or lacks what is looked for."""
    try:
        yield
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Refused(f"{path} is damaged, or no such file of results ({fault}). Make it anew, or restore it.") from error


def read_json(path: pathlib.Path) -> Any:
    with reading(path):
        return json.loads(path.read_text())


def status_of(program: str, main: Callable[[], int | None]) -> int:
    """What a program returns. 2: refused, or an error of the system; 130: Ctrl-C; 141: who read its output has left."""
    try:
        status = main() or 0
        sys.stdout.flush()
        return status
    except Refused as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _silence()
        return 141
    except OSError as error:  # such as a disk that is full
        _silence()
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass  # behind this block the frames of the work are gone, and its progress bar with them
    print(f"{program}: interrupted", file=sys.stderr)
    return 130


def _silence() -> None:
    """Let what standard output still holds go nowhere: Python would write it once more, and say so, as the process ends."""
    with contextlib.suppress(OSError):  # in the place of a file stands something else
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
