"""What is counted of values: errors, moments, distances, distinct values, probabilities. Of fastinit's and of others' alike."""

from __future__ import annotations

import math
import threading

import numpy as np
import torch

from fastinit._core.recipes import Recipe, recipe
from proof.accuracy.laws import ExactLaw

NARROW = (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
EDGE_BITS = 11  # of a float32, dropped: 2^12 edges a binade, at which distributions are compared
SLOTS = 1 << 32 - EDGE_BITS
BINS = 128  # across the range, for the errors' picture
EXPONENT = 0x7FF << 52  # of a float64's bits
RANGE = 6.5  # sigmas; no 32-bit word gives more


class Tally:
    """Counts of float32 values, each with its number of words; threads may add at once."""

    def __init__(self, law: ExactLaw) -> None:
        self.law, self.lock = law, threading.Lock()
        self.words, self.errors, self.worst = 0, 0.0, 0.0
        self.least_exponent = int(torch.tensor(max(law.unit, 2.0**-126), dtype=torch.float64).view(torch.int64))
        self.least, self.greatest = math.inf, -math.inf
        x, w = law.nodes()
        self.mean = 0.0 if law.symmetric else float(w @ x)
        self.powers = np.zeros(4, dtype=np.longdouble)  # sums of (value - the law's mean)^1 to ^4
        self.slots = torch.zeros(SLOTS, dtype=torch.int64)
        self.seen = torch.from_numpy(np.zeros(1 << 32, dtype=bool))  # by the bits of a value; memory is taken where touched
        self.recipes = {dtype: recipe(law.law, dtype) for dtype in NARROW}
        self.codes = {dtype: torch.zeros(1 << 8 * dtype.itemsize, dtype=torch.int64) for dtype in NARROW}
        self.bins = {name: torch.zeros(BINS, dtype=torch.float64) for name in ("worst", "sum", "count")}
        edges = [edge if math.isfinite(edge) else math.copysign(RANGE, edge) for edge in law.law.parameters[-2:]]
        self.low, self.high = (-RANGE, RANGE) if law.law.name == "normal" else (max(edges[0], -RANGE), edges[1])
        self.high = self.high if self.low >= RANGE else min(self.high, RANGE)

    def add_side(self, values: torch.Tensor, exact: torch.Tensor) -> None:
        """The values of consecutive words, and what they should be."""
        ulps = self.ulps(values, exact)
        worst, total = ulps.max(), ulps.sum()
        distinct, counts = counted(values)
        with self.lock:
            self.worst, self.errors = max(self.worst, float(worst)), self.errors + float(total)
            self.add_to_bins(ulps, worst, total, exact)
        self.add(distinct, counts)

    def ulps(self, values: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        """Errors in units in the last place of the float32 below the exact value."""
        gap = (values.double() - exact).abs_()
        if self.law.period < math.inf:
            gap = torch.minimum(gap, (gap - self.law.period).abs_())
        exponents = (exact.view(torch.int64) & EXPONENT).clamp_(min=self.least_exponent)
        per_gap = (exponents.neg_() + (2 * 1023 + 23 << 52)).view(torch.float64)  # 2^23 / the power of 2 below
        return gap.mul_(per_gap)

    def add_to_bins(self, ulps: torch.Tensor, worst: torch.Tensor, total: torch.Tensor, exact: torch.Tensor) -> None:
        """Errors by where the value lies. A block that lies in one bin, as most do, is added at once."""
        place = (torch.stack([exact[0], exact[-1]]) - self.low) * (BINS / (self.high - self.low))
        first, last = place.long().clamp(0, BINS - 1).tolist()
        if first == last or self.law.period < math.inf:
            pieces = torch.tensor([first])
            sums, most, count = total[None], worst[None], torch.tensor([float(len(ulps))], dtype=torch.float64)
        else:
            pieces = ((exact - self.low) * (BINS / (self.high - self.low))).long().clamp_(0, BINS - 1)
            sums, most, count = ulps, ulps, torch.ones_like(ulps)
        self.bins["worst"].scatter_reduce_(0, pieces, most, "amax")
        self.bins["sum"].index_add_(0, pieces, sums)
        self.bins["count"].index_add_(0, pieces, count)

    def add(self, values: torch.Tensor, counts: torch.Tensor) -> None:
        """Values, each of which `counts` words have, and what narrower dtypes make of them; they may repeat."""
        self.add_values(values, counts)
        for constants in self.recipes.values():
            self.add_narrow(narrowed(values, constants), counts)

    def add_values(self, values: torch.Tensor, counts: torch.Tensor) -> None:
        bits = values.view(torch.int32)
        slots = (bits >> EDGE_BITS & SLOTS - 1).long()
        centred, weighted = values.double() - self.mean, [counts.double()]
        while len(weighted) < 5:  # by torch: NumPy's products of vectors wake threads that then wait in a loop
            weighted.append(weighted[-1] * centred)
        sums = [float(each.sum()) for each in weighted[1:]]
        least, greatest = (float(x) for x in values.aminmax())
        with self.lock:
            self.words += int(counts.sum())
            self.powers += np.array(sums, dtype=np.longdouble)
            self.least, self.greatest = min(self.least, least), max(self.greatest, greatest)
            self.slots.index_add_(0, slots, counts)
            self.seen[bits.long() & 0xFFFFFFFF] = True

    def add_narrow(self, values: torch.Tensor, counts: torch.Tensor) -> None:
        codes = code_of(values)
        with self.lock:
            self.codes[values.dtype].index_add_(0, codes, counts)


def counted(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The distinct values of consecutive words, which lie near each other, with their numbers."""
    bits = values.view(torch.int32)
    least, greatest = (int(x) for x in bits.aminmax())
    if greatest - least > 64 * len(bits):  # around 0 hardly any two are equal
        return counted_bits(values)
    counts = torch.bincount(bits - least)
    found = counts.nonzero().flatten()
    return (found + least).to(torch.int32).view(torch.float32), counts[found]


def counted_bits(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found, counts = values.view(torch.int32).unique(return_counts=True)
    return found.view(torch.float32), counts


def narrowed(values: torch.Tensor, constants: Recipe) -> torch.Tensor:
    """float32 values as the contract makes narrower ones of them: clamped to what the dtype holds inside the bounds, rounded."""
    return values.clamp(constants.low, constants.high).to(constants.dtype)


def code_of(values: torch.Tensor) -> torch.Tensor:
    """The bits of values of 1 or 2 bytes, from 0."""
    integer, mask = (torch.uint8, 0xFF) if values.itemsize == 1 else (torch.int16, 0xFFFF)
    return values.view(integer).long() & mask
