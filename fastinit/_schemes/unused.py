"""Rules that match nothing in a model: a name with a slip in it would otherwise leave a parameter to another rule in silence."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from torch import nn
from torch.nn.utils import parametrize

from fastinit._schemes.rules import matches
from fastinit._schemes.scheme import Scheme, expected_of
from fastinit._torch import own_buffers, own_parameters


class Place(NamedTuple):
    """A module of a model."""

    module: nn.Module
    path: str  # its canonical name

    @property
    def attributes(self) -> list[tuple[str, bool]]:
        """The names of its own parameters and buffers, those that are None too; and whether each is a buffer."""
        names = [(name, False) for name in own_parameters(self.module)] + [(name, True) for name in own_buffers(self.module)]
        parametrized = parametrize.is_parametrized(self.module) and cast(Any, self.module).parametrizations
        return names + [(name, False) for name in parametrized or ()]


class Unused(NamedTuple):
    """A rule that matches nothing, in words; and whether it must."""

    words: str
    must: bool


def unused_rules(scheme: Scheme, places: list[Place], meant: Callable[[str], str]) -> list[Unused]:
    """The user's rules that match nothing in a model; one for a type that the model lacks is among them only if it must match.

    A full name may go through any path of a shared module: `meant` gives the one through first paths, which the places have.
    """
    full: list[tuple[str, bool]] = []  # which a scheme of rules for types can do without
    names: set[str] = set()
    found: list[Unused] = []
    for kind, rule, must in expected_of(scheme):
        if not full and (isinstance(kind, str) or not isinstance(rule, Mapping) or any("." in name for name in rule)):
            full = [(joined(place.path, name), buffer) for place in places for name, buffer in place.attributes]
            names = {name for name, _ in full}
        if isinstance(kind, str):
            if not (_match(kind, full) or meant(kind) in names):
                other = f" (of a shared module, which has the first of its names: {meant(kind)!r})"
                found.append(Unused(f"{kind!r}{_nearest(kind, full) if meant(kind) == kind else other}", must))
            continue
        mine = [place for place in places if isinstance(place.module, kind)]
        if must and not mine:
            found.append(Unused(f"{kind.__name__}: the model has none", must))
        asked = mine[:1] if isinstance(rule, Mapping) else mine  # a mapping is the same for all
        for pattern in dict.fromkeys(pattern for place in asked for pattern in _patterns(rule, place.module)):
            if "." in pattern:
                used = any(_match(pattern, _below(place, full)) or meant(joined(place.path, pattern)) in names for place in mine)
            else:
                used = any(_match(pattern, place.attributes) for place in mine)
            if not used:
                near = [name for place in mine for name in place.attributes]
                found.append(Unused(f"{kind.__name__}: {pattern!r}{_nearest(pattern, near)}", must))
    return found


def _patterns(rule: Any, module: nn.Module) -> Iterator[str]:
    """The names that a rule has, but for a lone asterisk: it is there for whatever there is."""
    mapping = rule if isinstance(rule, Mapping) else {} if rule is None else rule(module)
    yield from (pattern for pattern in mapping if pattern != "*")


def _below(place: Place, full: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """The names of what is in a module and below it, relative to it."""
    start = place.path + "." if place.path else ""
    return [(name.removeprefix(start), buffer) for name, buffer in full if name.startswith(start)]


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _match(pattern: str, names: list[tuple[str, bool]]) -> bool:
    return any(matches(name, pattern, buffer) for name, buffer in names)


def _nearest(pattern: str, names: list[tuple[str, bool]]) -> str:
    """A name that may have been meant."""
    near = difflib.get_close_matches(pattern, {name for name, _ in names}, n=1)
    return f" (there is {near[0]!r})" if near else ""
