"""Constants that a constructor has set on purpose: a zero gate, a Dirac kernel, the last gain of a residual block.

A scheme for any model knows of a parameter its type, not what the model's constructor made of it. So where a model holds what a
constructor gave, what is constant there is compared with what the scheme would write.
"""

from __future__ import annotations

import torch
from torch import nn

from fastinit._core.laws import Initializer, law_of
from fastinit._core.shard import is_dtensor
from fastinit._model.slots import Slot
from fastinit._schemes.calling import fill_with
from fastinit._schemes.held import common_value, constant_value, is_varied
from fastinit._torch import is_written


def is_constructed(found: list[Slot]) -> bool:
    """Whether a model holds what a constructor gave: half of its matrices at least hold varied values, written in place.

    Memory that nobody has written since it was made (`to_empty`) may hold anything, and proves nothing; nor do copies and shards.
    """
    drawn = [slot for slot in found if slot.choice and slot.choice.initializer and slot.tensor.ndim > 1 and not slot.buffer]
    matrices = [slot.tensor for slot in drawn if not slot.parametrized]
    if any(is_dtensor(tensor) for tensor in matrices):
        return False
    written = [tensor for tensor in matrices if is_written(tensor)]
    return bool(written) and 2 * len(written) >= len(matrices) and 2 * sum(map(is_varied, written)) >= len(matrices)


def replaced_constant(slot: Slot, initializer: Initializer, key: int) -> float | None:
    """The constant that a parameter of a constructed model holds and that its initializer would replace; None: it would not."""
    tensor = slot.tensor
    if slot.parametrized or (hasattr(slot.module, "reset_parameters") and not is_written(tensor)):
        return None
    held = common_value(tensor)
    if held is None or (isinstance(slot.module, nn.PReLU) and held == 0.25):  # torch's default, not the model's
        return None
    found = law_of(initializer, tensor.shape, tensor.dtype)
    if found is None:
        with torch.no_grad():
            filled = tensor.clone()
            fill_with(initializer, filled, key)
            return None if torch.equal(filled, tensor) else held
    same = found[0].name == "constant" and constant_value(tensor) == float(found[0].parameters[0])
    return None if same else held
