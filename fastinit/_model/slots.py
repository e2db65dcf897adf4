"""Where a model keeps its parameters and buffers: every place by its canonical name."""

from __future__ import annotations

import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal, NamedTuple, cast

from torch import Tensor, nn

from fastinit._core.modes import safe_torch
from fastinit._model.plain import Steps, plain_tensors, words
from fastinit._model.refused import is_parametrized, refusal_of_module, refusal_of_tensor
from fastinit._schemes.depth import ByDepth
from fastinit._schemes.rules import Choice, ModuleRules
from fastinit._schemes.scheme import Scheme, choice_of, has_full_names, rules_of
from fastinit._schemes.unused import Place, Unused, joined, unused_rules
from fastinit._torch import children_of, leaf, own_buffers, own_parameters

# What DistributedDataParallel, torch.compile, activation checkpointing and FSDP put between a module and its parameters.
_WRAPPERS = frozenset(("module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"))


class Slot(NamedTuple):
    """One place of a parameter or buffer. Of a parametrized parameter the tensor is what its parametrizations compute."""

    name: str  # canonical, in the whole model
    module: nn.Module
    attribute: str
    tensor: Tensor
    choice: Choice | None  # the scheme's
    buffer: bool = False
    parametrized: bool = False
    steps: Steps = ()  # of a plain attribute, which is called a buffer too: the way to it

    @property
    def path(self) -> str:
        """The canonical name of its module."""
        return self.name[: -len(self.attribute)].rstrip(".")

    @property
    def kind(self) -> Literal["parameter", "buffer", "plain attribute"]:
        return "plain attribute" if self.steps else "buffer" if self.buffer else "parameter"


_slot: Callable[[tuple[Any, ...]], Slot] = functools.partial(tuple.__new__, Slot)  # in half of the time
_LEAVE = Choice(None)  # of what lies in a module that is left as it is
_Above = list[tuple[ModuleRules, str]]  # of the modules around one those that name parameters below them, and their paths
# A module whose children are visited: those to come, its canonical path, the rules above them, whether they are left as they are.
_Level = tuple[nn.Module, Iterator[tuple[str, nn.Module | None]], str, _Above, bool]
_Owner = tuple[nn.Module, str, _Above, ModuleRules]  # a module, its path, the rules above it, and its own


