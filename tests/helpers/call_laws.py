"""The laws that the documentation gives to calls of the initializers, and elements held against them: in doubles, with scipy.

Shares no arithmetic with the package. What it asks is which law was filled; how exactly, other tests measure.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from helpers import oracle
from helpers.calls import Arguments, two_sigmas
from helpers.laws import INTEGERS
from scipy import special

LOOSE = 2.0**-20
TRUNCATED_STD = 0.87962566103423978  # of N(0, 1) cut at two sigmas: Keras divides by it
LawOf = Callable[[Arguments, tuple[int, ...]], "Expected"]


class Expected(NamedTuple):
    """A distribution in doubles: uniform (a, b), cut (mean, std, a, b), fmod (mean, std, a, b) or constant (value, a, b)."""

    kind: str
    numbers: tuple[float, ...]
    is_computed: bool = False  # from a scale and fans, in which order of operations nobody says

    @property
    def bounds(self) -> tuple[float, float]:
        return self.numbers[-2:]


def uniform_law(x: Arguments, shape: tuple[int, ...]) -> Expected:
    return Expected("uniform", (float(x["a"]), float(x["b"])))


def normal_law(x: Arguments, shape: tuple[int, ...]) -> Expected:
    return Expected("cut", (float(x["mean"]), float(x["std"]), -math.inf, math.inf))


def cut_law(x: Arguments, shape: tuple[int, ...]) -> Expected:
    return Expected("fmod" if x.get("method") == "fmod" else "cut", tuple(float(x[name]) for name in ("mean", "std", "a", "b")))


def truncated_law(x: Arguments, shape: tuple[int, ...]) -> Expected:
    return cut_law(two_sigmas(x), shape)


def units(x: Arguments, shape: tuple[int, ...], mode: str) -> float:
    """The fan of a mode; one that the mode does not need is not looked at."""
    sizes = shape[x["batch_dims"] :]
    sizes = (sizes[0] // x["groups"], *sizes[1:]) if sizes else ()

    def fan(name: str, axis: int) -> float:
        return float(sizes[axis] * math.prod(sizes[2:]) if x[name] is None else x[name])

    if mode == "fan_avg":
        return fan("fan_in", 1) / 2 + fan("fan_out", 0) / 2
    return fan("fan_in", 1) if mode == "fan_in" else fan("fan_out", 0)


def of_std(distribution: str, std: float) -> Expected:
    if distribution == "uniform":
        return Expected("uniform", (-math.sqrt(3) * std, math.sqrt(3) * std), is_computed=True)
    if distribution == "untruncated_normal":
        return Expected("cut", (0.0, std, -math.inf, math.inf), is_computed=True)
    return Expected("cut", (0.0, std / TRUNCATED_STD, -2 * std / TRUNCATED_STD, 2 * std / TRUNCATED_STD), is_computed=True)


def scaling_law(x: Arguments, shape: tuple[int, ...]) -> Expected:
    return of_std(x["distribution"], math.sqrt(x["scale"] / max(1.0, units(x, shape, x["mode"]))))


def keras_law(scale: float, mode: str, distribution: str) -> LawOf:
    def law(x: Arguments, shape: tuple[int, ...]) -> Expected:
        return of_std(distribution, math.sqrt(float(x.get("gain", 1.0)) ** 2 * scale / max(1.0, units(x, shape, mode))))

    return law


def xavier_law(distribution: str) -> LawOf:
    return lambda x, shape: of_std(distribution, float(x["gain"]) * math.sqrt(1 / (units(x, shape, "fan_avg") or 0.5)))


def kaiming_law(distribution: str) -> LawOf:
    def law(x: Arguments, shape: tuple[int, ...]) -> Expected:
        gains = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
        if x["nonlinearity"] == "leaky_relu":
            gains["leaky_relu"] = math.sqrt(2) / math.hypot(1.0, 0.01 if x["a"] is None else x["a"])
        return of_std(distribution, gains.get(x["nonlinearity"], 1.0) / math.sqrt(units(x, shape, x["mode"].lower()) or 1))

    return law


def settled(law: Expected) -> Expected:
    """The law; where it has no width, its one value."""
    a, b = law.bounds
    if a == b:
        return Expected("constant", (a, -math.inf, math.inf))
    if law.kind != "uniform" and law.numbers[1] == 0:
        return Expected("constant", (min(max(law.numbers[0], a), b), a, b))
    return law


def can_be_had(law: Expected, dtype: torch.dtype) -> bool | None:
    """Whether a dtype has values between the bounds; None: it may be refused, for leaving the range of the arithmetic."""
    a, b = law.bounds
    largest = torch.finfo(torch.float64 if dtype is torch.float64 else torch.float32).max
    one = settled(law)
    if one.kind == "constant":
        if law.is_computed or law.kind == "fmod" or abs(one.numbers[0]) > largest / 2:
            return None
        return any(one.bounds[0] <= value <= one.bounds[1] for value in values_near(one.numbers[0], dtype))
    if law.kind == "uniform" and (not math.isfinite(b / 2 - a / 2) or b / 2 - a / 2 > largest):
        return None
    if law.kind != "uniform":
        mean, std = law.numbers[:2]
        if not abs(mean) + 40 * std <= largest:
            return None
        if (a - mean) / std == (b - mean) / std and abs((a - mean) / std) > 1000:
            return None  # apart by less than a last place, where the density is not flat
        short, long = sorted((mean - a, b - mean))
        if law.kind == "fmod" and (short != long or long < std * 2.0**-10):
            clearly = long - short > 1e-11 * max(abs(long), abs(mean)) or long < std * 2.0**-11
            return False if clearly else None
    return any(a <= value <= b for value in values_near(a, dtype))


def values_near(x: float, dtype: torch.dtype) -> list[float]:
    """The finite values of a dtype next to a number, up and down."""
    largest = torch.finfo(dtype).max
    near = torch.tensor(min(max(x, -largest), largest), dtype=torch.float64).to(dtype)
    bits = near.view(INTEGERS[dtype.itemsize])
    steps = [(bits.long() + step).to(bits.dtype).view(dtype).item() for step in (-1, 1)]
    smallest = torch.tensor(1).to(bits.dtype).view(dtype).item()
    return [value for value in (near.item(), *steps, smallest, -smallest) if abs(value) <= largest]


def check_law(law: Expected, values: torch.Tensor, key: int) -> None:
    """All values in the bounds; and the first, last and two others those of their words, which plain integers make."""
    flat, (a, b), dtype = values.flatten().double(), law.bounds, values.dtype
    room = 4 * sys.float_info.epsilon * max(abs(a), abs(b)) if law.is_computed else 0.0
    assert bool(((flat >= a - room) & (flat <= b + room) & flat.isfinite()).all()), f"outside [{a}, {b}]"
    spacing = torch.finfo(dtype).eps
    if law.kind == "constant":
        value = min(max(law.numbers[0], -torch.finfo(dtype).max), torch.finfo(dtype).max)
        assert bool(((flat - value).abs() <= spacing * abs(value) + torch.finfo(dtype).smallest_normal).all()), f"not {value}"
        return
    low, high = (min(max(x, -torch.finfo(dtype).max), torch.finfo(dtype).max) for x in (a, b))
    for i in {0, len(flat) - 1, len(flat) // 2, len(flat) // 3} if len(flat) else ():
        word = oracle.word64(key, i) if dtype is torch.float64 else oracle.word32(key, i)
        u = ((word ^ (1 << 63 if dtype is torch.float64 else 1 << 31)) | 1) / (2.0**64 if dtype is torch.float64 else 2.0**32)
        got, slack = flat[i].item(), torch.finfo(dtype).smallest_normal
        if law.kind == "uniform":
            exact, size = a * (1 - u) + b * u, max(abs(a), abs(b))
        else:
            mean, std = law.numbers[:2]
            z = float(special.ndtri(u)) if law.kind == "fmod" else quantile(u, (a - mean) / std, (b - mean) / std)
            z = z if abs(z) < 1e100 else 0.0  # all values are at the bound that is nearer to the mean
            size = abs(mean) + std * max(abs(z), 1.0)  # a cut that is not symmetric is as exact as its bounds
            exact = mean + std * z if law.kind == "cut" else got + math.remainder(mean + std * z - got, b - mean)
        exact = min(max(exact, low), high)
        assert abs(got - exact) <= LOOSE * size + spacing * abs(exact) + slack, f"element {i} is {got!r}, not {exact!r}"


def quantile(u: float, lower: float, upper: float) -> float:
    """Of the standard normal cut to [lower, upper], in logarithms, of the half where the tail is the lower one."""
    if lower + upper > 0:
        return -quantile(1 - u, -upper, -lower)
    if upper < -1e100:
        return upper
    low, high = float(special.log_ndtr(lower)), float(special.log_ndtr(upper))
    return min(max(float(special.ndtri_exp(high + math.log(u + (1 - u) * math.exp(low - high)))), lower), upper)


def check_rounding(law: Expected, values: torch.Tensor, wide: torch.Tensor) -> None:
    """A narrow value is the float32 one rounded, or one that is off by the few last places that keep the bounds within reach."""
    largest = torch.finfo(values.dtype).max
    slack = 8 * 2.0**-23 * max(abs(x) if math.isfinite(x) else 0.0 for x in law.bounds)
    low, high = ((wide.double() + side * slack).clamp(-largest, largest).float().to(values.dtype).double() for side in (-1, 1))
    a, b = law.bounds  # what rounds to beyond a bound is the outermost value inside
    good = ((low <= values.double()) | (low > b)) & ((values.double() <= high) | (high < a))
    assert bool(good.all()), "not the float32 values rounded"
