"""Weights scaled by their fans: the laws behind Keras's names and behind torch's."""

import math
import sys
from typing import Any, Literal, get_args

import torch
from torch import Size, Tensor
from torch import dtype as DType

from fastinit._core import fans
from fastinit._core.check import (
    FLOAT_DTYPES,
    PLAIN,
    check_dtype,
    check_tensor,
    is_less,
    is_one_of,
    not_negative,
    number,
    positive,
    whole_shape,
)
from fastinit._core.fans import FanMode, Mode
from fastinit._core.laws import Law, normal, truncated_normal, uniform

Fan = float | None  # None: of the shape
Slope = float | None  # None: calculate_gain's own
# The standard deviation of N(0, 1) cut to [-2, 2]; Keras, TensorFlow and JAX divide by these very digits.
TRUNCATED_STD = 0.87962566103423978
Distribution = Literal["truncated_normal", "normal", "untruncated_normal", "uniform"]
_Linear = Literal["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
Nonlinearity = Literal[_Linear, "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
_FAN_MODES: tuple[FanMode, ...] = get_args(FanMode)
_MODES: tuple[Mode, ...] = get_args(Mode)
_DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)
_NONLINEARITIES: tuple[Nonlinearity, ...] = get_args(Nonlinearity)
_SMALLEST = sys.float_info.min  # torch.compile of torch 2.7 cannot read it


def shape_of(tensor: Tensor) -> Size:
    """The shape that the fans come from. Raises TypeError or ValueError if the argument is no tensor, or has no shape."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor must be a torch.Tensor. Received: {tensor!r} ({type(tensor).__name__}). Pass the weight itself.")
    if type(tensor) not in PLAIN or tensor.is_nested:
        check_tensor(tensor)
    shape = tensor.shape
    return shape if len(shape) > 1 else whole_shape(tensor)


# --- Keras's ------------------------------------------------------------------------------------------------------------------


def scaled(
    shape: Size,
    dtype: DType,
    scale: float,
    mode: Mode,
    distribution: Distribution,
    fan_in: Fan,
    fan_out: Fan,
    batch_dims: int,
    groups: int,
) -> Law:
    """The law of variance scale / n, n being the units of the mode. Keras knows it of real weights alone."""
    if dtype.is_complex:
        check_dtype(dtype, FLOAT_DTYPES)
    if not is_one_of(distribution, _DISTRIBUTIONS):
        raise ValueError(
            f"distribution must be one of {_DISTRIBUTIONS}. Received: distribution={distribution!r}. Pass one of these names."
        )
    variance = positive("scale", scale) / _units(shape, mode, fan_in, fan_out, batch_dims, groups)
    if not 0 < 3.0 * variance < math.inf:
        raise ValueError(f"scale / n leaves the range of a float. Received: scale={scale}, fan_in={fan_in}, fan_out={fan_out}.")
    if distribution == "uniform":
        limit = math.sqrt(3.0 * variance)
        return uniform(-limit, limit)
    if distribution == "untruncated_normal":
        return normal(0.0, math.sqrt(variance))
    std = math.sqrt(variance) / TRUNCATED_STD
    return truncated_normal(0.0, std, -2.0 * std, 2.0 * std)


def _units(shape: Size, mode: Mode, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> float:
    """The n of a mode, at least 1: a weight of no inputs has no values to scale, but must not divide by zero."""
    if not is_one_of(mode, _MODES):
        raise ValueError(f"mode must be one of {_MODES}. Received: mode={mode!r}. Pass one of these names.")
    n_in, n_out = fans.resolve(shape, batch_dims, fan_in, fan_out, mode, groups)
    if mode == "fan_in":
        return max(1.0, n_in)
    return max(1.0, n_out) if mode == "fan_out" else max(1.0, n_in / 2.0 + n_out / 2.0)


def squared(gain: float) -> float:
    """The scale of a gain."""
    gain = positive("gain", gain)
    square = gain * gain
    if not _SMALLEST <= square < math.inf:
        raise ValueError(f"gain ** 2 leaves the range of a float. Received: gain={gain}.")
    return square


# --- torch's ------------------------------------------------------------------------------------------------------------------


def symmetric(std: float) -> Law:
    """The uniform law of mean 0 and this standard deviation."""
    limit = math.sqrt(3.0) * std
    return uniform(-limit, limit)


def xavier_std(shape: Size, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> float:
    n_in, n_out = fans.resolve(shape, batch_dims, fan_in, fan_out, "fan_avg", groups)
    gain = not_negative("gain", gain)
    std = gain * math.sqrt(1.0 / ((n_in / 2.0 + n_out / 2.0) or 0.5))
    if not 0 < 2.0 * std < math.inf and is_less(0.0, gain):  # sqrt(3) std is the limit of the uniform one
        raise ValueError(f"the std leaves the range of a float. Received: gain={gain}, fan_in={fan_in}, fan_out={fan_out}.")
    return std


def kaiming_std(
    shape: Size, a: Slope, mode: FanMode, nonlinearity: Nonlinearity, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int
) -> float:
    lower: Any = mode
    if not is_one_of(mode, _FAN_MODES):
        lower = mode.lower() if isinstance(mode, str) else mode  # as torch reads it
        if not is_one_of(lower, _FAN_MODES):
            raise ValueError(f"mode must be 'fan_in' or 'fan_out'. Received: mode={mode!r}. Pass one of these names.")
    if not is_one_of(nonlinearity, _NONLINEARITIES):
        raise ValueError(
            f"nonlinearity must be one of {_NONLINEARITIES}. Received: nonlinearity={nonlinearity!r}. Pass one of "
            "these names, or variance_scaling_(scale=gain**2) with a gain of your own."
        )
    slope = _slope(a) if nonlinearity == "leaky_relu" else None
    gain = torch.nn.init.calculate_gain(nonlinearity, slope)
    n_in, n_out = fans.resolve(shape, batch_dims, fan_in, fan_out, lower, groups)
    return gain / math.sqrt((n_in if lower == "fan_in" else n_out) or 1)  # no fan: no elements either


def _slope(a: Slope) -> Slope:
    """The slope of a leaky rectifier."""
    if a is None:
        return None
    if isinstance(a, bool):
        raise TypeError(f"a must be a number or None. Received: a={a} of type bool.")
    slope = number("a", a)
    if 1e150 < abs(slope) < math.inf:
        raise ValueError(f"a ** 2 leaves the range of a float. Received: a={a}.")
    return slope
