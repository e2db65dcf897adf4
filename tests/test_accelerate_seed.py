"""What a seed decides in `accelerate`, and what it does not: prefixes, half-open uniforms, fills that are left to torch."""

import math
import sys
import types
import warnings

import pytest
import torch
from helpers.serving import expected, parameter
from torch import nn

import fastinit
from fastinit._accelerate import accelerate
from fastinit._core.laws import half_open, uniform
from fastinit._core.recipes import recipe

pytestmark = pytest.mark.usefixtures("nothing_of_accelerate_stays")

# --- prefixes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["stage.1", 0, 3, torch.Size([2]).numel()])
def test_a_prefix_parts_the_keys_of_like_processes(prefix):
    tensors = [parameter() for _ in range(3)]
    with accelerate(seed=5, prefix=prefix):
        nn.init.normal_(tensors[0], 0.5, 2.0)
        nn.init.xavier_normal_(tensors[1], 2.0)
    accelerate(5, prefix=prefix)(lambda: nn.init.normal_(tensors[2], 0.5, 2.0))()
    for n, (tensor, name) in enumerate(zip(tensors[:2], ("normal_", "xavier_normal_"), strict=True)):
        law = {"normal_": {"mean": 0.5, "std": 2.0}, "xavier_normal_": {"gain": 2.0}}[name]
        one = getattr(fastinit, name)(torch.empty(12, 8), **law, key=fastinit.key(5, prefix, n))
        assert torch.equal(tensor, one) and not torch.equal(tensor, expected(name, 5, n))
    assert torch.equal(tensors[2], tensors[0])


def test_without_a_prefix_the_keys_are_as_ever():
    with accelerate(seed=5, prefix=""):
        assert torch.equal(nn.init.normal_(parameter(), 0.5, 2.0), expected("normal_", 5, 0))


def test_wrong_prefixes():
    for prefix in ("stage", 0):
        with pytest.raises(ValueError, match=r"Received: prefix=.* without a seed"):
            accelerate(prefix=prefix)
    for prefix in (None, 1.0, True, ("a", 1)):
        with pytest.raises(TypeError, match="str and int"):
            accelerate(0, prefix=prefix)


# --- uniforms -----------------------------------------------------------------------------------------------------------------

UNIFORMS = {  # name -> served, direct, b, size
    "uniform_": (lambda t: nn.init.uniform_(t), lambda t, key: fastinit.uniform_(t, key=key), 1.0, 2048),
    "method": (
        lambda t: t.data.uniform_(to=-1.0, **{"from": -2.0}),
        lambda t, key: fastinit.uniform_(t, -2.0, -1.0, key=key),
        -1.0,
        384,
    ),
    "xavier_uniform_": (
        lambda t: nn.init.xavier_uniform_(t, math.sqrt(128)),
        lambda t, key: fastinit.xavier_uniform_(t, math.sqrt(128), key=key),
        1.0,
        384,
    ),
    "kaiming_uniform_": (
        lambda t: nn.init.kaiming_uniform_(t, nonlinearity="relu"),
        lambda t, key: fastinit.kaiming_uniform_(t, nonlinearity="relu", key=key),
        0.125,
        384,
    ),
}


