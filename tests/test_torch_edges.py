"""Torch's edges under torch's names: every dtype, laws without width, numbers that are no floats, names of old."""

import decimal
import fractions
import inspect
import math
import warnings
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import fastinit
from fastinit._core.check import ALL_DTYPES, COMPLEX_DTYPES, FLOAT_DTYPES, ZEROED_DTYPES

pytestmark = pytest.mark.one_of_each
SMALL = (torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
CONSTANT = {"zeros_": (), "ones_": (), "constant_": (2,), "eye_": (), "dirac_": ()}
COMPLEX = {
    "uniform_": (-1.0, 2.0),
    "normal_": (0.5, 2.0),
    "xavier_uniform_": (1.5,),
    "xavier_normal_": (1.5,),
    "kaiming_uniform_": (0.3,),
    "kaiming_normal_": (0.3,),
}


def bits(tensor):
    return tensor.detach().resolve_conj().contiguous().flatten().view(torch.uint8)


# --- what is not drawn --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("name", CONSTANT)
def test_constants_are_those_of_torch_in_every_dtype(name, dtype):
    shape = (4, 3, 2) if name == "dirac_" else (4, 3)
    theirs, ours = (torch.full(shape, 1).to(dtype) for _ in range(2))
    if dtype not in ZEROED_DTYPES and name not in ("ones_", "constant_"):  # torch writes 2^-127
        with pytest.raises((TypeError, ValueError), match="float8_e8m0fnu"):
            getattr(fastinit, name)(ours, *CONSTANT[name])
        return
    try:
        getattr(nn.init, name)(theirs, *CONSTANT[name])
    except RuntimeError:  # eye_ of a few dtypes
        theirs = getattr(nn.init, name)(torch.ones(shape), *CONSTANT[name]).to(dtype)
    assert getattr(fastinit, name)(ours, *CONSTANT[name]) is ours and torch.equal(bits(ours), bits(theirs))


VALUES = [2, 2.7, -1, 0.0, True, False, 1e5, 1 + 2j, math.nan, -math.inf, np.float32(0.3), np.int64(3), torch.tensor(2.5), 2**40]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_a_value_is_torchs_or_refused(dtype, value):
    """Where torch raises, too; and where it would write another value: a wrapped one, one whose sign is lost, or infinity."""
    theirs, ours = (torch.ones(3).to(dtype) for _ in range(2))
    lost = dtype is torch.float8_e8m0fnu or (dtype.is_floating_point and isinstance(value, complex))
    lost = lost or (dtype is torch.complex32 and abs(value) > 65504)
    wrapped = not dtype.is_signed and not dtype.is_floating_point and dtype is not torch.bool
    try:
        nn.init.constant_(theirs, value)
    except RuntimeError:
        theirs = None
    try:
        fastinit.constant_(ours, value)
    except (TypeError, ValueError) as error:
        assert str(dtype) in str(error) and (theirs is None or lost or wrapped or value == -math.inf)
        assert (ours.to(torch.complex128) == 1).all()
    else:
        assert theirs is not None and torch.equal(bits(ours), bits(theirs))


def test_great_integers_are_exact():
    for dtype, value in ((torch.int64, 2**63 - 1), (torch.int64, -(2**63)), (torch.uint64, 2**63), (torch.int64, 2**53 + 1)):
        assert fastinit.constant_(torch.empty(2, dtype=dtype), value).tolist() == [value] * 2
    for dtype, value in ((torch.int64, 2**63), (torch.uint8, 256), (torch.int8, -129), (torch.uint64, -1)):
        with pytest.raises(ValueError, match=str(value)):
            fastinit.constant_(torch.empty(2, dtype=dtype), value)


FLOAT4 = getattr(torch, "float4_e2m1fn_x2", None)  # since torch 2.8
REFUSED = [*filter(None, [FLOAT4]), torch.float8_e8m0fnu, *SMALL, torch.int8, torch.uint64, torch.bool]


@pytest.mark.parametrize("dtype", REFUSED, ids=str)
@pytest.mark.parametrize("name", [*COMPLEX, "trunc_normal_", "truncated_normal_", "glorot_uniform_", "orthogonal_", "sparse_"])
def test_what_cannot_be_drawn_is_refused_by_name(name, dtype):
    tensor = torch.zeros(4, 4, dtype=torch.uint8).view(dtype) if dtype.itemsize == 1 else torch.zeros(4, 4, dtype=dtype)
    state = torch.get_rng_state()
    with pytest.raises(TypeError, match=rf"cannot fill a {dtype} tensor.*then convert"):
        getattr(fastinit, name)(tensor, *[0.5][: name == "sparse_"])
    assert not tensor.view(torch.uint8).any() and torch.equal(state, torch.get_rng_state())


# --- complex numbers ----------------------------------------------------------------------------------------------------------


def law_of_parts(name, arguments, shape):
    """What torch draws the real and the imaginary parts from."""
    fan_out, fan_in = shape
    std = {
        "xavier": arguments[0] * math.sqrt(2 / (fan_in + fan_out)),
        "kaiming": math.sqrt(2 / ((1 + arguments[0] ** 2) * fan_in)),
    }.get(name.split("_")[0])
    if name == "uniform_":
        return scipy.stats.uniform(arguments[0], arguments[1] - arguments[0])
    if name == "normal_":
        return scipy.stats.norm(arguments[0], arguments[1] / math.sqrt(2))
    return (
        scipy.stats.uniform(-math.sqrt(3) * std, 2 * math.sqrt(3) * std)
        if "uniform" in name
        else scipy.stats.norm(0, std / math.sqrt(2))
    )


@pytest.mark.parametrize("dtype", COMPLEX_DTYPES, ids=str)
@pytest.mark.parametrize("name", COMPLEX)
def test_parts_of_complex_numbers_have_torchs_laws(name, dtype):
    shape = (120, 250)
    for functions in (fastinit, nn.init):
        torch.manual_seed(5)
        filled = torch.view_as_real(getattr(functions, name)(torch.empty(shape, dtype=dtype), *COMPLEX[name])).double()
        law = law_of_parts(name, COMPLEX[name], shape)
        for part in filled.unbind(-1):
            distance = scipy.stats.ks_1samp(part.flatten().numpy(), law.cdf, method="asymp").statistic
            assert distance < math.sqrt(math.log(2e6) / (2 * part.numel())) + torch.finfo(dtype).eps, functions.__name__
        assert abs(torch.corrcoef(filled.flatten(0, 1).T)[0, 1]) < 5.2 / math.sqrt(filled.numel() / 2), functions.__name__


def in_every_way(fill, dtype):
    """The same values in memory of many kinds."""
    yield fill(torch.zeros(6, 5, dtype=dtype))
    yield fill(torch.zeros(5, 6, dtype=dtype).t())
    yield fill(torch.zeros(6, 10, dtype=dtype)[:, ::2])
    yield fill(torch.zeros(6, 5, dtype=dtype).conj())
    yield fill(torch.zeros(6, 5, dtype=dtype, requires_grad=True))
    yield fill(nn.Parameter(torch.zeros(6, 5, dtype=dtype)))
    with torch.inference_mode():
        yield fill(torch.zeros(6, 5, dtype=dtype)).clone()
    with fastinit.backend("reference"):
        yield fill(torch.zeros(6, 5, dtype=dtype))
    yield make_fx(lambda t: fill(t.clone()))(torch.zeros(6, 5, dtype=dtype))(torch.zeros(6, 5, dtype=dtype))
    yield torch.func.vmap(fill)(torch.zeros(2, 6, 5, dtype=dtype))[1]


@pytest.mark.parametrize("dtype", COMPLEX_DTYPES, ids=str)
@pytest.mark.parametrize("name", COMPLEX)
def test_a_complex_tensor_is_filled_as_its_parts_in_any_memory(name, dtype):
    fill = partial(
        getattr(fastinit, name),
        **dict(zip(list(inspect.signature(getattr(nn.init, name)).parameters)[1:], COMPLEX[name], strict=False)),
        key=7,
    )
    law = fill.func.__fastinit_law__(torch.Size((6, 5)), dtype, {k: v for k, v in fill.keywords.items() if k != "key"})
    parts = torch.empty(6, 5, 2, dtype=dtype.to_real())
    if law.name == "uniform":
        fastinit.uniform_(parts, *law.parameters, key=7)
    else:
        fastinit.normal_(parts, law.parameters[0], law.parameters[1] / math.sqrt(2), key=7)
    filled = list(in_every_way(fill, dtype))
    assert len(filled) == 10 and all(torch.equal(bits(each), bits(parts)) for each in filled)


def test_one_draw_and_one_version():
    tensor, twin = torch.empty(5, dtype=torch.complex64), torch.empty(5, 2)
    torch.manual_seed(3)
    fastinit.uniform_(tensor)
    version, after = tensor._version, torch.get_rng_state()
    torch.manual_seed(3)
    fastinit.uniform_(twin)
    assert version == 1 and torch.equal(after, torch.get_rng_state()) and torch.equal(torch.view_as_real(tensor), twin)


@pytest.mark.parametrize("box", [(5, 1, 7, 7), (12, 3, 4, 10)])
def test_shards_of_complex_tensors(box):
    """Local elements have the words of their places in the whole tensor."""
    from fastinit._core.laws import normal
    from fastinit._core.plan import Box
    from fastinit._core.recipes import recipe
    from fastinit._fill import plans_of, run

    start, rows, cols, pitch = box
    whole = fastinit.normal_(torch.empty(50, dtype=torch.complex64), key=4)
    part = torch.empty(rows * cols, dtype=torch.complex64)
    run(plans_of([(part, Box(*box))], recipe(normal(0.0, 1.0), torch.complex64), 4))
    at = torch.tensor([start + r * pitch + c for r in range(rows) for c in range(cols)])
    assert torch.equal(part, whole[at])


def test_sparse_complex_matrices():
    tensor = fastinit.sparse_(torch.empty(40, 30, dtype=torch.complex128), 0.25, 0.5, key=9)
    assert ((tensor == 0).sum(0) == 10).all()
    rest = tensor != 0
    assert torch.equal(tensor[rest], fastinit.normal_(torch.empty(40, 30, dtype=torch.complex128), 0.0, 0.5, key=9)[rest])


def misaligned(shape):
    """Memory of complex128 that torch's own fill_ cannot write: it ends the process."""
    count, raw = 2 * math.prod(shape), bytearray(32 * math.prod(shape) + 32)
    start = -torch.frombuffer(raw, dtype=torch.uint8).data_ptr() % 16 + 8
    return torch.frombuffer(raw, dtype=torch.complex128, offset=start, count=count).view(*shape, 2)[..., 0]


@pytest.mark.parametrize("name", [*CONSTANT, "sparse_", "normal_"])
def test_complex_numbers_in_memory_that_is_not_aligned(name):
    shape = (40, 8, 3) if name == "dirac_" else (40, 24)
    arguments = {"constant_": (1 - 2j,), "sparse_": (0.5,)}.get(name, ())
    tensor, plain = misaligned(shape), torch.empty(shape, dtype=torch.complex128)
    assert tensor.data_ptr() % 16 == 8 and getattr(fastinit, name)(tensor, *arguments, key=1) is tensor
    assert torch.equal(torch.view_as_real(tensor), torch.view_as_real(getattr(fastinit, name)(plain, *arguments, key=1)))
    conjugate = getattr(fastinit, name)(torch.zeros(shape, dtype=torch.complex128).conj(), *arguments, key=1)
    assert conjugate.is_conj() and torch.equal(conjugate.resolve_conj(), plain)


def test_models_with_complex_parameters():
    make = lambda: nn.Linear(4, 3, dtype=torch.complex64)  # noqa: E731
    model = make()
    report = fastinit.initialize_(model, fastinit.torch_like, seed=2)
    weight = fastinit.kaiming_uniform_(torch.empty(3, 4, dtype=torch.complex64), math.sqrt(5), key=report["weight"].key)
    assert torch.equal(model.weight, weight) and report["bias"].state == "filled"
    assert (make().apply(fastinit.Scheme({nn.Linear: {"*": fastinit.ones_}})).weight == 1).all()
    ones = fastinit.initialize_(make(), fastinit.Scheme({nn.Linear: {"*": fastinit.ones_}}), seed=0)
    assert {entry.state for entry in ones.entries} == {"filled"}
    with torch.device("meta"):
        moved = make()
    fastinit.initialize_(moved, fastinit.Scheme({nn.Linear: {"*": partial(fastinit.constant_, val=2j)}}), seed=0, device="cpu")
    assert (moved.weight == 2j).all() and (moved.bias == 2j).all()
    for apply in (lambda m: m.apply(fastinit.keras_like), lambda m: fastinit.initialize_(m, seed=0)):
        with pytest.raises(TypeError, match=r"complex64.*view_as_real"):  # Keras has no complex initializers
            apply(make())


def test_integers_and_small_floats_of_a_model():
    model = nn.Module()
    model.count, model.scale = nn.Buffer(torch.ones(3, dtype=torch.int32)), nn.Parameter(torch.ones(3).to(SMALL[0]))
    rules = {"count": partial(fastinit.constant_, val=5), "scale": fastinit.zeros_}
    fastinit.initialize_(model, fastinit.Scheme(rules), seed=0)
    assert model.count.tolist() == [5, 5, 5] and not model.scale.float().any()
    model.mask = nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False)
    assert fastinit.initialize_(model, fastinit.Scheme({**rules, "mask": fastinit.zeros_}), seed=0)["mask"].state == "filled"
    assert not model.mask.any()
    with pytest.raises(TypeError, match=r"mask.*int8"):
        fastinit.initialize_(model, fastinit.Scheme({**rules, "mask": fastinit.normal_}), seed=0)
    del model.mask
    with pytest.raises(TypeError, match=r"scale.*float8_e4m3fnuz"):
        fastinit.initialize_(model, fastinit.Scheme({"count": None, "scale": fastinit.normal_}), seed=0)


