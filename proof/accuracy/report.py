"""The figures as tables: of the terminal, and of docs/accuracy.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

MOMENTS = ("mean", "variance", "skewness", "kurtosis")
DTYPES = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
Figures = dict[str, Any]


class Table(NamedTuple):
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def errors(laws: dict[str, Figures]) -> Table:
    columns = ("law", "worst ulp", "mean ulp", "distance", "distinct values", "least", "greatest")
    rows = [
        (
            name,
            f"{found['errors']['worst']:.2f}",
            f"{found['errors']['mean']:.3f}",
            f"{found['distance']:.1e}",
            f"{found['distinct']:,}",
            f"{found['least']:.9g}",
            f"{found['greatest']:.9g}",
        )
        for name, found in laws.items()
    ]
    return Table("float32, every word", columns, rows)


def moments(laws: dict[str, Figures]) -> Table:
    """What a moment is off by, behind the law's."""
    rows = [(name, *(moment(found, key) for key in MOMENTS)) for name, found in laws.items()]
    return Table("float32, exact moments: the law's, and what the values' differ by", ("law", *MOMENTS), rows)


def moment(found: Figures, key: str) -> str:
    law = found["law"][key]
    return f"{law:.6g} {signed(found['moments'][key] - law)}"


def narrow(laws: dict[str, Figures]) -> Table:
    """Of the narrow dtypes: how many values occur of those inside the bounds, and how far probabilities are from the law's."""
    rows = [(name, *(narrow_cell(found["narrow"].get(dtype)) for dtype in DTYPES)) for name, found in laws.items()]
    return Table("narrow dtypes: values that occur / that the bounds hold; total variation; worst ratio", ("law", *DTYPES), rows)


def narrow_cell(found: Figures | None) -> str:
    if found is None:
        return ""
    return f"{found['values']:,} / {found['representable']:,}; {found['variation']:.1e}; {found['worst_ratio']:.1e}"


def peers(laws: dict[str, Figures], others: dict[str, Figures]) -> Table:
    """float32 of the laws that all have, by library."""
    columns = ("law", "by", "worst ulp", "distinct values", "distance", "mean", "variance off by", "least", "greatest")
    return Table("float32 by library", columns, [peer_cells(*entry) for entry in by_library(laws, others)])


def by_library(laws: dict[str, Figures], others: dict[str, Figures]) -> Iterator[tuple[str, str, Figures]]:
    for name in next(iter(others.values()))["laws"] if others else ():
        yield name, "fastinit", laws[name]
        for library, found in others.items():
            yield name, library, found["laws"][name]


def peer_cells(name: str, by: str, found: Figures) -> tuple[str, ...]:
    ulp = f"{found['errors']['worst']:.2f}" if "errors" in found else ""
    variance = found["moments"]["variance"] - found["law"]["variance"]
    distance = f"{found['distance']:.1e}{chance(found, 'distance')}"
    ends = (f"{found['least']:.8g}", f"{found['greatest']:.8g}")
    return (name, by, ulp, f"{found['distinct']:,}", distance, signed(found["moments"]["mean"]), signed(variance), *ends)


def narrow_peers(laws: dict[str, Figures], others: dict[str, Figures]) -> Table:
    """bfloat16 and float16 by library."""
    columns = ("law", "dtype", "by", "values", "total variation", "mean", "least", "greatest")
    rows = [
        (name, dtype, by, *narrow_peer_cells(found["narrow"][dtype], chance(found, dtype)))
        for dtype in DTYPES[:2]
        for name, by, found in by_library(laws, others)
    ]
    return Table("narrow dtypes by library", columns, rows)


def narrow_peer_cells(found: Figures, noise: str) -> tuple[str, ...]:
    ends = (f"{found['least']:.6g}", f"{found['greatest']:.6g}")
    return (f"{found['values']:,}", f"{found['variation']:.1e}{noise}", signed(found["mean"]), *ends)


def chance(found: Figures, key: str) -> str:
    """What the draws of an exact sampler would show, behind a figure of draws."""
    return f" (chance: {found['chance'][key]:.1e})" if "chance" in found else ""


def signed(x: float) -> str:
    return f"{x:+.1e}" if x else "0"
