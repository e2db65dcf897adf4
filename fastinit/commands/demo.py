"""`fastinit demo`: GPT-2 small initialised twice, with times and statistics; then a small network trained from two starts."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import fastinit
from fastinit.commands import console, gpt2
from fastinit.commands.measure import torch_threads

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
    """Part two: the network of `origin` on handwritten digits. One thread: its tensors are too small for two to help."""
    from fastinit.commands import figure, origin

    seeds, epochs = (SEEDS[:1], 1) if quick else (SEEDS, EPOCHS)
    schemes = {"torch defaults": None, "keras_like": origin.story}
    print(f"2. Conv1d, BatchNorm1d, bidirectional LSTM, Linear on handwritten digits: {epochs} epochs, seeds {seeds}")
    curves: dict[str, list[list[float]]] = {name: [] for name in schemes}
    data = origin.digits()
    with torch_threads(1):
        for seed, name in console.progress([(seed, name) for seed in seeds for name in schemes], "training"):
            curves[name].append(origin.train(origin.network(seed, schemes[name]), data, epochs, seed))
    starts = {name: [origin.network(seed, scheme) for seed in seeds] for name, scheme in schemes.items()}
    console.table("Held-out accuracy, mean (least to greatest) of the seeds", ("after epoch", *curves), accuracy_rows(curves))
    print(verdict(curves))
    figure.draw(curves, starts, output)
    print(f"figure: {output}")


def accuracy_rows(curves: dict[str, list[list[float]]]) -> list[list[str]]:
    epochs = range(len(next(iter(curves.values()))[0]))
    return [[str(e + 1), *(spread([run[e] for run in runs]) for runs in curves.values())] for e in epochs]


def spread(values: list[float]) -> str:
    return f"{mean(values):.1%} ({min(values):.1%} to {max(values):.1%})"


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def verdict(curves: dict[str, list[list[float]]]) -> str:
    """What came out, in a sentence, in whoever's favour; no more than so few seeds can carry."""
    first, last = ({name: mean([run[epoch] for run in runs]) for name, runs in curves.items()} for epoch in (0, -1))
    parts = [f"{name} {first[name]:.1%} after the first epoch and {last[name]:.1%} at the end" for name in curves]
    return f"Only the initial weights differ: {'; '.join(parts)}."
