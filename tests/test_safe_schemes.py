"""Ready schemes on code that nobody here wrote: what they do not know they do not touch, and strict says what each is."""

import copy
import re
import textwrap
import warnings
from functools import partial

import pytest
import torch
from helpers.laws import same_bits
from helpers.models import bits, on_meta, poisoned
from torch import nn

import fastinit
from fastinit import gpt2_like, keras_like, torch_like, truncated_like

SCHEMES = {"keras": keras_like, "torch": torch_like, "gpt2": gpt2_like(2), "truncated": truncated_like()}
each_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


class Gains(nn.Module):
    """Parameters of other people's modules that are no matrices, whatever their names and shapes."""

    def __init__(self, width=8):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.g, self.weight, self.layer_scale = (nn.Parameter(torch.full(s, v)) for s, v in self.constants(width))
        self.A_log = nn.Parameter(torch.arange(1.0, width + 1).log().repeat(width, 1))
        self.mix = nn.Parameter(torch.linspace(0, 1, width).view(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1, width))  # one position is no table
        self.logit_scale, self.weight_scale_inv = nn.Parameter(torch.tensor(2.3)), nn.Parameter(torch.full((2, 2), 0.1))

    @staticmethod
    def constants(width):
        return ((width, 1, 1, 1), 1.0), ((width,), 0.0), ((width,), 1e-5)


GAINS = {"g", "weight", "layer_scale", "pos_embed", "A_log", "mix", "logit_scale", "weight_scale_inv"}


@each_scheme
def test_what_a_scheme_does_not_know_is_named_and_left(scheme):
    model = Gains()
    before = bits(model)
    with pytest.raises(ValueError) as error:
        fastinit.initialize_(model, scheme, seed=0)
    assert all(f"{name} (parameter of Gains" in str(error.value) for name in GAINS) and equal(bits(model), before)
    report = fastinit.initialize_(model, scheme, seed=0, strict=False)
    assert set(report.missed) == GAINS and report["linear.weight"].state == "filled"
    assert equal({name: value for name, value in bits(model).items() if name in GAINS}, {n: before[n] for n in GAINS})
    if scheme._names:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.apply(scheme)
    assert equal({name: value for name, value in bits(model).items() if name in GAINS}, {n: before[n] for n in GAINS})


def equal(one, other):
    return one.keys() == other.keys() and all(same_bits(one[name], other[name]) for name in one)


# --- frozen parameters --------------------------------------------------------------------------------------------------------


class Sines(nn.Embedding):
    def __init__(self):
        super().__init__(9, 6)
        self.weight.requires_grad_(False).copy_(torch.arange(54.0).view(9, 6).sin())


@each_scheme
def test_frozen_parameters_are_left_but_by_a_full_name(scheme):
    model = nn.Sequential(Sines(), nn.Linear(6, 6))
    table = model[0].weight.clone()
    report = fastinit.initialize_(model, scheme, seed=0)
    assert report.frozen == ["0.weight"] and "frozen, as it was: 0.weight" in str(report) and same_bits(model[0].weight, table)
    assert '"state": "frozen"' in report.json()
    by_type = scheme.override({Sines: {"weight": fastinit.ones_}})
    fastinit.initialize_(model, by_type, seed=0, overwrite_constants=True)
    if not scheme._names:
        model.apply(by_type)
    assert same_bits(model[0].weight, table)
    report = fastinit.initialize_(model, scheme.override({"0.weight": fastinit.ones_}), seed=0)
    assert not report.frozen and (model[0].weight == 1).all()


def test_a_frozen_parameter_on_meta_is_named_and_one_tied_to_a_trained_one_is_filled():
    with pytest.raises(ValueError, match=r"0\.weight .*\n.*frozen|frozen.*0\.weight|0\.weight .*frozen"):
        fastinit.initialize_(on_meta(lambda: nn.Sequential(nn.Linear(3, 3).requires_grad_(False))), seed=0, device="cpu")
    model = nn.ModuleList([nn.Linear(5, 3, bias=False), nn.Linear(5, 3, bias=False)])
    model[0].weight = nn.Parameter(model[1].weight.data, requires_grad=False)
    report = fastinit.initialize_(model, seed=0)
    assert report.filled == ["0.weight"] and report.tied == ["1.weight"]


