"""dieharder on a stream of words: which of its tests, how one is run, and p values mended where its last step leaves wrong ones.

A test is a process, as in `dieharder -a`, without `-Y 1`: to add samples until a p value is no longer weak leaves p values that
are not uniform. Left out is Diehard's sums, which dieharder lists as "Do Not Use".

Most tests of dieharder end with a Kolmogorov-Smirnov test of a hundred or a thousand p values. Of n of them in order, version
3.31.1 takes the distance max |p_i - i / (n + 1)|, and gives the probability with which Kolmogorov's own, which is the larger one,
exceeds it (`kstest` in libdieharder/kstest.c works out `d`, then compares `d1`). So its p values lean to 1 whatever the
generator: 29% of them are above 0.8. dieharder shows that itself, with its own AES and its test of that test:

    dieharder -d 204 -t 100 -p 10000 -g 205        rgb_kstest_test ... FAILED

What it prints is therefore taken back to the distance, of which `above` has the exact distribution.

References:
    Marsaglia, Tsang and Wang, "Evaluating Kolmogorov's distribution", Journal of Statistical Software 8 (2003) 18.
    Brown, Eddelbuettel and Bauer, "Dieharder: a random number test suite", version 3.31.1.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import NamedTuple

import numpy as np
from scipy import stats

from proof import programs, streams

TESTS = [
    *(f"-d {number}" for number in (*range(7), *range(8, 14), 15, 16, 100, 101, 102)),
    *(f"-d 200 -n {bits}" for bits in range(1, 13)),
    *(f"-d {number} -n {n}" for number in (201, 202) for n in range(2, 6)),
    *(f"-d 203 -n {lag}" for lag in range(8)),
    *("-d 204", "-d 205", "-d 206", "-d 207", "-d 208", "-d 209"),
    *("-d 7", "-d 17", *(f"-d 203 -n {lag}" for lag in range(8, 33))),
]
# What takes dieharder a quarter of a minute and more: the first stream's alone
SLOW = {"-d 7", "-d 17", *(f"-d 200 -n {bits}" for bits in range(9, 13)), *(f"-d 203 -n {lag}" for lag in range(4, 33))}
FAST = [options for options in TESTS if options not in SLOW]
# All but those that take many minutes, the more the longer the lag. Our own test of lags goes to 8,192.
MOST = [options for options in TESTS if options not in {f"-d 203 -n {lag}" for lag in range(27, 33)}]
QUICK = ["-d 0", "-d 8", "-d 15", "-d 100"]
FIELDS = ("test_name", "ntuple", "tsamples", "psamples", "pvalues")


def above(distance: float, n: int) -> float:
    """P(max |u_i - i / (n + 1)| > distance) of n sorted uniform numbers u_1 < ... < u_n.

    They are the times, out of n + 1, of n events of a Poisson process: number i must fall within `reach` of time i. So at most
    so many may be early when a unit of time ends, and late when one begins; each unit is the same matrix, by events beyond time.
    """
    reach, rest = divmod((n + 1) * distance, 1)
    ahead = np.arange(-reach - 1, reach + 2)

    def events(time: float) -> np.ndarray:
        return stats.poisson.pmf(ahead - ahead[:, None], time)

    late, early = (rest, ahead >= -reach), (1 - rest, ahead <= reach)
    (first, allowed), (second, allowed_then) = (late, early) if rest < 0.5 else (early, late)
    unit = (events(first) * allowed) @ (events(second - first) * allowed_then) @ events(1 - second)
    unit = np.pad(unit[:, 1:], ((0, 0), (0, 1)))  # time has moved on by one, so all are one event less ahead
    start = int(reach) + 1
    kept = np.linalg.matrix_power(unit, n + 1)[start, start - 1] / stats.poisson.pmf(n, n + 1)
    return float(min(max(1 - kept, 0.0), 1.0))


def mended(p: float, n: int) -> float:
    """What a printed p value of n should have been: the share of uniform samples that lie as far from uniform."""
    return above(float(stats.kstwo.isf(p, n)), n) if n > 1 else p


def version() -> str | None:
    """Of the dieharder that is installed, if one is."""
    if not shutil.which("dieharder"):
        return None
    text = subprocess.run(["dieharder", "-h"], capture_output=True, text=True).stdout
    return text.partition("dieharder version ")[2].split()[0]


class Run(NamedTuple):
    """What one test gave: p values by name, mended and as they were printed; the options for more; the words that it took."""

    p: dict[str, float]
    printed: dict[str, float]
    more: str
    words: int


def run(options: str, blocks: streams.Blocks, times: int) -> Run:
    """Runs a test; `more` will ask for so many times the words."""
    fields = [word for field in FIELDS for word in ("-D", field)]
    output, words = programs.fed(["dieharder", *options.split(), "-g", "200", "-c", ",", *fields], blocks)
    printed: dict[str, float] = {}
    for line in output.splitlines():
        name, ntuple, draws, samples, p = (cell.strip() for cell in line.split(","))
        same = sum(other.startswith(f"{name}-{ntuple}/") for other in printed)
        printed[f"{name}-{ntuple}/{same + 1}"] = float(p)
    # The tests that have one p value of many draws (dab_*) give wrong ones, such as 1.0, where -p asks for several.
    more = f"-p {times * int(samples)}" if int(samples) > 1 else f"-t {times * int(draws)}"
    return Run({name: mended(p, int(samples)) for name, p in printed.items()}, printed, more, words)
