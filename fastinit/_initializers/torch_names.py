"""Weights scaled by their fans, under their torch names and with torch's semantics: gains, and normals left uncut."""

from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core.fans import FanMode
from fastinit._core.laws import Law, declares, normal
from fastinit._fill import fill_
from fastinit._initializers.scaling import Fan, Nonlinearity, kaiming_std, shape_of, symmetric, xavier_std


def _xavier_uniform_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return symmetric(xavier_std(shape, gain, fan_in, fan_out, batch_dims))


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
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = gain * sqrt(6 / (fan_in + fan_out)).

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
        gain: a factor of all values, finite, > 0, such as `torch.nn.init.calculate_gain` gives.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.
        fan_in: the inputs of one output, a number > 0. None: taken from the shape, in * kernel positions.
        fan_out: the outputs of one input, a number > 0. None: taken from the shape, out * kernel positions.
        batch_dims: how many leading dimensions stack independent weights, such as experts, >= 0.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: gain is not > 0, or the std leaves the range of a float; a fan is not > 0, or the shape has fewer than two
            dimensions and does not give the fans; generator and key are both given, or wrong; the tensor is sparse or overlaps
            itself. The tensor is then untouched.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"; PyTorch,
        torch.nn.init.xavier_uniform_.

    Examples:
        >>> weight = fastinit.xavier_uniform_(torch.empty(200, 100), key=0)
        >>> bool(weight.abs().max() <= (6 / (100 + 200)) ** 0.5)
        True
    """
    law = _xavier_uniform_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def _xavier_normal_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return normal(0.0, xavier_std(shape, gain, fan_in, fan_out, batch_dims))


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
) -> Tensor:
    """Fill a weight from N(0, std**2), std = gain * sqrt(2 / (fan_in + fan_out)), uncut.

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
        gain: a factor of all values, finite, > 0, such as `torch.nn.init.calculate_gain` gives.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.
        fan_in: the inputs of one output, a number > 0. None: taken from the shape, in * kernel positions.
        fan_out: the outputs of one input, a number > 0. None: taken from the shape, out * kernel positions.
        batch_dims: how many leading dimensions stack independent weights, such as experts, >= 0.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: gain is not > 0, or the std leaves the range of a float; a fan is not > 0, or the shape has fewer than two
            dimensions and does not give the fans; generator and key are both given, or wrong; the tensor is sparse or overlaps
            itself. The tensor is then untouched.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"; PyTorch,
        torch.nn.init.xavier_normal_.

    Examples:
        >>> weight = fastinit.xavier_normal_(torch.empty(200, 100), key=0)
        >>> round(weight.std().item() / (2 / (100 + 200)) ** 0.5, 1)
        1.0
    """
    law = _xavier_normal_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def _kaiming_uniform_law(
    shape: Size, dtype: DType, a: float, mode: FanMode, nonlinearity: Nonlinearity, fan_in: Fan, fan_out: Fan, batch_dims: int
) -> Law:
    return symmetric(kaiming_std(shape, a, mode, nonlinearity, fan_in, fan_out, batch_dims))


@declares(_kaiming_uniform_law)
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Generator | None = None,
    *,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = gain * sqrt(3 / fan), with torch's gain for the nonlinearity.

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
        a: the negative slope of the rectifier that follows, finite; used only with nonlinearity="leaky_relu". 0: a plain
            rectifier.
        mode: which fan divides: "fan_in" keeps the variance of the activations, "fan_out" that of the gradients.
        nonlinearity: what follows the layer and decides the gain: a name that `torch.nn.init.calculate_gain` knows.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.
        fan_in: the inputs of one output, a number > 0. None: taken from the shape, in * kernel positions.
        fan_out: the outputs of one input, a number > 0. None: taken from the shape, out * kernel positions.
        batch_dims: how many leading dimensions stack independent weights, such as experts, >= 0.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: mode or nonlinearity is not one of its names; a ** 2 leaves the range of a float; a fan is not > 0, or the
            shape has fewer than two dimensions and does not give the fans; generator and key are both given, or wrong; the
            tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; PyTorch, torch.nn.init.kaiming_uniform_.

    Examples:
        >>> weight = fastinit.kaiming_uniform_(torch.empty(200, 100), nonlinearity="relu", key=0)
        >>> bool(weight.abs().max() <= (2 * 3 / 100) ** 0.5)
        True
    """
    law = _kaiming_uniform_law(shape_of(tensor), tensor.dtype, a, mode, nonlinearity, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def _kaiming_normal_law(
    shape: Size, dtype: DType, a: float, mode: FanMode, nonlinearity: Nonlinearity, fan_in: Fan, fan_out: Fan, batch_dims: int
) -> Law:
    return normal(0.0, kaiming_std(shape, a, mode, nonlinearity, fan_in, fan_out, batch_dims))


@declares(_kaiming_normal_law)
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Generator | None = None,
    *,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from N(0, std**2), std = gain / sqrt(fan), uncut, with torch's gain for the nonlinearity.

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel], of any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
        a: the negative slope of the rectifier that follows, finite; used only with nonlinearity="leaky_relu". 0: a plain
            rectifier.
        mode: which fan divides: "fan_in" keeps the variance of the activations, "fan_out" that of the gradients.
        nonlinearity: what follows the layer and decides the gain: a name that `torch.nn.init.calculate_gain` knows.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.
        fan_in: the inputs of one output, a number > 0. None: taken from the shape, in * kernel positions.
        fan_out: the outputs of one input, a number > 0. None: taken from the shape, out * kernel positions.
        batch_dims: how many leading dimensions stack independent weights, such as experts, >= 0.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: mode or nonlinearity is not one of its names; a ** 2 leaves the range of a float; a fan is not > 0, or the
            shape has fewer than two dimensions and does not give the fans; generator and key are both given, or wrong; the
            tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; PyTorch, torch.nn.init.kaiming_normal_.

    Examples:
        >>> weight = fastinit.kaiming_normal_(torch.empty(200, 100), nonlinearity="relu", key=0)
        >>> round(weight.std().item() / (2 / 100) ** 0.5, 1)
        1.0
    """
    law = _kaiming_normal_law(shape_of(tensor), tensor.dtype, a, mode, nonlinearity, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)
