"""The schemes beyond keras_like: torch_like against torch's own reset_parameters, transformers' schemes, rules for names."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from helpers.laws import same_bits
from helpers.models import poisoned
from scipy.stats import ks_2samp
from torch import nn

import fastinit
from fastinit import gpt2_like, torch_like, truncated_like

WIDE = 96
LAYERS = [
    nn.Linear(WIDE, 80),
    nn.Bilinear(30, 9, 40),
    *(kind(24, 32, 3, groups=2) for kind in (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)),
    nn.Conv3d(4, 32, 3),
    nn.ConvTranspose3d(4, 32, 3),
    nn.RNN(20, 30, 2, bidirectional=True),
    nn.GRU(20, 30),
    nn.LSTM(20, 32, proj_size=16),
    *(kind(20, 30) for kind in (nn.RNNCell, nn.GRUCell, nn.LSTMCell)),
    nn.Embedding(70, 40, padding_idx=1),
    nn.EmbeddingBag(70, 40),
    nn.BatchNorm2d(9),
    nn.InstanceNorm2d(9, affine=True, track_running_stats=True),
    nn.GroupNorm(3, 9),
    nn.LayerNorm([5, 9]),
    nn.RMSNorm(9),
    nn.MultiheadAttention(64, 4, add_bias_kv=True),
    nn.MultiheadAttention(64, 4, kdim=32, vdim=48, bias=False),
    nn.PReLU(5, init=0.3),
    nn.TransformerEncoderLayer(32, 4, 64),
    nn.Transformer(32, 2, 1, 1, 64),
    nn.AdaptiveLogSoftmaxWithLoss(40, 100, [10, 50]),
]


@pytest.mark.one_of_each
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("apply", [False, True])
def test_torch_like_draws_from_torch_s_own_laws(layer, apply):
    """Equal constants, equal supports, and no difference that a Kolmogorov-Smirnov test of fixed draws would notice."""
    torch.manual_seed(1)
    theirs = copy.deepcopy(layer)
    for module in theirs.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    for module in reversed(list(theirs.modules())):  # attention and nn.Transformer: after their children, as in __init__
        if hasattr(module, "_reset_parameters"):
            module._reset_parameters()
    ours = poisoned(copy.deepcopy(layer))
    if apply:
        torch.manual_seed(2)
        ours.apply(torch_like)
    else:
        report = fastinit.initialize_(ours, torch_like, seed=2)
        assert not report.missed and not report.left
    for name, expected in theirs.state_dict().items():
        found = ours.state_dict()[name]
        if expected.numel() == 1 or expected.float().std() == 0:
            assert torch.equal(found, expected), name
            continue
        assert ks_2samp(found.flatten(), expected.flatten()).pvalue > 1e-4, name
        assert torch.equal(found == 0, expected == 0) or found.ndim == 1, name  # padding
        largest, limit = found.abs().max().item(), expected.abs().max().item()
        if "embedding" not in type(layer).__name__.lower() and "bias_" not in name[:5]:  # uniform: n values come that near
            assert abs(largest - limit) <= 25 / found.numel() * max(limit, largest), name


def normal(shape, std, seed, name):
    return fastinit.normal_(torch.empty(shape), std=std, key=fastinit.key(seed, name))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.ModuleDict({"up": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})


class OwnNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class Own(nn.Module):
    """A normalization of its own, positions, experts and their router."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.pos_embed = OwnNorm(width), nn.Parameter(torch.randn(1, 5, width))
        self.experts, self.router = OwnExperts(width), TopKRouter(width)


class OwnExperts(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down_proj = nn.Parameter(torch.randn(3, width, 2 * width))


class TopKRouter(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, width))


def test_gpt2_like():
    model = nn.ModuleDict({"wte": nn.Embedding(50, 16), "h": nn.ModuleList([Block(16), Block(16)]), "own": Own(16)})
    model["norm"], model["slope"] = nn.BatchNorm2d(4), nn.PReLU(4)
    report = fastinit.initialize_(model, gpt2_like(n_layer=8), seed=3)
    values = model.state_dict()
    for name, std in {
        "wte.weight": 0.02,
        "h.0.c_attn.weight": 0.02,
        "h.1.c_proj.weight": 0.02 / 4,
        "h.1.mlp.c_proj.weight": 0.02 / 4,
        "h.0.mlp.up.weight": 0.02,
        "own.pos_embed": 0.02,
        "own.experts.down_proj": 0.02,
        "own.router.weight": 0.02,
    }.items():
        assert same_bits(values[name], normal(values[name].shape, std, 3, name)), name
    for name, value in {"h.0.ln_1.weight": 1, "own.norm.weight": 1, "norm.running_var": 1, "slope.weight": 0.25}.items():
        assert (values[name] == value).all(), name
    for name in ("h.0.ln_1.bias", "h.1.c_proj.bias", "norm.running_mean", "norm.bias"):
        assert (values[name] == 0).all(), name
    assert not report.missed
    fastinit.initialize_(model, gpt2_like(8, std=0.1, residual=["*.up.weight"]), seed=3)
    assert same_bits(model["h"][0].mlp["up"].weight.detach(), normal((64, 16), 0.1 / 4, 3, "h.0.mlp.up.weight"))
    assert same_bits(model["h"][1].c_proj.weight.detach(), normal((16, 16), 0.1, 3, "h.1.c_proj.weight"))
    for arguments, kind in (((0,), ValueError), ((1.5,), ValueError), ((True,), ValueError), (("a",), ValueError)):
        with pytest.raises(kind, match="n_layer must be an int >= 1"):
            gpt2_like(*arguments)
    with pytest.raises(ValueError, match="std must be positive"):
        gpt2_like(2, std=0.0)


