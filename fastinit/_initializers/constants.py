"""One value for all elements. Nothing random is drawn, so that a constant does not change what later fills get."""

import math

import torch
from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core import keys
from fastinit._core.check import PLAIN, check_tensor, is_loaded, left, shown, whole_shape
from fastinit._core.laws import Law, constant, declares
from fastinit._core.shard import is_dtensor, local_blocks
from fastinit._fill import writing


@declares(lambda shape, dtype: constant(0.0))
def zeros_(tensor: Tensor, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with 0.

    Args:
        tensor: the tensor to fill, of any shape and strides; float16, bfloat16, float32, float64, float8_e4m3fn or
            float8_e5m2.
        generator: accepted as by every initializer, checked, and not used: nothing random is drawn.
        key: accepted as by every initializer, an int in [0, 2**64), checked, and not used.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then
            untouched.

    Reference:
        PyTorch, torch.nn.init.zeros_.

    Examples:
        >>> fastinit.zeros_(torch.empty(2)).tolist()
        [0.0, 0.0]
    """
    return constant_(tensor, 0.0, generator=generator, key=key)


@declares(lambda shape, dtype: constant(1.0))
def ones_(tensor: Tensor, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with 1.

    Args:
        tensor: the tensor to fill, of any shape and strides; float16, bfloat16, float32, float64, float8_e4m3fn or
            float8_e5m2.
        generator: accepted as by every initializer, checked, and not used: nothing random is drawn.
        key: accepted as by every initializer, an int in [0, 2**64), checked, and not used.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then
            untouched.

    Reference:
        PyTorch, torch.nn.init.ones_.

    Examples:
        >>> fastinit.ones_(torch.empty(2)).tolist()
        [1.0, 1.0]
    """
    return constant_(tensor, 1.0, generator=generator, key=key)


def _check_value(val: float, dtype: DType) -> None:
    """Raise TypeError or ValueError for what a tensor of the dtype cannot hold."""
    if isinstance(val, bool) or not isinstance(val, (int, float)):
        raise TypeError(f"val must be a number. Received: val={val!r} ({type(val).__name__}). Pass a float.")
    largest = torch.finfo(dtype).max
    if largest < abs(val) < math.inf:
        raise ValueError(
            f"val must lie within the range of {dtype}, +-{largest}. Received: val={shown(val)}. "
            "Pass a smaller value, or a tensor of a wider dtype."
        )
    if abs(val) == math.inf and dtype is torch.float8_e4m3fn:  # isinf is not traced
        raise ValueError(f"{dtype} has no infinity. Received: val={val}. Pass a finite value, or NaN.")


def _constant_law(shape: Size, dtype: DType, val: float) -> Law | None:
    """A plan holds finite values, and no negative zero: the others are written by torch."""
    _check_value(val, dtype)
    plain = math.isfinite(val) and (val != 0 or math.copysign(1.0, val) > 0)
    return constant(val) if plain else None


@declares(_constant_law)
def constant_(tensor: Tensor, val: float, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with one value.

    Args:
        tensor: the tensor to fill, of any shape and strides; float16, bfloat16, float32, float64, float8_e4m3fn or
            float8_e5m2.
        val: the value, rounded to the dtype; an infinity or NaN where the dtype has one.
        generator: accepted as by every initializer, checked, and not used: nothing random is drawn.
        key: accepted as by every initializer, an int in [0, 2**64), checked, and not used.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: val is finite and beyond the largest value of the dtype, or an infinity that the dtype does not have;
            generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        PyTorch, torch.nn.init.constant_.

    Examples:
        >>> fastinit.constant_(torch.empty(2), 0.25).tolist()
        [0.25, 0.25]
    """
    check_tensor(tensor)
    if generator is not None or key is not None:
        keys.check_source(generator, key, tensor.device)
    _check_value(val, tensor.dtype)
    if is_loaded(tensor):
        return left(tensor)
    whole_shape(tensor)  # refuses what is elsewhere
    if type(tensor) not in PLAIN and is_dtensor(tensor):
        local_blocks(tensor)  # refuses one that holds summands
    with writing(tensor):
        return tensor.fill_(float(val))
