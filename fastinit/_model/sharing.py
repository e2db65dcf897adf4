"""Which parameters and buffers of a model share memory, and whose rule decides then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container

from fastinit._core.check import PLAIN
from fastinit._core.laws import Initializer
from fastinit._core.memory import PartlyShared, holders_of
from fastinit._core.shard import local_of
from fastinit._model.slots import Slot, check_tensors
from fastinit._schemes.padding import padded, padding_row
from fastinit._torch import storage_numbers


def sources(found: list[Slot]) -> list[int]:
    """For each slot the first one that holds its memory: itself, if it shares none.

    Raises:
        ValueError: two tensors share a part of their memory, and neither holds the other; or some have no storage.
    """
    source, storages = list(range(len(found))), defaultdict(list)
    try:
        numbers = storage_numbers(slot.tensor if type(slot.tensor) in PLAIN else local_of(slot.tensor) for slot in found)
    except NotImplementedError:  # torch's, of sparse ones
        check_tensors(found)
        raise
    if len(set(numbers)) == len(numbers):  # mostly
        return source
    for number, storage in enumerate(numbers):
        storages[storage].append(number)
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


def shared_numbers(source: list[int]) -> set[int]:
    """The numbers of slots that share memory with another."""
    with_others = {owner for number, owner in enumerate(source) if owner != number}
    return {number for number, owner in enumerate(source) if owner in with_others} if with_others else with_others


def sharers_of(found: list[Slot], source: list[int], but: Container[int] = ()) -> dict[int, list[Slot]]:
    """The slots that share the memory of each that owns its own, by number; itself among them. Of some numbers none is asked."""
    sharing: dict[int, list[Slot]] = defaultdict(list)
    for number, owner in enumerate(source):
        if owner not in but:
            sharing[owner].append(found[number])
    return sharing


def decider_of(sharers: list[Slot]) -> Slot | None:
    """Of those that share memory the one whose rule decides; None: no rule names any."""
    ruled = [sharer for sharer in sharers if sharer.choice]
    return min(ruled, key=_rank) if len(ruled) > 1 else ruled[0] if ruled else None


def _rank(slot: Slot) -> int:
    """Of the rules of those that share memory a rule for a full name decides, then that of an embedding with a padding row, then
    the first in the model."""
    assert slot.choice is not None
    return 0 if slot.choice.by_name else 1 if padding_row(slot.module, slot.attribute) is not None else 2


def padded_for(slot: Slot, sharers: list[Slot], initializer: Initializer) -> Initializer:
    """The initializer, less the padding rows of the embeddings that share a slot's memory.

    Raises:
        ValueError: a padding row cannot be told in the memory that holds it.
    """
    for sharer in sharers:
        if sharer.tensor.shape == slot.tensor.shape:
            initializer = padded(sharer.module, sharer.attribute, initializer)
        elif padding_row(sharer.module, sharer.attribute) is not None:
            raise ValueError(
                f"{sharer.name} has a padding row, and is a part of {slot.name}. Make it a copy, or padding_idx None."
            )
    return initializer
