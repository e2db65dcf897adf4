"""Initializers that give a matrix or a kernel a structure: orthogonal, identity, Dirac, sparse."""

import math

import torch
from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core import keys
from fastinit._core.check import (
    DRAWN_DTYPES,
    FLOAT_DTYPES,
    ZEROED_DTYPES,
    check_dtype,
    check_tensor,
    finite,
    is_loaded,
    left,
    number,
    shown,
    whole_shape,
)
from fastinit._core.fans import check_batch_dims
from fastinit._core.laws import Law, declares, normal, uniform
from fastinit._core.memory import real_views
from fastinit._core.modes import ieee_arithmetic, is_flushing
from fastinit._core.plan import is_staged
from fastinit._core.recipes import recipe
from fastinit._core.shard import cut_where_sharded
from fastinit._fill import Key, fill_, key_of, writing
from fastinit._torch import written


def _check_orthogonal(shape: Size, dtype: DType, gain: float, batch_dims: int) -> None:
    """Raise for wrong arguments; there is no single law."""
    check_dtype(dtype, FLOAT_DTYPES)
    check_batch_dims(batch_dims)
    gain = finite("gain", gain)
    if len(shape) - batch_dims < 2:
        after = f" after batch_dims={shown(batch_dims)}" if batch_dims else ""
        raise ValueError(
            f"orthogonal_ needs at least two dimensions{after}. Received: shape={tuple(shape)}. "
            "View the tensor as a matrix first."
        )
    if abs(gain) > torch.finfo(dtype).max:
        raise ValueError(f"gain must lie within the range of {dtype}. Received: gain={gain}.")


@declares(_check_orthogonal)
@cut_where_sharded
def orthogonal_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None, *, key: int | None = None, batch_dims: int = 0
) -> Tensor:
    """Fill a tensor with a (semi-)orthogonal matrix, uniform over all of them (Haar), times the gain.

    The matrix is [size(0), the other dimensions flattened], as torch has it: its rows are orthonormal, or its columns where it
    has more rows than columns. It is the Q of a Gaussian matrix that obeys the value contract, computed in float32 (float64
    for a float64 tensor) whatever the dtype, and therefore equal across machines to rounding, not to the bit. In a forked child
    torch computes it in one thread, as its others do not live on there.

    Args:
        tensor: the tensor to fill, of at least two dimensions and any strides; float16, bfloat16, float32, float64,
            float8_e4m3fn or float8_e5m2.
        gain: a factor of the matrix, finite.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.
        batch_dims: how many leading dimensions stack independent matrices, such as experts, >= 0: each is orthogonal by itself,
            and all are cut from one Gaussian tensor of one key.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: gain is not finite or beyond the range of the dtype; fewer than two dimensions are left after batch_dims;
            generator and key are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks"; Mezzadri
        2007, "How to generate random matrices from the classical compact groups" (the signs); PyTorch,
        torch.nn.init.orthogonal_.

    Examples:
        >>> weight = fastinit.orthogonal_(torch.empty(3, 5), key=0)
        >>> torch.allclose(weight @ weight.T, torch.eye(3), atol=1e-5)
        True
    """
    check_tensor(tensor)
    _check_orthogonal(whole_shape(tensor), tensor.dtype, gain, batch_dims)
    keys.check_source(generator, key, tensor.device)
    if is_loaded(tensor):
        return left(tensor)
    if tensor.numel() == 0 or tensor.is_meta:
        written(tensor)
        return tensor
    with writing(tensor):
        made = haar(_gaussian(tensor, generator, key, batch_dims), float(gain)).reshape(tensor.shape)
        tensor.copy_(made if made.device == tensor.device else made.to(tensor.dtype))  # rounded where it was computed
    return tensor


def _place(tensor: Tensor) -> torch.device:
    """Where torch computes what a tensor gets: on the CPU, if its device may lack the operations."""
    return torch.device("cpu") if is_staged(tensor.device.type) else tensor.device


def _gaussian(tensor: Tensor, generator: Generator | None, key: int | None, batch_dims: int) -> Tensor:
    real = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    matrix: Tensor = tensor.new_empty(tensor.shape, dtype=real, device=_place(tensor)).flatten(batch_dims + 1)
    return fill_(matrix, normal(0.0, 1.0), generator, key)


