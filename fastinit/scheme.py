"""Schemes: which initializer each parameter of each module type gets; and `keras_like`, the scheme of Keras 3."""

import fnmatch
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain, groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from fastinit.keras_rules import KERAS_RULES, zero_row_

Initializer = Callable[[Tensor], Any]
Table = Mapping[str, Initializer | None]
Rule = Table | Callable[[nn.Module], Table] | None


class Scheme:
    """A map from module types and parameter names to initializers, itself callable on a module.

    ``model.apply(scheme)`` initialises a model: `torch.nn.Module.apply` hands over one module after the other, and the
    scheme fills the parameters and buffers that the module itself owns. Called on a container alone it does nothing.

    A rule is looked up along the module's class hierarchy, and for each parameter the most derived class that names it
    decides. Within one table an exact name goes before a pattern, and of two patterns the later one decides.

    Left as they are: modules of types without a rule; parameters no rule names; integer and complex
    parameters (quantised modules keep packed integers); modules with parameters that are still uninitialised (Lazy
    modules: apply the scheme again after the first forward pass has given them shapes and their ordinary class); and
    parametrized parameters (``torch.nn.utils.parametrize``, weight_norm, spectral_norm), which are computed from
    others: initialise the module first and parametrize it then.

    Each fill takes a fresh key from torch's default CPU generator, so ``torch.manual_seed`` decides all values.

    Args:
        rules: module type -> rule. A rule is a table, from a parameter's name or a pattern (``"weight_hh*"``, as in
            fnmatch) to an initializer, a callable that fills one tensor in place, or None to leave it as it is;
            or a callable that takes the module and returns such a table, for what depends on its settings;
            or None: modules of this type are left as they are, whatever their base classes say.

    Raises:
        TypeError: a key is no subclass of torch.nn.Module, or a rule is none of the above.

    Reference:
        PyTorch, torch.nn.Module.apply.
    """

    def __init__(self, rules: Mapping[type[nn.Module], Rule]) -> None:
        self._layers: dict[type[nn.Module], tuple[Rule, ...]] = {}
        for kind, rule in rules.items():
            self._layers[kind] = (_checked(kind, rule),)

    def __call__(self, module: nn.Module) -> nn.Module:
        """Fill the parameters and buffers the module itself owns, in the order of their names in it; return it."""
        found = self.initializers(module)
        with torch.no_grad():
            for name, initializer in found.items():
                initializer(getattr(module, name))
        return module

    def initializers(self, module: nn.Module) -> dict[str, Initializer]:
        """Return what the scheme has for a module: name -> initializer, for its own parameters and buffers alone.

        Raises:
            TypeError: the argument is no module.
        """
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"a scheme takes a torch.nn.Module. Received: {module!r} ({type(module).__name__}). "
                "Use model.apply(scheme), or call an initializer on a tensor."
            )
        own = dict(chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False)))
        if any(isinstance(tensor, (UninitializedParameter, UninitializedBuffer)) for tensor in own.values()):
            return {}
        tables, found = self._tables(module), {}
        for name, tensor in own.items():
            initializer = _look_up(tables, name)
            if initializer is not None and _fillable(name, tensor):
                found[name] = _padded(module, name, initializer)
        return found

    def override(self, rules: Mapping[type[nn.Module], Rule]) -> "Scheme":
        """Return a new scheme in which these rules go before this one's; this one stays as it is.

        A table is merged, parameter by parameter: what it does not name keeps its initializer. A callable is merged
        through the table it returns. None replaces everything the scheme has for the type.

        Example:
            ``keras_like.override({nn.Linear: {"weight": partial(fastinit.truncated_normal_, std=0.05)}})``
        """
        scheme = Scheme({})
        scheme._layers = dict(self._layers)
        for kind, rule in rules.items():
            before = () if rule is None else scheme._layers.get(kind, ())
            scheme._layers[kind] = (*before, _checked(kind, rule))
        return scheme

    def __repr__(self) -> str:
        lines = []
        for layers, kinds in groupby(self._layers, key=self._layers.__getitem__):
            rule = " | ".join(_describe(rule) for rule in layers)
            lines.append(f"    {', '.join(kind.__name__ for kind in kinds)}: {rule},")
        return "\n".join(["Scheme({", *lines, "})"])

    def _tables(self, module: nn.Module) -> list[Table]:
        """Return the tables that apply to a module, the one that decides first."""
        tables: list[Table] = []
        for kind in type(module).__mro__:
            for rule in reversed(self._layers.get(kind, ())):
                if rule is None:
                    return tables
                tables.append(rule(module) if callable(rule) else rule)
        return tables


def _checked(kind: type[nn.Module], rule: Rule) -> Rule:
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(
            f"a scheme maps subclasses of torch.nn.Module to rules. Received: {kind!r}. Pass a class such as nn.Linear."
        )
    if rule is not None and not callable(rule) and not isinstance(rule, Mapping):
        raise TypeError(
            f"the rule of {kind.__name__} must be a dict of parameter names to initializers, a callable that takes the "
            f"module and returns one, or None. Received: {rule!r}. Pass e.g. {{'weight': fastinit.glorot_uniform_}}."
        )
    if isinstance(rule, Mapping):
        for name, initializer in rule.items():
            if not isinstance(name, str) or not (initializer is None or callable(initializer)):
                raise TypeError(
                    f"the rule of {kind.__name__} must map names to callables that fill a tensor, or to None. "
                    f"Received: {name!r}: {initializer!r}. Pass e.g. {{'weight': fastinit.glorot_uniform_}}."
                )
    return rule


def _look_up(tables: list[Table], name: str) -> Initializer | None:
    for table in tables:
        if name in table:
            return table[name]
        for pattern in reversed(list(table)):
            if fnmatch.fnmatchcase(name, pattern):
                return table[pattern]
    return None


def _fillable(name: str, tensor: Tensor) -> bool:
    return tensor.is_floating_point() or name == "num_batches_tracked"


def _padded(module: nn.Module, name: str, initializer: Initializer) -> Initializer:
    """Keep the row of an embedding that stands for padding zero, whichever initializer fills the others."""
    if name != "weight" or not isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or module.padding_idx is None:
        return initializer
    return partial(zero_row_, row=module.padding_idx, initializer=initializer)


def _describe(rule: Rule) -> str:
    if isinstance(rule, Mapping):
        return "{" + ", ".join(f"{name!r}: {_name(initializer)}" for name, initializer in rule.items()) + "}"
    return _name(rule)


def _name(value: object) -> str:
    if isinstance(value, partial):
        arguments = [repr(x) for x in value.args] + [f"{k}={_name(v)}" for k, v in value.keywords.items()]
        return f"{_name(value.func)}({', '.join(arguments)})"
    return getattr(value, "__name__", None) or repr(value)


keras_like = Scheme(KERAS_RULES)
