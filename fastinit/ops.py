"""Fills as PyTorch sees them: border checks, the registered operator, the eager fast path. The only caller of backends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import torch
from torch._C._functorch import is_functorch_wrapped_tensor

from fastinit import keys, shard
from fastinit.backends import choose
from fastinit.distributions import FLOAT_DTYPES, RAW_WORDS, Distribution, Recipe, normal, recipe, truncated_normal, uniform
from fastinit.plan import Box, Plan, whole

WORD_DTYPES = (torch.int32, torch.uint32, torch.int64, torch.uint64)
PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
MASK64 = (1 << 64) - 1


def fill_(
    tensor: torch.Tensor, distribution: Distribution, *, generator: torch.Generator | None = None, key: int | None = None
) -> torch.Tensor:
    """Fills the tensor in its logical order with the values of one key. In place, under no_grad; returns the tensor.

    Raises:
        TypeError: not a tensor of a supported dtype; a wrong generator or key.
        ValueError: a sparse or self-overlapping tensor; no value of the dtype between the bounds; a wrong generator or key.
    """
    check_tensor(tensor)
    return route(tensor, distribution, generator, key)


def route(tensor: torch.Tensor, distribution: Distribution, generator: torch.Generator | None, key: int | None) -> torch.Tensor:
    """The fill as a node of a graph that is being traced, directly, through a plain tensor, shard by shard, or as the
    registered operator."""
    if type(tensor) not in PLAIN:
        subclass_fill_(tensor, distribution, generator, key)
    elif is_traced():
        traced_fill_(tensor, distribution, generator, key)
    elif is_functorch_wrapped_tensor(tensor) or tensor.is_neg():
        # A wrapper of torch.func (under vmap all examples get the same values), or a view that is negated when it is read: to
        # both the dispatcher cannot pass the operator on, but it can copy.
        with torch._C._DisableFuncTorch():
            plain = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
            run(plain, distribution, generator, key)
        with writing(tensor):
            tensor.copy_(plain)
    else:
        run(tensor, distribution, generator, key)
    return tensor


def subclass_fill_(tensor: torch.Tensor, distribution: Distribution, generator: torch.Generator | None, key: int | None) -> None:
    if shard.is_dtensor(tensor):
        fill_shard_(tensor, distribution, generator, key)
    elif is_traced():
        traced_fill_(tensor, distribution, generator, key)
    else:  # such as a FakeTensor outside its mode
        recipe(distribution, tensor.dtype)  # refuses a law before a key is drawn
        number = signed(keys.resolve(generator, key, tensor.device))
        with writing(tensor):
            torch.ops.fastinit.fill_(tensor, distribution.name, list(distribution.parameters), number, None)


def is_traced() -> bool:
    """Whether operations go into a graph (torch.compile, torch.export, make_fx), or to a mode that fakes or watches them."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def run(tensor: torch.Tensor, distribution: Distribution, generator: torch.Generator | None, key: int | None) -> None:
    """The eager path: what the registered operator costs, a small tensor would notice."""
    values = recipe(distribution, tensor.dtype)
    if tensor.is_meta:
        keys.check_source(generator, key, tensor.device)
    else:
        number = keys.resolve(generator, key, tensor.device)
        if tensor.numel():
            choose(tensor.device).fill([Plan(tensor, values, number, whole(tensor))])
    written(tensor)


def fill_shard_(tensor: torch.Tensor, distribution: Distribution, generator: torch.Generator | None, key: int | None) -> None:
    """Every rank fills the part of a DTensor that it holds. All of them draw a key, also those that hold nothing."""
    if torch.compiler.is_compiling():
        raise RuntimeError("a DTensor cannot be initialised inside a compiled graph. Initialise it before.")
    values = recipe(distribution, tensor.dtype)
    parts = shard.pieces(tensor)  # refuses what has no elements of its own, before a key is drawn
    if tensor.is_meta:
        keys.check_source(generator, key, tensor.device)
    else:
        number = keys.resolve(generator, key, tensor.device)
        fill_all(plans_of(parts, values, number))
    written(tensor)


