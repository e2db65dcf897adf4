"""Whether values are those of a truncated normal, whatever its size and place: by quadrature from a bound, so nothing cancels.

Shares nothing with the package. A place is its distance from a bound, in extended floats: what lies at 1e-8 beside a bound of 0
keeps its place, however far the mean is. Masses are in units of the density at the bound nearest to the mean: none underflows.
"""

import math
import random

import numpy as np

Long = np.longdouble
WIDE = np.finfo(Long).maxexp > 2000  # else what lies 1e310 sigmas out has no number
_nodes, _weights = np.polynomial.legendre.leggauss(20)
PLACES = ((_nodes / 2 + 0.5) + np.arange(6)[:, None]).ravel() / 6  # six panels on [0, 1]
WEIGHTS = np.tile(_weights, 6) / 12


def mass(start, width):
    """The integral of exp(-start x - x^2 / 2) from 0 to width, start >= 0: a normal's mass over its density at the start."""
    width = np.minimum(width, reach(start))
    slope, bend = (start * width).astype(float), (width * width / 2).astype(float)
    mean = np.zeros_like(slope)
    for place, weight in zip(PLACES, WEIGHTS, strict=True):
        mean += weight * np.exp(-(slope + bend * place) * place)
    return mean * width


def reach(start):
    """How far beyond the start a share of exp(-60) lies, in sigmas."""
    return 120 / (start + np.sqrt(start * start + 120))


def shares(mean, std, a, b, v, shift):
    """The shares of the mass below and above v + shift, of laws that do not lie below their means, an element each."""
    width, low, high, place = (x / std for x in (b - a, a - mean, b - mean, (v - mean) + shift))
    from_a, to_b = (np.clip(x / std, 0, width) for x in ((v - a) + shift, (b - v) - shift))
    beside = low >= 0
    start, x = np.where(beside, low, 0), np.clip(place, low, high)
    total, below, above = (
        mass(start, np.where(beside, width, high)),
        mass(start, np.where(beside, from_a, np.maximum(x, 0))),
        0 * x,
    )
    above = np.exp(-(start + from_a / 2) * from_a) * mass(start + from_a, to_b)  # right beside, and from the mean on
    i, x = ~beside, x[~beside]
    left, right, inner, tail = mass(0 * x, -low[i]), mass(0 * x, high[i]), mass(0 * x, np.abs(x)), np.exp(-x * x / 2)
    total[i] = left + right
    below[i] = np.where(x < 0, tail * mass(np.abs(x), from_a[i]), left + inner)
    above[i] = np.where(x < 0, inner + right, tail * mass(np.abs(x), to_b[i]))
    return below / total, above / total


def quartile_range(mean, std, a, b):
    """How far the quartiles lie apart, by bisection; to 1e-4 and better."""
    beside = a >= mean
    origin = np.where(beside, a, mean)
    ends = []
    for share in (0.25, 0.75):
        least = np.where(beside, 0, np.maximum(a - mean, -50 * std))
        most = np.minimum(b - origin, std * reach(np.maximum((a - mean) / std, 0)) * 2)
        for _ in range(30):
            middle = (least + most) / 2
            short = shares(mean, std, a, b, origin, middle)[0] < share
            least, most = np.where(short, middle, least), np.where(short, most, middle)
        ends.append(least)
    return ends[1] - ends[0]


