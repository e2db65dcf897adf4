"""The short way of a fill: of a plain tensor on the CPU by the native backend, as nearly all are. `_fill.py` has the long one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.compiler import is_dynamo_compiling

from fastinit._backends import cpu
from fastinit._backends.abi import raw_recipe
from fastinit._backends.choose import choose
from fastinit._core import keys
from fastinit._core.check import FLOAT_DTYPES, LOADED
from fastinit._core.laws import Law, half_open
from fastinit._core.memory import check_memory
from fastinit._core.modes import SMALLEST
from fastinit._core.recipes import recipe
from fastinit._torch import base_of, dispatch_modes, is_wrapped_by_functorch, written

_CPU, _USUAL = torch.device("cpu"), frozenset((Tensor, torch.nn.Parameter))
_LASTING = frozenset((float, int, bool, str, type(None)))  # equal ones of one type stay equal; tensors and NumPy's arrays do not


class Usual:
    """What an initializer's arguments ask for, made ready once: for `fills_`."""

    def __init__(self, law: Callable[..., Law | None], *, scaled: bool = True, most: int | None = None) -> None:
        self.scaled = scaled  # the law depends on the shape
        self.most = most  # elements, above which the long way is as fast
        self.law = law
        self.ready = functools.lru_cache(maxsize=1024, typed=True)(self._ready)

    def half_open(self) -> Usual:
        """The same without the upper bound of a uniform law."""
        given = self.law

        @functools.wraps(given)
        def law(*arguments: Any) -> Law | None:
            return half_open(found) if (found := given(*arguments)) else None

        return Usual(law, scaled=self.scaled)

    def _ready(self, shape: torch.Size, dtype: torch.dtype, *arguments: Any) -> tuple[int, int, Any]:
        """The address of the library's recipe, the bytes of an element, and what must stay alive."""
        law = self.law(shape, dtype, *arguments)
        if law is None or dtype not in FLOAT_DTYPES or not all(type(each) in _LASTING for each in arguments):
            raise TypeError("not usual")
        made = recipe(law, dtype)
        raw, at = raw_recipe(made)
        return at, dtype.itemsize, (made, raw)


def fills_(usual: Usual, tensor: Tensor, generator: Generator | None, key: int | None, *arguments: Any) -> int:
    """Fill a tensor as nearly all are, in a third of `fill_`'s time: how many elements. 0: it is another one, or something is
    wrong; nothing is done, and `fill_` does it or says so. What raises here is what `fill_` would raise."""
    if (
        is_dynamo_compiling()
        or type(tensor) not in _USUAL
        or dispatch_modes()
        or not SMALLEST / 2
        or is_wrapped_by_functorch(tensor)
    ):
        return 0
    try:
        size, out = tensor.nbytes, tensor.data_ptr()
        if not size or not out or not tensor.is_cpu or not tensor.is_contiguous() or tensor.is_nested or tensor.is_neg():
            return 0
        at, itemsize, _ = usual.ready(tensor.shape if usual.scaled else None, tensor.dtype, *arguments)
        held = tensor.untyped_storage().nbytes()
    except (TypeError, ValueError, RuntimeError):
        return 0
    if getattr(tensor, LOADED, False) or getattr(base_of(tensor), LOADED, False):
        return 0
    if held != size or tensor.storage_offset():
        check_memory(tensor)
    elements: int = size // itemsize
    if elements > (usual.most or cpu.AT_ONCE) or choose(_CPU) is not cpu:
        return 0
    cpu.fill_one(out, keys.resolve(generator, key, _CPU), elements, at)
    written(tensor)
    return elements
