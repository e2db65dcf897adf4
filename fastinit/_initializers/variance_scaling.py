"""Weights scaled by their fans, with Keras's semantics: the general form, of which its other names are cases."""

from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core.fans import Mode
from fastinit._core.laws import Law, declares
from fastinit._fill import fill_
from fastinit._initializers.scaling import Distribution, Fan, scaled, shape_of
from fastinit._usual import Usual, fills_


def _variance_scaling_law(
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
    return scaled(shape, dtype, scale, mode, distribution, fan_in, fan_out, batch_dims, groups)


_VARIANCE_SCALING = Usual(_variance_scaling_law)


@declares(_variance_scaling_law)
def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "truncated_normal",
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight with values of variance scale / n, where n counts the units that the weight connects.

    The glorot, he and lecun functions are cases of this one.

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
        scale: the variance times n, finite, > 0.
        mode: what n is: "fan_in", "fan_out", or their mean, "fan_avg"; at least 1, as in Keras.
        distribution: "truncated_normal" or its alias "normal", cut at two sigmas, with a sigma that is divided by
            0.87962566103423978 so that the variance after the cut is scale / n; "untruncated_normal"; or "uniform" on [-limit,
            limit] with limit = sqrt(3 * scale / n).
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
        ValueError: scale is not > 0, or scale / n leaves the range of a float; mode or distribution is not one of its
            names; a fan is not > 0, or the shape has fewer than two dimensions and does not give the fans; groups does not
            divide out; generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is
            then untouched.

    Reference:
        Keras, keras.initializers.VarianceScaling.

    Examples:
        >>> weight = fastinit.variance_scaling_(torch.empty(300, 100), scale=2.0, distribution="uniform", key=0)
        >>> bool(weight.abs().max() <= (3 * 2.0 / 100) ** 0.5)
        True
    """
    if fills_(_VARIANCE_SCALING, tensor, generator, key, scale, mode, distribution, fan_in, fan_out, batch_dims, groups):
        return tensor
    law = scaled(shape_of(tensor), tensor.dtype, scale, mode, distribution, fan_in, fan_out, batch_dims, groups)
    return fill_(tensor, law, generator, key)
