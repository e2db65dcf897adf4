"""Wrong input: the message names the value and the mend, and the tensor keeps its bits and its version."""

import math

import pytest
import torch
from torch import nn

import fastinit

nan, inf = math.nan, math.inf
# function, positional arguments after the tensor, keywords, error, what the message must name
BAD_ARGUMENTS = [
    ("uniform_", (2.0, 1.0), {}, ValueError, "2.0"),
    ("uniform_", (nan, 1.0), {}, ValueError, "nan"),
    ("uniform_", (0.0, inf), {}, ValueError, "inf"),
    ("uniform_", ("0", 1.0), {}, TypeError, "'0'"),
    ("normal_", (nan, 1.0), {}, ValueError, "nan"),
    ("normal_", (0.0, -1.5), {}, ValueError, "-1.5"),
    ("normal_", (0.0, inf), {}, ValueError, "inf"),
    ("truncated_normal_", (0.0, -1.0), {}, ValueError, "-1.0"),
    ("trunc_normal_", (0.0, 1.0, inf, inf), {}, ValueError, "inf"),
    ("truncated_normal_", (0.0, "wide"), {}, TypeError, "wide"),
    ("truncated_normal_", (0.0, 1.0, 3.0, 2.0), {}, ValueError, "3.0"),
    ("truncated_normal_", (0.0, 1.0, nan, 2.0), {}, ValueError, "nan"),
    ("truncated_normal_", (), {"method": "rejection"}, ValueError, "'rejection'"),
    ("truncated_normal_", (0.0, 1.0, -1.0, 2.0), {"method": "fmod"}, ValueError, "symmetric"),
    ("trunc_normal_", (0.0, 1.0, 2.0, -2.0), {}, ValueError, "2.0"),
    ("trunc_normal_", (0.0, -1.0), {}, ValueError, "-1.0"),
    ("variance_scaling_", (0.0,), {}, ValueError, "0.0"),
    ("variance_scaling_", (-2.0,), {}, ValueError, "-2.0"),
    ("variance_scaling_", (nan,), {}, ValueError, "nan"),
    ("variance_scaling_", (1.0, "fan_sum"), {}, ValueError, "'fan_sum'"),
    ("variance_scaling_", (1.0, "fan_in", "cauchy"), {}, ValueError, "'cauchy'"),
    ("variance_scaling_", (), {"fan_in": 0}, ValueError, "fan_in=0"),
    ("variance_scaling_", (), {"fan_in": "5"}, TypeError, "'5'"),
    ("variance_scaling_", (), {"batch_dims": 1}, ValueError, "batch_dims=1"),
    ("variance_scaling_", (), {"fan_in": 5, "fan_out": 5, "batch_dims": -1}, ValueError, "batch_dims=-1"),
    ("variance_scaling_", (), {"fan_in": 10**400}, ValueError, "fan_in=1000"),
    ("glorot_uniform_", (-1.0,), {}, ValueError, "-1.0"),
    ("glorot_uniform_", (), {"batch_dims": -1}, ValueError, "batch_dims=-1"),
    ("glorot_normal_", ("big",), {}, TypeError, "big"),
    ("xavier_uniform_", (-1.0,), {}, ValueError, "-1.0"),
    ("xavier_normal_", (nan,), {}, ValueError, "nan"),
    ("kaiming_uniform_", (0, "fan_avg"), {}, ValueError, "'fan_avg'"),
    ("kaiming_normal_", (0, "fan_in", "swish"), {}, ValueError, "'swish'"),
    ("kaiming_normal_", (nan,), {}, ValueError, "nan"),
    ("kaiming_uniform_", ("a",), {}, TypeError, "'a'"),
    ("orthogonal_", (nan,), {}, ValueError, "nan"),
    ("constant_", ("x",), {}, TypeError, "'x'"),
    ("constant_", (2j,), {}, TypeError, "2j"),
    ("kaiming_normal_", (True,), {}, TypeError, "True"),
    ("constant_", (1e39,), {}, ValueError, "1e+39"),
    ("sparse_", (1.5,), {}, ValueError, "1.5"),
    ("sparse_", (-0.1,), {}, ValueError, "-0.1"),
    ("sparse_", (0.5, -1.0), {}, ValueError, "-1.0"),
    ("dirac_", (), {}, ValueError, "shape=(4, 6)"),
]
EVERY = {
    "uniform_": (), "normal_": (), "truncated_normal_": (), "trunc_normal_": (), "variance_scaling_": (),
    "glorot_uniform_": (), "glorot_normal_": (), "he_uniform_": (), "he_normal_": (), "lecun_uniform_": (),
    "lecun_normal_": (), "xavier_uniform_": (), "xavier_normal_": (), "kaiming_uniform_": (), "kaiming_normal_": (),
    "orthogonal_": (), "zeros_": (), "ones_": (), "constant_": (0.5,), "eye_": (), "sparse_": (0.5,), "dirac_": (),
}  # fmt: skip
NEED_FANS = [name for name in EVERY if name.split("_")[0] in ("variance", "glorot", "he", "lecun", "xavier", "kaiming")]


