"""`accelerate`: what is served has the bits of this package's functions, everything else those of torch."""

import math
import warnings

import pytest
import torch
from helpers.serving import CALLS, CAPTURED, MODULE, WHOLE, expected, own, parameter
from torch import nn
from torch._subclasses import FakeTensorMode

import fastinit
from fastinit._accelerate import accelerate

pytestmark = pytest.mark.usefixtures("nothing_of_accelerate_stays")


@pytest.mark.parametrize("make", [parameter, lambda: torch.empty(12, 8)], ids=["parameter", "tensor"])
@pytest.mark.parametrize("name", CALLS)
def test_the_nth_fill_takes_the_nth_key(name, make):
    tensors = [make(), make()]
    with accelerate(seed=5):
        for tensor in tensors:
            version = tensor._version
            assert getattr(nn.init, name)(tensor, **CALLS[name]) is tensor
            assert tensor._version > version and tensor.is_leaf
    for n, tensor in enumerate(tensors):
        assert torch.equal(tensor, expected(name, 5, n))


@pytest.mark.parametrize("name", WHOLE)
def test_captured_references_are_served(name):
    first, second = parameter(), parameter()
    with accelerate(seed=5):
        CAPTURED[name](first, **CALLS[name])
        CAPTURED[name](second, *CALLS[name].values() if name != "trunc_normal_" else (0.0, 0.02, -0.03, 0.01))
    assert torch.equal(first, expected(name, 5, 0)) and torch.equal(second, expected(name, 5, 1))


def test_captured_references_that_are_not_served():
    first, second, plain = parameter(), parameter(), torch.empty(12, 8)
    with accelerate(seed=5):
        torch.manual_seed(3)
        CAPTURED["orthogonal_"](first)
        CAPTURED["xavier_uniform_"](plain)
        CAPTURED["sparse_"](second, 0.3, 0.5)
    torch.manual_seed(3)
    assert torch.equal(first, nn.init.orthogonal_(torch.empty(12, 8)))
    assert torch.equal(plain, nn.init.xavier_uniform_(torch.empty(12, 8)))
    rest = second != 0  # the values are served, the choice of the zeros is torch's
    assert torch.equal(second[rest], expected("normal_", 5, 0, mean=0.0, std=0.5)[rest]) and (~rest).sum() == 8 * 4


@pytest.mark.parametrize("name", CALLS)
def test_without_a_seed_manual_seed_decides(name):
    tensor = parameter()
    torch.manual_seed(3)
    with accelerate():
        getattr(nn.init, name)(tensor, **CALLS[name])
    torch.manual_seed(3)
    assert torch.equal(tensor, getattr(fastinit, name)(torch.empty(12, 8), **CALLS[name]))


@pytest.mark.parametrize("name", CALLS)
def test_a_generator_goes_before_the_seed_and_counts(name):
    tensors = [parameter(), parameter()]
    with accelerate(seed=5):
        getattr(nn.init, name)(tensors[0], **CALLS[name], generator=torch.Generator().manual_seed(9))
        getattr(nn.init, name)(tensors[1], **CALLS[name], generator=None)
    one = getattr(fastinit, name)(torch.empty(12, 8), **CALLS[name], generator=torch.Generator().manual_seed(9))
    assert torch.equal(tensors[0], one) and torch.equal(tensors[1], expected(name, 5, 1))


@pytest.mark.parametrize("n", range(3))
def test_a_generator_by_position(n):
    name, arguments = [("normal_", (0.0, 1.0)), ("xavier_uniform_", (1.0,)), ("kaiming_uniform_", (0, "fan_in", "relu"))][n]
    tensor = parameter()
    with accelerate(seed=5):
        getattr(nn.init, name)(tensor, *arguments, torch.Generator().manual_seed(9))
    one = getattr(fastinit, name)(torch.empty(12, 8), *arguments, torch.Generator().manual_seed(9))
    assert torch.equal(tensor, one)


