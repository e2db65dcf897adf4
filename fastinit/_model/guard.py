"""Constants that a constructor has set on purpose: a zero gate, a Dirac kernel, the last gain of a residual block.

A scheme for any model knows of a parameter its type, not what the model's constructor made of it. So where a model holds what a
constructor gave, what is constant there is compared with what the scheme would write.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from operator import itemgetter

import torch
from torch import Tensor, nn

from fastinit._core.fans import fans
from fastinit._core.laws import Initializer, law_of
from fastinit._core.shard import is_dtensor
from fastinit._initializers.constants import ones_, zeros_
from fastinit._model.slots import Slot
from fastinit._schemes.calling import fill_with
from fastinit._schemes.held import are_all, common_value, constant_value, first_values, here
from fastinit._schemes.keras_rules import NORMS
from fastinit._torch import is_written, own_parameters, written_of

_NORMS = tuple(NORMS)
_DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


Candidate = tuple[Slot, Initializer]  # a parameter that a rule of the package's would fill


class Guard:
    """What the parameters of a model hold, and whether a constructor gave it.

    It did where half of the matrices at least were written in place, and one holds varied values. Memory that nobody has written
    since it was made (`to_empty`) may hold anything, and proves nothing; nor do copies and shards. After training, which
    gradients or a normalization of varied values (its gain and its bias) give away, nothing is a constructor's.
    """

    def __init__(self, found: list[Slot], alone: Iterable[int] = ()) -> None:
        self._found = found
        self._alone = alone  # the numbers of those of which it is known that they lie alone, if they are on the CPU

    @functools.cached_property
    def _slots(self) -> list[Slot]:
        return [slot for slot in self._found if not slot.buffer and not slot.parametrized]

    @functools.cached_property
    def constructed(self) -> bool:
        """Whether a constructor gave it; False where rules of the package's fill nothing, which alone would replace it."""
        choices = {id(choice): choice for choice in map(itemgetter(4), self._found) if choice}  # a few, for many slots
        if all(choice.own or choice.initializer is None for choice in choices.values()):
            return False
        drawn = [slot.tensor for slot in self._slots if slot.choice and slot.choice.initializer and slot.tensor.ndim > 1]
        written = written_of(drawn)
        if not written or len(drawn) > 2 * len(written):
            return False
        unknown = any(map(is_dtensor, drawn)) or self._is_trained()
        return not unknown and not self._varied.isdisjoint(map(id, written))

    @functools.cached_property
    def _looked_at(self) -> tuple[dict[int, list[float]], set[int]]:
        known = {id(tensor) for tensor in (self._found[number].tensor for number in self._alone) if tensor.is_cpu}
        return first_values([slot.tensor for slot in self._slots], known)

    @property
    def _first(self) -> dict[int, list[float]]:
        return self._looked_at[0]

    @property
    def _varied(self) -> set[int]:
        return self._looked_at[1]

    def _is_trained(self) -> bool:
        if any(slot.tensor.grad is not None for slot in self._slots):
            return True
        kinds = {kind for kind in {type(slot.module) for slot in self._slots} if issubclass(kind, _NORMS)}
        norms = [slot.module for slot in self._slots if type(slot.module) in kinds] if kinds else []
        return any(all(t is None or id(t) in self._varied for t in own_parameters(norm).values()) for norm in norms)

    def replaced(self, candidates: list[Candidate]) -> dict[str, str]:
        """What parameters of a constructed model hold on purpose and their initializers would replace: in words, by name."""
        held = {one[0].name: _held(*one) for one in candidates if self._is_suspect(*one)}
        return {name: words for name, words in held.items() if words is not None}

    def _is_suspect(self, slot: Slot, initializer: Initializer) -> bool:
        """Whether a closer look is worth its time."""
        tensor = slot.tensor
        if id(tensor) in self._varied:
            return slot.attribute == "bias" and _is_foreign_bias(slot, self._first[id(tensor)]) and is_written(tensor)
        first = self._first.get(id(tensor))
        if first is None or slot.parametrized or (hasattr(slot.module, "reset_parameters") and not is_written(tensor)):
            return False  # the last: torch's own module, which nobody has filled
        value = 0.0 if initializer is zeros_ else 1.0 if initializer is ones_ else None
        return value is None or first[0] != value or not are_all(tensor, value)


def _held(slot: Slot, initializer: Initializer) -> str | None:
    """What a parameter holds and its initializer would replace, in words."""
    tensor = slot.tensor
    held = common_value(tensor)
    if held is None and _is_of_sines(tensor):
        return "sines and cosines"
    if held is None:
        largest = float(here(tensor).abs().max()) if slot.attribute == "bias" else 0.0  # of a matrix it would be a copy
        return f"values up to {largest:.3g}, larger than its type's" if _is_foreign_bias(slot, [largest]) else None
    if isinstance(slot.module, nn.PReLU) and held == 0.25:  # torch's default, not the model's
        return None
    found, constant = law_of(initializer, tensor.shape, tensor.dtype), constant_value(tensor)
    if found is None:
        with torch.no_grad():
            filled = here(tensor).clone()
            fill_with(initializer, filled, 0)  # what depends on its key is no constant
            if torch.equal(filled, here(tensor)):
                return None
    elif found[0].name == "constant" and constant == float(torch.tensor(found[0].parameters[0], dtype=tensor.dtype)):
        return None
    return f"{'' if constant is not None else 'mostly '}{held:.6g}"


def _is_of_sines(tensor: Tensor) -> bool:
    """Whether the rows of a tensor are sines and cosines in pairs: they have one length then, as drawn ones have not. The first
    may be another's, such as a class token's."""
    size = tensor.shape[-1] if tensor.ndim else 0
    count = tensor.numel() // max(1, size)
    if tensor.ndim < 2 or size % 2 or count < 3:
        return False
    rows = here(tensor).reshape(count, size)[[count // 3, count // 2, -1]].double()
    half = size / 2
    return float(rows.abs().max()) <= 1 and float((rows.square().sum(1) - half).abs().max()) < 1e-2 * half


def _is_foreign_bias(slot: Slot, values: list[float]) -> bool:
    """Whether values of a bias are too large for torch's own: it draws within one over the root of the fan."""
    if slot.attribute != "bias" or not isinstance(slot.module, _DENSE):
        return False
    weight = own_parameters(slot.module).get("weight")
    return weight is not None and max(map(abs, values)) > _largest_bias(weight.shape)


@functools.lru_cache(1024)
def _largest_bias(shape: torch.Size) -> float:
    return 1.01 / math.sqrt(max(1, fans(shape)[0]))
