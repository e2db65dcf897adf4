"""Tables and progress: by rich where it is installed, as plain text elsewhere. Optional packages are asked for here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from fastinit import _text

_T = TypeVar("_T")
_PACKAGES = {"sklearn": "scikit-learn"}  # import name -> distribution, where they differ


class MissingExtra(Exception):
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


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column is a name, the others are right-aligned."""
    lines = [list(row) for row in rows]
    if installed("rich"):
        _rich_table(title, columns, lines)
    else:
        _plain_table(title, columns, lines)


def _rich_table(title: str, columns: Sequence[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.padding = (0, 1, 0, 0)
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    # Wider than the terminal it wraps; rich would cut the figures off instead. A pipe has no width at all.
    needed = Console(width=1000).measure(drawn).maximum
    Console(highlight=False, markup=False, width=needed).print(drawn)


def _plain_table(title: str, columns: Sequence[str], rows: list[list[str]]) -> None:
    print(title)
    print(_text.aligned(columns, rows, align=str.rjust))
    print()


def progress(items: Iterable[_T], label: str, total: int | None = None) -> Iterator[_T]:
    """Yield the items, behind a progress bar if rich is installed and this is a terminal. total: if they have no length."""
    if not installed("rich"):
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total, description=label)
