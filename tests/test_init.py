"""Each initializer against torch.nn.init, Keras's formulas, and the promises all of them share."""

import math

import pytest
import torch
from helpers.places import check_constants
from torch import nn

import fastinit
from fastinit._initializers import structured

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]
SCALED = ["glorot_uniform_", "glorot_normal_", "he_uniform_", "he_normal_", "lecun_uniform_", "lecun_normal_"]
TORCH_SCALED = ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"]
PLAIN = ["uniform_", "normal_", "truncated_normal_", "trunc_normal_"]
CONSTANT = ["zeros_", "ones_"]
ANY_SHAPE = [getattr(fastinit, name) for name in PLAIN + CONSTANT]
ALL = [getattr(fastinit, name) for name in PLAIN + CONSTANT + SCALED + TORCH_SCALED + ["variance_scaling_"]]
ALL += [fastinit.orthogonal_, fastinit.eye_]
ALL += [lambda t, **kw: fastinit.sparse_(t, 0.3, **kw), lambda t, **kw: fastinit.constant_(t, 0.25, **kw)]
N = 1 << 16
# The largest of n uniform values falls short of the limit by a share e with probability (1 - e)^n: 1e-9 at 21 / n.
SHORT = 21 / N


def bits(tensor):
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8)


def filled(function, shape=(256, 256), dtype=torch.float32, **options):
    return function(torch.full(shape, 7.0).to(dtype), key=11, **options)


@pytest.mark.one_of_each
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ALL)
def test_in_place_same_tensor_and_one_more_version(function, dtype):
    tensor = torch.full((6, 4), 7.0).to(dtype).requires_grad_()
    version = tensor._version
    assert function(tensor, key=3) is tensor
    assert tensor._version > version
    assert tensor.is_leaf and tensor.requires_grad and tensor.grad_fn is None
    assert not (tensor.detach().float() == 7).any()


@pytest.mark.one_of_each
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ALL)
def test_values_follow_the_logical_order(function, dtype):
    straight = function(torch.zeros(6, 4).to(dtype), key=5)
    transposed = function(torch.zeros(4, 6).to(dtype).t(), key=5)
    stepped = function(torch.zeros(6, 8).to(dtype)[:, ::2], key=5)
    assert torch.equal(bits(straight), bits(transposed)) and torch.equal(bits(straight), bits(stepped))


@pytest.mark.parametrize("name", SCALED + PLAIN + ["orthogonal_", "dirac_"])
def test_channels_last_holds_the_same_values_and_its_format(name):
    function = getattr(fastinit, name)
    straight = function(torch.zeros(8, 3, 5, 5), key=5)
    last = function(torch.zeros(8, 3, 5, 5).to(memory_format=torch.channels_last), key=5)
    assert torch.equal(straight, last) and last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("function", ALL)
def test_autograd_sees_the_write(function):
    weight = torch.randn(4, 4, requires_grad=True)
    loss = (weight * weight).sum()
    function(weight)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # of kaiming's, as torch's
@pytest.mark.parametrize("function", ALL)
def test_empty_and_meta_tensors(function):
    for shape in ((0, 5), (5, 0)):
        assert function(torch.empty(shape)).shape == shape
    meta = torch.empty(3, 4, device="meta")
    assert function(meta) is meta and meta.is_meta


@pytest.mark.parametrize("function", ANY_SHAPE)
def test_no_dimensions(function):
    scalar = torch.full((), 7.0)
    assert function(scalar, key=1) is scalar and scalar.item() != 7


class Subclass(torch.Tensor):
    """One that changes nothing."""


@pytest.mark.parametrize("function", ANY_SHAPE)
def test_a_subclass_of_tensor_gets_the_same_values(function):
    plain = function(torch.full((4, 6), 7.0), key=3)
    assert torch.equal(function(torch.full((4, 6), 7.0).as_subclass(Subclass), key=3), plain)