# --- laws without width -------------------------------------------------------------------------------------------------------

WIDTHLESS = {
    "normal": (lambda t, **kw: fastinit.normal_(t, 2.0, 0.0, **kw), 2.0),
    "negative zero": (lambda t, **kw: fastinit.normal_(t, 2.0, -0.0, **kw), 2.0),
    "uniform": (lambda t, **kw: fastinit.uniform_(t, 0.1, 0.1, **kw), 0.1),
    "cut": (lambda t, **kw: fastinit.trunc_normal_(t, 0.5, 0.0, **kw), 0.5),
    "cut below": (lambda t, **kw: fastinit.trunc_normal_(t, -5.0, 0.0, **kw), -2.0),
    "cut between equal bounds": (lambda t, **kw: fastinit.trunc_normal_(t, 0.0, 1.0, 0.1, 0.1, **kw), 0.1),
    "two sigmas": (lambda t, **kw: fastinit.truncated_normal_(t, 0.1, 0.0, **kw), 0.1),
    "folded": (lambda t, **kw: fastinit.truncated_normal_(t, 0.5, 0.0, method="fmod", **kw), 0.5),
    "xavier uniform": (lambda t, **kw: fastinit.xavier_uniform_(t, 0, **kw), 0.0),
    "xavier normal": (lambda t, **kw: fastinit.xavier_normal_(t, 0.0, **kw), 0.0),
    "kaiming": (lambda t, **kw: fastinit.kaiming_normal_(t, math.inf, **kw), 0.0),
    "sparse": (lambda t, **kw: fastinit.sparse_(t, 0.5, 0.0, **kw), 0.0),
}


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("case", WIDTHLESS)
def test_a_law_without_width_is_its_value(case, dtype):
    fill, value = WIDTHLESS[case]
    tensor = fill(torch.full((6, 4), 7.0).to(dtype), key=1)
    assert torch.equal(bits(tensor), bits(torch.full((6, 4), value, dtype=torch.float64).to(dtype)))
    with fastinit.backend("reference"):
        assert torch.equal(bits(fill(torch.full((6, 4), 7.0).to(dtype), key=1)), bits(tensor))


