"""GPT-2 small in plain torch modules (124M parameters), to be initialized and never run; and the statistics of its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

STD, SIGMAS = 0.02, 2.0  # of GPT-2's weights, and where they are cut
# The standard deviation of N(0, 1) cut at two sigmas, from its density: 1 - 2 * 2 * phi(2) / (Phi(2) - Phi(-2)).
CUT_STD = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))


class GPT2(nn.Module):
    """The parameters of GPT-2; its head shares wte's."""

    def __init__(self, layers: int = 12, width: int = 768, vocabulary: int = 50257, positions: int = 1024) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(positions, width)
        self.h = nn.ModuleList(
            nn.TransformerEncoderLayer(width, width // 64, 4 * width, activation="gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.ln_f = nn.LayerNorm(width)


def allocated(**sizes: int) -> GPT2:
    """The model with memory that is touched and not initialized, so that no contender pays for page faults."""
    with torch.device("meta"):
        model = GPT2(**sizes)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0)
    return model


def initialize(model: GPT2, truncated: Callable[[str, Tensor, float], object]) -> None:
    """GPT-2's own initialization, with the normal cut at two sigmas: `truncated(name, weight, std)` fills a weight."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if _is_scale(name) else 0.0)
            else:
                truncated(name, parameter, std_of(name, len(model.h)))


def _is_scale(name: str) -> bool:
    return bool(re.search(r"(norm\d|ln_f)\.weight$", name))


def std_of(name: str, layers: int) -> float:
    """The projections that end in the residual stream are scaled down by the number of additions to it."""
    residual = name.endswith(("out_proj.weight", "linear2.weight"))
    return STD / math.sqrt(2 * layers) if residual else STD


class Statistics(NamedTuple):
    """Of all parameters of one kind: all layers' together."""

    tensors: int
    elements: int
    expected_std: float
    bound: float  # least and greatest value expected
    mean: float
    std: float
    least: float
    greatest: float

    @property
    def mean_error(self) -> float:
        """The mean in units of its standard error: within +-3, or something is biased."""
        return self.mean / (self.expected_std / math.sqrt(self.elements))


def statistics(model: GPT2) -> dict[str, Statistics]:
    """Every kind of weight matrix: name with the layer's number starred -> statistics."""
    kinds: dict[str, list[Tensor]] = {}
    stds: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            kind = re.sub(r"\.\d+\.", ".*.", name).replace("self_", "").replace("_weight", "").removesuffix(".weight")
            kinds.setdefault(kind, []).append(parameter.detach())
            stds[kind] = std_of(name, len(model.h))
    return {kind: _of_tensors(tensors, stds[kind]) for kind, tensors in kinds.items()}


def _of_tensors(tensors: list[Tensor], std: float) -> Statistics:
    """Sums in float64, in chunks."""
    elements, total, squares, least, greatest = 0, 0.0, 0.0, math.inf, -math.inf
    for chunk in (chunk for tensor in tensors for chunk in tensor.flatten().split(1 << 20)):
        values = chunk.double()
        elements += len(values)
        total += values.sum().item()
        squares += values.square().sum().item()
        low, high = values.aminmax()
        least, greatest = min(least, low.item()), max(greatest, high.item())
    mean = total / elements
    spread = math.sqrt(squares / elements - mean * mean)
    return Statistics(len(tensors), elements, std * CUT_STD, SIGMAS * std, mean, spread, least, greatest)
