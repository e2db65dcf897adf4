"""The standard normal law: masses and quantiles to float64's accuracy, and the same bits on every platform.

The quantile tables become part of every weight, so nothing here may depend on a machine's mathematical library: made with
torch's log, erf and matrix product, a third of all tables differed between two instruction sets. Masses are computed in
decimal, whose exp and ln are correctly rounded and which no tail underflows; quantiles by float64's +, -, * and /, which
IEEE 754 defines to the bit, in a written order.

References: Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37, 1988;
Maechler, "Asymptotic tail formulas for Gaussian quantiles", 2022 (vignette of the R package DPQ).
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import torch

F64 = torch.float64
PRECISE = decimal.Context(prec=60, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
_ROOT = PRECISE.sqrt(PRECISE.multiply(2, PI))
_FAR = 6.0  # sigmas; the masses of a cut that begins beyond it are in units of a density
_KEPT = 512  # cuts, and halves of them at the nodes of a table: 1.3 to 3.6 KB for float32, 27 KB for float64
_BEYOND = 1e9  # sigmas; a cut that begins beyond it holds one float64 value

# Wichura's PPND16, constant term first: numerator and denominator as polynomials of 0.425^2 - q^2, of r - 1.6 and of r - 5.
_CENTRAL = 0.425
_Polynomials = tuple[tuple[float, ...], tuple[float, ...]]
_MIDDLE = (
    (3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
     45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    (1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
     21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610),
)  # fmt: skip
_TAIL = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
     0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_FAR_TAIL = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
     0.0265321895265761230930, 0.00124266094738807843860, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip


def center(x: Decimal) -> Decimal:
    """Phi(x) - 1/2, to relative accuracy."""
    if abs(x) > _FAR:
        return (Decimal("0.5") - mills_ratio(abs(x)) * _density(x)).copy_sign(x)
    n, total, term = 1, x, x
    while abs(term) > abs(total) * Decimal("1e-40"):  # x + x^3/3 + x^5/(3*5) + ...
        n += 2
        term = term * x * x / n
        total += term
    return total * _density(x)


def _density(x: Decimal) -> Decimal:
    return (-x * x / 2).exp() / _ROOT


def mills_ratio(x: Decimal) -> Decimal:
    """(1 - Phi(x)) / density(x), for x >= FAR, by Laplace's continued fraction; 60 terms are accurate to 1e-33."""
    fraction = x
    for n in range(60, 0, -1):
        fraction = x + n / fraction
    return 1 / fraction


class Point(NamedTuple):
    """One place where a quantile is asked for. Places have a tensor of distances d, and are hashed by what that is made of."""

    distance: float

    @property
    def d(self) -> torch.Tensor:
        return torch.full((1,), self.distance, dtype=F64, device="cpu")


_Half = Callable[[Any], Any]  # of places: a tensor of d's shape; of a point, it may be a float


class Halves(NamedTuple):
    """A law's quantile as two functions of places d, lower at t = d - 1 and upper at t = 1 - d, in the units of the values."""

    lower: _Half
    upper: _Half
    bounds: tuple[float, float]
    distances: tuple[float, float]  # how far past d = 0 each is singular

    def negated(self) -> Halves:
        """The halves of the mirrored law."""
        (low, high), (to_low, to_high) = self.bounds, self.distances
        return Halves(lambda p: -self.upper(p), lambda p: -self.lower(p), (-high, -low), (to_high, to_low))


