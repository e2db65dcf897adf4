"""Is the word stream, as weights use it, random? Our own tests, dieharder's and TestU01's on the streams of `proof.streams`.

    python -m proof.battery                               the long run, of many hours: resumes where it stopped
    python -m proof.battery --minutes 60 --streams parameters,seeds
    python -m proof.battery --tests bigcrush              TestU01's longest battery, which is not run otherwise
    python -m proof.battery --quick                       a slice of a few minutes
    python -m proof.battery --raw parameters | RNG_test stdin32      PractRand, or any program that reads raw words

Where dieharder and TestU01 are not installed, their tests are left out. How they are run is said in `proof.dieharder` and
`proof.testu01`, and what fails in `proof.verdict`; the exit status is then 1.

Reference:
    Knuth, The Art of Computer Programming 2, section 3.3. Doty-Humphrey, PractRand. Salmon et al., "Parallel random numbers:
    as easy as 1, 2, 3", SC 2011, which put Philox through TestU01 for consecutive counters and keys; not for keys out of names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone

import numpy as np
import torch
from scipy import stats

import fastinit
from fastinit._commands import files
from fastinit._commands.measure import commit, torch_threads
from proof import dieharder, programs, streams, testu01
from proof.verdict import REPEATED, WEAK, Job, Run, job_of, judge, report, two_sided

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "battery.json"
OWN = ["bits", "lags", "weights", "serial", "birthdays", "duplicates"]
OWN += ["collisions", "gaps", "maximum", "ranks", "complexity", "walk"]
CRUSHED = ("parameters", "parameters-reversed")  # a model's words from either end: Crush looks at high bits for the most part
SPARE = 64  # words beyond a test's: it spreads discrete p values with them


def p_value(law: str, x: list[float]) -> float:
    """The upper tail of a statistic under its law (battery.h): small where it is too large, near 1 where it is too small."""
    if law == "chi2":
        return float(stats.chi2.sf(x[0], x[1]))
    if law == "normal":
        return float(stats.norm.sf(x[0]))
    if law == "worst":
        return -math.expm1(x[1] * math.log1p(-2 * stats.norm.sf(x[0]))) if x[0] > 0 else 1.0
    below, up_to, spread = x
    if law == "poisson":  # P(X > count), and its share of P(X = count)
        return float(stats.poisson.sf(x[0], x[1]) + (1 - spread) * stats.poisson.pmf(x[0], x[1]))
    return 1 - up_to + (1 - spread) * (up_to - below)


def own(program: str, test: str, words: int, blocks: streams.Blocks) -> dict[str, float]:
    """The p values of one of our tests on `words` words."""
    output, _ = programs.fed([program, test, str(words)], streams.words(blocks, words + SPARE))
    lines = [line.split() for line in output.splitlines()]
    return {name: p_value(law, [float(number) for number in numbers]) for name, law, *numbers in lines}


class Battery:
    """Runs jobs and keeps what they found, in a file if one is given: what it holds is not run again."""

    def __init__(self, program: str, crush: str | None, path: pathlib.Path | None) -> None:
        self.program, self.crush, self.path = program, crush, path
        content = files.read_json(path) if path and path.exists() else {"sessions": [], "runs": []}
        with files.reading(path or RESULTS):
            self.sessions: list[Run] = [*content["sessions"]]
            self.done = {job_of(run): run for run in content["runs"]}
        self.session = facts()

    def due(self, job: Job) -> Job | None:
        """What is to be run next for a job: itself, its repeat, which a weak p value asks for, or nothing."""
        if job not in self.done:
            return job
        weak = any(two_sided(p) < WEAK for p in self.done[job]["p"].values())
        return job.again if weak and job.again not in self.done else None

    def run(self, job: Job) -> None:
        part = part_of(job)
        blocks, began = SOURCES[job.stream](part), time.perf_counter()
        run: Run = {**job._asdict(), "part": part}
        if job.ours:
            found = own(self.program, job.test, job.words, blocks)
        elif job.by == "TestU01":
            assert self.crush
            found, run["fed"] = testu01.run(self.crush, job.test, blocks)
        else:
            more = self.done[job._replace(repeat=False)]["more"] if job.repeat else ""
            options = f"{job.test.removeprefix('dieharder ')} {more}"
            found, run["printed"], run["more"], run["fed"] = dieharder.run(options, blocks, REPEATED)
        run["seconds"] = round(time.perf_counter() - began, 1)
        run["p"] = {name: rounded(p) for name, p in found.items()}
        self.done[job] = run
        self.save()
        extreme = min(map(two_sided, found.values()))
        title = f"{job.stream}: {job.test}{' repeated' * job.repeat}"
        print(f"{title}: {len(found)} p values, the most extreme {extreme:.2g}, {run['seconds']} s", flush=True)

    def save(self) -> None:
        if self.path:
            if self.session not in self.sessions:
                self.sessions.append(self.session)
            lines = ",\n".join(json.dumps(run) for run in self.done.values())
            new = self.path.with_suffix(".new")
            new.write_text(f'{{"sessions": {json.dumps(self.sessions)},\n"runs": [\n{lines}\n]}}\n')
            new.replace(self.path)


def part_of(job: Job) -> int:
    """No two runs see the same words: a stream that is made of another would repeat its p values."""
    tests, first = (TESTS, 0) if job.test in TESTS else (testu01.TESTS, 2 * len(TESTS) * len(SOURCES))
    return first + tests.index(job.test) + len(tests) * (2 * list(SOURCES).index(job.stream) + job.repeat)


def rounded(p: float) -> float:
    """Five digits of the smaller tail."""
    small = min(p, 1 - p)
    return round(p, 4 + (math.ceil(-math.log10(small)) if small > 0 else 0))


def facts() -> Run:
    """What the words and the tests depend on."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        "fastinit": fastinit.__version__,
        "stream_version": fastinit.STREAM_VERSION,
        "torch": torch.__version__,
        "dieharder": dieharder.version(),
    }


