"""What PyTorch's own tests ask of torch.nn.init (test/nn/test_init.py there), asked of the functions that bear its names.

Laws by the Kolmogorov-Smirnov distance, on random shapes and parameters at fixed seeds.
"""

import inspect
import math
import random
import warnings

import pytest
import scipy.stats
import torch
from torch import nn
from torch.nn import functional

import fastinit

pytestmark = pytest.mark.one_of_each

NAMES = [name for name, value in vars(nn.init).items() if name.endswith("_") and name[0] != "_" and inspect.isfunction(value)]
NEEDED = {"constant_": (0.3,), "sparse_": (0.4,)}
P = 1e-6  # the chance that a right fill fails, if its seed were not fixed


def shape_of(rng: random.Random, dims: int, low: int, high: int) -> list[int]:
    return [rng.randint(low, high) for _ in range(dims)]


def check_law(tensor: torch.Tensor, law) -> None:
    """Massart: the distance of n values from their law passes sqrt(log(2/p) / 2n) with probability p at most.

    The least and the greatest leave a share of 21 / n out once in 1e9; a deviation varies by sqrt((kurtosis - 1) / 4n). A
    rounding of values moves them by half a last bit, thus the distribution function by that times the density.
    """
    values = tensor.double().flatten().numpy()
    low, high = law.support()
    half_bit = float(tensor.abs().max() * torch.finfo(tensor.dtype).eps) / 2
    moved = half_bit * (law.pdf(torch.linspace(low, high, 1001)).max() if math.isfinite(low) else law.pdf(law.mean()))
    distance = scipy.stats.ks_1samp(values, law.cdf, method="asymp").statistic
    assert distance <= math.sqrt(math.log(2 / P) / (2 * len(values))) + moved
    spread = 6 * math.sqrt((law.stats("k") + 2) / (4 * len(values)))
    assert abs(values.std() / law.std() - 1) <= spread + half_bit / law.std()
    assert low - half_bit <= values.min() and values.max() <= high + half_bit
    assert max(law.cdf(values.min()), law.sf(values.max())) <= 21 / len(values) + moved


def on(low: float, high: float):
    return scipy.stats.uniform(low, high - low)


def cut(mean: float, std: float, a: float, b: float):
    return scipy.stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std)


# --- signatures ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_torchs_signature_is_the_beginning_of_ours(name):
    theirs = list(inspect.signature(getattr(nn.init, name)).parameters.values())
    ours = list(inspect.signature(getattr(fastinit, name)).parameters.values())
    assert [(p.name, p.kind, p.default) for p in ours[: len(theirs)]] == [(p.name, p.kind, p.default) for p in theirs]
    for parameter in ours[len(theirs) :]:
        assert parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty


@pytest.mark.parametrize("name", NAMES)
def test_all_arguments_by_position_and_by_name(name):
    """Torch's, each at its default or, where it has none, at a value; the tensor too goes by its name."""
    parameters = list(inspect.signature(getattr(nn.init, name)).parameters.values())[1:]
    needed = NEEDED.get(name, ())
    values = [*needed, *(p.default for p in parameters if p.default is not p.empty)]
    by_name = dict(zip((p.name for p in parameters), values, strict=True))

    def filled(call):
        torch.manual_seed(4)
        tensor = torch.full((6, 4, 3) if name == "dirac_" else (6, 4), 7.0)
        assert call(getattr(fastinit, name), tensor) is tensor
        return tensor

    plain = filled(lambda fill, tensor: fill(tensor, *needed))
    assert torch.equal(filled(lambda fill, tensor: fill(tensor, *values)), plain)
    assert torch.equal(filled(lambda fill, tensor: fill(tensor=tensor, **by_name)), plain) and not (plain == 7).any()


@pytest.mark.parametrize("name", [name for name in NAMES if "generator" in inspect.signature(getattr(nn.init, name)).parameters])
def test_a_generator_is_advanced_and_decides(name):
    first, second = (torch.Generator().manual_seed(42) for _ in range(2))
    fills = [getattr(fastinit, name)(torch.empty(5, 4), *NEEDED.get(name, ()), generator=g) for g in (first, first, second)]
    assert torch.equal(fills[0], fills[2]) and not torch.equal(fills[0], fills[1])


