"""docs/noise.md: its code runs, its table is what its command prints, its recipes learn what they say."""

import pathlib
import re

import pytest
import torch
from helpers.running import run
from torch import nn

import fastinit
from benchmarks import noise_drift

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "noise.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.mark.parametrize("code", BLOCKS)
def test_the_code_of_the_page_runs(code):
    """Each block by itself, with a model; and what a block says of bits, it asserts."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    exec(code, {"fastinit": fastinit, "torch": torch, "nn": nn, "model": model})
    if "source=snapshot" in code:
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_the_table_is_what_its_command_prints():
    """Which counts bits: no machine has others."""
    assert re.search(r"<!-- drift:begin -->\n(.*?)\n<!-- drift:end -->", PAGE, re.S)[1] == noise_drift.text()


def example(name, *arguments):
    pytest.importorskip("sklearn")
    return run(str(ROOT / "examples" / name), *arguments)


def percents(text):
    return [float(each) for each in re.findall(r"([\d.]+)%", text)]


@pytest.mark.full
def test_an_evolution_strategy_learns():
    """A third of the steps, which are to learn most of what all do: 92.5 % of the digits."""
    assert percents(example("evolution.py", "50"))[-1] > 65


@pytest.mark.full
def test_mezo_learns():
    """A fifth of the steps: from 82 %."""
    before, after = percents(example("mezo.py", "200"))
    assert before < 84 and after > before + 2


@pytest.mark.full
def test_shrink_and_perturb():
    scratch, warm, shrunk = example("shrink_and_perturb.py", "2").splitlines()
    assert all(percents(line)[0] > 93 for line in (scratch, warm, shrunk))


@pytest.mark.full
def test_the_pull_toward_the_initial_weights_is_that_of_copies():
    *runs, last = example("toward_initial.py").splitlines()
    distances = [float(re.search(r"([\d.]+) from the initial", line)[1]) for line in runs]
    assert distances[1] == pytest.approx(distances[2], rel=0.01) and distances[2] < 0.9 * distances[0]
    assert float(re.search(r"at most (\S+) of", last)[1]) < 3e-7 and "bytes not kept" in last
