"""Declared laws: what declares one is filled in one call of the backend, with the bits of the initializer itself."""

import functools
import types

import pytest
import torch
from helpers.laws import same_bits
from helpers.models import bits, poisoned
from torch import nn

import fastinit
from fastinit._backends.choose import choose
from fastinit._core.laws import declaration_of

SCHEMES = {
    "keras_like": fastinit.keras_like,
    "torch_like": fastinit.torch_like,
    "gpt2_like": fastinit.gpt2_like(3),
    "truncated_like": fastinit.truncated_like(0.02, 3.0),
}
ALONE = {"orthogonal_": 1, "forget_gate_bias_": 0}  # launches of what has no one law: a factorization; two values in one tensor
PLANNED = {"uniform_", "normal_", "truncated_normal_", "glorot_uniform_", "kaiming_uniform_"}


def every_module() -> nn.ModuleList:
    convolutions = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
    attention = [nn.MultiheadAttention(8, 2, add_bias_kv=True), nn.MultiheadAttention(8, 2, kdim=6, vdim=4)]
    return nn.ModuleList(
        [
            *(nn.Linear(6, 4), nn.Bilinear(3, 4, 5), nn.Embedding(9, 4), nn.EmbeddingBag(9, 4), nn.PReLU(3)),
            *(convolution(4, 8, 3) for convolution in convolutions),
            *(nn.Conv1d(4, 8, 3, groups=4), nn.BatchNorm2d(3), nn.InstanceNorm1d(3, affine=True, track_running_stats=True)),
            *(nn.GroupNorm(2, 4), nn.LayerNorm(5), nn.RMSNorm(5), *attention, nn.TransformerEncoderLayer(8, 2, 16)),
            *(nn.RNN(3, 4), nn.GRU(3, 4), nn.LSTM(3, 4, proj_size=2), nn.LSTMCell(3, 4)),
        ]
    )


@pytest.fixture
def launches(monkeypatch) -> list[int]:
    """The lengths of the lists of plans that the backend of the CPU got."""
    backend, counted = choose(torch.device("cpu")), []
    fill = backend.fill
    monkeypatch.setattr(backend, "fill", lambda plans: (counted.append(len(plans)), fill(plans)))
    return counted


@pytest.mark.parametrize("name", SCHEMES)
def test_a_model_is_one_launch(name, launches):
    """Whatever of a scheme has a law; the rest is named here, so that nothing else is filled by itself in silence."""
    model = poisoned(every_module())
    report = fastinit.initialize_(model, SCHEMES[name], seed=0)
    filled = [entry for entry in report.entries if entry.state == "filled" and not entry.dtype.startswith("int")]
    alone = [entry for entry in filled if entry.initializer in ALONE]
    assert launches == [1] * sum(ALONE[entry.initializer] for entry in alone) + [len(filled) - len(alone)]
    assert bool(alone) == (name == "keras_like") and len(filled) - len(alone) > 60
    assert not any((tensor == 7).any() for tensor in model.state_dict().values())


def test_every_public_initializer_declares_its_law():
    functions = {name for name in fastinit.__all__ if isinstance(getattr(fastinit, name), types.FunctionType)}
    initializers = {name for name in functions if name.endswith("_")} - {"initialize_", "bits_", "blend_", "perturb_"}
    assert len(initializers) == 23
    assert {name for name in initializers if declaration_of(getattr(fastinit, name)) is None} == set()


@pytest.mark.parametrize("name", sorted(PLANNED))
def test_the_declared_law_is_the_one_of_the_call(name, launches):
    model = nn.ModuleList([nn.Linear(6, 4), nn.Linear(5, 3)])
    function = getattr(fastinit, name)
    fastinit.initialize_(model, fastinit.Scheme({nn.Linear: {"weight": function, "bias": None}}), seed=3)
    assert launches == [2]
    for number, layer in enumerate(model):
        alone = function(torch.empty_like(layer.weight), key=fastinit.key(3, f"{number}.weight"))
        assert same_bits(layer.weight.detach(), alone)


def test_initializers_of_one_s_own_that_declare_a_law_are_batched(launches):
    """Not called at all: the law is trusted. Arguments, defaults and keys of partials count."""
    called = []

    @fastinit.laws.declares(lambda shape, dtype, depth, width: fastinit.laws.normal(0.0, width / (depth * shape[1])))
    def scaled_(tensor, depth, width=1.0, *, key=None):
        called.append(key)
        return fastinit.normal_(tensor, std=width / (depth * tensor.shape[1]), key=key)

    rules = {
        "0.weight": functools.partial(scaled_, depth=4),
        "1.weight": functools.partial(scaled_, depth=4, width=0.5),
        "2.weight": functools.partial(scaled_, depth=2, key=9),
        "*.bias": fastinit.zeros_,
    }
    model = poisoned(nn.ModuleList(nn.Linear(6, 4) for _ in range(3)))
    fastinit.initialize_(model, fastinit.Scheme(rules), seed=1)
    assert launches == [6] and not called
    found = bits(model)
    keys = {name: fastinit.key(1, name) for name in rules} | {"2.weight": 9}
    for name, std in (("0.weight", 1 / 24), ("1.weight", 0.5 / 24), ("2.weight", 1 / 12)):
        assert same_bits(found[name], fastinit.normal_(torch.empty(4, 6), std=std, key=keys[name])), name
    with pytest.raises(TypeError, match=r"0\.weight: missing a required argument: 'depth'"):
        fastinit.initialize_(model, fastinit.Scheme({"0.weight": scaled_}), seed=1, strict=False)


def test_a_wrapper_is_not_what_it_wraps(launches):
    """functools.wraps copies what the wrapped function declares; what the wrapper does besides must survive."""

    @functools.wraps(fastinit.normal_)
    def doubled_(tensor, *arguments, **options):
        return fastinit.normal_(tensor, *arguments, **options).mul_(2)

    model = poisoned(nn.ModuleList([nn.Linear(6, 4), nn.Linear(6, 4)]))
    rules = {"0.weight": doubled_, "1.weight": functools.partial(doubled_, std=0.1), "*.bias": fastinit.zeros_}
    with torch.no_grad():
        fastinit.initialize_(model, fastinit.Scheme(rules), seed=1)
    assert launches == [1, 1, 2], "each by itself, then the biases"
    for name, std in (("0.weight", 1.0), ("1.weight", 0.1)):
        plain = fastinit.normal_(torch.empty(4, 6), std=std, key=fastinit.key(1, name))
        assert same_bits(bits(model)[name], plain * 2), name
