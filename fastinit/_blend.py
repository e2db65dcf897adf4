"""One road for every blend, noise onto what a tensor holds: parts -> members -> blendings -> backend -> written.

With `_fill.py`, whose last step it shares, the only caller of backends. The arithmetic stands in the value contract (docstring of
recipes.py).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fastinit._backends.choose import choose
from fastinit._backends.reference import add_up
from fastinit._core import keys, shard
from fastinit._core.check import FLOAT_DTYPES, check_tensor, finite, is_plain, shown, whole_shape
from fastinit._core.laws import Initializer, Law, call_of, declaration_of, law_of
from fastinit._core.memory import check_memory, shares_part
from fastinit._core.modes import ieee_arithmetic, is_flushing
from fastinit._core.plan import Blending, Box, by_device, whole
from fastinit._core.recipes import coefficient, real_of, recipe
from fastinit._fill import writing
from fastinit._torch import FakeTensor, dispatch_modes, is_wrapped_by_functorch, recording_modes, written

Noise = Law | Initializer
Part = tuple[Tensor, Tensor, Box]  # what is written, what is read, where in the whole tensor
_MASK64 = (1 << 64) - 1


def blend_(
    tensor: Tensor,
    initializer: Initializer,
    *,
    key: int | Sequence[int],
    add: float | Sequence[float] = 1.0,
    keep: float = 1.0,
    source: Tensor | None = None,
) -> Tensor:
    """Add noise to a tensor: ``keep * tensor`` plus the sum of ``add[n] *`` what the initializer makes of ``key[n]``.

    In place, under no_grad, in one pass over memory however many keys there are, and without a tensor of noise. Noise that is a
    function of a key is taken away again by its key: ``blend_(w, f, key=k, add=-s)`` after ``blend_(w, f, key=k, add=s)`` leaves
    what rounding has changed, which `source` avoids.

    The sum is made in float32 (of float64 tensors in float64): keep times the old value, rounded, then for each key in order a
    fused multiply-add, at last one rounding to the dtype, to nearest even. The bits are the same on every backend and device, for
    any number of threads, any strides, and any sharding. With ``keep=0`` and one key of ``add=1`` a float32 tensor gets what the
    initializer fills it with, bit for bit but for the sign of a zero. Overflow is the dtype's: infinity; in
    float8_e4m3fn, which has none, the greatest number.

    Args:
        tensor: of float16, bfloat16, float32, float64 or a float8 dtype; any shape and strides; a DTensor gets what the whole
            tensor would get, shard by shard. On meta nothing is done.
        initializer: one of this package, a function that declares its law (`laws.declares`), or a partial of one, without a key
            or generator. Fans are those of the whole shape. Those that draw from no single law (orthogonal_, sparse_, eye_,
            dirac_, forget_gate_bias_) take memory and time: for each key a tensor of noise is made, one after the other.
        key: an int in [0, 2**64), or a sequence of them.
        add: what the noise is multiplied by: finite, or a sequence of as many numbers as there are keys.
        keep: what the old value is multiplied by: finite. 1 keeps it exactly; 0 reads nothing, and memory may be new.
        source: a tensor of the same shape, dtype, device and sharding, whose values are taken as the old ones. None: the
            tensor's own.

    Returns:
        The tensor.

    Raises:
        TypeError: the tensor or source is no tensor of a float dtype; the initializer is none of those; a key is not an integer,
            a coefficient not a number; key is one and add is several, or the other way around.
        ValueError: a key or coefficient is out of range, NaN or infinite; there are no keys, or not as many coefficients; a
            partial carries a key; source has another shape, dtype, device or sharding, or shares a part of the tensor's memory
            (torch.compile may have copied it by then). Nothing was written.
        RuntimeError: inside torch.func's transforms; in a compiled graph, of a DTensor or an initializer without a law.

    Reference:
        T. Salimans et al., [Evolution Strategies as a Scalable Alternative to Reinforcement Learning](
        https://arxiv.org/abs/1703.03864), 2017: noise is shared as seeds. S. Malladi et al., [Fine-Tuning Language Models with
        Just Forward Passes](https://arxiv.org/abs/2305.17333), 2023: it is regenerated in place.

    Examples:
        >>> w = torch.zeros(3)
        >>> _ = fastinit.blend_(w, fastinit.normal_, key=7, add=0.5)
        >>> torch.equal(w, 0.5 * fastinit.normal_(torch.empty(3), key=7))
        True
        >>> _ = fastinit.blend_(w, fastinit.normal_, key=[7, 8], add=[-0.5, 0.1])
    """
    if is_flushing():  # coefficients may be subnormal
        with ieee_arithmetic():
            return blend_(tensor, initializer, key=key, add=add, keep=keep, source=source)
    check_tensor(tensor, FLOAT_DTYPES)
    words, factors = pairs("key", key, add)
    words = [keys.check(word) for word in words]
    numbers = coefficients(factors, keep, tensor.dtype)
    noise = noise_of(initializer, whole_shape(tensor), tensor.dtype)
    if source is not None:
        check_source(tensor, source)
    if shard.is_dtensor(tensor):
        if is_dynamo_compiling():
            raise RuntimeError("a DTensor cannot be blended into inside a compiled graph. Do it outside.")
    elif is_dynamo_compiling() or (dispatch_modes() and recording_modes()):
        if not isinstance(noise, Law):
            raise RuntimeError(f"{noise!r} draws from no single law, and cannot be blended in a graph. Do it outside.")
        with torch.no_grad():
            signed = [keys.signed(word) for word in words]
            torch.ops.fastinit.blend_(tensor, noise.name, list(noise.parameters), signed, list(numbers.add), numbers.keep, source)
        return tensor
    if isinstance(noise, Law):
        recipe(noise, numbers.real)  # refuses a law
    _check_kind(tensor)
    if not is_without_memory(tensor):
        _blend_(tensor, noise, words, numbers, source)
    written(tensor)
    return tensor


class Coefficients(NamedTuple):
    """The numbers of a sum, in the type that it is made in."""

    add: tuple[float, ...]
    keep: float
    real: torch.dtype


def coefficients(add: Sequence[float], keep: float, dtype: torch.dtype) -> Coefficients:
    """The numbers for a tensor of a dtype.

    Raises:
        TypeError: keep is not a number.
        ValueError: keep is NaN or infinite, or a number leaves the range of the type that sums are made in.
    """
    real = real_of(dtype)
    if is_dynamo_compiling():  # which cannot round in every release: the operator does
        return Coefficients(tuple(add), finite("keep", keep), real)
    return Coefficients(
        tuple(coefficient("add", each, real) for each in add), coefficient("keep", finite("keep", keep), real), real
    )


def pairs(name: str, members: Any, add: Any) -> tuple[list[Any], list[float]]:
    """Keys or seeds, and what their noise is multiplied by: one of each, or two sequences of one length.

    Raises:
        TypeError: one is a sequence, the other is not; a coefficient is not a number.
        ValueError: the lengths differ, or are 0; a coefficient is NaN or infinite.
    """
    several = _is_several(members)
    if several != _is_several(add):
        raise TypeError(
            f"{name} and add must be one each, or two sequences of one length. Received: {name}={shown(members)}, "
            f"add={shown(add)}."
        )
    if not several:
        return [members], [finite("add", add)]
    found, factors = _listed(members), _listed(add)
    if len(found) != len(factors) or not found:
        raise ValueError(
            f"{name} and add must have one length, 1 or more. Received: {len(found)} of {name}, {len(factors)} of add. "
            f"Pass a coefficient for each {name}."
        )
    return found, [finite(f"add[{number}]", factor) for number, factor in enumerate(factors)]


def _is_several(value: Any) -> bool:
    """Whether it is a sequence: of Python, an array or a tensor with an axis. Strings are none of numbers."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) > 0


def _listed(values: Any) -> list[Any]:
    return list(values.tolist() if hasattr(values, "tolist") else values)


def noise_of(initializer: Any, shape: torch.Size, dtype: torch.dtype) -> Noise:
    """The law of an initializer of noise; of one that draws from no single law, itself.

    Raises:
        TypeError: it is no function, or declares nothing.
        ValueError: a partial carries a key or generator; or an argument of the initializer is wrong.
    """
    if not callable(initializer):
        raise TypeError(
            f"an initializer must be a function that fills a tensor. Received: {initializer!r} "
            f"({type(initializer).__name__}). Pass e.g. fastinit.normal_."
        )
    function, _, given = call_of(initializer)
    own = [name for name in ("key", "generator") if name in given]
    if own:
        raise ValueError(
            f"the initializer must not carry a {own[0]}: its noise is that of the keys. Received: {initializer!r}. Leave it out."
        )
    if declaration_of(function) is None:
        raise TypeError(
            f"{getattr(function, '__name__', function)} declares no law by which its noise could be made again. Pass one of "
            "fastinit's, such as fastinit.normal_ or glorot_uniform_, or declare its law by fastinit.laws.declares."
        )
    found = law_of(initializer, shape, dtype)
    if found is None and "key" not in inspect.signature(function).parameters:
        raise TypeError(f"{getattr(function, '__name__', function)} draws from no single law, and takes no key. Give it one.")
    return initializer if found is None else found[0]


def check_source(tensor: Tensor, source: Any) -> None:
    """Raise TypeError or ValueError for what a tensor's old values cannot be read from."""
    if not isinstance(source, Tensor):
        raise TypeError(f"source must be a torch.Tensor or None. Received: {source!r} ({type(source).__name__}).")
    for what, own, other in (
        ("shape", tuple(tensor.shape), tuple(source.shape)),
        ("dtype", tensor.dtype, source.dtype),
        ("device", tensor.device, source.device),
        ("layout", tensor.layout, source.layout),
        ("sharding", _sharding(tensor), _sharding(source)),
    ):
        if own != other:
            raise ValueError(f"source must have the tensor's {what}, {own}. Received: {other}. Convert it first.")
    here, there = shard.local_of(tensor), shard.local_of(source)
    if is_dynamo_compiling() or here is there or is_without_memory(here):  # a graph's operator looks at memory when it runs
        return
    _check_kind(source)
    check_memory(there)
    check_memory(here)
    if shares_part(here, there):
        raise ValueError(
            "source shares a part of the tensor's memory, or has the same elements in other places. Pass the tensor itself, "
            "or source.clone()."
        )


def _sharding(tensor: Any) -> Any:
    return (tensor.device_mesh, tuple(tensor.placements)) if shard.is_dtensor(tensor) else None


def _check_kind(tensor: Tensor) -> None:
    """Raise for a tensor that has no memory of elements which a backend could read."""
    if is_wrapped_by_functorch(tensor):
        raise RuntimeError("blend_ does not work inside torch.func's transforms. Call it outside.")
    if not (is_plain(tensor) or shard.is_dtensor(tensor) or isinstance(tensor, FakeTensor)):
        raise TypeError(f"no backend can read and fill a {type(tensor).__name__}. Blend before the tensor is converted.")


def is_without_memory(tensor: Tensor) -> bool:
    return tensor.is_meta or isinstance(shard.local_of(tensor), FakeTensor)


# --- the road -----------------------------------------------------------------------------------------------------------------


def _blend_(tensor: Tensor, noise: Noise, words: Sequence[int], numbers: Coefficients, source: Tensor | None) -> None:
    """Blend into a tensor with memory; one that is negated when read gets a copy of its sums."""
    if tensor.is_neg():
        plain = tensor.detach().resolve_neg()
        _blend_(plain, noise, words, numbers, source)
        with writing(tensor):
            tensor.copy_(plain)
        return
    with memory_of(tensor, source if numbers.keep != 0 else None) as (out, read):
        blocks = shard.local_blocks(tensor) if shard.is_dtensor(tensor) else None
        if isinstance(noise, Law):
            run(blendings_of(parts_of(tensor.shape, blocks, out, read), noise, words, numbers))
        else:
            add_made_(tensor.shape, blocks, out, read, noise, words, numbers)


@contextlib.contextmanager
def memory_of(tensor: Tensor, source: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """What this rank holds of a tensor, to be written inside the `with` block, and what is read.

    Raises:
        ValueError: memory is not there.
    """
    source = source if source is None else source.detach().resolve_neg()
    if not shard.is_dtensor(tensor):
        check_memory(tensor)
        yield tensor, tensor if source is None else source
        return
    with shard.plain_local(tensor) as local:
        read = local if source is None else shard.local_of(source)
        if not is_plain(read):  # such as one that is still under way
            read = torch.empty(read.shape, dtype=read.dtype, device=read.device).copy_(read)
        yield local, read


def parts_of(shape: torch.Size, blocks: Iterable[shard.Block] | None, out: Tensor, read: Tensor) -> list[Part]:
    """A tensor in parts that are boxes of a whole of that shape; without blocks it is the whole."""
    if blocks is None:
        return [(out, read, whole(out))]
    return [(part.of_local(out), part.of_local(read), box) for block in blocks for part, box in shard.boxes(shape, block)]


def blendings_of(parts: Iterable[Part], law: Law, words: Sequence[int], numbers: Coefficients) -> list[Blending]:
    """What a backend does with the parts that have elements."""
    values = recipe(law, numbers.real)
    members, add, keep = tuple(words), numbers.add, numbers.keep
    return [Blending(out, values, members, box, add, keep, old) for out, old, box in parts if out.numel()]


def add_made_(
    shape: torch.Size,
    blocks: Sequence[shard.Block] | None,
    out: Tensor,
    read: Tensor,
    initializer: Initializer,
    words: Sequence[int],
    numbers: Coefficients,
) -> None:
    """Blend noise that is no law: whole tensors that the initializer makes, one after the other, in the type of the sum."""
    real, device = numbers.real, out.device
    sums = torch.empty(out.shape, dtype=real, device=device)
    add_up(sums, read, (), (), numbers.keep, real)
    for word, factor in zip(words, numbers.add, strict=True):
        made = initializer(torch.empty(shape, dtype=real, device=device), key=word)  # type: ignore[call-arg]
        for part, values in [(sums, made)] if blocks is None else [(b.of_local(sums), b.of_whole(made)) for b in blocks]:
            add_up(part, part, (partial(values.reshape(-1).narrow, 0),), (factor,), 1.0, real)
    for part, old in [(out, sums)] if blocks is None else [(b.of_local(out), b.of_local(sums)) for b in blocks]:
        add_up(part, old, (), (), 1.0, real)


def run(blendings: Iterable[Blending]) -> None:
    """Blend: one call of the backend for each device."""
    for device, together in by_device(blendings).items():
        choose(device).blend(together)


# The operator of graphs, for tensors that are whole.
@torch.library.custom_op(
    "fastinit::blend_",
    mutates_args={"out"},
    schema="(Tensor(a!) out, str law, float[] parameters, int[] keys, float[] add, float keep, Tensor? source) -> ()",
)
def _blend_operator(
    out: Tensor, law: str, parameters: list[float], words: list[int], add: list[float], keep: float, source: Tensor | None
) -> None:
    with ieee_arithmetic():
        numbers = coefficients(add, keep, out.dtype)
        if source is not None:
            check_source(out, source)
        _blend_(out, Law(law, tuple(parameters)), [word & _MASK64 for word in words], numbers, source)


@_blend_operator.register_fake
def _no_blend(
    out: Tensor, law: str, parameters: list[float], words: list[int], add: list[float], keep: float, source: Tensor | None
) -> None:
    recipe(Law(law, tuple(parameters)), coefficients(add, keep, out.dtype).real)
