"""The network that fastinit began with, trained on scikit-learn's handwritten digits from four kinds of initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastinit

_HELD_OUT, _BATCH = 360, 32
_KERAS = fastinit.keras_like.override({nn.Linear: {"weight": partial(fastinit.truncated_normal_, std=0.05)}})


class _Network(nn.Module):
    """Convolution, batch normalization, bidirectional LSTM, dense layer: [batch, 8, 8] -> probabilities [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 32, 3)
        self.norm = nn.BatchNorm1d(32)
        self.lstm = nn.LSTM(32, 32, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(self.conv(images).relu())
        _, (last, _) = self.lstm(features.transpose(1, 2))
        scores: Tensor = self.dense(last.transpose(0, 1).flatten(1))
        return scores.softmax(1)


def _by_gain(network: _Network, gain: float) -> None:
    """Fill as the first port did: Glorot's uniform times the gain in the convolution, N(0, 1) folded at it in the dense layer."""
    fastinit.glorot_uniform_(network.conv.weight, gain=gain)
    fastinit.zeros_(network.conv.get_parameter("bias"))
    fastinit.truncated_normal_(network.dense.weight, std=1.0, a=-gain, b=gain, method="fmod")


STARTS: dict[str, Callable[[_Network], object]] = {
    "torch's defaults": lambda network: None,
    "keras_like": lambda network: network.apply(_KERAS),
    "gains of √2": partial(_by_gain, gain=math.sqrt(2)),
    "gains of 2": partial(_by_gain, gain=2.0),
}


class Course(NamedTuple):
    """One training: the dense layer's initial weights, then each epoch's mean loss and held-out accuracy."""

    weights: Tensor
    losses: list[float]
    accuracies: list[float]


def train(images: Tensor, labels: Tensor, start: str, seed: int, epochs: int) -> Course:
    """Train by Keras's RMSprop on the mean absolute error; the last images are held out. The seed decides everything."""
    torch.manual_seed(seed)
    network = _Network()
    STARTS[start](network)
    course = Course(network.dense.weight.detach().clone(), [], [])
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)  # Keras's constants
    for _ in range(epochs):
        losses = []
        for chosen in torch.randperm(len(labels) - _HELD_OUT).split(_BATCH):
            loss = F.l1_loss(network.train()(images[chosen]), F.one_hot(labels[chosen], 10).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            right = network.eval()(images[-_HELD_OUT:]).argmax(1) == labels[-_HELD_OUT:]
        course.losses.append(sum(losses) / len(losses))
        course.accuracies.append(right.double().mean().item())
    return course
