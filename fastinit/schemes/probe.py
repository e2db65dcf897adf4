"""Which one law an initializer fills a tensor with, found out on a meta tensor: such fills can be batched."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fastinit.distributions import Distribution, constant
from fastinit.ops import MASK64

Initializer = Callable[[Tensor], Any]
Law = tuple[Distribution, "int | None"]  # and its key, if it uses one
Args = tuple[Any, ...]
Keywords = tuple[tuple[str, Any], ...]
# Modules whose functions do nothing but fill their tensor, and check their arguments on meta tensors as on any other.
KNOWN = frozenset(f"fastinit.{name}" for name in ("init", "scaling", "xavier", "structured", "schemes.keras_rules"))
QUERIES = (Tensor.is_contiguous, Tensor.numel, Tensor.dim, Tensor.stride, Tensor.is_neg, Tensor.is_inference)
ANY_KEY = 0x9E3779B97F4A7C15  # stands for the key to be given; any number that nobody passes


class StandIn(Tensor):
    """A meta tensor that notes what is done to it; by function, as a mode of the dispatcher costs an import of two seconds."""

    fills: list[Law]  # of the whole tensor
    others: int

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        noted = vars(args[0])
        if "fills" in noted:  # not a view of it
            if func is torch.ops.fastinit.fill_:
                noted["fills"].append((Distribution(args[1], tuple(args[2])), args[3] & MASK64))
                return None
            if func is Tensor.zero_ or (func is Tensor.fill_ and plain_number(args[1])):
                noted["fills"].append((constant(0.0 if func is Tensor.zero_ else float(args[1])), None))
                return args[0]
            noted["others"] += func.__name__ != "__get__" and func not in QUERIES
        return super().__torch_function__(func, types, args, kwargs or {})


def plain_number(value: Any) -> bool:
    """Whether a plan can hold a constant; fill_ writes infinities, NaN and negative zero."""
    return isinstance(value, (int, float)) and math.isfinite(value) and (value != 0 or math.copysign(1.0, value) > 0)


def law_of(initializer: Initializer, shape: torch.Size, dtype: torch.dtype, key: int) -> Law | None:
    """The one law that fills a whole tensor; None if the initializer does anything else, or is not of this package.

    Nothing is written and nothing drawn.

    Args:
        initializer, shape, dtype: of the tensor to fill.
        key: what the initializer gets, if it takes a key.

    Raises:
        TypeError, ValueError: from the initializer, for the arguments it has.
    """
    function, args, keywords = call_of(initializer)
    inner = dict(keywords).get("initializer")
    if inner is not None:  # of zero_row_: for its errors alone
        law_of(inner, shape, dtype, key)
    known = getattr(function, "__module__", None) in KNOWN or function is Tensor.zero_
    if not known or any(name == "generator" for name, _ in keywords):
        return None
    spelled = repr((args, keywords))  # tells 0.0 from -0.0 and 1 from True
    try:
        law = known_law(function, args, keywords, spelled, shape, dtype)
    except TypeError:  # arguments that cannot be hashed, or are wrong
        law = known_law.__wrapped__(function, args, keywords, spelled, shape, dtype)
    return (law[0], key) if law and law[1] == ANY_KEY else law


@functools.lru_cache(maxsize=1024)
def known_law(function: Any, args: Args, keywords: Keywords, spelled: str, shape: torch.Size, dtype: torch.dtype) -> Law | None:
    initializer: Initializer = functools.partial(function, *args, **dict(keywords))
    with _disable_current_modes(), torch.no_grad():
        tensor = torch.empty(shape, dtype=dtype, device="meta").as_subclass(StandIn)
        tensor.fills, tensor.others = [], 0
        (with_key(initializer, ANY_KEY) or initializer)(tensor)
    return tensor.fills[0] if len(tensor.fills) == 1 and not tensor.others else None


def call_of(initializer: Any) -> tuple[Any, Args, Keywords]:
    """Function and arguments of an initializer, by which equal ones are equal."""
    if not isinstance(initializer, functools.partial):
        return initializer, (), ()
    return initializer.func, initializer.args, tuple(sorted(initializer.keywords.items()))


# --- keys for initializers ----------------------------------------------------------------------------------------------------


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
    function, _, keywords = call_of(initializer)
    if any(name in ("key", "generator") for name, _ in keywords) or not takes_key(function):
        return None
    keyed: Any = functools.partial(initializer, key=key)  # type: ignore[call-arg]
    return keyed


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
