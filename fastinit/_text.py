"""Plain text: aligned columns, or a block of lines for each row where columns do not fit."""

import textwrap
from collections.abc import Callable, Iterable, Sequence

_Align = Callable[[str, int], str]


def aligned(columns: Sequence[str], rows: Iterable[Sequence[str]], align: _Align = str.ljust, width: int | None = None) -> str:
    """Lines of columns under their heads: the first is a name and stands on the left, the others as `align` says.

    width: of the longest line that may be, in characters; where the table is wider, each row is a block of lines.
    """
    lines = [columns, *rows]
    first, *widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    table = "\n".join("  ".join([line[0].ljust(first), *map(align, line[1:], widths)]).rstrip() for line in lines)
    return table if fits(table, width) else listed(columns, lines[1:], width)


def listed(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """A block for each row: its first cell, and below it the others, each beside its column's head."""
    head = max(map(len, columns))
    return "\n".join(
        wrapped(line, width, head + 4)
        for row in rows
        for line in (row[0], *(f"  {column:{head}}  {cell}" for column, cell in zip(columns[1:], row[1:], strict=True) if cell))
    )


def fits(text: str, width: int | None) -> bool:
    return width is None or max(map(len, text.splitlines())) <= width


def wrapped(text: str, width: int | None, indent: int = 0) -> str:
    """The text in lines of at most so many characters, broken at spaces; what follows of a line that was broken is indented."""
    if width is None:
        return text
    indent = min(indent, width // 2)
    return "\n".join(piece for line in text.splitlines() for piece in _broken(line, width, indent))


def _broken(line: str, width: int, indent: int) -> list[str]:
    """The pieces of a line that is too long; its own spaces stay as they are."""
    if len(line) <= width:
        return [line]
    first = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.strip(),
        width,
        initial_indent=first,
        subsequent_indent=" " * max(indent, len(first)),
        break_long_words=False,
        break_on_hyphens=False,
    )
