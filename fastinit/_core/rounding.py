"""Numbers in the formats of tensors, computed on the host: one rounding, the next values, the outermost values inside bounds."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal

import torch

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes: a number seen as its bits
_EXACT = Context(prec=1500, Emin=MIN_EMIN, Emax=MAX_EMAX)  # digits enough for a product of two float64 plus a third


def fma(a: float, b: float, c: float, real: torch.dtype) -> float:
    """a * b + c with one rounding to the real type."""
    exact = _EXACT.fma(Decimal(a), Decimal(b), Decimal(c))
    if real is torch.float64:
        return float(exact)
    unit = max(math.frexp(float(exact))[1] - 24, -149)  # of its last bit
    return math.ldexp(int(_EXACT.multiply(exact, _EXACT.power(2, -unit)).to_integral_value(ROUND_HALF_EVEN)), unit)


def rounded(x: float, real: torch.dtype) -> float:
    """x to the nearest value of float32 or float64; beyond float32's range, infinite."""
    if real is torch.float64:
        return x
    try:
        return float(struct.unpack("f", struct.pack("f", x))[0])
    except OverflowError:
        return math.copysign(math.inf, x)


def first(x: float, toward: float, real: torch.dtype, enough: Callable[[float], bool]) -> float:
    """The first value of the real type that is enough, from x on toward +-infinity. All values beyond it are enough too.

    Mostly it lies one or two ulps away. Where a bound is near 0 and the values are not, it lies many powers of two away: the
    search doubles its reach until it is enough, then halves it.
    """
    if enough(x):
        return x
    outward, reach = math.copysign(math.inf, toward), 1
    while not enough(step(x, outward, real, reach)):
        reach *= 2
    short = reach // 2
    while reach - short > 1:
        middle = (short + reach) // 2
        short, reach = (short, middle) if enough(step(x, outward, real, middle)) else (middle, reach)
    return step(x, outward, real, reach)


def step(x: float, toward: float, dtype: torch.dtype, count: int = 1) -> float:
    """The dtype's count-th value after x toward +-infinity, where the count stops.

    The formats are sign and magnitude, so that bits count values.
    """
    integer = INTEGERS[dtype.itemsize]

    def bits_of(size: float) -> int:
        return int(torch.tensor(size, dtype=torch.float64, device="cpu").to(dtype).view(integer))

    number = bits_of(abs(x))
    along = (number if (x >= 0) == (toward > 0) else -number) + count  # counted in the direction of the steps
    last = bits_of(math.inf if dtype in (torch.float32, torch.float64) else torch.finfo(dtype).max)
    size = torch.tensor(min(abs(along), last), dtype=integer, device="cpu").view(dtype).item()
    sign = toward if along > 0 else -toward if along < 0 else x
    return math.copysign(size, sign)


def representable(a: float, b: float, dtype: torch.dtype) -> tuple[float, float]:
    """The least and the greatest finite value of the dtype inside [a, b]. A least of zero is +0, a greatest of zero is -0, unless
    it is also the least."""
    largest = torch.finfo(dtype).max

    def nearest(x: float) -> float:
        x = min(max(x, -largest), largest)
        return torch.tensor(x, dtype=torch.float64, device="cpu").to(dtype).item()

    low, high = nearest(a), nearest(b)
    if low < a:
        low = step(low, math.inf, dtype) if low < largest else math.inf
    if high > b:
        high = step(high, -math.inf, dtype) if high > -largest else -math.inf
    if low > high:
        raise ValueError(f"no {dtype} value lies in [{a}, {b}]: widen the bounds or use a wider dtype.")
    return low or 0.0, high or (-0.0 if low else 0.0)