def test_the_methods_of_parameters_views_and_data():
    p = parameter()
    with accelerate(seed=5):
        assert p.data.normal_(0.5, 2).data_ptr() == p.data_ptr()
        assert torch.equal(p, expected("normal_", 5, 0, mean=0.5, std=2.0))
        p.data.uniform_(to=3.0, **{"from": -1})
        assert torch.equal(p, expected("uniform_", 5, 1, a=-1.0, b=3.0))
        p.data[2:].normal_(std=3)
        assert torch.equal(p[2:], expected("normal_", 5, 2, (10, 8), std=3.0))
        p.detach().view(-1).uniform_(generator=torch.Generator().manual_seed(9))
        assert torch.equal(p.view(-1), fastinit.uniform_(torch.empty(96), generator=torch.Generator().manual_seed(9)))
        with torch.no_grad():
            assert p.normal_() is p
            assert torch.equal(p, expected("normal_", 5, 4, mean=0.0))
            p[:, 1].uniform_(-1, 1)
            assert torch.equal(p[:, 1], expected("uniform_", 5, 5, (12,), a=-1.0, b=1.0))
        nn.Parameter(torch.zeros(3, 3), requires_grad=False).normal_()
        assert MODULE.blocks.get()[-1].fills == 7


def test_other_tensors_keep_the_values_of_torch(fills):
    weight, module = torch.ones(20, 8), nn.Module()
    module.register_buffer("noise", torch.empty(5))

    def make():
        p = nn.Parameter(torch.ones(20, 8))
        made = [torch.empty(8).normal_(), torch.randn(3), weight.data.uniform_(), p.data.clone().normal_(0, 2)]
        made += [module.noise.normal_(), torch.empty_like(p).normal_(), (p * 1).detach().normal_()]
        made += [torch.rand(5, requires_grad=True).data.normal_(), nn.functional.dropout(torch.ones(50))]
        return [tensor.detach().clone() for tensor in made]

    theirs = own(make)
    with accelerate(seed=0):
        ours = own(make)
    assert not fills and ours[2] == theirs[2]
    assert all(torch.equal(a, b) for a, b in zip(ours[0], theirs[0], strict=True))


REFUSED = {
    "negative std": lambda p: nn.init.normal_(p, 0.0, -1.0),
    "reversed bounds": lambda p: nn.init.uniform_(p, 2.0, 1.0),
    "reversed cut": lambda p: nn.init.trunc_normal_(p, 0.0, 0.0, 1.0, -1.0),
    "unknown mode": lambda p: nn.init.kaiming_uniform_(p, mode="fan"),
    "unknown nonlinearity": lambda p: nn.init.kaiming_normal_(p, nonlinearity="gelu"),
    "unknown argument": lambda p: nn.init.xavier_uniform_(p, key=3),
    "unknown argument of a method": lambda p: p.data.normal_(key=3),
    "argument twice": lambda p: nn.init.xavier_uniform_(p, 1.0, gain=1.0),
    "too many": lambda p: nn.init.orthogonal_(p, 1.0, None, 3),
    "too many for a method": lambda p: p.data.normal_(0.0, 1.0, torch.Generator()),
    "no argument": lambda p: nn.init.xavier_uniform_(),
    "no tensor": lambda p: nn.init.normal_(None),
    "foreign generator": lambda p: nn.init.normal_(p, generator=3),
    "vector": lambda p: nn.init.xavier_uniform_(p[0].detach()),
    "vector, orthogonal": lambda p: nn.init.orthogonal_(p[0].detach()),
    "cube, sparse": lambda p: nn.init.sparse_(p.detach()[None], 0.5),
    "sparsity": lambda p: nn.init.sparse_(p, -0.5),
    "overlap": lambda p: nn.init.normal_(p.detach()[:1].expand(3, 8)),
    "layout": lambda p: nn.init.normal_(p.detach().to_sparse()),
    "integers": lambda p: nn.init.uniform_(torch.zeros(3, 3, dtype=torch.int32)),
    "leaf": lambda p: p.normal_(),
    "view of a leaf": lambda p: p[0].uniform_(),
    "recorded": lambda p: (p * 1).view(-1).normal_().detach(),
    "inference": lambda p: nn.init.normal_(torch.inference_mode()(torch.empty)(3)),
    "vmap": lambda p: torch.func.vmap(lambda row: nn.init.normal_(row.clone()))(p.detach()),
    "no elements": lambda p: nn.init.kaiming_uniform_(nn.Parameter(torch.empty(0, 3))),
    "no elements, normal": lambda p: nn.init.kaiming_normal_(nn.Parameter(torch.empty(0, 3))),
    "no fan": lambda p: nn.init.xavier_uniform_(nn.Parameter(torch.empty(0, 0))),
}


