"""What quick runs leave to full ones: of random examples most, of products of parameters all but what shows each value once."""

import itertools
import pathlib
import re
from collections import Counter, defaultdict

import pytest
from hypothesis import settings

from fastinit._backends.choose import ORDER

QUICK = "quick or not full"  # the -m that pyproject.toml gives


def examples(many: int) -> int:
    """How many examples of `many` this run's profile of Hypothesis takes: its own number stands for a hundred."""
    return max(5, many * settings.default.max_examples // 100)


def some(values, chosen):
    """The values as parameters, of which quick runs take the chosen ones."""
    return [value if value in chosen else pytest.param(value, marks=pytest.mark.full) for value in values]


# A backend that is interpreted takes its time: for tests of many elements.
compiled_backends = pytest.mark.parametrize("backend", some(ORDER, ["native", "reference"]), indirect=True)


def is_full(path: pathlib.Path) -> bool:
    """Whether a whole file is marked full, and none of its tests quick: what it imports, a quick run need not wait for."""
    text = path.read_text()
    whole = re.search(r"^pytestmark = .*\bpytest\.mark\.full\b", text, re.MULTILINE)
    return whole is not None and "@pytest.mark.quick" not in text


def left_to_full(items: list[pytest.Item]) -> list[pytest.Item]:
    """Of the tests that are marked one_of_each, those whose parameters other tests of the same function show already."""
    functions = defaultdict(list)
    for item in items:
        if item.get_closest_marker("one_of_each") and not item.get_closest_marker("full") and hasattr(item, "callspec"):
            functions[item.nodeid.partition("[")[0]].append(item)
    return [item for together in functions.values() for item in beyond_a_cover(together)]


def beyond_a_cover(items: list[pytest.Item]) -> list[pytest.Item]:
    """All but a few tests that show each value: greedily, those that show most new ones, then the rarest values and pairs."""
    values = {item: shown(item) for item in items}
    pairs = {item: {*map(frozenset, itertools.combinations(values[item], 2))} for item in items}
    missing, often = set().union(*values.values()), Counter()

    def worth(item: pytest.Item) -> tuple[int, int, int]:
        return len(values[item] & missing), *(-sum(often[thing] for thing in things[item]) for things in (values, pairs))

    while missing:
        best = max(values, key=worth)
        often.update([*values[best], *pairs[best]])
        missing -= values.pop(best)
    return list(values)


def shown(item: pytest.Item) -> frozenset:
    """The values of a test's parameters, by identity; of those that are given together, all at once."""
    params = item.callspec.params
    names = [marker.args[0] for marker in item.iter_markers("parametrize")]
    together = [tuple(name.strip() for name in (of_one.split(",") if isinstance(of_one, str) else of_one)) for of_one in names]
    together += [(name,) for name in params if not any(name in of_one for of_one in together)]
    return frozenset((of_one, tuple(id(params[name]) for name in of_one)) for of_one in together)
