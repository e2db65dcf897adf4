"""`accelerate`: a block in which torch.nn.init, and with it the constructors of modules, fill through this package."""

import contextlib
import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from fastinit._core.check import is_loaded, is_plain
from fastinit._core.keys import key
from fastinit._core.shard import is_dtensor
from fastinit._fill import check_backends
from fastinit._initializers import plain, structured, torch_names
from fastinit._torch import base_of, is_wrapped_by_functorch, without_torch_function

_Handler = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]  # of a call: torch's function, its arguments


class accelerate(contextlib.ContextDecorator):
    """Serve torch's initializers by this package's, inside a `with` block or a decorated function.

    Code that is not yours needs no change: constructors, `reset_parameters`, the model classes of other libraries. In
    the block, in the thread that opened it, these are served by the functions of the same names in this package:

        torch.nn.init: uniform_, normal_, trunc_normal_, xavier_uniform_, xavier_normal_, kaiming_uniform_,
            kaiming_normal_, orthogonal_ and sparse_, on any tensor;
        Tensor.normal_ and Tensor.uniform_ on parameters, on their views, on `parameter.data` and `parameter.detach()`
            where these are taken in a block. On other tensors (noise, masks, data) they stay torch's.

    The laws, the tensor returned and the errors are torch's; the values are this package's. Torch's own function runs,
    unchanged, on tensors without values (meta, fake, no elements), on subclasses of Parameter and Tensor (quantized
    weights; DTensors too, unless the block has a seed, which gives all ranks one key), in graphs that are being
    compiled, and for whatever this package refuses, such as std=0, a complex dtype or wrong arguments. Tensors with a
    true attribute `_is_hf_initialized`, by which transformers marks weights as loaded, are left as they are; the marks
    stay on a model that `from_pretrained` returned.

    timm's own truncated normal is served where timm was imported before the block.

    Names imported from torch.nn.init before the block are served too, except orthogonal_, the choice of the zeros by
    sparse_, and xavier_uniform_, xavier_normal_ and kaiming_normal_ on tensors that are no parameters.

    Blocks can be nested: the innermost decides. One object can be opened many times, in several threads at once.

    Args:
        seed: any int: the n-th fill of a block takes ``fastinit.key(seed, n)``, with n counted from 0 in every block (in
            every call of a decorated function), so that the weights do not depend on any generator; each fill that is served
            counts. None: each fill takes a fresh key from torch's default CPU generator, so `torch.manual_seed` decides all
            values. A `generator=` in a call goes before the seed.

    Raises:
        TypeError: the seed is not an int.

    Reference:
        PyTorch, torch.nn.init; torch.overrides.TorchFunctionMode.

    Examples:
        >>> with fastinit.accelerate(seed=0):
        ...     one = nn.Linear(8, 4)
        >>> @fastinit.accelerate(seed=0)
        ... def build():
        ...     return nn.Linear(8, 4)
        >>> torch.equal(one.weight, build().weight)
        True
    """

    def __init__(self, seed: int | None = None) -> None:
        if callable(seed):
            raise TypeError(f"seed must be an int or None. Received: seed={seed!r}. As a decorator write @accelerate().")
        if seed is not None:
            key(seed)
        self._seed = seed

    def __enter__(self) -> "accelerate":
        with contextlib.suppress(
            RuntimeError
        ):  # one that fills raise; a ValueError, they would take for a call to leave to torch
            check_backends([torch.device("cpu")])
        block = Block(self._seed)
        _substitute()
        block.__enter__()  # type: ignore[no-untyped-call]
        thread.blocks.append(block)
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            thread.blocks.pop().__exit__(*error)  # type: ignore[no-untyped-call]
        finally:
            _restore()


class Block(TorchFunctionMode):
    """One open block of one thread: a mode, which torch shows every call of its functions."""

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self.seed, self.fills = seed, 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        handler: _Handler | None = _HANDLERS.get(func)
        if handler is None and type(func) is FunctionType:
            handler = _routed(func)
        if handler is None or _is_idle():
            return func(*args, **kwargs) if kwargs else func(*args)
        return handler(func, args, kwargs or {})

    def serves_dtensor(self, tensor: Any, arguments: dict[str, Any]) -> bool:
        """Whether it fills a DTensor: only by a seed do all ranks get one key."""
        return self.seed is not None and arguments.get("generator") is None and is_dtensor(tensor)

    def fill(self, function: Callable[..., Tensor], arguments: dict[str, Any]) -> bool:
        """Whether this package took the call; if not, the tensor is untouched."""
        if self.seed is not None and arguments.get("generator") is None:
            arguments["key"] = key(self.seed, self.fills)
        try:
            with without_torch_function():  # no mode is shown the fill's own operations: half of its time
                function(**arguments)
        except (TypeError, ValueError):
            return False
        self.fills += 1
        return True


