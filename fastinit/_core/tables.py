"""The quantile of a cut normal in float64, and its table: a piecewise polynomial small enough for registers.

The table is looked up by y = offset + scale * d, where d in (0, 1] is the distance of |t| from its end. The exponent and
the top bits of y's mantissa choose a cell, so cells shrink geometrically toward the end, where the quantile is
singular; the remaining bits, read as a number in [0, 2^-k), are the variable of the cell's polynomial, exact by construction.

A symmetric cut stores Q(t)/t: multiplied by t it is exactly odd and keeps its relative accuracy through 0.
Any other cut stores Q itself, one set of cells for each half, in the units of the result.
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import torch

from fastinit._core.normal import F64, PI, PRECISE, Cut, Halves, Point, cut_normal, tail

__all__ = ["Halves", "Point", "Shape", "Table", "cut_normal", "symmetric_table", "tail", "two_sided_table"]


class Shape(NamedTuple):
    """How large a table is: the cells of a half, the terms of a polynomial, and the real type that values are computed in."""

    cells: int
    terms: int
    real: torch.dtype


# Fit error at +-2 sigmas, relative: SMALL 2^-27, LARGE below 2^-27 even for the uncut normal (31 octaves).
SMALL = Shape(32, 5, torch.float32)
LARGE = Shape(64, 7, torch.float32)
DOUBLE = Shape(256, 13, F64)
MANTISSA = {torch.float32: 23, F64: 52}
BIAS = {torch.float32: 127, F64: 1023}
WORD_BITS = {torch.float32: 32, F64: 64}
_ENOUGH = 2.0**-26  # relative fit error below which SMALL serves: a quarter of the rounding of its first coefficient


class Table(NamedTuple):
    """A quantile table: coefficients[half, term, cell] and, per half, y = offset + scale * d."""

    shape: Shape
    top_bits: int  # k: how many mantissa bits belong to the cell's number
    offset: tuple[float, ...]  # one half (symmetric) or two (lower, upper)
    scale: tuple[float, ...]
    coefficients: torch.Tensor  # float64 [halves, terms, cells], not rounded yet


@functools.cache
def chebyshev(terms: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Nodes on [0, 1], values -> Chebyshev coefficients, and those -> monomials on [0, 1] (integers, so exact)."""
    with decimal.localcontext(PRECISE):
        nodes = [_cosine(PI * (2 * j + 1) / (2 * terms)) for j in range(terms)]
        rows = [[Decimal(1)] * terms, nodes]  # T_n at the nodes, by T_(n+1) = 2 x T_n - T_(n-1)
        while len(rows) < terms:
            rows.append([2 * x * last - before for x, last, before in zip(nodes, rows[-1], rows[-2], strict=True)])
        transform = [[float(t * (2 if n else 1) / terms) for t in row] for n, row in enumerate(rows)]
        points = [float((1 + x) / 2) for x in nodes]
    shifted = [[1], [-1, 2]]  # T_n(2x - 1), likewise
    while len(shifted) < terms:
        last, before = shifted[-1], shifted[-2] + [0, 0]
        shifted.append([2 * (2 * up - same) - b for up, same, b in zip([0, *last], [*last, 0], before, strict=True)])
    monomials = [row + [0] * (terms - len(row)) for row in shifted[:terms]]
    return _tensor(points), _tensor(transform), _tensor(monomials).T.contiguous()


def _tensor(values: list[Any]) -> torch.Tensor:
    return torch.tensor(values, dtype=F64, device="cpu")


def _cosine(x: Decimal) -> Decimal:
    """For |x| <= pi."""
    total = term = Decimal(1)
    for n in range(2, 70, 2):
        term *= -x * x / (n * (n - 1))
        total += term
    return total


class _Grid(NamedTuple):
    """The cells that y = offset + scale * d visits for 0 < d <= 1, each with Chebyshev nodes."""

    shape: Shape
    k: int
    offset: float
    scale: float

    @property
    def d(self) -> torch.Tensor:
        """The nodes: float64 [terms, cells]."""
        return _nodes(self)[0]