def test_no_width_draws_as_any_width():
    """What is drawn after it does not depend on a std."""
    states = []
    for std in (0.0, 1.0):
        torch.manual_seed(1)
        fastinit.normal_(torch.empty(3), 0.0, std)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_no_width_within_bounds_of_no_value():
    """A cut between bounds keeps to them; a lone value is rounded, as in torch."""
    with pytest.raises(ValueError, match=r"no torch.bfloat16 value lies in"):
        fastinit.trunc_normal_(torch.empty(3, dtype=torch.bfloat16), 0.1, 0.0, 0.1, 0.10005)
    assert fastinit.trunc_normal_(torch.empty(1, dtype=torch.bfloat16), 0.1, 0.0, 0.0, 0.1).item() <= 0.1


def test_no_width_in_a_model():
    model = nn.Linear(3, 2)
    fastinit.initialize_(model, fastinit.Scheme({nn.Linear: {"*": partial(fastinit.normal_, mean=3.0, std=0.0)}}), seed=0)
    assert (model.weight == 3).all() and (model.bias == 3).all()


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_a_subnormal_bound_leaves_no_negative_zero(dtype):
    """Where both bounds round to 0, the one value is that of the lower bound, +0."""
    for fill in (lambda t: fastinit.trunc_normal_(t, 0, 1, 0, 1e-320), lambda t: fastinit.uniform_(t, 0, 1e-320)):
        tensor = fill(torch.full((64,), 7.0).to(dtype))
        assert not torch.signbit(tensor.float()).any() and (tensor.double() <= 1e-320).all()


