"""`fastinit demo`: GPT-2 small initialised twice, with times and statistics; then a small network trained from several starts."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import fastinit
from fastinit._commands import console, gpt2
from fastinit._commands.measure import torch_threads

if TYPE_CHECKING:
    from benchmarks.convergence.summary import Results

SEEDS, EPOCHS = (0, 1, 2), 10


def run(args: argparse.Namespace) -> int:
    console.require("rich", "matplotlib", "sklearn")
    folder = os.path.dirname(os.path.abspath(args.output))
    if not os.path.isdir(folder):
        print(f"fastinit demo: --output needs a folder that exists. Received: {args.output!r}.", file=sys.stderr)
        return 2
    transformer(args.quick)
    digits(args.quick, args.output)
    return 0


def transformer(quick: bool) -> None:
    """Part one: GPT-2's weights by nn.init's truncated normal and by fastinit's."""
    model = gpt2.allocated(layers=2, width=64, vocabulary=5000) if quick else gpt2.allocated()
    count = sum(parameter.numel() for parameter in model.parameters())
    threads = torch.get_num_threads()
    print(f"1. A transformer of {count / 1e6:.0f}M parameters, weights truncated normal at two sigmas, {threads} threads")
    theirs, their_seconds = initialised(model, by_torch)
    ours, our_seconds = initialised(model, by_fastinit)
    columns = ("initialised by", "seconds", "M parameters/s")
    times = {"torch.nn.init.trunc_normal_": their_seconds, "fastinit.truncated_normal_": our_seconds}
    console.table("Time", columns, [(name, f"{s:.3f}", f"{count / s / 1e6:.0f}") for name, s in times.items()])
    print(f"fastinit: {their_seconds / our_seconds:.0f} times as fast\n")
    title = (
        "Achieved against expected. *: all layers together; mean/SE: the mean in units of its standard error, within +-3 by\n"
        "chance; least and greatest are fastinit's"
    )
    console.table(title, LAYER_COLUMNS, [layer_row(kind, theirs[kind], ours[kind]) for kind in ours])


def initialised(model: gpt2.GPT2, fill: Callable[[str, Tensor, float], object]) -> tuple[dict[str, gpt2.Statistics], float]:
    """The statistics of the weights, and the seconds it took to initialise them."""
    torch.manual_seed(0)
    began = time.perf_counter()
    gpt2.initialise(model, fill)
    seconds = time.perf_counter() - began
    return gpt2.statistics(model), seconds


def by_torch(name: str, weight: Tensor, std: float) -> Tensor:
    return nn.init.trunc_normal_(weight, std=std, a=-gpt2.SIGMAS * std, b=gpt2.SIGMAS * std)


def by_fastinit(name: str, weight: Tensor, std: float) -> Tensor:
    return fastinit.truncated_normal_(weight, std=std, key=fastinit.key(0, name))


LAYER_COLUMNS = (
    *("weight", "elements", "std: expected", "nn.init", "fastinit"),
    *("mean/SE: nn.init", "fastinit", "bounds +-", "least", "greatest"),
)


def layer_row(kind: str, theirs: gpt2.Statistics, ours: gpt2.Statistics) -> list[str]:
    return [
        kind,
        f"{ours.elements / 1e6:.2f}M",
        f"{ours.expected_std:.5f}",
        f"{theirs.std:.5f}",
        f"{ours.std:.5f}",
        f"{theirs.mean_error:+.1f}",
        f"{ours.mean_error:+.1f}",
        f"{ours.bound:.5f}",
        f"{ours.least:.5f}",
        f"{ours.greatest:.5f}",
    ]


def digits(quick: bool, output: str) -> None:
    """Part two: the study of `fastinit study` in short. One thread: its tensors are too small for two to help."""
    from benchmarks.convergence import figures, optimizers, runs

    seeds, epochs = (SEEDS[:1], 1) if quick else (SEEDS, EPOCHS)
    wanted = [
        runs.Run("grid", "digits", "MAE", optimizer, "torch", start, seed)
        for optimizer in optimizers.COMPARED[:2]
        for start in figures.SHOWN
        for seed in seeds
    ]
    print(f"2. Conv1d, BatchNorm1d, bidirectional LSTM, Linear on handwritten digits: {epochs} epochs, seeds {seeds}, MAE")
    results: Results = {}
    with torch_threads(1):
        for batch in console.progress(runs.batches(wanted), "training"):
            results = {**results, **dict(zip(batch, runs.trained(batch, epochs), strict=True))}
    columns = ("optimizer", "initial weights", "after epoch 1", f"after epoch {epochs}")
    console.table("Held-out accuracy, median (least to greatest) of the seeds", columns, accuracy_rows(results))
    print(verdict(results))
    figures.short(results).savefig(output)
    print(f"figure: {output}")


def accuracy_rows(results: Results) -> list[list[str]]:
    from benchmarks.convergence import figures

    rows = []
    for (optimizer, start), found in by_kind(results).items():
        rows.append([optimizer, figures.SHOWN[start][0], *(spread([curve[epoch] for curve in found]) for epoch in (0, -1))])
    return rows


def by_kind(results: Results) -> dict[tuple[str, str], list[list[float]]]:
    """Optimizer and start -> the held-out accuracies of every seed."""
    from benchmarks.convergence import data

    found: dict[tuple[str, str], list[list[float]]] = {}
    for run, curve in results.items():
        accuracies = [right / len(data.load(run.data).test[1]) for right in curve.correct]
        found.setdefault((run.optimizer, run.start), []).append(accuracies)
    return found


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.1%} ({min(values):.1%} to {max(values):.1%})"


def verdict(results: Results) -> str:
    """What came out, in a sentence; no more than so few seeds can carry."""
    last: dict[str, list[float]] = {}
    for (optimizer, _), found in by_kind(results).items():
        last.setdefault(optimizer, []).append(median(curve[-1] for curve in found))
    ranges = [f"{min(medians):.1%} to {max(medians):.1%} by {optimizer}" for optimizer, medians in last.items()]
    return f"From worst to best start: {', '.join(ranges)}. `fastinit study` asks with ten seeds, two losses and Keras itself."
