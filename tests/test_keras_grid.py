"""Keras's fans and every initializer of it, on a grid of shapes, beside their counterparts here.

Keras's kernels are [*kernel, in, out], torch's [out, in, *kernel].
"""

import math
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
import torch
from scipy import stats

keras = pytest.importorskip("keras")

from keras.src.initializers.random_initializers import compute_fans  # noqa: E402

import fastinit  # noqa: E402
from fastinit._core import fans  # noqa: E402

pytestmark = pytest.mark.full

# A law within chance: p of a two-sample KS test at fixed seeds, and standard deviations of a mean or a deviation.
LEAST_P, SIGMAS = 1e-6, 6
KERNELS = [(300, 70), (1, 9000), (5, 16, 120), (3, 3, 16, 60), (1, 1, 60, 150), (2, 3, 2, 16, 50)]  # of about 10,000 elements
SMALL = [(3, 5), (1, 1), (7, 2, 3), (3, 3, 4, 6), (1, 5, 1, 9), (2, 3, 4, 5, 6), (0, 5), (5, 0), (3, 0, 4), (0, 2, 3, 4)]
RANKS = [(), (4000,), (50, 80), (10, 20, 20), (4, 10, 10, 10), (4, 4, 5, 5, 10)]


def torch_layout(shape):
    *kernel, n_in, n_out = shape
    return (n_out, n_in, *kernel)


def drawn(initializer, shape) -> np.ndarray:
    return initializer(shape).detach().cpu().numpy()


def assert_same_law(mine, theirs, mean, std, limit=None):
    """Of n values each: one law for both, with this mean and deviation; uniform to this limit from the mean, or cut there.

    A sample's deviation varies by sqrt((kurtosis - 1) / 4n), and no law here has a kurtosis above the normal's 3. The largest
    of n uniform values falls short of the limit by a share of 21 / n once in 1e9.
    """
    n = mine.size
    assert theirs.size == n
    assert stats.ks_2samp(mine.ravel(), theirs.ravel()).pvalue > LEAST_P
    for values in (mine.astype(np.float64), theirs.astype(np.float64)):
        assert abs(values.mean() - mean) < SIGMAS * std / math.sqrt(n)
        assert abs(values.std() / std - 1) < SIGMAS / math.sqrt(2 * n)
        if limit is not None:
            assert limit * (1 - 21 / n) < abs(values - mean).max() <= limit * (1 + 1e-6)  # Keras rounds to float32 beyond it


@pytest.mark.parametrize("shape", KERNELS + SMALL)
def test_fans(shape):
    assert fans.fans(torch_layout(shape)) == compute_fans(shape)


@pytest.mark.parametrize("stack", [(6,), (2, 3)])
@pytest.mark.parametrize("shape", SMALL)
def test_fans_of_stacked_kernels(shape, stack):
    """Keras 3.15's input_axes and output_axes, with all but the stacked axes in them."""
    kernel = list(range(len(stack), len(stack) + len(shape) - 2))
    n_in, n_out = len(stack) + len(shape) - 2, len(stack) + len(shape) - 1
    theirs = compute_fans((*stack, *shape), input_axes=[*kernel, n_in], output_axes=[*kernel, n_out])
    assert fans.fans((*stack, *torch_layout(shape)), len(stack)) == theirs == compute_fans(shape)


@pytest.mark.parametrize("shape", [(), (9000,)])
def test_fewer_than_two_axes_have_fans_in_keras_alone(shape):
    """Keras takes (1, 1) and (n, n), for biases; here they must be said."""
    n = math.prod(shape)
    assert compute_fans(shape) == (n, n)
    with pytest.raises(ValueError, match="at least two dimensions"):
        fastinit.he_uniform_(torch.empty(shape))
    theirs = drawn(keras.initializers.HeUniform(seed=3), shape)
    mine = fastinit.he_uniform_(torch.empty(shape), fan_in=n, key=1).numpy()
    limit = math.sqrt(6 / n)
    if shape:
        assert_same_law(mine, theirs, 0, limit / math.sqrt(3), limit)
    else:
        assert abs(mine) <= limit and abs(theirs) <= limit


def units(shape, mode, **axes):
    n_in, n_out = compute_fans(shape, **axes)
    return {"fan_in": n_in, "fan_out": n_out, "fan_avg": (n_in + n_out) / 2}[mode]


def compare_scaled(mine, theirs, variance, distribution):
    std = math.sqrt(variance)
    assert_same_law(mine.numpy(), theirs, 0, std, math.sqrt(3) * std if distribution == "uniform" else None)
    if distribution == "truncated_normal":  # at two sigmas of the normal before the cut
        limit = 2 * std / 0.87962566103423978
        assert limit * (1 - outermost(mine.numel())) < mine.abs().max().item() <= limit
        third = np.sort(abs(theirs).ravel())[-3]  # Keras on torch lets one in 233,000 values through uncut
        assert limit * (1 - outermost(theirs.size)) < third <= limit * (1 + 1e-6)
    elif distribution == "untruncated_normal":
        assert mine.abs().max() > 3 * std and abs(theirs).max() > 3 * std


def outermost(n: int) -> float:
    """The share of the cut that holds less than three of n values at its two ends once in 1e9: 28 are expected there.

    The density at two sigmas is 0.0566 a sigma, and grows inward.
    """
    return 28 / n / (0.0566 * 2 * 2)


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
@pytest.mark.parametrize("scale", [0.3, 2.5])
def test_variance_scaling(shape, mode, distribution, scale):
    theirs = drawn(keras.initializers.VarianceScaling(scale, mode, distribution, seed=3), shape)
    mine = fastinit.variance_scaling_(torch.empty(torch_layout(shape)), scale, mode, distribution, key=1)
    compare_scaled(mine, theirs, scale / units(shape, mode), distribution)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