def jobs(names: list[str], words: int, quick: bool) -> Iterator[Job]:
    """Our tests and what is fast of the others' on every stream; all of theirs on the first, and Crush on `CRUSHED`."""
    yield from (Job(stream, test, words) for stream in names for test in OWN)
    plan = [(names, dieharder.QUICK)] if quick else [(names[:1], dieharder.MOST), (names[1:], dieharder.FAST)]
    yield from (Job(stream, f"dieharder {options}", 0) for some, tests in plan for stream in some for options in tests)
    if quick:
        plan = [(names[:1], testu01.SMALL)]
    else:
        crushed = [name for name in names if name in CRUSHED] or names[:1]
        plan = [(names, testu01.SMALL), (crushed, testu01.CRUSH), (names[:1], testu01.BIG)]
    yield from (Job(stream, test, 0) for some, tests in plan for stream in some for test in tests)


KINDS = [*OWN, "dieharder", "smallcrush", "crush", "bigcrush"]
TESTS = [*OWN, *(f"dieharder {options}" for options in dieharder.TESTS)]
SOURCES = {**streams.STREAMS, "control": streams.control}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m proof.battery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", default=",".join(streams.STREAMS), help=f"of {', '.join(SOURCES)}; all but control")
    parser.add_argument("--tests", default=",".join(KINDS[:-1]), help="of ours, or of others': all but bigcrush")
    parser.add_argument("--words", type=number, help="of each of our tests: 2^28; with --quick 2^24")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no test later than that")
    parser.add_argument("--quick", action="store_true", help="a slice of a few minutes")
    parser.add_argument("--json", type=pathlib.Path, help=f"keep results here, and resume; {RESULTS.name} without --quick")
    parser.add_argument("--raw", choices=SOURCES, metavar="STREAM", help="write its words to standard output, without end")
    args = parser.parse_args(argv)
    args.words = args.words or (1 << 24 if args.quick else 1 << 28)
    for option, allowed in (("streams", [*SOURCES]), ("tests", KINDS)):
        setattr(args, option, getattr(args, option).split(","))
        for name in getattr(args, option):
            if name not in allowed:
                parser.error(f"--{option}: {name!r} is none of {', '.join(allowed)}.")
    return args


def number(text: str) -> int:
    base, power, exponent = text.partition("^")
    return int(base) ** int(exponent) if power else int(base)


def write_raw(stream: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        for block in SOURCES[stream](0):
            sys.stdout.buffer.write(np.ascontiguousarray(block, "<u4").data)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes what the reader left


def main(argv: list[str] | None = None) -> int:
    args, began = arguments(argv), time.monotonic()
    if args.raw:
        write_raw(args.raw)
        return 0
    path = args.json or (None if args.quick else RESULTS)
    files.check_writable(path)
    wanted = [job for job in jobs(args.streams, args.words, args.quick) if job.kind in args.tests]
    with tempfile.TemporaryDirectory() as folder, torch_threads(1):
        crush = testu01.compiled(folder) if any(job.by == "TestU01" for job in wanted) else None
        missing = {name for name, there in (("dieharder", dieharder.version()), ("TestU01", crush)) if not there}
        for name in missing & {job.by for job in wanted}:
            print(f"{name} is not installed: its tests are left out")
        wanted = [job for job in wanted if job.by not in missing]
        battery = Battery(programs.compiled("battery", folder), crush, path)
        for job in wanted:
            while (due := battery.due(job)) and time.monotonic() - began < 60 * args.minutes:
                battery.run(due)
    runs = list(battery.done.values())
    verdict = judge(runs)
    report(runs, verdict)
    left = sum(battery.due(job) is not None for job in wanted)
    if left:
        print(f"unfinished: {left} of {len(wanted)} tests are left; the same command goes on with them")
    return 1 if verdict.failed else 0


if __name__ == "__main__":
    sys.exit(files.status_of("python -m proof.battery", main))