# --- plain laws ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_uniform_and_normal(dims, seed):
    rng = random.Random(10 * dims + seed)
    size = shape_of(rng, dims, *((30, 50) if dims < 4 else (12, 20)))
    a = rng.uniform(-3, 3)
    b = a + rng.uniform(1, 5)
    torch.manual_seed(seed)
    check_law(fastinit.uniform_(torch.empty(size), a=a, b=b), on(a, b))
    mean, std = rng.uniform(-3, 3), rng.uniform(1, 5)
    check_law(fastinit.normal_(torch.empty(size), mean=mean, std=std), scipy.stats.norm(mean, std))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dims", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_trunc_normal_between_random_bounds(dtype, dims, seed):
    rng = random.Random(10 * dims + seed)
    size = shape_of(rng, dims, *((30, 50) if dims < 4 else (8, 12)))
    mean, std = rng.uniform(-3, 3), rng.uniform(0.1, 1)
    a, b = rng.uniform(mean - 2 * std, mean), rng.uniform(mean, mean + 2 * std)
    torch.manual_seed(seed)
    tensor = fastinit.trunc_normal_(torch.empty(size, dtype=dtype), mean=mean, std=std, a=a, b=b)
    assert a <= tensor.min().item() and tensor.max().item() <= b  # torch allows the rounded bounds, which may lie outside
    check_law(tensor, cut(mean, std, a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("a", "b"), [(-2.0, 2.0), (2.0, 3.0), (-3.0, -2.0), (4.0, 4.5)])
def test_trunc_normal_with_the_mean_inside_and_outside(dtype, a, b):
    """Early versions of torch warn when the mean is far outside: their law is wrong then. Here it is right, without a warning."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = fastinit.trunc_normal_(torch.empty(10_000, dtype=dtype), 0.0, 1.0, a, b)
    assert a <= tensor.min().item() and tensor.max().item() <= b
    check_law(tensor, cut(0.0, 1.0, a, b))


@pytest.mark.parametrize(
    ("dtype", "least"), [(torch.float32, 5000), (torch.float64, 5000), (torch.float16, 3000), (torch.bfloat16, 1000)], ids=str
)
def test_trunc_normal_has_many_values(dtype, least):
    """Of 10,000, PyTorch's least numbers of distinct ones."""
    torch.manual_seed(2)
    tensor = fastinit.trunc_normal_(torch.empty(10_000, dtype=dtype))
    assert tensor.isfinite().all() and len(tensor.unique()) > least


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_bounds_of_20_sigmas_are_not_reached(dtype):
    torch.manual_seed(3)
    tensor = fastinit.trunc_normal_(torch.empty(10_000, dtype=dtype), 0.0, 0.1, -2.0, 2.0)
    assert tensor.abs().max() < 2
    check_law(tensor, scipy.stats.norm(0.0, 0.1))


@pytest.mark.parametrize("dims", [1, 2, 4])
def test_constants_reach_every_element(dims):
    rng = random.Random(dims)
    size, value = shape_of(rng, dims, 1, 5), rng.uniform(1, 10)
    for fill, expected in ((lambda t: fastinit.constant_(t, value), value), (fastinit.ones_, 1.0), (fastinit.zeros_, 0.0)):
        assert (fill(torch.full(size, -7.0)) == torch.tensor(expected)).all()


# --- scaled by fans -----------------------------------------------------------------------------------------------------------


def fans_of(size: list[int]) -> tuple[int, int]:
    positions = math.prod(size[2:])
    return size[1] * positions, size[0] * positions


@pytest.mark.parametrize("dims", [2, 4])
@pytest.mark.parametrize("gain", [None, 0.37, 1.9])
def test_xavier(dims, gain):
    size = shape_of(random.Random(dims), dims, *((20, 25) if dims == 2 else (12, 16)))
    std = (gain or 1.0) * math.sqrt(2 / sum(fans_of(size)))
    options = {} if gain is None else {"gain": gain}
    torch.manual_seed(5)
    check_law(fastinit.xavier_uniform_(torch.empty(size), **options), on(-math.sqrt(3) * std, math.sqrt(3) * std))
    check_law(fastinit.xavier_normal_(torch.empty(size), **options), scipy.stats.norm(0, std))


@pytest.mark.parametrize("dims", [2, 4])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("a", [None, 0.2, 1.7])
def test_kaiming(dims, mode, a):
    size = shape_of(random.Random(dims), dims, *((20, 25) if dims == 2 else (12, 16)))
    std = math.sqrt(2 / ((1 + (a or 0.0) ** 2) * fans_of(size)[mode == "fan_out"]))
    options = {} if a is None else {"a": a}
    torch.manual_seed(6)
    check_law(fastinit.kaiming_uniform_(torch.empty(size), mode=mode, **options), on(-math.sqrt(3) * std, math.sqrt(3) * std))
    check_law(fastinit.kaiming_normal_(torch.empty(size), mode=mode, **options), scipy.stats.norm(0, std))


LINEAR = ["linear", *(f"conv{n}d" for n in (1, 2, 3)), *(f"conv_transpose{n}d" for n in (1, 2, 3)), "sigmoid"]
GAINS = [(name, 0, 1.0) for name in LINEAR]
GAINS += [("tanh", 0, 1.6666666666666667), ("relu", 0, 1.4142135623730951), ("selu", 0, 0.75)]
GAINS += [("leaky_relu", a, gain) for a, gain in ((0, 1.4142135623730951), (0.01, 1.4141428569978354), (10, 0.14071950894605836))]


@pytest.mark.parametrize(("nonlinearity", "a", "gain"), GAINS)
def test_gains(nonlinearity, a, gain):
    """As ratios of standard deviations: equal words, so that only roundings differ."""
    for fill in (fastinit.kaiming_normal_, fastinit.kaiming_uniform_):
        one = fill(torch.empty(8, 5, dtype=torch.float64), nonlinearity="linear", key=3)
        scaled = fill(torch.empty(8, 5, dtype=torch.float64), a, nonlinearity=nonlinearity, key=3)
        torch.testing.assert_close(scaled, gain * one, rtol=16 * torch.finfo(torch.float64).eps, atol=0)


@pytest.mark.parametrize("fill", [fastinit.kaiming_normal_, fastinit.kaiming_uniform_])
def test_gains_of_nothing_known_are_refused(fill):
    rng = random.Random(7)
    for length in (2, 5, 25):
        name = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=length))
        with pytest.raises(ValueError, match=name):
            fill(torch.empty(3, 3), nonlinearity=name)
    for slope in (True, [1], {"a": "b"}):  # torch calls all of these a ValueError
        with pytest.raises(TypeError, match="a must be"):
            fill(torch.empty(3, 3), slope)


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_no_elements_are_worth_a_warning(name):
    for functions in (nn.init, fastinit):
        tensor = torch.empty(0, 1)
        with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
            assert getattr(functions, name)(tensor) is tensor


