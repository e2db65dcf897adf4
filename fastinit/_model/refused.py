"""Modules and tensors that cannot be initialized, and why."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fastinit._core.check import PLAIN, absence, is_plain
from fastinit._core.shard import is_dtensor, local_of
from fastinit._schemes.scheme import is_lazy
from fastinit._torch import FakeTensor, children_of, pre_hooks_of

_QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


def is_parametrized(module: nn.Module) -> bool:
    return "parametrizations" in children_of(module) and parametrize.is_parametrized(module)


def refusal_of_module(module: nn.Module) -> str | None:
    """Why a module cannot be initialized; None where it can."""
    if is_lazy(module):
        return "its parameters have no shapes yet. Run a forward pass first"
    if reason := _refusal_of_kind(type(module)):  # type: ignore[arg-type]  # classes have hashes
        return reason
    for hook in pre_hooks_of(module):
        if isinstance(hook, (WeightNorm, SpectralNorm)):
            return f"{type(hook).__name__}'s hook computes {hook.name!r}. Initialize first, or use nn.utils.parametrizations"
    if is_parametrized(module):
        return _refusal_of_parametrizations(module)
    return None


@functools.lru_cache(4096)
def _refusal_of_kind(kind: type[nn.Module]) -> str | None:
    if kind.__module__.startswith(_QUANTIZED):
        return "its weights are quantized and packed. Initialize the model, then quantize it"
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None and issubclass(kind, fsdp.FullyShardedDataParallel):
        return "FullyShardedDataParallel holds flat shards of several parameters. Initialize before wrapping, or use fully_shard"
    return None


def _refusal_of_parametrizations(module: Any) -> str | None:
    """Parametrized weights are set through the right inverses; what has buffers too would keep those of the old weight."""
    for name, steps in module.parametrizations.items():
        unable = [step for step in steps if not hasattr(step, "right_inverse") or list(step.buffers())]
        if unable:
            kinds = ", ".join(type(step).__name__ for step in unable)
            return f"{name!r} is parametrized by {kinds}, without an inverse or with buffers. Initialize, then parametrize"
        if any(tensor.is_meta or is_dtensor(tensor) for tensor in steps.parameters()):
            return f"{name!r} is parametrized, on meta or sharded. Initialize, then parametrize"
    return None


def refusal_of_tensor(tensor: Tensor) -> str | None:
    if tensor.layout is not torch.strided or tensor.is_nested:
        return "a nested tensor" if tensor.is_nested else f"a tensor of layout {tensor.layout}, and only torch.strided is filled"
    if type(tensor) in PLAIN and not hasattr(tensor, "ds_id"):  # mostly
        return None
    if reason := absence(tensor):
        return reason
    local = local_of(tensor)
    if is_plain(local) or isinstance(local, FakeTensor):
        return None
    of = f"{type(tensor).__name__} of " if local is not tensor else ""
    return f"{of}{type(local).__name__} is no plain tensor or DTensor of one. Initialize the model before it is converted"
