"""A tally's figures beside its law's, as plain numbers: what is printed, kept in results and drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from fastinit._core.recipes import Recipe
from proof.accuracy.laws import Array, ExactLaw
from proof.accuracy.tally import EDGE_BITS, NARROW, SLOTS, Tally

INFINITY = 0x7F800000 >> EDGE_BITS  # the slot where finite values end
END = 64  # of a dtype's values, the greatest: kept for the picture
LIKELY = 2.0**-20  # of values less probable than this the ratio to the law's probability says little


def figures(tally: Tally, mirrored: bool) -> dict[str, Any]:
    """Everything that was counted. mirrored: the tally has the upper half alone of a law that is symmetric."""
    least = -tally.greatest if mirrored else tally.least
    distance, at = largest_distance(tally, mirrored)
    return {
        "words": tally.words * (1 + mirrored),
        "moments": moments(tally.powers, tally.words, tally.mean, mirrored),
        "law": law_moments(tally.law),
        "distance": distance,
        "distance_at": at,
        "distinct": distinct(tally, mirrored),
        "least": least,
        "greatest": tally.greatest,
        "narrow": {
            str(dtype).removeprefix("torch."): narrow(tally, dtype, mirrored) for dtype in NARROW if tally.codes[dtype].any()
        },
    }


def errors(tally: Tally, mirrored: bool) -> dict[str, Any]:
    """In ulps of float32: the worst, the mean, and both along the range (null where no value lies)."""
    worst, total, count = (tally.bins[name].numpy() for name in ("worst", "sum", "count"))
    if mirrored:
        worst, total, count = np.maximum(worst, worst[::-1]), total + total[::-1], count + count[::-1]
    along = [
        [round(float(w), 3), round(float(s / n), 3)] if n else [None, None] for w, s, n in zip(worst, total, count, strict=True)
    ]
    return {
        "worst": tally.worst,
        "mean": tally.errors / tally.words,
        "low": tally.low,
        "high": tally.high,
        "along": along,
    }


def moments(powers: Array, words: int, centre: float, mirrored: bool) -> dict[str, float]:
    """Of the sums of (value - centre)^1 to ^4. A mirrored law is symmetric about 0, to the bit."""
    first, second, third, fourth = (powers / words).tolist()
    if mirrored:
        first = third = 0.0
    variance = second - first**2
    skewness = (third - 3 * first * second + 2 * first**3) / variance**1.5
    kurtosis = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / variance**2 - 3
    named = {"mean": centre + first, "variance": variance, "skewness": skewness, "kurtosis": kurtosis}
    return {name: float(value) for name, value in named.items()}


def law_moments(law: ExactLaw) -> dict[str, float]:
    x, w = law.nodes()
    mean = 0.0 if law.symmetric else float(w @ x)
    return moments(np.array([w @ (x - mean) ** k for k in range(1, 5)]), 1, mean, law.symmetric)


def distinct(tally: Tally, mirrored: bool) -> int:
    """Both zeros count as one value."""
    sides = []
    for sign in range(2):
        slots = tally.slots.view(2, SLOTS // 2)[sign].nonzero()
        if len(slots):
            first, last = (int(slots[i]) + sign * SLOTS // 2 for i in (0, -1))
            sides.append(int(np.count_nonzero(tally.seen.numpy()[first << EDGE_BITS : last + 1 << EDGE_BITS])))
    zeros = int(tally.seen[0]) + int(tally.seen[1 << 31])
    return sum(sides) * (1 + mirrored) - (zeros * (1 + mirrored) - 1 if zeros else 0)


def largest_distance(tally: Tally, mirrored: bool) -> tuple[float, float]:
    """Between the share of values below x and the law's, at the floats of 12 leading mantissa bits; and that x."""
    positive, negative = (half.numpy() for half in tally.slots.view(2, SLOTS // 2))
    edges = (np.arange(INFINITY, dtype=np.int32) << EDGE_BITS).view(np.float32).astype(np.float64)
    upper = np.flatnonzero(edges <= tally.greatest)
    if mirrored:
        share = 0.5 + (np.cumsum(positive) - positive)[upper] / (2 * tally.words)
        x = edges[upper]
    else:
        under = np.cumsum(negative[::-1])[::-1]  # of the values in a slot and in those further below
        lower = np.flatnonzero((edges > 0) & (edges <= -min(tally.least, 0.0)))
        x = np.concatenate([-edges[lower], edges[upper]])
        share = np.concatenate([under[lower], under[0] + (np.cumsum(positive) - positive)[upper]]) / tally.words
    gaps = np.abs(share - tally.law.below(x))
    return float(gaps.max()), float(x[gaps.argmax()])


def narrow(tally: Tally, dtype: torch.dtype, mirrored: bool) -> dict[str, Any]:
    """Exact probabilities of a dtype's values beside the law's: of every value, and what is worst of them."""
    values, words = tallied(tally, dtype, mirrored)
    found, wanted = words / words.sum(), masses(tally.law, values)
    gaps, likely = np.abs(found - wanted), wanted >= LIKELY
    return {
        "values": int((words > 0).sum()),
        "representable": len(values),
        "worst_difference": float(gaps.max()),
        "variation": float(gaps.sum() / 2),
        "worst_ratio": float(np.abs(found[likely] / wanted[likely] - 1).max()),
        "least": float(values[words > 0][0]),
        "greatest": float(values[words > 0][-1]),
        "mean": float(found @ values),
        "end": [[float(x) for x in row] for row in zip(values[-END:], found[-END:], wanted[-END:], strict=True)],
    }


def tallied(tally: Tally, dtype: torch.dtype, mirrored: bool) -> tuple[Array, Array]:
    """The dtype's values inside the bounds, ascending, both zeros as one; and how many words give each."""
    counts, size = tally.codes[dtype].numpy(), 8 * dtype.itemsize
    values = decoded(np.arange(1 << size), dtype)
    if mirrored:
        counts = counts + np.roll(counts, 1 << size - 1)  # the sign is the top bit
    constants: Recipe = tally.recipes[dtype]
    inside = np.isfinite(values) & (values >= constants.low) & (values <= constants.high) | (counts > 0)
    distinct, place = np.unique(values[inside], return_inverse=True)
    return distinct, np.bincount(place, weights=counts[inside], minlength=len(distinct))


def decoded(codes: Array, dtype: torch.dtype) -> Array:
    integer = torch.int8 if dtype.itemsize == 1 else torch.int16
    return torch.from_numpy(codes.astype(np.int16 if dtype.itemsize == 2 else np.int8)).view(integer).view(dtype).double().numpy()


def masses(law: ExactLaw, values: Array) -> Array:
    """The law's probability of each value: between the middles to its neighbours, the outermost two taking all beyond."""
    middles = (values[1:] + values[:-1]) / 2
    below = np.concatenate([[0.0], law.below(middles), [1.0]])
    above = np.concatenate([[1.0], law.above(middles), [0.0]])
    return np.where(below[:-1] < 0.5, np.diff(below), -np.diff(above))


def chances(tally: Tally) -> dict[str, float]:
    """What as many independent draws of the law itself would show: a distance below the first nineteen times out of twenty
    (Kolmogorov), the total variations on average (half the mean deviation of binomial counts)."""
    found = {"distance": 1.3581 / math.sqrt(tally.words)}
    for dtype in NARROW:
        values, words = tallied(tally, dtype, mirrored=False)
        mass, draws = masses(tally.law, values), words.sum()
        if draws:
            deviation = np.minimum(np.sqrt(2 * mass * (1 - mass) / (np.pi * draws)), 2 * mass)
            found[str(dtype).removeprefix("torch.")] = float(deviation.sum() / 2)
    return found
