"""Schemes of families have the laws of the code that they are named after: of the libraries where they are installed, of the
formulas in any case."""

import math
from functools import partial

import pytest
import torch
from helpers.pooled import differences, pooled
from helpers.real import library
from torch import nn

import fastinit
from fastinit import llama_like, t5_like, vit_like

SEEDS = range(6)


def check(make, scheme, *others):
    """The scheme fills all of a model, with the laws that its constructor has; other schemes are told apart."""

    def theirs(seed):
        torch.manual_seed(seed)
        return make()

    def filled(seed, scheme):
        assert fastinit.initialize_(model, scheme, seed=seed, overwrite_constants=True).missed == []
        return model

    expected, model = pooled(theirs, SEEDS, pool=True), make()
    assert fastinit.initialize_(make(), scheme, seed=0).missed == []  # no constant of the constructor is in its way
    assert differences(expected, pooled(partial(filled, scheme=scheme), SEEDS, pool=True)) == []
    for other in others:
        assert differences(expected, pooled(partial(filled, scheme=other), SEEDS, pool=True)) != []


# --- the libraries ------------------------------------------------------------------------------------------------------------

LLAMA = {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
T5 = {"d_model": 64, "d_kv": 8, "d_ff": 80, "num_layers": 2, "num_heads": 8, "vocab_size": 64}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4, "num_classes": 40}


@pytest.mark.extra
def test_llama_like_is_transformers():
    transformers = library("transformers")
    config = transformers.LlamaConfig(**LLAMA, pad_token_id=3, attention_bias=True, mlp_bias=True, tie_word_embeddings=False)
    check(partial(transformers.LlamaForCausalLM, config), llama_like(), llama_like(0.021), fastinit.truncated_like())


@pytest.mark.extra
@pytest.mark.parametrize("options", [{}, {"feed_forward_proj": "gated-gelu", "initializer_factor": 0.5}], ids=str)
def test_t5_like_is_transformers(options):
    transformers = library("transformers")
    config = transformers.T5Config(**T5, **options, tie_word_embeddings=False, num_labels=30)
    factor = options.get("initializer_factor", 1.0)
    scheme = t5_like(64, d_kv=8, factor=factor)
    check(partial(transformers.T5ForConditionalGeneration, config), scheme, t5_like(64, d_kv=9, factor=factor))
    for kind in (transformers.T5ForSequenceClassification, transformers.T5ForQuestionAnswering):
        check(partial(kind, config), scheme)


@pytest.mark.extra
def test_vit_like_is_transformers():
    transformers = library("transformers")
    sizes = {name: size for name, size in LLAMA.items() if name != "vocab_size"}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=40)
    like = vit_like("transformers")
    check(partial(transformers.ViTForImageClassification, config), like, vit_like("transformers", std=0.021), vit_like("timm"))
    check(partial(transformers.ViTForMaskedImageModeling, config), like)


@pytest.mark.extra
@pytest.mark.parametrize("flavor", ["timm", "jax", "jax_nlhb", "moco"])
def test_vit_like_is_timm(flavor):
    timm = library("timm")
    mode = "" if flavor == "timm" else flavor
    make = partial(timm.models.VisionTransformer, **VIT, weight_init=mode, reg_tokens=2)
    others = {"timm": "moco", "jax": "timm", "jax_nlhb": "jax", "moco": "jax"}
    check(make, vit_like(flavor), vit_like(others[flavor]))


# --- torchtitan, whose formulas are these ------------------------------------------------------------------------------------


