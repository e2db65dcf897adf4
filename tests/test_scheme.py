"""keras_like module by module (limits, constants, blocks), and how schemes are looked up and overridden."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from helpers.models import poisoned
from torch import nn
from torch.nn.utils import parametrizations

import fastinit
from fastinit import keras_like


def applied(module):
    torch.manual_seed(0)
    return poisoned(module).apply(keras_like)


def assert_uniform(tensor, limit):
    """Within the limit, and near it: of n values the largest falls short by a share 21/n once in 1e9."""
    reached = tensor.detach().double().abs().max().item()
    assert limit * (1 - 21 / tensor.numel()) < reached <= limit * (1 + 1e-7)


def assert_constant(tensor, value):
    assert torch.equal(tensor.detach(), torch.full_like(tensor, value))


def assert_semi_orthogonal(tensor):
    gram = tensor.detach().double()
    gram = gram.T @ gram
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=gram.dtype), rtol=0, atol=1e-5)


def test_dense_layers():
    linear = applied(nn.Linear(50, 70))
    assert_uniform(linear.weight, math.sqrt(6 / 120))
    assert_constant(linear.bias, 0)
    assert applied(nn.Linear(5, 7, bias=False)).bias is None
    bilinear = applied(nn.Bilinear(9, 11, 13))
    assert_uniform(bilinear.weight, math.sqrt(6 / (9 * 11 + 13 * 11)))
    assert_constant(bilinear.bias, 0)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("transposed", "n_in", "n_out", "groups", "fan_sum"),
    [
        (False, 8, 12, 1, 8 + 12),
        (False, 8, 12, 4, 2 + 12),
        (False, 8, 8, 8, 8 + 1),
        (False, 8, 24, 8, 8 + 3),
        (False, 1, 24, 1, 1 + 24),
        (True, 8, 12, 1, 8 + 12),
        (True, 8, 12, 4, 8 + 3),
        (True, 8, 24, 8, 8 + 3),
    ],
)
@pytest.mark.one_of_each
def test_convolutions(rank, transposed, n_in, n_out, groups, fan_sum):
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{rank}d")
    module = applied(kind(n_in, n_out, 5, groups=groups))
    assert_uniform(module.weight, math.sqrt(6 / (fan_sum * 5**rank)))
    assert_constant(module.bias, 0)


NORMS = [
    nn.BatchNorm1d(6),
    nn.BatchNorm2d(6),
    nn.BatchNorm3d(6),
    nn.SyncBatchNorm(6),
    nn.GroupNorm(2, 6),
    nn.LayerNorm(6),
]
NORMS += [getattr(nn, f"InstanceNorm{d}d")(6, affine=True, track_running_stats=True) for d in (1, 2, 3)]
NORMS += [nn.RMSNorm(6), nn.BatchNorm1d(6, affine=False), nn.BatchNorm1d(6, track_running_stats=False)]


@pytest.mark.parametrize("norm", NORMS, ids=repr)
def test_norms(norm):
    expected = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
    for name, tensor in applied(norm).state_dict().items():
        assert_constant(tensor, expected[name])


@pytest.mark.one_of_each
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers(kind, options, bias):
    module = applied(kind(9, 16, bias=bias, **options))
    gates = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}[kind]
    names = dict(module.named_parameters())
    assert len(names) == options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1) * (4 if bias else 2)
    for name, tensor in names.items():
        if name.startswith("weight_ih"):
            assert_uniform(tensor, math.sqrt(6 / (tensor.shape[1] + gates * 16)))
        elif name.startswith("weight_hh"):
            assert_semi_orthogonal(tensor)
        elif name.startswith("bias_ih") and kind is nn.LSTM:
            assert tensor.tolist() == [0] * 16 + [1] * 16 + [0] * 32
        else:
            assert_constant(tensor, 0)


def test_projected_lstm():
    module = applied(nn.LSTM(9, 16, proj_size=8))
    assert_uniform(module.weight_hr_l0, math.sqrt(6 / (8 + 16)))
    assert_semi_orthogonal(module.weight_hh_l0)
    assert module.bias_ih_l0.sum() == 16 and module.bias_hh_l0.sum() == 0


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_cells_equal_their_layers(kind):
    cell, layer = (
        applied(kind(9, 16)),
        applied({nn.RNNCell: nn.RNN, nn.GRUCell: nn.GRU, nn.LSTMCell: nn.LSTM}[kind](9, 16)),
    )
    for name, tensor in cell.named_parameters():
        assert torch.equal(tensor, getattr(layer, name + "_l0")), name
    applied(kind(9, 16, bias=False))


def test_attention_is_three_glorot_blocks():
    module = applied(nn.MultiheadAttention(48, 4, add_bias_kv=True))
    for block in module.in_proj_weight.chunk(3):
        assert_uniform(block, math.sqrt(6 / 96))
    assert len({block[0, 0].item() for block in module.in_proj_weight.chunk(3)}) == 3
    assert_uniform(module.out_proj.weight, math.sqrt(6 / 96))
    for bias in (module.in_proj_bias, module.out_proj.bias, module.bias_k, module.bias_v):
        assert_constant(bias, 0)


def test_attention_with_other_key_and_value_sizes():
    module = applied(nn.MultiheadAttention(48, 4, kdim=20, vdim=30, bias=False))
    assert_uniform(module.q_proj_weight, math.sqrt(6 / 96))
    assert_uniform(module.k_proj_weight, math.sqrt(6 / 68))
    assert_uniform(module.v_proj_weight, math.sqrt(6 / 78))
    assert_uniform(module.out_proj.weight, math.sqrt(6 / 96))


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_embeddings_keep_padding_zero(kind):
    assert_uniform(applied(kind(40, 30)).weight, 0.05)
    override = keras_like.override({kind: {"weight": fastinit.ones_}})
    for scheme in (keras_like, override):
        weight = poisoned(kind(40, 30, padding_idx=-1)).apply(scheme).weight.detach()
        assert_constant(weight[39], 0)
        assert (weight[:39] != 0).all() and (weight != 7).all()


def test_prelu_and_every_parameter_of_a_transformer():
    assert_constant(applied(nn.PReLU(5)).weight, 0)
    model = applied(nn.Transformer(16, 2, 1, 1, 32))
    assert not any((tensor == 7).any() for tensor in model.parameters())


def test_unknown_modules_and_integer_parameters_stay():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((3, 3), 7.0))

    assert_constant(Own().apply(keras_like).weight, 7)
    packed = nn.Linear(3, 3)
    packed.weight = nn.Parameter(torch.full((3, 3), 7, dtype=torch.int8), requires_grad=False)
    assert_constant(packed.apply(keras_like).weight, 7)
    assert_constant(nn.ParameterList([nn.Parameter(torch.full((3,), 7.0))]).apply(keras_like)[0], 7)


@pytest.mark.parametrize(
    ("lazy", "shape"), [(nn.LazyLinear(5), (2, 3)), (nn.LazyConv1d(5, 3), (2, 4, 9)), (nn.LazyBatchNorm1d(), (4, 3))]
)
def test_lazy_modules_wait_for_their_shapes(lazy, shape):
    lazy.apply(keras_like)
    assert lazy.has_uninitialized_params()
    lazy(torch.randn(shape))
    applied(lazy)
    assert not any((tensor == 7).any() for tensor in lazy.state_dict().values())


def test_parametrized_weights_stay_and_their_biases_do_not():
    for wrap in (parametrizations.weight_norm, parametrizations.orthogonal):
        module = wrap(nn.Linear(4, 4))
        before = [p.clone() for p in module.parametrizations.weight.parameters()]
        with torch.no_grad():
            module.bias.fill_(7)
        module.apply(keras_like)
        assert all(torch.equal(a, b) for a, b in zip(before, module.parametrizations.weight.parameters(), strict=True))
        assert_constant(module.bias, 0)


def test_manual_seed_decides_and_equal_layers_differ():
    first, second = (applied(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))) for _ in range(2))
    assert torch.equal(first[1].weight, second[1].weight)
    assert not torch.equal(first[0].weight, first[1].weight)


def test_an_override_merges_parameter_by_parameter():
    narrow = keras_like.override({nn.Linear: {"weight": partial(fastinit.truncated_normal_, std=0.05)}})
    module = poisoned(nn.Linear(100, 100)).apply(narrow)
    assert 0.099 < module.weight.abs().max() <= 0.1
    assert_constant(module.bias, 0)
    assert_uniform(applied(nn.Linear(100, 100)).weight, math.sqrt(6 / 200))  # the original stays as it was
    recurrent = keras_like.override({nn.LSTM: {"bias_ih_l0": fastinit.zeros_, "weight_hh*": fastinit.glorot_uniform_}})
    lstm = poisoned(nn.LSTM(4, 5, 2)).apply(recurrent)
    assert lstm.bias_ih_l0.sum() == 0 and lstm.bias_ih_l1.sum() == 5
    assert_uniform(lstm.weight_hh_l1, math.sqrt(6 / 25))
    conv = poisoned(nn.Conv1d(4, 4, 3)).apply(keras_like.override({nn.Conv1d: {"bias": fastinit.ones_}}))
    assert_constant(conv.bias, 1)
    assert_uniform(conv.weight, math.sqrt(6 / 24))


def test_none_leaves_as_it_is():
    module = poisoned(nn.Linear(3, 3)).apply(keras_like.override({nn.Linear: None}))
    assert_constant(module.weight, 7)
    module = poisoned(nn.Linear(3, 3)).apply(keras_like.override({nn.Linear: {"weight": None}}))
    assert_constant(module.weight, 7)
    assert_constant(module.bias, 0)


def test_the_most_derived_class_decides():
    class Head(nn.Linear):
        pass

    class Frozen(Head):
        pass

    scheme = keras_like.override({Head: {"weight": fastinit.eye_}, Frozen: None})
    head = poisoned(Head(3, 3)).apply(scheme)
    assert torch.equal(head.weight, torch.eye(3))
    assert_constant(head.bias, 0)
    assert_constant(poisoned(Frozen(3, 3)).apply(scheme).weight, 7)
    assert_uniform(poisoned(nn.Linear(30, 30)).apply(scheme).weight, math.sqrt(6 / 60))


def test_a_callable_rule_sees_the_module():
    scheme = fastinit.Scheme({nn.Linear: lambda m: {"weight": partial(fastinit.constant_, val=m.in_features)}})
    module = poisoned(nn.Linear(3, 2)).apply(scheme)
    assert_constant(module.weight, 3)
    assert_constant(module.bias, 7)


def test_acts_on_the_module_alone_prints_copies_and_pickles():
    model = poisoned(nn.Sequential(nn.Linear(3, 3)))
    assert keras_like(model) is model
    assert_constant(model[0].weight, 7)
    scheme = keras_like.override({nn.Linear: {"weight": partial(fastinit.truncated_normal_, std=0.05)}})
    assert "Linear: {'weight': glorot_uniform_, 'bias': zeros_} | {'weight': truncated_normal_(std=0.05)}" in repr(scheme)
    for twin in (copy.deepcopy(scheme), pickle.loads(pickle.dumps(scheme))):
        assert repr(twin) == repr(scheme)


class Origin(nn.Module):
    """Convolution, batch norm, bidirectional LSTM, linear."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(8, 32, 5, padding=2)
        self.norm = nn.BatchNorm1d(32)
        self.lstm = nn.LSTM(32, 24, bidirectional=True, batch_first=True)
        self.head = nn.Linear(48, 100)

    def forward(self, x):
        x = torch.relu(self.norm(self.convolution(x)))
        return self.head(self.lstm(x.transpose(1, 2))[0][:, -1])


