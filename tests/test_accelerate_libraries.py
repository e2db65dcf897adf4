"""`accelerate` around the constructors of transformers and timm, where they are installed."""

import importlib
import math
import pickle
import sys
import types

import pytest
import torch
from helpers import real
from helpers.serving import CALLS, CAPTURED, expected, parameter

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
    transformers = real.library("transformers")
    kind, sizes = MODELS[name]
    heads = {} if name == "GPT2" else {"num_attention_heads": 2}
    options = getattr(transformers, name + "Config")(**sizes, **heads, bos_token_id=0, eos_token_id=0)
    make, state = getattr(transformers, kind), torch.get_rng_state()
    with accelerate(seed=5) as block:
        model = make(options)
    assert block.report.parameters == []  # what torch drew was filled again
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
    timm = real.library("timm")
    state = torch.get_rng_state()
    with accelerate(seed=5) as block:
        model = timm.create_model(name)
    assert block.report.parameters == [] and block.report.served
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


TAKEN = ["orthogonal_", "sparse_", "xavier_uniform_", "xavier_normal_", "kaiming_normal_", "trunc_normal_", "normal_"]


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("make", [parameter, lambda: torch.empty(12, 8)], ids=["parameter", "tensor"])
def test_what_transformers_has_taken_from_torch(name, make, monkeypatch):
    """Under the name of its dictionary; a module in its place will do. It is restored."""
    library = types.ModuleType("transformers.initialization")
    library.TORCH_INIT_FUNCTIONS = dict(CAPTURED)
    monkeypatch.setitem(sys.modules, "transformers.initialization", library)
    first, second = make(), make()
    with accelerate(seed=5) as block:
        assert library.TORCH_INIT_FUNCTIONS[name](first, **CALLS[name], generator=None) is first
        taken = library.TORCH_INIT_FUNCTIONS[name]
        getattr(torch.nn.init, name)(second, **CALLS[name])
        assert pickle.loads(pickle.dumps(taken)) == taken
    assert torch.equal(first, expected(name, 5, 0)) and torch.equal(second, expected(name, 5, 1))
    assert library.TORCH_INIT_FUNCTIONS == CAPTURED and block.report.left == ()
    assert all(type(function) is types.FunctionType for function in library.TORCH_INIT_FUNCTIONS.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_transformers_captured_orthogonal(dtype):
    real.library("transformers")
    initialization = importlib.import_module("transformers.initialization")
    before, weight = dict(initialization.TORCH_INIT_FUNCTIONS), parameter(dtype=dtype)
    with accelerate(seed=5) as block, initialization.guard_torch_init_functions():
        assert initialization.orthogonal_(weight, gain=2.0) is weight
    assert torch.equal(weight, expected("orthogonal_", 5, 0).to(dtype)) and block.report.left == ()
    after = initialization.TORCH_INIT_FUNCTIONS
    assert list(after) == list(before) and all(after[name] is function for name, function in before.items())


def test_a_model_of_orthogonal_matrices(recwarn):
    transformers = real.library("transformers")
    options = transformers.RwkvConfig(vocab_size=64, hidden_size=32, attention_hidden_size=32, num_hidden_layers=2)
    state = torch.get_rng_state()
    with accelerate(seed=5) as block:
        model = transformers.RwkvModel(options)
    assert "orthogonal_" in [each.function for each in block.report.served] and block.report.parameters == []
    assert torch.equal(torch.get_rng_state(), state) and not [each for each in recwarn if "torch drew" in str(each.message)]
    again = accelerate(seed=5)(lambda: transformers.RwkvModel(options))()
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


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
