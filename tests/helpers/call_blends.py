"""Random calls of blend_, good and bad: each meets the contract, or refuses, says what it was given and leaves all as it was."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import torch
from helpers import calls
from helpers.call_checks import EVERY, counted, is_named, same, snapshot, values_of
from helpers.calls import Place, mostly
from hypothesis import strategies as st

import fastinit

NUMBERS = mostly(st.one_of(st.floats(-4, 4), st.integers(-3, 3), st.just(2.0**-140)), calls.ODD_NUMBERS)
KEYS = mostly(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([np.uint64(2**64 - 1), np.int8(3)])), calls.ODD_KEYS)
LAWS = {
    "normal": fastinit.normal_,
    "uniform": partial(fastinit.uniform_, a=-2.0, b=0.5),
    "cut": partial(fastinit.truncated_normal_, std=0.25),
    "no function": 3,
    "no law": torch.nn.init.normal_,
    "a key of its own": partial(fastinit.normal_, key=1),
    "no width": partial(fastinit.normal_, std=-1.0),
}
GOOD_LAWS = ("normal", "uniform", "cut")
SOURCES = ("none", "none", "itself", "a copy", "a copy", "another shape", "another dtype", "a list")


@st.composite
def arguments(draw) -> dict[str, Any]:
    """Of a call, but for the tensor; some of them are names of what `called` makes of them."""
    given: dict[str, Any] = {"law": draw(mostly(st.sampled_from(GOOD_LAWS), list(LAWS)))}
    several = draw(st.booleans())
    given["key"] = draw(st.lists(KEYS, max_size=3)) if several else draw(KEYS)
    count = draw(st.sampled_from([len(given["key"])] * 8 + [0, 2])) if several else 1
    given["add"] = draw(st.lists(NUMBERS, min_size=count, max_size=count)) if several else draw(NUMBERS)
    given["keep"] = draw(NUMBERS)
    given["source"] = draw(st.sampled_from(SOURCES))
    return given


def source_of(name: str, tensor: torch.Tensor) -> Any:
    plain = torch.ones(tensor.shape, dtype=torch.float32, device=tensor.device)
    return {
        "none": lambda: None,
        "itself": lambda: tensor,
        "a copy": lambda: plain.to(tensor.dtype),
        "another shape": lambda: torch.ones((*tensor.shape, 2)).to(tensor.dtype),
        "another dtype": lambda: plain.to(torch.int64),
        "a list": lambda: [1.0],
    }[name]()


def is_real_of(x: Any, dtype: torch.dtype) -> bool:
    x = calls.plain(x)
    limit = torch.finfo(torch.float64 if dtype is torch.float64 else torch.float32).max
    return calls.is_finite(x) and (dtype is torch.float64 or abs(x) <= limit or abs(float(np.float32(x))) <= limit)


def is_several(x: Any) -> bool:
    return isinstance(x, (list, tuple)) or (isinstance(x, (np.ndarray, torch.Tensor)) and x.ndim > 0)


def faults(given: dict[str, Any], tensor: torch.Tensor) -> list[Any]:
    """What is bad: values that a message may name, or None for what it says in words."""
    found: list[Any] = []
    key, add = given["key"], given["add"]
    if is_several(key) != is_several(add):
        return [key, add]
    keys, numbers = (list(x) if is_several(x) else [x] for x in (key, add))
    found += [] if len(keys) == len(numbers) and keys else [None]
    found += [each for each in keys if not calls.is_key(each)]
    dtype = tensor.dtype if tensor.dtype in calls.FLOATS else torch.float64
    found += [each for each in (*numbers, given["keep"]) if not is_real_of(each, dtype) or isinstance(calls.plain(each), bool)]
    found += [None] * (given["law"] not in GOOD_LAWS)
    return found + [None] * (given["source"] in ("another shape", "another dtype", "a list"))


def blended(tensor: torch.Tensor, given: dict[str, Any], source: Any) -> torch.Tensor:
    return fastinit.blend_(tensor, LAWS[given["law"]], key=given["key"], add=given["add"], keep=given["keep"], source=source)


def check_call(place: Place, given: dict[str, Any]) -> str:
    """Calls, checks, and returns "accepted" or the error's name."""
    tensor = place.tensor
    bad, source = faults(given, tensor) + place.faults, source_of(given["source"], tensor)
    old = None if bad or tensor.is_meta else values_of(tensor)
    before = snapshot(place, None)
    try:
        with torch.inference_mode(place.inference):
            returned = blended(tensor, given, source)
    except (TypeError, ValueError) as error:
        assert snapshot(place, None) == before, f"refused, and not as it was: {error}"
        assert bad, f"a good call was refused: {error}"
        named = [each for each in bad if each is not None]
        assert len(named) < len(bad) or is_named(str(error), [*named, *map(float_of, named)]), f"names nothing given: {error}"
        return type(error).__name__
    assert not bad, f"a bad call was accepted: {bad}"
    assert returned is tensor
    after = snapshot(place, None)
    assert tensor.is_inference() or after[1] > before[1], "the version stands still"
    assert after[2] == before[2], "a draw was taken"
    if not tensor.is_meta:
        one, other = (torch.tensor(list(state[0]), dtype=torch.uint8) for state in (before, after))
        assert torch.equal(one[~place.inside], other[~place.inside]), "a byte beside the tensor has changed"
        with fastinit.backend("reference"):
            expected = blended(old, given, source if given["source"] == "a copy" else None)
        assert same(values_of(tensor), expected), "not the values of a contiguous tensor by the reference backend"
    return "accepted"


def float_of(x: Any) -> Any:
    """As it is written in a message that has made a number of it."""
    x = calls.plain(x)
    return float(x) if calls.is_real(x) and not (isinstance(x, int) and not calls.is_finite(x)) and not math.isnan(x) else x


def explore(examples: int, seed: int | None = None) -> Counter[str]:
    """As that of call_checks.py."""
    refused = tuple(dtype for dtype in EVERY if dtype not in calls.FLOATS)
    return counted(check_call, examples, seed, calls.places(calls.FLOATS, refused, calls.shapes(0, 5)), arguments())
