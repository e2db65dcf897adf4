"""Fills of 2^6 to 2^28 float32 elements, by one thread and by all: ``python -m benchmarks.sweep --output FILE --figure FILE``.

fastinit, `Tensor.fill_` and torch.nn.init's function of the same law take turns on one tensor whose memory was touched before.
`trunc_normal_` is timed on 2^24 elements at most, where a call takes a second. FASTINIT_CPU_ISA chooses the instruction set.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import sys
import time
from typing import Any

import torch

from fastinit._commands import files
from fastinit._commands.measure import SETTLE, Contender, machine, percentiles, repeats, timed, torch_threads
from fastinit._commands.peers import WORKS, matrix
from fastinit._commands.plots import BLACK, BLUE, GREEN, VERMILION, canvas

LAWS = {"uniform": "uniform", "normal": "normal", "truncated_normal": "truncated normal at 2 sigmas"}
LARGEST_PEER = {"truncated_normal": 1 << 24}
ROUNDS, PEER_ROUNDS, LONG = 11, 3, 1 << 22  # of a long call the peer takes part in fewer rounds
MOST_GROWTH = 2.2  # of the time, where the elements double


def swept(exponents: range, threads: list[int], rounds: int) -> list[dict[str, Any]]:
    """A row for each law, number of threads and size."""
    return [measured(law, count, 1 << e, rounds) for law in LAWS for count in threads for e in exponents]


def measured(law: str, threads: int, elements: int, rounds: int) -> dict[str, Any]:
    work, tensor = WORKS[law], matrix(elements, torch.float32)
    contenders = {"ours": Contender(work.ours, tensor), "fill": Contender(lambda t: t.fill_(1.0), tensor)}
    if elements <= LARGEST_PEER.get(law, elements):
        contenders["peer"] = Contender(work.peer, tensor, PEER_ROUNDS if elements >= LONG else None)
    with torch_threads(threads):
        seconds = in_turns(contenders, rounds)
    row = {"law": law, "threads": threads, "elements": elements, "rounds": rounds}
    row |= {name: percentiles(taken) for name, taken in seconds.items()}
    row["of_fill"] = percentiles([f / o for f, o in zip(seconds["fill"], seconds["ours"], strict=True)])
    if "peer" in seconds:
        row["times_peer"] = percentiles([p / o for p, o in zip(seconds["peer"], seconds["ours"], strict=False)])
        row["peer_name"] = work.peer_name
    return row


def in_turns(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """As measure.paired, with a pause before repeated calls too: these may use two threads, and torch's workers spin."""
    calls = {name: repeats(contender) for name, contender in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, (call, tensor, last) in contenders.items():
            if last is None or number < last:
                time.sleep(SETTLE)
                seconds[name].append(timed(call, tensor, calls[name]))
    return seconds


def curve(rows: list[dict[str, Any]], law: str, threads: int, name: str = "ours") -> dict[int, float]:
    """Elements -> seconds (p50) of a contender."""
    return {row["elements"]: row[name]["p50"] for row in rows if (row["law"], row["threads"]) == (law, threads) and name in row}


def steps_back(rows: list[dict[str, Any]]) -> list[tuple[str, int, int, float]]:
    """Law, threads, elements and growth, wherever the time grows by more than it may from half as many elements."""
    found = []
    for law, threads in dict.fromkeys((row["law"], row["threads"]) for row in rows):
        seconds = curve(rows, law, threads)
        grown = [(n, seconds[n] / seconds[n // 2]) for n in seconds if n // 2 in seconds]
        found += [(law, threads, n, growth) for n, growth in grown if growth > MOST_GROWTH]
    return found


def drawn(report: dict[str, Any]) -> Any:
    """Rates by size, an axis for each law."""
    rows, most = report["rows"], max(row["threads"] for row in report["rows"])
    lines = {
        f"fill_, {threads_text(most)}": ("fill", most, BLACK, ":"),
        f"fastinit, {threads_text(most)}": ("ours", most, BLUE, "-"),
        "fastinit, one thread": ("ours", 1, GREEN, "--"),
        "nn.init": ("peer", 1, VERMILION, "-."),
    }
    figure = canvas(13, 4.8)
    for axes, (law, title) in zip(figure.subplots(1, len(LAWS), sharey=True), LAWS.items(), strict=True):
        for label, (name, threads, color, style) in lines.items():
            seconds = curve(rows, law, threads, name)
            rates = [n / s / 1e9 for n, s in seconds.items()]
            axes.plot(list(seconds), rates, style, color=color, linewidth=2, label=label)
        axes.set(title=title, yscale="log", xlabel="float32 elements")
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(lines))
    figure.supylabel("G elements/s")
    about = report["machine"]
    by = (about["isa"] or about["backend"]).upper()
    figure.suptitle(f"{about['cpu']}, {about['cores']} cores, {by}, torch {about['torch']}")
    return figure


def threads_text(count: int) -> str:
    return {1: "one thread", 2: "two threads"}.get(count, f"{count} threads")


def save(report: dict[str, Any], path: pathlib.Path) -> None:
    """Write the figure, by its name's ending, as SVG without a date and with the same ids each time."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "sweep", "font.size": 11}):
        drawn(report).savefig(path, **({"metadata": {"Date": None}} if path.suffix == ".svg" else {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="first", type=int, default=6, help="the exponent of the smallest size")
    parser.add_argument("--to", dest="last", type=int, default=28, help="the exponent of the largest")
    parser.add_argument("--output", type=pathlib.Path, help="a results file: benchmarks/results/sweep-NAME.json")
    parser.add_argument("--figure", type=pathlib.Path, help="a figure: docs/figures/sweep-NAME.svg")
    parser.add_argument("--draw", type=pathlib.Path, help="a results file to draw; nothing is measured")
    arguments = parser.parse_args()
    for path in (arguments.output, arguments.figure):
        files.check_writable(path)
    if arguments.draw:
        report = files.read_json(arguments.draw)
    else:
        threads = sorted({1, torch.get_num_threads()})
        report = {"machine": machine(), "rows": swept(range(arguments.first, arguments.last + 1), threads, ROUNDS)}
    with files.reading(arguments.draw) if arguments.draw else contextlib.nullcontext():
        for law, count, elements, growth in steps_back(report["rows"]):
            print(f"{law}, {threads_text(count)}: {elements:,} elements take {growth:.2f} times as long as half of them")
        if arguments.figure:
            save(report, arguments.figure)
    if arguments.output:
        files.write(arguments.output, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(files.status_of("python -m benchmarks.sweep", main))
