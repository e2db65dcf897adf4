"""Markdown of what `python -m benchmarks.gpu` found: the aims, and every table of docs/gpus.md that was measured on a GPU."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.markdown import commit_text, power, significant, spread, table

Report = dict[str, Any]
CODE = pathlib.Path(__file__).parent / "results" / "cuda-code.json"
LANES = 128  # instructions that a multiprocessor issues in a cycle, over its threads: four schedulers, a warp each
LAWS = {"uniform": "uniform", "truncated_normal": "truncated normal at 2 sigmas", "normal": "normal"}  # of cuda-code.json
FILLS = ("function", "dtype", "by", "G elements/s", "GB/s", "of `fill_`", "times `nn.init`", "peer", "`uniform_`s at 1,024")
LISTS = ("tensors of", "dtype", "by", "tensors", "launches", "ms", "times a loop of `nn.init.trunc_normal_`")
NOISE = ("noise onto", "dtype", "members", "by", "ms", "times `randn`", "times generators")
NOISE += ("peak, MB", "`randn`'s", "generators'")
COUNTERS = ("function and dtype", "by", "DRAM", "issue slots", "occupancy", "registers", "instructions an element")
TUNING = ("by", "function and dtype", "variant", "times as fast", "of `fill_`", "was expected")
BY = {"native": "CUDA", "triton": "Triton"}
COUNTED = 1 << 28  # elements of a fill whose counters are read


def text(report: Report) -> str:
    """All parts that the report has, the aims first."""
    found = [(report[name], make) for name, make in PARTS.items() if name in report]
    found = [(part, verdicts("What failed as a whole") if is_failed(part) else make) for part, make in found]
    if not found:
        raise LookupError("no part that is shown")
    return "\n\n".join([machine(found[0][0]), *filter(None, (make(part) for part, make in found))])


def is_failed(part: Report) -> bool:
    """Whether a part has nothing but the reason why it has nothing."""
    return any(verdict.startswith("failed: ") for verdict in part.get("verdicts", {}).values()) and len(part) <= 3


def machine(part: Report) -> str:
    about = part["machine"]
    versions = f"driver {about['driver']}, CUDA {about['cuda']}, torch {about['torch']}, Triton {about['triton']}"
    return f"{about['gpu']}, {versions}; {about['date']}{commit_text(about)}."


def verdicts(what: str) -> Callable[[Report], str]:
    def told(part: Report) -> str:
        found = part["verdicts"]
        fine = sum(verdict.startswith("ok") for verdict in found.values())
        rest = [
            f"{name}: {verdict.splitlines()[-1 if verdict.startswith('failed: ') else 0]}"
            for name, verdict in found.items()
            if not verdict.startswith("ok")
        ]
        return "; ".join([f"{what}{commit_text(part['machine'])}: {fine} of {len(found)} without a fault", *rest]) + "."

    return told


# --- times --------------------------------------------------------------------------------------------------------------------


def times(part: Report) -> str:
    failed = [f"{name}: {told.splitlines()[-1]}" for name, told in part["verdicts"].items() if told != "ok"]
    return "\n\n".join([*(measured(part) if part["rows"] else []), *failed])


def measured(part: Report) -> list[str]:
    rows = part["rows"]
    largest, smallest = (pick(row["elements"] for row in rows) for pick in (max, min))
    small = {place(row): row for row in rows if row["elements"] == smallest}
    fills = [fill_cells(row, small.get(place(row))) for row in rows if row["elements"] == largest]
    tables = (
        table(FILLS, fills),
        table(LISTS, [list_cells(row) for row in part["lists"]]),
        table(NOISE, [noise_cells(row) for row in part["noise"]]),
    )
    took = [(BY[each["backend"]], each["cold"], each["warm"]) for each in part["first_calls"]]
    first = "; ".join(f"{by} {cold:.2g} s, once compiled {warm:.2g} s" for by, cold, warm in took)
    started = "; ".join(map(launches_of, part["initialized"]))
    head = f"Fills of {power(largest)} elements, medians, 20th and 80th percentiles of ratios by rounds:"
    said = [
        f"Launches of `initialize_`: {started or 'not measured'}.",
        f"The first fill of a process: {first or 'not measured'}.",
    ]
    return [aims(part), head, *tables, *said]


def place(row: Report) -> tuple[str, str, str]:
    return row["work"], row["dtype"], row["backend"]


def fill_cells(row: Report, small: Report | None) -> tuple[str, ...]:
    peer = (spread(row["times_peer"]), f"`{row['peer']}`") if "peer" in row else ("", "torch has none")
    rates = (f"{row['elements_per_s'] / 1e9:.3g}", f"{row['gb_per_s']:.4g}", spread(row["of_fill"]))
    where = (row["work"], row["dtype"], BY[row["backend"]])
    return (*where, *rates, *peer, spread(small["of_uniform"]) if small else "")


def list_cells(row: Report) -> tuple[str, ...]:
    started = "" if row["launches"] is None else str(sum(row["launches"].values()))
    where = (row["model"], row["dtype"], BY[row["backend"]], str(row["tensors"]), started)
    return (*where, f"{row['seconds']['p50'] * 1e3:.3g}", spread(row["times_peer"]))


def launches_of(row: Report) -> str:
    kernels = row["launches"]
    told = "not counted" if kernels is None else ", ".join(f"{count} of {kernel}" for kernel, count in kernels.items())
    return f"{row['model']} in {row['dtype']}, {row['tensors']} tensors, by {BY[row['backend']]}: {told}"


def noise_cells(row: Report) -> tuple[str, ...]:
    peaks = [row["bytes"], row["randn_bytes"], row["seeded_bytes"]]
    where = (row["model"], row["dtype"], str(row["seeds"]), BY[row["backend"]], f"{row['seconds']['p50'] * 1e3:.3g}")
    ratios = (spread(row["times_randn"]), spread(row["times_seeded"]))
    return (*where, *ratios, *("" if peak is None else f"{peak / 1e6:,.1f}" for peak in peaks))


# --- aims ---------------------------------------------------------------------------------------------------------------------


class Aim(NamedTuple):
    """A figure to reach: the least ratio, or where `most` is set the greatest; of one backend's rows the worst counts."""

    what: str
    figure: float
    ratios: Callable[[Report, str], list[float]]
    most: bool = False
    work: str | None = None  # and dtype, where the instructions of one kernel bound it
    dtype: str | None = None