class Cut(NamedTuple):
    """The standard normal cut to [low, high], in sigmas. Masses are in units of e^log_unit: 1, unless the cut is far out."""

    low: float
    high: float
    mass: float
    below: float  # Phi(low)
    above: float  # 1 - Phi(high)
    to_low: float  # 1/2 - Phi(low), in units of 1
    to_high: float  # Phi(high) - 1/2, in units of 1
    log_unit: float

    def upper_half(self, d: torch.Tensor) -> torch.Tensor:
        """The quantile at t = 1 - d, for d > 0: the x that has the share d/2 of the cut's mass above it."""
        share = d * 0.5
        q = self.to_high - share * (self.mass if self.log_unit == 0 else 0.0)
        tail = torch.where(q > 0, self.above + share * self.mass, self.below + (1 - share) * self.mass)
        return quantile(q, -(log(tail) + self.log_unit)).clamp(self.low, self.high)

    def lower_half(self, d: torch.Tensor) -> torch.Tensor:
        """The quantile at t = d - 1: the upper half of the mirrored cut, negated."""
        return -_mirrored(self).upper_half(d)

    def halves(self, mean: float, std: float) -> Halves:
        """Of mean + std * Q."""
        ends = mean + std * self.low, mean + std * self.high
        distances = 2 * self.below / self.mass, 2 * self.above / self.mass
        lower, upper = (partial(_kept_half, self, half) for half in (Cut.lower_half, Cut.upper_half))
        return Halves(lambda p: mean + std * lower(p), lambda p: mean + std * upper(p), ends, distances)

    def odd_over_t(self, d: torch.Tensor) -> torch.Tensor:
        """Q(t)/t of a symmetric cut at t = 1 - d; relative accuracy down to t = 0, where it is Q'(0). Even in t."""
        t = (1 - d).abs().clamp(min=1e-300)
        return quantile(t * (self.mass * 0.5), -log(self.above + d * (self.mass * 0.5))) / t


@functools.lru_cache(maxsize=_KEPT)
def _kept_half(cut: Cut, half: Callable[[Cut, torch.Tensor], torch.Tensor], places: Any) -> torch.Tensor | float:
    found = half(cut, places.d)
    return found.item() if isinstance(places, Point) else found


@functools.lru_cache(maxsize=_KEPT)
def cut_normal(low: float, high: float) -> Cut:
    """The cut to [low, high], low < high, either infinite."""
    if high < -_FAR:
        return _mirrored(cut_normal(-high, -low))
    with decimal.localcontext(PRECISE):
        if low > _FAR:
            return _far_cut(low, high)
        half, to_high = Decimal("0.5"), center(Decimal(high))
        to_low = to_high if low == -high else center(Decimal(-low))
        mass, below, above = to_low + to_high, half - to_low, half - to_high
    return Cut(low, high, float(mass), float(below), float(above), float(to_low), float(to_high), 0.0)


def _far_cut(low: float, high: float) -> Cut:
    """A cut that begins beyond FAR, in units of the density at `low`. One that begins beyond BEYOND is a single float64 value."""
    start = Decimal(min(low, _BEYOND))
    end = Decimal(high) if low < _BEYOND else Decimal("inf")
    above = mills_ratio(end) * ((start - end) * (start + end) / 2).exp() if end.is_finite() else Decimal(0)
    log_unit = -start * start / 2 - (2 * PI).ln() / 2
    return Cut(low, high, float(mills_ratio(start) - above), math.inf, float(above), -0.5, 0.5, float(log_unit))


def _mirrored(cut: Cut) -> Cut:
    low, high, mass, below, above, to_low, to_high, log_unit = cut
    return Cut(-high, -low, mass, above, below, to_high, to_low, log_unit)


def tail(mean: float, std: float, a: float, b: float) -> Halves:
    """A normal above its mean cut to [a, b], L sigmas out, for L > 2^13 or b - a below 2^-26 L sigmas: almost an exponential.

    Counted from the mean, a place in such a cut is lost in the rounding of sigmas; so it is counted from a bound. The mass above
    a + x sigmas falls as exp(-(L + 1/L) x - x^2/2): to 1e-8, as 1/L tells in the first case alone.
    """
    with decimal.localcontext(PRECISE):
        low, width = (Decimal(a) - Decimal(mean)) / Decimal(std), (Decimal(b) - Decimal(a)) / Decimal(std)
        hazard = low + 1 / low
        depth = width * (hazard + width / 2)
        above = (-depth).exp()
        rise = float(depth.exp() - 1) if depth < 1 else math.inf
        boost = 2.0**600 if std < 1 else 1.0  # of a subnormal unit few bits were left
        unit, bend = float(Decimal(std) * Decimal(boost) / hazard), float(1 / (2 * low * low))
        mass, rest = float(1 - above), float(above)

    def lower(places: Any) -> torch.Tensor:
        return above_a(-log1p(places.d * (-0.5 * mass)))

    def above_a(depth: torch.Tensor) -> torch.Tensor:
        return a + unit * (depth - bend * depth * depth) / boost

    def upper(places: Any) -> torch.Tensor:
        share = places.d * 0.5
        return b - unit * log1p(share * rise) / boost if rise < math.inf else above_a(-log(rest + share * mass))

    return Halves(lower, upper, (a, b), (math.inf, 2 * rest / mass))


