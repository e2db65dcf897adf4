"""Weights scaled by their fans, under their torch names and with torch's semantics: gains, and normals left uncut."""

import math

import torch
from torch import Generator, Tensor

from fastinit import fans
from fastinit.distributions import finite, is_one_of, normal, positive, uniform
from fastinit.ops import fill_
from fastinit.scaling import shape_of

_NONLINEARITIES = (
    *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("sigmoid", "tanh", "relu", "leaky_relu", "selu"),
)


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
    std = _xavier_std(tensor, gain, fan_in, fan_out, batch_dims)
    limit = math.sqrt(3.0) * std
    return fill_(tensor, uniform(-limit, limit), generator=generator, key=key)


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
    std = _xavier_std(tensor, gain, fan_in, fan_out, batch_dims)
    return fill_(tensor, normal(0.0, std), generator=generator, key=key)


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
    std = _kaiming_std(tensor, a, mode, nonlinearity, fan_in, fan_out, batch_dims)
    limit = math.sqrt(3.0) * std
    return fill_(tensor, uniform(-limit, limit), generator=generator, key=key)


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
    std = _kaiming_std(tensor, a, mode, nonlinearity, fan_in, fan_out, batch_dims)
    return fill_(tensor, normal(0.0, std), generator=generator, key=key)


def _xavier_std(tensor: Tensor, gain: float, fan_in: float | None, fan_out: float | None, batch_dims: int) -> float:
    n_in, n_out = fans.resolve(shape_of(tensor), batch_dims, fan_in, fan_out, "fan_avg")
    std = positive("gain", gain) * math.sqrt(1.0 / ((n_in / 2.0 + n_out / 2.0) or 0.5))
    if not 0 < 2.0 * std < math.inf:  # sqrt(3) std is the limit of the uniform one
        raise ValueError(f"the std leaves the range of a float. Received: gain={gain}, fan_in={fan_in}, fan_out={fan_out}.")
    return std


def _kaiming_std(
    tensor: Tensor,
    a: float,
    mode: str,
    nonlinearity: str,
    fan_in: float | None,
    fan_out: float | None,
    batch_dims: int,
) -> float:
    if not is_one_of(mode, ("fan_in", "fan_out")):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out'. Received: mode={mode!r}. Pass one of these names.")
    if not is_one_of(nonlinearity, _NONLINEARITIES):
        raise ValueError(
            f"nonlinearity must be one of {_NONLINEARITIES}. Received: nonlinearity={nonlinearity!r}. Pass one of "
            "these names, or variance_scaling_(scale=gain**2) with a gain of your own."
        )
    if nonlinearity == "leaky_relu" and abs(finite("a", a)) > 1e150:
        raise ValueError(f"a ** 2 leaves the range of a float. Received: a={a}.")
    gain = torch.nn.init.calculate_gain(nonlinearity, finite("a", a))  # type: ignore[arg-type]
    n_in, n_out = fans.resolve(shape_of(tensor), batch_dims, fan_in, fan_out, mode)
    return gain / math.sqrt((n_in if mode == "fan_in" else n_out) or 1)  # no fan: no elements either