def faults(laws, words, values, itemsize):
    """Which of values[law, word] are off: by more than 4 ulps, and by more than a millionth of the quartile range.

    The laws are (mean, std, a, b). A value is right where the law's shares beside it have the word's share between them.
    """
    mean, std, a, b = np.array(laws, dtype=Long).T
    turned = b <= mean
    mean, a, b = np.where(turned, (-mean, -b, -a), (mean, a, b))
    tolerance = quartile_range(mean, std, a, b) / 1_000_000
    mean, std, a, b, tolerance, turned = (np.repeat(x, len(words)) for x in (mean, std, a, b, tolerance, turned))
    v = np.where(turned, -1, 1) * np.asarray(values).astype(Long).ravel()
    ulp = np.spacing(np.abs(v).astype(f"f{itemsize}")).astype(Long)
    shift = np.maximum(4 * ulp, tolerance)
    half = 1 << 8 * itemsize - 1
    share = np.tile([Long(half - abs(word | 1)) / (2 * half) for word in words], len(laws))  # of the mass beyond, on its side
    upper = np.tile(np.array(words) > 0, len(laws)) != turned
    (below_least, above_least), (below_most, above_most) = (shares(mean, std, a, b, v, way * shift) for way in (-1, 1))
    right = np.where(upper, (above_most <= share) & (share <= above_least), (below_least <= share) & (share <= below_most))
    return ~(right & (a - ulp <= v) & (v <= b + ulp)).reshape(np.shape(values))


INF = float("inf")
KINDS = ("far", "narrow", "near", "straddling", "a few ulps", "beyond numbers")
PLACED = ("at zero", "small", "small", "any size", "mean at zero", "ends at zero", "as large as the distance")


def grid(count: int, seed: int = 1) -> list[tuple[float, float, float, float]]:
    """Truncated normals (mean, std, a, b): of every kind and every place of the bounds in turn, sizes and signs at random."""
    rng, found = random.Random(seed), []
    while len(found) < count:
        law = draw(rng, KINDS[len(found) % len(KINDS)], PLACED[len(found) // len(KINDS) % len(PLACED)])
        mean, std, a, b = law
        if abs(mean) + 40 * std < 1e308 and std > 0 and a < b and max(a, -b) < INF and max(a - mean, mean - b) < INF:
            found.append(law if rng.random() < 0.5 else (-mean, std, -b, -a))
    return found


def draw(rng: random.Random, kind: str, placed: str) -> tuple[float, float, float, float]:
    """A law above its mean, or about it. It may be none: rounding and overflow are not looked at."""

    def size(low: float, high: float) -> float:
        return 10 ** rng.uniform(low, high)

    std = size(*rng.choice([(-3, 3), (-3, 3), (-30, 30), (-320, 305)]))
    sigmas = {
        "far": lambda: size(*rng.choice([(2, 6), (3, 12), (6, 290)])),
        "narrow": lambda: size(*rng.choice([(-8, 2), (0, 6), (3, 15)])),
        "near": lambda: size(-3, 1.5),
        "straddling": lambda: -size(-3, 3),
        "a few ulps": lambda: size(-2, 12),
        "beyond numbers": lambda: size(290, 305),
    }[kind]()
    if kind == "beyond numbers":
        std = size(-320, -3)
    distance = sigmas * std if abs(sigmas) < 1e290 else size(-3, 306)
    decay = std / abs(sigmas)  # the size of what is cut far out, in sigmas 1/L
    width = (
        std
        * {
            "far": lambda: rng.choice([INF, size(-6, 3) / sigmas, size(-1, 2) / sigmas]),
            "narrow": lambda: sigmas * size(-25, -4),
            "near": lambda: rng.choice([INF, size(-3, 2), size(-16, 0)]),
            "straddling": lambda: size(-3, 3) - sigmas,
            "a few ulps": lambda: 0.0,
            "beyond numbers": lambda: rng.choice([INF, size(-3, 3)]),
        }[kind]()
    )
    a = {
        "at zero": lambda: rng.choice([0.0, -0.0]),
        "small": lambda: rng.choice([1, -1]) * min(decay, width or decay) * size(-3, 3),
        "any size": lambda: rng.choice([1, -1]) * size(-8, 8),
        "mean at zero": lambda: distance,
        "ends at zero": lambda: -width if width < INF else 0.0,
        "as large as the distance": lambda: rng.choice([1, -1]) * distance * size(-3, 3),
    }[placed]()
    mean = a - distance if placed != "mean at zero" else rng.choice([0.0, -0.0])
    b = a + width if placed != "ends at zero" or width == INF else rng.choice([0.0, -0.0])
    for _ in range(rng.choice([1, 2, 3, 10, 50]) if b == a else 0):
        b = math.nextafter(b, INF)
    return mean, std, a, b