ODD = {  # torch's edges, which this package serves too
    "std of zero": lambda init, p, **key: init.normal_(p, 1.0, 0.0, **key),
    "no width": lambda init, p, **key: init.uniform_(p, 1.0, 1.0, **key),
    "no gain": lambda init, p, **key: init.xavier_normal_(p, 0.0, **key),
    "no gain, uniform": lambda init, p, **key: init.xavier_uniform_(p, 0.0, **key),
    "std as a tensor": lambda init, p, **key: init.normal_(p, 0.0, torch.tensor(0.5), **key),
    "capitals": lambda init, p, **key: init.kaiming_normal_(p, mode="FAN_OUT", **key),
    "capitals, routed": lambda init, p, **key: init.kaiming_uniform_(p, mode="FAN_OUT", **key),
    "slope not used": lambda init, p, **key: init.kaiming_normal_(p, None, nonlinearity="relu", **key),
    "complex": lambda init, p, **key: init.normal_(nn.Parameter(p.detach().cfloat()), **key),
    "complex, uniform": lambda init, p, **key: init.kaiming_uniform_(nn.Parameter(p.detach().cfloat()), **key),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_calls_are_served(case, fills):
    with accelerate(seed=5), warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = ODD[case](nn.init, parameter())
    assert fills and torch.equal(ours, ODD[case](fastinit, parameter(), key=fastinit.key(5, 0)))


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_done_by_torch_alone(case, seed, fills):
    """The same bits or the same error, the same draws from the generator, the same warnings: but what a seed does not decide is
    said, once, unless torch raises or there is nothing to fill."""
    theirs, warned, state = own(lambda: REFUSED[case](parameter()))
    with accelerate(seed=seed):
        ours, warned_here, state_here = own(lambda: REFUSED[case](parameter()))
    said = [text for text in warned_here if text not in warned]
    assert not fills and [text for text in warned_here if text in warned] == warned and state_here == state
    if isinstance(theirs, tuple):
        assert ours == theirs and not said
    else:
        assert type(ours) is type(theirs) and torch.equal(ours, theirs)
        assert len(said) == (seed is not None and theirs.numel() > 0 and case != "recorded")  # which is no parameter
        assert all("did not decide" in text and str(tuple(theirs.shape)) in text for text in said)


@pytest.mark.parametrize("name", ["xavier_uniform", "kaiming_normal", "normal", "sparse", "orthogonal"])
def test_deprecated_aliases_keep_working(name):
    tensor = parameter(64, 64)
    with accelerate(seed=5), pytest.warns(FutureWarning, match="deprecated"):
        assert getattr(nn.init, name)(tensor, *[0.3][: name == "sparse"]) is tensor
    if name in ("xavier_uniform", "kaiming_normal", "normal"):
        assert torch.equal(tensor, getattr(fastinit, name + "_")(torch.empty(64, 64), key=fastinit.key(5, 0)))
    assert not (tensor == 7).all()


@pytest.mark.parametrize("name", [*CALLS, "method", "data"])
def test_what_transformers_marks_as_loaded_is_left(name):
    flagged, other = parameter(), parameter()
    flagged._is_hf_initialized, other._is_hf_initialized = True, False
    with accelerate(seed=5), torch.no_grad():
        function = getattr(nn.init, name, torch.Tensor.normal_)
        target = flagged.data if name == "data" else flagged
        target._is_hf_initialized = True
        assert function(target, **CALLS.get(name, {})) is target
        assert (flagged == 7).all() and flagged._version == 0
        function(other, **CALLS.get(name, {}))
    assert torch.equal(other, expected(name, 5, 0) if name in CALLS else expected("normal_", 5, 0, mean=0.0))


def test_autograd_sees_the_write():
    p = parameter()
    loss = (p * p).sum()
    with accelerate():
        nn.init.normal_(p)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_tensors_without_values_take_no_key_and_stay(fills, recwarn):
    with accelerate(seed=5):
        with torch.device("meta"):
            assert nn.MultiheadAttention(8, 2).in_proj_weight.is_meta
        empty = nn.utils.skip_init(nn.Linear, 8, 12)
        with FakeTensorMode():
            fake = nn.Linear(8, 12)
            for name in set(WHOLE) - {"trunc_normal_"}:  # which reads values in some versions of torch
                assert getattr(nn.init, name)(fake.weight, **CALLS[name]) is fake.weight
            fake.weight.data.normal_()
        meta = nn.Parameter(torch.empty(12, 8, device="meta"))
        for name in WHOLE:  # early versions of torch have no orthogonal_ and sparse_ for these
            assert getattr(nn.init, name)(meta, **CALLS[name]) is meta
        assert not fills
        nn.init.normal_(empty.weight)
    assert torch.equal(empty.weight, expected("normal_", 5, 0, mean=0.0))
    assert not [warning for warning in recwarn if "did not decide" in str(warning.message)]


def test_device_contexts_and_default_dtypes():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("cpu"), accelerate(seed=5), torch.device("cpu"):
            layer = nn.Linear(8, 12)
            nn.init.sparse_(layer.weight, **CALLS["sparse_"])
    finally:
        torch.set_default_dtype(before)
    one = fastinit.sparse_(torch.empty(12, 8, dtype=torch.float64), **CALLS["sparse_"], key=fastinit.key(5, 2))
    assert torch.equal(layer.weight, one)


LAYERS = {
    "Linear": (lambda: nn.Linear(8, 12), ["kaiming_uniform_", "uniform_"]),
    "Conv2d": (lambda: nn.Conv2d(4, 8, 3), ["kaiming_uniform_", "uniform_"]),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 8, 3), ["kaiming_uniform_", "uniform_"]),
    "Bilinear": (lambda: nn.Bilinear(4, 5, 6), ["uniform_"] * 2),
    "Embedding": (lambda: nn.Embedding(9, 4), ["normal_"]),
    "LSTM": (lambda: nn.LSTM(4, 8, num_layers=2), ["uniform_"] * 8),
    "GRUCell": (lambda: nn.GRUCell(4, 8), ["uniform_"] * 4),
    # out_proj is a Linear; in_proj_weight and the biases come through captured xavier_uniform_ and xavier_normal_
    "MultiheadAttention": (lambda: nn.MultiheadAttention(8, 2), ["kaiming_uniform_", "uniform_", "uniform_"]),
    "attention with biases": (
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
        ["kaiming_uniform_", "uniform_", "uniform_", "normal_", "normal_"],
    ),
    "attention of other sizes": (lambda: nn.MultiheadAttention(8, 2, kdim=6), ["kaiming_uniform_", *["uniform_"] * 4]),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16),
        ["kaiming_uniform_", "uniform_", "uniform_", *["kaiming_uniform_", "uniform_"] * 2],
    ),
    "Transformer": (lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True), None),
}


