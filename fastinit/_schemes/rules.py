"""Rules: what a scheme may hold, checked, and what its rules say about one name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from torch import nn

from fastinit._core.laws import Initializer

Mapped = Mapping[str, Initializer | None]  # a name, or a pattern for names -> what fills it; None: left as it is
Rule = Mapped | Callable[[Any], Mapped] | None  # of a module type; a callable takes the module
# From subclasses of nn.Module to their rules, and from patterns for full names to initializers, or None.
Rules = Mapping[Any, Rule | Initializer]


class Choice(NamedTuple):
    """What fills a parameter; None: it is left as it is."""

    initializer: Initializer | None
    by_name: bool = False  # by a rule of the user's for its full name
    own: bool = False  # by a rule of the user's


@dataclass
class ModuleRules:
    """What a scheme has for one module: mappings, the one that decides first, and whether a None ends the search."""

    mappings: list[tuple[Mapped, bool]]  # whether it is the user's
    closed: bool
    found: dict[tuple[str, bool], Choice | None] = field(default_factory=dict)
    _below: list[str] | None = None

    def find(self, name: str, buffer: bool) -> Choice | None:
        """The choice for a name relative to the module: with a dot, of a parameter or buffer of a submodule."""
        asked = name, buffer
        if asked not in self.found:
            self.found[asked] = self._find(name, buffer)
        return self.found[asked]

    def _find(self, name: str, buffer: bool) -> Choice | None:
        for mapping, own in self.mappings:
            if name in mapping:
                return Choice(mapping[name], own=own)
            for pattern in reversed(list(mapping)):
                if ("." in pattern or "." not in name) and matches(name, pattern, buffer):
                    return Choice(mapping[pattern], own=own)
        return Choice(None) if self.closed and "." not in name else None

    @property
    def below(self) -> list[str]:
        """The names that they have for parameters of submodules."""
        if self._below is None:
            self._below = [name for mapping, _ in self.mappings for name in mapping if "." in name]
        return self._below


_Function = TypeVar("_Function", bound=Callable[..., Mapped])


def for_strangers(function: _Function) -> _Function:
    """Declare that a rule that takes the module has nothing for those of torch.nn's own classes: it need not be asked."""
    function.__fastinit_strangers__ = True  # type: ignore[attr-defined]
    return function


def is_for(rule: Any, kind: type[nn.Module]) -> bool:
    """Whether a rule may have something for a module of a class."""
    return not (hasattr(getattr(rule, "func", rule), "__fastinit_strangers__") and _is_torchs(kind))


def _is_torchs(kind: type[nn.Module]) -> bool:
    """Whether a class is one of torch.nn's own, for whose parameters there are rules by type."""
    return kind.__module__.startswith("torch.nn.modules.")


def matches(name: str, pattern: str, buffer: bool) -> bool:
    """Whether a pattern is a name, or covers it as in fnmatch; but one that ends in a bare asterisk covers parameters only."""
    if name == pattern:  # which may have brackets
        return True
    if buffer and pattern.rpartition(".")[2] == "*":
        return False
    return fnmatch.fnmatchcase(name, pattern)


def check_type_rule(kind: Any, rule: Any) -> None:
    """Raise TypeError for what is not a module type and its rule."""
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(
            "a scheme maps subclasses of torch.nn.Module, or patterns for full names, to rules. "
            f"Received: {kind!r}. Pass a class such as nn.Linear."
        )
    if rule is not None and not callable(rule) and not isinstance(rule, Mapping):
        raise TypeError(
            f"the rule of {kind.__name__} must be a dict of parameter names to initializers, a callable that takes the "
            f"module and returns one, or None. Received: {rule!r}. Pass e.g. {{'weight': fastinit.glorot_uniform_}}."
        )
    for name, initializer in rule.items() if isinstance(rule, Mapping) else ():
        if not isinstance(name, str) or not (initializer is None or callable(initializer)):
            raise TypeError(
                f"the rule of {kind.__name__} must map names to callables that fill a tensor, or to None. "
                f"Received: {name!r}: {initializer!r}. Pass e.g. {{'weight': fastinit.glorot_uniform_}}."
            )


def check_name_rule(pattern: str, rule: Any) -> None:
    """Raise TypeError for what is not the rule of a full name."""
    if rule is not None and not callable(rule):
        raise TypeError(
            f"the rule of the name {pattern!r} must be an initializer, or None. Received: {rule!r}. "
            "Pass a callable that fills a tensor, such as fastinit.zeros_."
        )
