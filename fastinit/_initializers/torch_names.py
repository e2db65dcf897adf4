"""Weights scaled by their fans, under their torch names and with torch's semantics: gains, and normals left uncut."""

import warnings

import torch
from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core.check import DRAWN_DTYPES
from fastinit._core.fans import FanMode
from fastinit._core.laws import Law, declares, normal
from fastinit._fill import fill_
from fastinit._initializers.scaling import Fan, Nonlinearity, Slope, kaiming_std, shape_of, symmetric, xavier_std
from fastinit._usual import Usual, fills_


def calculate_gain(nonlinearity: Nonlinearity, param: float | None = None) -> float:
    """Return torch's gain for what follows a layer: by how much its weights are to be larger, that activations keep their size.

    Args:
        nonlinearity: "linear", "conv1d" and the like (1), "sigmoid" (1), "tanh" (5/3), "relu" (sqrt(2)), "leaky_relu"
            (sqrt(2 / (1 + param**2))) or "selu" (3/4).
        param: the negative slope of "leaky_relu". None: 0.01.

    Returns:
        The gain: torch.nn.init.calculate_gain computes it.

    Raises:
        ValueError: the nonlinearity is not one of the names, or the slope is not an int or a float.

    Reference:
        PyTorch, torch.nn.init.calculate_gain.

    Examples:
        >>> fastinit.calculate_gain("leaky_relu", 0.2)
        1.3867504905630728
    """
    return torch.nn.init.calculate_gain(nonlinearity, param)


def _xavier_uniform_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> Law:
    return symmetric(xavier_std(shape, gain, fan_in, fan_out, batch_dims, groups))


XAVIER_UNIFORM = Usual(_xavier_uniform_law)


@declares(_xavier_uniform_law)
def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Generator | None = None,
    *,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = gain * sqrt(6 / (fan_in + fan_out)).

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn, float8_e5m2, or complex, whose real and imaginary parts are then drawn from it.
        gain: a factor of all values, finite, >= 0, such as `calculate_gain` gives.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.
        fan_in: the inputs of one output, a number > 0. None: taken from the shape, in * kernel positions.
        fan_out: the outputs of one input, a number > 0. None: taken from the shape, out / groups * kernel positions.
        batch_dims: how many leading dimensions stack independent weights, such as experts, >= 0.
        groups: those of a convolution, whose weight is [out, in / groups, *kernel], >= 1.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: gain is not >= 0, or the std leaves the range of a float; a fan is not > 0, or the shape has fewer than
            two dimensions and does not give the fans; groups does not divide out; generator and key are both given, or
            wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"; PyTorch,
        torch.nn.init.xavier_uniform_.

    Examples:
        >>> weight = fastinit.xavier_uniform_(torch.empty(200, 100), key=0)
        >>> bool(weight.abs().max() <= (6 / (100 + 200)) ** 0.5)
        True
    """
    if fills_(XAVIER_UNIFORM, tensor, generator, key, gain, fan_in, fan_out, batch_dims, groups):
        return tensor
    law = _xavier_uniform_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims, groups)
    return fill_(tensor, law, generator, key, DRAWN_DTYPES)


def _xavier_normal_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> Law:
    return normal(0.0, xavier_std(shape, gain, fan_in, fan_out, batch_dims, groups))


XAVIER_NORMAL = Usual(_xavier_normal_law)


@declares(_xavier_normal_law)
def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Generator | None = None,
    *,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from N(0, std**2), std = gain * sqrt(2 / (fan_in + fan_out)), uncut.

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn, float8_e5m2, or complex, whose real and imaginary parts then share the variance.
        gain: a factor of all values, finite, >= 0, such as `calculate_gain` gives.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.
        fan_in: the inputs of one output, a number > 0. None: taken from the shape, in * kernel positions.
        fan_out: the outputs of one input, a number > 0. None: taken from the shape, out / groups * kernel positions.
        batch_dims: how many leading dimensions stack independent weights, such as experts, >= 0.
        groups: those of a convolution, whose weight is [out, in / groups, *kernel], >= 1.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: gain is not >= 0, or the std leaves the range of a float; a fan is not > 0, or the shape has fewer than
            two dimensions and does not give the fans; groups does not divide out; generator and key are both given, or
            wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"; PyTorch,
        torch.nn.init.xavier_normal_.

    Examples:
        >>> weight = fastinit.xavier_normal_(torch.empty(200, 100), key=0)
        >>> round(weight.std().item() / (2 / (100 + 200)) ** 0.5, 1)
        1.0
    """
    if fills_(XAVIER_NORMAL, tensor, generator, key, gain, fan_in, fan_out, batch_dims, groups):
        return tensor
    law = _xavier_normal_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims, groups)
    return fill_(tensor, law, generator, key, DRAWN_DTYPES)


def _warn_of_no_elements() -> None:
    warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)


