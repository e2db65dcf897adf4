"""Tables, notes and progress: by rich where it is installed, as plain text elsewhere. Optional packages are asked for here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from fastinit import _text
from fastinit._commands.files import Refused

_T = TypeVar("_T")
_PACKAGES = {"sklearn": "scikit-learn"}  # import name -> distribution, where they differ


class MissingExtra(Refused):
    """An optional package is not installed; says which, and how to get it."""


def require(*modules: str, extra: str = "demo") -> None:
    """Raise MissingExtra unless all of the modules, which the extra brings, can be imported."""
    missing = [_PACKAGES.get(name, name) for name in modules if not installed(name)]
    if missing:
        raise MissingExtra(
            f"missing packages: {', '.join(missing)}. To install them: pip install 'fastinit-torch[{extra}]' "
            f"(in a checkout of the source: pip install -e '.[{extra}]')."
        )


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def width() -> int | None:
    """How long a line may be: what COLUMNS says, or the terminal that is written to; None where neither does."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def say(text: str, indent: int = 0) -> None:
    """Print lines, broken at spaces where they are too long; what follows of a broken one is indented."""
    print(_text.wrapped(text, width(), indent))


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column is a name, the others are right-aligned. What is too wide becomes a list of its rows."""
    lines = [list(row) for row in rows]
    if not (installed("rich") and _rich_table(title, columns, lines)):
        say(title)
        print(_text.aligned(columns, lines, align=str.rjust, width=width()))
        print()


def _rich_table(title: str, columns: Sequence[str], rows: list[list[str]]) -> bool:
    """Whether it was printed: one that is too wide was not, since rich would cut figures off."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.padding = (0, 1, 0, 0)
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    needed, most = Console(width=1000).measure(drawn).maximum, width()
    if most is not None and needed > most:
        return False
    console = Console(highlight=False, markup=False, width=needed)
    with console.capture() as text:  # it would end the process itself where nobody reads what it prints
        console.print(drawn)
    print(text.get(), end="")
    return True


def progress(items: Iterable[_T], label: str, total: int | None = None) -> Iterator[_T]:
    """Yield the items, behind a progress bar if rich is installed and this is a terminal. total: if they have no length."""
    if not (installed("rich") and sys.stderr.isatty()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total, description=label)