def test_a_model_that_is_frozen_as_a_whole_is_not_left_in_silence():
    with pytest.warns(UserWarning, match="frozen"):
        fastinit.initialize_(nn.Linear(3, 3).requires_grad_(False), seed=0)


# --- normalizations -----------------------------------------------------------------------------------------------------------


class RMSNorm2(nn.Module):
    def __init__(self, dim, eps=1e-6, first=1.0):
        super().__init__()
        self.eps, self.first = eps, first
        self.weight, self.bias = nn.Parameter(torch.full((dim,), first)), nn.Parameter(torch.zeros(dim))


class ConfiguredNorm(nn.Module):
    """Its class alone cannot be built: only what it holds tells its gain."""

    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.full((config["dim"],), config["gain"]))


class CenteredLayerNorm(nn.LayerNorm):
    def reset_parameters(self):
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class Normalize(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))


@each_scheme
@pytest.mark.parametrize("first", [1.0, 0.0, 0.5])
@pytest.mark.parametrize("way", ["constructed", "meta", "to_empty"])
def test_a_gain_is_what_the_constructor_of_its_class_gives(scheme, first, way):
    def make():
        return nn.Sequential(nn.Linear(4, 4), RMSNorm2(4, first=first), CenteredLayerNorm(4))

    model = make() if way == "constructed" else on_meta(make)
    if way == "to_empty":
        model = poisoned(model.to_empty(device="cpu")).requires_grad_()
    fastinit.initialize_(model, scheme, seed=0, device="cpu")
    assert (model[1].weight == first).all() and (model[1].bias == 0).all() and (model[2].weight == 0).all()


class DrawingNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.empty(dim))
        nn.init.uniform_(self.bias)
        nn.init.xavier_normal_(torch.empty(3, 3))


def test_a_class_is_built_without_a_trace():
    """On the CPU wherever the model is made, and without a draw of torch's generator or of a block of accelerate."""
    with fastinit.accelerate(seed=0) as block, torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), DrawingNorm(4))
        state = torch.get_rng_state()
        scheme = keras_like.override({DrawingNorm: {"bias": fastinit.zeros_}})
        fastinit.initialize_(model, scheme, seed=0, device="cpu")
    assert (model[1].weight == 1).all() and torch.equal(torch.get_rng_state(), state)
    assert not block.report.served and not block.report.parameters


@each_scheme
def test_where_a_class_cannot_be_built_what_a_constructor_wrote_decides_and_nobody_else(scheme):
    for gain in (1.0, 0.0):
        model = nn.Sequential(nn.Linear(4, 4), ConfiguredNorm({"dim": 4, "gain": gain}))
        assert fastinit.initialize_(model, scheme, seed=0)["1.weight"].initializer == ("ones_" if gain else "zeros_")
        assert (model[1].weight == gain).all()
    with pytest.raises(ValueError, match=r"1\.weight \(parameter of ConfiguredNorm"):  # copies prove nothing
        fastinit.initialize_(copy.deepcopy(model), scheme, seed=0)
    with pytest.raises(ValueError, match=r"1\.weight \(parameter of ConfiguredNorm(.|\n)*fastinit\.ones_"):
        meta = on_meta(lambda: nn.Sequential(nn.Linear(4, 4), ConfiguredNorm({"dim": 4, "gain": 1.0})))
        fastinit.initialize_(meta, scheme, seed=0, device="cpu")
    with pytest.raises(ValueError, match=r"1\.weight \(parameter of Normalize"):  # no norm by name
        fastinit.initialize_(nn.Sequential(nn.Linear(4, 4), Normalize(4)), scheme, seed=0)