def test_truncated_like():
    model = nn.Sequential(nn.Conv2d(3, 16, 4), nn.LayerNorm([4, 4]), Own(8), nn.MultiheadAttention(16, 2, add_bias_kv=True))
    fastinit.initialize_(model, truncated_like(0.05, 1.5), seed=1)
    expected = fastinit.truncated_normal_(torch.empty(16, 3, 4, 4), std=0.05, a=-0.075, b=0.075, key=fastinit.key(1, "0.weight"))
    assert same_bits(model[0].weight.detach(), expected) and expected.abs().max() <= 0.075
    assert (model[1].weight == 1).all() and (model[2].norm.weight == 1).all() and (model[3].in_proj_bias == 0).all()
    assert 0 < model[2].pos_embed.abs().max() <= 0.075
    assert (model[3].bias_k == 0).all() and (model[3].bias_v == 0).all()
    torch.manual_seed(0)
    model.apply(truncated_like())
    assert 0.039 < model[0].weight.abs().max() <= 0.04
    for arguments in ((0.0, 2.0), (0.02, -1.0), (math.inf, 2.0)):
        with pytest.raises(ValueError, match="Received"):
            truncated_like(*arguments)
    scheme = truncated_like(0.02, 2.0)
    with pytest.raises(ValueError, match="gain"):
        model[2].gain = nn.Parameter(torch.zeros(3))
        fastinit.initialize_(model, scheme, seed=0)


def test_rules_for_full_names_go_first_and_the_later_ones_win():
    model = nn.ModuleDict({"body": nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), "head": nn.Linear(3, 3)})
    constant = {n: partial(fastinit.constant_, val=float(n)) for n in (1, 2, 3)}
    scheme = fastinit.keras_like.override({"body.*.weight": constant[1], "*.1.weight": constant[2]})
    scheme = scheme.override({"head.?eight": constant[3]})
    fastinit.initialize_(model, scheme, seed=0)
    assert [layer.weight.mean().item() for layer in (*model["body"], model["head"])] == [1, 2, 3]
    again = scheme.override({"body.*.weight": constant[1]})  # now the latest
    fastinit.initialize_(model, again, seed=0)
    assert model["body"][1].weight.mean() == 1
    fastinit.initialize_(model["body"], scheme, seed=0, prefix="body")
    assert model["body"][0].weight.mean() == 1
    with pytest.raises(ValueError, match=r"rules for full names needs a whole model.*body"):
        model.apply(scheme)
    for wrong in ({"head.*": 3}, {3: fastinit.ones_}):
        with pytest.raises(TypeError, match="Received"):
            fastinit.keras_like.override(wrong)


def test_a_bare_asterisk_covers_no_buffers():
    class Tables(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((3,), 7.0))
            self.register_buffer("frequencies", torch.full((3,), 7.0))
            self.register_buffer("mask", torch.ones(3, dtype=torch.bool))

    for rules in ({"*": fastinit.zeros_}, {Tables: {"*": fastinit.zeros_}}, {nn.ModuleDict: {"inner.*": fastinit.zeros_}}):
        model = nn.ModuleDict({"inner": Tables()})
        report = fastinit.initialize_(model, fastinit.Scheme(rules), seed=0)
        assert report.filled == ["inner.weight"] and report.left == ["inner.frequencies", "inner.mask"]
        assert (model["inner"].frequencies == 7).all() and (model["inner"].weight == 0).all()
        if "*" not in rules:
            model.apply(fastinit.Scheme(rules))
            assert (model["inner"].frequencies == 7).all()
    report = fastinit.initialize_(model, fastinit.Scheme({"*freq*": fastinit.ones_, "*.weight": None}), seed=0)
    assert report.filled == ["inner.frequencies"] and (model["inner"].frequencies == 1).all()


def test_rules_for_names_below_a_module_go_before_the_inner_rule():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))

    scheme = fastinit.keras_like.override(
        {
            Outer: {"*": partial(fastinit.constant_, val=5.0), "inner.0.weight": fastinit.eye_, "inner.*.bias": fastinit.ones_},
            nn.Sequential: {"0.weight": fastinit.ones_},
        }
    )
    for apply in (True, False):
        model = nn.Sequential(nn.Linear(3, 3), Outer())
        if apply:
            model.apply(scheme)
        else:
            fastinit.initialize_(model, scheme, seed=0)
        assert torch.equal(model[1].inner[0].weight, torch.eye(3)) and (model[1].inner[1].bias == 1).all()
        assert (model[0].weight == 1).all() and (model[0].bias == 0).all() and (model[1].inner[1].weight == 1).all()


def test_schemes_print_as_tables_copy_and_pickle():
    scheme = gpt2_like(12).override({nn.Conv1d: None, nn.LSTM: {"weight_hh*": fastinit.orthogonal_}, "*.gain": None})
    lines = [line.split() for line in str(scheme).splitlines()]
    assert lines[0] == ["module", "parameter", "initializer"] and lines[1] == ["full", "name", "*.gain", "None"]
    assert ["full", "name", "*.c_proj.weight", f"normal_(std={0.02 / math.sqrt(24)})"] in lines
    assert ["Module", "by", "the", "module", "known_by_class"] in lines
    assert ["LSTM", "weight_hh*", "orthogonal_"] in lines and ["Conv1d", "by", "the", "module", "None"] in lines
    assert max(map(len, str(torch_like).splitlines())) < 100
    for twin in (copy.deepcopy(scheme), pickle.loads(pickle.dumps(scheme))):
        assert repr(twin) == repr(scheme) and "'*.gain': None" in repr(scheme)
