"""Schemes: which initializer each parameter of each module type gets."""

import fnmatch
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain, groupby, zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils.parametrize import ParametrizationList

from fastinit import _text
from fastinit._core.laws import Initializer, declares, law_of
from fastinit._core.shard import fill_rows_
from fastinit._schemes.calling import fill_with
from fastinit._torch import own_buffers, own_parameters

Table = Mapping[str, Initializer | None]
Rule = Table | Callable[[nn.Module], Table] | None
Rules = Mapping[Any, Any]  # type[nn.Module] -> Rule, or a pattern for full names -> Initializer | None


class Tables(NamedTuple):
    """What a scheme has for one module: tables, the one that decides first, and whether a None ends the search."""

    tables: list[Table]
    closed: bool

    def find(self, name: str, buffer: bool) -> "Choice | None":
        """The choice for a name relative to the module: with a dot, of a parameter or buffer of a submodule."""
        for table in self.tables:
            if name in table:
                return Choice(table[name])
            for pattern in reversed(list(table)):
                if ("." in pattern or "." not in name) and matches(name, pattern, buffer):
                    return Choice(table[pattern])
        return Choice(None) if self.closed and "." not in name else None

    @property
    def reach(self) -> bool:
        """Whether they name parameters of submodules."""
        return any("." in name for table in self.tables for name in table)


class Choice(NamedTuple):
    """What fills a parameter; None: nothing shall."""

    initializer: Initializer | None