@each_scheme
def test_a_gain_that_the_model_has_changed_is_named_and_kept(scheme):
    for norm in (RMSNorm2(4), nn.LayerNorm(4), nn.BatchNorm2d(4)):
        nn.init.zeros_(norm.weight)
        model = nn.Sequential(nn.Linear(4, 4), norm)
        with pytest.raises(ValueError, match=r"1\.weight \(parameter of"):
            fastinit.initialize_(model, scheme, seed=0)
        fastinit.initialize_(model, scheme, seed=0, strict=False)
        assert (norm.weight == 0).all() and norm.weight.requires_grad
        if isinstance(norm, RMSNorm2) and not scheme._names:
            model.apply(scheme)
            assert (norm.weight == 0).all()


# --- what a constructor has set in torch's own types ----------------------------------------------------------------------------


def constants():
    """A model with a zero gate, a Dirac kernel, a prior in a bias, and a table in a bias."""
    model = nn.ModuleDict({"up": nn.Linear(8, 8, bias=False), "gate": nn.Linear(8, 8, bias=False), "plain": nn.Linear(8, 8)})
    model["mix"], model["prior"], model["table"] = nn.Conv2d(8, 8, 3, bias=False), nn.Linear(8, 4), nn.Linear(8, 4)
    nn.init.zeros_(model["gate"].weight)
    nn.init.dirac_(model["mix"].weight)
    nn.init.constant_(model["prior"].bias, -4.6)
    with torch.no_grad():
        model["table"].bias.copy_(torch.tensor([-4.0, -1.0, 1.0, 4.0]))
    return model


HELD = ["gate.weight", "mix.weight", "prior.bias", "table.bias"]


@each_scheme
def test_constants_of_a_constructor_are_refused_kept_or_replaced_as_asked(scheme):
    model = constants()
    before = bits(model)
    with pytest.raises(ValueError) as error:
        fastinit.initialize_(model, scheme, seed=0)
    text = str(error.value)
    assert equal(bits(model), before) and "plain" not in text and "overwrite_constants=True" in text
    for line in ("gate.weight (parameter of Linear, float32, shape (8, 8), holding 0, ", "holding mostly 0,", "holding -4.6,"):
        assert line in text
    if scheme is not torch_like:  # which draws biases in any case
        assert "table.bias" in text and "values up to 4" in text
    report = fastinit.initialize_(model, scheme, seed=0, strict=False)
    assert set(report.kept) >= {*HELD[:3]} and all(same_bits(bits(model)[name], before[name]) for name in report.kept)
    assert report["plain.weight"].state == report["plain.bias"].state == "filled"
    assert "kept, as it was: gate.weight" in str(report)
    report = fastinit.initialize_(model, scheme, seed=0, overwrite_constants=True)
    assert not report.kept and not any(same_bits(bits(model)[name], before[name]) for name in HELD)
    filled = constants()
    own = scheme.override({nn.Linear: {"weight": fastinit.he_normal_, "bias": fastinit.ones_}, nn.Conv2d: {"*": fastinit.ones_}})
    assert not fastinit.initialize_(filled, own, seed=0).kept  # rules of one's own are meant


@each_scheme
def test_nothing_is_a_constructor_s_in_memory_never_written_after_training_and_in_poison(scheme):
    def trained():
        model = constants()
        model["plain"](torch.ones(1, 8)).sum().backward()
        return model

    empty = poisoned(on_meta(constants).to_empty(device="cpu"))
    for model in (poisoned(constants()), empty, trained(), copy.deepcopy(constants())):
        report = fastinit.initialize_(model, scheme, seed=0)
        assert not report.kept and report.filled == [name for name, _ in model.named_parameters()]
    never = constants()
    never["late"] = nn.utils.skip_init(nn.Linear, 8, 8)
    with torch.no_grad():
        never["late"].weight.data = torch.zeros(8, 8)
    report = fastinit.initialize_(never, scheme, seed=0, strict=False)
    assert report["late.weight"].state == "filled"


