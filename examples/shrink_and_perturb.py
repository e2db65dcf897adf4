"""Shrink and perturb (Ash and Adams 2020): networks trained on half of the data go on with all of it, as they are or shrunk.

Ten networks, each with a split of its own, are trained at once, in stacks of weights; a part of the labels they learn from is
random. Arguments: that part, and the epochs on all of the data. Needs scikit-learn.
"""

import copy
import sys
from functools import partial

import torch
from digits import digits
from torch import nn
from torch.nn import functional as F

import fastinit

NETWORKS, COUNT, KEEP, ADD = 10, 1000, 0.4, 0.1
RANDOM, EPOCHS = (float(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (0.2, 20)
chance = torch.Generator().manual_seed(0)
images, labels = digits()
order = torch.stack([torch.randperm(len(labels), generator=chance) for _ in range(NETWORKS)])
images, labels = images.flatten(1)[order], labels[order]  # [network, image, ...]
told = torch.where(torch.rand(labels.shape, generator=chance) < RANDOM, torch.randint(10, labels.shape, generator=chance), labels)


class Networks(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.empty(NETWORKS, 64, 64))
        self.second = nn.Parameter(torch.empty(NETWORKS, 64, 64))
        self.third = nn.Parameter(torch.empty(NETWORKS, 10, 64))

    def forward(self, x):
        return (x.bmm(self.first.mT).relu().bmm(self.second.mT)).relu().bmm(self.third.mT)


scheme = fastinit.Scheme({"*": partial(fastinit.glorot_uniform_, batch_dims=1)})  # each network's own fans


def train(networks, count, epochs):
    optimizer, order = torch.optim.Adam(networks.parameters(), lr=3e-3), torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for batch in torch.randperm(count, generator=order).split(100):
            optimizer.zero_grad()
            F.cross_entropy(networks(images[:, batch]).flatten(0, 1), told[:, batch].flatten()).mul(NETWORKS).backward()
            optimizer.step()


warm, scratch = Networks(), Networks()
fastinit.initialize_(warm, scheme, seed=0)
fastinit.initialize_(scratch, scheme, seed=1)
train(warm, COUNT // 2, 80)
shrunk = copy.deepcopy(warm)
fastinit.perturb_(shrunk, scheme, seed=2, keep=KEEP, add=ADD)
held = {}
for name, networks in {"from scratch": scratch, "warm": warm, "shrunk": shrunk}.items():
    train(networks, COUNT, EPOCHS)
    with torch.no_grad():
        answers = networks(images).argmax(2)
    held[name] = 100 * (answers == labels)[:, COUNT:].double().mean(1)
    learned = 100 * (answers == told)[:, :COUNT].double().mean()
    print(f"{name:12}  {held[name].mean():.1f}% +- {held[name].std():.1f} of held-out digits, {learned:.1f}% of the labels told")
better = {name: (held[name] > held["warm"]).sum().item() for name in ("from scratch", "shrunk")}
print(f"better than warm, of {NETWORKS} networks: from scratch {better['from scratch']}, shrunk {better['shrunk']}")
