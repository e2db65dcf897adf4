"""Real sequences to classify, each shipped inside a package: nothing is downloaded."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

HELD_OUT = 360  # of the 1,797 digits


class Sequences(NamedTuple):
    """Sequences [n, channels, time] and labels [n] in [0, classes), for training and held out."""

    classes: int
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@cache
def load(name: str) -> Sequences:
    return LOADERS[name]()


def digits() -> Sequences:
    """Handwritten digits of scikit-learn, each 8 rows after one another of 8 columns, values in [0, 1]; shuffled once, and split.

    Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", UCI; the 1,797 that scikit-learn ships.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).transpose(1, 2).contiguous() / 16
    labels = torch.tensor(found.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return Sequences(10, (images[:-HELD_OUT], labels[:-HELD_OUT]), (images[-HELD_OUT:], labels[-HELD_OUT:]))


def vowels() -> Sequences:
    """Utterances of /ae/ by nine men, to tell who speaks: 12 cepstral coefficients at 7 to 29 times, zeros before those shorter.

    Kudo, Toyama and Shimbo 1999, "Japanese vowels", UCI; 270 utterances for training and 370 held out, as sktime ships them.
    """
    from sktime.datasets import load_japanese_vowels

    def part(split: str) -> tuple[Tensor, Tensor]:
        frame, speakers = load_japanese_vowels(split=split, return_X_y=True, return_type="nested_univ")
        sequences = torch.zeros(len(frame), frame.shape[1], 29)
        for sequence, (_, row) in zip(sequences, frame.iterrows(), strict=True):
            values = torch.tensor([list(channel) for channel in row], dtype=torch.float32)
            sequence[:, -values.shape[1] :] = values
        return sequences, torch.tensor([int(speaker) - 1 for speaker in speakers])

    return Sequences(9, part("train"), part("test"))


def pixels() -> Sequences:
    """The digits as their 64 pixels after one another: the same task, and a hard one for so small an LSTM."""
    rows = load("digits")
    train, test = ((images.mT.reshape(len(images), 1, 64), labels) for images, labels in (rows.train, rows.test))
    return Sequences(rows.classes, train, test)


LOADERS = {"digits": digits, "vowels": vowels, "pixels": pixels}