def bits(tensor):
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8).clone()


def refused(error, tensor, name, *arguments, **options):
    """Call and return the message, having checked that it echoes and mends, and that nothing was written."""
    before, version, state = bits(tensor), tensor._version, torch.get_rng_state()
    with pytest.raises(error) as caught:
        getattr(fastinit, name)(tensor, *arguments, **options)
    assert torch.equal(bits(tensor), before) and tensor._version == version
    assert torch.equal(torch.get_rng_state(), state), "a refused call took a draw"
    return str(caught.value)


def weight(name, dtype=torch.float32):
    return torch.full((4, 6, 3) if name == "dirac_" else (4, 6), 7).to(dtype)


@pytest.mark.parametrize(("name", "arguments", "options", "error", "named"), BAD_ARGUMENTS)
def test_bad_arguments(name, arguments, options, error, named):
    message = refused(error, torch.full((4, 6), 7.0), name, *arguments, **options)
    assert named in message and "Received" in message


DRAWN = [name for name in EVERY if name not in ("zeros_", "ones_", "constant_", "eye_", "dirac_")]


@pytest.mark.one_of_each
@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, torch.bool])
def test_tensors_of_other_dtypes(name, dtype):
    message = refused(TypeError, weight(name, dtype), name, *EVERY[name])
    assert str(dtype) in message and "torch.bfloat16" in message


@pytest.mark.one_of_each
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("thing", [[1.0, 2.0], 3.0, None])
def test_no_tensor_at_all(name, thing):
    with pytest.raises(TypeError) as caught:
        getattr(fastinit, name)(thing, *EVERY[name])
    assert repr(thing) in str(caught.value) and "torch.Tensor" in str(caught.value)


@pytest.mark.parametrize("name", EVERY)
def test_elements_that_share_memory(name):
    tensor = weight(name)[:1].expand_as(weight(name))
    assert "share memory" in refused(ValueError, tensor, name, *EVERY[name])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("source", "error", "named"),
    [
        ({"key": -1}, ValueError, "key=-1"),
        ({"key": 2**64}, ValueError, f"key={2**64}"),
        ({"key": 1.0}, TypeError, "key=1.0"),
        ({"key": True}, TypeError, "key=True"),
        ({"generator": 3}, TypeError, "Received: 3"),
        ({"generator": torch.Generator(), "key": 5}, ValueError, "key=5"),
    ],
)
@pytest.mark.one_of_each
def test_bad_sources(name, source, error, named):
    message = refused(error, weight(name), name, *EVERY[name], **source)
    assert named in message
    with pytest.raises(error) as caught:  # a model on meta must not hide what the real one would refuse
        getattr(fastinit, name)(weight(name).to("meta"), *EVERY[name], **source)
    assert named in str(caught.value)


@pytest.mark.parametrize("key, error", [(None, TypeError), (-1, ValueError), (2**64, ValueError), (0.5, TypeError)])
def test_raw_words_need_a_key(key, error):
    words = torch.full((5,), 7, dtype=torch.int32)
    with pytest.raises(error, match=f"key={key}"):
        fastinit.bits_(words, key=key)
    assert (words == 7).all()


