"""`python -m proof.accuracy` on a part of the words: both ends and every 128th block, all laws, all instruction sets here."""

import json
import math

import mpmath
import numpy as np
import pytest
import torch

from fastinit._backends import cpu
from fastinit._commands import console
from fastinit._core import recipes
from proof.accuracy import command, count, report, summary
from proof.accuracy.laws import LAWS
from proof.accuracy.tally import NARROW, Tally, narrowed
from proof.accuracy.walk import ALL_SCALAR, BLOCK, BLOCKS, DIRECT, Walk

pytestmark = pytest.mark.full

REASON = cpu.unavailable(torch.device("cpu"))
needs_native = pytest.mark.skipif(REASON is not None, reason=f"native: {REASON}")
STEP = 128
TWO = "truncated normal at 2 sigmas"
mpmath.mp.dps = 40


@needs_native
@pytest.mark.parametrize("name", LAWS)
def test_a_part_of_the_words(name):
    walk = Walk(name, LAWS[name])
    done = sum(1 for _ in walk.run(STEP))
    assert done == BLOCKS // STEP + 2 * DIRECT - 1  # block 0 is both
    found = count.figures(walk)
    assert found["words"] == done * BLOCK * 2
    assert walk.faults + count.broken_promises(walk, found) == []
    assert found["errors"]["mean"] <= 0.6


def test_scalar_code_gets_every_word_in_each_loop():
    def loop(name):
        constants = recipes.recipe(LAWS[name].law, torch.float32)
        return constants.kind, constants.flip != 0, constants.table is not None and len(constants.table)

    loops = [loop(name) for name in ALL_SCALAR]
    assert len(set(loops)) == len(loops) == len({loop(name) for name in LAWS}) == 5


def exact_quantile(name, below):
    """By 40 digits, of the mass below as an exact number of 2^-32."""
    low, high = LAWS[name].bounds
    if name.startswith("uniform"):
        return low + (mpmath.mpf(high) - low) * below
    low, high = (-mpmath.inf, mpmath.inf) if name.startswith("fmod") else (low, high)
    upper = lambda x: mpmath.erfc(x / mpmath.sqrt(2)) / 2  # noqa: E731
    tails = [upper(mpmath.mpf(x)) if mpmath.isfinite(x) else mpmath.mpf(x < 0) for x in (low, high)]
    target = tails[1] + (tails[0] - tails[1]) * (1 - below)  # the mass above
    guess = mpmath.mpf(float(LAWS[name].quantile(np.array(float(below)), np.array(float(1 - below)))))
    for _ in range(4):  # Newton: doubles 10 digits at least to 40
        guess += (upper(guess) - target) / mpmath.npdf(guess)
    return guess