class Waves(nn.Module):
    """A table of sines that is trained, with a row of zeros before it."""

    def __init__(self, n=9, size=16):
        super().__init__()
        angle = torch.arange(n)[:, None] / 10000 ** (torch.arange(size // 2) / (size // 2))
        table = torch.cat([torch.zeros(1, size), torch.cat([angle.sin(), angle.cos()], 1)])
        self.pos_embed, self.linear = nn.Parameter(table[None]), nn.Linear(size, size)


def test_a_table_of_sines_is_no_noise():
    model = Waves()
    with pytest.raises(ValueError, match=r"pos_embed .*holding sines and cosines"):
        fastinit.initialize_(model, gpt2_like(2), seed=0)
    nn.init.normal_(model.pos_embed)
    assert fastinit.initialize_(model, gpt2_like(2), seed=0)["pos_embed"].state == "filled"


def test_one_layer_that_was_written_does_not_vouch_for_a_model_that_was_not():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.pos_embed = nn.Parameter(torch.randn(1, 5, 8))

    def make():
        return nn.Sequential(Positions(), nn.Linear(8, 8), nn.Linear(8, 8))

    model = on_meta(make).to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data = torch.zeros_like(parameter)  # as fresh memory is
    model.append(nn.Linear(8, 8))
    assert not fastinit.initialize_(model, gpt2_like(2), seed=0).kept and (model[0].pos_embed != 0).all()


def test_a_default_of_torch_s_own_is_not_the_model_s():
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU(4), nn.PReLU(4, init=0.1), nn.LSTM(4, 4))
    assert fastinit.initialize_(model, keras_like, seed=0, strict=False).kept == ["2.weight"]
    assert (model[1].weight == 0).all()  # Keras's
    assert not fastinit.initialize_(nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)).apply(keras_like), seed=0).kept


# --- parametrized weights -----------------------------------------------------------------------------------------------------


def test_weight_norm_under_the_schemes_for_any_model():
    norm = nn.utils.parametrizations.weight_norm
    for scheme, law in ((gpt2_like(2), fastinit.normal_), (truncated_like(), fastinit.truncated_normal_)):
        model = nn.Sequential(norm(nn.Linear(6, 5)), nn.Linear(5, 5))
        report = fastinit.initialize_(model, scheme, seed=3)
        expected = law(torch.empty(5, 6), std=0.02, key=fastinit.key(3, "0.weight"))
        assert report.filled == ["0.bias", "0.weight", "1.weight", "1.bias"]
        assert torch.allclose(model[0].weight, expected, rtol=1e-5, atol=0) and (model[0].bias == 0).all()
    left = nn.Sequential(norm(nn.Linear(60, 50)), nn.Linear(5, 5))
    before = bits(left)
    fastinit.initialize_(left, keras_like.override({"0.weight": None}), seed=0)
    assert all(same_bits(value, before[name]) for name, value in bits(left).items() if "original" in name)


# --- the message, and the warning ---------------------------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.norm, self.scale = nn.LayerNorm(width), nn.Parameter(torch.ones(width))
        self.inout = nn.Parameter(torch.randn(width, 5 * width) * 0.02)
        self.spread = nn.Parameter(torch.empty(20, width).uniform_(-0.1, 0.1))
        self.up, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.gate.weight)


def mended(error, scheme):
    """The scheme that the message makes of this one."""
    code = textwrap.dedent(str(error.value).partition("\n\n")[2])
    names = {"scheme": scheme}
    exec(code, names)
    return names["scheme"], code


@each_scheme
def test_the_message_is_the_mend(scheme):
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Embedding(9, 16), "layers": nn.ModuleList(Layer() for _ in range(33))})
    before = bits(model)
    with pytest.raises(ValueError) as error:
        fastinit.initialize_(model, scheme, seed=0)
    head = str(error.value).partition("Say what")[0]
    names = "layers.0.scale, layers.1.scale, layers.2.scale and 30 more (parameters of 33 modules Layer"
    assert "these 132 parameters" in head and head.count("\n") == 5 and names in head
    better, code = mended(error, scheme)
    assert "import Layer" in code and "partial(fastinit.uniform_, a=-0.1, b=0.1)" in code
    assert re.search(r"partial\(fastinit.normal_, std=0\.0(19|2|21)\)", code)
    report = fastinit.initialize_(model, better, seed=0)
    after = bits(model)
    for name, value in after.items():
        kept = name.endswith(("scale", "gate.weight"))
        assert same_bits(value, before[name]) == kept or not name.endswith(("scale", "gate.weight", "inout", "spread")), name
    assert not report.missed and not report.kept


