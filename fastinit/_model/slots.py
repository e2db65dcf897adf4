"""Where a model keeps its parameters and buffers: every place by its canonical name."""

from __future__ import annotations

import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

from torch import Tensor, nn

from fastinit._core.check import PLAIN
from fastinit._core.modes import safe_torch
from fastinit._model.plain import Steps, plain_tensors, words
from fastinit._model.refused import is_parametrized, refusal_of_kind, refusal_of_module, refusal_of_tensor
from fastinit._schemes.depth import ByDepth
from fastinit._schemes.rules import Choice, ModuleRules
from fastinit._schemes.scheme import Scheme, choice_of, has_full_names, is_lazy, rules_of
from fastinit._schemes.unused import Place, Unused, joined, unused_rules
from fastinit._torch import (
    children_of,
    registered,
)

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
_ORDINARY = {*PLAIN, type(None)}
_Above = list[tuple[ModuleRules, str]]  # of the modules around one those that name parameters below them, and their paths
_Step = tuple[nn.Module, str, int, _Above, bool]  # to visit: its canonical path, its depth, and whether it is left as it is


@dataclass
class _Walk:
    """A walk through a model: its slots, and what is wrong with it, in words.

    It visits each module once, under its first path, in the order of `Module.named_modules`, and without recursion: of paths
    there may be exponentially many, or more levels than Python has. Models have thousands of small modules: what their type
    decides is found once, and a step is a bare tuple.
    """

    scheme: Scheme
    found: list[Slot] = field(default_factory=list)
    open: dict[int, _Above] = field(default_factory=dict)  # by number: slots that names decide, what rules by type have
    rules: dict[type[nn.Module], ModuleRules] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    reaching: _Above = field(default_factory=list)  # all rules that name parameters below their module
    first: dict[int, Place] = field(default_factory=dict)  # by a module's id: it, and its first path
    again: dict[str, str] = field(default_factory=dict)  # a later path of a module -> its first
    modules: dict[str, nn.Module] = field(default_factory=dict)  # by path, once one asks

    def __post_init__(self) -> None:
        self.waits = has_full_names(self.scheme)  # until all names are known, nothing is decided

    def walk(self, model: nn.Module, path: str) -> None:
        around: list[nn.Module] = []  # the modules that the next one lies in
        steps: list[_Step] = [(model, path, 0, [], False)]
        while steps:
            step = steps.pop()
            module, path, depth, _, left = step
            del around[depth:]
            if id(module) in self.first:
                self.meet_again(module, path, around)
                continue
            self.first[id(module)] = module, path
            around.append(module)
            steps += self.leave(step) if left else self.visit(step)

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

    def visit(self, step: _Step) -> Sequence[_Step]:
        """Note what a module has; then the steps to its children, the last one first."""
        module, path, _, above, _ = step
        rules = self.rules.get(type(module)) or rules_of(self.scheme, module, self.rules)
        parameters, buffers, children, is_bare = registered(module)
        if is_bare and _ORDINARY.issuperset(map(type, parameters.values())) and not (buffers and is_lazy(module)):
            reason = refusal_of_kind(type(module))  # type: ignore[arg-type]  # classes have hashes
        else:
            reason = refusal_of_module(module)
        if reason and rules.closed and not rules.mappings:
            return self.leave(step)
        if reason:
            self.refused.append(f"{path or 'the model'} ({type(module).__name__}): {reason}")
            return ()
        may_wait = above or self.waits
        for attribute, tensor in parameters.items():
            choice = None if may_wait or tensor is None else rules.find(attribute, False)
            if (
                choice
                and type(tensor) is nn.Parameter
                and not (isinstance(choice.initializer, ByDepth) or hasattr(tensor, "ds_id"))
            ):
                name = f"{path}.{attribute}" if path else attribute
                self.found.append(_slot((name, module, attribute, tensor, choice, False, False, ())))  # as `note` does
            elif tensor is not None:
                self.note(step, rules, attribute, tensor)
        for attribute, tensor in buffers.items():
            if tensor is not None:
                self.note(step, rules, attribute, tensor, buffer=True)
        if not is_bare and is_parametrized(module):
            self.note_parametrized(step, rules)
        if rules.below:
            above = [*above, (rules, path)]
            self.reaching.append(above[-1])
        return _steps_below(step, children, above) if children else ()

    def note(
        self, step: _Step, rules: ModuleRules, attribute: str, tensor: Any, buffer: bool = False, parametrized: bool = False
    ) -> None:
        """Note a tensor that a module owns, with what its rules have for it: others may go before these."""
        module, path, _, above, _ = step
        name = f"{path}.{attribute}" if path else attribute
        if reason := refusal_of_tensor(tensor):
            self.refused.append(f"{name}: {reason}")
            return
        choice = rules.find(attribute, buffer)
        if above or self.waits or (choice and isinstance(choice.initializer, ByDepth)):
            self.open[len(self.found)] = [
                *((outer, name[len(base) + 1 if base else 0 :]) for outer, base in above),
                (rules, attribute),
            ]
        self.found.append(Slot(name, module, attribute, tensor, choice, buffer, parametrized))

    def note_parametrized(self, step: _Step, rules: ModuleRules) -> None:
        module: Any = step[0]
        with safe_torch():
            computed = {name: getattr(module, name).detach() for name in module.parametrizations}
        for name, tensor in computed.items():
            self.note(step, rules, name, tensor, parametrized=True)

    def leave(self, step: _Step) -> Sequence[_Step]:
        """A module that could not be initialized, and need not be: its rule is None."""
        module, path, *_ = step
        parameters, buffers, children, _ = registered(module)
        for buffer, place in ((False, parameters), (True, buffers)):
            for attribute, tensor in place.items():
                if tensor is not None and refusal_of_tensor(tensor) is None:
                    self.found.append(Slot(joined(path, attribute), module, attribute, tensor, _LEAVE, buffer))
        return _steps_below(step, children, [], left=True)

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


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, child) for name, child in children_of(module).items() if child is not None]


def _steps_below(step: _Step, children: Mapping[str, nn.Module | None], above: _Above, left: bool = False) -> Sequence[_Step]:
    """The steps to a module's children, the last one first, but to the parametrizations of its parameters."""
    module, path, depth, *_ = step
    hidden = "parametrizations" if not left and is_parametrized(module) else None
    steps = [
        (child, path if name in _WRAPPERS else joined(path, name), depth + 1, above, left)
        for name, child in children.items()
        if child is not None and name != hidden
    ]
    steps.reverse()
    return steps


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
    of_name = {slot.name: slot.tensor for slot in found}
    for slot in found if len(of_name) < len(found) else ():
        if of_name[slot.name] is not slot.tensor:
            walk.refused.append(f"{slot.name}: two parameters have this name, without the names of wrappers {sorted(_WRAPPERS)}")
    if walk.refused:
        lines = "\n".join(f"  {line}" for line in walk.refused)
        raise ValueError(f"cannot initialize (a rule None for a module's type leaves it); nothing was written:\n{lines}")
    if any(slot.tensor.is_meta for slot in found):
        found += _plain_slots(walk.first.values())
    return found, unused_rules(scheme, walk.first.values(), walk.meant)


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
