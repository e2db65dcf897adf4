"""Every word through the native map of one law: all 2^32, in every instruction set of the processor.

A word and its neighbour w ^ 1 have one value, and a law that is symmetric gives a word and its complement opposite values. Both
are asserted bit for bit, for every word and instruction set (in scalar code, where another law takes every word through the
same loop, for the odd words and a 32nd of the even ones); then the 2^30 odd positive words stand for four each.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from fastinit._backends import cpu
from fastinit._core.recipes import Recipe, recipe
from proof.accuracy.laws import ExactLaw
from proof.accuracy.tally import NARROW, Tally, narrowed

CHUNK = 1 << 14  # odd words that one polynomial serves: a range of 2^15
CHUNKS = 8  # in a block, which a thread handles at once: its temporaries stay in the caches
BLOCK = CHUNK * CHUNKS
BLOCKS = (1 << 30) // BLOCK
DIRECT = 128 // CHUNKS  # blocks at either end that get the law's quantile itself: there polynomials would be poor
NARROW_EVERY = 32  # blocks; one of them checks each narrow dtype
SCALAR_EVEN_EVERY = 32  # blocks; one of them gives scalar code, twenty times as slow, the even words too
ALL_SCALAR = (  # a law of each of the library's loops: its scalar code gets every word
    "uniform on +-1",
    "uniform from 0 to 1",
    "normal",
    "truncated normal above 0",
    "fmod normal at 1 sigma",
)
TERMS = 7  # relative error of a chunk, at a 128th of its distance from the singularity: 2^-60
HALF, FULL = 2.0**31, 2.0**-32


class Walk:
    """The walk through the words of one law."""

    def __init__(self, name: str, law: ExactLaw) -> None:
        self.name, self.law, self.tally = name, law, Tally(law)
        self.recipe = recipe(law.law, torch.float32)
        self.narrow = {dtype: recipe(law.law, dtype) for dtype in NARROW}
        best = cpu.isa()
        self.isas = [best, *(isa for isa, reason in cpu.isas().items() if reason is None and isa != best)]
        self.even_every = 1 if name in ALL_SCALAR else SCALAR_EVEN_EVERY
        self.faults: list[str] = []
        self.odd = torch.arange(BLOCK, dtype=torch.int64) * 2 + 1
        within = (2 * np.arange(CHUNK) + 1) / CHUNK - 1
        self.basis = torch.from_numpy(np.polynomial.chebyshev.chebvander(within, TERMS - 1).T.copy())
        self.lock = threading.Lock()

    def run(self, step: int = 1, threads: int | None = None) -> Iterator[int]:
        """Handle every `step`-th block, and both ends; yield a number for each that is done."""
        chosen = [b for b in range(BLOCKS) if b % step == 0 or b < DIRECT or b >= BLOCKS - DIRECT]
        threads = threads or torch.get_num_threads()
        keep_freed_memory()
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(self.block, chosen)

    def block(self, number: int) -> int:
        s = self.odd + 2 * BLOCK * number
        positive = s.to(torch.int32)
        sides = torch.stack([positive, ~positive])
        words = torch.stack([sides, sides ^ 1])
        values = self.transformed(self.recipe, self.isas[0], words)
        self.compare(number, self.isas[0], values[1], values[0])
        for isa in self.isas[1:]:
            given = words[:1] if isa == "scalar" and number % self.even_every else words
            self.compare(number, isa, self.transformed(self.recipe, isa, given), values[: len(given)])
        if self.law.symmetric and not torch.equal(values[0, 0], -values[0, 1]):
            self.fault(number, "a word and its complement do not give opposite values")
        if number % NARROW_EVERY < len(NARROW):
            self.check_narrow(number, NARROW[number % NARROW_EVERY], sides, values[0])
        for side in range(1 if self.law.symmetric else 2):
            self.tally.add_side(values[0, side], self.exact(number, s, side))
        return number

    def transformed(self, constants: Recipe, isa: str, words: torch.Tensor) -> torch.Tensor:
        with cpu.forced_isa(isa):
            return cpu.transform(constants, words)

    def compare(self, number: int, isa: str, values: torch.Tensor, expected: torch.Tensor) -> None:
        if not torch.equal(values.view(torch.int64), expected.view(torch.int64)):  # two at a time: in half the time
            self.fault(number, f"{isa}: not the bits of {self.isas[0]}, or not one value for w and w ^ 1")

    def check_narrow(self, number: int, dtype: torch.dtype, words: torch.Tensor, values: torch.Tensor) -> None:
        """The dtype's values are the float32 values clamped and rounded once."""
        constants, integer = self.narrow[dtype], torch.int8 if dtype.itemsize == 1 else torch.int16
        expected = narrowed(values, constants).view(integer)
        for isa in self.isas:
            if not torch.equal(self.transformed(constants, isa, words).view(integer), expected):
                self.fault(number, f"{isa}: {dtype} is not the rounded float32")

    def fault(self, number: int, text: str) -> None:
        with self.lock:
            self.faults.append(f"{self.name}, words {2 * BLOCK * number:#x} and on, and their complements: {text}")

    def exact(self, number: int, s: torch.Tensor, side: int) -> torch.Tensor:
        """What the block's positive words should give, or (side 1) their complements: z folded after it was interpolated."""
        smooth, period = self.smooth(number, s, side), self.law.period
        if period == math.inf:
            return smooth
        first, last = (math.trunc(float(z) / period) for z in smooth[[0, -1]])
        return smooth.fmod_(period) if first != last else smooth.sub_(first * period) if first else smooth  # as exact, and faster

    def smooth(self, number: int, s: torch.Tensor, side: int) -> torch.Tensor:
        """The law's quantile at the block's words."""
        if number < DIRECT or number >= BLOCKS - DIRECT:
            return self.quantile(s.numpy(), side)
        degrees = np.arange(TERMS)
        angles = np.pi * (degrees + 0.5) / TERMS
        middles = 2.0 * BLOCK * number + CHUNK * (2 * np.arange(CHUNKS) + 1.0)
        at = self.quantile(middles[:, None] + CHUNK * np.cos(angles), side)
        to_series = np.cos(np.outer(angles, degrees)) * np.where(degrees, 2, 1) / TERMS
        return (at @ torch.from_numpy(to_series) @ self.basis).view(-1)

    def quantile(self, s: np.ndarray, side: int) -> torch.Tensor:
        near, far = (HALF - s) * FULL, (HALF + s) * FULL
        return torch.from_numpy(self.law.quantile(near, far) if side else self.law.quantile(far, near))


def keep_freed_memory() -> None:
    """Have glibc keep what a block's temporaries leave: handed back and taken anew, their pages took two thirds of the time."""
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, size in ((trim_threshold, 1 << 28), (top_pad, 1 << 26), (mmap_threshold, 1 << 25)):
            mallopt(parameter, size)
