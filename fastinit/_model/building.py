"""How a model's constructor runs for `from_constructor`: on the CPU, seeded, with the matrices that nobody asks for on meta.

They go there when they are registered, and cost neither time nor memory. All else is real: buffers, vectors, what is wanted.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from fastinit._core.keys import key
from fastinit._core.modes import not_accelerated, safe_torch
from fastinit._core.shard import local_of
from fastinit._model.materialize import fresh
from fastinit._schemes.calling import changed, draw
from fastinit._torch import FakeTensor, WatchingMode, storage_number, without_torch_function

Wanted = frozenset[tuple[str, tuple[int, ...]]]  # names in their modules, and shapes


def storage_of(value: Any) -> int | None:
    """The number of a tensor's storage, if it is a tensor and has one."""
    local = local_of(value)
    return storage_number(local) if isinstance(local, Tensor) and local.layout is torch.strided else None


class Building(WatchingMode):
    """Sees what a constructor registers and draws, in this thread.

    Parameters of two dimensions or more go to meta when they are registered, unless they are wanted. What is drawn does not
    depend on which those are: a parameter's draws have keys of its own, by its number, and so have those of its shape that follow
    (what lies beyond a cut is drawn again); all others have keys by the number of parameters before them and their shape.
    """

    def __init__(self, seed: int, wanted: Wanted | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seed, self.wanted = seed, wanted  # None: all are
        self.thread, self.initial = threading.get_ident(), torch.initial_seed()
        self.confused = False  # something depends on what is on meta, without an error
        self.parameters = 0
        self.constants: dict[int, float] = {}  # what was written last all over a parameter on meta, by its number
        self.numbers: dict[int, tuple[weakref.ref[Tensor], int]] = {}  # by storage
        self.last: tuple[int, str] = (0, "")  # the parameter that was drawn last, and its shape
        self.draws: Counter[tuple[str | int, ...]] = Counter()

    def register(self, module: nn.Module, name: str, parameter: Any) -> Any:
        """torch's hook: what is registered in the place of a parameter."""
        if threading.get_ident() != self.thread or type(parameter) is not nn.Parameter or isinstance(parameter.data, FakeTensor):
            return None
        with without_torch_function():
            light = self.wanted is not None and parameter.dim() >= 2 and (name, tuple(parameter.shape)) not in self.wanted
            new = fresh(parameter, torch.device("meta")) if light and not parameter.is_meta else parameter
            self.parameters += 1
            self.numbers[storage_number(new)] = weakref.ref(new), self.parameters
        return new

    def number_of(self, tensor: Any) -> int | None:
        """The number of the parameter that has a tensor's memory."""
        held, number = self.numbers.get(storage_of(tensor) or 0, (None, 0))
        alive = held is not None and storage_of(held()) == storage_of(tensor)  # else it is gone, and another has its place
        return number if alive else None

    def constant_of(self, parameter: Tensor) -> Tensor | None:
        """A parameter on meta that holds a constant, as a real one."""
        value = self.constants.get(self.number_of(parameter) or 0)
        if value is None:
            return None
        return torch.empty((), dtype=parameter.dtype, device="cpu").fill_(value).expand(parameter.shape)

    def note(self, tensor: Tensor, value: float | None = None) -> None:
        """Remember what a parameter on meta holds; None: something else than a constant."""
        number = self.number_of(tensor)
        if number is not None:
            self.constants.pop(number, None)
            if value is not None and tensor.nbytes == tensor.untyped_storage().nbytes():  # else a part of it
                self.constants[number] = value

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        given = kwargs or {}
        with without_torch_function():
            tensors = [value for value in (*args, *given.values()) if isinstance(value, Tensor)]
            on_meta = sum(tensor.is_meta for tensor in tensors)
            for tensor in changed(func, args, given) if on_meta else ():
                if tensor.is_meta:
                    self.note(tensor, _filled(func, args))
            if torch.Tag.nondeterministic_seeded in func.tags:
                return self.draw(func, args, given, tensors)
            if 0 < on_meta < len(tensors):
                written = list(changed(func, args, given))
                self.confused = self.confused or not written or not all(tensor.is_meta for tensor in written)
            return func(*args, **given)

    def draw(self, func: Any, args: tuple[Any, ...], given: dict[str, Any], tensors: list[Tensor]) -> Any:
        if torch.initial_seed() != self.initial:  # the constructor has seeded torch's generator
            self.confused = self.confused or any(tensor.is_meta for tensor in tensors)
            return func(*args, **given)
        place = self.place(func, tensors[0] if tensors else None, args)
        self.draws[place] += 1
        if tensors and tensors[0].is_meta:
            return func(*args, **given)
        number = key(self.seed, "from_constructor", *place, self.draws[place])
        return draw(func, args, given, lambda device: torch.Generator(device).manual_seed(number))

    def place(self, func: Any, tensor: Tensor | None, args: tuple[Any, ...]) -> tuple[str | int, ...]:
        """What the key of a draw is of."""
        shape = str(args if tensor is None else tuple(tensor.shape))
        number = self.number_of(tensor)
        if number is not None:
            self.last = number, shape
            return "parameter", number
        return ("beside", self.last[0]) if shape == self.last[1] else ("after", self.parameters, str(func), shape)


def _filled(func: Any, args: tuple[Any, ...]) -> float | None:
    """The constant that an operation writes all over its first argument; None for others."""
    if func is torch.ops.aten.zero_.default:
        return 0.0
    return float(args[1]) if func is torch.ops.aten.fill_.Scalar and isinstance(args[1], (int, float)) else None


class _Asked(TorchFunctionMode):
    """Sees who asks whether a parameter is on meta: a draw that is left out there, as torch's own trunc_normal_, is no write."""

    def __init__(self, building: Building) -> None:
        super().__init__()
        self.building = building

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in _QUESTIONS and str(found) in ("True", "meta"):
            with without_torch_function():
                self.building.note(args[0])
        return found


_OF_TENSORS: Any = Tensor
_QUESTIONS = (_OF_TENSORS.is_meta.__get__, _OF_TENSORS.device.__get__)


@contextlib.contextmanager
def on_cpu(seed: int, wanted: Wanted | None = None) -> Iterator[Building]:
    """A constructor runs on the CPU, whatever is around it, and draws by a seed. The generators are put back."""
    start = key(seed, "from_constructor")
    with torch.random.fork_rng(devices=[]), _other_generators(start), not_accelerated(), safe_torch(), torch.device("cpu"):
        torch.default_generator.manual_seed(start)
        with Building(seed, wanted) as building, _Asked(building):
            handle = register_module_parameter_registration_hook(building.register)
            try:
                yield building
            finally:
                handle.remove()


@contextlib.contextmanager
def _other_generators(seed: int) -> Iterator[None]:
    """Python's, and NumPy's where it is in use, are seeded."""
    numpy: Any = sys.modules.get("numpy")
    before, before_numpy = random.getstate(), numpy and numpy.random.get_state()
    try:
        random.seed(seed)
        if numpy:
            numpy.random.seed(seed % 2**32)
        yield
    finally:
        random.setstate(before)
        if numpy:
            numpy.random.set_state(before_numpy)
