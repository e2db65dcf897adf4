"""One road for every fill: parts -> key -> plans -> backend -> written. `_blend.py` and `_usual.py` alone call backends too.

    parts    the tensor, or the pieces of a DTensor's shard, each with its index box in the whole tensor
    key      given, drawn from a generator, or a tensor of the graph that is being traced
    plans    a recipe (the law's constants in the dtype), a key, a part and its box
    backend  one call for all plans of a device
    written  autograd learns of the write

Tensors that cannot take it themselves (those of torch.func, views that are negated when read) are copied to; graphs and fake
tensors get the registered operator ``fastinit::fill_``, which takes the road when it runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.compiler import is_dynamo_compiling

from fastinit._backends.choose import choose
from fastinit._core import keys, laws, shard
from fastinit._core.check import (
    FLOAT_DTYPES,
    PLAIN,
    check_dtype,
    check_tensor,
    is_loaded,
    is_plain,
    is_plain_kind,
    left,
    whole_shape,
)
from fastinit._core.laws import Law
from fastinit._core.memory import check_memory
from fastinit._core.modes import is_troubled, safe_torch
from fastinit._core.plan import Box, Plan, by_device, of_parts, row_of, whole
from fastinit._core.recipes import Recipe, recipe
from fastinit._torch import (
    FakeTensor,
    dispatch_modes,
    is_wrapped_by_functorch,
    local_tensor_of,
    recording_modes,
    untraced,
    written,
)

_MASK64 = (1 << 64) - 1
Key = int | Tensor  # a tensor: the word that a graph or torch.func draws


def fill_(
    tensor: Tensor,
    law: Law,
    generator: Generator | None = None,
    key: Key | None = None,
    dtypes: tuple[torch.dtype, ...] = FLOAT_DTYPES,
) -> Tensor:
    """Fill a tensor, in its logical order, with the values that a law has by one key. In place, under no_grad.

    A tensor that transformers has marked as loaded is left as it is, and no key is drawn.

    Raises:
        TypeError: not a tensor of one of the dtypes; a wrong generator or key.
        ValueError: a sparse or self-overlapping tensor; one without memory; no value of the dtype between the bounds; a wrong
            generator or key.
    """
    check_tensor(tensor, dtypes)
    if is_loaded(tensor):
        return left(tensor)
    if type(tensor) in PLAIN or is_plain_kind(type(tensor)):  # is_plain(), without its call
        if is_dynamo_compiling():
            _trace_(tensor, law, generator, key)
        elif is_wrapped_by_functorch(tensor) or tensor.is_neg() or tensor.is_conj():
            _copy_(tensor, law, generator, key)
        elif dispatch_modes() and recording_modes():
            _trace_(tensor, law, generator, key)
        else:
            _take_road_(tensor, law, generator, key)  # type: ignore[arg-type]  # words are drawn on the ways above alone
    elif shard.is_dtensor(tensor):
        if torch.compiler.is_compiling():
            raise RuntimeError("a DTensor cannot be initialized inside a compiled graph. Initialize it before.")
        untraced(_take_road_)(tensor, law, generator, key)  # type: ignore[arg-type]  # on every rank: an empty one draws too
    elif _is_traced():
        _trace_(tensor, law, generator, key)
    else:  # such as a FakeTensor outside its mode
        recipe(law, tensor.dtype)  # refuses a law before a key is drawn
        number = keys.resolve(generator, key, tensor.device)  # type: ignore[arg-type]
        with writing(tensor):
            torch.ops.fastinit.fill_(tensor, law.name, list(law.parameters), keys.signed(number), None)
    return tensor


def key_of(tensor: Tensor, law: Law, generator: Generator | None, key: int | None) -> Key:
    """The key of several fills that share one: a number, or the word of a draw that a graph makes, or that vmap multiplies.

    Raises:
        TypeError, ValueError: as `fill_`.
    """
    if is_dynamo_compiling():
        return _drawn(generator, tensor) if key is None else key
    recipe(law, tensor.dtype)  # refuses a law before a key is drawn
    if key is not None or tensor.is_meta:
        keys.check_source(generator, key, tensor.device)
        return 0 if key is None else key
    if is_wrapped_by_functorch(tensor):
        return _drawn_by_functorch(tensor, generator)
    if _is_traced():
        return _drawn(generator, tensor)
    return keys.resolve(generator, None, tensor.device)


# --- the road -----------------------------------------------------------------------------------------------------------------


def _take_road_(tensor: Tensor, law: Law, generator: Generator | None, key: int | None) -> None:
    """Fill a plain tensor or a DTensor: what the registered operator would cost, a small tensor would notice."""
    values, device = recipe(law, tensor.dtype), tensor.device
    if not tensor.is_meta and (type(tensor) in PLAIN or is_plain_kind(type(tensor))):  # nearly always
        count = tensor.numel()
        if not count:
            whole_shape(tensor)  # refuses what is elsewhere
        check_memory(tensor)
        plan = Plan(tensor, values, keys.resolve(generator, key, device), row_of(count))
        if count:
            choose(device).fill([plan if tensor.dtype is values.dtype else of_parts(plan)])
    elif tensor.is_meta:
        parts_of(tensor)  # refuses what has no elements of its own
        keys.check_source(generator, key, device)
    else:
        with shard.plain_local(tensor) as local:
            parts = shard.pieces(tensor, local)  # likewise, before a key is drawn
            run(plans_of(parts, values, keys.resolve(generator, key, device)))
    written(tensor)


def parts_of(tensor: Tensor) -> list[tuple[Tensor, Box]]:
    """What this rank holds of a tensor: all of it, or the pieces of a DTensor's shard."""
    if not is_plain(tensor) and shard.is_dtensor(tensor):
        return shard.pieces(tensor, local_tensor_of(tensor))
    return [(tensor, whole(tensor))]


