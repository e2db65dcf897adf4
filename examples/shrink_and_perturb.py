"""Shrink and perturb (Ash and Adams 2020): a network trained on half of the data goes on with all of it, as it is or shrunk.

From scratch, warm-started, and warm-started with 0.4 of its weights plus 0.5 of new initial ones, ten seeds each; the number of
seeds is an argument. Needs scikit-learn.
"""

import sys

import torch
from digits import accuracy, digits
from torch import nn
from torch.nn import functional as F

import fastinit

KEEP, ADD, PART = 0.4, 0.5, 800
images, labels = digits()


def train(model, count, chance):
    """Until 99 % of the first images are learned; returns the epochs that it took."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, 301):
        right = 0
        for batch in torch.randperm(count, generator=chance).split(32):
            scores = model(images[batch])
            right += (scores.argmax(1) == labels[batch]).sum().item()
            optimizer.zero_grad()
            F.cross_entropy(scores, labels[batch]).backward()
            optimizer.step()
        if right >= 0.99 * count:
            return epoch
    return 300


def trained(how, seed):
    """Accuracy on the images after the first 800, and epochs."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    fastinit.initialize_(model, fastinit.torch_like, seed=seed)
    chance = torch.Generator().manual_seed(seed)
    if how != "from scratch":
        train(model, PART // 2, chance)
    if how == "shrunk":
        fastinit.perturb_(model, fastinit.torch_like, seed=1000 + seed, keep=KEEP, add=ADD)
    epochs = train(model, PART, chance)
    return accuracy(model, images[PART:], labels[PART:]), epochs


seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
for how in ("from scratch", "warm", "shrunk"):
    found = torch.tensor([trained(how, seed) for seed in seeds])
    mean, error = found.mean(0), found.std(0) / len(seeds) ** 0.5
    print(f"{how:12}  {mean[0]:.2%} +- {error[0]:.2%} of held-out digits after {mean[1]:.1f} +- {error[1]:.1f} epochs")
