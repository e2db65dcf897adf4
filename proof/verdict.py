"""What p values say: which failed, which were weak, whether all of them together are uniform.

Under the null a p value is uniform, so extreme ones come up among thousands. A test fails if its p value is extreme by any
count (two-sided below 1e-6 even after Bonferroni's correction for all p values), or if it is weak (two-sided below 1e-3) and
weak again when it is repeated on a fresh part of the stream, with four times the words (TestU01's tests: as many): one p value
in a million does so by chance. The p values of all first runs must be uniform as well (Kolmogorov-Smirnov, p of at least 1e-6),
those of our tests and those of dieharder's, as `proof.dieharder` mends them; not TestU01's, many of which are of few counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from scipy import stats

from fastinit._commands import console

SURE, WEAK = 1e-6, 1e-3
OURS = "our tests"
REPEATED = 4  # times the words
DEPENDENT = ("/worst", "/least")  # of counts that already gave a p value: no part of the test of uniformity
Run = dict[str, Any]


class Job(NamedTuple):
    stream: str
    test: str  # one of ours; "dieharder" and its options; a battery of TestU01's and a number
    words: int  # of our tests; the others take what they need
    repeat: bool = False

    @property
    def kind(self) -> str:
        return self.test.split()[0]

    @property
    def by(self) -> str:
        return "dieharder" if self.kind == "dieharder" else "TestU01" if self.kind.endswith("crush") else OURS

    @property
    def ours(self) -> bool:
        return self.by == OURS

    @property
    def again(self) -> Job:
        return self._replace(words=REPEATED * self.words, repeat=True)


class Verdict(NamedTuple):
    """The p values that failed or were weak, with that of the repeat; and for each battery how many p values of different words
    there are, and their uniformity."""

    failed: list[str]
    weak: list[str]
    uniform: dict[str, tuple[int, float]]


def job_of(run: Run) -> Job:
    return Job(*(run[field] for field in Job._fields))


def two_sided(p: float) -> float:
    return 2 * min(p, 1 - p)


def judge(runs: Iterable[Run]) -> Verdict:
    done = {job_of(run): run["p"] for run in runs}
    first = {job: found for job, found in done.items() if not job.repeat}
    total, failed, weak = sum(map(len, first.values())), [], []
    for job, found in first.items():
        for name, p in found.items():
            second = done.get(job.again, {}).get(name)
            text = f"{job.stream}: {job.test}: {name}: p = {p:.4g}" + (f", repeated {second:.4g}" if second is not None else "")
            if two_sided(p) * total < SURE or (two_sided(p) < WEAK and second is not None and two_sided(second) < WEAK):
                failed.append(text)
            elif two_sided(p) < WEAK:
                weak.append(text)
    uniform = {OURS: uniformity(ours(first)), "dieharder": uniformity(dieharders(first))}
    uniform = {title: found for title, found in uniform.items() if found[0]}
    failed += [f"{title}: {n} p values are not uniform: p = {p:.2g}" for title, (n, p) in uniform.items() if p < SURE]
    return Verdict(failed, weak, uniform)


def ours(first: dict[Job, dict[str, float]]) -> list[float]:
    """The p values of counts that do not depend on each other, of our tests."""
    found = [pair for job, values in first.items() if job.ours for pair in values.items()]
    return [p for name, p in found if not name.endswith(DEPENDENT)]


def dieharders(first: dict[Job, dict[str, float]]) -> list[float]:
    """The first p value of each of dieharder's tests: the others that one gives are of the same words."""
    return [next(iter(values.values())) for job, values in first.items() if job.by == "dieharder"]


def uniformity(values: list[float]) -> tuple[int, float]:
    """How many p values there are, and the p value of their being uniform."""
    return len(values), float(stats.kstest(values, "uniform").pvalue) if values else 1.0


def table(runs: list[Run], verdict: Verdict) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows: a line a stream."""
    rows = []
    for stream in dict.fromkeys(run["stream"] for run in runs):
        mine = [(job_of(run).by, run) for run in runs if run["stream"] == stream and not run["repeat"]]
        counts = [sum(len(run["p"]) for by, run in mine if by == maker) for maker in (OURS, "dieharder", "TestU01")]
        words = sum(run["fed"] if "fed" in run else run["words"] for _, run in mine)
        least = min(two_sided(p) for _, run in mine for p in run["p"].values())
        found = [sum(text.startswith(f"{stream}:") for text in texts) for texts in (verdict.weak, verdict.failed)]
        rows.append([stream, *map(str, counts), f"{words:.2g}", f"{least:.1e}", *map(str, found)])
    columns = ["stream", "our p values", "dieharder's", "TestU01's", "words", "most extreme", "weak", "failed"]
    return "Words as weights use them (p values; the most extreme one is two-sided)", columns, rows


def conclusions(runs: list[Run], verdict: Verdict) -> list[str]:
    """A line for each battery's uniformity, each weak p value and each that failed, and their number."""
    uniform = verdict.uniform.items()
    lines = [f"{title}: {n} p values are uniform with p = {p:.3g} (Kolmogorov-Smirnov)" for title, (n, p) in uniform]
    lines += [f"{title}: {text}" for title, texts in (("weak", verdict.weak), ("FAILED", verdict.failed)) for text in texts]
    return [*lines, f"{len(verdict.failed)} failures among {sum(len(run['p']) for run in runs if not run['repeat'])} p values"]


def report(runs: list[Run], verdict: Verdict) -> None:
    console.table(*table(runs, verdict))
    print(*conclusions(runs, verdict), sep="\n")
