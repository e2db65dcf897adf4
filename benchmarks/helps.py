"""The README's tables of when fastinit helps and when it does not: bounds of the medians in all committed results."""

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
GPU_HEAD = ("on a GPU", "beside", "times as fast by CUDA", "by Triton")
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


def built(report: dict[str, Any], by: str, least: int = 0, most: int = 1 << 62, device: str = "cpu") -> list[float]:
    """Of models on a device: how many times as fast as by its constructor each is ready."""
    ways = [row["contenders"][by] for row in report["models"] if row["device"] == device]
    return [way["times"]["p50"] for way in ways if "error" not in way and least <= way["parameters"] < most]


def gpu_rows(report: dict[str, Any], part: str, ratio: str, by: str, large: bool = True, **wanted: Any) -> list[float]:
    """Of a part of a GPU's times, by a backend, the largest fills or the small: how many times as fast as torch's they are."""
    rows = [row for row in report["times"][part] if ratio in row and row["backend"] == by and wanted.items() <= row.items()]
    if part == "rows":
        size = (max if large else min)((row["elements"] for row in report["times"]["rows"]), default=0)
        rows = [row for row in rows if row["elements"] == size]
    return [row[ratio]["p50"] for row in rows]


class Line(NamedTuple):
    """A line of a table: what is filled, beside what, in which kinds of results, and the ratios in one of them; and those of its
    last column, by one thread or by the other backend."""

    what: str
    beside: str
    kinds: tuple[str, ...]
    found: Found
    last: Found | None = None


def fill_line(what: str, beside: str, laws: tuple[str, ...], elements: int = LARGE) -> Line:
    by = partial(fills, laws=laws, elements=elements)
    return Line(what, beside, ("cpu", "sweep"), by, partial(by, alone=True))


def cut_line(what: str, peer: str, **wanted: str) -> Line:
    by = partial(cut, peer=peer, **wanted)
    return Line(what, CUT_PEERS[peer], ("cuts",), by, partial(by, alone=True))


def model_line(what: str, by: str, **sizes: int) -> Line:
    return Line(what, "their constructors", ("models",), partial(built, by=by, **sizes))


def gpu_line(what: str, beside: str, part: str, ratio: str = "times_peer", **wanted: Any) -> Line:
    native, triton = (partial(gpu_rows, part=part, ratio=ratio, by=by, **wanted) for by in ("native", "triton"))
    return Line(what, beside, ("gpu",), native, triton)


def gpu_model_line(what: str, by: str) -> Line:
    return Line(what, "their constructors on the GPU", ("models",), partial(built, by=by, device="cuda"))


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


GPU_LINES = (
    gpu_line("normal values cut at two sigmas", "`nn.init.trunc_normal_`", "rows", work="truncated_normal"),
    gpu_line("uniform values", "`nn.init.uniform_`", "rows", work="uniform"),
    gpu_line("normal values", "`nn.init.normal_`", "rows", work="normal"),
    gpu_line("uniform values, 1,024 elements", "`nn.init.uniform_`", "rows", work="uniform", large=False),
    gpu_line("the matrices of a model in one call", "a loop of `nn.init.trunc_normal_`", "lists"),
    gpu_line("noise onto a model: `perturb_`", "`randn`, `add_`", "noise", "times_randn"),
    gpu_model_line("whole models, from meta", "initialize_"),
    gpu_model_line("whole models, built inside `accelerate`", "accelerate"),
)


def text(folder: pathlib.Path) -> str:
    """The table, and where it was measured; once there are results of a GPU, theirs."""
    kinds = dict.fromkeys(kind for line in LINES + GPU_LINES for kind in line.kinds)
    firsts, lasts = ({line: [] for line in LINES + GPU_LINES} for _ in range(2))
    machines: tuple[dict[str, None], dict[str, None]] = {}, {}  # without a GPU, and with one
    for kind in kinds:
        for path in sorted(folder.glob(f"{kind}-*.json")):
            with files.reading(path):
                report = files.read_json(path)
                about = machine_of(kind, report)
                if about is None:
                    continue
                machines[bool(about.get("gpu"))][f"{about.get('gpu') or place(about)}, torch {about['torch']}"] = None
                collect(kind, report, firsts, lasts)
    cells = {line: (line.what, line.beside, bounds(firsts[line]) or "Not measured yet.", bounds(lasts[line])) for line in firsts}
    said = "The least and the greatest median over dtypes, laws and machines, by all threads and by one; fills of"
    said = f"{said} {power(LARGE)} elements unless a size is named. {'; '.join(machines[False]) or 'No machine yet'}."
    texts = [table(HEAD, [cells[line] for line in LINES]), said]
    if machines[True]:
        texts += [table(GPU_HEAD, [cells[line] for line in GPU_LINES]), f"{'; '.join(machines[True])}."]
    return "\n\n".join(texts)


def machine_of(kind: str, report: dict[str, Any]) -> dict[str, Any] | None:
    """Where a report was measured; None where a GPU has been checked and not timed yet."""
    if kind != "gpu":
        return report["machine"]
    is_untimed = report.keys() and "rows" not in report.get("times", {})
    return None if is_untimed else report["times"]["machine"]


def collect(kind: str, report: dict[str, Any], firsts: Ratios, lasts: Ratios) -> None:
    """Add a report's ratios to the lines. A report that has none is not what its name says."""
    found = 0
    for line in firsts:
        if kind in line.kinds:
            for ratios, ratios_of in ((firsts, line.found), (lasts, line.last)):
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
