"""Schemes: which initializer each parameter of each module type gets."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, groupby, zip_longest
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.nn.utils.parametrize import ParametrizationList

from fastinit import _text
from fastinit._core.check import PLAIN, is_frozen, is_loaded, left
from fastinit._core.laws import Initializer
from fastinit._schemes.calling import fill_with
from fastinit._schemes.depth import refuse_depth
from fastinit._schemes.leftover import Leftovers
from fastinit._schemes.naming import function_of, name_of, name_of_rule
from fastinit._schemes.norms import resolved
from fastinit._schemes.padding import padded
from fastinit._schemes.rules import Choice, Mapped, ModuleRules, Rule, Rules, check_name_rule, check_type_rule, is_for, matches
from fastinit._torch import own_buffers, own_parameters


class Expected(NamedTuple):
    """A rule of the user's, which is expected to match something."""

    kind: Any  # a module type, or a pattern for full names
    rule: Any
    must: bool  # it is there for one model: by override, or by a full name


class Scheme:
    """A map from module types and parameter names to initializers, itself callable on a module.

    ``model.apply(scheme)`` initializes a model: `torch.nn.Module.apply` hands over one module after the other, and the
    scheme fills the parameters and buffers that the module itself owns. Called on a container alone it does nothing.
    `fastinit.initialize_` does the same in one batched fill, with a key of its own for every parameter.

    A rule is looked up along the module's class hierarchy, and for each parameter the most derived class that names it
    decides. Within one mapping an exact name goes before a pattern, and of two patterns the later one decides. Names with
    dots (``"attention.output.weight"``, ``"blocks.*.weight"``) are those of parameters of submodules, relative to the
    module; they go before the submodule's own rule, and the outermost module's before an inner one's.

    These are left as they are: modules of types without a rule; parameters that no rule names; frozen ones (requires_grad is
    False); integer parameters (quantized modules keep packed integers); modules with parameters that are still uninitialized
    (Lazy modules: apply the scheme again after the first forward pass has given them shapes and their ordinary class); and
    parametrized parameters (``torch.nn.utils.parametrize``, weight_norm, spectral_norm), which are computed from
    others: initialize the module first, then parametrize it. Where such a parameter holds varied values, as random ones do, a
    UserWarning names it, once for each class of modules. (`fastinit.initialize_` reports or refuses all these.)

    When a scheme is applied, each fill takes a fresh key from torch's default CPU generator, so ``torch.manual_seed``
    decides all values.

    Args:
        rules: a dict from module types to their rules, and from patterns for full names to initializers.
            The rule of a type, a subclass of torch.nn.Module, is one of three. A mapping goes from a parameter's name,
            or a pattern for names as in fnmatch (``"weight_hh*"``), to an initializer, which is a callable that fills one
            tensor in place, or to None, which leaves the parameter as it is. A callable takes the module and returns such
            a mapping, for what depends on its settings. None leaves modules of this type as they are, whatever the rules
            of their base classes say. Mappings may name buffers too; a pattern that ends in a bare ``*`` covers
            parameters only.
            A string instead of a type is a pattern for the full names of parameters in the model, with an initializer or
            None. It goes before all rules by type, the later before the earlier. Only `fastinit.initialize_`, which knows
            the full names, takes schemes with such rules.

    Raises:
        TypeError: a key is neither a subclass of torch.nn.Module nor a str, or a rule is none of the above.

    Reference:
        PyTorch, [torch.nn.Module.apply](https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html).

    Examples:
        >>> scheme = fastinit.Scheme({nn.Linear: {"weight": partial(fastinit.normal_, std=0.02), "bias": fastinit.zeros_}})
        >>> print(scheme)
        module  parameter  initializer
        Linear  weight     normal_(std=0.02)
                bias       zeros_
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).apply(scheme)
        >>> model[0].bias.tolist()
        [0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, rules: Rules) -> None:
        self._layers: dict[type[nn.Module], tuple[Rule, ...]] = {}
        self._names: dict[str, Initializer | None] = {}
        self._name: str | None = None  # of those that come with the package: their repr
        self._expected: list[Expected] = []  # the user's own rules
        self._leftovers = Leftovers()
        self._add(rules)
        self._expected += [Expected(kind, rule, must=isinstance(kind, str)) for kind, rule in rules.items()]

    def __call__(self, module: nn.Module) -> Any:
        """Fill the parameters and buffers that a module itself owns, in the order of their names in it.

        Args:
            module: the module. Its submodules are left as they are, but for the parameters that its own rule names.

        Returns:
            The module. (Declared as Any: `torch.nn.Module.apply` wants a function that returns None.)

        Raises:
            TypeError: the argument is not a module.
            ValueError: the scheme has rules for full names, or by depth, which one module does not know.

        Warns:
            UserWarning: the module has parameters of varied values, which may be random, that no rule names: once for each class.

        Examples:
            >>> layer = fastinit.keras_like(nn.LayerNorm(2))
            >>> layer.weight.tolist()
            [1.0, 1.0]
        """
        if self._names:
            raise ValueError(
                f"a scheme with rules for full names needs a whole model. Received: rules for {list(self._names)}, "
                "applied to one module. Call fastinit.initialize_(model, scheme, seed=0)."
            )
        found = self.initializers(module)
        refuse_depth(found.values())
        with torch.no_grad():
            for name, initializer in found.items():
                owner, _, attribute = name.rpartition(".")
                tensor = getattr(module.get_submodule(owner) if owner else module, attribute)
                if is_loaded(tensor):
                    left(tensor)
                else:
                    fill_with(initializer, tensor, None)
        self._leftovers.say(module, found, lambda: (rules_of(self, module), list(chain.from_iterable(self._layers.values()))))
        return module

    def initializers(self, module: nn.Module) -> dict[str, Initializer]:
        """Return what the rules by type have for a module.

        Args:
            module: the module. It is not changed.

        Returns:
            The initializers by name, of the module's own parameters and buffers, and of those of submodules that its own
                rule names.

        Raises:
            TypeError: the argument is not a module.

        Examples:
            >>> list(fastinit.keras_like.initializers(nn.Linear(3, 4)))
            ['weight', 'bias']
        """
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"a scheme takes a torch.nn.Module. Received: {module!r} ({type(module).__name__}). "
                "Use model.apply(scheme), or call an initializer on a tensor."
            )
        if isinstance(module, ParametrizationList) or is_lazy(module):
            return {}
        rules, found = rules_of(self, module), {}
        deep = bool(rules.below)
        buffers = dict(module.named_buffers(recurse=deep))
        own = {**dict(module.named_parameters(recurse=deep)), **buffers}
        for name, tensor in chain(own.items(), _by_later_names(module, rules, own)):
            choice = rules.find(name, name in buffers)
            if choice and choice.initializer and _is_fillable(name, tensor):
                owner, _, attribute = name.rpartition(".")
                holder = module.get_submodule(owner) if owner else module
                initializer = resolved(choice, holder, attribute, tensor)
                if initializer:
                    found[name] = padded(holder, attribute, initializer)
        return found

    def override(self, rules: Rules) -> Scheme:
        """Return a new scheme in which these rules go before this one's; this one stays as it is.

        A mapping is merged, parameter by parameter: what it does not name keeps its initializer. A callable is merged
        through the mapping it returns. None replaces everything the scheme has for the type.

        These rules are for one model: `fastinit.initialize_` refuses those that match nothing in it, or names them in its
        report where it is not strict. (Of a new scheme's rules by type it names them in the report.)

        Args:
            rules: the rules, as `Scheme` takes them.

        Returns:
            The new scheme.

        Raises:
            TypeError: a key is neither a subclass of torch.nn.Module nor a str, or a rule is none of those allowed.

        Examples:
            >>> scheme = fastinit.keras_like.override({nn.Linear: {"bias": partial(fastinit.constant_, val=0.5)}})
            >>> nn.Linear(3, 2).apply(scheme).bias.tolist()
            [0.5, 0.5]
        """
        scheme = Scheme({})
        scheme._layers, scheme._names = dict(self._layers), dict(self._names)
        scheme._add(rules)
        scheme._expected = [*self._expected, *(Expected(kind, rule, must=True) for kind, rule in rules.items())]
        return scheme

    def __repr__(self) -> str:
        """The rules as one would write them; the name of a scheme that comes with the package."""
        if self._name:
            return self._name
        lines = []
        for layers, kinds in groupby(self._layers, key=self._layers.__getitem__):
            rule = " | ".join(name_of_rule(rule) for rule in layers)
            lines.append(f"    {', '.join(kind.__name__ for kind in kinds)}: {rule},")
        lines += [f"    {pattern!r}: {name_of(initializer)}," for pattern, initializer in self._names.items()]
        return "\n".join(["Scheme({", *lines, "})"])

    def __str__(self) -> str:
        """The rules in columns, in the order in which they decide."""
        rows = [("full name", pattern, name_of(initializer)) for pattern, initializer in reversed(self._names.items())]
        for layers, kinds in groupby(self._layers, key=self._layers.__getitem__):
            named = textwrap.wrap(", ".join(kind.__name__ for kind in kinds), 40)
            mappings = [rule if isinstance(rule, Mapping) else {"by the module": function_of(rule)} for rule in reversed(layers)]
            cells = [(name, name_of(initializer)) for mapping in mappings for name, initializer in mapping.items()]
            rows += [(kind or "", *(cell or ("", ""))) for kind, cell in zip_longest(named, cells)]
        return _text.aligned(("module", "parameter", "initializer"), rows)

    def _add(self, rules: Rules) -> None:
        for kind, rule in rules.items():
            if isinstance(kind, str):
                check_name_rule(kind, rule)
                self._names.pop(kind, None)  # to the end: the later decides
                self._names[kind] = cast("Initializer | None", rule)
            else:
                check_type_rule(kind, rule)
                before = () if rule is None else self._layers.get(kind, ())
                self._layers[kind] = (*before, rule)


def named(name: str, rules: Rules) -> Scheme:
    """A scheme that comes with the package: its repr is a name, which is what `help` shows of a default."""
    scheme = general(rules)
    scheme._name = name
    return scheme


def general(rules: Rules) -> Scheme:
    """A scheme for many models: not all of its rules match something in each."""
    scheme = Scheme(rules)
    scheme._expected = []
    return scheme


def expected_of(scheme: Scheme) -> list[Expected]:
    """The user's own rules that no later one has replaced."""
    return [
        each
        for each in scheme._expected
        if (each.kind in scheme._names if isinstance(each.kind, str) else any(each.rule is r for r in scheme._layers[each.kind]))
    ]


def rules_of(scheme: Scheme, module: nn.Module, known: dict[type[nn.Module], ModuleRules] | None = None) -> ModuleRules:
    """What a scheme's rules by type have for a module, and for what they name below it.

    `known` keeps, for the next module of its type, what does not depend on the module.
    """
    kind = type(module)
    if known and kind in known:
        return known[kind]
    mappings: list[tuple[Mapped, bool]] = []
    closed, by_type = False, True
    for base, rule in [(each, rule) for each in kind.__mro__ for rule in reversed(scheme._layers.get(each, ()))]:
        if rule is None:
            closed = True
            break
        if not is_for(rule, kind):
            continue
        by_type = by_type and not callable(rule)
        own = bool(scheme._expected) and any(base is each.kind and rule is each.rule for each in scheme._expected)
        mappings.append((rule(module) if callable(rule) else rule, own))
    found = ModuleRules(mappings, closed)
    if by_type and known is not None:
        known[kind] = found
    return found


def _by_later_names(module: nn.Module, rules: ModuleRules, known: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """What rules name exactly, below a module, by another name than its first, which alone torch's named_parameters has; unless
    they name it by that one too."""
    decided = {id(tensor) for name, tensor in known.items() if rules.find(name, buffer=False)}
    for name in dict.fromkeys(name for name in rules.below if name not in known):
        owner, _, attribute = name.rpartition(".")
        with contextlib.suppress(AttributeError):  # there is none
            holder = module.get_submodule(owner)
            tensor = {**own_parameters(holder), **own_buffers(holder)}.get(attribute)
            if tensor is not None and id(tensor) not in decided:
                yield name, tensor


def has_full_names(scheme: Scheme) -> bool:
    """Whether a scheme has rules for full names, which go before those by type."""
    return bool(scheme._names)


def choice_of(
    scheme: Scheme, full_name: str, owners: Iterable[tuple[ModuleRules, str]], buffer: bool, meant: Callable[[str], str]
) -> Choice | None:
    """What decides about a parameter or buffer of a model; None: no rule names it.

    Args:
        scheme: the scheme.
        full_name: its canonical name in the model.
        owners: from the outermost module to its own, each module's rules and the parameter's name relative to it.
        buffer: whether it is a buffer.
        meant: the canonical name of one that may go through another path of a shared module.
    """
    found = (choice for rules, name in owners if (choice := rules.find(name, buffer)))
    for pattern in reversed(scheme._names):
        if matches(full_name, pattern, buffer) or meant(pattern) == full_name:
            if any(each.kind == pattern for each in scheme._expected):
                return Choice(scheme._names[pattern], by_name=True, own=True)
            known = next(found, None)  # names are the package's guess: they say how large, not of what there is a matrix
            return known if known is None or known.initializer is None else Choice(scheme._names[pattern], own=known.own)
    return next(found, None)


def _is_fillable(name: str, tensor: Tensor) -> bool:
    """Whether a scheme that is applied fills it: floats and complex numbers that have a shape, and counters of batches."""
    if isinstance(tensor, UninitializedTensorMixin) or is_frozen(tensor):
        return False
    return tensor.is_floating_point() or tensor.is_complex() or name.endswith("num_batches_tracked")


def is_lazy(module: nn.Module) -> bool:
    """Whether parameters or buffers of its own have no shape yet."""
    for place in (own_parameters(module), own_buffers(module)):
        for tensor in place.values():
            if type(tensor) not in PLAIN and isinstance(tensor, UninitializedTensorMixin):  # which takes long: it runs Python
                return True
    return False