@dataclass
class _Walk:
    """A walk through a model: its slots, and what is wrong with it, in words.

    It visits each module once, under its first path, in the order of `Module.named_modules`, and without recursion: of paths
    there may be exponentially many, or more levels than Python has. Models have thousands of small modules: what the type of
    most decides is found once.
    """

    scheme: Scheme
    found: list[Slot] = field(default_factory=list)
    open: dict[int, _Above] = field(default_factory=dict)  # by number: slots that names decide, what rules by type have
    rules: dict[type[nn.Module], ModuleRules] = field(default_factory=dict)
    decided: dict[type[nn.Module], dict[str, Choice]] = field(default_factory=dict)  # parameters, wherever modules are
    refused: list[str] = field(default_factory=list)
    reaching: _Above = field(default_factory=list)  # all rules that name parameters below their module
    first: dict[int, Place] = field(default_factory=dict)  # by a module's id: it, and its first path
    again: dict[str, str] = field(default_factory=dict)  # a later path of a module -> its first
    modules: dict[str, nn.Module] = field(default_factory=dict)  # by path, once one asks

    def __post_init__(self) -> None:
        self.waits = has_full_names(self.scheme)  # until all names are known, nothing is decided

    def walk(self, model: nn.Module, path: str) -> None:
        self.first[id(model)] = model, path
        levels = [level] if (level := self.visit(model, path, [])) else []
        while levels:
            _, children, base, above, left = levels[-1]
            for name, module in children:
                if module is None:
                    continue
                path = base if name in _WRAPPERS else f"{base}.{name}" if base else name
                if id(module) in self.first:
                    self.meet_again(module, path, [outer for outer, *_ in levels])
                    continue
                self.first[id(module)] = module, path
                if path and not (above or left) and self.note_leaf(module, path):
                    continue
                if level := self.leave(module, path) if left else self.visit(module, path, above):
                    levels.append(level)
                    break
            else:
                levels.pop()

    def meet_again(self, module: nn.Module, path: str, around: list[nn.Module]) -> None:
        """Remember the other path; ValueError where it has no end."""
        _, first = self.first[id(module)]
        if any(module is outer for outer in around):
            whole = "the model" if module is around[0] else f"the model's {first!r}"
            raise ValueError(
                f"{path} is {whole} itself, and nothing was written. A module cannot contain itself: torch's apply, to and "
                "state_dict would not end. Hold it in a list, or set it by object.__setattr__."
            )
        self.again[path] = first

    def note_leaf(self, module: nn.Module, path: str) -> bool:
        """Note the parameters of a module that is as most are, in a third of the time: its type decides them, and it has nothing
        else. False: it may be something else; nothing is noted."""
        choices, noted = self.decided.get(type(module)), []
        parameters, is_all = leaf(module)
        if choices is None or not is_all:
            return False
        for attribute, tensor in parameters.items():
            if tensor is None:
                continue
            if type(tensor) is not nn.Parameter or attribute not in choices or hasattr(tensor, "ds_id"):
                return False
            noted.append(_slot((f"{path}.{attribute}", module, attribute, tensor, choices[attribute], False, False, ())))
        self.found += noted
        return True

    def visit(self, module: nn.Module, path: str, above: _Above) -> _Level | None:
        """Note what a module has; then the way to its children, if it has any."""
        rules = self.rules.get(type(module)) or rules_of(self.scheme, module, self.rules)
        parameters, children = own_parameters(module), children_of(module)
        reason = refusal_of_module(module)
        if reason and rules.closed and not rules.mappings:
            return self.leave(module, path)
        if reason:
            self.refused.append(f"{path or 'the model'} ({type(module).__name__}): {reason}")
            return None
        owner = module, path, above, rules
        for buffer, place in ((False, parameters), (True, own_buffers(module))):
            for attribute, tensor in place.items():
                if tensor is not None:
                    self.note(owner, attribute, tensor, buffer)
        hides = is_parametrized(module)
        if hides:
            self.note_parametrized(owner)
        if rules.below:
            above = [*above, (rules, path)]
            self.reaching.append(above[-1])
        elif not self.waits and type(module) in self.rules:
            choices = {attribute: rules.find(attribute, False) for attribute in parameters}
            self.decided[type(module)] = {name: choice for name, choice in choices.items() if choice and _is_for_all(choice)}
        if not children:
            return None
        shown = ((name, child) for name, child in children.items() if not (hides and name == "parametrizations"))
        return module, shown, path, above, False

    def note(self, owner: _Owner, attribute: str, tensor: Any, buffer: bool = False, parametrized: bool = False) -> None:
        """Note a tensor that a module owns, with what its rules have for it: others may go before these."""
        module, path, above, rules = owner
        name = f"{path}.{attribute}" if path else attribute
        choice = rules.find(attribute, buffer)
        if reason := refusal_of_tensor(tensor):
            self.refused += [] if choice and choice.initializer is None else [f"{name}: {reason}"]
            return
        if above or self.waits or (choice and isinstance(choice.initializer, ByDepth)):
            self.open[len(self.found)] = [
                *((outer, name[len(base) + 1 if base else 0 :]) for outer, base in above),
                (rules, attribute),
            ]
        self.found.append(Slot(name, module, attribute, tensor, choice, buffer, parametrized))

    def note_parametrized(self, owner: _Owner) -> None:
        module: Any = owner[0]
        with safe_torch():
            computed = {name: getattr(module, name).detach() for name in module.parametrizations}
        for name, tensor in computed.items():
            self.note(owner, name, tensor, parametrized=True)

    def leave(self, module: nn.Module, path: str) -> _Level:
        """A module that could not be initialized, and need not be: its rule is None."""
        for buffer, place in ((False, own_parameters(module)), (True, own_buffers(module))):
            for attribute, tensor in place.items():
                if tensor is not None and refusal_of_tensor(tensor) is None:
                    self.found.append(Slot(joined(path, attribute), module, attribute, tensor, _LEAVE, buffer))
        return module, iter(children_of(module).items()), path, [], True

    def meant(self, name: str) -> str:
        """A full name by first paths."""
        path = ""
        for step in name.split(".") if self.again else ():
            path = joined(path, step)
            path = self.again.get(path, path)
        return path or name

    def children(self, path: str) -> list[str] | None:
        """The names of the children of a module; None: the model has no such module."""
        self.modules = self.modules or {path: module for module, path in self.first.values()}  # of a wrapper's what it wraps
        return [name for name, _ in _children(self.modules[path])] if path in self.modules else None

    def slots(self) -> list[Slot]:
        """The slots with what decides about them: all paths of a module are known now."""
        later = defaultdict(list)  # rules by type name parameters below through later paths too
        for rules, path in self.reaching if self.again else ():
            for name in rules.below:
                if (meant := self.meant(joined(path, name))) != joined(path, name):
                    later[meant].append((rules, name))
        for number, slot in enumerate(self.found) if later else ():
            if slot.name in later and slot.choice is not _LEAVE:
                own = self.open.get(number) or [(rules_of(self.scheme, slot.module, self.rules), slot.attribute)]
                self.open[number] = [*own[:-1], *later[slot.name], own[-1]]
        for number, owners in self.open.items():
            slot = self.found[number]
            choice = choice_of(self.scheme, slot.name, owners, slot.buffer, self.meant)
            if choice and isinstance(choice.initializer, ByDepth):
                choice = choice._replace(initializer=choice.initializer.at(slot.name, self.children))
            self.found[number] = Slot(*slot[:4], choice, *slot[5:])  # _replace takes thrice the time
        return self.found


