"""The laws as SciPy knows them, in float64: what values are held against. Shares nothing with fastinit's own quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import erfinv, log_ndtr, ndtr, ndtri, ndtri_exp

from fastinit._core import laws

Array = np.ndarray
ROOT2, INF = math.sqrt(2), math.inf


class ExactLaw(NamedTuple):
    """A law of unit scale with its distribution from SciPy, good to some 1e-15, in the tails relative to their mass."""

    law: laws.Law
    quantile: Callable[[Array, Array], Array]  # of the mass below and the mass above, which add up to 1; of fmod, before it
    below: Callable[[Array], Array]  # the mass below x
    above: Callable[[Array], Array]
    nodes: Callable[[], tuple[Array, Array]]  # values and weights of a quadrature: sum(w f(x)) is the mean of f
    bounds: tuple[float, float]
    promise: float  # ulps that no value may be off by
    symmetric: bool = False
    period: float = INF  # values are compared modulo this
    unit: float = 0.0  # errors of smaller values count in ulps of this


def uniform(a: float, b: float) -> ExactLaw:
    def nodes() -> tuple[Array, Array]:
        x, w = panels(np.array([a, b]))
        return x, w / (b - a)

    return ExactLaw(
        laws.uniform(a, b),
        lambda below, above: a * above + b * below,
        lambda x: np.clip((x - a) / (b - a), 0, 1),
        lambda x: np.clip((b - x) / (b - a), 0, 1),
        nodes,
        (a, b),
        promise=1.0,
        symmetric=a == -b,
    )


def cut_normal(low: float, high: float) -> ExactLaw:
    """N(0, 1) between two bounds in sigmas."""
    infinite = (low, high) == (-INF, INF)
    mass = ndtr(high) - ndtr(low) if low <= 0 <= high else tail_mass(low, high)
    quantile = tail_quantile(low, high) if low >= 0 else mirrored(high) if low == -high else crossing_quantile(low, high)
    return ExactLaw(
        laws.normal(0.0, 1.0) if infinite else laws.truncated_normal(0.0, 1.0, low, high),
        quantile,
        lambda x: part(np.full_like(x, low), np.clip(x, low, high)) / mass,
        lambda x: part(np.clip(x, low, high), np.full_like(x, high)) / mass,
        lambda: density_nodes(np.linspace(max(low, -40), min(high, 40), 400), mass),
        (low, high),
        promise=3.0 if low == -high or low == 0 else 1.5,
        symmetric=low == -high,
        unit=1.0 if low < 0 < high != -low else 0.0,
    )


def part(a: Array, b: Array) -> Array:
    """The mass of N(0, 1) between a <= b, from the tail that both lie in."""
    return np.where(a > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))


def tail_mass(low: float, high: float) -> float:
    return float(part(np.array(low), np.array(high)))


def tail_quantile(low: float, high: float) -> Callable[[Array, Array], Array]:
    """For low >= 0, by the logarithm of the mass above: S(low) (r + above (1 - r)), r the ratio of the ends'. Next to
    low = 0, where the mass above tells nothing of a small value any more, by the inverse error function."""
    log_low, ratio = float(log_ndtr(-low)), math.exp(float(log_ndtr(-high)) - float(log_ndtr(-low)))
    inner = math.erf(high / ROOT2)

    def quantile(below: Array, above: Array) -> Array:
        with np.errstate(divide="ignore"):
            far = -ndtri_exp(log_low + np.log(ratio + above * (1 - ratio)))
        return np.where(below * inner < 0.5, ROOT2 * erfinv(below * inner), far) if low == 0 else far

    return quantile


def mirrored(high: float) -> Callable[[Array, Array], Array]:
    """A cut symmetric about 0: the quantile of the half above 0, with a sign."""
    half = tail_quantile(0.0, high)

    def quantile(below: Array, above: Array) -> Array:
        return np.sign(below - above) * half(np.abs(below - above), 2 * np.minimum(below, above))

    return quantile


def crossing_quantile(low: float, high: float) -> Callable[[Array, Array], Array]:
    """Bounds on either side of 0 that are not symmetric: by the tail that the value lies in."""
    under, over, mass = float(ndtr(low)), float(ndtr(-high)), tail_mass(low, high)

    def quantile(below: Array, above: Array) -> Array:
        left, right = under + mass * below, over + mass * above
        return np.where(left < right, ndtri(np.minimum(left, 0.5)), -ndtri(np.minimum(right, 0.5)))

    return quantile


def fmod_normal(cut: float) -> ExactLaw:
    """fmod(z, cut) of a standard normal z, the cut as float32 holds it: values of a word that lie a period apart are equal."""
    cut = float(np.float32(cut))
    folds = np.arange(0, 10, cut)  # beyond lies a mass of 1e-23

    def half(x: Array) -> Array:
        """The mass of |fmod| below x."""
        return 2 * np.sum([part(np.full_like(x, start), start + np.clip(x, 0, cut)) for start in folds], axis=0)

    def nodes() -> tuple[Array, Array]:
        z, w = density_nodes(np.unique(np.concatenate([-folds, folds])), 1.0)
        return np.fmod(z, cut), w

    return ExactLaw(
        laws.fmod_normal(0.0, 1.0, -cut, cut),
        mirrored(INF),
        lambda x: 0.5 + np.sign(x) * half(np.abs(x)) / 2,
        lambda x: 0.5 - np.sign(x) * half(np.abs(x)) / 2,
        nodes,
        (-cut, cut),
        promise=3.5,
        symmetric=True,
        period=cut,
        unit=4.0,  # ulps of the largest z between 4 and 8
    )


def panels(edges: Array) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on each of the panels between the edges."""
    x, w = np.polynomial.legendre.leggauss(20)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def density_nodes(edges: Array, mass: float) -> tuple[Array, Array]:
    x, w = panels(edges)
    return x, w * np.exp(-x * x / 2) / math.sqrt(2 * math.pi) / mass


LAWS = {
    "uniform on +-1": uniform(-1.0, 1.0),
    "uniform from 0 to 1": uniform(0.0, 1.0),
    "normal": cut_normal(-INF, INF),
    "truncated normal at 1 sigma": cut_normal(-1.0, 1.0),
    "truncated normal at 2 sigmas": cut_normal(-2.0, 2.0),
    "truncated normal at 3 sigmas": cut_normal(-3.0, 3.0),
    "truncated normal at 100 sigmas": cut_normal(-100.0, 100.0),
    "truncated normal above 0": cut_normal(0.0, INF),
    "truncated normal below 1 sigma": cut_normal(-INF, 1.0),
    "truncated normal from 8 to 9 sigmas": cut_normal(8.0, 9.0),
    "fmod normal at 1 sigma": fmod_normal(1.0),
    "fmod normal at root 2 sigmas": fmod_normal(ROOT2),
    "fmod normal at 2 sigmas": fmod_normal(2.0),
}
