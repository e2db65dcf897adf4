"""Parameters that an applied scheme has left though they may be random: a half-converted model must not look like a whole one."""

from __future__ import annotations

import fnmatch
import warnings
import weakref
from collections.abc import Callable, Collection, Mapping

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastinit._core.check import depth_of_user, is_frozen
from fastinit._schemes.held import is_varied
from fastinit._schemes.rules import Choice, ModuleRules, Rule
from fastinit._torch import children_of, own_parameters


class Leftovers:
    """What one scheme has said. Copies of the scheme begin anew."""

    def __init__(self) -> None:
        self._said: dict[type[nn.Module], weakref.ref[nn.Module]] = {}

    def __reduce__(self) -> tuple[type[Leftovers], tuple[()]]:
        return Leftovers, ()

    def say(self, module: nn.Module, filled: Collection[str], rules: Callable[[], tuple[ModuleRules, list[Rule]]]) -> None:
        """Warn of what a module has left: once for each class, and again when its first module returns or is gone.

        Args:
            module: the module, after its fill.
            filled: the names of what was filled.
            rules: gives the scheme's for this module, and all that it has: some may fill the module's from an outer one.
        """
        if torch.compiler.is_compiling():
            return
        kind = type(module)
        known = self._said.get(kind)
        if (known is not None and known() not in (None, module)) or isinstance(module, parametrize.ParametrizationList):
            return
        names = _random(module, filled)
        if names:
            (own, others), mine = rules(), own_parameters(module)
            below = [name for rule in others if isinstance(rule, Mapping) for name in rule if "." in name]
            names = [name for name in names if not _is_below(name, below) and _is_left(own.find(name, False), name in mine)]
        if names:
            self._said[kind] = weakref.ref(module)
            left = ", ".join(f"{kind.__name__}.{name}" for name in names)
            warnings.warn(
                f"the scheme has left {left} as it was, which may be random: no rule fills it, or it is parametrized. Add a rule "
                "by scheme.override, or None if that is meant; or call fastinit.initialize_, which names all that no rule fills, "
                "and fills what weight_norm parametrizes.",
                UserWarning,
                stacklevel=depth_of_user(),
            )


def _is_left(choice: Choice | None, plain: bool) -> bool:
    """Whether no rule says that a parameter stays; one that is parametrized stays whatever fills it."""
    return choice is None or (choice.initializer is not None and not plain)


def _is_below(name: str, patterns: list[str]) -> bool:
    """Whether a pattern for names below a module may mean a parameter."""
    return any(fnmatch.fnmatchcase(name, pattern.rpartition(".")[2]) for pattern in patterns)


def _random(module: nn.Module, filled: Collection[str]) -> list[str]:
    """The names of a module's parameters that were not filled and hold varied values, or are parametrized."""
    left = [(name, tensor) for name, tensor in own_parameters(module).items() if name not in filled and tensor is not None]
    names = [name for name, tensor in left if not is_frozen(tensor) and is_varied(tensor)]
    if "parametrizations" in children_of(module) and parametrize.is_parametrized(module):
        names += list(module.parametrizations)  # type: ignore[arg-type]
    return names