def test_the_mend_of_classes_that_cannot_be_imported_and_of_a_norm_on_meta():
    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma, self.beta = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))

    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), Local()) for _ in range(3)))
    with pytest.raises(ValueError) as error:
        fastinit.initialize_(model, seed=0)
    better, code = mended(error, keras_like)
    assert "'*.*.gamma': None,  # stays 1" in code and fastinit.initialize_(model, better, seed=0).left == [
        f"{number}.1.{name}" for number in range(3) for name in ("gamma", "beta")
    ]
    meta = on_meta(lambda: nn.Sequential(nn.Linear(4, 4), ConfiguredNorm({"dim": 4, "gain": 1.0})))
    with pytest.raises(ValueError) as error:
        fastinit.initialize_(meta, seed=0, device="cpu")
    better, _ = mended(error, keras_like)
    fastinit.initialize_(meta, better, seed=0, device="cpu")
    assert (meta[1].weight == 1).all()


def test_a_mend_covers_what_is_missed_and_nothing_else():
    """A rule by class would leave what the scheme fills elsewhere; so would a pattern over all layers."""
    blocks = (nn.ModuleDict({"norm": nn.BatchNorm1d(4), "fc": nn.Linear(4, 4)}) for _ in range(3))
    model = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
    nn.init.zeros_(model["blocks"][1]["norm"].weight)
    with pytest.raises(ValueError) as error:
        fastinit.initialize_(model, seed=0)
    better, code = mended(error, keras_like)
    assert "'blocks.1.norm.weight': None" in code and "BatchNorm1d:" not in code
    report = fastinit.initialize_(model, better, seed=0)
    assert report.left == ["blocks.1.norm.weight"] and (model["blocks"][0]["norm"].weight == 1).all()


class InOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.randn(6, 9)), nn.Parameter(torch.ones(9))


def test_apply_warns_once_a_class_of_random_parameters_that_it_left():
    def told(model, scheme=keras_like):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.apply(scheme)
        return [str(one.message) for one in caught]

    model = nn.Sequential(InOut(), nn.Linear(3, 3), InOut(), InOut())
    for _ in range(2):  # the same model again is said again
        (text,) = told(model)
        assert "InOut.weight" in text and "scale" not in text and "override" in text
    assert told(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))) != []
    assert told(nn.Sequential(InOut()), keras_like.override({InOut: None})) == []
    assert told(nn.Sequential(InOut()), keras_like.override({nn.Sequential: {"0.weight": fastinit.normal_}})) == []
    frozen = InOut()
    frozen.weight.requires_grad_(False)
    assert told(nn.Sequential(frozen, nn.LSTM(3, 3), nn.MultiheadAttention(4, 2)), keras_like.override({})) == []


def test_a_ready_scheme_s_guess_of_names_does_not_reach_what_is_no_matrix():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 6))

    model = nn.ModuleDict({"mlp": nn.ModuleDict({"c_proj": Odd(), "up": nn.Linear(6, 6)})})
    with pytest.raises(ValueError, match=r"mlp\.c_proj\.weight"):
        fastinit.initialize_(model, gpt2_like(4), seed=0)
    fastinit.initialize_(model, gpt2_like(4, residual=["*.c_proj.weight"]), seed=0)  # one's own names are meant
    assert model["mlp"]["c_proj"].weight.std() < 0.02
    scheme = gpt2_like(4).override({Odd: {"weight": partial(fastinit.constant_, val=3.0)}})
    fastinit.initialize_(model, scheme, seed=0)
