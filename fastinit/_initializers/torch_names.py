"""Weights scaled by their fans, under their torch names and with torch's semantics: gains, and normals left uncut."""

from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core.laws import Law, declares, normal
from fastinit._fill import fill_
from fastinit._initializers.scaling import Fan, kaiming_std, shape_of, symmetric, xavier_std


def xavier_uniform_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return symmetric(xavier_std(shape, gain, fan_in, fan_out, batch_dims))


@declares(xavier_uniform_law)
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

    Args, Returns, Raises: as `variance_scaling_`; gain is finite and > 0.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks";
        PyTorch, torch.nn.init.xavier_uniform_.
    """
    law = xavier_uniform_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def xavier_normal_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return normal(0.0, xavier_std(shape, gain, fan_in, fan_out, batch_dims))


@declares(xavier_normal_law)
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

    Args, Returns, Raises: as `variance_scaling_`; gain is finite and > 0.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks";
        PyTorch, torch.nn.init.xavier_normal_.
    """
    law = xavier_normal_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def kaiming_uniform_law(
    shape: Size, dtype: DType, a: float, mode: str, nonlinearity: str, fan_in: Fan, fan_out: Fan, batch_dims: int
) -> Law:
    return symmetric(kaiming_std(shape, a, mode, nonlinearity, fan_in, fan_out, batch_dims))


@declares(kaiming_uniform_law)
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
    *,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = gain * sqrt(3 / fan), with torch's gain for the nonlinearity.

    Args, Returns, Raises: as `variance_scaling_`, and
        a: the negative slope of the rectifier that follows, used with nonlinearity="leaky_relu" alone.
        mode: "fan_in" keeps the variance of the activations, "fan_out" that of the gradients.
        nonlinearity: a name that torch.nn.init.calculate_gain knows.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; PyTorch, torch.nn.init.kaiming_uniform_.
    """
    law = kaiming_uniform_law(shape_of(tensor), tensor.dtype, a, mode, nonlinearity, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def kaiming_normal_law(
    shape: Size, dtype: DType, a: float, mode: str, nonlinearity: str, fan_in: Fan, fan_out: Fan, batch_dims: int
) -> Law:
    return normal(0.0, kaiming_std(shape, a, mode, nonlinearity, fan_in, fan_out, batch_dims))


@declares(kaiming_normal_law)
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
    *,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from N(0, std**2), std = gain / sqrt(fan), uncut, with torch's gain for the nonlinearity.

    Args, Returns, Raises: as `kaiming_uniform_`.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; PyTorch, torch.nn.init.kaiming_normal_.
    """
    law = kaiming_normal_law(shape_of(tensor), tensor.dtype, a, mode, nonlinearity, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)