@functools.lru_cache(maxsize=128)
def _nodes(grid: _Grid) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A grid's nodes, the powers of the ranges of its cells, and the numbers of these in a table.

    The last cell is fitted over its first quarter at least, although d may end before: both kinds of function are smooth past the
    median, and a fit over a narrow part would make the higher coefficients large.
    """
    shape, k, offset, scale = grid
    step = 2.0 ** (1 - WORD_BITS[shape.real])  # d of the outermost word
    first, last = (cell_number(y, k, shape.real) for y in (offset + scale * step, offset + scale))
    number = torch.arange(first, last + 1, device="cpu")
    start = float_of(number, k, shape.real)
    power = float_of(number >> k, 0, shape.real)
    fitted = ((offset + scale - start) / power).clamp(2.0**-k / 4, 2.0**-k)  # the range of r
    d = (start - offset + (power * fitted) * chebyshev(shape.terms)[0][:, None]) / scale
    return d, _powers(fitted, shape.terms), number % shape.cells


def _product(matrix: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The matrix product, summed in this order on every machine: in a library's, the order depends on the machine."""
    total, *rest = (matrix.T[:, :, None] * columns[:, None]).unbind()
    for products in rest:
        total = total + products
    return total


def _fit(halves: list[_Function], grids: list[_Grid]) -> torch.Tensor:
    """Float64 coefficients [halves, terms, cells] of functions of d.

    Interpolation at Chebyshev nodes, within a factor 2 of the best polynomial; the variable is r in [0, 2^-k).
    """
    shape = grids[0].shape
    values, powers, places = [], [], []
    for function, grid in zip(halves, grids, strict=True):
        values.append(function(grid))
        powers.append(_nodes(grid)[1])
        places.append(_nodes(grid)[2])
    _, transform, monomials = chebyshev(shape.terms)
    base = [part[:1] for part in values]  # taken out of the sums below, whose rounding then is the variation's
    variations = [part - first for part, first in zip(values, base, strict=True)]
    # Of subnormal sums each would round to a whole ulp.
    boosts = [2.0**600 if float(part.abs().max()) < 2.0**-1046 else 1.0 for part in variations]
    boosted = [part if boost == 1 else part * boost for part, boost in zip(variations, boosts, strict=True)]
    local = _product(monomials, _product(transform, torch.cat(boosted, 1))) / torch.cat(powers, 1)
    table = torch.zeros(len(halves), shape.terms, shape.cells, dtype=F64, device="cpu")
    for half, part in enumerate(local.split([len(place) for place in places], 1)):
        scaled = part if boosts[half] == 1 else part / boosts[half]
        scaled[:1] += base[half]
        # Of values near the end of float64's range the last cell's, of which d = 1 alone is visited, may leave it.
        table[half, :, places[half]] = scaled.nan_to_num(0.0, 0.0, 0.0)
    return table


def _powers(x: torch.Tensor, terms: int) -> torch.Tensor:
    """x^0, x^1, ... as rows."""
    rows = [torch.ones_like(x)]
    while len(rows) < terms:
        rows.append(rows[-1] * x)
    return torch.stack(rows)


def float_of(number: torch.Tensor, k: int, real: torch.dtype) -> torch.Tensor:
    """Where cells begin: the inverse of cell_number, by the bits of float64."""
    return (number + ((BIAS[F64] - BIAS[real]) << k) << MANTISSA[F64] - k).view(F64)


def cell_number(y: float, k: int, real: torch.dtype) -> int:
    """Exponent field and top k mantissa bits of y > 0 as one integer; consecutive for consecutive cells."""
    fraction, exponent = math.frexp(y)  # y = fraction * 2^exponent, fraction in [1/2, 1)
    return ((exponent - 1 + BIAS[real]) << k) + int((fraction * 2 - 1) * 2**k)


