"""Two ways to initialize a model, compared parameter by parameter over several seeds: constants exactly, what is drawn by KS."""

import math
import re
from collections.abc import Callable

import torch
from torch import nn

CHANCE = 1e-6  # that any parameter of one comparison is refused although the laws are equal


def pooled(make: Callable[[int], nn.Module], seeds: range, pool: bool) -> dict[str, torch.Tensor]:
    """The values of every parameter by name, over the seeds; with `pool` those of all layers together."""
    found: dict[str, list[torch.Tensor]] = {}
    for seed in seeds:
        for name, parameter in make(seed).named_parameters():
            kind = re.sub(r"\b\d+\b", "*", name) if pool else name
            found.setdefault(kind, []).append(parameter.detach().flatten())
    return {name: torch.cat(parts) for name, parts in found.items()}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of Kolmogorov and Smirnov: the largest difference of the distribution functions, at the places where the first steps."""
    below = torch.searchsorted(b.sort().values, a.sort().values, right=True) / len(b)
    return float((below - torch.arange(1, len(a) + 1) / len(a)).abs().max())


def is_constant(values: torch.Tensor) -> bool:
    return bool(values.min() == values.max())


def differences(theirs: dict[str, torch.Tensor], mine: dict[str, torch.Tensor]) -> list[str]:
    """What differs, in words. The limits follow from the numbers of values, by Bonferroni over the parameters."""
    assert theirs.keys() == mine.keys()
    found, chance = [], CHANCE / len(theirs)
    for name, a in theirs.items():
        b = mine[name]
        if is_constant(a) or is_constant(b):
            if not (is_constant(a) and is_constant(b) and a[0] == b[0]):
                found.append(f"{name}: {a[:3].tolist()} and {b[:3].tolist()}")
            continue
        zeros = [int((each == 0).sum()) for each in (a, b)]  # rows of padding
        limit = math.sqrt(math.log(2 / chance) / 2 * (1 / len(a) + 1 / len(b)))
        spread = 6 * math.sqrt((1 / len(a) + 1 / len(b)) / 2)  # sigmas of the ratio of two stds, of normals; of cut ones less
        ratio = abs(math.log(a.std() / b.std()))
        if (got := distance(a, b)) > limit or ratio > spread or zeros[0] != zeros[1]:
            found.append(f"{name}: distance {got:.4f} above {limit:.4f}, std {a.std():.5f} and {b.std():.5f}, zeros {zeros}")
    return found
