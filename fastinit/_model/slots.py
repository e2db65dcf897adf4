"""Where a model keeps its parameters and buffers: every place by its canonical name, and which of them share memory."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fastinit._core.check import absence, is_plain
from fastinit._core.memory import PartlyShared, holders_of
from fastinit._core.modes import safe_torch
from fastinit._core.shard import is_dtensor, local_of
from fastinit._schemes.rules import Choice, ModuleRules
from fastinit._schemes.scheme import Scheme, choice_of, is_lazy, rules_of
from fastinit._schemes.unused import Place, Unused, unused_rules
from fastinit._torch import (
    FakeTensor,
    children_of,
    own_buffers,
    own_parameters,
    pre_hooks_of,
    storage_number,
)

# What DistributedDataParallel, torch.compile, activation checkpointing and FSDP put between a module and its parameters.
_WRAPPERS = frozenset(("module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"))
_QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


class Slot(NamedTuple):
    """One place of a parameter or buffer. Of a parametrized parameter the tensor is what its parametrizations compute."""

    name: str  # canonical, in the whole model
    module: nn.Module
    attribute: str
    tensor: Tensor
    choice: Choice | None  # the scheme's
    buffer: bool = False
    parametrized: bool = False


@dataclass
class _Walk:
    """A walk through a model: its slots, and what is wrong with it, in words."""

    scheme: Scheme
    slots: list[Slot] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    computed: dict[tuple[nn.Module, str], Tensor] = field(default_factory=dict)  # parametrized weights, once

    def visit(self, module: nn.Module, path: str, above: list[tuple[ModuleRules, str]]) -> None:
        rules, reason = rules_of(self.scheme, module), _refusal(module)
        if reason and rules.closed and not rules.mappings:
            self.leave(module, path)
            return
        if reason:
            self.refused.append(f"{path or 'the model'} ({type(module).__name__}): {reason}")
            return
        self.places.append(_place_of(module, path))
        for attribute, tensor, buffer, parametrized in self.own_tensors(module):
            name = f"{path}.{attribute}" if path else attribute
            if reason := _tensor_refusal(tensor):
                self.refused.append(f"{name}: {reason}")
                continue
            owners = [(outer, name[len(base) + 1 if base else 0 :]) for outer, base in above]
            choice = choice_of(self.scheme, name, [*owners, (rules, attribute)], buffer)
            self.slots.append(Slot(name, module, attribute, tensor, choice, buffer, parametrized))
        reaching = [*above, (rules, path)] if rules.reach else above
        for child_name, child in children_of(module).items():
            if child is not None and not (child_name == "parametrizations" and _is_parametrized(module)):
                inner = f"{path}.{child_name}" if path else child_name
                self.visit(child, path if child_name in _WRAPPERS else inner, reaching)

    def leave(self, module: nn.Module, path: str) -> None:
        """A module that could not be initialized, and need not be: its rule is None."""
        for below, part in module.named_modules(prefix=path):
            self.places.append(_place_of(part, below))
            for buffer, place in ((False, own_parameters(part)), (True, own_buffers(part))):
                for attribute, tensor in place.items():
                    if tensor is not None and _tensor_refusal(tensor) is None:
                        name = f"{below}.{attribute}" if below else attribute
                        self.slots.append(Slot(name, part, attribute, tensor, Choice(None), buffer))

    def own_tensors(self, module: Any) -> Iterator[tuple[str, Any, bool, bool]]:
        """A module's own parameters and buffers: attribute, tensor, whether it is a buffer, whether it is parametrized."""
        for buffer, place in ((False, own_parameters(module)), (True, own_buffers(module))):
            yield from ((name, tensor, buffer, False) for name, tensor in place.items() if tensor is not None)
        for name in module.parametrizations if _is_parametrized(module) else ():
            if (module, name) not in self.computed:
                with safe_torch():
                    self.computed[module, name] = getattr(module, name).detach()
            yield name, self.computed[module, name], False, True


def _place_of(module: nn.Module, path: str) -> Place:
    names = [(name, False) for name in own_parameters(module)] + [(name, True) for name in own_buffers(module)]
    parametrized = [(name, False) for name in cast(Any, module).parametrizations] if _is_parametrized(module) else []
    return Place(module, path, names + parametrized)


