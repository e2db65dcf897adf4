"""The network fastinit began with, trained on scikit-learn's handwritten digits from two initialisations.

A Keras model ported to torch: convolution, batch normalization, bidirectional LSTM, dense, dropout, softmax; mean absolute
error on one-hot targets; RMSprop. The two runs differ in the initial weights alone: both have Keras's constants in batch
normalization and RMSprop (though torch adds epsilon outside the root).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

import fastinit

CLASSES, CONV_GAIN, DENSE_STD, DENSE_CUT = 10, 1.0, 0.05, 2.0
BATCH, HELD_OUT = 32, 360

# The story's scheme: Keras's defaults, a gain on the convolution, and a folded normal in the dense layer.
story = fastinit.keras_like.override(
    {
        nn.Conv1d: {"weight": partial(fastinit.glorot_uniform_, gain=CONV_GAIN)},
        nn.Linear: {
            "weight": partial(
                fastinit.truncated_normal_, std=DENSE_STD, a=-DENSE_CUT * DENSE_STD, b=DENSE_CUT * DENSE_STD, method="fmod"
            )
        },
    }
)


class Network(nn.Module):
    """[batch, channels, time] -> class probabilities [batch, 10]."""

    def __init__(self, channels: int = 8, filters: int = 32, units: int = 32) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, filters, 3)  # "valid", as Keras's default padding
        self.norm = nn.BatchNorm1d(filters, eps=1e-3, momentum=0.01)
        self.lstm = nn.LSTM(filters, units, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * units, CLASSES)
        self.dropout = nn.Dropout(0.1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(torch.relu(self.conv(images)))
        _, (last, _) = self.lstm(features.transpose(1, 2))
        return self.dropout(self.dense(last.transpose(0, 1).flatten(1))).softmax(1)


class Digits(NamedTuple):
    """Images [n, 8 columns, 8 rows]: a sequence of rows, with values in [0, 1]; labels [n]."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def digits() -> Digits:
    """The 1,797 real digits of scikit-learn, shuffled once and split."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).transpose(1, 2).contiguous() / 16
    labels = torch.tensor(found.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return Digits((images[:-HELD_OUT], labels[:-HELD_OUT]), (images[-HELD_OUT:], labels[-HELD_OUT:]))


def network(seed: int, scheme: Callable[[nn.Module], nn.Module] | None) -> Network:
    """The network as torch initialises it, or as the scheme does."""
    torch.manual_seed(seed)
    built = Network()
    return built.apply(scheme) if scheme else built  # type: ignore[arg-type]


def train(model: Network, data: Digits, epochs: int, seed: int) -> list[float]:
    """Trains in place; the held-out accuracy after every epoch. Seeds the order of batches and the dropout alone."""
    torch.manual_seed(seed)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    images, labels = data.train
    targets = nn.functional.one_hot(labels, CLASSES).float()
    accuracies = []
    for _ in range(epochs):
        model.train()
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.l1_loss(model(images[batch]), targets[batch]).backward()
            optimizer.step()
        accuracies.append(accuracy(model, data.test))
    return accuracies


@torch.no_grad()
def accuracy(model: Network, test: tuple[Tensor, Tensor]) -> float:
    model.eval()
    images, labels = test
    return (model(images).argmax(1) == labels).float().mean().item()
