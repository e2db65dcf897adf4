"""Calling an initializer with a key: as its argument, if it takes one, else as the seed of all that it draws.

An initializer without a declared law is not known: it is watched, in this thread, by a mode that sees every operation. What it
draws from torch's default generators comes from generators of its own instead, so that no other thread sees a seeded generator,
and none changes its draws. And whether it has written its tensor is known afterwards.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from fastinit._core.laws import Initializer, call_of, declaration_of
from fastinit._core.shard import local_of
from fastinit._torch import FakeTensor, WatchingMode, is_default_generator, storage_number

_POISON = 0.7310585975646973  # no initializer's value


def fill_with(initializer: Initializer, tensor: Tensor, key: int | None) -> None:
    """Run an initializer on a tensor with a key. None: it draws from torch's default generators.

    Raises:
        ValueError: it has not written the tensor.
        RuntimeError: it draws by an operation whose generator cannot be chosen.
    """
    function, _, given = call_of(initializer)
    keyed = initializer if key is None else _with_key(initializer, key)
    has_source = key is None or keyed is not initializer or not given.keys().isdisjoint(("key", "generator"))
    if has_source and declaration_of(function) is not None:  # it writes its tensor, and draws from what it is given
        keyed(tensor)
        return
    before = _versions(tensor)
    with _Watched(tensor, key) as watched:
        keyed(tensor)
    if not watched.written and before == _versions(tensor) and not _writes_unseen(keyed, tensor, key):
        raise ValueError(
            f"{getattr(initializer, '__name__', initializer)} has not written its tensor, of shape {tuple(tensor.shape)}. An "
            "initializer must fill its argument in place, as torch.nn.init's functions do; what it returns is not looked at."
        )


def _with_key(initializer: Initializer, key: int) -> Initializer:
    """The initializer with its key given; as it is, if it takes none, or has one or a generator already."""
    function, _, keywords = call_of(initializer)
    if "key" in keywords or "generator" in keywords or not _takes_key(function):
        return initializer
    keyed: Initializer = functools.partial(initializer, key=key)  # type: ignore[call-arg]
    return keyed


def _takes_key(function: Any) -> bool:
    """Whether it has a parameter `key`; or passes all others on, by **, to a function that it wraps and that has one."""
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    if code is None:
        return False
    if "key" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        return True
    passes_on = bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return passes_on and hasattr(function, "__wrapped__") and _takes_key(function.__wrapped__)


# --- what an initializer draws, and whether it writes -------------------------------------------------------------------------


class _Watched(WatchingMode):
    """Sees the operations of one call of an initializer."""

    def __init__(self, tensor: Tensor, key: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storage, self.key = _storage(tensor), key
        self.generators: dict[torch.device, Generator] = {}
        self.written = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        given = kwargs or {}
        self.written = self.written or any(_storage(tensor) == self.storage for tensor in changed(func, args, given))
        if self.key is not None and torch.Tag.nondeterministic_seeded in func.tags:
            return draw(func, args, given, self.generator)
        return func(*args, **given)

    def generator(self, device: torch.device) -> Generator:
        if device not in self.generators:
            assert self.key is not None
            self.generators[device] = Generator(device).manual_seed(self.key)
        return self.generators[device]


def draw(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], generator: Callable[[torch.device], Generator]) -> Any:
    """Run a random operation by a generator of ours, unless the caller has chosen one."""
    given = dict(zip(_names(func), args, strict=False)) | kwargs
    chosen = given.get("generator")
    if chosen is not None and not is_default_generator(chosen):
        return func(*args, **kwargs)
    if func.overloadpacket in _FILLS_LIKE:  # torch makes a tensor like the first, and fills it
        bounds = args[1:] if len(args) != 2 else (0, args[1])
        options = {name: value for name, value in kwargs.items() if name != "generator"}
        out = torch.ops.aten.empty_like.default(args[0], **options)
        return _FILLS_LIKE[func.overloadpacket](out, *bounds, generator=generator(out.device))
    tensors = [value for value in args if isinstance(value, Tensor)]
    device = tensors[0].device if tensors else torch.device(kwargs.get("device") or "cpu")
    return _with_generator(func)(**given | {"generator": generator(device)})


_FILLS_LIKE: dict[Any, Callable[..., Tensor]] = {
    torch.ops.aten.rand_like: Tensor.uniform_,
    torch.ops.aten.randn_like: Tensor.normal_,
    torch.ops.aten.randint_like: Tensor.random_,
}


@functools.cache
def _with_generator(func: Any) -> Any:
    """The overload of an operation that takes a generator, and else the same arguments."""
    packet = func.overloadpacket
    for overload in (func, *(getattr(packet, name) for name in packet.overloads())):
        if "generator" in _names(overload) and {*_names(overload)} == {*_names(func), "generator"}:
            return overload
    raise RuntimeError(f"{func} draws by no generator that could be given. Use torch's in-place functions, or take a key.")


def _names(func: Any) -> list[str]:
    return [argument.name for argument in func._schema.arguments]


def changed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operation writes."""
    if not func._schema.is_mutable:
        return
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[number] if number < len(args) else kwargs.get(argument.name)
            yield from (one for one in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(one, Tensor))


def _storage(tensor: Tensor) -> int | None:
    local = local_of(tensor)
    return storage_number(local) if local.layout is torch.strided else None


def _versions(tensor: Tensor) -> list[int]:
    """How often it was written, as far as autograd knows: not through `.data`, nor in inference mode."""
    return [] if tensor.is_inference() else [tensor._version, local_of(tensor)._version]


def _writes_unseen(initializer: Initializer, tensor: Tensor, key: int | None) -> bool:
    """Whether an initializer that no operation of torch's has given away writes all the same, through NumPy or a pointer: it is
    called a second time, on a value that it would not leave."""
    local = local_of(tensor)
    if local.is_meta or isinstance(local, FakeTensor) or not local.numel() or not local.is_floating_point():
        return True  # nothing to be seen
    made = local.clone()
    local.fill_(_POISON)
    poisoned = local.cpu().double()  # devices have no float64, some of them
    with _Watched(tensor, key):
        initializer(tensor)
    changed = not torch.equal(local.cpu().double(), poisoned)
    local.copy_(made)
    return changed
