"""transformers' Conv1D and its stacks of experts: keras_like and torch_like give them the laws of the unpacked nn.Linear."""

import math

import pytest
import torch
from helpers.real import library
from torch import nn

import fastinit
from fastinit._schemes.known_layouts import layout_of


def named(name, module="transformers.models.some.modeling_some"):
    return type(name, (nn.Module,), {"__module__": module})


def conv1d(inputs, outputs):
    layer = named("Conv1D", "transformers.pytorch_utils")()
    layer.weight, layer.bias = nn.Parameter(torch.zeros(inputs, outputs)), nn.Parameter(torch.full((outputs,), 7.0))
    return layer


def experts(transposed, concatenated, d=40, h=24, e=3):
    stack = named("SomeExperts")()
    stack.is_transposed, stack.is_concatenated, stack.has_gate, stack.has_bias = transposed, concatenated, True, True
    up, down = ((e, d, 2 * h), (e, h, d)) if transposed else ((e, 2 * h, d), (e, d, h))
    stack.gate_up_proj, stack.down_proj = nn.Parameter(torch.zeros(up)), nn.Parameter(torch.zeros(down))
    stack.gate_up_proj_bias, stack.down_proj_bias = nn.Parameter(torch.ones(e, 2 * h)), nn.Parameter(torch.ones(e, d))
    return stack


def limit_of(scheme, inputs, outputs):
    """The bound of the weight of an nn.Linear, and of its bias."""
    return (math.sqrt(6 / (inputs + outputs)), 0.0) if scheme is fastinit.keras_like else (1 / math.sqrt(inputs),) * 2


def fills(tensor, limit):
    most = tensor.detach().abs().max()
    return bool((0.9 * limit <= most) & (most <= limit * (1 + 1e-6)))


@pytest.mark.parametrize("scheme", [fastinit.keras_like, fastinit.torch_like], ids=repr)
def test_conv1d_has_the_fans_of_its_linear(scheme):
    layer = conv1d(48, 144)
    report = fastinit.initialize_(layer, scheme, seed=0)
    weight, bias = limit_of(scheme, 48, 144)
    assert fills(layer.weight, weight) and fills(layer.bias, bias) and "'in out'" in report["weight"].initializer
    again = conv1d(48, 144).apply(scheme)
    assert fills(again.weight, weight) and fills(again.bias, bias)


@pytest.mark.parametrize("scheme", [fastinit.keras_like, fastinit.torch_like], ids=repr)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("concatenated", [False, True])
def test_experts_have_the_fans_of_their_linears(scheme, transposed, concatenated):
    stack = experts(transposed, concatenated)
    assert not fastinit.initialize_(stack, scheme, seed=0).missed
    for name, inputs, outputs in (("gate_up_proj", 40, 24), ("down_proj", 24, 40)):
        weight, bias = limit_of(scheme, inputs, outputs)
        assert fills(getattr(stack, name), weight) and fills(getattr(stack, f"{name}_bias"), bias)
    packed = "(2 out)" if concatenated else "(out 2)"
    assert layout_of(stack, "gate_up_proj") == (f"expert in {packed}" if transposed else f"expert {packed} in")


def test_what_is_not_known_for_sure_has_no_rule():
    strangers = [named("SomeExperts")(), named("Conv1D", "mine")(), named("Experts", "mine")(), experts(True, True)]
    strangers[-1].is_transposed = None
    for module in strangers:
        module.weight, module.gate_up_proj = nn.Parameter(torch.zeros(4, 6)), nn.Parameter(torch.zeros(2, 4, 6))
        assert layout_of(module, "weight") is None and layout_of(module, "gate_up_proj") is None
        for scheme in (fastinit.keras_like, fastinit.torch_like):
            with pytest.raises(ValueError, match="gate_up_proj"):
                fastinit.initialize_(module, scheme, seed=0)
            assert not module.gate_up_proj.any()
    flat = conv1d(4, 6)
    flat.weight = nn.Parameter(torch.zeros(24))
    assert layout_of(flat, "weight") is None


def stacks(transformers):
    """Real classes of experts, small."""
    tiny = {"hidden_size": 24, "intermediate_size": 16, "num_local_experts": 3, "moe_intermediate_size": 16, "num_experts": 3}
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts
    from transformers.models.llama4.modeling_llama4 import Llama4TextExperts
    from transformers.models.mixtral.modeling_mixtral import MixtralExperts
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

    yield MixtralExperts(transformers.MixtralConfig(**tiny))
    yield GptOssExperts(transformers.GptOssConfig(**tiny))
    yield Llama4TextExperts(transformers.Llama4TextConfig(**tiny))
    yield Qwen3MoeExperts(transformers.Qwen3MoeConfig(**tiny))


def routed(scheme):
    router = named("SomeTopKRouter")()
    router.weight, router.bias = nn.Parameter(torch.zeros(8, 40)), nn.Parameter(torch.ones(8))
    assert not fastinit.initialize_(router, scheme, seed=0).missed
    return router


@pytest.mark.parametrize("scheme", [fastinit.keras_like, fastinit.torch_like], ids=repr)
def test_a_router_is_a_linear_map(scheme):
    weight, bias = limit_of(scheme, 40, 8)
    assert fills(routed(scheme).weight, weight) and routed(scheme).bias.abs().max() <= bias


@pytest.mark.extra
@pytest.mark.parametrize("scheme", [fastinit.keras_like, fastinit.torch_like], ids=repr)
def test_the_real_classes(scheme):
    transformers = library("transformers")
    from transformers.pytorch_utils import Conv1D

    layer = Conv1D(144, 48)  # whose constructor makes the bias 0
    fastinit.initialize_(layer, scheme, seed=0, overwrite_constants=True)
    weight, bias = limit_of(scheme, 48, 144)
    assert fills(layer.weight, weight) and fills(layer.bias, bias)
    for stack in stacks(transformers):
        assert not fastinit.initialize_(stack, scheme, seed=0).missed, type(stack).__name__
        for name, inputs, outputs in (("gate_up_proj", 24, 16), ("down_proj", 16, 24)):
            weight, bias = limit_of(scheme, inputs, outputs)
            assert fills(getattr(stack, name), weight), type(stack).__name__
            assert bias == 0 or not hasattr(stack, f"{name}_bias") or fills(getattr(stack, f"{name}_bias"), bias)
