"""Noise onto a whole model: `perturb_` of one seed, and the update of an evolution strategy, against torch's ways on one GPU.

torch makes each parameter's noise as a tensor and adds it: by its default generator, which knows no names and no order; or by a
generator that is seeded anew for each parameter, which makes the noise a function of a seed, as `perturb_` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import fastinit
from fastinit._commands.measure import percentiles

SCALE = 2.0**-10
Waited = Callable[[dict[str, Callable[[int], Any]], int, torch.device], dict[str, list[float]]]


class Pace(Protocol):
    rounds: int
    seeds: int  # of an update


def rows(backends: list[str], model: nn.Module, pace: Pace, waited: Waited) -> Iterator[dict[str, Any]]:
    """Yield a row for every backend, of one seed and of several; `waited` takes wall times."""
    tensors = list(model.parameters())
    device, dtype = tensors[0].device, str(tensors[0].dtype).removeprefix("torch.")
    for tensor in tensors:
        tensor.detach().fill_(0.5)
    for count in (1, pace.seeds):
        calls: dict[str, Callable[[int], Any]] = {name: partial(perturbed, name, model, count) for name in backends}
        calls |= {"randn": partial(added, tensors, count), "seeded": partial(added_by_seeds, tensors, count)}
        spans = waited(calls, pace.rounds, device)
        peaks = {name: peak(call, device) for name, call in calls.items()}
        for name in backends:
            facts: dict[str, Any] = {"model": type(model).__name__, "dtype": dtype, "tensors": len(tensors), "seeds": count}
            facts |= {"elements": sum(tensor.numel() for tensor in tensors), "backend": name, "rounds": pace.rounds}
            facts |= {"seconds": percentiles(spans[name]), "bytes": peaks[name]}
            for peer in ("randn", "seeded"):
                times = percentiles([a / b for a, b in zip(spans[peer], spans[name], strict=True)])
                facts |= {f"times_{peer}": times, f"{peer}_bytes": peaks[peer]}
            yield facts


def coefficients(count: int, number: int) -> list[float]:
    """Of both signs, so that no number of rounds leaves the dtype's range."""
    return [SCALE * (-1) ** (n + number) for n in range(count)]


def perturbed(name: str, model: nn.Module, count: int, number: int) -> None:
    with fastinit.backend(name):
        fastinit.perturb_(model, fastinit.normal_, seed=list(range(count)), add=coefficients(count, number))


@torch.no_grad()
def added(tensors: list[Tensor], count: int, number: int) -> None:
    """By the default generator, seeded for each member."""
    for seed, factor in enumerate(coefficients(count, number)):
        torch.manual_seed(seed)
        for tensor in tensors:
            tensor.add_(torch.randn(tensor.shape, dtype=tensor.dtype, device=tensor.device), alpha=factor)


@torch.no_grad()
def added_by_seeds(tensors: list[Tensor], count: int, number: int) -> None:
    generator = torch.Generator(tensors[0].device)
    for seed, factor in enumerate(coefficients(count, number)):
        for place, tensor in enumerate(tensors):
            generator.manual_seed(seed << 32 | place)
            noise = torch.randn(tensor.shape, dtype=tensor.dtype, device=tensor.device, generator=generator)
            tensor.add_(noise, alpha=factor)


def peak(call: Callable[[int], Any], device: torch.device) -> int | None:
    """Bytes that a call takes at its most, beyond what is there before; None where there is no GPU to ask."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call(0)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
