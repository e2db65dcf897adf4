"""Glorot's weights, under Keras's names and with its semantics: the normal one is cut at two sigmas."""

from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core.laws import Law, declares
from fastinit._fill import fill_
from fastinit._initializers.scaling import Fan, scaled, shape_of, squared
from fastinit._usual import Usual, fills_


def glorot_uniform_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> Law:
    return scaled(shape, dtype, squared(gain), "fan_avg", "uniform", fan_in, fan_out, batch_dims, groups)


_GLOROT_UNIFORM = Usual(glorot_uniform_law)


@declares(glorot_uniform_law)
def glorot_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = gain * sqrt(6 / (fan_in + fan_out)).

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
        gain: a factor of all values, finite, > 0.
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
        ValueError: gain is not > 0, or its square leaves the range of a float; a fan is not > 0, or the shape has fewer
            than two dimensions and does not give the fans; groups does not divide out; generator and key are both given, or
            wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"; Keras,
        keras.initializers.GlorotUniform.

    Examples:
        >>> weight = fastinit.glorot_uniform_(torch.empty(200, 100), key=0)
        >>> bool(weight.abs().max() <= (6 / (100 + 200)) ** 0.5)
        True
    """
    if fills_(_GLOROT_UNIFORM, tensor, generator, key, gain, fan_in, fan_out, batch_dims, groups):
        return tensor
    law = glorot_uniform_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims, groups)
    return fill_(tensor, law, generator, key)


def _glorot_normal_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> Law:
    return scaled(shape, dtype, squared(gain), "fan_avg", "truncated_normal", fan_in, fan_out, batch_dims, groups)


_GLOROT_NORMAL = Usual(_glorot_normal_law)


@declares(_glorot_normal_law)
def glorot_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from a normal cut at two sigmas; its std after the cut is gain * sqrt(2 / (fan_in + fan_out)).

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
        gain: a factor of all values, finite, > 0.
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
        ValueError: gain is not > 0, or its square leaves the range of a float; a fan is not > 0, or the shape has fewer
            than two dimensions and does not give the fans; groups does not divide out; generator and key are both given, or
            wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"; Keras,
        keras.initializers.GlorotNormal.

    Examples:
        >>> weight = fastinit.glorot_normal_(torch.empty(200, 100), key=0)
        >>> round(weight.std().item() / (2 / (100 + 200)) ** 0.5, 1)
        1.0
    """
    if fills_(_GLOROT_NORMAL, tensor, generator, key, gain, fan_in, fan_out, batch_dims, groups):
        return tensor
    law = _glorot_normal_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims, groups)
    return fill_(tensor, law, generator, key)
