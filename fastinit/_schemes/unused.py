"""Rules that match nothing in a model: a name with a slip in it would otherwise leave a parameter to another rule in silence."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, cast

from torch import nn
from torch.nn.utils import parametrize

from fastinit._schemes.rules import matches
from fastinit._schemes.scheme import Scheme, expected_of
from fastinit._torch import own_buffers, own_parameters

Place = tuple[nn.Module, str]  # a module of a model, and its canonical path


def _attributes(module: nn.Module) -> list[tuple[str, bool]]:
    """The names of its own parameters and buffers, those that are None too; and whether each is a buffer."""
    names = [(name, False) for name in own_parameters(module)] + [(name, True) for name in own_buffers(module)]
    parametrized = parametrize.is_parametrized(module) and cast(Any, module).parametrizations
    return names + [(name, False) for name in parametrized or ()]


class Unused(NamedTuple):
    """A rule that matches nothing, in words; and whether it must."""

    words: str
    must: bool


def unused_rules(scheme: Scheme, places: Collection[Place], meant: Callable[[str], str]) -> list[Unused]:
    """The user's rules that match nothing in a model; one for a type that the model lacks is among them only if it must match.

    A full name may go through any path of a shared module: `meant` gives the one through first paths, which the places have.
    """
    full: list[tuple[str, bool]] = []  # which a scheme of rules for types can do without
    names: set[str] = set()
    found: list[Unused] = []
    for kind, rule, must in expected_of(scheme):
        if not full and (isinstance(kind, str) or not isinstance(rule, Mapping) or any("." in name for name in rule)):
            full = [(joined(path, name), buffer) for module, path in places for name, buffer in _attributes(module)]
            names = {name for name, _ in full}
        if isinstance(kind, str):
            if not (_match(kind, full) or meant(kind) in names):
                other = f" (of a shared module, which has the first of its names: {meant(kind)!r})"
                found.append(Unused(f"{kind!r}{_nearest(kind, full) if meant(kind) == kind else other}", must))
            continue
        mine = [place for place in places if isinstance(place[0], kind)]
        if must and not mine:
            found.append(Unused(f"{kind.__name__}: the model has none", must))
        asked = mine[:1] if isinstance(rule, Mapping) else mine  # a mapping is the same for all
        for pattern in dict.fromkeys(pattern for module, _ in asked for pattern in _patterns(rule, module)):
            if "." in pattern:
                used = any(_match(pattern, _below(path, full)) or meant(joined(path, pattern)) in names for _, path in mine)
            else:
                used = any(_match(pattern, _attributes(module)) for module, _ in mine)
            if not used:
                near = [name for module, _ in mine for name in _attributes(module)]
                found.append(Unused(f"{kind.__name__}: {pattern!r}{_nearest(pattern, near)}", must))
    return found


def _patterns(rule: Any, module: nn.Module) -> Iterator[str]:
    """The names that a rule has, but for a lone asterisk: it is there for whatever there is."""
    mapping = rule if isinstance(rule, Mapping) else {} if rule is None else rule(module)
    yield from (pattern for pattern in mapping if pattern != "*")


def _below(path: str, full: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """The names of what is in a module and below it, relative to it."""
    start = path + "." if path else ""
    return [(name.removeprefix(start), buffer) for name, buffer in full if name.startswith(start)]


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _match(pattern: str, names: list[tuple[str, bool]]) -> bool:
    return any(matches(name, pattern, buffer) for name, buffer in names)


def _nearest(pattern: str, names: list[tuple[str, bool]]) -> str:
    """A name that may have been meant."""
    near = difflib.get_close_matches(pattern, {name for name, _ in names}, n=1)
    return f" (there is {near[0]!r})" if near else ""
