"""Scikit-learn's 1,797 handwritten digits, for the scripts beside this one."""

import torch
from sklearn.datasets import load_digits


def digits():
    """Images [1797, 1, 8, 8] in [0, 1], and their labels, in an order that is random and always the same."""
    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(bunch.images / 16, dtype=torch.float32)[order, None], torch.tensor(bunch.target)[order]


def accuracy(model, images, labels):
    """The part of the images that a model is right about."""
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()
