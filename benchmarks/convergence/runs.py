"""What is run: every run of the study by name, and one batch of runs trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, product
from typing import NamedTuple

import torch

from benchmarks.convergence import data, keras_twin, optimizers, starts
from benchmarks.convergence.ensemble import Ensemble
from benchmarks.convergence.network import KERAS, TORCH, Network
from benchmarks.convergence.training import Curve, train

SEEDS = 10
TOGETHER = 20  # networks in an ensemble: more are no faster each
EPOCHS = {"digits": 30, "vowels": 40, "pixels": 30}
LOSSES = {"MAE": torch.abs, "MSE": torch.square}

# What of the layers but their initial weights is as in torch, as in Keras, or as in Keras but for one thing.
CONSTANTS = {
    "torch": TORCH,
    "Keras": KERAS,
    "Keras, momentum of torch": KERAS._replace(momentum=TORCH.momentum),
    "Keras, norm_eps of torch": KERAS._replace(norm_eps=TORCH.norm_eps),
    "Keras, unbiased variance": KERAS._replace(unbiased=TORCH.unbiased),
    "Keras, two biases": KERAS._replace(two_biases=TORCH.two_biases),
    "Keras, no dropout": KERAS._replace(dropout=0.0),
}


class Run(NamedTuple):
    """One network trained from one seed: what names a line of the results."""

    part: str
    data: str
    loss: str
    optimizer: str
    constants: str  # a key of CONSTANTS, or KERAS_ITSELF
    start: str
    seed: int


KERAS_ITSELF = "in Keras"
MATCHED = ("Keras", "keras_like")  # constants and start of a port to the letter
AUTHORS = ("MAE", "RMSprop, torch's constants")
TWINS = {"rmsprop": "Keras's RMSprop", "adam": "Keras's Adam"}  # Keras's names -> the port's
TWIN_TASKS = [*product(("digits",), LOSSES, TWINS), *product(("vowels",), ("MAE",), TWINS)]


def study() -> list[Run]:
    """Every run. Those of one ensemble stand together; the long ones first, so that no core waits at the end."""
    return [Run(*run, seed) for run in conditions() for seed in range(SEEDS)]


def conditions() -> Iterator[tuple[str, str, str, str, str, str]]:
    for name, loss, optimizer in reversed(TWIN_TASKS):
        yield "twin", name, loss, optimizer, KERAS_ITSELF, "keras_like"
    loss, optimizer = AUTHORS
    for start in ("torch", "keras_like", *(starts.pair(*pair, "fmod") for pair in starts.PAIRS), *starts.MIXED):
        yield "hard", "pixels", loss, optimizer, "torch", start
    for start in ("torch", "keras_like", starts.pair("1", "1", "fmod"), starts.pair("√2", "√2", "fmod")):
        yield "hard", "pixels", loss, "Adam", "torch", start
    for name, loss, optimizer in TWIN_TASKS:
        yield "twin", name, loss, TWINS[optimizer], *MATCHED
    for name, (optimizer, constants, start) in product(("digits", "vowels"), switched()):
        yield "switch", name, "MAE", optimizer, constants, start
    for name, loss, optimizer, start in product(("digits", "vowels"), LOSSES, optimizers.COMPARED, starts.COMPARED):
        yield "grid", name, loss, optimizer, "torch", start


def switched() -> Iterator[tuple[str, str, str]]:
    """From the port to the letter, which the part "twin" has, one difference at a time back to what torch does."""
    optimizer, (constants, start) = TWINS["rmsprop"], MATCHED
    for other in optimizers.COMPARED[:2]:
        yield other, constants, start
    for other in CONSTANTS:
        if other != constants:
            yield optimizer, other, start
    for other in ("torch", *starts.MIXED):
        yield optimizer, constants, other


def slice_of(wanted: Iterable[Run]) -> list[Run]:
    """A few runs of less than half a minute, for a check that the numbers can be had again."""
    few = ("torch", "keras_like", starts.pair("√2", "√2", "fmod"))
    authors = [run for run in wanted if (run.loss, run.optimizer) == AUTHORS and run.data == "digits" and run.seed == 0]
    return [run for run in authors if run.part == "grid" and run.start in few]


def batches(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that train side by side: the same network, data, loss and optimizer. Keras trains one at a time."""
    found = []
    for (*_, constants), alike in groupby(runs, key=lambda run: run[:5]):
        group, size = list(alike), 1 if constants == KERAS_ITSELF else TOGETHER
        found += [group[first : first + size] for first in range(0, len(group), size)]
    return found


def trained(batch: Sequence[Run], epochs: int | None = None) -> list[Curve]:
    """The curves of one of `batches`. epochs: None, as many as the study has."""
    first = batch[0]
    sequences, length = data.load(first.data), epochs or EPOCHS[first.data]
    if first.constants == KERAS_ITSELF:
        return [keras_twin.train(run.seed, sequences, run.loss, run.optimizer, length) for run in batch]
    ensemble = Ensemble([network(run.seed, run.start, sequences) for run in batch], CONSTANTS[first.constants])
    optimizer = optimizers.OPTIMIZERS[first.optimizer](p for p in ensemble.parameters() if p.requires_grad)
    return train(ensemble, [run.seed for run in batch], sequences, LOSSES[first.loss], optimizer, length)


def network(seed: int, start: str, sequences: data.Sequences) -> Network:
    """A network as torch initializes it from the seed, and then as the start does."""
    torch.manual_seed(seed)
    made = Network(sequences.train[0].shape[1], sequences.classes)
    starts.STARTS[start](made)
    return made