def quantile(q: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """The x with Phi(x) = 1/2 + q, to relative accuracy; outside the middle from depth = -log of the smaller tail."""
    middle = q * _ratio(_MIDDLE, _CENTRAL * _CENTRAL - q * q)
    return torch.where(q.abs() <= _CENTRAL, middle, torch.copysign(tail_quantile(depth), q))


def tail_quantile(depth: torch.Tensor) -> torch.Tensor:
    """The x with log(1 - Phi(x)) = -depth, for depth > 2.59."""
    r = root(depth)
    x = _ratio(_TAIL, r - 1.6)
    if bool((r > 5).any()):
        x = torch.where(r > 5, _ratio(_FAR_TAIL, r - 5), x)
    return torch.where(r > 27, _far_quantile(depth), x) if bool((r > 27).any()) else x


def _far_quantile(depth: torch.Tensor) -> torch.Tensor:
    """As tail_quantile, for depth > 27^2, where 1 - Phi(x) is m times the density over x, m below 1 by about x^-2."""
    square = double = depth + depth
    for _ in range(5):  # each gains a factor of x^2/2
        m = 1 - (1 - (1 - (5 - 9 / (square + 8)) / (square + 6)) / (square + 4)) / (square + 2)
        square = double - log(square * (2 * math.pi) / (m * m))
    return root(square)


def _ratio(polynomials: _Polynomials, x: torch.Tensor) -> torch.Tensor:
    """Numerator over denominator, both by Horner's rule, at once."""
    *rest, p = columns(polynomials)
    for c in reversed(rest):
        p = p * x + c
    return (p[0] / p[1]).view(x.shape)


@functools.cache
def columns(polynomials: _Polynomials) -> tuple[torch.Tensor, ...]:
    return torch.tensor(polynomials, dtype=F64, device="cpu").T[:, :, None, None].unbind()


def root(x: torch.Tensor) -> torch.Tensor:
    """The square root, 0 of negative numbers. torch's is not used: in one case of a hundred its last bit is wrong."""
    roots = list(map(math.sqrt, x.clamp(min=0).flatten().tolist()))
    return torch.tensor(roots, dtype=F64, device="cpu").view(x.shape)


def log(x: torch.Tensor) -> torch.Tensor:
    """The natural logarithm of normal x > 0: x = 2^k f, 1/sqrt(2) <= f < sqrt(2), and log f = 2 atanh((f - 1)/(f + 1))."""
    pattern = x.view(torch.int64)
    k = pattern - 0x3FE6A09E667F3BCD >> 52
    f = (pattern - (k << 52)).view(F64)
    s = (f - 1) / (f + 1)
    square = s * s
    k = k.to(F64)
    return k * 0.6931471803691238 + ((s + s) + ((s + s) * square * _series(square, 21) + k * 1.9082149292705877e-10))


def log1p(x: torch.Tensor) -> torch.Tensor:
    """log(1 + x) to relative accuracy, for -2/3 <= x <= 2: 2 atanh(x/(2 + x))."""
    s = x / (2 + x)
    square = s * s
    return (s + s) + (s + s) * square * _series(square, 49)


def _series(square: torch.Tensor, last: int) -> torch.Tensor:
    """1/3 + s^2/5 + s^4/7 + ..., to the term over `last`: what atanh(s) is above s, over s^3."""
    series = torch.full_like(square, 1 / last)
    for n in range(last - 2, 1, -2):
        series = series * square + 1 / n
    return series