# --- structured ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [3, 4, 5])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_dirac_has_as_many_ones_as_fit(dims, groups):
    rng = random.Random(10 * dims + groups)
    for _ in range(5):
        out, inputs, *kernel = shape_of(rng, dims, 1, 5)
        inputs = rng.randint(1, 5 * groups)
        tensor = fastinit.dirac_(torch.randn(out * groups, inputs, *kernel), groups)
        assert int((tensor == 1).sum()) == int((tensor != 0).sum()) == min(out, inputs) * groups


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 3])
def test_dirac_passes_inputs_on(dims, groups):
    """Every group's first outputs are the inputs, bit for bit, but for the borders; its other outputs are 0."""
    conv = (functional.conv1d, functional.conv2d, functional.conv3d)[dims - 1]
    inputs, per_group = 3, 3 if groups == 3 else 9
    x = torch.randn(8, inputs, *[5] * dims, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    inner = x[(..., *[slice(1, -1)] * dims)]
    outputs = conv(x, fastinit.dirac_(torch.randn(per_group * groups, inputs, *[3] * dims, dtype=torch.float64), groups))
    for of_group in outputs.split(per_group, dim=1):
        assert torch.equal(of_group[:, :inputs], inner) and not of_group[:, inputs:].any()
    if groups == inputs:  # and as the kernel of a convolution in groups, one channel each
        alone = conv(x, fastinit.dirac_(torch.randn(2 * groups, 1, *[3] * dims, dtype=torch.float64), groups), groups=groups)
        assert torch.equal(alone[:, ::2], inner) and not alone[:, 1::2].any()


@pytest.mark.parametrize("std", [None, 0.02, 0.17])
def test_sparse(std):
    rng = random.Random(9)
    rows, columns = shape_of(rng, 2, 30, 35)
    sparsity = rng.uniform(0.1, 0.2)
    torch.manual_seed(9)
    tensor = fastinit.sparse_(torch.empty(rows, columns), sparsity=sparsity, **({} if std is None else {"std": std}))
    assert ((tensor == 0).sum(0) == math.ceil(sparsity * rows)).all()
    check_law(tensor[tensor != 0], scipy.stats.norm(0, std or 0.01))


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (20, 2, 3, 4), (2, 3, 4, 5), (64, 64), (1, 1)])
@pytest.mark.parametrize("gain", [None, 0.13, 1.9])
def test_orthogonal(shape, gain):
    """Rows, or columns where there are fewer, orthogonal and as long as the gain says."""
    torch.manual_seed(10)
    matrix = fastinit.orthogonal_(torch.zeros(shape), **({} if gain is None else {"gain": gain})).flatten(1).double()
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    square = (gain or 1.0) ** 2
    tolerance = 32 * torch.finfo(torch.float32).eps * square
    torch.testing.assert_close(short @ short.T, square * torch.eye(len(short), dtype=torch.float64), rtol=0, atol=tolerance)
