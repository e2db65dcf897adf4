"""Parameters that an applied scheme has left though they may be random: a half-converted model must not look like a whole one."""

from __future__ import annotations

import fnmatch
import warnings
import weakref
from collections.abc import Collection, Mapping

from torch import nn
from torch.nn.utils import parametrize

from fastinit._core.check import depth_of_user, is_frozen
from fastinit._schemes.held import is_varied
from fastinit._schemes.rules import ModuleRules, Rule
from fastinit._torch import children_of, own_parameters


class Leftovers:
    """What one scheme has said. Copies of the scheme begin anew."""

    def __init__(self) -> None:
        self._said: dict[type[nn.Module], weakref.ref[nn.Module]] = {}

    def __reduce__(self) -> tuple[type[Leftovers], tuple[()]]:
        return Leftovers, ()

    def say(self, module: nn.Module, filled: Collection[str], rules: ModuleRules, all_rules: Collection[Rule]) -> None:
        """Warn of what a module has left: once for each class, and again when its first module returns or is gone.

        Args:
            module: the module, after its fill.
            filled: the names of what was filled.
            rules: the scheme's for this module.
            all_rules: all that the scheme has, some of which may fill this module's parameters from an outer one.
        """
        kind = type(module)
        known = self._said.get(kind)
        if (known is not None and known() not in (None, module)) or isinstance(module, parametrize.ParametrizationList):
            return
        below = [name for rule in all_rules if isinstance(rule, Mapping) for name in rule if "." in name]
        names = [
            name
            for name in _random(module)
            if name not in filled
            and rules.find(name, buffer=False) is None
            and not any(fnmatch.fnmatchcase(name, pattern.rpartition(".")[2]) for pattern in below)
        ]
        if names:
            self._said[kind] = weakref.ref(module)
            warnings.warn(
                f"the scheme has no rule for {', '.join(f'{kind.__name__}.{name}' for name in names)}, and has left what may be "
                "random as it was. Add a rule by scheme.override, or None if that is meant; or call fastinit.initialize_, which "
                "names all that no rule fills.",
                UserWarning,
                stacklevel=depth_of_user(),
            )


def _random(module: nn.Module) -> list[str]:
    """The names of a module's parameters that hold varied values, those under a parametrization among them."""
    own = own_parameters(module).items()
    names = [name for name, tensor in own if tensor is not None and not is_frozen(tensor) and is_varied(tensor)]
    if "parametrizations" in children_of(module) and parametrize.is_parametrized(module):
        names += list(module.parametrizations)  # type: ignore[arg-type]
    return names
