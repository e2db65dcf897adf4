"""The README's table of when fastinit helps and when it does not: bounds of the medians in all committed results."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from benchmarks.markdown import place, power, table
from fastinit._commands import files

LARGE, SMALL, TINY = 1 << 26, 1 << 10, 1 << 6
CUT, UNIFORM, NORMAL = ("truncated_normal",), ("uniform", "glorot_uniform", "he_uniform"), ("normal",)
BIG_MODEL = 50_000_000  # parameters
DEFAULTS = "torch's defaults"  # of the cases of cuts.py
CUT_PEERS = {"nn.init": "`nn.init.trunc_normal_`", "erfinv": "the same of torch 2.11 and before"}
HEAD = ("what", "beside", "times as fast", "by one thread")
Found = Callable[[dict[str, Any]], list[float]]


def fills(report: dict[str, Any], laws: tuple[str, ...], elements: int = LARGE, alone: bool = False) -> list[float]:
    """Of fills, in any dtype: how many times as fast as torch's they are, by all threads or by one."""
    threads = 1 if alone else report["machine"]["threads"]
    rows = [row for row in report["rows"] if row.get("work", row.get("law")) in laws and "times_peer" in row]
    wanted = (elements, threads, None)
    return [row["times_peer"]["p50"] for row in rows if (row["elements"], row["threads"], row.get("isa")) == wanted]


def cut(report: dict[str, Any], peer: str, alone: bool = False, **wanted: str) -> list[float]:
    """Of large fills between such bounds, or in such a dtype: how many times fastinit's time the peer's is."""
    place = {"elements": LARGE, "threads": 1 if alone else report["machine"]["threads"], **wanted}
    rows = [row for row in report["rows"] if place.items() <= row.items()]
    return [row["contenders"][peer]["times"]["p50"] for row in rows]


def noise(report: dict[str, Any]) -> list[float]:
    return [row["randn"]["times"]["p50"] for row in report["rows"] if "error" not in row]


def built(report: dict[str, Any], by: str, least: int = 0, most: int = 1 << 62) -> list[float]:
    """Of models on the CPU: how many times as fast as by its constructor each is ready."""
    ways = [row["contenders"][by] for row in report["models"] if row["device"] == "cpu"]
    return [way["times"]["p50"] for way in ways if "error" not in way and least <= way["parameters"] < most]


class Line(NamedTuple):
    """A line of the table: what is filled, beside what, in which kinds of results, and the ratios in one of them."""

    what: str
    beside: str
    kinds: tuple[str, ...]
    found: Found
    alone: Found | None = None


def fill_line(what: str, beside: str, laws: tuple[str, ...], elements: int = LARGE) -> Line:
    by = partial(fills, laws=laws, elements=elements)
    return Line(what, beside, ("cpu", "sweep"), by, partial(by, alone=True))


def cut_line(what: str, peer: str, **wanted: str) -> Line:
    by = partial(cut, peer=peer, **wanted)
    return Line(what, CUT_PEERS[peer], ("cuts",), by, partial(by, alone=True))


def model_line(what: str, by: str, **sizes: int) -> Line:
    return Line(what, "their constructors", ("models",), partial(built, by=by, **sizes))


Ratios = dict[Line, list[float]]
LINES = (
    fill_line("normal values cut at two sigmas", CUT_PEERS["nn.init"], CUT),
    cut_line("torch's default bounds, -2 and 2, at std 0.02: nothing is cut", "nn.init", case=DEFAULTS),
    cut_line("either bounds, float32", "erfinv", dtype="float32"),
    cut_line("either bounds, bfloat16", "erfinv", dtype="bfloat16"),
    fill_line("uniform values: Glorot's, He's, any bounds", "`nn.init`", UNIFORM),
    fill_line("normal values", "`nn.init`", NORMAL),
    Line("noise onto weights: `blend_`, `perturb_`", "`randn`, `add_`", ("noise",), noise),
    model_line("models of 50 million parameters or more, from meta", "initialize_", least=BIG_MODEL),
    model_line("smaller models, from meta", "initialize_", most=BIG_MODEL),
    model_line("all these models, built inside `accelerate`", "accelerate"),
    fill_line("cut normals of 1,024 elements", CUT_PEERS["nn.init"], CUT, SMALL),
    fill_line("uniform and normal values, 1,024 elements", "`nn.init`", UNIFORM + NORMAL, SMALL),
    fill_line("uniform and normal values, 64 elements", "`nn.init`", UNIFORM + NORMAL, TINY),
)


def text(folder: pathlib.Path) -> str:
    """The table, and where it was measured."""
    kinds = dict.fromkeys(kind for line in LINES for kind in line.kinds)
    by_all, alone = ({line: [] for line in LINES} for _ in range(2))
    machines = {}
    for kind in kinds:
        for path in sorted(folder.glob(f"{kind}-*.json")):
            with files.reading(path):
                about = (report := files.read_json(path))["machine"]
                machines[f"{place(about)}, torch {about['torch']}"] = None
                collect(kind, report, by_all, alone)
    lines = [(line.what, line.beside, bounds(by_all[line]) or "Not measured yet.", bounds(alone[line])) for line in LINES]
    said = "The least and the greatest median over dtypes, laws and machines, by all threads and by one; fills of"
    said = f"{said} {power(LARGE)} elements unless a size is named"
    return f"{table(HEAD, lines)}\n\n{said}. {'; '.join(machines) or 'No machine yet'}."


def collect(kind: str, report: dict[str, Any], by_all: Ratios, alone: Ratios) -> None:
    """Add a report's ratios to the lines. A report that has none is not what its name says."""
    found = 0
    for line in LINES:
        if kind in line.kinds:
            for ratios, ratios_of in ((by_all, line.found), (alone, line.alone)):
                new = [float(ratio) for ratio in ratios_of(report)] if ratios_of else []
                ratios[line] += new
                found += len(new)
    if not found:
        raise LookupError("no row that is shown")


def bounds(ratios: list[float]) -> str:
    """The least and the greatest; nothing of none."""
    if not ratios:
        return ""
    low, high = (f"{x:.2f}" if x < 1 else f"{x:.1f}" if x < 10 else f"{x:.0f}" for x in (min(ratios), max(ratios)))
    return (low if low == high else f"{low} to {high}") + ": slower" * (max(ratios) < 1)
