"""The native backend on NVIDIA GPUs: the CUDA C++ library, which also loads without a driver."""

from __future__ import annotations

import functools
import pathlib

import torch

from fastinit._backends import abi
from fastinit._core.plan import Plan
from fastinit._core.recipes import Recipe
from fastinit._torch import current_cuda_stream

NAME = "native"


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