def mapping(shape: Shape, k: int, distance: float) -> tuple[float, float]:
    """The offset and scale of y for a function that has a singularity `distance` past its end.

    Best is y = 0 at the singularity; the offset is then rounded down to where a cell begins. Where that takes more cells than
    there are, y runs from 1 to just below 2^octaves. Both numbers are exact in the table's real type, and of so few bits that
    for float32 offset + scale * d is exact in float64, whatever float32 d is.
    """
    octaves = shape.cells / 2.0**k
    if octaves >= WORD_BITS[shape.real] and distance < 2.0 ** -WORD_BITS[shape.real]:
        return 0.0, 1.0
    end = 2.0 ** min(octaves, 100) * (1 - 2.0**-12)
    widest = (1.0, end - 1 if octaves <= 12 else end)  # 1 + end stays below 2^octaves then, and end has but 12 bits
    if distance * (end - 1) < 1:
        return widest if octaves < WORD_BITS[shape.real] else (0.0, 1.0)
    fraction, exponent = math.frexp(min(distance, 1.0))
    offset = math.ldexp(math.floor(fraction * 2 ** (k + 1)), exponent - k - 1)
    fits = cell_number(offset + 1, k, shape.real) - cell_number(offset, k, shape.real) < shape.cells
    return (offset, 1.0) if fits else widest


def _expected_error(shape: Shape, k: int, distance: float) -> float:
    """Estimate the relative error of the fit, from the Bernstein ellipse of the first cell, which ends at the singularity.

    The factor 0.1 was measured.
    """
    offset, scale = mapping(shape, k, distance)
    half_width = 2.0 ** -(k + 1)
    from_singularity = 1 + half_width + (scale * distance / offset - 1 if offset else 0)
    ratio = max(from_singularity / half_width, 1.0)
    return 0.1 / math.prod([ratio + math.sqrt(ratio * ratio - 1)] * shape.terms)


_Function = Callable[[_Grid], torch.Tensor]


@functools.lru_cache(maxsize=1024)
def _grids(distances: tuple[float, ...], shapes: tuple[Shape, ...]) -> list[_Grid]:
    """The grids of the halves, by how far past its end each is singular: of the first shape that is accurate enough (else of the
    last), with the k that fits it best."""

    def error(shape: Shape, k: int) -> float:
        return max(_expected_error(shape, k, distance) for distance in distances)

    for shape in shapes:
        k = min((5, 4, 3, 2, 1) if shape.real is torch.float32 else (2,), key=lambda k: error(shape, k))
        if error(shape, k) <= _ENOUGH:
            break
    return [_Grid(shape, k, *mapping(shape, k, distance)) for distance in distances]


def _tabulate(halves: list[_Function], distances: list[float], shapes: list[Shape]) -> Table:
    grids = _grids(tuple(distances), tuple(shapes))
    offsets, scales = (tuple(numbers) for numbers in zip(*(grid[2:] for grid in grids), strict=True))
    return Table(grids[0].shape, grids[0].k, offsets, scales, _fit(halves, grids))


def symmetric_table(cut: Cut, shapes: list[Shape]) -> Table:
    """Q(t)/t of a cut with low = -high."""
    return _tabulate([lambda grid: cut.odd_over_t(grid.d)], [2 * cut.above / cut.mass], shapes)


def two_sided_table(law: Halves, shapes: list[Shape]) -> Table:
    """The quantile of any law, the lower and the upper half.

    Where an end of the interval lies near 0 (a half-normal), cells shrink toward it too, for relative accuracy.
    """
    middle = float(law.upper(Point(1.0)))
    distances = []
    for bound, distance in zip(law.bounds, law.distances, strict=True):
        distance = min(distance, 4.0)
        if math.isfinite(bound) and bound * middle >= 0 and bound != middle:
            distance = min(distance, abs(bound) / abs(middle - bound))
        distances.append(distance)
    return _tabulate([law.lower, law.upper], distances, shapes)