@pytest.mark.parametrize("name", NEED_FANS)
@pytest.mark.parametrize("shape", [(), (7,)])
def test_fans_of_too_few_dimensions(name, shape):
    message = refused(ValueError, torch.full(shape, 7.0), name)
    assert f"shape={shape}" in message and "fan_in=" in message


@pytest.mark.parametrize(
    ("name", "shape"),
    [("orthogonal_", (5,)), ("eye_", (5,)), ("eye_", (2, 2, 2)), ("sparse_", (2, 2, 2)), ("dirac_", (2,) * 6)],
)
def test_wrong_number_of_dimensions(name, shape):
    assert f"shape={shape}" in refused(ValueError, torch.full(shape, 7.0), name, *EVERY[name])


@pytest.mark.parametrize(("groups", "error"), [(0, ValueError), (-1, ValueError), (3, ValueError), (1.5, TypeError)])
def test_dirac_groups(groups, error):
    assert f"groups={groups}" in refused(error, torch.full((4, 2, 3), 7.0), "dirac_", groups)


def test_constants_beyond_a_narrow_dtype():
    assert "448" in refused(ValueError, torch.zeros(3).to(torch.float8_e4m3fn), "constant_", 1000.0)
    assert fastinit.constant_(torch.zeros(2), inf).isinf().all()
    for value in (inf, -inf):
        assert str(value) in refused(ValueError, torch.zeros(3).to(torch.float8_e4m3fn), "constant_", value)
        assert fastinit.constant_(torch.zeros(2).to(torch.float8_e5m2), value).float().tolist() == [value] * 2


@pytest.mark.one_of_each
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors(name, layout):
    tensor = torch.nested.nested_tensor([torch.full((2, 3), 7.0), torch.full((4, 3), 7.0)], layout=layout)
    state = torch.get_rng_state()
    with pytest.raises((TypeError, ValueError), match="nested"):
        getattr(fastinit, name)(tensor, *EVERY[name])
    assert bool((tensor.values() == 7).all()) and torch.equal(torch.get_rng_state(), state)
    for part in tensor.unbind():  # as the message says
        fastinit.ones_(part)
    assert bool((tensor.values() == 1).all())


@pytest.mark.parametrize("name", EVERY)
def test_inference_tensors_are_filled_in_inference_mode_and_outside(name):
    """They keep no version for autograd to miss."""
    plain = getattr(fastinit, name)(weight(name), *EVERY[name], key=5)
    with torch.inference_mode():
        inside, outside = weight(name), weight(name)
        getattr(fastinit, name)(inside, *EVERY[name], key=5)
    getattr(fastinit, name)(outside, *EVERY[name], key=5)
    assert inside.is_inference() and torch.equal(inside, plain) and torch.equal(outside, plain)


def test_a_cut_whose_distance_from_the_mean_is_no_number():
    """Refused before anything is drawn."""
    tensor = torch.full((9,), 7.0, dtype=torch.float64)
    message = refused(ValueError, tensor, "trunc_normal_", -1.6e308, 4e306, 1e308, 1.2e308)
    assert "-1.6e+308" in message and "distance of a cut" in message


@pytest.mark.parametrize("std", [1e-300, 1.0])
def test_bounds_that_no_number_of_sigmas_tells_apart(std):
    """All of the law is at the bound that is nearer to the mean."""
    assert (fastinit.trunc_normal_(torch.full((9,), 7.0), 1e20, std, -2.0, 2.0) == 2).all()


def test_schemes_check_their_rules():
    for rules in ({"Linear": {}}, {int: {}}, {nn.Linear: 3}, {nn.Linear: {"weight": 3}}, {nn.Linear: {0: None}}):
        for make in (fastinit.Scheme, fastinit.keras_like.override):
            with pytest.raises(TypeError, match="Pass"):
                make(rules)
    with pytest.raises(TypeError, match=r"model\.apply"):
        fastinit.keras_like(torch.empty(3))
