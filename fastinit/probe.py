"""What an initializer does to a tensor, found out on a meta tensor: where one law fills the whole, fills can be batched."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastinit.distributions import Distribution, constant
from fastinit.ops import MASK64

Initializer = Callable[[Tensor], Any]
SET_TO_SCALAR = torch.ops.aten.fill_.Scalar
SET_TO_ZERO = torch.ops.aten.zero_.default
ANY_KEY = 0x9E3779B97F4A7C15  # stands for the key to be given; any number that nobody passes


class Watch(TorchDispatchMode):
    """Notes every operation, and carries out none of those that only write the stand-in."""

    def __init__(self, stand_in: Tensor) -> None:
        super().__init__()
        self.stand_in = stand_in
        self.fills: list[tuple[Distribution, int | None]] = []  # of the whole stand-in: law and key
        self.others = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and args[0] is self.stand_in:
            if func is torch.ops.fastinit.fill_.default and args[4] is None:
                law = Distribution(args[1], tuple(args[2]))
                self.fills.append((law, args[3] & MASK64))
                return None
            if func is SET_TO_ZERO or (func is SET_TO_SCALAR and plain_number(args[1])):
                self.fills.append((constant(float(0 if func is SET_TO_ZERO else args[1])), None))
                return self.stand_in
        self.others += 1
        return func(*args, **(kwargs or {}))


def plain_number(value: Any) -> bool:
    """Whether a constant is one that a plan can hold: fill_ writes infinities, NaN and negative zero."""
    return isinstance(value, (int, float)) and math.isfinite(value) and (value != 0 or math.copysign(1.0, value) > 0)


def law_of(initializer: Initializer, shape: torch.Size, dtype: torch.dtype, key: int) -> tuple[Distribution, int | None] | None:
    """The one law that fills a whole tensor, and its key, if it uses one; None if the initializer does anything else.

    Nothing is written and nothing drawn: the initializer is run on a meta tensor, all of whose operations are watched. Of
    those of this package, which are pure, the outcome is kept.

    Args:
        initializer, shape, dtype: of the tensor to fill.
        key: what the initializer gets, if it takes a key.

    Raises:
        TypeError, ValueError: from an initializer of this package, for which meta tensors are like any other.
    """
    if not is_ours(initializer):
        try:
            return watched(with_key(initializer, key) or initializer, shape, dtype)
        except Exception:
            return None  # perhaps for want of values: the tensor itself will show it
    try:
        law = known_law(*call_of(initializer), shape, dtype)
    except TypeError:  # arguments that cannot be hashed
        law = watched(with_key(initializer, ANY_KEY) or initializer, shape, dtype)
    return (law[0], key) if law and law[1] == ANY_KEY else law


@functools.lru_cache(maxsize=1024)
def known_law(
    function: Any, args: tuple[Any, ...], keywords: tuple[tuple[str, Any], ...], shape: torch.Size, dtype: torch.dtype
) -> tuple[Distribution, int | None] | None:
    initializer: Initializer = functools.partial(function, *args, **dict(keywords))
    return watched(with_key(initializer, ANY_KEY) or initializer, shape, dtype)


def watched(initializer: Initializer, shape: torch.Size, dtype: torch.dtype) -> tuple[Distribution, int | None] | None:
    tensor = torch.empty(shape, dtype=dtype, device="meta")
    with Watch(tensor) as watch, torch.no_grad():
        initializer(tensor)
    return watch.fills[0] if len(watch.fills) == 1 and not watch.others else None


def call_of(initializer: Any) -> tuple[Any, tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    """Function and arguments of an initializer, by which equal ones are equal."""
    if not isinstance(initializer, functools.partial):
        return initializer, (), ()
    return initializer.func, initializer.args, tuple(sorted(initializer.keywords.items()))


def is_ours(initializer: Initializer) -> bool:
    function = unwrapped(initializer)
    return (getattr(function, "__module__", None) or "").startswith("fastinit.") or function is Tensor.zero_


def unwrapped(initializer: Any) -> Any:
    while isinstance(initializer, functools.partial):
        initializer = initializer.func
    return initializer


def fill_with(initializer: Initializer, tensor: Tensor, key: int) -> None:
    """Runs an initializer on a tensor with a key: as its argument, if it takes one, else as the seed of torch's generators."""
    keyed = with_key(initializer, key)
    if keyed is not None:
        keyed(tensor)
    else:
        with seeded(key, tensor.device):
            initializer(tensor)


def with_key(initializer: Initializer, key: int) -> Initializer | None:
    """The initializer with its key given; None if it takes none, or has one or a generator already."""
    if isinstance(initializer, functools.partial) and initializer.keywords.keys() & {"key", "generator"}:
        return None
    keyed: Any = functools.partial(initializer, key=key)  # type: ignore[call-arg]
    return keyed if takes_key(unwrapped(initializer)) else None


def takes_key(function: Any) -> bool:
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return code is not None and "key" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


@contextlib.contextmanager
def seeded(key: int, device: torch.device) -> Iterator[None]:
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
