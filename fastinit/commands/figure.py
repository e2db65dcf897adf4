"""The demo's figure: held-out accuracy of two initialisations, and the weights they start from."""

from __future__ import annotations

from typing import Any

import torch

from fastinit.commands.origin import Network

# Okabe and Ito's blue and vermilion: told apart with any colour vision; and one line is dashed.
STYLES = {"torch defaults": ("#0072B2", "--"), "keras_like": ("#D55E00", "-")}
WEIGHTS = {
    "conv.weight": "Conv1d kernel",
    "lstm.weight_ih_l0": "LSTM input kernel",
    "lstm.weight_hh_l0": "LSTM recurrent kernel",
    "dense.weight": "Linear weight",
}


def draw(curves: dict[str, list[list[float]]], starts: dict[str, list[Network]], output: str) -> None:
    """Writes the PNG: curves on the left, four histograms of initial weights on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.15), wspace=0.03)
    left, right = halves
    draw_curves(left.subplots(), curves)
    right.suptitle("Weights at the start (density)", fontsize=13)
    for axes, (name, title) in zip(right.subplots(2, 2).flat, WEIGHTS.items(), strict=True):
        draw_histogram(axes, title, {scheme: pooled(models, name) for scheme, models in starts.items()})
    figure.savefig(output)


def pooled(models: list[Network], name: str) -> torch.Tensor:
    return torch.cat([model.get_parameter(name).detach().flatten() for model in models])


def draw_curves(axes: Any, curves: dict[str, list[list[float]]]) -> None:
    for name, runs in curves.items():
        colour, line = STYLES[name]
        accuracies = 100 * torch.tensor(runs)
        epochs = range(1, accuracies.shape[1] + 1)
        axes.fill_between(epochs, accuracies.amin(0), accuracies.amax(0), color=colour, alpha=0.18, linewidth=0)
        axes.plot(epochs, accuracies.mean(0), line, color=colour, linewidth=2.2, label=name)
    seeds = len(next(iter(curves.values())))
    axes.set_title(f"Digits: mean and range of {seeds} seeds", fontsize=13)
    axes.set_xlabel("epoch", fontsize=12)
    axes.set_ylabel("held-out accuracy (%)", fontsize=12)
    axes.legend(loc="lower right", fontsize=12, frameon=False)
    finish(axes)


def draw_histogram(axes: Any, title: str, weights: dict[str, torch.Tensor]) -> None:
    """Densities over the same bins."""
    limit = max(weight.abs().max().item() for weight in weights.values()) * 1.02
    for name, weight in weights.items():
        colour, line = STYLES[name]
        density, edges = torch.histogram(weight, 30, range=(-limit, limit), density=True)
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.18)
        axes.stairs(density, edges, color=colour, linestyle=line, linewidth=1.6)
    axes.set_title(title, fontsize=11)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=4)
    finish(axes)
    axes.spines["left"].set_visible(False)


def finish(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=11)
