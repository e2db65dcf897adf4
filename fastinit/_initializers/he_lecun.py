"""The weights of He and of LeCun, under Keras's names and with its semantics: the normal ones are cut at two sigmas."""

from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core.laws import Law, declares
from fastinit._fill import fill_
from fastinit._initializers.scaling import Fan, scaled, shape_of
from fastinit._usual import Usual, fills_


def _he_uniform_law(shape: Size, dtype: DType, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> Law:
    return scaled(shape, dtype, 2.0, "fan_in", "uniform", fan_in, fan_out, batch_dims, groups)


_HE_UNIFORM = Usual(_he_uniform_law)


@declares(_he_uniform_law)
def he_uniform_(
    tensor: Tensor,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = sqrt(6 / fan_in).

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
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
        ValueError: a fan is not > 0, or the shape has fewer than two dimensions and does not give the fans; groups does not
            divide out; generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is
            then untouched.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; Keras, keras.initializers.HeUniform.

    Examples:
        >>> weight = fastinit.he_uniform_(torch.empty(200, 100), key=0)
        >>> bool(weight.abs().max() <= (6 / 100) ** 0.5)
        True
    """
    if fills_(_HE_UNIFORM, tensor, generator, key, fan_in, fan_out, batch_dims, groups):
        return tensor
    law = _he_uniform_law(shape_of(tensor), tensor.dtype, fan_in, fan_out, batch_dims, groups)
    return fill_(tensor, law, generator, key)


def _he_normal_law(shape: Size, dtype: DType, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> Law:
    return scaled(shape, dtype, 2.0, "fan_in", "truncated_normal", fan_in, fan_out, batch_dims, groups)


_HE_NORMAL = Usual(_he_normal_law)


@declares(_he_normal_law)
def he_normal_(
    tensor: Tensor,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from a normal cut at two sigmas; its std after the cut is sqrt(2 / fan_in).

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
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
        ValueError: a fan is not > 0, or the shape has fewer than two dimensions and does not give the fans; groups does not
            divide out; generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is
            then untouched.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; Keras, keras.initializers.HeNormal.

    Examples:
        >>> weight = fastinit.he_normal_(torch.empty(200, 100), key=0)
        >>> round(weight.std().item() / (2 / 100) ** 0.5, 1)
        1.0
    """
    if fills_(_HE_NORMAL, tensor, generator, key, fan_in, fan_out, batch_dims, groups):
        return tensor
    law = _he_normal_law(shape_of(tensor), tensor.dtype, fan_in, fan_out, batch_dims, groups)
    return fill_(tensor, law, generator, key)


def _lecun_uniform_law(shape: Size, dtype: DType, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> Law:
    return scaled(shape, dtype, 1.0, "fan_in", "uniform", fan_in, fan_out, batch_dims, groups)


_LECUN_UNIFORM = Usual(_lecun_uniform_law)


@declares(_lecun_uniform_law)
def lecun_uniform_(
    tensor: Tensor,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = sqrt(3 / fan_in).

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
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
        ValueError: a fan is not > 0, or the shape has fewer than two dimensions and does not give the fans; groups does not
            divide out; generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is
            then untouched.

    Reference:
        LeCun et al. 1998, "Efficient BackProp"; Klambauer et al. 2017, "Self-normalizing neural networks"; Keras,
        keras.initializers.LecunUniform.

    Examples:
        >>> weight = fastinit.lecun_uniform_(torch.empty(200, 100), key=0)
        >>> bool(weight.abs().max() <= (3 / 100) ** 0.5)
        True
    """
    if fills_(_LECUN_UNIFORM, tensor, generator, key, fan_in, fan_out, batch_dims, groups):
        return tensor
    law = _lecun_uniform_law(shape_of(tensor), tensor.dtype, fan_in, fan_out, batch_dims, groups)
    return fill_(tensor, law, generator, key)


def _lecun_normal_law(shape: Size, dtype: DType, fan_in: Fan, fan_out: Fan, batch_dims: int, groups: int) -> Law:
    return scaled(shape, dtype, 1.0, "fan_in", "truncated_normal", fan_in, fan_out, batch_dims, groups)


_LECUN_NORMAL = Usual(_lecun_normal_law)


@declares(_lecun_normal_law)
def lecun_normal_(
    tensor: Tensor,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
    groups: int = 1,
) -> Tensor:
    """Fill a weight from a normal cut at two sigmas; its std after the cut is sqrt(1 / fan_in).

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
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
        ValueError: a fan is not > 0, or the shape has fewer than two dimensions and does not give the fans; groups does not
            divide out; generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is
            then untouched.

    Reference:
        LeCun et al. 1998, "Efficient BackProp"; Klambauer et al. 2017, "Self-normalizing neural networks"; Keras,
        keras.initializers.LecunNormal.

    Examples:
        >>> weight = fastinit.lecun_normal_(torch.empty(200, 100), key=0)
        >>> round(weight.std().item() / (1 / 100) ** 0.5, 1)
        1.0
    """
    if fills_(_LECUN_NORMAL, tensor, generator, key, fan_in, fan_out, batch_dims, groups):
        return tensor
    law = _lecun_normal_law(shape_of(tensor), tensor.dtype, fan_in, fan_out, batch_dims, groups)
    return fill_(tensor, law, generator, key)
