"""Shards on 2 and 4 ranks of gloo, each in a process of its own."""

import pathlib

import pytest
from helpers.quick import some
from helpers.running import torchrun

TESTS = pathlib.Path(__file__).parent


@pytest.mark.parametrize("ranks", some([2, 4], [2]))
def test_shards_on_every_rank_are_those_of_the_whole(ranks):
    assert f"battery passed on {ranks} ranks" in torchrun(ranks, TESTS / "helpers" / "rank_battery.py")