def slots(model: nn.Module, scheme: Scheme, prefix: str) -> tuple[list[Slot], list[Unused]]:
    """Every place of a parameter or buffer, in the order of `Module.named_parameters`: a module's own before its children's; and
    the rules that match none.

    Raises:
        ValueError: modules or tensors that cannot be initialized, or two parameters of one canonical name; names them all.
    """
    if "torch.distributed.fsdp" in sys.modules:
        _reshard(model)
    walk = _Walk(scheme)
    walk.visit(model, ".".join(part for part in prefix.split(".") if part and part not in _WRAPPERS), [])
    places: dict[str, Slot] = {}
    for slot in walk.slots:
        other = places.setdefault(slot.name, slot)
        if other.tensor is not slot.tensor:
            walk.refused.append(f"{slot.name}: two parameters have this name, without the names of wrappers {sorted(_WRAPPERS)}")
    if walk.refused:
        lines = "\n".join(f"  {line}" for line in walk.refused)
        raise ValueError(f"cannot initialize (a rule None for a module's type leaves it); nothing was written:\n{lines}")
    return walk.slots, unused_rules(scheme, walk.places)


def _is_parametrized(module: nn.Module) -> bool:
    return "parametrizations" in children_of(module) and parametrize.is_parametrized(module)


# --- what is refused ----------------------------------------------------------------------------------------------------------


def _refusal(module: nn.Module) -> str | None:
    """Why a module cannot be initialized; None where it can."""
    if is_lazy(module):
        return "its parameters have no shapes yet. Run a forward pass first"
    if type(module).__module__.startswith(_QUANTIZED):
        return "its weights are quantized and packed. Initialize the model, then quantize it"
    if _is_fsdp1(module):
        return "FullyShardedDataParallel holds flat shards of several parameters. Initialize before wrapping, or use fully_shard"
    for hook in pre_hooks_of(module):
        if isinstance(hook, (WeightNorm, SpectralNorm)):
            return f"{type(hook).__name__}'s hook computes {hook.name!r}. Initialize first, or use nn.utils.parametrizations"
    if _is_parametrized(module):
        return _parametrization_refusal(module)
    return None


def _parametrization_refusal(module: Any) -> str | None:
    """Parametrized weights are set through the right inverses; what has buffers too would keep those of the old weight."""
    for name, steps in module.parametrizations.items():
        unable = [step for step in steps if not hasattr(step, "right_inverse") or list(step.buffers())]
        if unable:
            kinds = ", ".join(type(step).__name__ for step in unable)
            return f"{name!r} is parametrized by {kinds}, without an inverse or with buffers. Initialize, then parametrize"
        if any(tensor.is_meta or is_dtensor(tensor) for tensor in steps.parameters()):
            return f"{name!r} is parametrized, on meta or sharded. Initialize, then parametrize"
    return None


def _tensor_refusal(tensor: Tensor) -> str | None:
    if reason := absence(tensor):
        return reason
    local = local_of(tensor)
    if is_plain(local) or isinstance(local, FakeTensor):
        return None
    of = f"{type(tensor).__name__} of " if local is not tensor else ""
    return f"{of}{type(local).__name__} is no plain tensor or DTensor of one. Initialize the model before it is converted"


def _is_fsdp1(module: nn.Module) -> bool:
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, fsdp.FullyShardedDataParallel)


def _reshard(model: nn.Module) -> None:
    """Give back the gathered parameters of FSDP2: values belong in the shards."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


# --- shared memory ------------------------------------------------------------------------------------------------------------


def sources(found: list[Slot]) -> list[int]:
    """For each slot the first one that holds its memory: itself, if it shares none.

    Raises:
        ValueError: two tensors share a part of their memory, and neither holds the other.
    """
    source, storages = list(range(len(found))), defaultdict(list)
    for number, slot in enumerate(found):
        storages[storage_number(local_of(slot.tensor))].append(number)
    for together in (numbers for numbers in storages.values() if len(numbers) > 1):
        try:
            holders = holders_of([local_of(found[number].tensor) for number in together])
        except PartlyShared as error:
            one, other = (found[together[number]].name for number in error.args)
            raise ValueError(
                f"{one} and {other} share a part of their memory, and nothing was written. "
                "Make one of them a copy, or a view of the other."
            ) from None
        for number, holder in zip(together, holders, strict=True):
            source[number] = together[holder]
    return source
