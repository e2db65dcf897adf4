"""Numbers in the formats of tensors, computed on the host: one rounding, the next values, the outermost values inside bounds."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import NamedTuple

import torch

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes: a number seen as its bits
_EXACT = Context(prec=1500, Emin=MIN_EMIN, Emax=MAX_EMAX)  # digits enough for a product of two float64 plus a third


def fma(a: float, b: float, c: float, real: torch.dtype) -> float:
    """a * b + c with one rounding to the real type, of numbers of it."""
    if real is torch.float64:
        return _fma64(a, b, c)
    total = _to_odd(*_sum(a * b, c))  # the product is exact
    unit = max(math.frexp(total)[1] - 24, -149)  # of its last bit
    return math.ldexp(round(math.ldexp(total, -unit)), unit)


def _sum(a: float, b: float) -> tuple[float, float]:
    """A sum, and what its rounding took away."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _to_odd(total: float, lost: float) -> float:
    """A sum rounded to odd: rounded again, it rounds as the exact sum would."""
    if lost and not int(math.ldexp(math.frexp(total)[0], 53)) & 1:
        return math.nextafter(total, math.copysign(math.inf, lost))
    return total


def _fma64(a: float, b: float, c: float) -> float:
    """As in Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE Transactions on Computers 57, 2008."""
    product = a * b
    if not (2.0**-900 < abs(product) < 2.0**900 and max(abs(a), abs(b), abs(c)) < 2.0**900):
        return float(_EXACT.fma(Decimal(a), Decimal(b), Decimal(c)))
    (a1, a2), (b1, b2) = _split(a), _split(b)
    rest = a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)
    upper, lower = _sum(c, rest)
    high, low = _sum(product, upper)
    return high + _to_odd(*_sum(lower, low))


def _split(x: float) -> tuple[float, float]:
    """A number as two of 26 bits."""
    y = x * (2.0**27 + 1)
    high = y - (y - x)
    return high, x - high


class _Format(NamedTuple):
    """How a format has its numbers: sign and magnitude, so that bits count values."""

    digits: int  # of the significand, in bits
    least: int  # the smallest number is 2^least
    greatest: float

    def unit(self, x: float) -> int:
        """The exponent of the last bit of numbers such as x."""
        return max(math.frexp(x)[1] - self.digits, self.least) if x else self.least

    def nearest(self, x: float) -> float:
        """x, not beyond the greatest number, to nearest even."""
        unit = self.unit(x)
        return math.ldexp(round(math.ldexp(x, -unit)), unit)

    def count(self, size: float) -> int:
        """How many numbers lie from 0 up to one of the format, without 0."""
        unit = self.unit(size)
        return (unit - self.least << self.digits - 1) + int(math.ldexp(size, -unit))

    def number(self, count: int) -> float:
        above = max((count >> self.digits - 1) - 1, 0)
        return math.ldexp(count - (above << self.digits - 1), above + self.least)


@functools.cache
def _format(dtype: torch.dtype) -> _Format:
    info = torch.finfo(dtype)
    digits = 2 - math.frexp(info.eps)[1]
    return _Format(digits, math.frexp(info.smallest_normal)[1] - digits, info.max)


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
    while not enough(found := step(x, outward, real, reach)):
        reach *= 2
    if reach == 1:
        return found
    short = reach // 2
    while reach - short > 1:
        middle = (short + reach) // 2
        short, reach = (short, middle) if enough(step(x, outward, real, middle)) else (middle, reach)
    return step(x, outward, real, reach)


def step(x: float, toward: float, dtype: torch.dtype, count: int = 1) -> float:
    """The dtype's count-th value after x toward +-infinity, where the count stops."""
    form, wide = _format(dtype), dtype in (torch.float32, torch.float64)  # only there infinity is a value
    number = form.count(abs(x)) if abs(x) < math.inf else form.count(form.greatest) + 1
    along = (number if (x >= 0) == (toward > 0) else -number) + count  # counted in the direction of the steps
    last = form.count(form.greatest)
    size = form.number(min(abs(along), last)) if abs(along) <= last or not wide else math.inf
    sign = toward if along > 0 else -toward if along < 0 else x
    return math.copysign(size, sign)


@functools.lru_cache(maxsize=256)
def representable(a: float, b: float, dtype: torch.dtype) -> tuple[float, float]:
    """The least and the greatest finite value of the dtype inside [a, b]. A least of zero is +0, a greatest of zero is -0, unless
    it is also the least."""
    form = _format(dtype)
    largest = form.greatest

    def nearest(x: float) -> float:
        x = min(max(x, -largest), largest)
        return x if dtype is torch.float64 else form.nearest(rounded(x, torch.float32))  # by way of float32, as torch

    low, high = nearest(a), nearest(b)
    if low < a:
        low = step(low, math.inf, dtype) if low < largest else math.inf
    if high > b:
        high = step(high, -math.inf, dtype) if high > -largest else -math.inf
    if low > high:
        raise ValueError(f"no {dtype} value lies in [{a}, {b}]: widen the bounds or use a wider dtype.")
    return low or 0.0, high or (-0.0 if low else 0.0)
