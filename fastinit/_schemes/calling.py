"""Calling an initializer with a key: as its argument, if it takes one, else as the seed of torch's generators."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastinit._core.laws import Initializer, call_of


def fill_with(initializer: Initializer, tensor: Tensor, key: int) -> None:
    """Run an initializer on a tensor with a key: as its argument, if it takes one, else as the seed of torch's generators."""
    keyed = _with_key(initializer, key)
    if keyed is not None:
        keyed(tensor)
    else:
        with _seeded(key, tensor.device):
            initializer(tensor)


def _with_key(initializer: Initializer, key: int) -> Initializer | None:
    """The initializer with its key given; None if it takes none, or has one or a generator already."""
    function, _, keywords = call_of(initializer)
    if "key" in keywords or "generator" in keywords or not _takes_key(function):
        return None
    keyed: Initializer = functools.partial(initializer, key=key)  # type: ignore[call-arg]
    return keyed


def _takes_key(function: Any) -> bool:
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return code is not None and "key" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


@contextlib.contextmanager
def _seeded(key: int, device: torch.device) -> Iterator[None]:
    """torch's default generators, of the CPU and of the device, seeded inside a `with` block and put back after it."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(key)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
