"""Shards on 2 and 4 ranks of gloo, each in a process of its own."""

import pathlib

import pytest
from helpers.running import torchrun

pytestmark = pytest.mark.full

TESTS = pathlib.Path(__file__).parent


@pytest.mark.parametrize("ranks", [2, 4])
def test_shards_on_every_rank_are_those_of_the_whole(ranks):
    assert f"battery passed on {ranks} ranks" in torchrun(ranks, TESTS / "helpers" / "rank_battery.py")
