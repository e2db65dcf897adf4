"""The row of an embedding that stands for padding: zero, whichever initializer fills the others."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from fastinit._core.laws import Initializer, declares, law_of
from fastinit._core.shard import fill_rows_
from fastinit._schemes.calling import fill_with

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def padded(module: nn.Module, name: str, initializer: Initializer) -> Initializer:
    """The initializer of a module's parameter; of an embedding with a padding row, the one that leaves this row zero."""
    row = padding_row(module, name)
    return initializer if row is None else partial(zero_row_, row=row, initializer=initializer)


def has_padding(module: nn.Module) -> bool:
    """Whether modules of this kind may have a row that stands for padding."""
    return isinstance(module, _EMBEDDINGS)


def padding_row(module: nn.Module, name: str) -> int | None:
    """The row of a module's parameter that stands for padding; None: it has none."""
    return module.padding_idx if name == "weight" and isinstance(module, _EMBEDDINGS) else None


def _row_of(shape: torch.Size, row: int) -> int:
    """The row, counted from the first: rows are those of the matrix, or of each of several that are stacked."""
    if len(shape) < 2 or not -shape[-2] <= row < shape[-2]:
        rows = f"the rows of a weight of shape {tuple(shape)}"
        raise ValueError(f"padding_idx={row} does not lie among {rows}. Set it to a row of the weight, or to None.")
    return row % shape[-2]


def check_zero_row(shape: torch.Size, dtype: torch.dtype, row: int, initializer: Initializer) -> None:
    """Raise for wrong arguments of the initializer; there is no single law."""
    _row_of(shape, row)
    law_of(initializer, shape, dtype)


@declares(check_zero_row)
def zero_row_(tensor: Tensor, row: int, initializer: Initializer, *, key: int | None = None) -> Tensor:
    """Fill a tensor with the initializer, then one row of it with 0."""
    first = _row_of(tensor.shape, row)
    fill_with(initializer, tensor, key)
    fill_rows_(tensor, range(first, first + 1), 0.0, axis=tensor.ndim - 2)
    return tensor
