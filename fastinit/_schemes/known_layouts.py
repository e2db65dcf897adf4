"""Weights of transformers' modules whose layout is known for sure: its Conv1D, routers and stacks of experts."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from fastinit._core.laws import Initializer
from fastinit._initializers.constants import zeros_
from fastinit._initializers.layouts import dimensions_of, in_layout, inputs_of
from fastinit._torch import own_parameters

_GATED = ("gate_up_proj", "up_proj", "gate_proj", "down_proj")
_ROUTER = re.compile(r"(Router|MoEGate)$")  # a linear map from features to experts
_PLAIN = dict.fromkeys(_GATED, "expert out in")
_LAYOUTS = {  # by the name of a class of transformers that says nothing of it itself
    "Conv1D": {"weight": "in out"},
    "JetMoeParallelExperts": {"weight": "expert out in"},
    "GraniteMoeParallelExperts": {"weight": "expert out in"},
    "InklingSharedExperts": _PLAIN,
    "Step3p7Experts": {**_PLAIN, "gate_up_proj": "expert (2 out) in"},
    "LongcatFlashExperts": {**_PLAIN, "gate_up_proj": "expert (2 out) in"},
    "Llama4TextExperts": {"gate_up_proj": "expert in (2 out)", "down_proj": "expert in out"},
    "GptOssExperts": {"gate_up_proj": "expert in (out 2)", "down_proj": "expert in out"},
}


def layout_of(module: nn.Module, name: str) -> str | None:
    """The layout of a module's weight, as `in_layout` takes it; None: it is not known."""
    if not _is_of_transformers(type(module)):  # type: ignore[arg-type]
        return None
    transposed, concatenated = (vars(module).get(name) for name in ("is_transposed", "is_concatenated"))
    if isinstance(transposed, bool) and isinstance(concatenated, bool) and hasattr(module, "has_gate"):  # its experts' interface
        packed = name == "gate_up_proj" and ("(2 out)" if concatenated else "(out 2)")
        out = packed or "out"
        layout = f"expert in {out}" if transposed else f"expert {out} in"
        found = layout if name in _GATED else None
    elif name == "weight" and _ROUTER.search(type(module).__name__):
        found = "out in"
    else:
        found = next((known[name] for kind in type(module).__mro__ if name in (known := _LAYOUTS.get(kind.__name__, {}))), None)
    tensor = own_parameters(module).get(name)
    return found if found and tensor is not None and tensor.ndim == dimensions_of(found) else None


def laid_out(module: nn.Module, matrix: Initializer, bias: Callable[[int], Initializer]) -> dict[str, Initializer | None]:
    """The rule of a module of known layouts: what fills each matrix [out, in], and what fills the biases of so many inputs."""
    rule: dict[str, Initializer | None] = {}
    if not _is_of_transformers(type(module)):  # type: ignore[arg-type]
        return rule
    for name, tensor in own_parameters(module).items():
        layout = layout_of(module, name)
        if layout:
            rule[name] = matrix if layout == "out in" else in_layout(matrix, layout)
            rule["bias" if name == "weight" else f"{name}_bias"] = bias(inputs_of(tensor.shape, layout))
    return rule


def zero_bias(inputs: int) -> Initializer:
    return zeros_


@functools.lru_cache(4096)
def _is_of_transformers(kind: Any) -> bool:
    return any(base.__module__.partition(".")[0] in ("transformers", "transformers_modules") for base in kind.__mro__)