# --- numbers ------------------------------------------------------------------------------------------------------------------


class Number:
    def __float__(self):
        return 0.5


HALVES = {
    "tensor": lambda: torch.tensor(0.5),
    "tensor of one element": lambda: torch.tensor([0.5], dtype=torch.float64),
    "parameter": lambda: nn.Parameter(torch.tensor(0.5)),
    "numpy": lambda: np.float32(0.5),
    "half": lambda: np.float16(0.5),
    "array": lambda: np.array(0.5),
    "decimal": lambda: decimal.Decimal("0.5"),
    "fraction": lambda: fractions.Fraction(1, 2),
    "float of its own": Number,
}
WITH_A_HALF = {
    "normal_": lambda f, x: f.normal_(torch.empty(4, 3), x, x),
    "uniform_": lambda f, x: f.uniform_(torch.empty(4, 3), -1, x),
    "trunc_normal_": lambda f, x: f.trunc_normal_(torch.empty(4, 3), 0.0, x, -1, x),
    "truncated_normal_": lambda f, x: f.truncated_normal_(torch.empty(4, 3), x, x),
    "xavier_uniform_": lambda f, x: f.xavier_uniform_(torch.empty(4, 3), x),
    "kaiming_normal_": lambda f, x: f.kaiming_normal_(torch.empty(4, 3), x),
    "glorot_normal_": lambda f, x: f.glorot_normal_(torch.empty(4, 3), x),
    "variance_scaling_": lambda f, x: f.variance_scaling_(torch.empty(4, 3), x, fan_in=x),
    "constant_": lambda f, x: f.constant_(torch.empty(4, 3), x),
    "sparse_": lambda f, x: f.sparse_(torch.empty(4, 3), x, x),
    "orthogonal_": lambda f, x: f.orthogonal_(torch.empty(4, 3), x),
}


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("name", WITH_A_HALF)
def test_numbers_of_any_kind(name, kind):
    torch.manual_seed(1)
    expected = WITH_A_HALF[name](fastinit, 0.5)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of a parameter that becomes a number
        assert torch.equal(WITH_A_HALF[name](fastinit, HALVES[kind]()), expected)


