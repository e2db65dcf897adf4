"""`accelerate`: a block in which torch.nn.init, and with it the constructors of modules, fill through this package."""

import contextlib
import copy
import functools
import inspect
import pkgutil
import threading
import warnings
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch.compiler import is_compiling
from torch.overrides import TorchFunctionMode

from fastinit._core.check import depth_of_user
from fastinit._core.keys import key
from fastinit._core.modes import blocks
from fastinit._draws import Draws
from fastinit._fill import check_backends
from fastinit._serving import HANDLERS, ROUTED, Block, Handler, places, routed
from fastinit._tally import BlockReport
from fastinit._torch import dismiss, function_modes, is_summoned, is_tracing

_Function = TypeVar("_Function", bound=Callable[..., Any])


class accelerate:
    """Serve torch's initializers by this package's, inside a `with` block or a decorated function.

    Code that is not yours needs no change: constructors, `reset_parameters`, the model classes of other libraries. In
    the block, in the thread that opened it, these are served by the functions of the same names in this package:

        torch.nn.init: uniform_, normal_, trunc_normal_, xavier_uniform_, xavier_normal_, kaiming_uniform_,
            kaiming_normal_, orthogonal_ and sparse_, on any tensor;
        Tensor.normal_ and Tensor.uniform_ on parameters, on their views, on `parameter.data` and `parameter.detach()`
            where these are taken in a block. On other tensors (noise, masks, data) they stay torch's.

    Small tensors are served too, although torch fills them as fast: left to it, they would depend on its generator and on what
    was drawn before them, not on the seed.

    The laws, the tensor returned and the errors are torch's; the values are this package's. Uniform values stay below the
    upper bound, as torch's do: what `fastinit.uniform_` rounds to it is the dtype's last value below; all others have its
    bits. An interval that holds no other value of the dtype gives its upper bound.

    **Graphs that are being compiled keep torch's own functions**, whatever the seed. So do tensors without values (meta, fake,
    no elements), subclasses of Parameter and Tensor (quantized weights; DTensors too, unless the block has a seed, which
    gives all ranks one key), and whatever this package refuses, such as wrong arguments. Where torch fills something for such
    a reason and a seed was to decide, a UserWarning says so. Tensors with a true attribute `_is_hf_initialized`, by which
    transformers marks weights as loaded, are left as they are; the marks stay on a model that `from_pretrained` returned.

    timm's own truncated normal, and what transformers has taken from torch.nn.init, are served where these were imported before
    the block. So are names that others have taken before it, except orthogonal_, the choice of the zeros by sparse_, and
    xavier_uniform_, xavier_normal_ and kaiming_normal_ on tensors that are no parameters. Names taken inside are torch's
    functions after it, and are pickled and copied as these.

    **torch.randn and the like are torch's**, in constructors too: torch.manual_seed decides them, not the seed of the block. The
    block's `report` counts them, with all else that was left to torch, and why; it names the parameters that hold such values, as
    far as calls of torch lead there. If there are any as a seeded block ends, a UserWarning names them.

    Blocks can be nested, and closed in any order, from any thread: the innermost that is open decides. One object can be opened
    many times, in several threads at once: `with` gives one for the block that it opens, which has its `report`. Blocks belong
    to the context (contextvars): each asyncio task has its own, and is served by those open where it was made until they
    close. Other threads keep torch, those of `asyncio.to_thread` too.

    As a decorator it takes functions and `async def` functions, whose calls give no report. Generator functions and classes are
    a TypeError.

    Args:
        seed: any int: the n-th fill of a block takes ``fastinit.key(seed, n)``, with n counted from 0 in every block (in
            every call of a decorated function), so that what is served depends on no generator; each fill that is served
            counts. Every process counts alike: pipeline stages of equal layers get equal weights, unless their prefixes differ.
            None: each fill takes a fresh key from torch's default CPU generator, so `torch.manual_seed` decides all
            values. A `generator=` in a call goes before the seed.
        prefix: a name or a number, such as the pipeline stage: the keys are then ``fastinit.key(seed, prefix, n)``. Ranks that
            hold one DTensor, or copies of one weight, need one prefix.

    Raises:
        TypeError: the seed is not an int, or the prefix neither str nor int; what is decorated is no function, or one that runs
            after its call.
        ValueError: a prefix without a seed.
        RuntimeError: a block is left more often than entered.

    Reference:
        PyTorch, torch.nn.init; torch.overrides.TorchFunctionMode.

    Examples:
        >>> with fastinit.accelerate(seed=0) as block:
        ...     one = nn.Linear(8, 4)
        >>> block.report.served
        (Served(function='kaiming_uniform_', calls=1, elements=32), Served(function='uniform_', calls=1, elements=4))
        >>> @fastinit.accelerate(seed=0)
        ... def build():
        ...     return nn.Linear(8, 4)
        >>> torch.equal(one.weight, build().weight)
        True
    """

    _block: Block | None = None  # the last that it opened
    _opener: "accelerate | None" = None  # of what `with` gives

    def __init__(self, seed: int | None = None, *, prefix: str | int = "") -> None:
        if callable(seed):
            raise TypeError(f"seed must be an int or None. Received: seed={seed!r}. As a decorator write @accelerate().")
        self._seed = seed
        self._path = () if isinstance(prefix, str) and not prefix else (prefix,)
        if seed is not None:
            key(seed, *self._path)
        elif self._path:
            raise ValueError(f"a prefix is of keys from a seed. Received: prefix={prefix!r} without a seed. Pass seed=.")

    def __enter__(self) -> "accelerate":
        with contextlib.suppress(RuntimeError):  # which fills raise. A ValueError of theirs would leave the call to torch
            check_backends([torch.device("cpu")])
        owner, router = self._opener or self, thread.router
        block = Block(owner, router, router.draws, self._seed, self._path)
        with _lock:
            opened.append(block)
            if len(opened) == 1:
                _substitute()
        _settle((*blocks.get(), block))
        given = copy.copy(self)
        given._opener, given._block = owner, block
        owner._block = block
        return given

    def __exit__(self, *error: Any) -> None:
        owner = self._opener or self
        with _lock:
            anywhere = [block for block in opened if block.owner is owner]
            here = [block for block in blocks.get() if block in anywhere]
            if not anywhere:
                raise RuntimeError("fastinit.accelerate: this block is not open. Leave it as often as you enter it.")
            block = (here or anywhere)[-1]
            said = block.close()
            opened.remove(block)
            if not any(other.router is block.router for other in opened):
                block.draws.clear()
            if not opened:
                _restore()
        _settle(blocks.get())
        if said and not any(error):
            warnings.warn(said, UserWarning, stacklevel=depth_of_user())

    @property
    def report(self) -> BlockReport:
        """What the block has served, and what it left to torch: of what `with` gives, that very block, so far or, after it, as it
        ended; of the object itself, the block that it opened last.

        Raises:
            RuntimeError: it has opened none. Calls of a decorated function open blocks of their own: write `with` in it.
        """
        if self._block is None:
            raise RuntimeError("fastinit.accelerate: a report is of a block. Write `with fastinit.accelerate() as block`.")
        return self._block.report

    def __getstate__(self) -> dict[str, Any]:
        return {"_seed": self._seed, "_path": self._path}  # a copy is of no block

    def __call__(self, function: _Function) -> _Function:
        _check_decorated(function)

        @functools.wraps(function)
        def served(*args: Any, **kwargs: Any) -> Any:
            with copy.copy(self):  # a block that no other call can close
                result = function(*args, **kwargs)
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError(
                    f"{function!r} returned a coroutine, which runs after the block. Decorate the `async def` itself."
                )
            return result

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with copy.copy(self):
                return await function(*args, **kwargs)

        return awaited if _is_any(inspect.iscoroutinefunction, function) else served  # type: ignore[return-value]


