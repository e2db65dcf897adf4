"""How `accelerate` serves a call of torch's: which functions, on which tensors, by which of this package's."""

import functools
import inspect
import sys
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from fastinit._core.check import DRAWN_DTYPES, depth_of_user, is_loaded, is_plain
from fastinit._core.keys import key
from fastinit._core.laws import declaration_of, half_open
from fastinit._core.shard import is_dtensor
from fastinit._fill import fill_
from fastinit._initializers import plain, structured, torch_names
from fastinit._initializers.scaling import shape_of
from fastinit._torch import FakeTensor, base_of, is_wrapped_by_functorch, without_torch_function

Handler = Callable[["Block", Any, tuple[Any, ...], dict[str, Any]], Any]  # of a call: torch's function, its arguments


@dataclass(eq=False)
class Block:
    """One open block: the source of its keys."""

    owner: object  # the `accelerate` that opened it
    router: object  # of the thread that it serves
    seed: int | None
    path: tuple[str | int, ...]  # of its keys, before the number of the fill
    fills: int = 0
    is_open: bool = True

    def decides(self, arguments: dict[str, Any]) -> bool:
        """Whether its seed is to decide the values."""
        return self.seed is not None and arguments.get("generator") is None

    def fill(self, function: Callable[..., Tensor], arguments: dict[str, Any]) -> str | None:
        """None if this package took the call; if not, why: the tensor is then untouched."""
        if self.decides(arguments):
            arguments["key"] = key(self.seed, *self.path, self.fills)  # type: ignore[arg-type]
        try:
            with without_torch_function():  # no mode is shown the fill's own operations: half of its time
                function(**arguments)
        except (TypeError, ValueError) as error:
            return str(error)
        self.fills += 1
        return None


