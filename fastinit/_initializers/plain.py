"""The plain distributions and constants: numbers in, one fill.

All initializers of this package write in place under no_grad, bump the version counter and return the same tensor.
They accept float16, bfloat16, float32, float64, float8_e4m3fn and float8_e5m2 tensors of any strides (values follow
the logical order of the elements), leaves that require a gradient, and tensors without elements; meta and fake tensors
stay as they are. `generator` is None (torch's default CPU generator, whatever the device), a CPU generator, or a CUDA
generator of the tensor's device; `key` is an int in [0, 2**64), see `fastinit.key`, and makes the values a pure
function of the call.
"""

import math

import torch
from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core import keys
from fastinit._core.check import PLAIN, WORD_DTYPES, check_tensor
from fastinit._core.laws import RAW_WORDS, Law, constant, declares, fmod_normal, normal, truncated_normal, uniform
from fastinit._core.shard import is_dtensor, local_blocks
from fastinit._fill import fill_, writing


@declares(lambda shape, dtype, a, b: uniform(a, b))
def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None, *, key: int | None = None
) -> Tensor:
    """Fill a tensor from the uniform distribution on [a, b].

    Args:
        tensor: the tensor to fill.
        a, b: the bounds, finite, a < b.
        generator, key: the source of randomness; at most one of them.

    Returns:
        The tensor.

    Raises:
        TypeError, ValueError: a bad tensor, bound, generator or key. The tensor is untouched.

    Reference:
        PyTorch, torch.nn.init.uniform_.
    """
    return fill_(tensor, uniform(a, b), generator, key)


@declares(lambda shape, dtype, mean, std: normal(mean, std))
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None, *, key: int | None = None
) -> Tensor:
    """Fill a tensor from the normal distribution, uncut.

    Args:
        tensor: the tensor to fill.
        mean: finite.
        std: the standard deviation, finite, > 0.
        generator, key: the source of randomness; at most one of them.

    Returns:
        The tensor.

    Raises:
        TypeError, ValueError: a bad tensor, mean, std, generator or key. The tensor is untouched.

    Reference:
        PyTorch, torch.nn.init.normal_.
    """
    return fill_(tensor, normal(mean, std), generator, key)


def cut_law(mean: float, std: float, a: float | None, b: float | None, method: str) -> Law:
    """The law of `truncated_normal_`."""
    if a is None or b is None:
        if type(mean) is not float or type(std) is not float:
            normal(mean, std)  # names a wrong mean or std before it turns into a wrong bound
        a = mean - 2 * std if a is None else a
        b = mean + 2 * std if b is None else b
    if type(method) is str and method == "exact":
        return truncated_normal(mean, std, a, b)
    if type(method) is str and method == "fmod":
        return fmod_normal(mean, std, a, b)
    raise ValueError(
        f"method must be 'exact' or 'fmod'. Received: method={method!r}. Use 'exact' for the truncated normal, "
        "'fmod' for the law of torch.fmod(torch.randn(n), g)."
    )


@declares(lambda shape, dtype, mean, std, a, b, method: cut_law(mean, std, a, b, method))
def truncated_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float | None = None,
    b: float | None = None,
    *,
    method: str = "exact",
    generator: Generator | None = None,
    key: int | None = None,
) -> Tensor:
    """Fill a tensor from a normal distribution cut to [a, b].

    Args:
        tensor: the tensor to fill.
        mean, std: of the normal before the cut; std > 0. The cut makes the standard deviation of the values smaller:
            0.8796 * std at two sigmas.
        a, b: the bounds in the units of the weights (not in sigmas), a < b; either may be infinite.
            None: mean - 2 * std and mean + 2 * std, as in Keras, TensorFlow and JAX.
        method: "exact", the truncated normal; or "fmod", the law of ``mean + std * torch.fmod(torch.randn(n), g)``
            with g the cut in sigmas, which folds the tails into the middle instead of redistributing them.
        generator, key: the source of randomness; at most one of them.

    Returns:
        The tensor.

    Raises:
        TypeError, ValueError: a bad tensor, number, method, generator or key; method="fmod" with bounds that are not
            symmetric about the mean. The tensor is untouched.

    Reference:
        Keras, keras.initializers.TruncatedNormal; JAX, jax.nn.initializers.truncated_normal.
    """
    return fill_(tensor, cut_law(mean, std, a, b, method), generator, key)


