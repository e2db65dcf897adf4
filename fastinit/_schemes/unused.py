"""Rules that match nothing in a model: a name with a slip in it would otherwise leave a parameter to another rule in silence."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import nn

from fastinit._schemes.rules import matches
from fastinit._schemes.scheme import Scheme, expected_of


class Place(NamedTuple):
    """A module of a model."""

    module: nn.Module
    path: str  # its canonical name
    attributes: list[tuple[str, bool]]  # its own parameters and buffers, those that are None too; whether each is a buffer


class Unused(NamedTuple):
    """A rule that matches nothing, in words; and whether it must."""

    words: str
    must: bool


def unused_rules(scheme: Scheme, places: list[Place]) -> list[Unused]:
    """The user's rules that match nothing in a model; one for a type that the model lacks is among them only if it must match."""
    expected = expected_of(scheme)
    full = [(_joined(place.path, name), buffer) for place in places for name, buffer in place.attributes] if expected else []
    found: list[Unused] = []
    for kind, rule, must in expected:
        if isinstance(kind, str):
            found += [] if _match(kind, full) else [Unused(f"{kind!r}{_nearest(kind, full)}", must)]
            continue
        mine = [place for place in places if isinstance(place.module, kind)]
        if must and not mine:
            found.append(Unused(f"{kind.__name__}: the model has none", must))
        for pattern in dict.fromkeys(pattern for place in mine for pattern in _patterns(rule, place.module)):
            if not any(_match(pattern, _below(place, full) if "." in pattern else place.attributes) for place in mine):
                names = [name for place in mine for name in place.attributes]
                found.append(Unused(f"{kind.__name__}: {pattern!r}{_nearest(pattern, names)}", must))
    return found


def _patterns(rule: Any, module: nn.Module) -> Iterator[str]:
    """The names that a rule has, but for a lone asterisk: it is there for whatever there is."""
    mapping = rule if isinstance(rule, Mapping) else {} if rule is None else rule(module)
    yield from (pattern for pattern in mapping if pattern != "*")


def _below(place: Place, full: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """The names of what is in a module and below it, relative to it."""
    start = place.path + "." if place.path else ""
    return [(name.removeprefix(start), buffer) for name, buffer in full if name.startswith(start)]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _match(pattern: str, names: list[tuple[str, bool]]) -> bool:
    return any(matches(name, pattern, buffer) for name, buffer in names)


def _nearest(pattern: str, names: list[tuple[str, bool]]) -> str:
    """A name that may have been meant."""
    near = difflib.get_close_matches(pattern, {name for name, _ in names}, n=1)
    return f" (there is {near[0]!r})" if near else ""
