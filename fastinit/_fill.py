"""One road for every fill: parts -> key -> plans -> backend -> written. The only caller of backends.

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

import torch
from torch import Generator, Tensor
from torch.compiler import is_dynamo_compiling

from fastinit._backends.choose import choose
from fastinit._core import keys, laws, shard
from fastinit._core.check import FLOAT_DTYPES, PLAIN, check_tensor
from fastinit._core.laws import Law
from fastinit._core.modes import is_troubled, safe_torch
from fastinit._core.plan import Box, Plan, row_of, whole
from fastinit._core.recipes import Recipe, recipe
from fastinit._torch import dispatch_modes, is_wrapped_by_functorch, without_functorch

_MASK64 = (1 << 64) - 1


def fill_(
    tensor: Tensor,
    law: Law,
    generator: Generator | None = None,
    key: int | None = None,
    dtypes: tuple[torch.dtype, ...] = FLOAT_DTYPES,
) -> Tensor:
    """Fill a tensor, in its logical order, with the values that a law has by one key. In place, under no_grad.

    Raises:
        TypeError: not a tensor of one of the dtypes; a wrong generator or key.
        ValueError: a sparse or self-overlapping tensor; no value of the dtype between the bounds; a wrong generator or key.
    """
    check_tensor(tensor, dtypes)
    if type(tensor) in PLAIN:
        if is_dynamo_compiling() or dispatch_modes():  # is_traced(), without its call
            _trace_(tensor, law, generator, key)
        elif is_wrapped_by_functorch(tensor) or tensor.is_neg():
            _copy_(tensor, law, generator, key)
        else:
            _take_road_(tensor, law, generator, key)
    elif shard.is_dtensor(tensor):
        if torch.compiler.is_compiling():
            raise RuntimeError("a DTensor cannot be initialized inside a compiled graph. Initialize it before.")
        _take_road_(tensor, law, generator, key)  # on every rank: also one that holds nothing draws a key
    elif is_traced():
        _trace_(tensor, law, generator, key)
    else:  # such as a FakeTensor outside its mode
        recipe(law, tensor.dtype)  # refuses a law before a key is drawn
        number = keys.resolve(generator, key, tensor.device)
        with writing(tensor):
            torch.ops.fastinit.fill_(tensor, law.name, list(law.parameters), _signed(number), None)
    return tensor


# --- the road -----------------------------------------------------------------------------------------------------------------


def _take_road_(tensor: Tensor, law: Law, generator: Generator | None, key: int | None) -> None:
    """Fill a plain tensor or a DTensor: what the registered operator would cost, a small tensor would notice."""
    values, device = recipe(law, tensor.dtype), tensor.device
    if type(tensor) in PLAIN and not tensor.is_meta:  # nearly always; what follows does the same in twice the calls
        plan = Plan(tensor, values, keys.resolve(generator, key, device), row_of(tensor.numel()))
        if plan.box.cols:
            choose(device).fill([plan])
    else:
        parts = parts_of(tensor)  # refuses what has no elements of its own, before a key is drawn
        if tensor.is_meta:
            keys.check_source(generator, key, device)
        else:
            run(plans_of(parts, values, keys.resolve(generator, key, device)))
    written(tensor)


def parts_of(tensor: Tensor) -> list[tuple[Tensor, Box]]:
    """What this rank holds of a tensor: all of it, or the pieces of a DTensor's shard."""
    if type(tensor) not in PLAIN and shard.is_dtensor(tensor):
        return shard.pieces(tensor)
    return [(tensor, whole(tensor))]


def plans_of(parts: list[tuple[Tensor, Box]], values: Recipe, key: int) -> list[Plan]:
    """Plans for the parts that have elements and memory; meta and fake tensors have none."""
    return [Plan(out, values, key, box) for out, box in parts if type(out) in PLAIN and out.numel() and not out.is_meta]


def run(plans: Iterable[Plan]) -> None:
    """Fill what the plans name: one call of the backend for each device."""
    devices: dict[torch.device, list[Plan]] = {}
    for plan in plans:
        devices.setdefault(plan.out.device, []).append(plan)
    for device, together in devices.items():
        choose(device).fill(together)


def written(tensor: Tensor) -> None:
    """Tell autograd; inference tensors keep no version."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)


# --- ways to it ---------------------------------------------------------------------------------------------------------------


def is_traced() -> bool:
    """Whether operations go into a graph (torch.compile, torch.export, make_fx), or to a mode that fakes or watches them."""
    return is_dynamo_compiling() or dispatch_modes() > 0


def _trace_(tensor: Tensor, law: Law, generator: Generator | None, key: int | None) -> None:
    """Put the operator into the graph. A fresh key is a random tensor of it: drawn at every call, shared by no two fills."""
    if not torch.compiler.is_compiling():
        keys.check_source(generator, key, tensor.device)
    name, parameters = law.name, list(law.parameters)
    with torch.no_grad():
        if key is None:
            drawn = torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64, generator=generator)
            torch.ops.fastinit.fill_(tensor, name, parameters, 0, drawn)
        else:
            torch.ops.fastinit.fill_(tensor, name, parameters, _signed(keys.resolve(generator, key, tensor.device)), None)


def _copy_(tensor: Tensor, law: Law, generator: Generator | None, key: int | None) -> None:
    """Fill a plain tensor and copy it: the dispatcher cannot pass the operator on to a wrapper of torch.func (under vmap all
    examples get the same values), nor to a view that is negated when it is read."""
    with without_functorch():
        plain = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        _take_road_(plain, law, generator, key)
    with writing(tensor):
        tensor.copy_(plain)


def writing(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """The mode for operations of torch's that fill: they write to an inference tensor in inference mode alone."""
    if torch.compiler.is_compiling():
        return torch.no_grad()
    mode = torch.inference_mode() if tensor.is_inference() else torch.no_grad()
    return safe_torch(mode) if is_troubled() else mode


def _signed(key: int) -> int:
    """A 64-bit key as the int64 that an operator's schema can carry."""
    return key - (1 << 64) if key >> 63 else key


@torch.library.custom_op(
    "fastinit::fill_",
    mutates_args={"out"},
    schema="(Tensor(a!) out, str law, float[] parameters, int key, Tensor? drawn) -> ()",
)
def _fill_operator(out: Tensor, law: str, parameters: list[float], key: int, drawn: Tensor | None) -> None:
    number = key if drawn is None else int(drawn.item())
    if out.numel():  # a tensor with memory, of a subclass perhaps
        choose(out.device).fill([Plan(out, recipe(Law(law, tuple(parameters)), out.dtype), number & _MASK64, whole(out))])


@_fill_operator.register_fake
def _refuse_early(out: Tensor, law: str, parameters: list[float], key: int, drawn: Tensor | None) -> None:
    recipe(Law(law, tuple(parameters)), out.dtype)  # its errors come at trace time


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
        dtypes: their dtypes; any that initializers take.
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
        check_tensor(out)
        if out.is_meta:
            continue  # holds no values: there is nothing to make ready
        backend = choose(out.device)
        for law in (*symmetric, laws.uniform(0.0, 1.0)):
            plan = Plan(out, recipe(law, dtype), 0, whole(out))
            backend.fill([plan])
            backend.fill([plan, plan])
            if strided:
                backend.fill([plan._replace(out=out.t())])
