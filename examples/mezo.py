"""MeZO (Malladi et al. 2023): a CNN that has seen 50 digits is tuned to 1,437 by forward passes alone.

A step takes two losses, with the noise of one seed added and taken away, and goes along that noise, in two passes over the
weights. It keeps no gradient, no state of an optimizer and no noise. The steps are an argument. Needs scikit-learn.
"""

import sys

import torch
from digits import accuracy, digits
from torch import nn
from torch.nn import functional as F

import fastinit

EPSILON, RATE = 1e-3, 0.02
STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
images, labels = digits()
few, train, held_out = slice(0, 50), slice(0, 1437), slice(1437, None)
model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10))
fastinit.initialize_(model, seed=0)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(100):
    optimizer.zero_grad()
    F.cross_entropy(model(images[few]), labels[few]).backward()
    optimizer.step()
before = accuracy(model, images[held_out], labels[held_out])

chance, back = torch.Generator().manual_seed(1), 0.0
for step in range(STEPS):
    batch, losses = torch.randint(len(images[train]), (256,), generator=chance), []
    # The noise of the last step taken back, that step, and the noise of this one: one pass over the weights.
    for seeds, add in (([step - 1, step], [back, EPSILON]), ([step], [-2 * EPSILON])):
        fastinit.perturb_(model, fastinit.normal_, seed=seeds, add=add)
        with torch.no_grad():
            losses.append(F.cross_entropy(model(images[batch]), labels[batch]).item())
    slope = (losses[0] - losses[1]) / (2 * EPSILON)
    back = EPSILON - RATE * (1 - step / STEPS) * slope
fastinit.perturb_(model, fastinit.normal_, seed=STEPS - 1, add=back)

after = accuracy(model, images[held_out], labels[held_out])
print(f"{STEPS} steps of 2 forward passes: {before:.1%} of held-out digits, then {after:.1%}")
