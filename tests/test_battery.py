"""The battery of random bits: it fails bad generators, and good ones give uniform p values; the streams are the words they claim
to be, and their slices pass."""

import collections
import functools
import itertools
import json
import math
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.bad_generators import BAD, SLICE, one_key_twice, sfc, weyl
from helpers.oracle import word32

import fastinit

pytest.importorskip("scipy")
from scipy.stats import kstest

from proof import battery, dieharder, programs, streams, testu01, verdict

pytestmark = pytest.mark.full

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("needs a C++ compiler")
    return programs.compiled("battery", tmp_path_factory.mktemp("battery"))


def tried(program: str, test: str, words: np.ndarray) -> dict[str, float]:
    """Two-sided p values."""
    found = battery.own(program, test, len(words), iter([words, sfc(0, battery.SPARE)]))
    return {name: verdict.two_sided(p) for name, p in found.items()}


@pytest.mark.parametrize("make, count, tests", BAD.values(), ids=BAD)
def test_bad_generators_fail(program, make, count, tests):
    words = make(count)
    assert len(words) == count
    for test in tests:
        # As in a long run, in which thousands of p values are judged together.
        assert min(tried(program, test, words).values()) < verdict.SURE / 10_000, test


def test_every_test_has_a_generator_that_fails_it():
    assert {test for _, _, tests in BAD.values() for test in tests} == set(battery.OWN)


REPETITIONS = 50
LENGTHS = dict.fromkeys(battery.OWN, SLICE) | {"collisions": 1 << 20, "lags": 1 << 15, "complexity": 1 << 17}


@pytest.mark.parametrize("test", battery.OWN)
def test_good_generators_give_uniform_p_values(program, test):
    found, length = collections.defaultdict(list), LENGTHS[test]
    for seed in range(REPETITIONS):
        source = np.random.Generator(np.random.PCG64(seed))
        block = source.integers(0, 1 << 32, length + battery.SPARE, dtype=np.uint32)
        for name, p in battery.own(program, test, length, iter([block])).items():
            found[name].append(p)
    for name, values in found.items():
        ranks = np.arange(REPETITIONS + 1) / REPETITIONS
        distance = max(np.max(ranks[1:] - np.sort(values)), np.max(np.sort(values) - ranks[:-1]))
        # Dvoretzky, Kiefer and Wolfowitz: P(distance > d) <= 2 exp(-2 n d^2); here one in 10^5
        assert distance < math.sqrt(math.log(2e5) / (2 * REPETITIONS)), (name, sorted(values))
        assert len(values) == REPETITIONS, name


@functools.cache
def first_words(name: str) -> np.ndarray:
    return np.concatenate(list(streams.words(battery.SOURCES[name](0), SLICE + battery.SPARE)))


@pytest.mark.parametrize("name", battery.SOURCES)
def test_a_slice_of_every_stream_passes(program, name):
    runs = []
    for test in battery.OWN:
        length = 1 << 15 if test == "lags" else SLICE
        found = battery.own(program, test, length, iter([first_words(name)]))
        runs.append({**verdict.Job(name, test, length)._asdict(), "p": found})
    assert verdict.judge(runs).failed == []
    assert min(verdict.two_sided(p) for run in runs for p in run["p"].values()) > verdict.WEAK / 60  # of about 60 p values


# --- the streams are the words that they claim to be --------------------------------------------------------------------------

EMBEDDING = fastinit.key(0, "embed_tokens.weight")
KEYS = [fastinit.key(0, name) for name in streams.names()]
BASE = fastinit.key(0, "one-bit", 0)
BASES = [BASE, *(BASE ^ 1 << bit for bit in range(64))]
LOCAL, SHARDED = streams.SIDE // streams.RANKS, fastinit.key(0, "sharded", 0)
FAR = fastinit.key(0, "far")


def reverse(word: int) -> int:
    return int(f"{word:032b}"[::-1], 2)


def packed(word_at, position: int) -> int:
    return sum((word_at(4 * position + i) & 255) << 8 * i for i in range(4))


