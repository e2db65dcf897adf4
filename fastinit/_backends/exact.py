"""Fused multiply-adds in plain torch, which has none: emulated exactly, by numbers that are rounded to odd."""

from __future__ import annotations

import math

import torch

from fastinit._core.rounding import fma as fma_of_numbers

MIDPOINT = -1 << 63  # 1 and zeros
Operand = torch.Tensor | float  # a float is exact in the type computed in


def fma(a: torch.Tensor, b: Operand, c: Operand, real: torch.dtype) -> torch.Tensor:
    """a * b + c with one rounding to float32 or float64. A tensor may hold its float32 values as float64."""
    if isinstance(c, float) and _alone(b, c):
        return a * b + c
    if real is torch.float32:
        return _fma_float32(a.double(), _wide(b), _wide(c))
    return _fma_float64(a, _wide(b), _wide(c))


def fma_of_any(a: torch.Tensor, b: Operand, c: torch.Tensor) -> torch.Tensor:
    """a * b + c with one rounding, of any a and b that are finite, and any c."""
    if a.dtype is torch.float32:
        total, error = _two_sum(a.double() * _wide(b), c.double())
        return torch.where(c.isfinite(), _round_to_odd(total, error), total).float()
    factor = torch.full_like(a, b) if isinstance(b, float) else b
    result, product = _fma_float64(a, b, c), a * b
    result = torch.where(result == 0, product + c, result)  # with the sign of its zero
    far = (product.abs() < 2.0**-900) & (a != 0) & (factor != 0)  # where an error would leave the range
    for x in (product, a, factor, c):
        far |= ~(x.abs() < 2.0**900)
    result = torch.where(c.isfinite(), result, c)
    for i in (far & c.isfinite()).nonzero()[:, 0].tolist():
        result[i] = fma_of_numbers(float(a[i]), float(factor[i]), float(c[i]), torch.float64)
    return result


def _alone(b: Operand, c: float) -> bool:
    """Whether a * b + c, operation by operation, rounds only once: adding 0 is exact, and so is multiplying by a power of two.

    The product must not be subnormal. It is not where b comes from a table, nor for b above 2^-64, as a is 0 or above 2^-40.
    """
    if isinstance(b, torch.Tensor):
        return c == 0
    return abs(b) > 2.0**-64 and (c == 0 or abs(math.frexp(b)[0]) == 0.5)


def _wide(x: Operand) -> Operand:
    """The operand in float64."""
    return x if isinstance(x, float) else x.double()


def _fma_float32(a: torch.Tensor, b: Operand, c: Operand) -> torch.Tensor:
    """a * b + c of float32 numbers that are held in float64, rounded once to float32.

    The product is exact; the sum rounds to 53 bits and the result to 24. Rounding twice differs from rounding once only where the
    sum is the midpoint of two float32 numbers: there, and they are rare, the sum is made exactly. A subnormal result has other
    midpoints, but its sum is exact unless a * b has bits below 2^-178, which no multiple of 2^-29 times a float32 has.
    """
    if isinstance(b, float) and abs(b) < 2.0**-64:
        return _round_to_odd(*_two_sum(a * b, c)).float()
    total = (a * b).add_(c)
    result = total.float()
    tail = total.view(torch.int64) << 35  # the bits that float32 has no room for
    if int(tail.min()) == MIDPOINT:
        at = (tail == MIDPOINT).nonzero()[:, 0]
        result[at] = _round_to_odd(*_two_sum(a[at] * _pick(b, at), _pick(c, at))).float()
    return result


def _pick(x: Operand, at: torch.Tensor) -> Operand:
    """The operand's elements at these places."""
    return x if isinstance(x, float) else x[at]


def _fma_float64(a: torch.Tensor, b: Operand, c: Operand) -> torch.Tensor:
    """a * b + c, rounded once: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008."""
    product, product_error = _two_product(a, b)
    inner, inner_error = _two_sum(product_error, c)
    total, error = _two_sum(product, inner)
    return total + _round_to_odd(*_two_sum(inner_error, error))


def _two_sum(a: torch.Tensor, b: Operand) -> tuple[torch.Tensor, torch.Tensor]:
    """The rounded sum and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: torch.Tensor, b: Operand) -> tuple[torch.Tensor, torch.Tensor]:
    """The rounded float64 product and its rounding error (Dekker, Veltkamp)."""
    product = a * b
    (ah, al), (bh, bl) = _halves(a), _halves(b)
    return product, ((ah * bh - product) + ah * bl + al * bh) + al * bl


def _halves(a: Operand) -> tuple[Operand, Operand]:
    """Upper and lower half of the 53 bits."""
    c = a * 134217729.0
    high = c - (c - a)
    return high, a - high


def _round_to_odd(total: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """total + error truncated, its last bit set if it is inexact. Rounded again to fewer bits, it is as if rounded once."""
    pattern = total.view(torch.int64)
    truncated = pattern - ((error < 0) ^ (total < 0)).long() | 1
    return torch.where(error != 0, truncated, pattern).view(torch.float64)
