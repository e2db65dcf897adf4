"""`fastinit demo`: GPT-2 small initialized twice, with times and statistics; then a small network trained from four starts."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import fastinit
from fastinit._commands import console, files, gpt2
from fastinit._commands.digits import STARTS, Course, train
from fastinit._commands.measure import torch_threads
from fastinit._commands.plots import BLACK, BLUE, GREEN, VERMILION, canvas

_SEEDS, _EPOCHS = (0, 1, 2), 10
_STYLES = dict(zip(STARTS, ((BLUE, "--"), (VERMILION, "-"), (GREEN, "-."), (BLACK, ":")), strict=True))
_Courses = dict[str, list[Course]]  # start -> one for each seed


def run(args: argparse.Namespace) -> int:
    console.require("rich", "matplotlib", "sklearn")
    files.check_writable(args.output)
    formats, ending = canvas(1, 1).canvas.get_supported_filetypes(), _ending(args.output)
    if ending not in formats:
        raise files.Refused(f"{args.output} cannot be written: figures end in one of {', '.join(formats)}.")
    _transformer(args.quick)
    _digits(args.quick, args.output)
    return 0


def _ending(path: str) -> str:
    """The format of a figure: PNG where its name does not say."""
    return os.path.splitext(path)[1].removeprefix(".").lower() or "png"


def _transformer(quick: bool) -> None:
    """Part one: GPT-2's weights by nn.init's truncated normal and by fastinit's."""
    model = gpt2.allocated(layers=2, width=64, vocabulary=5000) if quick else gpt2.allocated()
    count = sum(parameter.numel() for parameter in model.parameters())
    threads = console.counted(torch.get_num_threads(), "thread")
    console.say(f"1. A transformer of {count:,} parameters, weights truncated normal at two sigmas, {threads}")
    theirs, their_seconds = _initialized(model, _by_torch)
    ours, our_seconds = _initialized(model, _by_fastinit)
    columns = ("initialized by", "seconds", "M parameters/s")
    times = {"torch.nn.init.trunc_normal_": their_seconds, "fastinit.truncated_normal_": our_seconds}
    console.table("Time", columns, [(name, f"{s:.3g}", f"{count / s / 1e6:.3g}") for name, s in times.items()])
    console.say(f"fastinit: {their_seconds / our_seconds:.3g} times as fast")
    print()
    title = (
        "Achieved against expected. *: all layers together; mean/SE: the mean in units of its standard error, within +-3 by\n"
        "chance; least and greatest are fastinit's"
    )
    console.table(title, _LAYER_COLUMNS, [_layer_row(kind, theirs[kind], ours[kind]) for kind in ours])


def _initialized(model: gpt2.GPT2, fill: Callable[[str, Tensor, float], object]) -> tuple[dict[str, gpt2.Statistics], float]:
    """The statistics of the weights, and the seconds it took to initialize them."""
    torch.manual_seed(0)
    began = time.perf_counter()
    gpt2.initialize(model, fill)
    seconds = time.perf_counter() - began
    return gpt2.statistics(model), seconds


def _by_torch(name: str, weight: Tensor, std: float) -> Tensor:
    return nn.init.trunc_normal_(weight, std=std, a=-gpt2.SIGMAS * std, b=gpt2.SIGMAS * std)


def _by_fastinit(name: str, weight: Tensor, std: float) -> Tensor:
    return fastinit.truncated_normal_(weight, std=std, key=fastinit.key(0, name))


_LAYER_COLUMNS = (
    *("weight", "elements", "std expected", "by nn.init", "by fastinit"),
    *("mean/SE: nn.init", "mean/SE: fastinit", "bounds +-", "least", "greatest"),
)


def _layer_row(kind: str, theirs: gpt2.Statistics, ours: gpt2.Statistics) -> list[str]:
    return [
        kind,
        f"{ours.elements:,}",
        f"{ours.expected_std:.5f}",
        f"{theirs.std:.5f}",
        f"{ours.std:.5f}",
        f"{theirs.mean_error:+.1f}",
        f"{ours.mean_error:+.1f}",
        f"{ours.bound:.5f}",
        f"{ours.least:.5f}",
        f"{ours.greatest:.5f}",
    ]