@pytest.mark.parametrize("name", LAWS)
def test_the_laws_quantiles_against_40_digits(name):
    """What errors are counted against is itself exact to a 2^-20th of an ulp."""
    law, worst = LAWS[name], 0.0
    odd = [1, 3, 1001, 2**20 + 1, 2**28 + 1, 2**31 - 2**26 - 1, 2**31 - 3, 2**31 - 1]
    for number in [*odd, *(2**32 - x for x in odd), *range(12345677, 2**32, 2**32 // 97 + 1)]:
        below = mpmath.mpf(number) / 2**32
        exact = exact_quantile(name, below)
        found = mpmath.mpf(float(law.quantile(np.array(number / 2**32), np.array(1 - number / 2**32))))
        size = max(abs(exact), law.unit, mpmath.mpf(2) ** -126)
        worst = max(worst, float(abs(found - exact) / size))
    assert worst <= 2.0**-24 * 2.0**-20


@pytest.mark.parametrize("name", LAWS)
def test_masses_and_moments_of_the_laws(name):
    """The mass below and above add up, invert the quantile, and the quadrature has the moments of SciPy's truncnorm."""
    from scipy import stats

    law, (low, high) = LAWS[name], LAWS[name].bounds
    below = np.linspace(0.01, 0.99, 99)
    x = np.fmod(law.quantile(below, 1 - below), law.period)
    assert np.abs(law.below(x) + law.above(x) - 1).max() < 1e-12
    if law.period == math.inf:
        assert np.abs(law.below(x) - below).max() < 1e-11
    wanted = stats.uniform(low, high - low) if name.startswith("uniform") else stats.truncnorm(low, high)
    if not name.startswith("fmod"):
        mean, variance = wanted.stats("mv")
        found = summary.law_moments(law)
        assert abs(found["mean"] - mean) < 1e-9 and abs(found["variance"] - variance) < 1e-8


def brute(values, law):
    """Figures of some values, counted one by one."""
    mean = 0.0 if law.symmetric else float(law.nodes()[1] @ law.nodes()[0])
    ordered = np.sort(values.astype(np.float64))
    return len(np.unique(ordered)), ordered.mean(), ((ordered - ordered.mean()) ** 2).mean(), mean


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_tally_counts_what_it_is_given(mirrored):
    """Against NumPy, on draws of the law itself; the half above 0 with its mirror image, or all."""
    law = LAWS[TWO]
    draws = torch.from_numpy(law.quantile(*(lambda u: (u, 1 - u))(np.random.default_rng(3).random(40001)))).float()
    draws = torch.cat([draws, draws[:5000], torch.tensor([2.0, -2.0])])
    half = draws.abs() if mirrored else draws
    tally = Tally(law)
    tally.add(half, torch.ones(len(half), dtype=torch.int64))
    found = summary.figures(tally, mirrored)
    whole = torch.cat([half, -half]).numpy() if mirrored else half.numpy()
    distinct, mean, variance, _ = brute(whole, law)
    assert (found["distinct"], found["words"]) == (distinct, len(whole))
    assert abs(found["moments"]["mean"] - mean) < 1e-12 and abs(found["moments"]["variance"] - variance) < 1e-12
    assert (found["least"], found["greatest"]) == (-2.0, 2.0)
    points = np.array([found["distance_at"]])
    share = (whole < points).mean()
    assert abs(abs(share - law.below(points)[0]) - found["distance"]) < 1e-12
    ordered = np.sort(whole.astype(np.float64))
    exact = np.abs(np.arange(len(ordered)) / len(ordered) - law.below(ordered)).max()
    assert exact / 2 < found["distance"] <= exact + 1e-4
    for dtype in NARROW:
        values, words = summary.tallied(tally, dtype, mirrored)
        rounded = narrowed(torch.from_numpy(whole), tally.recipes[dtype]).double().numpy()
        occurring, counts = np.unique(rounded, return_counts=True)
        assert np.array_equal(values[words > 0], occurring) and np.array_equal(words[words > 0], counts)
        assert abs(summary.masses(law, values).sum() - 1) < 1e-12


def test_an_error_is_seen():
    """A wrong constant, a value outside, an asymmetry, a wrong rounding: each is a fault."""
    walk = Walk(TWO, LAWS[TWO])
    block = BLOCKS // 2  # t around 1/2; a block that checks bfloat16
    good = walk.transformed

    def sabotage(change, only=None):
        found = Walk(TWO, LAWS[TWO])

        def transformed(constants, isa, words):
            values = good(constants, isa, words)
            return change(values.clone(), words) if only in (None, constants.dtype) else values

        found.transformed = transformed
        found.block(block)
        return found

    assert sabotage(lambda values, words: values).faults == []
    stretched = sabotage(lambda values, words: values * (1 + 2**-20))
    assert count.broken_promises(stretched, count.figures(stretched))
    beyond = sabotage(lambda values, words: values + 2)
    assert any("leave" in fault for fault in count.broken_promises(beyond, count.figures(beyond)))
    lopsided = sabotage(lambda values, words: torch.where(values > 0, values, values.nextafter(torch.tensor(-3.0))))
    assert any("opposite" in fault for fault in lopsided.faults)
    even = sabotage(lambda values, words: torch.where(words & 1 == 0, -values, values))
    assert any("w ^ 1" in fault for fault in even.faults)
    rounding = sabotage(lambda values, words: values.abs(), only=torch.bfloat16)
    assert any("rounded float32" in fault for fault in rounding.faults)


def test_tables_show_every_law_and_dtype():
    tally = Tally(LAWS[TWO])
    draws = torch.linspace(-2, 2, 1001)
    tally.add(draws, torch.ones(1001, dtype=torch.int64))
    found = {"errors": {"worst": 1.0, "mean": 0.5}, **summary.figures(tally, False)}
    rows = [*report.errors({TWO: found}).rows, *report.narrow({TWO: found}).rows, *report.moments({TWO: found}).rows]
    assert all(len(row) >= 5 and row[0] == TWO for row in rows)
    assert rows[0][4] == "1,001" and rows[0][5:] == ("-2", "2")


def test_laws_are_chosen_by_their_names():
    assert count.chosen([]) == list(LAWS)
    assert count.chosen(["normal"]) == ["normal"]
    assert count.chosen(["fmod", TWO]) == [TWO, *[name for name in LAWS if name.startswith("fmod")]]
    with pytest.raises(SystemExit, match="no law is called 'cauchy'"):
        count.chosen(["cauchy"])


@needs_native
def test_the_command_on_a_few_words(tmp_path, monkeypatch, capsys):
    """It prints the tables and writes the files that it is asked for; a fault of a value is its exit status."""
    run, file, folder = Walk.run, tmp_path / "figures.json", tmp_path / "probabilities"
    monkeypatch.setattr(Walk, "run", lambda walk: run(walk, 2048))
    assert command.main(["--laws", "uniform on,truncated normal at 1", "--json", str(file), "--probabilities", str(folder)]) == 0
    printed, found = capsys.readouterr().out, json.loads(file.read_text())
    assert "float32, every word" in printed and "no faults" in printed
    chosen = ["uniform on +-1", "truncated normal at 1 sigma", "truncated normal at 100 sigmas"]
    assert list(found["laws"]) == chosen and found["faults"] == [] and found["peers"] == {}
    assert len(list(folder.iterdir())) == len(chosen) * len(NARROW)
    lines = (folder / "uniform-on-+-1.float8_e5m2.csv").read_text().splitlines()
    assert lines[0] == ",".join(count.COLUMNS) and lines[1].startswith("-1.0,")
    assert abs(sum(int(line.split(",")[1]) for line in lines[1:]) - 2**32) < len(lines)
    monkeypatch.setitem(LAWS, chosen[0], LAWS[chosen[0]]._replace(promise=0.25))
    assert command.main(["--laws", chosen[0]]) == 1
    assert "promised are 0.25" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "missing", "extra"), [([], "scipy", "test"), (["--page"], "matplotlib", "test-all")])
def test_missing_packages_are_named(monkeypatch, capsys, option, missing, extra):
    monkeypatch.setattr(console, "installed", lambda name: name != missing)
    assert command.main(option) == 2
    message = capsys.readouterr().err
    assert f"missing packages: {missing}" in message and f"pip install -e '.[{extra}]'" in message
