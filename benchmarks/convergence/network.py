"""The network that fastinit began with, ported from Keras, and what a port may set as torch does or as Keras does."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

WIDTH, FILTERS, UNITS = 3, 32, 32


class Constants(NamedTuple):
    """Everything but the initial weights that differs between the layers of torch, whose defaults these are, and Keras."""

    momentum: float = 0.1  # the weight of a new batch in the averages of batch normalization; Keras's momentum is 1 - this
    norm_eps: float = 1e-5
    unbiased: bool = True  # the running variance is that of a sample: n - 1
    two_biases: bool = True  # the LSTM adds two, and trains both
    dropout: float = 0.1  # the same in both, and here to be switched off


TORCH = Constants()
KERAS = Constants(momentum=0.01, norm_eps=1e-3, unbiased=False, two_biases=False)


class Network(nn.Module):
    """Convolution, batch norm, bidirectional LSTM, dense, dropout, softmax: [batch, channels, time] -> [batch, classes]."""

    def __init__(self, channels: int, classes: int, filters: int = FILTERS, units: int = UNITS) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, filters, WIDTH)  # "valid", as Keras's default padding
        self.norm = nn.BatchNorm1d(filters)
        self.lstm = nn.LSTM(filters, units, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * units, classes)
        self.dropout = nn.Dropout(TORCH.dropout)

    def forward(self, sequences: Tensor) -> Tensor:
        features = self.norm(torch.relu(self.conv(sequences)))
        _, (last, _) = self.lstm(features.transpose(1, 2))
        return self.dropout(self.dense(last.transpose(0, 1).flatten(1))).softmax(1)
