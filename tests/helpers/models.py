"""Models that tests initialise, and how they look at them."""

import torch
from torch import nn


class Network(nn.Module):
    """Convolution, batch norm, LSTM, tied embedding and head, attention: everything that keras_like has a rule for."""

    def __init__(self, width=12):
        super().__init__()
        self.convolution = nn.Conv1d(4, width, 3)
        self.norm = nn.BatchNorm1d(width)
        self.lstm = nn.LSTM(width, width)
        self.embedding = nn.Embedding(30, width, padding_idx=2)
        self.attention = nn.MultiheadAttention(width, 2)
        self.head = nn.Linear(width, 30, bias=False)
        self.head.weight = self.embedding.weight


def poisoned(model):
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.fill_(7)
    return model


def bits(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def on_meta(make):
    with torch.device("meta"):
        return make()
