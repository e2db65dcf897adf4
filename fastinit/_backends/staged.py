"""Devices that no kernel of this package serves, such as MPS, NPU, HPU and XLA: filled on the CPU, and copied piece by piece.

The bits are those of the CPU, as a copy changes none, and what the device cannot do (MPS has no float64) is not asked of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from fastinit._backends import cpu, reference
from fastinit._backends.choose import Backend
from fastinit._core.modes import safe_torch
from fastinit._core.plan import Blending, Plan, batches
from fastinit._core.recipes import Recipe

PIECE = 1 << 26  # bytes on the CPU at once


class Staged(NamedTuple):
    """A backend of the CPU and copies. Each piece has memory of its own: a device may read it after the copy has returned."""

    NAME: str

    def unavailable(self, device: torch.device) -> str | None:
        """Why it cannot fill tensors on the device; None where it can."""
        return _BACKENDS[self.NAME].unavailable(torch.device("cpu"))

    @safe_torch()
    @torch.inference_mode()
    def fill(self, plans: list[Plan]) -> None:
        """Fill the tensors of all plans, which are on one device, in the order of its current stream."""
        for together in batches(plans, PIECE // max(plan.out.itemsize for plan in plans)):
            made = [plan._replace(out=torch.empty(plan.out.shape, dtype=plan.out.dtype, device="cpu")) for plan in together]
            _BACKENDS[self.NAME].fill(made)
            for plan, source in zip(together, made, strict=True):
                plan.out.copy_(source.out)
            del made, source  # before the next are made

    @safe_torch()
    @torch.inference_mode()
    def blend(self, blendings: list[Blending]) -> None:
        """Blend into the tensors of all blendings, likewise: what they hold is copied to the CPU and back."""
        for together in batches(blendings, PIECE // max(blending.out.itemsize for blending in blendings)):
            made = []
            for blending in together:
                read = blending.source.cpu() if blending.keep != 0 else torch.empty_like(blending.source, device="cpu")
                made.append(blending._replace(out=read, source=read))
            _BACKENDS[self.NAME].blend(made)
            for blending, done in zip(together, made, strict=True):
                blending.out.copy_(done.out)
            del made, read, done  # before the next are made

    def transform(self, recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
        """The values that a recipe gives to words (int64 for 8-byte dtypes, else int32), on the words' device."""
        return _BACKENDS[self.NAME].transform(recipe, words.cpu()).to(words.device)


_BACKENDS: dict[str, Backend] = {backend.NAME: backend for backend in (cpu, reference)}
