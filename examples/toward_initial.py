"""Regularization toward the initial weights (Kumar et al. 2023), which are made again from their seed: no copy is kept.

A network learns random labels of 200 digits, task after task. With Adam alone it loses the ability to; with the pull it does
not. Needs scikit-learn.
"""

import torch
from digits import digits
from torch import nn
from torch.nn import functional as F

import fastinit

SEED, PULL, TASKS, EPOCHS, COUNT = 0, 3e-3, 10, 20, 200
images = digits()[0][:COUNT].flatten(1)


def made():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    fastinit.initialize_(model, fastinit.keras_like, seed=SEED)
    return model


def pull(model):
    fastinit.perturb_(model, fastinit.keras_like, seed=SEED, keep=1 - PULL, add=PULL)


def learned(pulled):
    """The network after all tasks, and the part of the labels that it knew at the end of each."""
    model, chance, known = made(), torch.Generator().manual_seed(1), []
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(TASKS):
        labels = torch.randint(10, (COUNT,), generator=chance)
        for _ in range(EPOCHS):
            for batch in torch.randperm(COUNT, generator=chance).split(50):
                optimizer.zero_grad()
                F.cross_entropy(model(images[batch]), labels[batch]).backward()
                optimizer.step()
                if pulled:
                    pull(model)
        known.append((model(images).argmax(1) == labels).double().mean())
    return model, torch.stack(known)


for name in ("Adam alone", "pulled"):
    model, known = learned(name == "pulled")
    print(
        f"{name}: {known[:3].mean():.1%} of the labels known after each of the first tasks, {known[-3:].mean():.1%} of the last"
    )

initial = list(made().parameters())  # one more pull, with copies
with torch.no_grad():
    expected = [w * (1 - PULL) + begun * PULL for w, begun in zip(model.parameters(), initial, strict=True)]
pull(model)
apart = max((a - b).abs().max().item() / b.abs().max().item() for a, b in zip(model.parameters(), expected, strict=True))
size = 4 * sum(weight.numel() for weight in initial)
print(f"one more pull by both: at most {apart:.0e} of the largest weight apart; {size:,} bytes not kept")