@dataclass(frozen=True)
class _Service:
    """How one of torch's functions is served: a handler of its calls."""

    function: Callable[..., Tensor]  # of this package
    parameters: dict[str, str]  # the names in torch's signature, in order -> the names in this package's
    positional: int  # how many of them may be passed by position
    method: bool = False  # of Tensor: for parameters alone, and not where autograd would record the write

    def __call__(self, block: Block, torch_function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments = self._arguments(args, kwargs)
        tensor: Any = arguments.get("tensor")
        if self.method and not (_is_parameter(tensor) and not (tensor.requires_grad and torch.is_grad_enabled())):
            return torch_function(*args, **kwargs)
        if isinstance(tensor, Tensor) and is_loaded(tensor):
            return tensor
        refusal = _affair_of_torch(tensor)
        if refusal is None or (is_dtensor(tensor) and block.decides(arguments)):  # only by a seed do all ranks get one key
            refusal = block.fill(self.function, arguments)
        if refusal is None:
            return tensor
        filled = torch_function(*args, **kwargs)
        if block.decides(kwargs | arguments) and _has_values(filled):
            self._say(torch_function, filled, refusal)
        return filled

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by this package's names; empty where torch's signature does not allow the call."""
        given = dict(zip(self.parameters, args[: self.positional], strict=False))
        if len(args) > self.positional or not kwargs.keys() <= self.parameters.keys() - given.keys():
            return {}
        return {self.parameters[name]: value for name, value in (given | kwargs).items()}

    def _say(self, torch_function: Callable[..., Any], filled: Tensor, refusal: str) -> None:
        module = "torch.Tensor" if self.method else getattr(torch_function, "__module__", "torch.nn.init")
        warnings.warn(
            f"{module}.{self.function.__name__} itself filled a {filled.dtype} tensor of shape {tuple(filled.shape)}: its values "
            f"are torch's, and the seed of the block of fastinit.accelerate did not decide them. The reason: {refusal}",
            UserWarning,
            stacklevel=depth_of_user(),
        )


def _is_parameter(tensor: Any) -> bool:
    """Whether the tensor is a parameter, or a view of one, or one of its aliases."""
    if not isinstance(tensor, Tensor):  # the arguments were not understood
        return False
    owner = base_of(tensor)
    return isinstance(owner, Parameter) or aliases.get(id(owner)) is owner


def _affair_of_torch(tensor: Any) -> str | None:
    """Why a tensor is not this package's to fill. Subclasses have their own ways, and errors, with random functions; so have
    torch.func, which may forbid them, and tensors of the inference mode outside of it."""
    if not isinstance(tensor, Tensor):
        return "the arguments of the call were not understood."
    if not is_plain(tensor):
        return f"a {type(tensor).__name__} has its own way with random functions."
    if not _has_values(tensor):
        return "it has no values."
    if is_wrapped_by_functorch(tensor):
        return "torch.func has wrapped it."
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return "it is a tensor of the inference mode."
    return None


def _has_values(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and not (tensor.is_meta or isinstance(tensor, FakeTensor)) and tensor.numel() > 0


def _alias(block: Block, torch_function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Remember an alias of a parameter: `parameter.data` is a plain tensor, which does not lead back to its parameter."""
    alias = torch_function(*args, **kwargs)
    if args and _is_parameter(args[0]):
        aliases[id(alias)] = alias
    return alias


def routed(function: Callable[..., Any]) -> _Service | None:
    """The service of a function of torch.nn.init. A mode is shown what the attribute is now, which others may have replaced
    (transformers does)."""
    for name, service in _ROUTED.items():
        if getattr(torch.nn.init, name, None) is function:
            return service
    return None


def places() -> dict[tuple[ModuleType, str], _Service]:
    """What is replaced: names of torch.nn.init; and the truncated normal that timm has written out, where timm is in use."""
    found = {(torch.nn.init, name): service for name, service in UNROUTED.items()}
    timm = sys.modules.get("timm.layers.weight_init")
    if timm is not None and _parameters_of(timm, _TIMM) == list(_TRUNCATED.parameters):
        found[timm, _TIMM] = _TRUNCATED
    return found


def _opened(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function without the upper bound, which torch's uniforms never reach."""
    declared = declaration_of(function)
    assert declared is not None

    @functools.wraps(function)
    def half_open_(tensor: Tensor, *, generator: Any = None, key: int | None = None, **given: Any) -> Tensor:
        law = declared(shape_of(tensor), tensor.dtype, given)
        if law is None:
            return function(tensor, generator=generator, key=key, **given)
        return fill_(tensor, half_open(law), generator, key, DRAWN_DTYPES)

    return half_open_


def service_of(function: Callable[..., Tensor]) -> _Service:
    """The signatures of torch.nn.init are this package's, less the keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    return _Service(function, dict(zip(names, names, strict=True)), len(names))


def trunc_normal_place() -> str:
    """The private function that captured references of trunc_normal_ call too, where torch has it as it was."""
    place = "_no_grad_trunc_normal_"
    as_it_was = _parameters_of(torch.nn.init, place) == list(service_of(plain.trunc_normal_).parameters)
    return place if as_it_was else "trunc_normal_"


def _parameters_of(module: ModuleType, name: str) -> list[str]:
    """The names in a function's signature; none, if there is no such function."""
    try:
        return list(inspect.signature(getattr(module, name, None)).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []


_ROUTED = {
    "uniform_": service_of(_opened(plain.uniform_)),
    "normal_": service_of(plain.normal_),
    "kaiming_uniform_": service_of(_opened(torch_names.kaiming_uniform_)),
}
UNROUTED = {
    trunc_normal_place(): service_of(plain.trunc_normal_),
    "xavier_uniform_": service_of(_opened(torch_names.xavier_uniform_)),
    "xavier_normal_": service_of(torch_names.xavier_normal_),
    "kaiming_normal_": service_of(torch_names.kaiming_normal_),
    "orthogonal_": service_of(structured.orthogonal_),
    "sparse_": service_of(structured.sparse_),
}
_TIMM = "_trunc_normal_"
_TRUNCATED = _Service(plain.trunc_normal_, {name: name for name in ("tensor", "mean", "std", "a", "b")}, 5)
_NORMAL = {"self": "tensor", "mean": "mean", "std": "std", "generator": "generator"}
_UNIFORM = {"self": "tensor", "from": "a", "to": "b", "generator": "generator"}
HANDLERS: dict[Any, Handler] = {
    Tensor.normal_: _Service(plain.normal_, _NORMAL, 3, method=True),
    Tensor.uniform_: _Service(_opened(plain.uniform_), _UNIFORM, 3, method=True),
    Tensor.data.__get__: _alias,  # type: ignore[attr-defined]
    Tensor.detach: _alias,
}
aliases: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()  # by id: == of tensors compares elements