def test_the_network_of_the_origin_story():
    g1, g2, std = 0.7, 1.3, 0.08
    cut = partial(fastinit.truncated_normal_, std=std, a=-g2 * std, b=g2 * std, method="fmod")
    scheme = keras_like.override({nn.Conv1d: {"weight": partial(fastinit.glorot_uniform_, gain=g1)}, nn.Linear: {"weight": cut}})
    torch.manual_seed(0)
    model = poisoned(Origin()).apply(scheme)
    assert_uniform(model.convolution.weight, g1 * math.sqrt(6 / ((8 + 32) * 5)))
    assert_constant(model.convolution.bias, 0)
    assert [model.norm.state_dict()[name].mean().item() for name in ("weight", "bias", "running_mean", "running_var")] == [
        1,
        0,
        0,
        1,
    ]
    assert model.norm.num_batches_tracked == 0
    for name in ("weight_hh_l0", "weight_hh_l0_reverse"):
        assert_semi_orthogonal(getattr(model.lstm, name))
    assert model.lstm.bias_ih_l0.sum() == model.lstm.bias_ih_l0_reverse.sum() == 24
    sigmas = model.head.weight.detach().double() / std
    assert sigmas.abs().max() <= g2 * (1 + 1e-6)
    expected = torch.fmod(torch.randn(1 << 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64), g2)
    assert abs(sigmas.var() - expected.var()) < 6 * math.sqrt(2 / sigmas.numel()) * expected.var()
    model(torch.randn(3, 8, 20)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