def test_inference_mode():
    with accelerate(seed=5), torch.inference_mode():
        layer = nn.Linear(8, 12)
    assert layer.weight.is_inference()
    assert torch.equal(layer.weight, expected("kaiming_uniform_", 5, 0, a=math.sqrt(5)))


@pytest.mark.parametrize("name", LAYERS)
def test_constructors(name, fills):
    """Everything random in them is served: the weights depend on the seed alone, and no generator moves."""
    make, served = LAYERS[name]
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with accelerate(seed=1):
            first = make()
        assert served is None or fills == served
        with accelerate(seed=1):
            again = make()
        with accelerate(seed=2):
            other = make()
    assert torch.equal(torch.get_rng_state(), state) and len(fills) % 3 == 0
    for (key, one), same, different in zip(first.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same), key
        assert not torch.equal(one, different) or one.std() == 0 or one.numel() == 0, key


def test_the_laws_are_those_of_torch():
    """The largest of n uniform values falls short of the limit by a share 21 / n with probability 1e-9."""
    with accelerate(seed=3):
        linear, conv, embedding = nn.Linear(1024, 512), nn.Conv2d(64, 128, 3), nn.Embedding(2048, 256)
        attention = nn.MultiheadAttention(256, 4)
    for weight, limit in [
        (linear.weight, 1 / 32),
        (conv.weight, 1 / math.sqrt(64 * 9)),
        (attention.in_proj_weight, math.sqrt(6 / (256 + 768))),
    ]:
        # the limit, a double, is computed as torch does: the float32 above it is allowed
        assert limit * (1 - 21 / weight.numel()) < weight.abs().max().item() <= limit * (1 + 2**-24)
        assert abs(weight.std().item() / (limit / math.sqrt(3)) - 1) < 6 / math.sqrt(2 * weight.numel())
    std, mean = torch.std_mean(embedding.weight)
    n = embedding.weight.numel()
    assert abs(std.item() - 1) < 6 / math.sqrt(2 * n) and abs(mean.item()) < 6 / math.sqrt(n)
