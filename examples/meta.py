"""From meta straight onto the device: no copy on the CPU, no memory written twice."""

from functools import partial

import torch
from torch import nn

import fastinit


class Model(nn.Module):
    def __init__(self, width=256, layers=4, vocabulary=1000, length=128):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        block = partial(nn.TransformerEncoderLayer, width, 4, 4 * width, batch_first=True)
        self.layers = nn.ModuleList(block() for _ in range(layers))
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight  # tied, and still tied afterwards
        self.register_buffer("mask", self.causal(length), persistent=False)

    def causal(self, length):
        return torch.triu(torch.full((length, length), float("-inf")), diagonal=1)


device = "cuda" if torch.cuda.is_available() else "cpu"
with torch.device("meta"):
    model = Model()
report = fastinit.initialize_(
    model,
    fastinit.gpt2_like(n_layer=4),
    seed=0,
    device=device,
    # what no initializer knows
    reset_buffers=lambda module, name: module.causal(128) if name == "mask" else None,
)
assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
print(f"on {device}: {len(report.filled)} filled, {len(report.tied)} tied")
