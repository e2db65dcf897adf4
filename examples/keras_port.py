"""A Keras network ported to torch, initialized as Keras would have done it, and trained for a few steps on handwritten digits."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

import fastinit


class Port(nn.Module):
    """Conv1D(32, 3, activation="relu"), BatchNormalization, Bidirectional(LSTM(32)), Dense(10, "softmax") of Keras."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 32, 3)
        self.norm = nn.BatchNorm1d(32, eps=1e-3, momentum=0.01)  # Keras's defaults: momentum 0.99 there is 0.01 here
        self.lstm = nn.LSTM(32, 32, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(64, 10)

    def forward(self, sequences):  # [batch, channels, time]; Keras has [batch, time, channels]
        features = self.norm(self.conv(sequences).relu())
        _, (last, _) = self.lstm(features.transpose(1, 2))
        return self.dense(last.transpose(0, 1).flatten(1))  # the loss takes logits


def digits():
    """Return scikit-learn's 1,797 images as sequences of 8 rows, and their labels; without it, made-up shapes."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        labels = torch.arange(1797) % 10
        return "made-up shapes", torch.rand(10, 8, 8)[labels] + 0.2 * torch.randn(1797, 8, 8), labels
    found = load_digits()
    return "handwritten digits", torch.tensor(found.images, dtype=torch.float32).mT / 16, torch.tensor(found.target)


torch.manual_seed(0)  # decides over the order of the batches; the seed of the weights is initialize_'s
# Keras's defaults for every layer, but for a dense layer with kernel_initializer=TruncatedNormal(stddev=0.05).
scheme = fastinit.keras_like.override({nn.Linear: {"weight": partial(fastinit.truncated_normal_, std=0.05)}})
model = Port()
print(fastinit.initialize_(model, scheme, seed=0))

forget = slice(32, 64)
bias = (model.lstm.bias_ih_l0 + model.lstm.bias_hh_l0)[forget]
print(f"forget bias of the LSTM: {bias.min():g} to {bias.max():g}, the sum of torch's two biases, as Keras's unit_forget_bias")

name, images, labels = digits()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)  # Keras's constants
losses = []
for _ in range(3):
    for chosen in torch.randperm(len(labels)).split(32):
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
with torch.no_grad():
    accuracy = (model.eval()(images).argmax(1) == labels).double().mean()
print(f"{name}, {len(losses)} steps: loss from {losses[0]:.2f} to {losses[-1]:.2f}, {accuracy:.0%} recognized")
