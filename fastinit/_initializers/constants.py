"""One value for all elements. Nothing random is drawn, so that a constant does not change what later fills get."""

import math
import operator
from typing import Any

import torch
from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core import keys
from fastinit._core.check import (
    ALL_DTYPES,
    DRAWN_DTYPES,
    FLOAT_DTYPES,
    PLAIN,
    as_float,
    check_dtype,
    check_tensor,
    is_loaded,
    left,
    shown,
    whole_shape,
)
from fastinit._core.laws import Law, constant, declares
from fastinit._core.memory import real_views
from fastinit._core.shard import fill_rows_, is_dtensor, local_blocks
from fastinit._fill import writing
from fastinit._usual import Usual, fills_

_WITHOUT_INFINITY = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu)


_MOST = 4096  # elements: of more, torch's own fill, which is a loop of stores, makes up for its longer way
_ZEROS = Usual(lambda shape, dtype: constant(0.0), scaled=False, most=_MOST)
_ONES = Usual(lambda shape, dtype: constant(1.0), scaled=False, most=_MOST)


@declares(_ZEROS.law)
def zeros_(tensor: Tensor, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with 0.

    Args:
        tensor: the tensor to fill, of any shape and strides, of any dtype of floats, integers, booleans or complex numbers but
            those of less than a byte.
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
    if generator is None and key is None and fills_(_ZEROS, tensor, None, 0):
        return tensor
    return constant_(tensor, 0.0, generator=generator, key=key)


@declares(_ONES.law)
def ones_(tensor: Tensor, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with 1.

    Args:
        tensor: the tensor to fill, of any shape and strides, of any dtype of floats, integers, booleans or complex numbers but
            those of less than a byte.
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
    if generator is None and key is None and fills_(_ONES, tensor, None, 0):
        return tensor
    return constant_(tensor, 1.0, generator=generator, key=key)


def _value_in(dtype: DType, val: Any) -> Any:
    """What a tensor of the dtype holds of a number: of integers the part before the point, as torch does.

    Raises:
        TypeError: it is no number, or complex and the dtype is not.
        ValueError: it lies beyond the dtype's range.
    """
    if type(val) is float and -448.0 <= val <= 448.0 and dtype in FLOAT_DTYPES:  # nearly always: no dtype ends before
        return val
    number = _plain(val)
    if dtype is torch.bool:
        return bool(number)
    if isinstance(number, complex):
        if not dtype.is_complex:
            raise TypeError(f"val must be real for a tensor of {dtype}. Received: val={shown(val)}.")
        _check_range(dtype, number.real, val)
        _check_range(dtype, number.imag, val)
        return number
    if not (dtype.is_floating_point or dtype.is_complex):
        number = math.trunc(number) if isinstance(number, int) or math.isfinite(number) else number
        _check_range(dtype, number, val)
        return number
    _check_range(dtype, number, val)
    return float(number)


def _check_range(dtype: DType, number: float, val: Any) -> None:
    holds_floats = dtype.is_floating_point or dtype.is_complex
    limits = torch.finfo(dtype) if holds_floats else torch.iinfo(dtype)
    if not (limits.min <= number <= limits.max or (holds_floats and not abs(number) < math.inf)):
        raise ValueError(
            f"val must lie within the range of {dtype}, from {limits.min} to {limits.max}. Received: val={shown(val)}. "
            "Pass another value, or a tensor of a wider dtype."
        )
    if abs(number) == math.inf and dtype in _WITHOUT_INFINITY:  # isinf is not traced
        raise ValueError(f"{dtype} has no infinity. Received: val={val}. Pass a finite value, or NaN.")


def _plain(val: Any) -> Any:
    """Python's own number: of one that holds another, such as NumPy's and tensors of one element, that."""
    if isinstance(val, (bool, int, float, complex)):
        return val
    try:
        inner = val.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        inner = None
    if isinstance(inner, (bool, int, float, complex)):
        return inner
    try:
        return operator.index(val)
    except TypeError:
        return as_float("val", val)


def _constant_law(shape: Size, dtype: DType, val: complex) -> Law | None:
    """A plan holds finite values of the dtypes that backends know, and no negative zero: the others are written by torch."""
    value = _value_in(dtype, val)
    if isinstance(value, complex) or dtype not in FLOAT_DTYPES:
        return None
    plain = math.isfinite(value) and (value != 0 or math.copysign(1.0, value) > 0)
    return constant(value) if plain else None


_CONSTANT = Usual(_constant_law, scaled=False, most=_MOST)


@declares(_constant_law)
def constant_(tensor: Tensor, val: complex, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a tensor with one value.

    Args:
        tensor: the tensor to fill, of any shape and strides, of any dtype of floats, integers, booleans or complex numbers but
            those of less than a byte.
        val: the value, rounded to the dtype, toward 0 where that holds integers; an infinity or NaN where the dtype has one. A
            number of Python, of NumPy, a tensor of one element, or what else has a float.
        generator: accepted as by every initializer, checked, and not used: nothing random is drawn.
        key: accepted as by every initializer, an int in [0, 2**64), checked, and not used.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: val is finite and beyond the range of the dtype, or an infinity or NaN that the dtype does not have;
            generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        PyTorch, torch.nn.init.constant_.

    Examples:
        >>> fastinit.constant_(torch.empty(2), 0.25).tolist()
        [0.25, 0.25]
    """
    if generator is None and key is None and type(val) in (float, int) and val and fills_(_CONSTANT, tensor, None, 0, val):
        return tensor  # 0.0 and -0.0 are equal, so that of these what is ready may be the other's
    check_tensor(tensor, ALL_DTYPES)
    if generator is not None or key is not None:
        keys.check_source(generator, key, tensor.device)
    value = _value_in(tensor.dtype, val)
    if is_loaded(tensor):
        return left(tensor)
    whole_shape(tensor)  # refuses what is elsewhere
    if type(tensor) not in PLAIN and is_dtensor(tensor):
        local_blocks(tensor)  # refuses one that holds summands
    with writing(tensor):
        if len(views := real_views(tensor)) == 1:
            return tensor.fill_(value)
        for view, part in zip(views, (value.real, value.imag), strict=True):
            view.fill_(part)
    return tensor


def _check_gates(shape: Size, dtype: DType, val: float) -> None:
    """Raise for wrong arguments; there is no single law."""
    check_dtype(dtype, DRAWN_DTYPES)
    _value_in(dtype, val)
    if not shape or shape[0] % 4:
        raise ValueError(
            "the bias of an LSTM has four gates: dimension 0 must be a multiple of 4. "
            f"Received: shape={tuple(shape)}. Pass bias_ih or bias_hh."
        )


@declares(_check_gates)
def forget_gate_bias_(tensor: Tensor, val: float = 1.0, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill the bias of an LSTM with 0, and with a value for the forget gate, the second of torch's gates i, f, g, o.

    torch adds two biases, bias_ih and bias_hh, where others have one: give the value to one of them.

    Args:
        tensor: the bias to fill, [4 * hidden]; floats or complex numbers.
        val: what the forget gate's part gets, as `constant_` takes it. The default is that of Keras.
        generator: accepted as by every initializer, checked, and not used: nothing random is drawn.
        key: accepted as by every initializer, an int in [0, 2**64), checked, and not used.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: dimension 0 is no multiple of 4; val is beyond the range of the dtype; generator and key are both given, or
            wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        Gers et al. 2000, "Learning to forget"; Jozefowicz et al. 2015, "An empirical exploration of recurrent network
        architectures"; Keras, keras.layers.LSTM (unit_forget_bias).

    Examples:
        >>> fastinit.forget_gate_bias_(torch.empty(8), 2.0).tolist()
        [0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0]
        >>> rule = {nn.LSTM: {"bias_ih*": partial(fastinit.forget_gate_bias_, val=2.0)}}
        >>> report = fastinit.initialize_(nn.LSTM(3, 2), fastinit.keras_like.override(rule), seed=0)
    """
    check_tensor(tensor, DRAWN_DTYPES)
    shape = whole_shape(tensor)
    _check_gates(shape, tensor.dtype, val)
    if is_loaded(tensor):
        keys.check_source(generator, key, tensor.device)
        return left(tensor)
    zeros_(tensor, generator=generator, key=key)
    gate = shape[0] // 4
    fill_rows_(tensor, range(gate, 2 * gate), _value_in(tensor.dtype, val))
    return tensor