NO_NUMBERS = ["0.5", b"1", None, 1j, np.complex64(1), np.str_("1"), [0.5], np.ones(2), torch.ones(2), torch.tensor(1j), object()]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=[type(value).__name__ for value in NO_NUMBERS])
def test_what_is_no_number_is_named(value):
    for fill in (
        lambda t: fastinit.normal_(t, std=value),
        lambda t: fastinit.uniform_(t, b=value),
        lambda t: fastinit.constant_(t, value),
        lambda t: fastinit.glorot_uniform_(t, gain=value),
    ):
        tensor = torch.full((4, 3), 7.0)
        with pytest.raises(TypeError, match=r"must be (a number|real)"):
            fill(tensor)
        assert (tensor == 7).all()


# --- names --------------------------------------------------------------------------------------------------------------------


def names_of_torch():
    """Functions that code calls through torch.nn.init: its own, the deprecated ones, and the helpers of fans."""
    own = {name for name, value in vars(nn.init).items() if inspect.isfunction(value) and not name.startswith("_")}
    return sorted(own | {"_calculate_fan_in_and_fan_out", "_calculate_correct_fan"})


@pytest.mark.parametrize("name", names_of_torch())
def test_every_function_of_torchs_is_here(name):
    assert callable(getattr(fastinit, name))


