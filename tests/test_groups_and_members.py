"""Fans of grouped convolutions, stacked orthogonal members, and a forget gate's bias: what each equals, one by one."""

from functools import partial

import pytest
import torch
from torch import nn

import fastinit
from fastinit._core.laws import law_of

BY_FANS = {
    **{name: {} for name in ("glorot_uniform_", "glorot_normal_", "xavier_uniform_", "xavier_normal_")},
    **{name: {"mode": "fan_out"} for name in ("variance_scaling_", "kaiming_uniform_", "kaiming_normal_")},
    **{name: {} for name in ("he_uniform_", "he_normal_", "lecun_uniform_", "lecun_normal_")},
}


@pytest.mark.parametrize("name", BY_FANS)
def test_groups_are_convolutions_beside_each_other(name):
    """A convolution of g groups is g convolutions: each has the fans of one, and by one key the values of their stack."""
    function = partial(getattr(fastinit, name), **BY_FANS[name])
    grouped = nn.Conv2d(12, 24, 3, groups=6).weight
    assert grouped.shape == (24, 2, 3, 3)
    law = law_of(partial(function, groups=6), grouped.shape, grouped.dtype)
    assert law == law_of(function, torch.Size([4, 2, 3, 3]), grouped.dtype)
    stack = function(torch.empty(6, 4, 2, 3, 3), batch_dims=1, key=5)
    assert torch.equal(function(torch.empty(24, 2, 3, 3), groups=6, key=5), stack.flatten(0, 1))
    both = function(torch.empty(3, 24, 2, 3, 3), batch_dims=1, groups=6, key=5)
    assert torch.equal(both, function(torch.empty(3, 6, 4, 2, 3, 3), batch_dims=2, key=5).flatten(1, 2))
    depthwise = law_of(partial(function, groups=4), torch.Size([8, 1, 5]), torch.float32)
    assert depthwise == law_of(partial(function, fan_in=5, fan_out=2 * 5), torch.Size([8, 1, 5]), torch.float32)


def test_given_fans_go_before_groups():
    given = partial(fastinit.glorot_uniform_, fan_in=3, fan_out=5)
    assert law_of(partial(given, groups=7), torch.Size([4, 2]), torch.float32) == law_of(given, torch.Size([4, 2]), torch.float32)


@pytest.mark.parametrize(
    ("groups", "error", "words"),
    [(5, ValueError, "groups=5, shape="), (0, ValueError, "groups=0"), (True, TypeError, "groups=True"), (2.0, TypeError, "2.0")],
)
def test_wrong_groups_are_named(groups, error, words):
    weight = torch.zeros(8, 1, 3)
    with pytest.raises(error, match=words):
        fastinit.he_normal_(weight, groups=groups, key=1)
    assert not weight.any()


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 5, 3), (2, 3, 6, 2, 2)])
def test_members_are_orthogonal_each_and_cut_from_one_tensor(shape):
    """Each is the Q of its part of one Gaussian fill: what orthogonal_ of a lone matrix makes of its own."""
    batch = len(shape) - 2 if len(shape) == 3 else 2
    made = fastinit.orthogonal_(torch.empty(shape), 2.0, key=3, batch_dims=batch)
    gaussian = fastinit.normal_(torch.empty(shape), key=3)
    members, sources = (whole.flatten(0, batch - 1).flatten(2) for whole in (made, gaussian))
    for member, source in zip(members, sources, strict=True):
        side = member if member.shape[0] <= member.shape[1] else member.T
        assert torch.allclose(side @ side.T, 4.0 * torch.eye(len(side)), atol=1e-5)
        short = source if source.shape[0] <= source.shape[1] else source.T
        lower = short @ side.T  # L of an LQ decomposition, with a positive diagonal
        assert torch.allclose(lower.triu(1), torch.zeros_like(lower), atol=1e-5) and bool((lower.diagonal() > 0).all())
    one = fastinit.orthogonal_(torch.empty(1, *shape[batch:]), key=3, batch_dims=1)
    assert torch.allclose(one[0], fastinit.orthogonal_(torch.empty(shape[batch:]), key=3), atol=1e-6)


def test_the_forget_gate_is_the_second():
    scheme = fastinit.torch_like.override({nn.LSTM: {"bias_ih*": partial(fastinit.forget_gate_bias_, val=2.0)}})
    layer = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    report = fastinit.initialize_(layer, scheme, seed=0)
    for name in ("bias_ih_l0", "bias_ih_l1_reverse"):
        assert getattr(layer, name).tolist() == [0.0] * 4 + [2.0] * 4 + [0.0] * 8
        assert report[name].initializer == "forget_gate_bias_(val=2.0)"
    layer.flatten_parameters()
    with torch.no_grad():  # all else zero: the gate alone decides what is left of a cell
        for parameter in layer.parameters():
            parameter.zero_()
        fastinit.forget_gate_bias_(layer.bias_ih_l0, 2.0)
        state = torch.ones(4, 1, 4)
        _, (_, cell) = layer(torch.zeros(1, 1, 3), (torch.zeros(4, 1, 4), state))
    assert torch.allclose(cell[0], torch.sigmoid(torch.tensor(2.0)) * state[0])


class ScaledLSTM(nn.LSTM):
    """A quantized layer keeps scales beside its weights."""

    def __init__(self):
        super().__init__(3, 4)
        names = ("weight_ih_l0_scale", "weight_ih_l0_scale_inv", "weight_hh_l0_scale", "bias_ih_l0_scale", "input_scale")
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.full((16, 3), 0.5)))


@pytest.mark.parametrize("scheme", [fastinit.keras_like, fastinit.torch_like], ids=repr)
def test_no_pattern_of_ours_covers_a_scale(scheme):
    layer = ScaledLSTM()
    with pytest.raises(ValueError, match="weight_ih_l0_scale_inv"):
        fastinit.initialize_(layer, scheme, seed=0)
    report = fastinit.initialize_(layer, scheme, seed=0, strict=False)
    assert len(report.missed) == 5 and len(report.filled) == 4
    assert all(bool((getattr(layer, name) == 0.5).all()) for name in report.missed)
    layer.apply(scheme)
    assert all(bool((getattr(layer, name) == 0.5).all()) for name in report.missed)


@pytest.mark.parametrize("scheme", [fastinit.keras_like, fastinit.torch_like], ids=repr)
def test_recurrent_layers_of_every_kind_are_covered(scheme):
    layers = [nn.RNN(3, 4, 2, bidirectional=True), nn.GRU(3, 4), nn.LSTM(3, 4, 2, proj_size=2, bidirectional=True)]
    model = nn.ModuleList([*layers, nn.RNNCell(3, 4), nn.GRUCell(3, 4), nn.LSTMCell(3, 4)])
    assert not fastinit.initialize_(model, scheme, seed=0).missed