class TitanBlock(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.attention_norm, self.ffn_norm = nn.RMSNorm(d), nn.RMSNorm(d)
        self.attention = nn.ModuleDict({name: nn.Linear(d, d, bias=False) for name in ("wq", "wk", "wv", "wo")})
        linear = partial(nn.Linear, bias=False)
        self.feed_forward = nn.ModuleDict({"w1": linear(d, h), "w2": linear(h, d), "w3": linear(d, h)})


class Titan(nn.Module):
    def __init__(self, d=48, layers=3):
        super().__init__()
        self.tok_embeddings = nn.Embedding(64, d)
        self.layers = nn.ModuleDict({str(i): TitanBlock(d, 80) for i in range(layers)})
        self.norm, self.output = nn.RMSNorm(d), nn.Linear(d, 64, bias=False)


def as_titan(seed):
    """trunc_normal_(std=0.02), but for wo, w2 and w3: 0.02 / sqrt(2 (layer + 1)); the output's std is dim ** -0.5, cut at 3."""
    model, cut = Titan(), partial(nn.init.trunc_normal_, mean=0.0)
    torch.manual_seed(seed)
    nn.init.normal_(model.tok_embeddings.weight)
    for number, layer in model.layers.items():
        std = 0.02 / (2 * (int(number) + 1)) ** 0.5
        for name in ("wq", "wk", "wv"):
            cut(layer.attention[name].weight, std=0.02)
        cut(layer.attention["wo"].weight, std=std)
        cut(layer.feed_forward["w1"].weight, std=0.02)
        for name in ("w2", "w3"):
            cut(layer.feed_forward[name].weight, std=std)
    last = 48**-0.5
    cut(model.output.weight, std=last, a=-3 * last, b=3 * last)
    return model


def test_llama_like_is_torchtitan():
    def mine(seed, scheme):
        model = Titan()
        assert fastinit.initialize_(model, scheme, seed=seed).missed == []
        return model

    theirs = pooled(as_titan, SEEDS, pool=False)
    assert differences(theirs, pooled(partial(mine, scheme=llama_like(flavor="torchtitan")), SEEDS, pool=False)) == []
    flat = pooled(partial(mine, scheme=llama_like()), SEEDS, pool=False)
    wrong = {line.split(":")[0] for line in differences(theirs, flat)}
    assert {"tok_embeddings.weight", "output.weight", "layers.0.attention.wo.weight", "layers.2.feed_forward.w3.weight"} <= wrong
    report = fastinit.initialize_(Titan(), llama_like(0.04, "torchtitan"), seed=0)
    assert report["layers.1.feed_forward.w2.weight"].initializer == "trunc_normal_(std=0.02)"
    assert report["layers.1.feed_forward.w1.weight"].initializer == "trunc_normal_(std=0.04)"
    stage = fastinit.initialize_(TitanBlock(8, 12), llama_like(flavor="torchtitan"), seed=0, prefix="layers.7")
    assert stage["layers.7.attention.wo.weight"].initializer == f"trunc_normal_(std={0.02 / 4})"


# --- what they leave, and what they refuse ------------------------------------------------------------------------------------


class Stranger(nn.Module):
    """Parameters that no family knows."""

    def __init__(self):
        super().__init__()
        self.linear, self.gain = nn.Linear(4, 4), nn.Parameter(torch.ones(1, 4, 1, 1))
        self.A_log, self.scale = nn.Parameter(torch.rand(4, 3)), nn.Parameter(torch.full((4,), 1e-5))


ALL = [llama_like(), llama_like(flavor="torchtitan"), t5_like(4), fastinit.mup_like(4, 4, output="linear.weight")]
ALL += [vit_like(flavor) for flavor in ("timm", "jax", "jax_nlhb", "moco", "transformers")]


@pytest.mark.parametrize("scheme", ALL, ids=range(len(ALL)))
def test_they_touch_only_what_they_know(scheme):
    model = Stranger()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"(?s)gain.*A_log|A_log.*gain"):
        fastinit.initialize_(model, scheme, seed=0)
    report = fastinit.initialize_(model, scheme, seed=0, strict=False)
    assert sorted(report.missed) == ["A_log", "gain", "scale"]
    assert all(torch.equal(before[name], getattr(model, name)) for name in report.missed)
    assert not torch.equal(before["linear.weight"], model.linear.weight)


def test_wrong_arguments_are_named():
    cases = [
        (partial(llama_like, 0.0), "std"),
        (partial(llama_like, flavor="llama"), "flavor='llama'"),
        (partial(vit_like, "jaxx"), "flavor='jaxx'"),
        (partial(t5_like, 0), "d_model=0"),
        (partial(t5_like, 4, d_kv=True), "d_kv=True"),
        (partial(t5_like, 4, factor=-1.0), "factor"),
        (partial(fastinit.mup_like, 0, 4, output="x"), "width=0"),
        (partial(fastinit.mup_like, 4, 4, output=()), "output"),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(ValueError, match="lm_head"):
        fastinit.initialize_(nn.Linear(3, 3), fastinit.mup_like(4, 4, output="lm_head.weight"), seed=0)


def test_the_stds_of_t5_are_its_formulas():
    attention = nn.ModuleDict({name: nn.Linear(64, 24, bias=False) for name in "qkv"})
    attention["o"], attention["relative_attention_bias"] = nn.Linear(24, 64, bias=False), nn.Embedding(32, 3)
    dense = nn.ModuleDict({"wi": nn.Linear(64, 100, bias=False), "wo": nn.Linear(100, 64, bias=False)})
    model = nn.ModuleDict({"shared": nn.Embedding(9, 64), "SelfAttention": attention, "DenseReluDense": dense})
    fastinit.initialize_(model, t5_like(64, d_kv=8, factor=2.0), seed=0)
    stds = {"q": 2 / math.sqrt(64 * 8), "k": 2 / 8, "v": 2 / 8, "o": 2 / math.sqrt(24), "relative_attention_bias": 2 / 8}
    stds = {f"SelfAttention.{name}": std for name, std in stds.items()} | {"shared": 2.0}
    stds |= {"DenseReluDense.wi": 2 / 8, "DenseReluDense.wo": 2 / 10}
    for name, std in stds.items():
        values = fastinit.normal_(
            torch.empty_like(weight := model.get_submodule(name).weight), std=std, key=fastinit.key(0, f"{name}.weight")
        )
        assert torch.equal(values, weight), name


def test_fans_of_the_ends():
    """The last matrix of torchtitan and the bias of classes are what their formulas say, exactly."""
    report = fastinit.initialize_(Titan(), llama_like(flavor="torchtitan"), seed=0)
    assert report["output.weight"].initializer == "fan_in_normal_"
    head = nn.ModuleDict({"head": nn.Linear(6, 20)})
    fastinit.initialize_(head, vit_like("jax_nlhb"), seed=0, overwrite_constants=True)
    assert head["head"].bias.tolist() == pytest.approx([-math.log(20)] * 20) and not head["head"].weight.any()