def _kaiming_uniform_law(
    shape: Size,
    dtype: DType,
    a: Slope,
    mode: FanMode,
    nonlinearity: Nonlinearity,
    fan_in: Fan,
    fan_out: Fan,
    batch_dims: int,
    groups: int,
) -> Law:
    return symmetric(kaiming_std(shape, a, mode, nonlinearity, fan_in, fan_out, batch_dims, groups))


KAIMING_UNIFORM = Usual(_kaiming_uniform_law)


@declares(_kaiming_uniform_law)
def kaiming_uniform_(
    tensor: Tensor,
    a: float | None = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Generator | None = None,
    *,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = gain * sqrt(3 / fan), with torch's gain for the nonlinearity.

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn, float8_e5m2, or complex, whose real and imaginary parts are then drawn from it.
        a: the negative slope of the rectifier that follows; read only with nonlinearity="leaky_relu". 0: a plain rectifier.
            None: 0.01.
        mode: which fan divides: "fan_in" keeps the variance of the activations, "fan_out" that of the gradients. In letters of
            any case.
        nonlinearity: what follows the layer and decides the gain: a name that `calculate_gain` knows.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.
        fan_in: the inputs of one output, a number > 0. None: taken from the shape, in * kernel positions.
        fan_out: the outputs of one input, a number > 0. None: taken from the shape, out / groups * kernel positions.
        batch_dims: how many leading dimensions stack independent weights, such as experts, >= 0.
        groups: those of a convolution, whose weight is [out, in / groups, *kernel], >= 1.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: mode or nonlinearity is not one of its names; a ** 2 leaves the range of a float; a fan is not > 0, or
            the shape has fewer than two dimensions and does not give the fans; groups does not divide out; generator and
            key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Warns:
        UserWarning: the tensor has no elements, as torch says.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; PyTorch, torch.nn.init.kaiming_uniform_.

    Examples:
        >>> weight = fastinit.kaiming_uniform_(torch.empty(200, 100), nonlinearity="relu", key=0)
        >>> bool(weight.abs().max() <= (2 * 3 / 100) ** 0.5)
        True
    """
    if fills_(KAIMING_UNIFORM, tensor, generator, key, a, mode, nonlinearity, fan_in, fan_out, batch_dims, groups):
        return tensor
    shape = shape_of(tensor)
    law = _kaiming_uniform_law(shape, tensor.dtype, a, mode, nonlinearity, fan_in, fan_out, batch_dims, groups)
    if 0 in shape:
        _warn_of_no_elements()
    return fill_(tensor, law, generator, key, DRAWN_DTYPES)


def _kaiming_normal_law(
    shape: Size,
    dtype: DType,
    a: Slope,
    mode: FanMode,
    nonlinearity: Nonlinearity,
    fan_in: Fan,
    fan_out: Fan,
    batch_dims: int,
    groups: int,
) -> Law:
    return normal(0.0, kaiming_std(shape, a, mode, nonlinearity, fan_in, fan_out, batch_dims, groups))


KAIMING_NORMAL = Usual(_kaiming_normal_law)


@declares(_kaiming_normal_law)
def kaiming_normal_(
    tensor: Tensor,
    a: float | None = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Generator | None = None,
    *,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from N(0, std**2), std = gain / sqrt(fan), uncut, with torch's gain for the nonlinearity.

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn, float8_e5m2, or complex, whose real and imaginary parts then share the variance.
        a: the negative slope of the rectifier that follows; read only with nonlinearity="leaky_relu". 0: a plain rectifier.
            None: 0.01.
        mode: which fan divides: "fan_in" keeps the variance of the activations, "fan_out" that of the gradients. In letters of
            any case.
        nonlinearity: what follows the layer and decides the gain: a name that `calculate_gain` knows.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.
        fan_in: the inputs of one output, a number > 0. None: taken from the shape, in * kernel positions.
        fan_out: the outputs of one input, a number > 0. None: taken from the shape, out / groups * kernel positions.
        batch_dims: how many leading dimensions stack independent weights, such as experts, >= 0.
        groups: those of a convolution, whose weight is [out, in / groups, *kernel], >= 1.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: mode or nonlinearity is not one of its names; a ** 2 leaves the range of a float; a fan is not > 0, or
            the shape has fewer than two dimensions and does not give the fans; groups does not divide out; generator and
            key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Warns:
        UserWarning: the tensor has no elements, as torch says.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; PyTorch, torch.nn.init.kaiming_normal_.

    Examples:
        >>> weight = fastinit.kaiming_normal_(torch.empty(200, 100), nonlinearity="relu", key=0)
        >>> round(weight.std().item() / (2 / 100) ** 0.5, 1)
        1.0
    """
    if fills_(KAIMING_NORMAL, tensor, generator, key, a, mode, nonlinearity, fan_in, fan_out, batch_dims, groups):
        return tensor
    shape = shape_of(tensor)
    law = _kaiming_normal_law(shape, tensor.dtype, a, mode, nonlinearity, fan_in, fan_out, batch_dims, groups)
    if 0 in shape:
        _warn_of_no_elements()
    return fill_(tensor, law, generator, key, DRAWN_DTYPES)