def test_variance_scaling_of_experts(mode, distribution):
    axes = {"input_axes": [1, 2], "output_axes": [1, 3]}
    theirs = drawn(keras.initializers.VarianceScaling(1.4, mode, distribution, seed=3, **axes), (9, 3, 40, 20))
    mine = fastinit.variance_scaling_(torch.empty(9, 20, 40, 3), 1.4, mode, distribution, key=1, batch_dims=1)
    compare_scaled(mine, theirs, 1.4 / units((9, 3, 40, 20), mode, **axes), distribution)


FAMILIES = {  # scale, mode
    "Glorot": (1.0, "fan_avg"),
    "He": (2.0, "fan_in"),
    "Lecun": (1.0, "fan_in"),
}


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("law", "distribution"), [("Uniform", "uniform"), ("Normal", "truncated_normal")])
def test_families(shape, family, law, distribution):
    scale, mode = FAMILIES[family]
    theirs = drawn(getattr(keras.initializers, family + law)(seed=3), shape)
    mine = getattr(fastinit, f"{family}_{law}_".lower())(torch.empty(torch_layout(shape)), key=1)
    compare_scaled(mine, theirs, scale / units(shape, mode), distribution)


@pytest.mark.parametrize("shape", RANKS[1:])
def test_plain_laws_of_every_rank(shape):
    initializers = keras.initializers
    uniform = (
        fastinit.uniform_(torch.empty(shape), -0.05, 0.05, key=1),
        initializers.RandomUniform(seed=3),
        0,
        0.05 / math.sqrt(3),
    )
    normal = (fastinit.normal_(torch.empty(shape), 0.0, 0.05, key=1), initializers.RandomNormal(seed=3), 0, 0.05)
    shifted = (fastinit.normal_(torch.empty(shape), -2.0, 0.3, key=1), initializers.RandomNormal(-2.0, 0.3, seed=3), -2, 0.3)
    off_centre = (
        fastinit.uniform_(torch.empty(shape), 1.0, 5.0, key=1),
        initializers.RandomUniform(1.0, 5.0, seed=3),
        3,
        2 / math.sqrt(3),
    )
    cut = 0.87962566103423978
    truncated = (
        fastinit.truncated_normal_(torch.empty(shape), 0.0, 0.05, key=1),
        initializers.TruncatedNormal(seed=3),
        0,
        0.05 * cut,
    )
    for mine, initializer, mean, std in (uniform, normal, shifted, off_centre, truncated):
        bounded = isinstance(initializer, initializers.RandomUniform)
        assert_same_law(mine.numpy(), drawn(initializer, shape), mean, std, math.sqrt(3) * std if bounded else None)


@pytest.mark.parametrize("shape", RANKS)
def test_constants_of_every_rank(shape):
    for mine, initializer in (
        (fastinit.zeros_(torch.ones(shape)), keras.initializers.Zeros()),
        (fastinit.ones_(torch.zeros(shape)), keras.initializers.Ones()),
        (fastinit.constant_(torch.zeros(shape), -0.3), keras.initializers.Constant(-0.3)),
    ):
        np.testing.assert_array_equal(mine.numpy(), drawn(initializer, shape), strict=True)


@pytest.mark.parametrize("shape", [(5, 5), (4, 9), (9, 4), (1, 7)])
def test_identity(shape):
    """Keras's has a gain as well, which multiplies."""
    mine = fastinit.eye_(torch.empty(torch_layout(shape))).numpy().T
    np.testing.assert_array_equal(mine, drawn(keras.initializers.Identity(), shape))
    np.testing.assert_array_equal(np.float32(1.7) * mine, drawn(keras.initializers.Identity(1.7), shape))


@pytest.mark.parametrize("shape", [(6,), (2, 3, 4)])
def test_identity_is_a_matrix(shape):
    with pytest.raises(ValueError, match="2D"):
        keras.initializers.Identity()(shape)
    with pytest.raises(ValueError, match="matrix"):
        fastinit.eye_(torch.empty(shape))


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (5, 8, 90), (3, 3, 4, 50), (3, 3, 4, 20), (2, 2, 2, 5, 30)])
def test_orthogonal(shape):
    """As matrices of [all else, out]; entries of one law, whose second moment orthogonality fixes."""
    theirs = drawn(keras.initializers.Orthogonal(gain=1.3, seed=3), shape).reshape(-1, shape[-1])
    mine = fastinit.orthogonal_(torch.empty(torch_layout(shape)), 1.3, key=1).flatten(1).numpy().T
    assert mine.shape == theirs.shape
    for matrix in (mine.astype(np.float64), theirs.astype(np.float64)):
        short = matrix if len(matrix) <= len(matrix.T) else matrix.T
        tolerance = 32 * np.finfo(np.float32).eps * 1.3**2
        np.testing.assert_allclose(short @ short.T, 1.3**2 * np.eye(len(short)), rtol=0, atol=tolerance)
    assert stats.ks_2samp(mine.ravel(), theirs.ravel()).pvalue > LEAST_P


def test_orthogonal_needs_two_axes():
    for call in (lambda: keras.initializers.Orthogonal()((5,)), lambda: fastinit.orthogonal_(torch.empty(5))):
        with pytest.raises(ValueError, match=r"two.dimension"):
            call()
