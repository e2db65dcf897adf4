"""docs/guide/noise.md: its code runs, its table is what its command prints, its recipes learn what they say."""

import pathlib
import re
import runpy
import sys

import pytest
import torch
from torch import nn

import fastinit
from benchmarks import noise_drift

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "guide" / "noise.md").read_text()
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


@pytest.fixture
def example(monkeypatch, capsys):
    """A function that runs a script of examples/ in this process, which has torch already, and gives what it prints."""
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(EXAMPLES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these networks are small: two threads wait for each other

    def printed(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    yield printed
    torch.set_num_threads(threads)


def percents(text):
    return [float(each) for each in re.findall(r"([\d.]+)%", text)]


@pytest.mark.full
def test_an_evolution_strategy_learns(example):
    """A third of the steps, which are to learn most of what all do: 91 % of the digits."""
    assert percents(example("evolution.py", "50"))[-1] > 65


@pytest.mark.full
def test_mezo_learns(example):
    """A fifth of the steps: from 82 %."""
    before, after = percents(example("mezo.py", "200"))
    assert before < 84 and after > before + 2


@pytest.mark.full
def test_warm_networks_are_worse_than_shrunk_ones(example):
    """By 4 percent points or so, each of ten, where their spread is 1. The page has what is printed; processors may differ."""
    *lines, last = example("shrink_and_perturb.py").splitlines()
    scratch, warm, shrunk = found = [percents(line)[0] for line in lines]
    assert warm < min(scratch, shrunk) - 2.5
    stated = re.search(r"\| 20 % \| 20 \| ([\d.]+) \+- \S+ \| ([\d.]+) \+- \S+ \| ([\d.]+) \+-", PAGE)
    assert [float(each) for each in stated.groups()] == pytest.approx(found, abs=1)
    better = re.fullmatch(r"better than warm, of 10 networks: from scratch (\d+), shrunk (\d+)", last)
    assert min(map(int, better.groups())) >= 9


@pytest.mark.full
def test_the_pull_toward_the_initial_weights_keeps_a_network_able_to_learn(example):
    """And it is that of copies, to the rounding of one step."""
    alone, pulled, last = example("toward_initial.py").splitlines()
    (first, end), (pulled_first, pulled_end) = percents(alone), percents(pulled)
    assert min(first, pulled_first) > 50 and end < 40 and pulled_end > 45
    assert float(re.search(r"at most (\S+) of", last)[1]) < 3e-7 and "35,880 bytes not kept" in last
