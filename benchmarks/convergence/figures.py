"""The figures: learning curves, heat maps over the gains, Keras beside the port, and the weights that training starts from."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

import fastinit
from benchmarks.convergence import data, optimizers, runs, starts, summary
from benchmarks.convergence.network import UNITS
from benchmarks.convergence.runs import AUTHORS, KERAS_ITSELF, MATCHED, TWINS
from benchmarks.convergence.summary import Results
from benchmarks.convergence.training import Curve
from fastinit._commands.plots import BLACK, BLUE, GREEN, VERMILION, canvas

SHOWN = {
    "torch": ("torch's defaults", BLUE, "--"),
    "keras_like": ("keras_like", VERMILION, "-"),
    starts.pair("√2", "√2", "fmod"): ("g1 = √2, g2 = √2", GREEN, "-."),
    starts.pair("2", "2", "fmod"): ("g1 = 2, g2 = 2", BLACK, ":"),
}
BAND = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)  # of the runs
DRAWS = 1 << 20


def draw_all(results: Results, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write every figure of the study as PNG; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {f"convergence-{task}.png": learning(results, task) for task in ("digits", "vowels")}
    drawn |= {"convergence-gains.png": heat_maps(results), "convergence-keras.png": twins(results)}
    drawn["dense-weights.png"] = weights()
    for name, figure in drawn.items():
        figure.savefig(folder / name)
    return [folder / name for name in drawn]


def learning(results: Results, task: str) -> Any:
    """Training MAE above held-out accuracy, a column an optimizer: medians of the seeds with the middle 80 % of them."""
    figure = canvas(11, 6.2)
    grid = figure.subplots(2, len(optimizers.COMPARED), sharex=True, sharey="row")
    for axes, optimizer in zip(grid.T, optimizers.COMPARED, strict=True):
        axes[0].set_title(optimizer, fontsize=13)
        for start, style in SHOWN.items():
            found = summary.chosen(results, data=task, loss="MAE", optimizer=optimizer, constants="torch", start=start)
            draw_curves(axes, list(found.values()), task, style)
    label(figure, grid, f"{task}: {bands(results)}; in a panel only the initial weights differ")
    return figure


def twins(results: Results) -> Any:
    """Keras itself, the port to the letter, the port of the weights alone, and torch's defaults."""
    constants, start = MATCHED
    columns = [(task, optimizer) for optimizer in TWINS for task in ("digits", "vowels")]
    figure = canvas(12, 6.2)
    grid = figure.subplots(2, len(columns), sharex="col", sharey="row")
    for axes, (task, optimizer) in zip(grid.T, columns, strict=True):
        torchs = {"rmsprop": optimizers.COMPARED[0], "adam": "Adam"}[optimizer]
        lines = {
            ("Keras itself", BLACK, "-"): ("twin", optimizer, KERAS_ITSELF, start),
            ("port, all aligned", VERMILION, "--"): ("twin", TWINS[optimizer], constants, start),
            ("port, weights aligned", GREEN, "-."): ("grid", torchs, "torch", start),
            ("torch's defaults", BLUE, ":"): ("grid", torchs, "torch", "torch"),
        }
        axes[0].set_title(f"{task}, {'RMSprop' if optimizer == 'rmsprop' else 'Adam'}", fontsize=13)
        for style, way in lines.items():
            named = dict(zip(("part", "optimizer", "constants", "start"), way, strict=True))
            draw_curves(axes, list(summary.chosen(results, data=task, loss="MAE", **named).values()), task, style)
    label(figure, grid, f"{bands(results)}; optimizers with the constants of their framework")
    return figure


def bands(results: Results) -> str:
    return f"median and middle 80 % of {len({run.seed for run in results})} seeds"


def draw_curves(axes: Sequence[Any], curves: Sequence[Curve], task: str, style: tuple[str, str, str]) -> None:
    """The losses into the first axes, the accuracies into the second."""
    name, color, line = style
    held_out = len(data.load(task).test[1])
    values = ([[math.nan if x is None else x for x in curve.loss] for curve in curves], [curve.correct for curve in curves])
    for axis, found, scale in zip(axes, values, (1, 100 / held_out), strict=True):
        low, middle, high = scale * torch.tensor(found, dtype=torch.float64).nanquantile(BAND, 0)
        numbers = range(1, len(middle) + 1)
        axis.fill_between(numbers, low, high, color=color, alpha=0.16, linewidth=0)
        axis.plot(numbers, middle, line, color=color, linewidth=2.2, label=name)


def label(figure: Any, grid: Any, title: str) -> None:
    figure.suptitle(title, fontsize=13)
    grid[0][0].set_ylabel("training MAE", fontsize=12)
    grid[1][0].set_ylabel("held-out accuracy (%)", fontsize=12)
    for axes in grid[1]:
        axes.set_xlabel("epoch", fontsize=12)
    for axes in grid.flat:
        axes.set_ylim(bottom=0)
        finish(axes)
    handles, names = grid[0][0].get_legend_handles_labels()
    shape = {"ncols": len(names), "handlelength": 2.6, "columnspacing": 1.4}
    figure.legend(handles, names, loc="outside lower center", fontsize=12, frameon=False, **shape)


