"""What others draw for the same laws: torch.nn.init, Keras and JAX, counted by the same tally.

JAX makes a float32 of 23 random bits and a bfloat16 of 7: its own functions, given each pattern of bits once, are counted as
completely as fastinit's. The other two draw from a sequential generator (Keras through the backend it runs on, torch here):
DRAWS values of one seed, whose distances from the law are then blurred by chance (`chance`).
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from fastinit._commands.console import installed
from proof.accuracy import summary
from proof.accuracy.laws import LAWS, ExactLaw
from proof.accuracy.tally import Tally, counted_bits

DRAWS, AT_ONCE = 1 << 27, 1 << 22
SMALLEST = 2.0**-10  # around 0 the grid of 23 bits is coarser than float32 by design
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FIRST = {"normal": 2.0**-25}  # JAX's normal starts from -1 + 2^-24 + 2 k / n in (-1, 1)
SHARED = ("uniform on +-1", "normal", "truncated normal at 2 sigmas")
Draw = Callable[[str, torch.dtype], Iterator[torch.Tensor]]


def peers(names: list[str]) -> dict[str, dict[str, Any]]:
    """The installed libraries' figures of those of the laws that all of them have."""
    os.environ["KERAS_BACKEND"] = "torch"  # before keras is imported
    found = {}
    for name, draw in {"torch": drawn_by_torch, "keras": drawn_by_keras, "jax": given_to_jax}.items():
        if installed(name):
            found[name] = {"laws": {law: figures(draw, law, exhaustive=name == "jax") for law in SHARED if law in names}}
            found[name]["version"] = importlib.import_module(name).__version__
    return found


def figures(draw: Draw, name: str, exhaustive: bool) -> dict[str, Any]:
    law = LAWS[name]
    tally, ones = Tally(law), torch.ones(AT_ONCE, dtype=torch.int64)
    for dtype in DTYPES:
        for values in draw(name, dtype):
            if dtype is torch.float32:
                tally.add_values(*counted_bits(values))
            else:
                tally.add_narrow(values, ones[: len(values)])
    found = summary.figures(tally, mirrored=False)
    if exhaustive:
        found["errors"] = errors(law, torch.cat(list(draw(name, torch.float32))), FIRST.get(name, 0.0))
    else:
        found["chance"] = summary.chances(tally)
    return found


def errors(law: ExactLaw, values: torch.Tensor, first: float) -> dict[str, float]:
    """In ulps of the float32 quantile at first + k / n, which value k of n stands for, where it is not nearly 0."""
    k, n = np.arange(len(values)), len(values)
    exact = torch.from_numpy(law.quantile(first + k / n, (n - k) / n - first))
    chosen = (exact.abs() >= SMALLEST) & exact.isfinite()
    ulps = Tally(law).ulps(values[chosen], exact[chosen])
    return {"worst": float(ulps.max()), "mean": float(ulps.mean())}


def drawn_by_torch(name: str, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    init = torch.nn.init
    by_law: tuple[Callable, ...] = (partial(init.uniform_, a=-1.0, b=1.0), init.normal_, init.trunc_normal_)
    function = by_law[SHARED.index(name)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(DRAWS // AT_ONCE):
            yield function(torch.empty(AT_ONCE, dtype=dtype))


def drawn_by_keras(name: str, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    from keras.initializers import RandomNormal, RandomUniform, TruncatedNormal

    kind, *parameters = ((RandomUniform, -1.0, 1.0), (RandomNormal, 0.0, 1.0), (TruncatedNormal, 0.0, 1.0))[SHARED.index(name)]
    for number in range(DRAWS // AT_ONCE):
        yield kind(*parameters, seed=number)((AT_ONCE,), dtype=str(dtype).removeprefix("torch.")).detach()


def given_to_jax(name: str, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """JAX's functions with a generator that counts: bits 0, 1, 2, ... where they are looked at."""
    import jax
    from jax.extend.random import define_prng_impl

    def counter(key: Any, width: int, shape: tuple[int, ...]) -> Any:
        size = math.prod(shape)
        return (jax.numpy.arange(size) << width - (size.bit_length() - 1)).astype(f"uint{width}").reshape(shape)

    def unchanged(key: Any, _: Any) -> Any:
        return key

    counting = define_prng_impl(
        key_shape=(2,),
        seed=lambda seed: jax.numpy.zeros(2, dtype="uint32"),
        split=lambda key, shape: jax.numpy.zeros((*shape, 2), dtype="uint32"),
        random_bits=counter,
        fold_in=unchanged,
        name="counting",
    )
    key, kind = jax.random.key(0, impl=counting), str(dtype).removeprefix("torch.")
    shape = (1 << jax.numpy.finfo(kind).nmant,)
    functions = (
        lambda: jax.random.uniform(key, shape, kind, -1, 1),
        lambda: jax.random.normal(key, shape, kind),
        lambda: jax.random.truncated_normal(key, -2, 2, shape, kind),
    )
    yield torch.from_numpy(np.array(functions[SHARED.index(name)]().astype("float32"))).to(dtype)
