"""The row of an embedding that stands for padding: zero, whichever initializer fills the others."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from fastinit._core.laws import Initializer, declares, law_of
from fastinit._core.shard import fill_rows_
from fastinit._schemes.calling import fill_with


def padded(module: nn.Module, name: str, initializer: Initializer) -> Initializer:
    """The initializer of a module's parameter; of an embedding with a padding row, the one that leaves this row zero."""
    if name != "weight" or not isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or module.padding_idx is None:
        return initializer
    return partial(zero_row_, row=module.padding_idx, initializer=initializer)


def check_zero_row(shape: torch.Size, dtype: torch.dtype, row: int, initializer: Initializer) -> None:
    """Raise for wrong arguments of the initializer; there is no single law."""
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