class Scheme:
    """A map from module types and parameter names to initializers, itself callable on a module.

    ``model.apply(scheme)`` initialises a model: `torch.nn.Module.apply` hands over one module after the other, and the
    scheme fills the parameters and buffers that the module itself owns. Called on a container alone it does nothing.
    `fastinit.initialize_` does the same in one batched fill, with a key of its own for every parameter.

    A rule is looked up along the module's class hierarchy, and for each parameter the most derived class that names it
    decides. Within one table an exact name goes before a pattern, and of two patterns the later one decides. Names with
    dots (``"attention.output.weight"``, ``"blocks.*.weight"``) are of parameters of submodules, relative to the module;
    they go before the submodule's own rule, and the outermost module's before an inner one's.

    Left as they are: modules of types without a rule; parameters no rule names; integer and complex
    parameters (quantised modules keep packed integers); modules with parameters that are still uninitialised (Lazy
    modules: apply the scheme again after the first forward pass has given them shapes and their ordinary class); and
    parametrized parameters (``torch.nn.utils.parametrize``, weight_norm, spectral_norm), which are computed from
    others: initialise the module first and parametrize it then. (`fastinit.initialize_` reports or refuses these.)

    Applied, each fill takes a fresh key from torch's default CPU generator, so ``torch.manual_seed`` decides all values.

    Args:
        rules: module type -> rule. A rule is a table, from a parameter's name or a pattern (``"weight_hh*"``, as in
            fnmatch) to an initializer, a callable that fills one tensor in place, or None to leave it as it is;
            or a callable that takes the module and returns such a table, for what depends on its settings;
            or None: modules of this type are left as they are, whatever their base classes say. Tables may name buffers
            too; a pattern that ends in a bare ``*`` covers parameters alone.
            A string instead of a type is a pattern for the full names of parameters in the model, with an initializer
            or None; it goes before all rules by type, the later before the earlier. Only `fastinit.initialize_`, which
            knows the full names, takes schemes with such rules.

    Raises:
        TypeError: a key is neither subclass of torch.nn.Module nor str, or a rule is none of the above.

    Reference:
        PyTorch, torch.nn.Module.apply.
    """

    def __init__(self, rules: Rules) -> None:
        self._layers: dict[type[nn.Module], tuple[Rule, ...]] = {}
        self._names: dict[str, Initializer | None] = {}
        self._add(rules)

    def __call__(self, module: nn.Module) -> nn.Module:
        """Fill the parameters and buffers the module itself owns, in the order of their names in it; return it."""
        if self._names:
            raise ValueError(
                f"a scheme with rules for full names needs a whole model. Received: rules for {list(self._names)}, "
                "applied to one module. Call fastinit.initialize_(model, scheme, seed=0)."
            )
        found = self.initializers(module)
        with torch.no_grad():
            for name, initializer in found.items():
                owner, _, attribute = name.rpartition(".")
                initializer(getattr(module.get_submodule(owner), attribute))
        return module

    def initializers(self, module: nn.Module) -> dict[str, Initializer]:
        """Return what the scheme's rules by type have for a module: name -> initializer, for its own parameters and buffers,
        and for those of submodules that its own rule names.

        Raises:
            TypeError: the argument is no module.
        """
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"a scheme takes a torch.nn.Module. Received: {module!r} ({type(module).__name__}). "
                "Use model.apply(scheme), or call an initializer on a tensor."
            )
        if isinstance(module, ParametrizationList) or is_lazy(module):
            return {}
        tables, found = self.tables(module), {}
        deep = tables.reach
        buffers = dict(module.named_buffers(recurse=deep))
        for name, tensor in chain(module.named_parameters(recurse=deep), buffers.items()):
            choice = tables.find(name, name in buffers)
            if choice and choice.initializer and _fillable(name, tensor):
                owner, _, attribute = name.rpartition(".")
                found[name] = padded(module.get_submodule(owner), attribute, choice.initializer)
        return found

    def override(self, rules: Rules) -> "Scheme":
        """Return a new scheme in which these rules go before this one's; this one stays as it is.

        A table is merged, parameter by parameter: what it does not name keeps its initializer. A callable is merged
        through the table it returns. None replaces everything the scheme has for the type.

        Example:
            ``keras_like.override({nn.Linear: {"weight": partial(fastinit.truncated_normal_, std=0.05)}})``
        """
        scheme = Scheme({})
        scheme._layers, scheme._names = dict(self._layers), dict(self._names)
        scheme._add(rules)
        return scheme

    def tables(self, module: nn.Module) -> Tables:
        """What the rules by type have for a module, and for what they name below it."""
        tables: list[Table] = []
        for kind in type(module).__mro__:
            for rule in reversed(self._layers.get(kind, ())):
                if rule is None:
                    return Tables(tables, closed=True)
                tables.append(rule(module) if callable(rule) else rule)
        return Tables(tables, closed=False)

    def choose(self, full_name: str, owners: Iterable[tuple[Tables, str]], buffer: bool) -> Choice | None:
        """What decides about a parameter or buffer of a model; None: no rule names it.

        Args:
            full_name: its canonical name in the model.
            owners: from the outermost module to its own, each module's tables and the parameter's name relative to it.
            buffer: whether it is a buffer.
        """
        for pattern in reversed(list(self._names)):
            if matches(full_name, pattern, buffer):
                return Choice(self._names[pattern])
        for tables, name in owners:
            choice = tables.find(name, buffer)
            if choice:
                return choice
        return None

    def __repr__(self) -> str:
        lines = []
        for layers, kinds in groupby(self._layers, key=self._layers.__getitem__):
            rule = " | ".join(_describe(rule) for rule in layers)
            lines.append(f"    {', '.join(kind.__name__ for kind in kinds)}: {rule},")
        lines += [f"    {pattern!r}: {name_of(initializer)}," for pattern, initializer in self._names.items()]
        return "\n".join(["Scheme({", *lines, "})"])

    def __str__(self) -> str:
        """The rules as a table, in the order in which they decide."""
        rows = [("full name", pattern, name_of(initializer)) for pattern, initializer in reversed(self._names.items())]
        for layers, kinds in groupby(self._layers, key=self._layers.__getitem__):
            named = textwrap.wrap(", ".join(kind.__name__ for kind in kinds), 40)
            tables = [rule if isinstance(rule, Mapping) else {"by the module": rule} for rule in reversed(layers)]
            cells = [(name, name_of(initializer)) for table in tables for name, initializer in table.items()]
            rows += [(kind or "", *(cell or ("", ""))) for kind, cell in zip_longest(named, cells)]
        return _text.table(("module", "parameter", "initializer"), rows)

    def _add(self, rules: Rules) -> None:
        for kind, rule in rules.items():
            if isinstance(kind, str):
                self._names.pop(kind, None)  # to the end: the later decides
                self._names[kind] = _checked_initializer(kind, rule)
            else:
                before = () if rule is None else self._layers.get(kind, ())
                self._layers[kind] = (*before, _checked(kind, rule))


