"""Plain text in aligned columns."""

from collections.abc import Callable, Iterable, Sequence


def aligned(columns: Sequence[str], rows: Iterable[Sequence[str]], align: Callable[[str, int], str] = str.ljust) -> str:
    """Lines of columns under their heads: the first is a name and stands on the left, the others as `align` says."""
    lines = [columns, *rows]
    first, *widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(first), *map(align, line[1:], widths)]).rstrip() for line in lines)