def plans_of(parts: list[tuple[Tensor, Box]], values: Recipe, key: int) -> list[Plan]:
    """Plans for the parts that have elements and memory; meta and fake tensors have none.

    Raises:
        TypeError: a part is of a subclass of Tensor whose memory is its own affair.
    """
    real = [(out, box) for out, box in parts if out.numel() and not out.is_meta and not isinstance(out, FakeTensor)]
    for out, _ in real:
        if not is_plain(out):
            raise TypeError(f"no backend can fill a {type(out).__name__}. Initialize the tensor before it is converted.")
    return [of_parts(Plan(out, values, key, box)) for out, box in real]


def check_backends(devices: Iterable[torch.device]) -> None:
    """Raise the ValueError or RuntimeError of a device that no backend can serve as asked."""
    list(map(choose, set(devices)))


def run(plans: list[Plan], device: torch.device | None = None) -> None:
    """Fill what the plans name: one call of the backend for each device; one alone, where it is known that all are there."""
    for place, together in by_device(plans).items() if device is None else [(device, plans)] if plans else ():
        choose(place).fill(together)


# --- ways to it ---------------------------------------------------------------------------------------------------------------


def _is_traced() -> bool:
    """Whether operations go into a graph (torch.compile, torch.export, make_fx), or to a mode that fakes or records them."""
    return is_dynamo_compiling() or recording_modes()


def _trace_(tensor: Tensor, law: Law, generator: Generator | None, key: Key | None) -> None:
    """Put the operator into the graph. A fresh key is drawn by another one: at every call, in eager mode's order."""
    if not torch.compiler.is_compiling() and not isinstance(key, Tensor):
        keys.check_source(generator, key, tensor.device)
    name, parameters = law.name, list(law.parameters)
    with torch.no_grad():
        if tensor.is_complex():  # torch's inductor fails on operators that write these
            tensor.copy_(_values_by(tensor, law, generator, _drawn(generator, tensor) if key is None else key))
        elif key is None or isinstance(key, Tensor):
            word = _drawn(generator, tensor) if key is None else key
            torch.ops.fastinit.fill_(tensor, name, parameters, 0, word)
        else:
            torch.ops.fastinit.fill_(tensor, name, parameters, keys.signed(keys.resolve(generator, key, tensor.device)), None)


def _drawn(generator: Generator | None, tensor: Tensor) -> Tensor:
    """The word of a key that a graph draws."""
    if not torch.compiler.is_compiling():
        keys.check_source(generator, None, tensor.device)
    word: Tensor = torch.ops.fastinit.draw(generator)
    return word


def _copy_(tensor: Tensor, law: Law, generator: Generator | None, key: Key | None) -> None:
    """Fill a plain tensor and copy it to what no operator gets: a wrapper of torch.func, or a view that is negated when read."""
    if is_wrapped_by_functorch(tensor):
        recipe(law, tensor.dtype)  # refuses a law before a key is drawn
        plain = _values_by(tensor, law, generator, _drawn_by_functorch(tensor, generator) if key is None else key)
    else:
        plain = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        fill_(plain, law, generator, key, (tensor.dtype,))
    with writing(tensor):
        tensor.copy_(plain)


def _values_by(tensor: Tensor, law: Law, generator: Generator | None, key: Key) -> Tensor:
    """The values for a tensor that no operator may write."""
    if not isinstance(key, Tensor):
        key = torch.tensor(keys.signed(keys.resolve(generator, key, tensor.device)), device="cpu")
    parameters = list(law.parameters)
    values: Tensor = torch.ops.fastinit.values(key, tensor.shape, tensor.dtype, tensor.device, law.name, parameters)
    return values


def _drawn_by_functorch(tensor: Tensor, generator: Generator | None) -> Tensor:
    """The word of a key, drawn as torch draws in place: vmap's randomness says whether each example gets its own, all get the
    same, or that is an error."""
    keys.check_source(generator, None, tensor.device)
    device = "cpu" if generator is None else generator.device
    with torch.no_grad():
        return tensor.new_empty((), dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)


