"""Which parameters hold what torch drew in a block of `accelerate`: its draws are followed through torch's functions."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import Parameter
from torch.nn.modules.module import register_module_parameter_registration_hook as watch_registrations

from fastinit._tally import Record
from fastinit._torch import base_of, storage_number, without_torch_function

_KINDS = ("empty", "zeros", "ones", "full")
_SHAPES = {name for kind in _KINDS for name in (f"{kind}_like", f"new_{kind}")}  # no values go over
_OVERWRITES = {"copy_", "fill_", "zero_"}
_NONE: frozenset[Record] = frozenset()
aliases: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()  # by id: == of tensors compares elements


def is_parameter(tensor: Any) -> bool:
    """Whether the tensor is a parameter, or a view of one, or one of its aliases."""
    if not isinstance(tensor, Tensor):  # the arguments were not understood
        return False
    owner = base_of(tensor)
    return isinstance(owner, Parameter) or aliases.get(id(owner)) is owner


class Draws:
    """What was drawn in one thread, by storage: a parameter made of a tensor is another tensor of its storage.

    Storages are held weakly, which keeps their numbers from being used again. As long as there is nothing to follow, `holders` is
    empty, and nothing is done."""

    def __init__(self) -> None:
        self.holders: dict[int, frozenset[Record]] = {}  # storage -> of which draws it is made
        self._storages: dict[int, StorageWeakRef] = {}
        self._names: dict[int, str] = {}  # storage of a parameter -> its name
        self._thread = threading.get_ident()
        self._hook: Any = None
        self._full = 64
        self._misses = 0

    def clear(self) -> None:
        """Forget all."""
        for known in (self.holders, self._storages, self._names):
            known.clear()
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def drew(self, tensor: Tensor, record: Record) -> None:
        """A tensor was filled by torch."""
        if self._hook is None:  # parameters that are made of a draw are registered after it
            self._hook = watch_registrations(self._registered)
        with without_torch_function():
            self._write(tensor, frozenset({record}))

    def overwritten(self, tensor: Tensor) -> None:
        """A tensor was filled by what is not torch's."""
        self._write(tensor, _NONE)

    def follow(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A function was called: what it gives, or writes to, is made of the draws that its arguments are made of."""
        with without_torch_function():
            drawn = self._of([*args, *kwargs.values()])
            if not drawn:
                self._misses += 1
                if self._misses % 64 == 0:
                    self._prune()  # where all is gone, following ends
                return
            name = getattr(function, "__name__", "")
            if name in _OVERWRITES or (name == "__setitem__" and _is_all(args[1])):
                self._write(args[0], self._of([*args[1:], *kwargs.values()]))
            elif name == "__set__":  # of .data: the two have one storage now
                self._write(args[0], self._of(args[:1]))
            elif name not in _SHAPES:
                changed = args[:1] if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) else ()
                for tensor in _tensors([*changed, result]):
                    self._write(tensor, drawn | self._of([tensor]))

    def name_parameters(self, records: Iterable[Record]) -> None:
        """Note in records which parameters hold what was drawn."""
        self._prune()
        named = list(self._names.items())
        for record in records:
            names = (name for number, name in named if record in self.holders.get(number, ()))
            record.parameters = list(dict.fromkeys(names))

    def _of(self, values: Iterable[Any]) -> frozenset[Record]:
        found = [held for each in _tensors(values) if (held := self.holders.get(_number_of(each) or 0))]
        return _NONE.union(*found)

    def _write(self, tensor: Tensor, drawn: frozenset[Record]) -> None:
        """A tensor has got values that are made of draws. A part of a storage leaves the rest as it is."""
        number = _number_of(tensor)
        if number is None:
            return
        if tensor.numel() * tensor.element_size() < tensor.untyped_storage().nbytes():
            drawn = drawn | self.holders.get(number, _NONE)
        if not drawn:
            self.holders.pop(number, None)
            return
        if number not in self._storages:
            self._storages[number] = StorageWeakRef(tensor.untyped_storage())
        self.holders[number] = drawn
        if is_parameter(tensor):
            self._names.setdefault(number, f"a parameter of shape {tuple(base_of(tensor).shape)}")
        if len(self.holders) > self._full:
            self._prune()
            self._full = max(64, 2 * len(self.holders))

    def _prune(self) -> None:
        for number in [number for number, storage in list(self._storages.items()) if storage.expired()]:
            for known in (self.holders, self._names, self._storages):
                known.pop(number, None)

    def _registered(self, module: nn.Module, name: str, parameter: Any) -> None:
        """torch calls it, in any thread, with each parameter that a module gets."""
        if threading.get_ident() == self._thread and isinstance(parameter, Tensor):
            with without_torch_function():
                number = _number_of(parameter)
            if number in self.holders:
                self._names[number] = f"{type(module).__name__}.{name}"


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among arguments or results, also in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (each for each in value if isinstance(each, Tensor))


def _is_all(index: Any) -> bool:
    return index is ... or (isinstance(index, slice) and index == slice(None))


def _number_of(tensor: Tensor) -> int | None:
    """A number of its storage; None where it has none (sparse ones, those that torch.func wraps)."""
    try:
        return storage_number(tensor)
    except (NotImplementedError, RuntimeError):
        return None
