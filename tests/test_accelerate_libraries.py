"""`accelerate` around the constructors of transformers and timm, where they are installed."""

import math
import sys
import types

import pytest
import torch
from helpers.serving import expected, parameter

from fastinit._accelerate import accelerate

pytestmark = pytest.mark.usefixtures("nothing_of_accelerate_stays")


MODELS = {
    "GPT2": ("GPT2LMHeadModel", {"n_layer": 2, "n_embd": 64, "n_head": 2, "vocab_size": 128, "n_positions": 32}),
    "Llama": ("LlamaForCausalLM", {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128}),
    "ViT": ("ViTForImageClassification", {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "image_size": 32}),
}


@pytest.mark.parametrize("name", MODELS)
def test_transformers_unchanged(name, fills, tmp_path):
    """The seed alone decides the weights; what a checkpoint holds is not overwritten, what it lacks is served."""
    transformers = pytest.importorskip("transformers")
    kind, sizes = MODELS[name]
    heads = {} if name == "GPT2" else {"num_attention_heads": 2}
    options = getattr(transformers, name + "Config")(**sizes, **heads, bos_token_id=0, eos_token_id=0)
    make, state = getattr(transformers, kind), torch.get_rng_state()
    with accelerate(seed=5):
        model = make(options)
    with accelerate(seed=5):
        again = make(options)
    with accelerate(seed=6):
        other = make(options)
    assert torch.equal(torch.get_rng_state(), state) or name == "ViT"  # which draws torch.randn before it fills
    for (key, one), same, different in zip(model.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same) and (not torch.equal(one, different) or one.std() == 0), key

    weights = {key: value.clone() for key, value in model.state_dict().items()}
    missing = next(key for key, value in weights.items() if value.ndim == 2 and "wte" not in key and "embed" not in key)
    model.save_pretrained(tmp_path, state_dict={key: value for key, value in weights.items() if key != missing})
    fills.clear()
    with accelerate(seed=7):
        loaded, report = make.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == {missing} and fills == ["normal_"]
    for key, value in loaded.state_dict().items():
        fresh = expected("normal_", 7, 0, value.shape, std=0.02)
        assert torch.equal(value, fresh if key == missing else weights[key]), key


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "convnext_atto", "mixer_s32_224"])
def test_timm_unchanged(name):
    timm = pytest.importorskip("timm")
    state = torch.get_rng_state()
    with accelerate(seed=5):
        model = timm.create_model(name)
    with accelerate(seed=5):
        torch.manual_seed(1)
        again = timm.create_model(name)
    torch.set_rng_state(state)
    for (key, one), same in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, same), key


def test_timm_s_truncated_normal(monkeypatch):
    """Under its private name, whose signature must be the one known; a module in its place will do."""

    def by_hand(tensor, mean, std, a, b):
        with torch.no_grad():
            return tensor.uniform_(-0.5, 0.5)

    timm = types.ModuleType("timm.layers.weight_init")
    timm._trunc_normal_ = by_hand
    monkeypatch.setitem(sys.modules, "timm.layers.weight_init", timm)
    p, std = parameter(), 0.02
    with accelerate(seed=5):
        assert timm._trunc_normal_(p, 0.0, std, -0.03, b=0.05) is p
    assert torch.equal(p, expected("trunc_normal_", 5, 0, std=std, a=-0.03, b=0.05)) and timm._trunc_normal_ is by_hand
    timm._trunc_normal_ = lambda tensor, std: tensor
    with accelerate(seed=5):
        assert timm._trunc_normal_(p, 3) is p
    assert torch.equal(p, expected("trunc_normal_", 5, 0, std=std, a=-0.03, b=0.05))


def test_a_truncated_normal_written_by_hand_is_served_where_it_draws():
    """As torch 2.7 had it: a uniform fill of the parameter, and torch's arithmetic."""

    def by_hand(tensor):
        with torch.no_grad():
            return tensor.uniform_(-0.9, 0.9).erfinv_().mul_(0.02 * math.sqrt(2))

    p = parameter()
    with accelerate(seed=5):
        by_hand(p)
    drawn = expected("uniform_", 5, 0, a=-0.9, b=0.9)
    assert torch.equal(p, drawn.erfinv_().mul_(0.02 * math.sqrt(2)))
