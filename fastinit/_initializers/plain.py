"""The plain distributions: numbers in, one fill.

All initializers of this package write in place under no_grad, bump the version counter and return the same tensor.
They accept float16, bfloat16, float32, float64, float8_e4m3fn and float8_e5m2 tensors of any strides (values follow
the logical order of the elements), leaves that require a gradient, and tensors without elements; meta and fake tensors
stay as they are. Those with torch's names take complex tensors where torch's do, and those that draw nothing other dtypes.
Numbers may be Python's, NumPy's, tensors of one element, or anything else that has `__float__`. `generator` is None (torch's
default CPU generator, whatever the device), a CPU generator, or a CUDA generator of the tensor's device; `key` is an int in
[0, 2**64), see `fastinit.key`, and makes the values a pure function of the call.
"""

from typing import Literal

from torch import Generator, Tensor

from fastinit._core import keys
from fastinit._core.check import DRAWN_DTYPES, WORD_DTYPES
from fastinit._core.laws import RAW_WORDS, Law, declares, fmod_normal, normal, truncated_normal, uniform
from fastinit._core.modes import ieee_arithmetic, is_flushing
from fastinit._fill import fill_
from fastinit._usual import Usual, fills_

_Method = Literal["exact", "fmod"]  # how a normal is cut
_NEAR_SUBNORMAL = 2.0**-960  # from this std on, no bound of two sigmas is subnormal, nor would a subnormal mean change one


UNIFORM = Usual(lambda shape, dtype, a, b: uniform(a, b), scaled=False)
NORMAL = Usual(lambda shape, dtype, mean, std: normal(mean, std), scaled=False)


@declares(UNIFORM.law)
def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None, *, key: int | None = None
) -> Tensor:
    """Fill a tensor from the uniform distribution on [a, b].

    Args:
        tensor: the tensor to fill, of any shape and strides; float16, bfloat16, float32, float64, float8_e4m3fn,
            float8_e5m2, or complex, whose real and imaginary parts are then drawn from it.
        a: the lower bound, finite.
        b: the upper bound, finite, >= a. If it is a, all values are a. It is reached where values round to it, unlike torch's.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: the bounds are not finite, do not satisfy a <= b, or no value of the dtype lies between them; generator and
            key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        PyTorch, torch.nn.init.uniform_.

    Examples:
        >>> tensor = fastinit.uniform_(torch.empty(1000), a=-0.05, b=0.05, key=0)
        >>> bool(tensor.abs().max() <= 0.05)
        True
    """
    if fills_(UNIFORM, tensor, generator, key, a, b):
        return tensor
    return fill_(tensor, uniform(a, b), generator, key, DRAWN_DTYPES)


@declares(NORMAL.law)
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None, *, key: int | None = None
) -> Tensor:
    """Fill a tensor from the normal distribution, uncut.

    Args:
        tensor: the tensor to fill, of any shape and strides; float16, bfloat16, float32, float64, float8_e4m3fn,
            float8_e5m2, or complex, whose real and imaginary parts then have the variance std**2 / 2 each, and the mean each.
        mean: the mean, finite.
        std: the standard deviation, finite, >= 0. If it is 0, all values are the mean.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: mean is not finite, or std not >= 0; generator and key are both given, or wrong; the tensor is sparse or
            overlaps itself. The tensor is then untouched.

    Reference:
        PyTorch, torch.nn.init.normal_.

    Examples:
        >>> one, other = (fastinit.normal_(torch.empty(4), std=0.02, key=fastinit.key(0, "weight")) for _ in range(2))
        >>> torch.equal(one, other)
        True
    """
    if fills_(NORMAL, tensor, generator, key, mean, std):
        return tensor
    return fill_(tensor, normal(mean, std), generator, key, DRAWN_DTYPES)


def _cut_law(mean: float, std: float, a: float | None, b: float | None, method: _Method) -> Law:
    """The law of `truncated_normal_`."""
    if a is None or b is None:
        if type(mean) is not float or type(std) is not float:
            mean, std = normal(mean, std).parameters  # names a wrong mean or std before it turns into a wrong bound
        if std < _NEAR_SUBNORMAL and is_flushing():
            with ieee_arithmetic():
                return _cut_law(mean, std, a, b, method)
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


