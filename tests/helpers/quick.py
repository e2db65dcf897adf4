"""What quick runs leave to full ones: of random examples most, of products of parameters all but what shows each value once."""

import pathlib
import re
from collections import defaultdict

import pytest
from hypothesis import settings

QUICK = "not full"  # the -m that pyproject.toml gives


def examples(many: int) -> int:
    """How many examples of `many` this run's profile of Hypothesis takes: its own number stands for a hundred."""
    return max(5, many * settings.default.max_examples // 100)


def some(values, chosen):
    """The values as parameters, of which quick runs take the chosen ones."""
    return [value if value in chosen else pytest.param(value, marks=pytest.mark.full) for value in values]


def is_full(path: pathlib.Path) -> bool:
    """Whether a whole file is marked full: what it imports, a quick run need not wait for."""
    return re.search(r"^pytestmark = .*\bpytest\.mark\.full\b", path.read_text(), re.MULTILINE) is not None


def left_to_full(items: list[pytest.Item]) -> list[pytest.Item]:
    """Of the tests that are marked one_of_each, those whose parameters other tests of the same function show already."""
    functions = defaultdict(list)
    for item in items:
        if item.get_closest_marker("one_of_each") and not item.get_closest_marker("full") and hasattr(item, "callspec"):
            functions[item.nodeid.partition("[")[0]].append(item)
    return [item for together in functions.values() for item in beyond_a_cover(together)]


def beyond_a_cover(items: list[pytest.Item]) -> list[pytest.Item]:
    """All but a few tests that have each value of each parameter, chosen greedily along the diagonals of the product."""
    values = [set(item.callspec.indices.items()) for item in items]
    missing, left = set().union(*values), dict(enumerate(items))
    while missing:
        best = max(left, key=lambda number: (len(values[number] & missing), -number))
        missing -= values[best]
        del left[best]
    return list(left.values())