@pytest.mark.parametrize("function", ALL[:4] + ALL[6:17])
def test_manual_seed_generator_and_key(function):
    torch.manual_seed(3)
    first, second = function(torch.zeros(5, 5)), function(torch.zeros(5, 5))
    again = function(torch.zeros(5, 5), generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert torch.equal(function(torch.zeros(5, 5), key=9), function(torch.zeros(5, 5), key=9))


def limit_and_std(name, n_in, n_out):
    n = {"glorot": (n_in + n_out) / 2, "he": n_in / 2, "lecun": n_in}[name.split("_")[0]]
    return math.sqrt(3 / n), math.sqrt(1 / n)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("shape", [(256, 256), (64, 16, 8, 8), (1024, 64)])
def test_keras_names_have_keras_limits(name, shape):
    values = filled(getattr(fastinit, name), shape, torch.float64)
    n_in, n_out = shape[1] * math.prod(shape[2:]), shape[0] * math.prod(shape[2:])
    limit, std = limit_and_std(name, n_in, n_out)
    if name.endswith("normal_"):
        limit = 2 * std / 0.87962566103423978
        # Of a normal cut at two sigmas, the outermost share 21/n ends at about this quantile.
        assert limit * 0.99 < values.abs().max() <= limit
    else:
        assert limit * (1 - SHORT) < values.abs().max() <= limit
    # kurtosis below 3: the relative error of the std is below 1 / sqrt(2 n); six of them.
    assert abs(values.std().item() / std - 1) < 6 / math.sqrt(2 * N)
    assert abs(values.mean().item()) < 6 * std / math.sqrt(N)


def test_a_gain_scales_the_limit():
    one, three = (filled(fastinit.glorot_uniform_, gain=gain, dtype=torch.float64) for gain in (1.0, 3.0))
    torch.testing.assert_close(three, 3 * one, rtol=1e-14, atol=0)
    one, three = (filled(fastinit.glorot_normal_, gain=gain, dtype=torch.float64) for gain in (1.0, 3.0))
    torch.testing.assert_close(three, 3 * one, rtol=1e-12, atol=0)


def test_the_families_are_variance_scaling():
    for name, arguments in {
        "glorot_uniform_": (1.0, "fan_avg", "uniform"),
        "glorot_normal_": (1.0, "fan_avg", "truncated_normal"),
        "he_uniform_": (2.0, "fan_in", "uniform"),
        "he_normal_": (2.0, "fan_in", "truncated_normal"),
        "lecun_uniform_": (1.0, "fan_in", "uniform"),
        "lecun_normal_": (1.0, "fan_in", "normal"),
    }.items():
        expected = fastinit.variance_scaling_(torch.empty(48, 20), *arguments, key=2)
        assert torch.equal(getattr(fastinit, name)(torch.empty(48, 20), key=2), expected), name


def test_fan_out_and_untruncated():
    values = fastinit.variance_scaling_(torch.empty(64, 1024), 0.5, "fan_out", "untruncated_normal", key=1)
    std = math.sqrt(0.5 / 64)
    assert torch.equal(values, fastinit.normal_(torch.empty(64, 1024), 0.0, std, key=1))
    assert values.abs().max() > 3 * std


def test_fan_overrides_and_batches():
    expected = fastinit.uniform_(torch.empty(4, 6, 5), -math.sqrt(6 / 11), math.sqrt(6 / 11), key=1)
    stacked = fastinit.glorot_uniform_(torch.empty(4, 6, 5), batch_dims=1, key=1)
    stated = fastinit.glorot_uniform_(torch.empty(120), fan_in=5, fan_out=6, key=1)
    assert torch.equal(stacked, expected) and torch.equal(stated, expected.flatten())
    for name in TORCH_SCALED:
        function = getattr(fastinit, name)
        alone = function(torch.empty(6, 5), key=1)
        assert torch.equal(function(torch.empty(2, 6, 5), batch_dims=1, key=1)[0], alone)
        assert torch.equal(function(torch.empty(30), fan_in=5, fan_out=6, key=1), alone.flatten())
    alone = fastinit.he_normal_(torch.empty(6, 5), key=1).flatten()
    assert torch.equal(fastinit.he_normal_(torch.empty(30), fan_in=5, key=1), alone)


@pytest.mark.parametrize("shape", [(6, 5), (7, 3, 5, 5)])
@pytest.mark.parametrize("gain", [1.0, 5 / 3])
def test_xavier_equals_torch(shape, gain):
    n_in, n_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    std = gain * math.sqrt(2.0 / (n_in + n_out))
    limit = math.sqrt(3.0) * std
    expected = fastinit.uniform_(torch.empty(shape), -limit, limit, key=4)
    assert torch.equal(fastinit.xavier_uniform_(torch.empty(shape), gain, key=4), expected)
    assert torch.equal(fastinit.xavier_normal_(torch.empty(shape), gain, key=4), fastinit.normal_(expected, 0.0, std, key=4))
    reference = nn.init.xavier_uniform_(torch.empty(N, 1), gain) if shape == (6, 5) else None
    if reference is not None:
        ours = fastinit.xavier_uniform_(torch.empty(N, 1), gain, key=4)
        assert abs(ours.abs().max() / reference.abs().max() - 1) < SHORT


@pytest.mark.one_of_each
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("nonlinearity", ["leaky_relu", "relu", "tanh", "linear", "selu", "conv2d", "sigmoid"])
@pytest.mark.parametrize("a", [0, 0.2, math.sqrt(5)])
def test_kaiming_equals_torch(mode, nonlinearity, a):
    gain = nn.init.calculate_gain(nonlinearity, a)
    fan = nn.init._calculate_correct_fan(torch.empty(9, 4, 3), mode)
    std = gain / math.sqrt(fan)
    limit = math.sqrt(3.0) * std
    expected = fastinit.uniform_(torch.empty(9, 4, 3), -limit, limit, key=4)
    assert torch.equal(fastinit.kaiming_uniform_(torch.empty(9, 4, 3), a, mode, nonlinearity, key=4), expected)
    normal = fastinit.kaiming_normal_(torch.empty(9, 4, 3), a, mode, nonlinearity, key=4)
    assert torch.equal(normal, fastinit.normal_(expected, 0.0, std, key=4))


def test_truncated_normal_defaults_are_two_sigmas_and_torchs_are_absolute():
    tight = filled(fastinit.truncated_normal_, mean=1.0, std=0.5)
    assert 0.0 <= tight.min() < 0.01 and 1.99 < tight.max() <= 2.0
    assert torch.equal(tight, filled(fastinit.truncated_normal_, mean=1.0, std=0.5, a=0.0, b=2.0))
    assert torch.equal(tight, filled(fastinit.trunc_normal_, mean=1.0, std=0.5, a=0.0, b=2.0))
    wide = filled(fastinit.trunc_normal_, mean=0.0, std=0.5)
    assert 1.9 < wide.abs().max() <= 2.0 and abs(wide.std().item() / 0.49996 - 1) < 6 / math.sqrt(2 * N) * 1.1


def test_one_bound_may_be_left_out():
    values = filled(fastinit.truncated_normal_, std=1.0, a=0.0)
    assert values.min() >= 0 and 1.95 < values.max() <= 2.0


def test_fmod_folds_the_tails_into_the_middle():
    exact = filled(fastinit.truncated_normal_, std=1.0, a=-1.0, b=1.0)
    folded = filled(fastinit.truncated_normal_, std=1.0, a=-1.0, b=1.0, method="fmod")
    normal = filled(fastinit.normal_)
    torch.testing.assert_close(folded, torch.fmod(normal, 1.0), rtol=0, atol=4e-6)
    assert folded.std() < exact.std() and folded.abs().max() <= 1


@pytest.mark.one_of_each
@pytest.mark.parametrize("shape", [(5, 5), (9, 4), (4, 9), (8, 3, 5), (30, 2, 2, 2), (1, 7), (7, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orthogonal_is_orthogonal(shape, dtype):
    matrix = fastinit.orthogonal_(torch.empty(shape, dtype=dtype), gain=1.5, key=3).flatten(1).double()
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    eye = 2.25 * torch.eye(len(matrix), dtype=torch.float64)
    tolerance = 2.25 * 32 * torch.finfo(dtype).eps
    torch.testing.assert_close(matrix @ matrix.T, eye, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_orthogonal_in_a_narrow_dtype_is_the_float32_one_rounded(dtype):
    wide = fastinit.orthogonal_(torch.empty(12, 7), gain=0.7, key=3)
    assert torch.equal(bits(fastinit.orthogonal_(torch.empty(12, 7, dtype=dtype), gain=0.7, key=3)), bits(wide.to(dtype)))


def test_orthogonal_is_the_q_of_fastinits_gaussian_with_a_positive_diagonal():
    gaussian = fastinit.normal_(torch.empty(9, 4, dtype=torch.float64), key=8)
    q = fastinit.orthogonal_(torch.empty(9, 4, dtype=torch.float64), key=8)
    r = q.T @ gaussian
    torch.testing.assert_close(r, r.triu(), rtol=0, atol=1e-13)
    assert (r.diagonal() > 0).all()


def test_orthogonal_is_haar():
    # The trace of a Haar matrix of size 2 has mean 0 and variance 1; LAPACK's signs alone give it a large mean.
    trials = 2000
    traces = torch.stack([fastinit.orthogonal_(torch.empty(2, 2), key=k).trace() for k in range(trials)])
    assert abs(traces.mean()) < 6 / math.sqrt(trials)
    assert abs((traces**2).mean() - 1) < 6 * math.sqrt(2 / trials)


def test_a_singular_gaussian_loses_no_column():
    q = structured.haar(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), 1.0)
    torch.testing.assert_close(q.T @ q, torch.eye(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_eye_and_constants_equal_torch(shape):
    assert torch.equal(fastinit.eye_(torch.empty(shape)), nn.init.eye_(torch.empty(shape)))
    assert torch.equal(fastinit.constant_(torch.empty(shape), -0.3), nn.init.constant_(torch.empty(shape), -0.3))
    assert torch.equal(fastinit.zeros_(torch.ones(shape)), torch.zeros(shape))
    assert torch.equal(fastinit.ones_(torch.zeros(shape)), torch.ones(shape))


def test_constants_draw_nothing():
    before = torch.get_rng_state()
    for function in (fastinit.zeros_, fastinit.ones_, fastinit.eye_, lambda t: fastinit.constant_(t, 2)):
        function(torch.empty(3, 3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("shape", "groups"), [((6, 4, 3), 1), ((4, 6, 4, 5), 1), ((6, 2, 3, 3), 3), ((8, 2, 3, 2, 3), 2), ((6, 4, 3, 3), 3)]
)
def test_dirac_equals_torch(shape, groups):
    assert torch.equal(fastinit.dirac_(torch.ones(shape), groups), nn.init.dirac_(torch.ones(shape), groups))


@pytest.mark.one_of_each
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.91, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_has_the_same_number_of_zeros_in_each_column(sparsity, dtype):
    values = fastinit.sparse_(torch.empty(50, 40).to(dtype), sparsity, std=1.0, key=6)
    normal = fastinit.normal_(torch.empty(50, 40).to(dtype), key=6)
    zero = values.float() == 0
    exact = zero.sum(0)
    underflow = (normal.float() == 0).sum(0)  # float8 rounds the smallest values to zero by itself
    count = math.ceil(sparsity * 50)
    assert (exact >= count).all() and (exact <= count + underflow).all()
    assert torch.equal(values.float()[~zero], normal.float()[~zero])


def test_sparse_chooses_each_row_equally_often_and_columns_apart():
    n = 4000
    zero = fastinit.sparse_(torch.empty(10, n), 0.3, key=6) == 0
    share = zero.float().mean(1)
    assert (share - 0.3).abs().max() < 6 * math.sqrt(0.3 * 0.7 / n)
    assert len({tuple(column) for column in zero.T.tolist()}) == math.comb(10, 3)
    values = fastinit.sparse_(torch.empty(10, n), 0.3, std=1.0, key=6)[~zero]
    assert abs(values.std() - 1) < 6 / math.sqrt(2 * len(values)) and abs(values.mean()) < 6 / math.sqrt(len(values))


@pytest.mark.one_of_each
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_constants_as_plans(backend, dtype):
    check_constants(backend, dtype, torch.device("cpu"), lengths=(3, 40))
