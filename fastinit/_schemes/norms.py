"""Normalizations that are not torch's: known by the name of their class, with the constants that their constructors give.

A gain is 1 in most of them, and 0 in those that multiply by 1 + weight: no name tells. So the constructor of the class is called
for a small instance, with the settings that the module has as attributes. Where that is not possible, what the parameter holds
decides, if a constructor wrote it; on meta it has no rule then.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastinit._core.laws import Initializer, constant, declares
from fastinit._core.modes import not_accelerated, safe_torch
from fastinit._initializers.constants import constant_, ones_, zeros_
from fastinit._schemes.held import constant_value, is_vector
from fastinit._schemes.keras_rules import NORMS
from fastinit._schemes.rules import Choice
from fastinit._torch import is_written, own_parameters, without_dispatch_modes, without_torch_function

_TORCHS = tuple(NORMS)
_NAME = re.compile(r"([Nn]orm|NORM)(?![a-z])")  # RMSNorm, LayerNorm2d, RMSNormGated; not Normalize
_PLAIN = (bool, int, float, str, type(None), torch.dtype)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalization by the name of its class."""
    return _is_norms_name(type(module).__name__)


@functools.lru_cache(4096)
def _is_norms_name(name: str) -> bool:
    return _NAME.search(name) is not None


@declares(lambda shape, dtype: constant(1.0))
def _own_constant_(tensor: Tensor) -> Tensor:
    """Stand for the constant that a module's constructor gives: what it is depends on the module, see `resolved`."""
    raise RuntimeError("_own_constant_ stands for another initializer, and is never called")


def of_norm(module: nn.Module) -> dict[str, Initializer | None]:
    """The rule of a module that is a normalization by name: each vector keeps the constant that its constructor gave."""
    if not is_norm(module):
        return {}
    own = own_parameters(module).items()
    return {name: _own_constant_ for name, tensor in own if tensor is not None and is_vector(tensor.shape)}


def is_final(choice: Choice, module: nn.Module) -> bool:
    """Whether a choice means its initializer, whatever the parameter is, as `resolved` has it."""
    derived = not choice.own and _is_derived(type(module))  # type: ignore[arg-type]
    return choice.initializer is not None and choice.initializer is not _own_constant_ and not derived


def resolved(choice: Choice, module: nn.Module, name: str, tensor: Tensor, trusted: bool | None = None) -> Initializer | None:
    """What a scheme's choice means for a parameter; None: nothing that is known.

    Args:
        choice: the choice of a scheme.
        module: the parameter's module.
        name: its name in it.
        tensor: the parameter.
        trusted: whether what it holds comes from a constructor. None: that is not known; it does if it was written in place.
    """
    initializer = choice.initializer
    if initializer is _own_constant_:
        return _own_constant(module, name, tensor, is_written(tensor) if trusted is None else trusted)
    derived = not choice.own and _is_derived(type(module)) and name in own_parameters(module)  # type: ignore[arg-type]
    return (derived and _own_constant(module, name, tensor, trusted=False)) or initializer


@functools.lru_cache(4096)
def _is_derived(kind: type[nn.Module]) -> bool:
    """Whether a class is derived from one of torch's normalizations."""
    return issubclass(kind, _TORCHS) and kind not in NORMS


def _own_constant(module: nn.Module, name: str, tensor: Tensor, trusted: bool) -> Initializer | None:
    """What fills a parameter with the constant that its constructor gave; None: nobody knows it, or the constructor of the model
    has changed what that of the class gives."""
    value, held = _by_class(module, name, tensor), constant_value(tensor)
    if value is None:
        value = held if trusted or held == 1.0 else None  # memory that was never written does not hold ones
    if value is None or (trusted and held not in (None, value)):
        return None
    return ones_ if value == 1.0 else zeros_ if value == 0.0 else partial(constant_, val=value)


def _by_class(module: nn.Module, name: str, tensor: Tensor) -> float | None:
    """The constant that the constructor of a module's class gives, called with what the module itself has as attributes."""
    size = max(tensor.shape, default=1)
    arguments = _arguments(module, size)
    if arguments is None:
        return None
    made = _constants(type(module), tuple(arguments.items()))  # type: ignore[arg-type]
    found = made.get(name)
    return found[1] if found and found[0] == tensor.shape else None


def _arguments(module: nn.Module, size: int) -> dict[str, Any] | None:
    """Arguments for a module's class: its plain attributes of the same names; else the size, for the first; None: others lack."""
    arguments: dict[str, Any] = {}
    try:
        parameters = list(inspect.signature(type(module).__init__).parameters.values())[1:]
    except (TypeError, ValueError):
        return None
    for number, parameter in enumerate(parameters):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = vars(module).get(parameter.name, parameter.default)
        if _is_plain(value):
            arguments[parameter.name] = value
        elif value is parameter.empty and number == 0:
            arguments[parameter.name] = size
        elif parameter.default is parameter.empty:
            return None
    return arguments


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) in (tuple, torch.Size) and all(type(each) in _PLAIN for each in value))


@functools.lru_cache(256)
def _constants(kind: type[nn.Module], arguments: tuple[tuple[str, Any], ...]) -> Mapping[str, tuple[torch.Size, float | None]]:
    """Shapes and constants of the parameters of an instance on the CPU, made without a trace; none, if it cannot be made."""
    try:
        # Without the modes that see functions, of torch.device for one, and without `accelerate`, which counts fills.
        quiet = not_accelerated(), safe_torch(without_dispatch_modes()), without_torch_function(), torch.no_grad()
        with torch.random.fork_rng(devices=[]), contextlib.ExitStack() as stack:
            for context in quiet:
                stack.enter_context(context)
            made = kind(**dict(arguments))
            return {name: (p.shape, constant_value(p)) for name, p in own_parameters(made).items() if p is not None}
    except Exception:  # whatever a stranger's constructor raises
        return {}
