"""An evolution strategy: a small CNN learns handwritten digits without a gradient. Its noise is made again from seeds.

Each step tries 16 seeds, with their noise added and taken away (Salimans et al. 2017), and moves by the sum of all noise,
weighted by the ranks of its losses: one call, one pass over the weights. The steps are an argument. Needs scikit-learn.
"""

import sys

import torch
from digits import accuracy, digits
from torch import nn
from torch.nn import functional as F

import fastinit

PAIRS, SIGMA, RATE = 16, 0.05, 0.2
STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 150
images, labels = digits()
train, held_out = slice(0, 1437), slice(1437, None)
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10))
fastinit.initialize_(model, seed=0)
chance = torch.Generator().manual_seed(1)

for step in range(STEPS):
    batch = torch.randint(len(images[train]), (256,), generator=chance)
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    seeds, losses = range(step * PAIRS, (step + 1) * PAIRS), []
    for seed in seeds:
        for add in (SIGMA, -SIGMA):  # from the snapshot: nothing drifts
            fastinit.perturb_(model, fastinit.normal_, seed=seed, add=add, source=weights)
            with torch.no_grad():
                losses.append(F.cross_entropy(model(images[batch]), labels[batch]).item())
    ranks = torch.tensor(losses).argsort().argsort().float().view(PAIRS, 2)  # no outlier rules
    gains = ranks[:, 1] - ranks[:, 0]
    rate = RATE * (1 - step / STEPS) / (PAIRS * gains.std())
    fastinit.perturb_(model, fastinit.normal_, seed=seeds, add=rate * gains, source=weights)

print(f"{STEPS} steps of {2 * PAIRS} trials: {accuracy(model, images[held_out], labels[held_out]):.1%} of held-out digits")