def of_fill(work: str, dtype: str, figure: float) -> Aim:
    def ratios(part: Report, by: str) -> list[float]:
        rows = [row for row in part["rows"] if place(row) == (work, dtype, by) and "of_fill" in row]
        return [max(rows, key=lambda row: row["elements"])["of_fill"]["p50"]] if rows else []

    return Aim(f"{dtype} {work}: of `fill_`", figure, ratios, work=work, dtype=dtype)


def small_calls(part: Report, by: str) -> list[float]:
    return [row["of_uniform"]["p50"] for row in part["rows"] if row["backend"] == by and "of_uniform" in row]


def list_times(part: Report, by: str) -> list[float]:
    return [row["times_peer"]["p50"] for row in part["lists"] if row["backend"] == by]


def list_launches(part: Report, by: str) -> list[float]:
    return [float(sum(row["launches"].values())) for row in part["lists"] if row["backend"] == by and row["launches"] is not None]


AIMS = (
    of_fill("uniform", "float32", 0.95),
    of_fill("truncated_normal", "float32", 0.95),
    of_fill("uniform", "bfloat16", 0.90),
    of_fill("truncated_normal", "bfloat16", 0.65),
    of_fill("uniform", "float16", 0.90),
    of_fill("truncated_normal", "float16", 0.65),
    Aim("1,024 elements: time over `nn.init.uniform_`'s", 1.5, small_calls, most=True),
    Aim("a model's tensors: times a loop of `nn.init.trunc_normal_`", 10.0, list_times),
    Aim("a model's tensors of one dtype: launches", 1.0, list_launches, most=True),
)


