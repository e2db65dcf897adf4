"""The figures: errors along the range, and what libraries make of the ends of a law in bfloat16."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from fastinit._commands.plots import BLACK, BLUE, VERMILION, canvas

ALONG = (
    "uniform on +-1",
    "uniform from 0 to 1",
    "truncated normal at 1 sigma",
    "truncated normal at 2 sigmas",
    "normal",
    "truncated normal above 0",
    "truncated normal below 1 sigma",
    "truncated normal from 8 to 9 sigmas",
)
ENDS = ("uniform on +-1", "truncated normal at 2 sigmas")
Results = dict[str, Any]


def draw_all(results: Results, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write every figure as PNG; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"accuracy-ulps.png": ulps(results), "accuracy-bfloat16.png": ends(results)}
    for name, figure in drawn.items():
        figure.savefig(folder / name)
    return [folder / name for name in drawn]


def ulps(results: Results) -> Any:
    """The worst and the mean error of all words whose values lie in the same 128th of the range."""
    figure = canvas(13, 5.6)
    for axes, name in zip(figure.subplots(2, len(ALONG) // 2, sharey=True).flat, ALONG, strict=True):
        found = results["laws"][name]["errors"]
        along = np.array([[np.nan if x is None else x for x in pair] for pair in found["along"]])
        middles = found["low"] + (np.arange(len(along)) + 0.5) * (found["high"] - found["low"]) / len(along)
        axes.fill_between(middles, along[:, 0], step="mid", color=BLUE, alpha=0.25, label="worst")
        axes.step(middles, along[:, 1], where="mid", color=VERMILION, label="mean")
        axes.set(title=name, xlim=(found["low"], found["high"]), ylim=(0, 3))
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.supxlabel("value")
    figure.supylabel("error in ulps of float32")
    return figure


def ends(results: Results) -> Any:
    """The 64 greatest bfloat16 values inside the bounds: how probable each is, by library, and by the law."""
    libraries = {"fastinit": results["laws"], **{name: peer["laws"] for name, peer in results["peers"].items()}}
    figure = canvas(13, 5.6)
    grid = figure.subplots(len(ENDS), len(libraries), sharey="row", sharex="row", squeeze=False)
    for row, name in zip(grid, ENDS, strict=True):
        for axes, (library, laws) in zip(row, libraries.items(), strict=True):
            value, share, law = np.array(laws[name]["narrow"]["bfloat16"]["end"]).T
            axes.plot(value, law, color=BLACK, linewidth=1, label="the law")
            axes.plot(value[share > 0], share[share > 0], ".", color=VERMILION, markersize=5, label="values that occur")
            axes.set(yscale="log", title=library)
            axes.grid(alpha=0.3)
        row[0].set_ylabel(f"{name}\nprobability")
    grid[0][0].legend()
    figure.supxlabel("bfloat16 value")
    return figure