def parameter_word(position: int) -> int:
    return word32(KEYS[position % 4096], position // 4096)


def embedding_word(position: int) -> int:
    return word32(EMBEDDING, position)


def difference(position: int) -> int:
    element, number = divmod(position, 4095)
    return word32(KEYS[number], element) ^ word32(KEYS[number + 1], element)


def sharded_word(position: int) -> int:
    place, rank = divmod(position, streams.RANKS)
    return word32(SHARDED, place // LOCAL * streams.SIDE + rank * LOCAL + place % LOCAL)


WORD_AT = {
    "consecutive": embedding_word,
    "parameters": parameter_word,
    "parameter-differences": difference,
    "parameters-low-bits": functools.partial(packed, parameter_word),
    "parameters-reversed": lambda i: reverse(parameter_word(i)),
    "one-bit-keys": lambda i: word32(BASES[i % 65], i // 65),
    "one-bit-differences": lambda i: word32(BASES[1 + i % 64], i // 64) ^ word32(BASE, i // 64),
    "counting-keys": lambda i: word32(i % 4096, i // 4096),
    "seeds": lambda i: word32(fastinit.key(i % 4096, "embed_tokens.weight"), i // 4096),
    "shards": sharded_word,
    "two-streams": lambda i: word32(fastinit.key(0, "float64"), i // 2, 1 - i % 2),
    "far": lambda i: word32(FAR, (1 << 34) - streams.BLOCK // 8 + i),
    "low-bits": functools.partial(packed, embedding_word),
    "reversed": lambda i: reverse(embedding_word(i)),
}


@pytest.mark.parametrize("name", streams.STREAMS)
def test_streams_are_what_they_claim(name):
    words = first_words(name)
    for position in (0, 1, 2, 63, 64, 65, 2047, 4094, 4095, 4096, 4097, 65_535, 65_536, SLICE - 1):
        assert words[position] == WORD_AT[name](position), position


def test_later_blocks_go_on_and_parts_differ():
    starts = {}
    for name, stream in streams.STREAMS.items():
        blocks = [block[:64].tobytes() for block in itertools.islice(stream(0), 2)]
        starts[name] = [*blocks, next(stream(1))[:64].tobytes()]
        assert len(set(starts[name])) == 3, name
    second = next(itertools.islice(streams.consecutive(0), 1, None))
    assert second[5] == embedding_word(streams.BLOCK + 5)
    rows = next(itertools.islice(streams.shards(0), 1, None))
    key, local = fastinit.key(0, "sharded", 1), streams.SIDE // streams.RANKS * streams.SIDE
    assert [*rows[:3], rows[8]] == [*(word32(key, rank * local) for rank in range(3)), word32(key, 1)]
    carry = next(itertools.islice(streams.far(0), 1, None))
    assert carry[streams.BLOCK // 8 + 1] == word32(FAR, (1 << 62) + (1 << 34) + 1)


# --- the verdict, and the command ---------------------------------------------------------------------------------------------


def runs_of(*values: tuple[float, float | None]) -> list[dict]:
    """Runs of one p value each, and their repeats."""
    runs = []
    for number, (p, again) in enumerate(values):
        job = verdict.Job("seeds", f"test {number}", 0)
        runs.append({**job._asdict(), "p": {"x": p}})
        runs += [{**job.again._asdict(), "p": {"x": again}}] if again is not None else []
    return runs


@pytest.mark.parametrize(
    "p, again, failed, weak",
    [
        (0.5, None, 0, 0),
        (1e-4, None, 0, 1),
        (1 - 1e-4, None, 0, 1),
        (1e-4, 0.3, 0, 1),
        (1e-4, 1e-4, 1, 0),
        (1e-4, 1 - 1e-4, 1, 0),
        (1e-7, 0.3, 0, 1),
        (1e-9, None, 1, 0),
        (1e-9, 0.3, 1, 0),
        (1 - 1e-9, None, 1, 0),
        (1.0, None, 1, 0),
    ],
)
def test_what_fails(p, again, failed, weak):
    found = verdict.judge(runs_of((p, again), *((i / 50, None) for i in range(1, 50))))
    assert (len(found.failed), len(found.weak)) == (failed, weak)


@pytest.mark.parametrize("values", [np.linspace(0.4, 0.6, 100), np.linspace(0.01, 0.7, 200), np.full(30, 0.5)], ids=len)
def test_p_values_that_are_not_uniform_fail(values):
    runs = runs_of(*((float(p), None) for p in values))
    assert len(verdict.judge(runs).failed) == 1
    found = verdict.judge({**run, "test": f"dieharder -d {number}"} for number, run in enumerate(runs))
    assert len(found.failed) == 1 and list(found.uniform) == ["dieharder"]


def test_of_a_run_of_dieharder_the_first_p_value_must_be_uniform():
    """The others are of the same words."""
    job = verdict.Job("seeds", "dieharder", 0)
    runs = [{**job._replace(test=f"dieharder -n {i}")._asdict(), "p": {"x": i / 100, "y": 0.5}} for i in range(1, 100)]
    found = verdict.judge(runs)
    assert found.failed == [] and found.uniform["dieharder"][0] == 99


def command(*options: str) -> int:
    return battery.main(["--tests", "duplicates,gaps", "--words", "2^18", *options])


def test_the_command_keeps_its_results_and_goes_on(program, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(programs, "compiled", lambda *source: program)
    file = tmp_path / "results.json"
    assert command("--streams", "consecutive", "--json", str(file)) == 0
    first = json.loads(file.read_text())
    assert [run["test"] for run in first["runs"]] == ["duplicates", "gaps"]
    assert command("--streams", "consecutive,far", "--json", str(file)) == 0
    second = json.loads(file.read_text())
    assert second["runs"][:2] == first["runs"] and len(second["runs"]) == 4
    capsys.readouterr()
    assert command("--streams", "consecutive,far,shards", "--json", str(file), "--minutes", "0") == 0
    assert "unfinished: 2 of 6" in capsys.readouterr().out
    assert json.loads(file.read_text()) == second


def test_the_command_fails_on_a_bad_stream(program, monkeypatch, capsys):
    monkeypatch.setattr(programs, "compiled", lambda *source: program)
    monkeypatch.setitem(battery.SOURCES, "control", lambda part: itertools.repeat(one_key_twice(1 << 20)))
    assert battery.main(["--tests", "duplicates", "--words", "2^20", "--streams", "control", "--quick"]) == 1
    assert "FAILED: control: duplicates" in capsys.readouterr().out


def test_weak_tests_are_repeated_with_more_and_other_words(monkeypatch, tmp_path):
    seen = []

    def weak(program, test, words, blocks):
        seen.append((words, next(blocks)[:64].tobytes()))
        return {"x": 1e-4}

    monkeypatch.setattr(battery, "own", weak)
    monkeypatch.setattr(programs, "compiled", lambda *source: "")
    file = tmp_path / "results.json"
    assert battery.main(["--tests", "gaps", "--words", "1000", "--streams", "consecutive", "--json", str(file)]) == 1
    (words, block), (more, other) = seen
    assert (words, more) == (1000, 4000) and block != other
    battery.main(["--tests", "gaps", "--words", "1000", "--streams", "consecutive", "--json", str(file)])
    assert len(seen) == 2


@pytest.mark.parametrize("option, value", [("--streams", "parameter"), ("--tests", "gap"), ("--words", "many")])
def test_wrong_options_are_refused(option, value, capsys):
    with pytest.raises(SystemExit) as refused:
        battery.main([option, value])
    assert refused.value.code == 2 and value in capsys.readouterr().err


def test_raw_words_leave_by_standard_output():
    command = [sys.executable, "-W", "ignore::RuntimeWarning", "-m", "proof.battery", "--raw", "consecutive"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        words = np.frombuffer(process.stdout.read(40_000), "<u4")
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0
    assert np.array_equal(words, first_words("consecutive")[:10_000])


# --- dieharder ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, reaches", [(1, (0.1, 0.3)), (2, (0.2, 0.4)), (7, (0.1, 0.25)), (100, (0.04, 0.06, 0.09, 0.13))])
def test_the_distance_of_uniform_numbers_that_dieharder_takes(n, reaches):
    samples = np.sort(np.random.default_rng(n).random((100_000, n)), axis=1)
    distances = np.abs(samples - np.arange(1, n + 1) / (n + 1)).max(axis=1)
    for reach in reaches:
        share = dieharder.above(reach, n)
        assert abs((distances > reach).mean() - share) < 5 * math.sqrt(share * (1 - share) / 100_000) < 0.01


@pytest.mark.parametrize("distance", [0.2, 0.3, 0.5, 0.6])
def test_the_distance_of_two_numbers_by_plane_geometry(distance):
    """u_1 < u_2, each in its interval: two triangles less what both lack."""
    (a, b), (c, d) = ((max(middle - distance, 0), min(middle + distance, 1)) for middle in (1 / 3, 2 / 3))
    points = (np.arange(2000) + 0.5) / 2000
    u = points[:, None]
    inside = (u < points) & (a < u) & (u < b) & (c < points) & (points < d)
    assert abs(1 - 2 * inside.mean() - dieharder.above(distance, 2)) < 2e-3


def test_printed_p_values_are_mended():
    assert dieharder.mended(0.25, 1) == 0.25, "a test of one p value has no last step"
    printed = [1.0, 1 - 1e-8, 0.9, 0.5, 0.1, 1e-3, 1e-8]
    for n in (100, 400, 1000, 4000):
        found = [dieharder.mended(p, n) for p in printed]
        assert found == sorted(found, reverse=True) and 0 <= found[-1] < 1e-8 and found[0] == 1.0
        assert all(mended < p for mended, p in zip(found[1:], printed[1:], strict=True))
        assert max(p - mended for mended, p in zip(found, printed, strict=True)) < 1 / math.sqrt(n)


needs_dieharder = pytest.mark.skipif(not shutil.which("dieharder"), reason="needs dieharder")


@needs_dieharder
def test_dieharder_fails_its_own_generator_by_its_own_test():
    """Which is why its p values are mended: should a version come whose are right, this says so."""

    def printed(seed: int, *options: str) -> float:
        command = ["dieharder", "-S", str(seed), *options, "-g", "205", "-c", ",", "-D", "pvalues"]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert printed(1, "-d", "204", "-t", "100", "-p", "10000") < verdict.SURE
    found = [printed(seed, "-d", "100", "-t", "10000", "-p", "100") for seed in range(1, 201)]
    assert kstest([dieharder.mended(p, 100) for p in found], "uniform").pvalue > 1e-2


@needs_dieharder
def test_dieharder_reads_the_words():
    found = dieharder.run("-d 100 -p 20", streams.consecutive(0), 4)
    assert list(found.p) == ["sts_monobit-1/1"] and found.more == "-p 80" and abs(found.words - 2_000_000) <= 2 * programs.PIECE
    assert found.p["sts_monobit-1/1"] == dieharder.mended(found.printed["sts_monobit-1/1"], 20)
    assert verdict.two_sided(found.p["sts_monobit-1/1"]) > verdict.WEAK
    found = dieharder.run("-d 100 -p 20", itertools.repeat(weyl(1 << 20) | np.uint32(1)), 4)
    assert found.p["sts_monobit-1/1"] < verdict.SURE


# --- TestU01 ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crush(tmp_path_factory):
    found = testu01.compiled(tmp_path_factory.mktemp("testu01"))
    return found or pytest.skip("needs TestU01 and a C++ compiler")


def test_testu01_reads_the_words(crush):
    found, words = testu01.run(crush, "smallcrush 2", streams.consecutive(0))
    assert list(found) == ["Collision/0"] and words > 5_000_000
    assert verdict.two_sided(found["Collision/0"]) > verdict.WEAK
    found, _ = testu01.run(crush, "smallcrush 2", itertools.repeat(one_key_twice(1 << 20)))
    assert verdict.two_sided(found["Collision/0"]) < verdict.SURE


@pytest.mark.parametrize("arguments", [[], ["crush"], ["crush", "97"], ["crush", "-1"], ["crush", "1x"], ["rabbit", "1"]])
def test_testu01s_program_refuses(crush, arguments):
    found = subprocess.run([crush, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert found.returncode == 2 and "usage" in found.stderr


def test_words_that_end_are_not_tested(crush):
    with pytest.raises(RuntimeError, match="exited with 3"):
        testu01.run(crush, "smallcrush 2", iter([first_words("consecutive")]))


def test_what_cannot_be_compiled_says_why(tmp_path):
    with pytest.raises(programs.NotCompiled, match="no-such-option"):
        programs.compiled("battery", tmp_path, "--no-such-option")


def test_without_testu01_and_dieharder_our_own_tests_are_left(program, monkeypatch, capsys):
    monkeypatch.setattr(programs, "compiled", lambda *source: program)
    monkeypatch.setattr(testu01, "compiled", lambda folder: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    options = ["--tests", "gaps,dieharder,smallcrush,crush", "--words", "2^18", "--streams", "consecutive", "--quick"]
    assert battery.main(options) == 0
    out = capsys.readouterr().out
    assert "TestU01 is not installed" in out and "dieharder is not installed" in out and "unfinished" not in out


def test_every_job_has_its_own_part():
    """Streams that are made of one another must not repeat one another's p values."""
    parts = [
        battery.part_of(verdict.Job(stream, test, 0, repeat))
        for stream in battery.SOURCES
        for test in [*battery.TESTS, *testu01.TESTS]
        for repeat in (False, True)
    ]
    assert len(set(parts)) == len(parts)