def _digits(quick: bool, output: str) -> None:
    """Part two: the training. On one thread: the tensors are too small for two to help."""
    seeds, epochs = (_SEEDS[:1], 2) if quick else (_SEEDS, _EPOCHS)
    counted = f"{console.counted(epochs, 'epoch')}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    console.say(f"2. Conv1d, BatchNorm1d, bidirectional LSTM, Linear on handwritten digits: {counted}, MAE, RMSprop")
    wanted = [(start, seed) for start in STARTS for seed in seeds]
    courses: _Courses = {start: [] for start in STARTS}
    images, labels = _data()
    with torch_threads(1):
        for start, seed in console.progress(wanted, "training"):
            courses[start].append(train(images, labels, start, seed, epochs))
    columns = ("initial weights", "after epoch 1", f"after epoch {epochs}")
    told = ", median (least to greatest) of the seeds" if len(seeds) > 1 else ""
    console.table(f"Held-out accuracy{told}", columns, _accuracy_rows(courses))
    console.say("So few seeds are a hint. benchmarks/convergence of the source asks with ten, two losses and Keras itself.")
    with files.writing(output):
        _figure(courses).savefig(output, format=_ending(output))
    console.say(f"figure: {output}")


def _data() -> tuple[Tensor, Tensor]:
    """Return the images [1797, columns, rows], values in [0, 1], and their labels, in an order that is shuffled once."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(found.images / 16, dtype=torch.float32).mT
    return images[order].contiguous(), torch.tensor(found.target)[order]


def _accuracy_rows(courses: _Courses) -> Iterator[list[str]]:
    for start, found in courses.items():
        yield [start, *(_spread([course.accuracies[epoch] for course in found]) for epoch in (0, -1))]


def _spread(values: Sequence[float]) -> str:
    """Of several seeds; of one its value."""
    return f"{median(values):.1%}" + f" ({min(values):.1%} to {max(values):.1%})" * (len(values) > 1)


def _figure(courses: _Courses) -> Any:
    """Return the figure: training loss, held-out accuracy, and what the dense layer started from."""
    drawn = canvas(13, 4.6)
    losses, accuracies, weights = drawn.subplots(1, 3)
    for start, found in courses.items():
        _draw(losses, start, [course.losses for course in found])
        _draw(accuracies, start, [[100 * share for share in course.accuracies] for course in found])
        _draw_weights(weights, start, torch.cat([course.weights.flatten() for course in found]))
    losses.set(title="Training loss", xlabel="epoch", ylabel="mean absolute error", yscale="log")
    accuracies.set(title="Held-out accuracy", xlabel="epoch", ylabel="digits recognized (%)")
    weights.set(title="Initial weights of the dense layer", xlabel="weight", ylabel="density", yscale="log")
    for axes in (losses, accuracies, weights):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    seeds = len(next(iter(courses.values())))
    told = f"median and range of {seeds} seeds" if seeds > 1 else "one seed"
    drawn.suptitle(f"A small network on handwritten digits: {told}; only the initial weights differ")
    drawn.legend(
        *losses.get_legend_handles_labels(), loc="outside lower center", ncols=len(STARTS), frameon=False, handlelength=3
    )
    return drawn


def _draw(axes: Any, start: str, curves: Sequence[Sequence[float]]) -> None:
    """Draw the median of the seeds as a line, with their range behind it."""
    color, line = _STYLES[start]
    epochs, by_epoch = range(1, len(curves[0]) + 1), list(zip(*curves, strict=True))
    axes.fill_between(epochs, list(map(min, by_epoch)), list(map(max, by_epoch)), color=color, alpha=0.15, linewidth=0)
    axes.plot(epochs, list(map(median, by_epoch)), line, color=color, linewidth=2.2, label=start, marker=".")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _draw_weights(axes: Any, start: str, weights: Tensor) -> None:
    color, line = _STYLES[start]
    density, edges = torch.histogram(weights, 42, range=(-2.1, 2.1), density=True)
    axes.stairs(density, edges, color=color, linestyle=line, linewidth=1.8)
