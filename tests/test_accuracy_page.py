"""docs/accuracy.md shows the committed results, those are of a clean run, and the README quotes them."""

import json
import pathlib
import subprocess
import sys

import pytest

from proof.accuracy.laws import LAWS

pytestmark = pytest.mark.full

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = json.loads((ROOT / "proof" / "results" / "accuracy.json").read_text())


def test_the_page_is_up_to_date():
    command = [sys.executable, "-m", "proof.accuracy", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_results_are_of_every_law_and_word():
    assert list(RESULTS["laws"]) == list(LAWS) and RESULTS["faults"] == []
    for name, found in RESULTS["laws"].items():
        assert found["words"] == 1 << 31, name  # the odd ones, each of which has its neighbour's value
        assert found["errors"]["worst"] <= LAWS[name].promise
    assert not RESULTS["machine"]["commit"].endswith("-dirty")
    assert set(RESULTS["peers"]) == {"torch", "keras", "jax"}