def heat_maps(results: Results) -> Any:
    """Over (g1, g2), a column a task: the median of the epochs to the threshold, and how many runs reached it."""
    figure = canvas(11, 7.2)
    grid = figure.subplots(2, len(summary.AUTHORS_TASKS))
    for axes, task in zip(grid.T, summary.AUTHORS_TASKS, strict=True):
        cells = {pair: summary.authors(results, task, starts.pair(*pair, "fmod")) for pair in starts.PAIRS}
        medians = {pair: median(cell.epochs) for pair, cell in cells.items()}
        fractions = {pair: cell.converged / len(cell.epochs) for pair, cell in cells.items()}
        needed, budget = summary.THRESHOLD[task], runs.EPOCHS[task]
        heat(axes[0], medians, {pair: summary.epochs(number) for pair, number in medians.items()}, "cividis_r", (0, budget))
        heat(axes[1], fractions, {pair: cell.counts() for pair, cell in cells.items()}, "cividis", (0, 1))
        axes[0].set_title(f"{task}: epochs to {needed:.0%}", fontsize=13)
        axes[1].set_title(f"{task}: converged in {budget} epochs", fontsize=13)
    figure.suptitle(f"{', '.join(AUTHORS)}; framed: the author saw it converge", fontsize=13)
    return figure


def heat(axes: Any, values: Mapping[Any, float], texts: Mapping[Any, str], colors: str, limits: tuple[float, float]) -> None:
    """A square for each pair: g1 downwards, g2 to the right."""
    from matplotlib.patches import Rectangle

    names = list(starts.GAINS)
    rows = [[min(values[g1, g2], limits[1]) for g2 in names] for g1 in names]
    image = axes.imshow(rows, cmap=colors, vmin=limits[0], vmax=limits[1])
    for (g1, g2), text in texts.items():
        row, column = names.index(g1), names.index(g2)
        red, green, blue, _ = image.cmap(image.norm(rows[row][column]))
        bright = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
        axes.text(column, row, text, ha="center", va="center", fontsize=14, color="black" if bright else "white")
        if (g1, g2) in summary.AUTHOR_SAW:
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor=VERMILION, linewidth=3))
    axes.set_xticks(range(3), names, fontsize=12)
    axes.set_yticks(range(3), names, fontsize=12)
    axes.set_xlabel("g2, the dense layer's cut", fontsize=12)
    axes.set_ylabel("g1, the convolution's gain", fontsize=12)
    axes.spines[:].set_visible(False)


def weights() -> Any:
    """What the Linear starts from: the exact law and the folded one at the three cuts, then torch's and Keras's defaults."""
    figure = canvas(11, 3.4)
    axes = figure.subplots(1, 4)
    for axis, name in zip(axes, starts.GAINS, strict=False):
        cut_weights(axis, name)
    default_weights(axes[3])
    axes[0].set_ylabel("density", fontsize=12)
    figure.suptitle(f"Initial weights of the Linear, {2 * UNITS} inputs", fontsize=13)
    return figure


def cut_weights(axes: Any, name: str) -> None:
    """N(0, 1) folded by fmod and cut, at one value of g2."""
    cut = starts.GAINS[name]
    drawn = {}
    for style in (("fmod", VERMILION, "--"), ("exact", BLUE, "-")):
        method = style[0]
        drawn[style] = fastinit.truncated_normal_(
            torch.empty(DRAWS), std=1.0, a=-cut, b=cut, method=method, key=fastinit.key(0, method)
        )
    histogram(axes, f"N(0, 1), g2 = {name}", drawn, cut * 10 / 9)


def default_weights(axes: Any) -> None:
    """torch's own, and Keras's truncated normal."""
    bound, std = 1 / math.sqrt(2 * UNITS), starts.DENSE_STD
    uniform = fastinit.uniform_(torch.empty(DRAWS), -bound, bound, key=fastinit.key(0, "torch"))
    normal = fastinit.truncated_normal_(torch.empty(DRAWS), std=std, key=fastinit.key(0, "Keras"))
    drawn = {("torch's default", GREEN, "-."): uniform, (f"Keras's truncated\nnormal, {std:g}", BLACK, ":"): normal}
    histogram(axes, "defaults", drawn, bound * 6 / 5)


def histogram(axes: Any, title: str, weights: Mapping[tuple[str, str, str], Tensor], limit: float) -> None:
    """Densities over the same 60 bins."""
    for (name, color, line), weight in weights.items():
        density, edges = torch.histogram(weight, 60, range=(-limit, limit), density=True)
        axes.stairs(density, edges, fill=True, color=color, alpha=0.14)
        axes.stairs(density, edges, color=color, linestyle=line, linewidth=1.8, label=name)
    axes.set_title(title, fontsize=13)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.35)
    axes.legend(loc="upper center", fontsize=10, frameon=False)
    axes.locator_params(axis="x", nbins=5)
    finish(axes)


def finish(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=11)