class _Thread(threading.local):
    """Blocks are the thread's own, as torch's modes are."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.busy = False  # a call is being served, or has been left to torch: what it calls in turn is not looked at


@dataclass(frozen=True)
class _Service:
    """How one of torch's functions is served: a handler of its calls."""

    function: Callable[..., Tensor]  # of this package
    parameters: dict[str, str]  # the names in torch's signature, in order -> the names in this package's
    positional: int  # how many of them may be passed by position
    method: bool = False  # of Tensor: for parameters alone, and not where autograd would record the write

    def __call__(self, torch_function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments = self.arguments(args, kwargs)
        tensor: Any = arguments.get("tensor")
        if self.method and not (_is_parameter(tensor) and not (tensor.requires_grad and torch.is_grad_enabled())):
            return torch_function(*args, **kwargs)
        if isinstance(tensor, Tensor) and is_loaded(tensor):
            return tensor
        thread.busy = True
        try:
            block = thread.blocks[-1]
            if (_has_plain_values(tensor) or block.serves_dtensor(tensor, arguments)) and block.fill(self.function, arguments):
                return tensor
            return torch_function(*args, **kwargs)
        finally:
            thread.busy = False

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by this package's names; empty where torch's signature does not allow the call."""
        given = dict(zip(self.parameters, args[: self.positional], strict=False))
        if len(args) > self.positional or not kwargs.keys() <= self.parameters.keys() - given.keys():
            return {}
        return {self.parameters[name]: value for name, value in (given | kwargs).items()}

    def stand_in(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A function to put in the place of torch's. It calls the original in threads without a block, and when all blocks are
        closed: code that has imported it meanwhile keeps it."""

        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            if _is_idle():
                return original(*args, **kwargs)
            return self(original, args, kwargs)

        return function


def _is_idle() -> bool:
    """Whether calls are torch's: no block is open in this thread, one is busy, or the call goes into a compiled graph."""
    return not thread.blocks or thread.busy or torch.compiler.is_compiling()


def _is_parameter(tensor: Any) -> bool:
    """Whether the tensor is a parameter, or a view of one, or one of its aliases."""
    if not isinstance(tensor, Tensor):  # the arguments were not understood
        return False
    owner = base_of(tensor)
    return isinstance(owner, Parameter) or aliases.get(id(owner)) is owner


def _has_plain_values(tensor: Any) -> bool:
    """Whether there is something to fill. Subclasses have their own ways, and errors, with random functions; so have
    torch.func, which may forbid them, and tensors of the inference mode outside of it."""
    if not (isinstance(tensor, Tensor) and is_plain(tensor)) or tensor.is_meta or not tensor.numel():
        return False
    if is_wrapped_by_functorch(tensor):
        return False
    return torch.is_inference_mode_enabled() or not tensor.is_inference()


def _alias(torch_function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Remember an alias of a parameter: `parameter.data` is a plain tensor, which does not lead back to its parameter."""
    alias = torch_function(*args, **kwargs)
    if args and _is_parameter(args[0]):
        aliases[id(alias)] = alias
    return alias


def _routed(function: Callable[..., Any]) -> "_Service | None":
    """The service of a function of torch.nn.init. A mode is shown what the attribute is now, which others may have replaced
    (transformers does)."""
    for name, service in _ROUTED.items():
        if getattr(torch.nn.init, name, None) is function:
            return service
    return None


def _substitute() -> None:
    """Replace what torch shows to no mode, for the first block of all threads."""
    global open_blocks
    with _lock:
        open_blocks += 1
        if open_blocks == 1:
            for place, service in _places().items():
                original = getattr(*place)
                placed[place] = service.stand_in(original), original
                setattr(*place, placed[place][0])


def _restore() -> None:
    """Undo it after the last block, but for what somebody else has replaced since: that is theirs to undo."""
    global open_blocks
    with _lock:
        open_blocks -= 1
        if open_blocks == 0:
            for place, (stand_in, original) in placed.items():
                if getattr(*place, None) is stand_in:
                    setattr(*place, original)
            placed.clear()


def _places() -> "dict[tuple[ModuleType, str], _Service]":
    """What is replaced: names of torch.nn.init; and the truncated normal that timm has written out, where timm is in use."""
    places = {(torch.nn.init, name): service for name, service in UNROUTED.items()}
    timm = sys.modules.get("timm.layers.weight_init")
    if timm is not None and _parameters_of(timm, _TIMM) == list(_TRUNCATED.parameters):
        places[timm, _TIMM] = _TRUNCATED
    return places


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


_ROUTED = {function.__name__: service_of(function) for function in (plain.uniform_, plain.normal_, torch_names.kaiming_uniform_)}
UNROUTED = {
    trunc_normal_place(): service_of(plain.trunc_normal_),
    "xavier_uniform_": service_of(torch_names.xavier_uniform_),
    "xavier_normal_": service_of(torch_names.xavier_normal_),
    "kaiming_normal_": service_of(torch_names.kaiming_normal_),
    "orthogonal_": service_of(structured.orthogonal_),
    "sparse_": service_of(structured.sparse_),
}
_TIMM = "_trunc_normal_"
_TRUNCATED = _Service(plain.trunc_normal_, {name: name for name in ("tensor", "mean", "std", "a", "b")}, 5)
_NORMAL = {"self": "tensor", "mean": "mean", "std": "std", "generator": "generator"}
_UNIFORM = {"self": "tensor", "from": "a", "to": "b", "generator": "generator"}
_HANDLERS: dict[Any, _Handler] = {
    Tensor.normal_: _Service(plain.normal_, _NORMAL, 3, method=True),
    Tensor.uniform_: _Service(plain.uniform_, _UNIFORM, 3, method=True),
    Tensor.data.__get__: _alias,  # type: ignore[attr-defined]
    Tensor.detach: _alias,
}
aliases: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()  # by id: == of tensors compares elements
thread = _Thread()
_lock = threading.Lock()
open_blocks = 0  # blocks, of all threads
placed: dict[tuple[ModuleType, str], tuple[Callable[..., Any], Callable[..., Any]]] = {}  # -> stand-in, original
