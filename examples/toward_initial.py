"""Regularization toward the initial weights (Kumar et al. 2023), which are made again from their seed: no copy is kept.

A network learns five tasks, one after the other: digits whose pixels are shuffled anew for each. Its weights are pulled toward
where they began, once with copies of the initial weights, once by `perturb_`. Needs scikit-learn.
"""

import torch
from digits import accuracy, digits
from torch import nn
from torch.nn import functional as F

import fastinit

SEED, PULL, TASKS, STEPS = 0, 1e-3, 5, 100
images, labels = digits()


def learned(pull):
    """The network after all tasks, its initial weights, and its accuracy at the end of each task."""
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    fastinit.initialize_(model, fastinit.torch_like, seed=SEED)
    initial = [weight.detach().clone() for weight in model.parameters()]
    optimizer, chance, found = torch.optim.SGD(model.parameters(), lr=0.2), torch.Generator().manual_seed(1), []
    for _ in range(TASKS):
        shuffled = images.flatten(1)[:, torch.randperm(64, generator=chance)]
        for _ in range(STEPS):
            batch = torch.randint(1437, (64,), generator=chance)
            optimizer.zero_grad()
            F.cross_entropy(model(shuffled[batch]), labels[batch]).backward()
            optimizer.step()
            if pull == "copies":
                with torch.no_grad():
                    for weight, begun in zip(model.parameters(), initial, strict=True):
                        weight.lerp_(begun, PULL)
            elif pull == "made again":
                fastinit.perturb_(model, fastinit.torch_like, seed=SEED, keep=1 - PULL, add=PULL)
        found.append(accuracy(model, shuffled[1437:], labels[1437:]))
    return model, initial, found


for pull in ("none", "copies", "made again"):
    model, initial, found = learned(pull)
    pairs = list(zip(model.parameters(), initial, strict=True))
    distance = sum((weight - begun).pow(2).sum().item() for weight, begun in pairs) ** 0.5
    print(f"{pull:10}  {distance:5.2f} from the initial weights; held-out digits: {', '.join(f'{each:.1%}' for each in found)}")

expected = [weight.detach().lerp(begun, PULL) for weight, begun in pairs]
fastinit.perturb_(model, fastinit.torch_like, seed=SEED, keep=1 - PULL, add=PULL)
apart = max((a - b).abs().max().item() / b.abs().max().item() for a, b in zip(model.parameters(), expected, strict=True))
size = 4 * sum(weight.numel() for weight in initial)
print(f"one more pull by both: at most {apart:.0e} of the largest weight apart; {size:,} bytes not kept")
