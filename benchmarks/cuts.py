"""Truncated normals at std 0.02 by torch's two kinds of bounds: ``python -m benchmarks.cuts --json FILE``.

The bounds are two sigmas, or torch's defaults, -2 and 2, which are absolute and cut nothing of so narrow a normal. fastinit,
torch's function, what it did before torch 2.12, and `Tensor.fill_` take turns on one tensor whose memory was touched before, by
all threads and by one: torch draws by one anyway. FASTINIT_CPU_ISA chooses the instruction set.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import fastinit
from fastinit._commands import console, files
from fastinit._commands.measure import Contender, described, machine, paired, percentiles, torch_threads
from fastinit._commands.peers import DTYPES, STD, matrix

CASES = {"two sigmas": (-2 * STD, 2 * STD), "torch's defaults": (-2.0, 2.0)}
SHOWN_DTYPES = ("float32", "bfloat16")
OURS, FILL = "fastinit", "fill_"


class Pace(NamedTuple):
    """How much is measured."""

    elements: int
    rounds: int


FULL, QUICK = Pace(1 << 26, 11), Pace(1 << 16, 3)


def inverse_error_function_(tensor: Tensor, mean: float, std: float, a: float, b: float) -> Tensor:
    """`nn.init.trunc_normal_` of torch 2.11 and before: `_no_grad_trunc_normal_` of torch/nn/init.py, in the tensor's own dtype.

    torch 2.12 draws instead until all values lie inside (pytorch/pytorch#174997), for erfinv's errors near -1 and 1.
    """
    low, high = (math.erf((bound - mean) / std / math.sqrt(2.0)) for bound in (a, b))
    tensor.uniform_(low, high)
    tensor.erfinv_()
    tensor.mul_(std * math.sqrt(2.0))
    tensor.add_(mean)
    return tensor.clamp_(min=a, max=b)


def _filled(tensor: Tensor, mean: float, std: float, a: float, b: float) -> Tensor:
    return tensor.fill_(1.0)


CONTENDERS: dict[str, Callable[[Tensor, float, float, float, float], Tensor]] = {
    OURS: fastinit.trunc_normal_,
    "nn.init": nn.init.trunc_normal_,
    "erfinv": inverse_error_function_,
    FILL: _filled,
}


def measured(case: str, dtype: str, threads: int, pace: Pace) -> dict[str, Any]:
    """A row: of each contender the seconds, how many times fastinit's they are, and its speed relative to fill_'s."""
    a, b = CASES[case]
    tensor = matrix(pace.elements, DTYPES[dtype])
    calls = {name: Contender(partial(call, mean=0.0, std=STD, a=a, b=b), tensor) for name, call in CONTENDERS.items()}
    with torch_threads(threads):
        seconds = paired(calls, pace.rounds)
    row: dict[str, Any] = {"case": case, "dtype": dtype, "threads": threads, "elements": pace.elements, "rounds": pace.rounds}
    row |= {"std": STD, "a": a, "b": b, "contenders": {}}
    for name, taken in seconds.items():
        row["contenders"][name] = {
            "seconds": percentiles(taken),
            "times": percentiles([each / ours for each, ours in zip(taken, seconds[OURS], strict=True)]),
            "of_fill": percentiles([fill / each for each, fill in zip(taken, seconds[FILL], strict=True)]),
        }
    return row


_COLUMNS = ("bounds", "dtype", "threads", "by", "ms", "x fastinit", "p20 to p80", "of fill")


def _cells(row: dict[str, Any]) -> list[list[str]]:
    """A line for each contender."""
    place = [row["case"], row["dtype"], f"{row['threads']}"]
    return [[*place, name, *_contender_cells(entry)] for name, entry in row["contenders"].items()]


def _contender_cells(entry: dict[str, Any]) -> list[str]:
    times = entry["times"]
    spread = f"{times['p20']:.3g} to {times['p80']:.3g}"
    return [f"{entry['seconds']['p50'] * 1e3:.3g}", f"{times['p50']:.3g}", spread, f"{entry['of_fill']['p50']:.2g}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few elements and rounds: a trial of the program")
    parser.add_argument("--json", type=pathlib.Path, help="a results file: benchmarks/results/cuts-NAME.json")
    arguments = parser.parse_args()
    files.check_writable(arguments.json)
    pace = QUICK if arguments.quick else FULL
    counts = sorted({1, torch.get_num_threads()}, reverse=True)
    plan = [(case, dtype, threads) for case in CASES for dtype in SHOWN_DTYPES for threads in counts]
    report = {"machine": machine(), "rows": [measured(*place, pace) for place in console.progress(plan, "measuring")]}
    console.table(described(report["machine"]), _COLUMNS, [cells for row in report["rows"] for cells in _cells(row)])
    print("Medians of paired rounds. x fastinit: this one's time / fastinit's. erfinv: what torch before 2.12 did.")
    if arguments.json:
        files.write(arguments.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(files.status_of("python -m benchmarks.cuts", main))