def _checked(kind: type[nn.Module], rule: Rule) -> Rule:
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
    if isinstance(rule, Mapping):
        for name, initializer in rule.items():
            if not isinstance(name, str) or not (initializer is None or callable(initializer)):
                raise TypeError(
                    f"the rule of {kind.__name__} must map names to callables that fill a tensor, or to None. "
                    f"Received: {name!r}: {initializer!r}. Pass e.g. {{'weight': fastinit.glorot_uniform_}}."
                )
    return rule


def _checked_initializer(pattern: str, rule: Any) -> Initializer | None:
    if rule is not None and not callable(rule):
        raise TypeError(
            f"the rule of the name {pattern!r} must be an initializer, or None. Received: {rule!r}. "
            "Pass a callable that fills a tensor, such as fastinit.zeros_."
        )
    return rule


def matches(name: str, pattern: str, buffer: bool) -> bool:
    """As in fnmatch; but a pattern that ends in a bare asterisk means parameters alone, as buffers must be named."""
    if buffer and pattern.rpartition(".")[2] == "*":
        return False
    return fnmatch.fnmatchcase(name, pattern)


def _fillable(name: str, tensor: Tensor) -> bool:
    if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
        return False
    return tensor.is_floating_point() or name.endswith("num_batches_tracked")


def is_lazy(module: nn.Module) -> bool:
    own = chain(own_parameters(module).values(), own_buffers(module).values())
    return any(isinstance(tensor, (UninitializedParameter, UninitializedBuffer)) for tensor in own)


def padded(module: nn.Module, name: str, initializer: Initializer) -> Initializer:
    """Keep the row of an embedding that stands for padding zero, whichever initializer fills the others."""
    if name != "weight" or not isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or module.padding_idx is None:
        return initializer
    return partial(zero_row_, row=module.padding_idx, initializer=initializer)


def check_zero_row(shape: torch.Size, dtype: torch.dtype, row: int, initializer: Initializer) -> None:
    """No one law: raises for wrong arguments of the initializer."""
    law_of(initializer, shape, dtype)


@declares(check_zero_row)
def zero_row_(tensor: Tensor, row: int, initializer: Initializer, *, key: int | None = None) -> Tensor:
    """Fill a tensor with the initializer, then one row of it with 0."""
    if key is None:
        initializer(tensor)
    else:
        fill_with(initializer, tensor, key)
    fill_rows_(tensor, range(row, row + 1), 0.0)
    return tensor


def _describe(rule: Rule) -> str:
    if isinstance(rule, Mapping):
        return "{" + ", ".join(f"{name!r}: {name_of(initializer)}" for name, initializer in rule.items()) + "}"
    return name_of(rule)


def name_of(value: object) -> str:
    """An initializer in words, as one would write the call."""
    if isinstance(value, partial):
        if value.func is zero_row_:
            return f"{name_of(value.keywords['initializer'])}, row {value.keywords['row']} zero"
        arguments = [repr(x) for x in value.args] + [f"{k}={name_of(v)}" for k, v in value.keywords.items()]
        return f"{name_of(value.func)}({', '.join(arguments)})"
    return getattr(value, "__name__", None) or repr(value)
