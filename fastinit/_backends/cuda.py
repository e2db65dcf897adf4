"""The native backend on NVIDIA GPUs: the CUDA C++ library, which also loads without a driver."""

from __future__ import annotations

import functools
import pathlib

import torch

from fastinit._backends import abi
from fastinit._backends.reference import add_up
from fastinit._core.plan import Blending, Plan, batches
from fastinit._core.recipes import Recipe
from fastinit._torch import current_cuda_stream

NAME = "native"
MOST_MEMBERS = 2048  # as FASTINIT_MOST_MEMBERS
_PIECE = 1 << 24  # elements of a float32 tensor on the way


@functools.cache
def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot fill tensors on the device; None where it can."""
    if torch.version.hip is not None:
        return "it fills NVIDIA GPUs, and this torch is built for ROCm"
    if not torch.cuda.is_available():
        return "there is no cuda device here"
    found = library_or_reason()
    if isinstance(found, str):
        return found
    index = torch.cuda.current_device() if device.index is None else device.index
    status = found.fastinit_cuda_check(index)
    return f"cuda:{index}: {found.fastinit_message(status).decode()} (status {status})" if status else None


def fill(plans: list[Plan]) -> None:
    """Fill the tensors of all plans, which are on one device, in the order of its current stream, without waiting for it."""
    index = plans[0].out.device.index
    raw, kept = abi.packed(plans)
    status = _library().fastinit_cuda_fill(raw, len(plans), index, current_cuda_stream(index))
    if status:
        raise abi.refusal(_library(), status)
    del kept


def blend(blendings: list[Blending]) -> None:
    """Blend into the tensors of all blendings, likewise.

    Keys travel in a kernel's parameters, which hold a few thousand. More of them take several launches, exactly where the tensor
    holds sums as they are made; of narrower dtypes by way of a float32 tensor, a piece at a time.
    """
    narrow = [each for each in blendings if len(each.keys) > MOST_MEMBERS and each.out.dtype is not each.recipe.real]
    blend_at_once([each for each in blendings if not any(each is other for other in narrow)])
    for piece in (piece for pieces in batches(narrow, _PIECE) for piece in pieces):
        sums = torch.empty(piece.out.shape, dtype=piece.recipe.real, device=piece.out.device)
        add_up(sums, piece.source, (), (), piece.keep, piece.recipe.real)
        blend_at_once([piece._replace(out=sums, source=sums, keep=1.0)])
        add_up(piece.out, sums, (), (), 1.0, piece.recipe.real)


def blend_at_once(blendings: list[Blending]) -> None:
    """Blend by one call of the library."""
    if not blendings:
        return
    index = blendings[0].out.device.index
    raw, kept = abi.packed_blendings(blendings)
    status = _library().fastinit_cuda_blend(raw, len(blendings), index, current_cuda_stream(index))
    if status:
        raise abi.refusal(_library(), status)
    del kept


def transform(recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
    """The values that a recipe gives to words (int64 for 8-byte dtypes, else int32), on the words' device."""
    raw, words, out, kept = abi.packed_map(recipe, words)
    index = out.device.index
    status = _library().fastinit_cuda_transform(raw, words.data_ptr(), words.numel(), index, current_cuda_stream(index))
    if status:
        raise abi.refusal(_library(), status)
    del kept
    return out


def library_path() -> pathlib.Path:
    return abi.PACKAGE / "libfastinit_cuda.so"


@functools.cache
def library_or_reason() -> abi.Library | str:
    """The package's library, loaded once a process, or why it cannot be used."""
    return abi.load(library_path(), abi.CUDA)


@functools.cache
def _library() -> abi.Library:
    """The library. Raises RuntimeError where it cannot be used."""
    return abi.usable(library_or_reason())