def plans(tensor: torch.Tensor, values: Recipe, key: int) -> list[Plan]:
    """What fills a tensor, or the shard of a DTensor that this rank holds; none without elements, or of meta and fake tensors."""
    return plans_of(shard.pieces(tensor) if shard.is_dtensor(tensor) else [(tensor, whole(tensor))], values, key)


def plans_of(parts: list[tuple[torch.Tensor, Box]], values: Recipe, key: int) -> list[Plan]:
    real = [(part, box) for part, box in parts if type(part) in PLAIN and not part.is_meta]
    return [Plan(part, values, key, box) for part, box in real if part.numel()]


def fill_all(plans: Iterable[Plan]) -> None:
    """Fills many tensors: a call of the backend a device."""
    lists: dict[torch.device, list[Plan]] = {}
    for plan in plans:
        lists.setdefault(plan.out.device, []).append(plan)
    for device, together in lists.items():
        choose(device).fill(together)


def writing(tensor: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """The mode for operations of torch's that fill: they write to an inference tensor in inference mode alone."""
    eager = not torch.compiler.is_compiling()
    return torch.inference_mode() if eager and tensor.is_inference() else torch.no_grad()


def written(tensor: torch.Tensor) -> None:
    """Tells autograd; inference tensors keep no version."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)


def traced_fill_(tensor: torch.Tensor, distribution: Distribution, generator: torch.Generator | None, key: int | None) -> None:
    """A fresh key is a random tensor of the graph: drawn at every call, shared by no two fills."""
    if not torch.compiler.is_compiling():
        keys.check_source(generator, key, tensor.device)
    name, parameters = distribution.name, list(distribution.parameters)
    with torch.no_grad():
        if key is None:
            drawn = torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64, generator=generator)
            torch.ops.fastinit.fill_(tensor, name, parameters, 0, drawn)
        else:
            torch.ops.fastinit.fill_(tensor, name, parameters, signed(keys.resolve(generator, key, tensor.device)), None)


def signed(key: int) -> int:
    """A 64-bit key as the int64 that an operator's schema can carry."""
    return key - (1 << 64) if key >> 63 else key


@torch.library.custom_op(
    "fastinit::fill_",
    mutates_args={"out"},
    schema="(Tensor(a!) out, str kind, float[] parameters, int key, Tensor? drawn) -> ()",
)
def fill_operator(out: torch.Tensor, kind: str, parameters: list[float], key: int, drawn: torch.Tensor | None) -> None:
    number = key if drawn is None else int(drawn.item())
    values = recipe(Distribution(kind, tuple(parameters)), out.dtype)
    if out.numel():
        choose(out.device).fill([Plan(out, values, number & MASK64, whole(out))])


@fill_operator.register_fake
def _(out: torch.Tensor, kind: str, parameters: list[float], key: int, drawn: torch.Tensor | None) -> None:
    recipe(Distribution(kind, tuple(parameters)), out.dtype)  # its errors come at trace time


def bits_(tensor: torch.Tensor, *, key: int) -> torch.Tensor:
    """Fills an integer tensor with the raw words of a key.

    Args:
        tensor: int32 or uint32, any shape and strides: element i is word i of stream 0. int64 or uint64: word i of stream 0
            above word i of stream 1, which is what float64 values are made of.
        key: 0 <= key < 2^64, for instance from `fastinit.key`.

    Returns:
        The same tensor.

    Raises:
        TypeError: a tensor of another dtype; a key that is no integer.
        ValueError: a sparse or self-overlapping tensor; a key out of range. The tensor is untouched.

    Reference: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x32-10).
    """
    check_tensor(tensor, WORD_DTYPES)
    return route(tensor, RAW_WORDS, None, keys.check(key))


def warm_up(
    device: str | torch.device, dtypes: Sequence[torch.dtype] = (torch.float32, torch.bfloat16), *, strided: bool = False
) -> None:
    """Compiles and loads ahead what fills on a device need, so that the first of a program, or of a CUDA graph, takes no longer.

    It covers uniform, normal and truncated normal initializers of any parameters, symmetric about their mean. The compiled code
    is kept on disk (by Triton, in ~/.triton/cache): the second process finds it there. A backend without a compiler loads its
    library, no more.

    Args:
        device: the device of the tensors to come, such as "cuda".
        dtypes: their dtypes.
        strided: also for tensors that are not contiguous, not aligned to 16 bytes or shards cut at odd places.

    Raises:
        TypeError: a dtype that cannot be filled.
        RuntimeError: there is no such device, or a forced backend cannot serve it.
    """
    laws = [uniform(-1.0, 1.0), uniform(0.0, 1.0), normal(0.0, 1.0), truncated_normal(0.0, 1.0, -2.0, 2.0)]
    for dtype in dtypes:
        out = torch.empty(2, 32, dtype=dtype, device=device)
        check_tensor(out)
        if out.is_meta:
            continue  # holds no values: there is nothing to make ready
        backend = choose(out.device)
        for law in laws:
            plan = Plan(out, recipe(law, dtype), 0, whole(out))
            backend.fill([plan])
            backend.fill([plan, plan])
            if strided:
                backend.fill([plan._replace(out=out.t())])


def fill_box_(tensor: torch.Tensor, distribution: Distribution, *, key: int, box: Box) -> torch.Tensor:
    """Fills a shard: the tensor's elements are those of the global tensor that the box names.

    Raises:
        ValueError: the box does not hold as many elements as the tensor, or leaves 0 <= index < 2^63.
    """
    check_tensor(tensor)
    check_box(box, tensor.numel())
    number, values = keys.check(key), recipe(distribution, tensor.dtype)
    if tensor.numel() and not tensor.is_meta:
        choose(tensor.device).fill([Plan(tensor, values, number, box)])
    written(tensor)
    return tensor


def check_box(box: Box, elements: int) -> None:
    if box.rows * box.cols != elements:
        raise ValueError(f"a box of {box.rows} x {box.cols} does not cover a tensor of {elements} elements.")
    if elements and not (box.start >= 0 and box.pitch >= 0 and box.start + (box.rows - 1) * box.pitch + box.cols <= 2**63):
        raise ValueError(f"a box must lie within 0 <= index < 2^63. Received: {box}.")


def check_tensor(tensor: torch.Tensor, allowed: tuple[torch.dtype, ...] = FLOAT_DTYPES) -> None:
    """Raises for what no backend can fill, before anything is written."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"expected a torch.Tensor. Received: {tensor!r} of type {type(tensor).__name__}.")
    if tensor.dtype not in allowed:
        names = ", ".join(str(dtype) for dtype in allowed)
        raise TypeError(f"cannot fill a {tensor.dtype} tensor. Allowed: {names}. Initialise in one of these, then convert.")
    if tensor.is_nested:
        raise ValueError("cannot fill a nested tensor, whose parts have no common shape. Fill the parts that unbind() gives.")
    if tensor.layout is not torch.strided:
        raise ValueError(f"cannot fill a tensor of layout {tensor.layout}: only torch.strided. Call to_dense() first.")
    if not tensor.is_contiguous() and overlaps(tensor):
        raise ValueError(
            f"elements of the tensor share memory (shape {tuple(tensor.shape)}, strides {tensor.stride()}), as after expand(). "
            "Fill the tensor it was expanded from, or clone() it."
        )


def overlaps(tensor: torch.Tensor) -> bool:
    """Whether two indices may meet one address. Strides that interleave without meeting count as meeting."""
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1):
        if stride <= reach:
            return True
        reach += (size - 1) * stride
    return False
