"""The one list of what is measured, and against what: fastinit's functions and their peers in torch, timm and JAX."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import fastinit
from fastinit._core.check import FLOAT_DTYPES

_Call = Callable[[Tensor], Any]
STD = 0.02


class Work(NamedTuple):
    """One function, and torch.nn.init's for the same law."""

    name: str
    ours: _Call
    peer: _Call
    peer_name: str


def torch_truncated_(tensor: Tensor) -> Tensor:
    return nn.init.trunc_normal_(tensor, std=STD, a=-2 * STD, b=2 * STD)


def _torch_he_(tensor: Tensor) -> Tensor:
    return nn.init.kaiming_uniform_(tensor, nonlinearity="relu")


WORKS = {
    work.name: work
    for work in (
        Work("truncated_normal", partial(fastinit.truncated_normal_, std=STD), torch_truncated_, "nn.init.trunc_normal_"),
        Work("glorot_uniform", fastinit.glorot_uniform_, nn.init.xavier_uniform_, "nn.init.xavier_uniform_"),
        Work("he_uniform", fastinit.he_uniform_, _torch_he_, "nn.init.kaiming_uniform_"),
        Work("uniform", fastinit.uniform_, nn.init.uniform_, "nn.init.uniform_"),
        Work("normal", partial(fastinit.normal_, std=STD), partial(nn.init.normal_, std=STD), "nn.init.normal_"),
    )
}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOAT_DTYPES}


def matrix(elements: int, dtype: torch.dtype) -> Tensor:
    """A matrix of so many elements, as square as powers of two make it (fans need two dimensions), every page touched."""
    rows = math.gcd(elements, 1 << elements.bit_length() // 2)
    return torch.empty(rows, elements // rows, dtype=dtype).fill_(1.0)


def torch_peer(work: Work, dtype: torch.dtype) -> _Call | None:
    """torch.nn.init's function, or None if it cannot fill the dtype."""
    try:
        work.peer(matrix(64, dtype))
    except (NotImplementedError, RuntimeError):
        return None
    return work.peer


def other_peers(work: Work, dtype: torch.dtype) -> dict[str, _Call]:
    """The functions of timm and JAX for the same law, where these are installed and know the dtype."""
    return {**_timm_peer(work, dtype), **_jax_peer(work, dtype)}


def _timm_peer(work: Work, dtype: torch.dtype) -> dict[str, _Call]:
    if work.name != "truncated_normal" or dtype.itemsize == 1 or importlib.util.find_spec("timm") is None:
        return {}
    from timm.layers import trunc_normal_tf_

    return {"timm.layers.trunc_normal_tf_": partial(trunc_normal_tf_, std=STD)}


def _jax_peer(work: Work, dtype: torch.dtype) -> dict[str, _Call]:
    """jax.nn.initializers makes a new array at each call: its time includes the allocation, as in use."""
    if dtype is torch.float64 or dtype.itemsize == 1 or importlib.util.find_spec("jax") is None:
        return {}
    import jax

    initializers = {
        "truncated_normal": jax.nn.initializers.truncated_normal(STD),
        "glorot_uniform": jax.nn.initializers.glorot_uniform(),
        "he_uniform": jax.nn.initializers.he_uniform(),
        "uniform": jax.nn.initializers.uniform(1.0),
        "normal": jax.nn.initializers.normal(STD),
    }
    draw = jax.jit(initializers[work.name], static_argnums=(1, 2))
    name, key = str(dtype).removeprefix("torch."), jax.random.key(0)

    def call(tensor: Tensor) -> None:
        draw(key, tuple(tensor.shape), name).block_until_ready()

    return {f"jax.nn.initializers.{work.name}": call}
