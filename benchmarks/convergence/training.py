"""Train an ensemble, each of its networks by a seed of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.convergence.data import Sequences
from benchmarks.convergence.ensemble import Ensemble

BATCH = 32  # as Keras's model.fit
APART = 1 << 20  # between the seeds of batches and those of torch's initial weights, lest both be the same random numbers


class Curve(NamedTuple):
    """Of one network: after every epoch the mean loss of its batches, with dropout, and how many held-out sequences it has right;
    at the end, how many classes it gives to no held-out sequence."""

    loss: list[float]
    correct: list[int]
    given_up: int


def train(
    networks: Ensemble,
    seeds: Sequence[int],
    data: Sequences,
    error: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    epochs: int,
) -> list[Curve]:
    """Train in place. A seed decides over the order of a network's batches and over its dropout; the initial weights are given.

    Args:
        error: of the differences to one-hot targets, element by element: their mean is the loss.
    """
    generators = [torch.Generator().manual_seed(APART + seed) for seed in seeds]
    sequences, labels = data.train
    targets = nn.functional.one_hot(labels, data.classes).float()
    losses, correct = [], []
    for _ in range(epochs):
        order = torch.stack([torch.randperm(len(labels), generator=generator) for generator in generators])
        chances = torch.stack([torch.rand(len(labels), data.classes, generator=generator) for generator in generators])
        keep = (chances >= networks.constants.dropout).float()
        total = torch.zeros(networks.count, dtype=torch.float64)
        for chosen, kept in zip(order.split(BATCH, 1), keep.split(BATCH, 1), strict=True):
            optimizer.zero_grad()
            each = error(networks(sequences[chosen], kept) - targets[chosen]).mean((1, 2))
            each.sum().backward()
            optimizer.step()
            total += each.detach() * chosen.shape[1]
        losses.append(total / len(labels))
        given = classified(networks, data.test[0])
        correct.append((given == data.test[1]).sum(1))
    by_network = zip(torch.stack(losses, 1).tolist(), torch.stack(correct, 1).tolist(), given, strict=True)
    return [Curve(loss, right, data.classes - len(answers.unique())) for loss, right, answers in by_network]


@torch.no_grad()
def classified(networks: Ensemble, sequences: Tensor) -> Tensor:
    """The class that each network gives to each sequence, [networks, n]."""
    return networks(sequences.expand(networks.count, *sequences.shape)).argmax(-1)