_CUT = Usual(lambda shape, dtype, mean, std, a, b, method: _cut_law(mean, std, a, b, method), scaled=False)
TRUNCATED = Usual(lambda shape, dtype, mean, std, a, b: truncated_normal(mean, std, a, b), scaled=False)


@declares(_CUT.law)
def truncated_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float | None = None,
    b: float | None = None,
    *,
    method: _Method = "exact",
    generator: Generator | None = None,
    key: int | None = None,
) -> Tensor:
    """Fill a tensor from a normal distribution cut to [a, b].

    The cut makes the standard deviation of the values smaller than std: 0.8796 * std, cut at two sigmas.

    Args:
        tensor: the tensor to fill, of any shape and strides; float16, bfloat16, float32, float64, float8_e4m3fn or
            float8_e5m2.
        mean: the mean of the normal before the cut, finite.
        std: its standard deviation, finite, >= 0. If it is 0, all values are the mean, or the bound nearest to it.
        a: the lower bound, in the units of the weights (not in sigmas); may be -inf. None: mean - 2 * std, as in Keras,
            TensorFlow and JAX.
        b: the upper bound, in the same units, >= a; may be inf. None: mean + 2 * std.
        method: "exact", the truncated normal; or "fmod", the law of ``mean + std * torch.fmod(torch.randn(n), g)`` with g the
            cut in sigmas, which folds the tails into the middle instead of redistributing them.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: mean is not finite, or std not >= 0; the bounds do not satisfy a <= b, or no value of the dtype lies between
            them; method is not one of its names; method="fmod" and the bounds are not symmetric about the mean; generator and
            key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        Keras, keras.initializers.TruncatedNormal; JAX, jax.nn.initializers.truncated_normal.

    Examples:
        >>> weight = fastinit.truncated_normal_(torch.empty(256, 128), std=0.02, key=0)
        >>> bool(weight.abs().max() <= 0.04)
        True
    """
    if fills_(_CUT, tensor, generator, key, mean, std, a, b, method):
        return tensor
    return fill_(tensor, _cut_law(mean, std, a, b, method), generator, key)


@declares(TRUNCATED.law)
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

    The bounds are absolute, as torch's are: with std=0.02 the defaults lie 100 sigmas away and cut nothing. The default bounds
    of `truncated_normal_` are two sigmas from the mean.

    Args:
        tensor: the tensor to fill, of any shape and strides; float16, bfloat16, float32, float64, float8_e4m3fn or
            float8_e5m2.
        mean: the mean of the normal before the cut, finite.
        std: its standard deviation, finite, >= 0. If it is 0, all values are the mean, or the bound nearest to it.
        a: the lower bound, in the units of the weights (not in sigmas); may be -inf.
        b: the upper bound, in the same units, >= a; may be inf.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: mean is not finite, or std not >= 0; the bounds do not satisfy a <= b, or no value of the dtype lies between
            them; generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then
            untouched.

    Reference:
        PyTorch, torch.nn.init.trunc_normal_.

    Examples:
        >>> weight = fastinit.trunc_normal_(torch.empty(256, 128), std=0.02, a=-0.04, b=0.04, key=0)
        >>> bool(weight.abs().max() <= 0.04)
        True
    """
    if fills_(TRUNCATED, tensor, generator, key, mean, std, a, b):
        return tensor
    return fill_(tensor, truncated_normal(mean, std, a, b), generator, key)


def bits_(tensor: Tensor, *, key: int) -> Tensor:
    """Fill an integer tensor with the raw words of a key.

    Args:
        tensor: an integer tensor of any shape and strides. In int32 or uint32, element i is word i of stream 0. In int64 or
            uint64 it is word i of stream 0 above word i of stream 1, which is what float64 values are made of.
        key: an int in [0, 2**64), see `fastinit.key`.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has another dtype, or the key is not an integer.
        ValueError: the key is out of range, or the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox4x32-10).

    Examples:
        >>> words = fastinit.bits_(torch.empty(2, dtype=torch.int32), key=0)
        >>> [hex(word % 2**32) for word in words.tolist()]
        ['0x6627e8d5', '0xe169c58d']
    """
    return fill_(tensor, RAW_WORDS, None, keys.check(key), WORD_DTYPES)