def _check_decorated(function: Any) -> None:
    """Raise TypeError for what is no function, and for one that does its work after its call."""
    if isinstance(function, type):
        mend = "Decorate its __init__, or the function that builds it."
    elif isinstance(function, (staticmethod, classmethod)):
        mend = f"Write @{type(function).__name__} above it."
    elif not callable(function):
        mend = "Decorate a function."
    elif _is_any(inspect.isgeneratorfunction, function) or _is_any(inspect.isasyncgenfunction, function):
        mend = "A generator runs after the call: write `with fastinit.accelerate(...):` in its body."
    else:
        return
    raise TypeError(f"accelerate cannot decorate this. Received: {function!r} ({type(function).__name__}). {mend}")


def _is_any(kind: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    """Whether a function, or what a partial is of, or the __call__ of an object, is of the kind."""
    while isinstance(function, functools.partial):
        function = function.func
    return kind(function) or kind(type(function).__call__)


class _Router(TorchFunctionMode):
    """The mode of one thread, which torch shows every call of its functions."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = Draws()
        self.holders = self.draws.holders

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        handler = HANDLERS.get(func)
        if type(func) is _StandIn:  # the original, taken before the block, shows what has its name
            func, handler = func.original, func.handler
        elif handler is None and type(func) is FunctionType:
            handler = routed(func)
        if handler is not None:
            return _serve(handler, func, args, kwargs or {})
        result = func(*args, **kwargs) if kwargs else func(*args)
        if self.holders and not (is_compiling() or is_tracing() or thread.busy):
            self.draws.follow(func, args, kwargs or {}, result)
        return result


class _StandIn:
    """What is put in the place of a function. It calls the original where no block is open: code that
    has taken it in a block keeps it. It passes for the original, and where it is pickled or copied, it is what has its name."""

    def __init__(self, name: str, original: Callable[..., Any], handler: Handler) -> None:
        functools.update_wrapper(self, original)
        self._name, self.original, self.handler = name, original, handler
        self._is_shown = handler in ROUTED.values()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._is_shown and function_modes() > 1:  # others may want to see it
            return self.original(*args, **kwargs)
        return _serve(self.handler, self.original, args, kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return pkgutil.resolve_name, (self._name,)

    def __eq__(self, other: object) -> bool:
        return self.original == (other.original if isinstance(other, _StandIn) else other)

    def __hash__(self) -> int:
        return hash(self.original)


class _Thread(threading.local):
    """What is a thread's own, as torch's modes are."""

    def __init__(self) -> None:
        self.router = _Router()
        self.busy = False  # a call is being served, or has been left to torch: what it calls in turn is not looked at


def _serve(handler: Handler, torch_function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Answer a call: torch does, where it goes into a graph or no block is open."""
    if is_compiling() or thread.busy:
        return torch_function(*args, **kwargs)
    for block in reversed(blocks.get()):  # a context may have been taken to another thread, and blocks closed from anywhere
        if block.is_open and block.router is thread.router:
            break
    else:
        return torch_function(*args, **kwargs)
    thread.busy = True
    try:
        return handler(block, torch_function, args, kwargs)
    finally:
        thread.busy = False


def _settle(known: tuple[Block, ...]) -> None:
    """Keep the blocks that are open in the context, and the router on torch's stack while any block of the thread is."""
    blocks.set(tuple(block for block in known if block.is_open))
    router = thread.router
    is_wanted = any(block.router is router for block in tuple(opened))
    if is_wanted and not is_summoned(router):
        router.__enter__()  # type: ignore[no-untyped-call]
    elif not is_wanted and is_summoned(router):
        dismiss(router)


def _substitute() -> None:
    """Replace what is served, for the first block of all threads."""
    for names, name, module, handler in places():
        original = names[name]
        names[name] = stand_in = _StandIn(f"{module}:{name}", original, handler)
        placed.append((names, name, stand_in, original))


def _restore() -> None:
    """Undo it after the last block, but for what somebody else has replaced since: that is theirs to undo."""
    for names, name, stand_in, original in placed:
        if names.get(name) is stand_in:
            names[name] = original
    placed.clear()


opened: list[Block] = []  # of all threads
thread = _Thread()
_lock = threading.RLock()  # a finalizer may close a block at any point
placed: list[tuple[dict[str, Any], str, _StandIn, Callable[..., Any]]] = []  # names, name, what stands there, original
