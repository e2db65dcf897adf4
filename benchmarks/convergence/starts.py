"""Where training starts from: functions that initialize a `Network` in place, which torch has initialized already."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch import nn

import fastinit
from benchmarks.convergence.network import Network

Start = Callable[[Network], object]

GAINS = {"1": 1.0, "√2": math.sqrt(2), "2": 2.0}
PAIRS = [(g1, g2) for g1 in GAINS for g2 in GAINS]
METHODS = ("fmod", "exact")
DENSE_STD = 0.05  # Keras's TruncatedNormal, which does not correct it for the cut

truncated_dense = fastinit.keras_like.override({nn.Linear: {"weight": partial(fastinit.truncated_normal_, std=DENSE_STD)}})


def pair(g1: str, g2: str, method: str) -> str:
    """The name of a start: "fmod √2 1"."""
    return f"{method} {g1} {g2}"


def set_by_pair(network: Network, g1: float, g2: float, method: str) -> None:
    """The port's remedy: Glorot uniform times g1 and no bias in the convolution, N(0, 1) folded or cut at g2 in the dense layer.

    The folded one is torch.fmod(torch.randn(size), g2). All else stays as torch initializes it.
    """
    fastinit.glorot_uniform_(network.conv.weight, gain=g1)
    fastinit.zeros_(network.conv.get_parameter("bias"))
    fastinit.truncated_normal_(network.dense.weight, std=1.0, a=-g2, b=g2, method=method)


def keras_in(*layers: str) -> Start:
    """Keras's weights in these layers alone."""

    def start(network: Network) -> None:
        for layer in layers:
            network.get_submodule(layer).apply(truncated_dense)  # type: ignore[arg-type]

    return start


MIXED = {  # Keras's weights but in one layer
    "torch's conv": keras_in("lstm", "dense"),
    "torch's lstm": keras_in("conv", "dense"),
    "torch's dense": keras_in("conv", "lstm"),
}
STARTS: dict[str, Start] = {
    "torch": lambda network: None,
    "keras_like": keras_in("conv", "norm", "lstm", "dense"),
    **{
        pair(g1, g2, method): partial(set_by_pair, g1=GAINS[g1], g2=GAINS[g2], method=method)
        for method in METHODS
        for g1, g2 in PAIRS
    },
    **MIXED,
}
COMPARED = ("torch", "keras_like", *(pair(g1, g2, method) for method in METHODS for g1, g2 in PAIRS))