@pytest.mark.parametrize("name", UNIFORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_a_uniform_never_reaches_its_upper_bound(name, dtype):
    """Where direct calls give b, up to thousands of times, there is the dtype's last value below it, and nothing else moves."""
    serve, closed, b, size = UNIFORMS[name]
    size = size if dtype is torch.bfloat16 else 384
    ours = nn.Parameter(torch.empty(size, size, dtype=dtype), requires_grad=False)
    with accelerate(seed=5):
        serve(ours)
    theirs, ours = closed(torch.empty(size, size, dtype=dtype), fastinit.key(5, 0)).float(), ours.float()
    others = theirs != b
    assert not others.all() and torch.equal(ours[others], theirs[others]) and ours.max() == theirs[others].max() < b
    if name == "uniform_":
        assert torch.log1p(-ours).isfinite().all()


EDGES = {  # dtype, a, b -> the greatest value
    "float32": (torch.float32, 0.0, 1.0, 1 - 2.0**-24),
    "float64": (torch.float64, -1.0, 2.0, 2 - 2.0**-52),
    "float16": (torch.float16, 0.0, 1.0, 1 - 2.0**-11),
    "e5m2": (torch.float8_e5m2, 0.0, 1.0, 0.875),
    "b is zero": (torch.float32, -1.0, 0.0, -(2.0**-149)),
    "b is zero, bfloat16": (torch.bfloat16, -1.0, -0.0, -(2.0**-133)),
    "b is negative": (torch.float32, -2.0, -1.0, -1 - 2.0**-23),
    "b is the dtype's last": (torch.float16, 0.0, 65504.0, 65472.0),
    "b is beyond": (torch.float16, 0.0, 1e6, 65504.0),
    "b is no value": (torch.float32, 0.0, 0.1, 0.09999999403953552),
    "b is the only value": (torch.bfloat16, 0.999, 1.0, 1.0),
    "a is the only other": (torch.float32, 1.0, 1 + 2.0**-23, 1.0),
    "subnormal": (torch.float64, 0.0, 1e-320, math.nextafter(1e-320, 0.0)),
}


@pytest.mark.parametrize("case", EDGES)
def test_the_greatest_value_is_the_last_below_b(case):
    dtype, a, b, greatest = EDGES[case]
    opened, closed = recipe(half_open(uniform(a, b)), dtype), recipe(uniform(a, b), dtype)
    assert opened.high == greatest and opened.low == closed.low
    assert opened.constants._replace(high=0.0) == closed.constants._replace(high=0.0)
    with accelerate(seed=5):
        filled = nn.init.uniform_(nn.Parameter(torch.empty(4096, dtype=dtype), requires_grad=False), a, b)
    assert a <= filled.double().min() and filled.double().max() <= opened.high


def test_direct_calls_stay_closed_in_and_out_of_a_block():
    with accelerate(seed=5):
        inside = fastinit.uniform_(torch.empty(1 << 12, dtype=torch.bfloat16), key=1)
    assert inside.max() == 1 and torch.equal(inside, fastinit.uniform_(torch.empty(1 << 12, dtype=torch.bfloat16), key=1))


# --- what a seed does not decide ----------------------------------------------------------------------------------------------


class Quantized(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return super().__torch_function__(func, types, args, kwargs or {})


LEFT = {
    "subclass": (lambda: nn.init.normal_(torch.ones(3, 4).as_subclass(Quantized)), "torch.nn.init.normal_", "Quantized"),
    "stand-in": (
        lambda: nn.init.xavier_normal_(torch.ones(3, 4).as_subclass(Quantized)),
        "torch.nn.init.xavier_normal_",
        "own way",
    ),
    "overlap": (lambda: nn.init.uniform_(torch.ones(4, 4).as_strided((3, 4), (2, 1))), "torch.nn.init.uniform_", "share memory"),
    "overlap, private": (
        lambda: nn.init.trunc_normal_(torch.ones(4, 4).as_strided((3, 4), (2, 1))),
        "torch.nn.init.trunc_normal_",
        "share memory",
    ),
    "method": (
        lambda: nn.Parameter(torch.ones(4, 4)).data.as_strided((3, 4), (2, 1)).normal_(),
        "torch.Tensor.normal_",
        "share memory",
    ),
    "torch.func": (
        lambda: torch.func.vmap(lambda x: nn.init.normal_(x.clone()), randomness="different")(torch.ones(3, 4)),
        "torch.nn.init.normal_",
        "torch.func",
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_a_seed_does_not_decide_is_said(case):
    make, name, reason = LEFT[case]
    with accelerate(seed=5), pytest.warns(UserWarning, match="did not decide") as caught:
        filled = make()
    assert filled.shape == (3, 4) and len(caught) == 1 and caught[0].filename == __file__
    text = str(caught[0].message)
    assert text.startswith(name + " ") and reason in text and "accelerate" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with accelerate():
            make()
        with accelerate(seed=5):
            nn.init.normal_(torch.ones(3, 4).as_subclass(Quantized), generator=torch.Generator())
            nn.init.normal_(parameter())


def test_timm_s_function_is_named(monkeypatch):
    def by_hand(tensor, mean, std, a, b):
        return tensor.fill_(std)

    by_hand.__module__ = "timm.layers.weight_init"
    timm = types.ModuleType("timm.layers.weight_init")
    timm._trunc_normal_ = by_hand
    monkeypatch.setitem(sys.modules, "timm.layers.weight_init", timm)
    with accelerate(seed=5), pytest.warns(UserWarning, match=r"timm\.layers\.weight_init\.trunc_normal_ itself filled"):
        timm._trunc_normal_(torch.ones(4, 4).as_strided((3, 4), (2, 1)), 0.0, 1.0, -2.0, 2.0)