@pytest.mark.parametrize("name", [name for name in names_of_torch() if hasattr(nn.init, name + "_")])
def test_deprecated_names_warn_and_fill(name):
    arguments = {"constant": (0.5,), "sparse": (0.5,)}.get(name, ())
    shape = (4, 3, 2) if name == "dirac" else (4, 3)
    torch.manual_seed(2)
    with pytest.warns(FutureWarning, match=rf"fastinit\.{name} is deprecated.*fastinit.{name}_"):
        filled = getattr(fastinit, name)(torch.empty(shape), *arguments)
    torch.manual_seed(2)
    assert torch.equal(filled, getattr(fastinit, f"{name}_")(torch.empty(shape), *arguments))
    assert name not in fastinit.__all__ and name not in dir(fastinit)


def test_other_names_are_unknown():
    with pytest.raises(AttributeError, match="module 'fastinit' has no attribute 'gaussian_'"):
        fastinit.gaussian_  # noqa: B018


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu", "conv2d", "conv_transpose3d"])
@pytest.mark.parametrize("param", [None, 0, 0.01, 10])
def test_gains_are_torchs(name, param):
    assert fastinit.calculate_gain(name, param) == nn.init.calculate_gain(name, param)


def test_wrong_gains_are_torchs_errors():
    for arguments in (("swish",), ("leaky_relu", True), ("leaky_relu", [1]), ("leaky_relu", "1")):
        with pytest.raises(ValueError):
            fastinit.calculate_gain(*arguments)


@pytest.mark.parametrize("fill", [fastinit.kaiming_uniform_, fastinit.kaiming_normal_])
def test_modes_and_slopes_as_torch_reads_them(fill):
    plain = fill(torch.empty(8, 5), mode="fan_out", key=1)
    assert torch.equal(fill(torch.empty(8, 5), mode="FAN_OUT", key=1), plain)
    assert torch.equal(fill(torch.empty(8, 5), None, key=1), fill(torch.empty(8, 5), 0.01, key=1))
    relu = fill(torch.empty(8, 5), nonlinearity="relu", key=1)
    for slope in (None, math.nan, "unused", True):  # read by leaky_relu alone
        assert torch.equal(fill(torch.empty(8, 5), slope, nonlinearity="relu", key=1), relu)