def writing(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """The mode for torch's operations that fill: they write inference tensors in inference mode alone."""
    if torch.compiler.is_compiling():
        return torch.no_grad()
    check_memory(tensor if type(tensor) in PLAIN else shard.local_of(tensor))  # which torch does not
    mode = torch.inference_mode() if tensor.is_inference() else torch.no_grad()
    return safe_torch(mode) if is_troubled() else mode


@torch.library.custom_op(
    "fastinit::fill_",
    mutates_args={"out"},
    schema="(Tensor(a!) out, str law, float[] parameters, int key, Tensor? drawn) -> ()",
)
def _fill_operator(out: Tensor, law: str, parameters: list[float], key: int, drawn: Tensor | None) -> None:
    number = key if drawn is None else int(drawn.item())
    check_memory(out)
    if out.numel():  # a tensor with memory, of a subclass perhaps
        plan = Plan(out, recipe(Law(law, tuple(parameters)), out.dtype), number & _MASK64, whole(out))
        choose(out.device).fill([of_parts(plan)])


@_fill_operator.register_fake
def _refuse_early(out: Tensor, law: str, parameters: list[float], key: int, drawn: Tensor | None) -> None:
    recipe(Law(law, tuple(parameters)), out.dtype)  # its errors come at trace time


# The draw of a graph is eager mode's, from the same generator. The tag says that no two calls are one.
torch.library.define("fastinit::draw", "(Generator? generator) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))


@torch.library.impl("fastinit::draw", "CompositeExplicitAutograd")
def _draw(generator: Generator | None) -> Tensor:
    return untraced(_word)(generator)


def _word(generator: Generator | None) -> Tensor:
    device = torch.device("cpu") if generator is None else generator.device
    return torch.tensor(keys.signed(keys.resolve(generator, None, device)), device="cpu")


@torch.library.impl("fastinit::draw", "FuncTorchVmapMode")
def _no_common_draw(generator: Generator | None) -> Tensor:
    raise RuntimeError("vmap cannot draw inside a compiled graph, or under a mode. Pass key=, or compile what is outside of it.")


@torch.library.register_fake("fastinit::draw")  # type: ignore[untyped-decorator]
def _no_draw(generator: Generator | None) -> Tensor:
    return torch.empty((), dtype=torch.int64, device="cpu")


# The values of a key for torch.func, which knows how to pass on an operator without side effects.
torch.library.define(
    "fastinit::values",
    "(Tensor word, SymInt[] size, ScalarType dtype, Device device, str law, float[] parameters) -> Tensor",
)


@torch.library.impl("fastinit::values", "CompositeExplicitAutograd")
def _values(
    word: Tensor, size: Sequence[int], dtype: torch.dtype, device: torch.device, law: str, parameters: list[float]
) -> Tensor:
    out = torch.empty(size, dtype=dtype, device=device)
    run(plans_of([(out, whole(out))], recipe(Law(law, tuple(parameters)), dtype), int(word.item()) & _MASK64))
    return out


@torch.library.register_fake("fastinit::values")  # type: ignore[untyped-decorator]
def _no_values(
    word: Tensor, size: Sequence[int], dtype: torch.dtype, device: torch.device, law: str, parameters: list[float]
) -> Tensor:
    return torch.empty(size, dtype=dtype, device=device)


@torch.library.register_vmap("fastinit::values")  # type: ignore[untyped-decorator]
def _values_of_each(info: Any, in_dims: tuple[int | None, ...], word: Tensor, *rest: Any) -> tuple[Tensor, int]:
    """The values of every example, one after the other."""
    words = word.movedim(in_dims[0] or 0, 0)
    return torch.stack([torch.ops.fastinit.values(each, *rest) for each in words.unbind()]), 0


# --- ahead of time ------------------------------------------------------------------------------------------------------------


def warm_up(
    device: str | torch.device, dtypes: Sequence[torch.dtype] = (torch.float32, torch.bfloat16), *, strided: bool = False
) -> None:
    """Compile and load ahead what fills on a device need, so that the first of a program or of a CUDA graph takes no longer.

    It covers uniform, normal and truncated normal initializers of any parameters, symmetric about their mean. The compiled code
    is kept on disk (by Triton, in ~/.triton/cache): the second process finds it there. A backend without a compiler loads its
    library, no more.

    Args:
        device: the device of the tensors to come, such as "cuda".
        dtypes: their dtypes, of floats; complex tensors are filled as their parts.
        strided: whether also for tensors that are not contiguous, not aligned to 16 bytes or shards cut at odd places.

    Raises:
        TypeError: a dtype cannot be filled.
        RuntimeError: there is no such device, or a forced backend cannot serve it.

    Examples:
        >>> fastinit.warm_up("cpu", [torch.float32])
    """
    symmetric = (laws.uniform(-1.0, 1.0), laws.normal(0.0, 1.0), laws.truncated_normal(0.0, 1.0, -2.0, 2.0))
    for dtype in dtypes:
        out = torch.empty(2, 32, dtype=dtype, device=device)
        check_dtype(dtype, FLOAT_DTYPES)
        if out.is_meta:
            continue  # holds no values: there is nothing to make ready
        backend = choose(out.device)
        for law in (*symmetric, laws.uniform(0.0, 1.0)):
            plan = Plan(out, recipe(law, dtype), 0, whole(out))
            backend.fill([plan])
            backend.fill([plan, plan])
            if strided:
                backend.fill([plan._replace(out=out.t())])
