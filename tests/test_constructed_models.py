"""Models of transformers, and what others are like, on meta: from_constructor gives what is missing, in one call."""

import os

import pytest
import torch
from helpers.laws import same_bits
from helpers.models import on_meta
from helpers.real import library
from torch import nn

import fastinit

os.environ.setdefault("HF_HUB_OFFLINE", "1")
SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
YARN = {"rope_type": "yarn", "factor": 8.0, "rope_theta": 1e4, "original_max_position_embeddings": 8}
IMAGES = {"image_size": 16, "patch_size": 4, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SWIN = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
WORDS, PIXELS = {"input_ids": torch.arange(8)[None]}, {"pixel_values": torch.linspace(-1, 1, 768).view(1, 3, 16, 16)}
MODELS = {  # name -> settings, inputs, and random parameters that no rule of gpt2_like fills
    "LlamaForCausalLM": (SMALL, WORDS, ()),
    "GemmaForCausalLM": (SMALL, WORDS, ()),
    "MixtralForCausalLM": (SMALL | EXPERTS, WORDS, ("mlp.gate.weight",)),
    "GptOssForCausalLM": (SMALL | EXPERTS | {"rope_parameters": YARN}, WORDS, ("sinks", "router.weight", "router.bias")),
    "SwinModel": (SWIN, PIXELS, ()),
    "BeitModel": (IMAGES | {"use_relative_position_bias": True, "intermediate_size": 48}, PIXELS, ()),
}


@pytest.mark.extra
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_of_transformers(name, dtype):
    transformers = library("transformers")
    settings, inputs, chance = MODELS[name]
    kind = getattr(transformers, name)

    def make():
        return kind(kind.config_class(**settings))

    scheme, build = fastinit.gpt2_like(2), fastinit.from_constructor(make)
    model, expected, constructed = on_meta(make).to(dtype), make().to(dtype), make().to(dtype)
    report = fastinit.initialize_(model, scheme, seed=1, device="cpu", reset_buffers=build)
    check(model, constructed, report, chance)
    if dtype is torch.float32:  # `to` leaves nothing that shows a constructor's hand
        assert fastinit.initialize_(expected, scheme, seed=1, reset_buffers=build) == report
        assert all(same_bits(model.state_dict()[key], value) for key, value in expected.state_dict().items())
    with torch.no_grad():
        inputs = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
        assert model.eval()(**inputs)[0].isfinite().all()


TIMM = {
    "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 4, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2)},
    "beit_base_patch16_224": {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5},
}


@pytest.mark.extra
@pytest.mark.parametrize("name", TIMM)
def test_models_of_timm(name):
    chance = ("cls_token", "attn.relative_position_bias_table") if "swin" in name else ("cls_token",)
    timm = library("timm")

    def make():
        return timm.create_model(name, **TIMM[name])

    model, build = on_meta(make), fastinit.from_constructor(make)
    report = fastinit.initialize_(model, fastinit.gpt2_like(2), seed=1, device="cpu", reset_buffers=build)
    check(model, make(), report, chance)
    expected = make()
    assert fastinit.initialize_(expected, fastinit.gpt2_like(2), seed=1, reset_buffers=build) == report
    assert all(same_bits(model.state_dict()[key], value) for key, value in expected.state_dict().items())
    assert model.eval()(torch.ones(1, 3, *[TIMM[name]["img_size"]] * 2)).isfinite().all()


def check(model, constructed, report, chance=()):
    """Nothing is on meta; what no rule has filled is what a construction gives, and random where that is."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    others = dict(constructed.named_parameters()) | dict(constructed.named_buffers())
    assert not any(tensor.is_meta for tensor in tensors.values())
    given = [entry for entry in report.entries if entry.initializer == "as constructed" and entry.kind != "plain attribute"]
    drawn = [entry.name for entry in given if entry.name.endswith(tuple(chance))] if chance else []
    assert given and all(same_bits(tensors[e.name].detach(), others[e.name].detach()) for e in given if e.name not in drawn)
    assert all(tensors[name].unique().numel() > 1 for name in drawn)


class Chat(nn.Module):
    """As in nanochat and litgpt: rotary tables in a buffer of their own kind, a zero head, caches that are plain attributes."""

    def __init__(self, n=16, layers=2):
        super().__init__()
        self.table, self.head = nn.Embedding(20, n), nn.Linear(n, 20, bias=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(n, n, bias=False), "down": nn.Linear(n, n)}) for _ in range(layers)
        )
        self.rescale, self.cache = nn.Parameter(torch.ones(layers)), {"mask": torch.ones(8, 8).tril().bool()}
        nn.init.zeros_(self.head.weight)
        angles = torch.outer(torch.arange(8.0), 1e4 ** (-torch.arange(0, n, 2) / n))
        self.register_buffer("cos", angles.cos().bfloat16()[None, :, None], persistent=False)
        self.sin = angles.sin().bfloat16()[None, :, None]

    def forward(self, words):
        x = self.table(words) * torch.cat([self.cos, self.sin], -1)[0, : words.shape[-1], 0]
        for scale, block in zip(self.rescale, self.blocks, strict=True):
            x = x + scale * self.cache["mask"][: len(x), : len(x)].float() @ block["down"](block["up"](x).relu())
        return self.head(x)


class Diffusion(nn.Module):
    """A U-Net's parts: gains of shape [1, C, 1, 1], a zero last convolution, schedules, frequencies of the time."""

    def __init__(self, c=8):
        super().__init__()
        self.enter, self.leave, self.norm = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1), nn.GroupNorm(2, c)
        self.g, self.weights = nn.Parameter(torch.ones(1, c, 1, 1)), nn.Parameter(torch.randn(c // 2), requires_grad=False)
        self.leave.weight.detach().zero_()
        betas = torch.linspace(1e-4, 0.02, 10, dtype=torch.float64)
        self.register_buffer("alphas", (1 - betas).cumprod(0).float())
        self.schedule = [betas, (1 - betas).sqrt()]

    def forward(self, x):
        time = torch.cat([(self.weights * self.schedule[1][3]).sin(), (self.weights * self.alphas[3]).cos()]).float()
        return self.leave(self.norm(self.enter(x)) * self.g + time[:, None, None])


@pytest.mark.parametrize(
    ("kind", "inputs", "chance"), [(Chat, torch.arange(6), ()), (Diffusion, torch.ones(1, 3, 4, 4), ["weights"])]
)
def test_models_that_are_like_others(kind, inputs, chance):
    model, expected, build = on_meta(kind), kind(), fastinit.from_constructor(kind)
    report = fastinit.initialize_(model, fastinit.gpt2_like(2), seed=1, device="cpu", reset_buffers=build)
    check(model, kind(), report, chance)
    fastinit.initialize_(expected, fastinit.gpt2_like(2), seed=1, reset_buffers=build)
    assert torch.equal(model(inputs), expected(inputs)) and model(inputs).isfinite().all()
