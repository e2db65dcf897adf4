"""Weights scaled by their fans, under their Keras names and with Keras's semantics."""

from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core.laws import Law, declares
from fastinit._fill import fill_
from fastinit._initializers.scaling import Fan, scaled, shape_of, squared


def variance_scaling_law(
    shape: Size, dtype: DType, scale: float, mode: str, distribution: str, fan_in: Fan, fan_out: Fan, batch_dims: int
) -> Law:
    return scaled(shape, scale, mode, distribution, fan_in, fan_out, batch_dims)


@declares(variance_scaling_law)
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
    law = scaled(shape_of(tensor), scale, mode, distribution, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def glorot_uniform_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return scaled(shape, squared(gain), "fan_avg", "uniform", fan_in, fan_out, batch_dims)


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
) -> Tensor:
    """Fill a weight from U(-limit, limit), limit = gain * sqrt(6 / (fan_in + fan_out)).

    Args, Returns, Raises: as `variance_scaling_`; gain is finite and > 0.

    Reference:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks";
        Keras, keras.initializers.GlorotUniform.
    """
    law = glorot_uniform_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def glorot_normal_law(shape: Size, dtype: DType, gain: float, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return scaled(shape, squared(gain), "fan_avg", "truncated_normal", fan_in, fan_out, batch_dims)


@declares(glorot_normal_law)
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
    law = glorot_normal_law(shape_of(tensor), tensor.dtype, gain, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def he_uniform_law(shape: Size, dtype: DType, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return scaled(shape, 2.0, "fan_in", "uniform", fan_in, fan_out, batch_dims)


@declares(he_uniform_law)
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
    law = he_uniform_law(shape_of(tensor), tensor.dtype, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def he_normal_law(shape: Size, dtype: DType, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return scaled(shape, 2.0, "fan_in", "truncated_normal", fan_in, fan_out, batch_dims)


@declares(he_normal_law)
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
    law = he_normal_law(shape_of(tensor), tensor.dtype, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def lecun_uniform_law(shape: Size, dtype: DType, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return scaled(shape, 1.0, "fan_in", "uniform", fan_in, fan_out, batch_dims)


@declares(lecun_uniform_law)
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
    law = lecun_uniform_law(shape_of(tensor), tensor.dtype, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)


def lecun_normal_law(shape: Size, dtype: DType, fan_in: Fan, fan_out: Fan, batch_dims: int) -> Law:
    return scaled(shape, 1.0, "fan_in", "truncated_normal", fan_in, fan_out, batch_dims)


@declares(lecun_normal_law)
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
    law = lecun_normal_law(shape_of(tensor), tensor.dtype, fan_in, fan_out, batch_dims)
    return fill_(tensor, law, generator, key)