def aims(part: Report) -> str:
    """The worst that was measured beside each aim, and what the CUDA kernel's instructions alone allow."""
    backends = list(dict.fromkeys(row["backend"] for row in part["rows"]))
    lines = []
    for aim in AIMS:
        measured = [against(aim, aim.ratios(part, by)) for by in backends]
        limit = bound(aim, part)
        sign = "at most" if aim.most else "at least"
        lines.append([aim.what, f"{sign} {aim.figure:g}", *measured, "" if limit is None else f"{limit:.2f}"])
    return table(("what", "aim", *(BY[by] for by in backends), "bound by CUDA's instructions"), lines)


def against(aim: Aim, ratios: list[float]) -> str:
    if not ratios:
        return "not measured"
    worst = max(ratios) if aim.most else min(ratios)
    missed = worst > aim.figure if aim.most else worst < aim.figure
    return f"{significant(worst)}{': missed' * missed}"


def bound(aim: Aim, part: Report) -> float | None:
    """The part of `fill_`'s rate at which all schedulers issue the kernel's instructions in all cycles of the highest clock."""
    about = part["machine"]
    rows = [row for row in part["rows"] if (row["work"], row["dtype"]) == (aim.work, aim.dtype) and "fill_gb_per_s" in row]
    counts = json.loads(CODE.read_text())["rows"] if rows and about.get("megahertz") else []
    wanted = {
        "target": f"sm_{about.get('capability')}",
        "kernel": "fill_one",
        "dtype": aim.dtype,
        "law": LAWS.get(aim.work or ""),
    }
    counts = [row["an_element"] for row in counts if wanted.items() <= row.items()]
    if not counts:
        return None
    row = max(rows, key=lambda row: row["elements"])
    filled = row["elements"] / (row["seconds"]["p50"] * row["gb_per_s"]) * row["fill_gb_per_s"]  # elements a second of fill_
    issued = about["multiprocessors"] * LANES * float(about["megahertz"]) * 1e6 / counts[0]
    return min(1.0, issued / filled)


# --- counters -----------------------------------------------------------------------------------------------------------------


def counters(part: Report) -> str:
    """Nsight Compute's, a line for each fill."""
    lines = [
        counter_cells(what, by, metrics)
        for by, launches in part["launches"].items()
        if isinstance(launches, dict)
        for what, metrics in launches.items()
    ]
    rest = [f"{BY.get(by, by)}: {told.splitlines()[0]}." for by, told in part["launches"].items() if isinstance(told, str)]
    return "\n\n".join([*([table(COUNTERS, lines)] if lines else []), *rest])


def counter_cells(what: str, by: str, metrics: dict[str, str]) -> tuple[str, ...]:
    named = ("DRAM Throughput", "Issue Slots Busy", "Achieved Occupancy", "Registers Per Thread")
    cells = [metrics.get(name, "").removesuffix(" register/thread") for name in named]
    warps = metrics.get("Executed Instructions", "").split(" ")[0].replace(",", "")
    return (what, BY[by], *cells, f"{float(warps) * 32 / COUNTED:.1f}" if warps else "")


# --- tuning -------------------------------------------------------------------------------------------------------------------


def tuning(part: Report) -> str:
    """Other kernels beside those that are, whose own rows only say how they compare with `fill_`."""
    rows = sorted(part["rows"], key=lambda row: (row["backend"], row["what"]))
    lines = [
        (BY[row["backend"]], row["what"], row["variant"], spread(row["times"]), spread(row["of_fill"]), expected(row))
        for row in rows
    ]
    return table(TUNING, lines) if lines else ""


def expected(row: Report) -> str:
    return row["expected"] if row["same_bits"] or row["ablation"] else f"{row['expected']}; its bits differ".removeprefix("; ")


PARTS: dict[str, Callable[[Report], str]] = {
    "times": times,
    "counters": counters,
    "tuning": tuning,
    "bits": verdicts("Bits"),
    "tests": verdicts("Files of tests"),
    "sanitizer": verdicts("compute-sanitizer"),
}
