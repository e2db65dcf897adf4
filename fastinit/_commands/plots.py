"""What figures have in common: colors, and a canvas that needs no screen."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's colors, told apart with any color vision; lines differ in their dashes as well.
BLUE, VERMILION, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"


def canvas(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
