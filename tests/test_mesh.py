"""Shards on 4 ranks of gloo, each in a process of its own. examples/fsdp2.py, which test_examples.py runs, has 2."""

import pathlib

import pytest
from helpers.running import torchrun

pytestmark = pytest.mark.full

TESTS = pathlib.Path(__file__).parent


def test_shards_on_every_rank_are_those_of_the_whole():
    assert "battery passed on 4 ranks" in torchrun(4, TESTS / "helpers" / "rank_battery.py")