def _is_for_all(choice: Choice) -> bool:
    """Whether a choice gives all parameters that it is of one initializer."""
    return choice.initializer is not None and not isinstance(choice.initializer, ByDepth)


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, child) for name, child in children_of(module).items() if child is not None]


def slots(model: nn.Module, scheme: Scheme, prefix: str) -> tuple[list[Slot], list[Unused]]:
    """Every place of a parameter or buffer, in the order of `Module.named_parameters`: a module's own before its children's; and
    the rules that match none.

    Raises:
        ValueError: modules or tensors that cannot be initialized, or two parameters of one canonical name: names them all; or a
            module that contains itself.
    """
    if "torch.distributed.fsdp" in sys.modules:
        _reshard(model)
    walk = _Walk(scheme)
    walk.walk(model, canonical(prefix))
    found = walk.slots()
    alike = len(set(map(itemgetter(0), found))) < len(found)
    of_name = {slot.name: slot.tensor for slot in found} if alike else {}
    for slot in found if alike else ():
        if of_name[slot.name] is not slot.tensor:
            walk.refused.append(f"{slot.name}: two parameters have this name, without the names of wrappers {sorted(_WRAPPERS)}")
    _check(walk.refused)
    if any(slot.tensor.is_meta for slot in found):
        found += _plain_slots(walk.first.values())
    return found, unused_rules(scheme, walk.first.values(), walk.meant)


def check_tensors(found: list[Slot]) -> None:
    """Raise ValueError for tensors that cannot be initialized; names them all. Of most parameters torch's own errors tell."""
    _check([f"{slot.name}: {reason}" for slot in found if (reason := refusal_of_tensor(slot.tensor))])


def _check(refused: list[str]) -> None:
    if refused:
        lines = "\n".join(f"  {line}" for line in refused)
        raise ValueError(f"cannot initialize (a rule None for a module's type leaves it); nothing was written:\n{lines}")


def canonical(name: str) -> str:
    """A name without those of wrappers."""
    return ".".join(part for part in name.split(".") if part and part not in _WRAPPERS)


def child_at(module: nn.Module, path: str) -> nn.Module | None:
    """The module of a canonical path; None where there is none."""
    found: Any = module
    for name in filter(None, path.split(".")):
        found = getattr(unwrapped(found, name), name, None)
        if not isinstance(found, nn.Module):
            return None
    return cast(nn.Module, found)


def unwrapped(module: nn.Module, name: str | None = None) -> nn.Module:
    """The module, or what it wraps: the first that has something of a name, or the innermost."""
    while name is None or not hasattr(module, name):
        inner = next((child for step, child in _children(module) if step in _WRAPPERS), None)
        if inner is None:
            break
        module = inner
    return module


def _plain_slots(places: Iterable[Place]) -> Iterator[Slot]:
    """Those of plain attributes on meta."""
    for module, path in places:
        for steps, tensor in plain_tensors(module):
            if refusal_of_tensor(tensor) is None:
                attribute = words(steps)
                yield Slot(joined(path, attribute), module, attribute, tensor, None, buffer=True, steps=steps)


def _reshard(model: nn.Module) -> None:
    """Give back the gathered parameters of FSDP2: values belong in the shards."""
    from torch.distributed.fsdp import FSDPModule

    waiting, seen = [model], {id(model)}  # not model.modules(), which is recursive
    while waiting:
        module = waiting.pop()
        if isinstance(module, FSDPModule):
            module.reshard()
        children = [child for _, child in _children(module) if id(child) not in seen]
        seen |= {id(child) for child in children}
        waiting += children