def haar(gaussian: Tensor, gain: float) -> Tensor:
    """Orthonormalize the shorter side of a Gaussian matrix, or of each of several, and multiply it by the gain.

    LAPACK's Q is not uniform: its signs follow its own convention. Those of R's diagonal undo it; a zero there (the
    matrix is singular) counts as positive, since a column times zero would be lost. Beside Q there is no other copy.
    """
    wide = gaussian.shape[-2] < gaussian.shape[-1]
    q, r = torch.linalg.qr(gaussian.mT if wide else gaussian)
    q.mul_(torch.where(r.diagonal(dim1=-2, dim2=-1).unsqueeze(-2) < 0, -1.0, 1.0)).mul_(gain)
    matrix: Tensor = q.mT if wide else q
    return matrix


def _check_eye(shape: Size, dtype: DType) -> None:
    """Raise for a wrong tensor; there is no single law."""
    check_dtype(dtype, ZEROED_DTYPES)
    _check_matrix("eye_", shape)


@declares(_check_eye)
@cut_where_sharded
def eye_(tensor: Tensor, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill a matrix with the identity: ones on the diagonal, zeros elsewhere.

    Args:
        tensor: the matrix to fill, of any two sizes and any strides, of any dtype of floats, integers, booleans or complex
            numbers that has a 0 and a byte or more.
        generator: accepted as by every initializer, checked, and not used: nothing random is drawn.
        key: accepted as by every initializer, an int in [0, 2**64), checked, and not used.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: the tensor does not have two dimensions; generator and key are both given, or wrong; the tensor is sparse
            or overlaps itself. The tensor is then untouched.

    Reference:
        PyTorch, torch.nn.init.eye_.

    Examples:
        >>> fastinit.eye_(torch.empty(2, 3)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    check_tensor(tensor, ZEROED_DTYPES)
    _check_eye(whole_shape(tensor), tensor.dtype)
    keys.check_source(generator, key, tensor.device)
    if is_loaded(tensor):
        return left(tensor)
    with writing(tensor):
        _zeroed(tensor).diagonal().fill_(1.0)
    return tensor


def _zeroed(tensor: Tensor) -> Tensor:
    """The tensor, or its real part, after zeros were written."""
    views = real_views(tensor)
    for view in views:
        view.zero_()
    return views[0]


def _check_dirac(shape: Size, dtype: DType, groups: int) -> None:
    """Raise for wrong arguments; there is no single law."""
    check_dtype(dtype, ZEROED_DTYPES)
    if len(shape) not in (3, 4, 5):
        raise ValueError(
            f"dirac_ needs 3, 4 or 5 dimensions, [out, in, *kernel]. Received: shape={tuple(shape)}. For a matrix use eye_."
        )
    if isinstance(groups, bool) or not isinstance(groups, int):
        raise TypeError(f"groups must be an int >= 1. Received: groups={groups!r} ({type(groups).__name__}).")
    if groups < 1 or shape[0] % groups:
        raise ValueError(
            f"groups must be >= 1 and divide dimension 0. Received: groups={shown(groups)}, shape={tuple(shape)}. "
            "Pass the groups of the convolution."
        )


@declares(_check_dirac)
@cut_where_sharded
def dirac_(tensor: Tensor, groups: int = 1, *, generator: Generator | None = None, key: int | None = None) -> Tensor:
    """Fill the kernel of a convolution with the Dirac delta: each group passes its inputs on, as many as it can.

    Args:
        tensor: the kernel to fill, [out, in / groups, *kernel] with one to three kernel dimensions, of any dtype of floats,
            integers, booleans or complex numbers that has a 0 and a byte or more.
        groups: the groups of the convolution, an int >= 1 that divides out.
        generator: accepted as by every initializer, checked, and not used: nothing random is drawn.
        key: accepted as by every initializer, an int in [0, 2**64), checked, and not used.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: groups is < 1 or does not divide out; the tensor does not have three to five dimensions; generator and key
            are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        PyTorch, torch.nn.init.dirac_.

    Examples:
        >>> fastinit.dirac_(torch.empty(2, 2, 3)).tolist()
        [[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    check_tensor(tensor, ZEROED_DTYPES)
    _check_dirac(whole_shape(tensor), tensor.dtype, groups)
    keys.check_source(generator, key, tensor.device)
    if is_loaded(tensor):
        return left(tensor)
    with writing(tensor):
        taps = _zeroed(tensor)
        if tensor.numel():
            taps = taps.unflatten(0, (groups, -1))
            for size in tensor.shape[2:]:
                taps = taps.select(3, size // 2)
            taps.diagonal(dim1=1, dim2=2).fill_(1.0)
    return tensor


def _law_of_others(shape: Size, sparsity: float, std: float) -> Law:
    """The law of what sparse_ does not set to zero."""
    _check_matrix("sparse_", shape)
    _fraction(sparsity)
    return normal(0.0, std)


def _fraction(sparsity: float) -> float:
    fraction = number("sparsity", sparsity)
    if not 0 <= fraction <= 1:
        raise ValueError(f"sparsity must lie in [0, 1]. Received: sparsity={sparsity}. Pass a fraction such as 0.9.")
    return fraction


def _check_sparse(shape: Size, dtype: DType, sparsity: float, std: float) -> None:
    """Raise for wrong arguments; there is no single law."""
    check_dtype(dtype, DRAWN_DTYPES)
    recipe(_law_of_others(shape, sparsity, std), dtype)


@declares(_check_sparse)
@cut_where_sharded
def sparse_(
    tensor: Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: Generator | None = None,
    *,
    key: int | None = None,
) -> Tensor:
    """Fill a matrix from N(0, std**2) and set ceil(sparsity * rows) random elements of each column to zero.

    The values take the key's words from 0 on, and the choice of the zeros takes the words that follow them.

    Args:
        tensor: the matrix to fill, [rows, columns], of any strides; float16, bfloat16, float32, float64, float8_e4m3fn,
            float8_e5m2, or complex, whose real and imaginary parts then share the variance.
        sparsity: the fraction of each column that is zero, in [0, 1].
        std: the standard deviation of the other elements, finite, >= 0.
        generator: the source of randomness: a generator on the CPU, or the CUDA generator of the tensor's device. None:
            torch's default CPU generator, which `torch.manual_seed` seeds, whatever the device.
        key: an int in [0, 2**64), see `fastinit.key`: the values then depend on the arguments only. None: a fresh draw
            from the generator. At most one of key and generator is given.

    Returns:
        The tensor that was given.

    Raises:
        TypeError: the tensor has a dtype that cannot be filled, or another argument has a wrong type.
        ValueError: sparsity lies outside [0, 1], or std is not >= 0; the tensor does not have two dimensions; generator and key
            are both given, or wrong; the tensor is sparse or overlaps itself. The tensor is then untouched.

    Reference:
        Martens 2010, "Deep learning via Hessian-free optimization"; PyTorch, torch.nn.init.sparse_.

    Examples:
        >>> weight = fastinit.sparse_(torch.empty(10, 3), sparsity=0.25, key=0)
        >>> (weight == 0).sum(dim=0).tolist()
        [3, 3, 3]
    """
    check_tensor(tensor, DRAWN_DTYPES)
    if is_flushing():  # and would take a subnormal sparsity for 0
        with ieee_arithmetic():
            return sparse_(tensor, sparsity, std, generator, key=key)
    law, zeros = _law_of_others(whole_shape(tensor), sparsity, std), math.ceil(_fraction(sparsity) * tensor.shape[0])
    if is_loaded(tensor):
        return left(tensor)
    shared = key_of(tensor, law, generator, key)
    zeroed = _chosen_zeros(tensor, zeros, shared)  # first, as it takes memory, and there may be none
    fill_(tensor, law, None, shared, DRAWN_DTYPES)
    with writing(tensor):
        # float8 has no masked_fill_; zero has the bits of zero in every dtype.
        for part in real_views(tensor):
            (part.view(torch.uint8) if part.element_size() == 1 else part).masked_fill_(zeroed, 0)
    return tensor


def _chosen_zeros(tensor: Tensor, count: int, key: Key) -> Tensor:
    """A mask of `count` random elements of each column, by the words that follow those of the tensor's own values."""
    with writing(tensor):
        taken = 2 if tensor.is_complex() else 1  # words of an element
        scores = tensor.new_empty((taken + 1, *tensor.shape), dtype=torch.float32, device=_place(tensor))
        fill_(scores, uniform(0.0, 1.0), None, key)
        return (scores[taken].argsort(dim=0, stable=True).argsort(dim=0) < count).to(tensor.device)


def _check_matrix(name: str, shape: Size) -> None:
    if len(shape) != 2:
        raise ValueError(
            f"{name} needs a matrix, two dimensions. Received: shape={tuple(shape)}. View the tensor as a matrix first."
        )
