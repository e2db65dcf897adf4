"""Names of torch.nn.init that its own users still find there: those that it has deprecated, and two helpers."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

from fastinit._initializers.constants import constant_
from fastinit._initializers.plain import normal_, uniform_
from fastinit._initializers.structured import dirac_, eye_, orthogonal_, sparse_
from fastinit._initializers.torch_names import kaiming_normal_, kaiming_uniform_, xavier_normal_, xavier_uniform_
from fastinit._torch import INIT_HELPERS


def _deprecated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under its name of old, without the underscore."""
    new = function.__name__
    old = new.removesuffix("_")

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            f"fastinit.{old} is deprecated, as torch.nn.init.{old} is. Call fastinit.{new}.", FutureWarning, stacklevel=2
        )
        return function(*args, **kwargs)

    renamed.__name__ = renamed.__qualname__ = old
    return renamed


_RENAMED = (
    *(uniform_, normal_, constant_, eye_, dirac_, orthogonal_, sparse_),
    *(xavier_uniform_, xavier_normal_, kaiming_uniform_, kaiming_normal_),
)
OLD_NAMES = {function.__name__.removesuffix("_"): _deprecated(function) for function in _RENAMED} | INIT_HELPERS
