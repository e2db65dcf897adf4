"""Weights scaled by their fans, under their Keras names and with Keras's semantics: one function, six calls of it."""

import math
import sys

import torch
from torch import Generator, Tensor

from fastinit import fans
from fastinit.distributions import is_one_of, normal, positive, truncated_normal, uniform
from fastinit.ops import PLAIN, check_tensor, fill_

# The standard deviation of N(0, 1) cut to [-2, 2]; Keras, TensorFlow and JAX divide by these very digits.
TRUNCATED_STD = 0.87962566103423978
_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("truncated_normal", "normal", "untruncated_normal", "uniform")
_SMALLEST = sys.float_info.min  # torch.compile of torch 2.7 cannot read it


def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight with values of variance scale / n, n counting the units it connects, as Keras does.

    The glorot, he and lecun functions are calls of this one.

    Args:
        tensor: the weight to fill, [*batch, out, in, *kernel].
        scale: the variance times n, finite, > 0.
        mode: what n is: "fan_in", "fan_out", or their mean, "fan_avg". At least 1, as in Keras.
        distribution: "truncated_normal" (alias "normal"): cut at two sigmas, its sigma divided by 0.87962566103423978
            so that the variance after the cut is scale / n; "untruncated_normal"; or "uniform" on [-limit, limit]
            with limit = sqrt(3 * scale / n).
        generator, key: the source of randomness; at most one of them.
        fan_in, fan_out: positive numbers that override the fans of the shape.
        batch_dims: how many leading dimensions stack independent weights, such as experts.

    Returns:
        The tensor.

    Raises:
        TypeError, ValueError: a bad tensor, scale, mode, distribution, fan, generator or key; or a shape of fewer than
            two dimensions with no fans given. The tensor is untouched.

    Reference:
        Keras, keras.initializers.VarianceScaling.
    """
    if not is_one_of(distribution, _DISTRIBUTIONS):
        raise ValueError(
            f"distribution must be one of {_DISTRIBUTIONS}. Received: distribution={distribution!r}. Pass one of these names."
        )
    variance = positive("scale", scale) / _units(tensor, mode, fan_in, fan_out, batch_dims)
    if not 0 < 3.0 * variance < math.inf:
        raise ValueError(f"scale / n leaves the range of a float. Received: scale={scale}, fan_in={fan_in}, fan_out={fan_out}.")
    if distribution == "uniform":
        limit = math.sqrt(3.0 * variance)
        law = uniform(-limit, limit)
    elif distribution in ("truncated_normal", "normal"):
        std = math.sqrt(variance) / TRUNCATED_STD
        law = truncated_normal(0.0, std, -2.0 * std, 2.0 * std)
    else:
        law = normal(0.0, math.sqrt(variance))
    return fill_(tensor, law, generator=generator, key=key)


def glorot_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = gain * sqrt(6 / (fan_in + fan_out)).

    Args, Returns, Raises: as `variance_scaling_`; gain is finite and > 0.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks";
        Keras, keras.initializers.GlorotUniform.
    """
    return variance_scaling_(
        tensor,
        _square(gain),
        "fan_avg",
        "uniform",
        generator=generator,
        key=key,
        fan_in=fan_in,
        fan_out=fan_out,
        batch_dims=batch_dims,
    )


def glorot_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from a normal cut at two sigmas; its std after the cut is gain * sqrt(2 / (fan_in + fan_out)).

    Args, Returns, Raises: as `variance_scaling_`; gain is finite and > 0.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks";
        Keras, keras.initializers.GlorotNormal.
    """
    return variance_scaling_(
        tensor,
        _square(gain),
        "fan_avg",
        "truncated_normal",
        generator=generator,
        key=key,
        fan_in=fan_in,
        fan_out=fan_out,
        batch_dims=batch_dims,
    )


def he_uniform_(
    tensor: Tensor,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = sqrt(6 / fan_in).

    Args, Returns, Raises: as `variance_scaling_`.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; Keras, keras.initializers.HeUniform.
    """
    return variance_scaling_(
        tensor,
        2.0,
        "fan_in",
        "uniform",
        generator=generator,
        key=key,
        fan_in=fan_in,
        fan_out=fan_out,
        batch_dims=batch_dims,
    )


def he_normal_(
    tensor: Tensor,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from a normal cut at two sigmas; its std after the cut is sqrt(2 / fan_in).

    Args, Returns, Raises: as `variance_scaling_`.

    Reference:
        He et al. 2015, "Delving deep into rectifiers"; Keras, keras.initializers.HeNormal.
    """
    return variance_scaling_(
        tensor,
        2.0,
        "fan_in",
        "truncated_normal",
        generator=generator,
        key=key,
        fan_in=fan_in,
        fan_out=fan_out,
        batch_dims=batch_dims,
    )


def lecun_uniform_(
    tensor: Tensor,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = sqrt(3 / fan_in).

    Args, Returns, Raises: as `variance_scaling_`.

    Reference:
        LeCun et al. 1998, "Efficient BackProp"; Klambauer et al. 2017, "Self-normalizing neural networks";
        Keras, keras.initializers.LecunUniform.
    """
    return variance_scaling_(
        tensor,
        1.0,
        "fan_in",
        "uniform",
        generator=generator,
        key=key,
        fan_in=fan_in,
        fan_out=fan_out,
        batch_dims=batch_dims,
    )


def lecun_normal_(
    tensor: Tensor,
    *,
    generator: Generator | None = None,
    key: int | None = None,
    fan_in: float | None = None,
    fan_out: float | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Fill a weight from a normal cut at two sigmas; its std after the cut is sqrt(1 / fan_in).

    Args, Returns, Raises: as `variance_scaling_`.

    Reference:
        LeCun et al. 1998, "Efficient BackProp"; Klambauer et al. 2017, "Self-normalizing neural networks";
        Keras, keras.initializers.LecunNormal.
    """
    return variance_scaling_(
        tensor,
        1.0,
        "fan_in",
        "truncated_normal",
        generator=generator,
        key=key,
        fan_in=fan_in,
        fan_out=fan_out,
        batch_dims=batch_dims,
    )


def _square(gain: float) -> float:
    """The scale of a gain."""
    square = positive("gain", gain) * gain
    if not _SMALLEST <= square < math.inf:
        raise ValueError(f"gain ** 2 leaves the range of a float. Received: gain={gain}.")
    return square


def _units(tensor: Tensor, mode: str, fan_in: float | None, fan_out: float | None, batch_dims: int) -> float:
    """Return the n of a mode, at least 1: a weight of no inputs has no values to scale, but must not divide by zero."""
    if not is_one_of(mode, _MODES):
        raise ValueError(f"mode must be one of {_MODES}. Received: mode={mode!r}. Pass one of these names.")
    n_in, n_out = fans.resolve(shape_of(tensor), batch_dims, fan_in, fan_out, mode)
    if mode == "fan_in":
        return max(1.0, n_in)
    return max(1.0, n_out) if mode == "fan_out" else max(1.0, n_in / 2.0 + n_out / 2.0)


def shape_of(tensor: Tensor) -> torch.Size:
    """Return the shape that the fans come from, or raise if the argument is no tensor, or one that has no shape."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor must be a torch.Tensor. Received: {tensor!r} ({type(tensor).__name__}). Pass the weight itself.")
    if type(tensor) not in PLAIN or tensor.is_nested:
        check_tensor(tensor)
    return tensor.shape