@declares(lambda shape, dtype, mean, std, a, b: truncated_normal(mean, std, a, b))
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
    *,
    key: int | None = None,
) -> Tensor:
    """Fill a tensor from a normal distribution cut to [a, b], with the signature of torch.nn.init.trunc_normal_.

    The bounds are absolute, as torch's are: with std=0.02 the defaults lie 100 sigmas away and cut nothing.
    `truncated_normal_` takes its default bounds two sigmas from the mean.

    Args:
        tensor: the tensor to fill.
        mean, std: of the normal before the cut; std > 0.
        a, b: the bounds in the units of the weights, a < b; either may be infinite.
        generator, key: the source of randomness; at most one of them.

    Returns:
        The tensor.

    Raises:
        TypeError, ValueError: a bad tensor, number, generator or key. The tensor is untouched.

    Reference:
        PyTorch, torch.nn.init.trunc_normal_.
    """
    return fill_(tensor, truncated_normal(mean, std, a, b), generator, key)


@declares(lambda shape, dtype: constant(0.0))
def zeros_(tensor: Tensor, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with 0. Generator and key are checked and not used; as `constant_`."""
    return constant_(tensor, 0.0, generator=generator, key=key)


@declares(lambda shape, dtype: constant(1.0))
def ones_(tensor: Tensor, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with 1. Generator and key are checked and not used; as `constant_`."""
    return constant_(tensor, 1.0, generator=generator, key=key)


def check_value(val: float, dtype: DType) -> None:
    """Raise TypeError or ValueError for what a tensor of the dtype cannot hold."""
    if isinstance(val, bool) or not isinstance(val, (int, float)):
        raise TypeError(f"val must be a number. Received: val={val!r} ({type(val).__name__}). Pass a float.")
    largest = torch.finfo(dtype).max
    if largest < abs(val) < math.inf:
        raise ValueError(
            f"val must lie within the range of {dtype}, +-{largest}. Received: val={val}. "
            "Pass a smaller value, or a tensor of a wider dtype."
        )
    if abs(val) == math.inf and dtype is torch.float8_e4m3fn:  # isinf is not traced
        raise ValueError(f"{dtype} has no infinity. Received: val={val}. Pass a finite value, or NaN.")


def constant_law(shape: Size, dtype: DType, val: float) -> Law | None:
    """A plan holds finite values, and no negative zero: the others are written by torch."""
    check_value(val, dtype)
    plain = math.isfinite(val) and (val != 0 or math.copysign(1.0, val) > 0)
    return constant(val) if plain else None


@declares(constant_law)
def constant_(tensor: Tensor, val: float, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with one value.

    Args:
        tensor: the tensor to fill.
        val: a number, rounded to the dtype; an infinity or NaN where the dtype has one.
        generator, key: accepted as everywhere, checked, and not used: no draw is taken.

    Returns:
        The tensor.

    Raises:
        TypeError: a bad tensor, or a value that is no number.
        ValueError: a bad tensor, a finite value beyond the largest of the dtype, or an infinity that it has not. The tensor is
            untouched.

    Reference:
        PyTorch, torch.nn.init.constant_.
    """
    check_tensor(tensor)
    if generator is not None or key is not None:
        keys.check_source(generator, key, tensor.device)
    check_value(val, tensor.dtype)
    if type(tensor) not in PLAIN and is_dtensor(tensor):
        local_blocks(tensor)  # refuses one that holds summands
    with writing(tensor):
        return tensor.fill_(float(val))


def bits_(tensor: torch.Tensor, *, key: int) -> torch.Tensor:
    """Fill an integer tensor with the raw words of a key.

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
    return fill_(tensor, RAW_WORDS, None, keys.check(key), WORD_DTYPES)
