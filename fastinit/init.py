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
from torch import Generator, Tensor

from fastinit.distributions import fmod_normal, is_one_of, normal, truncated_normal, uniform
from fastinit.keys import check_source
from fastinit.ops import PLAIN, check_tensor, fill_, writing
from fastinit.shard import is_dtensor, local_blocks


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
    return fill_(tensor, uniform(a, b), generator=generator, key=key)


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
    return fill_(tensor, normal(mean, std), generator=generator, key=key)


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
    if not is_one_of(method, ("exact", "fmod")):
        raise ValueError(
            f"method must be 'exact' or 'fmod'. Received: method={method!r}. Use 'exact' for the truncated normal, "
            "'fmod' for the law of torch.fmod(torch.randn(n), g)."
        )
    if a is None or b is None:
        normal(mean, std)  # names a bad mean or std before it turns into a bad bound
        a = mean - 2 * std if a is None else a
        b = mean + 2 * std if b is None else b
    cut = truncated_normal if method == "exact" else fmod_normal
    return fill_(tensor, cut(mean, std, a, b), generator=generator, key=key)


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
    return fill_(tensor, truncated_normal(mean, std, a, b), generator=generator, key=key)


def zeros_(tensor: Tensor, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with 0. Generator and key are checked and not used; as `constant_`."""
    return constant_(tensor, 0.0, generator=generator, key=key)


def ones_(tensor: Tensor, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with 1. Generator and key are checked and not used; as `constant_`."""
    return constant_(tensor, 1.0, generator=generator, key=key)


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
        check_source(generator, key, tensor.device)
    if isinstance(val, bool) or not isinstance(val, (int, float)):
        raise TypeError(f"val must be a number. Received: val={val!r} ({type(val).__name__}). Pass a float.")
    largest = torch.finfo(tensor.dtype).max
    if largest < abs(val) < math.inf:
        raise ValueError(
            f"val must lie within the range of {tensor.dtype}, +-{largest}. Received: val={val}. "
            "Pass a smaller value, or a tensor of a wider dtype."
        )
    if abs(val) == math.inf and tensor.dtype is torch.float8_e4m3fn:  # isinf is not traced
        raise ValueError(f"{tensor.dtype} has no infinity. Received: val={val}. Pass a finite value, or NaN.")
    if type(tensor) not in PLAIN and is_dtensor(tensor):
        local_blocks(tensor)  # refuses one that holds summands
    with writing(tensor):
        return tensor.fill_(float(val))
