"""The models that `fastinit bench --models` builds: each by its library's own definition, with random weights, offline.

A model has a constructor, a scheme for fastinit, and the same laws as a list of `torch.nn.init` calls.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

import fastinit
from fastinit import Scheme
from fastinit._commands import gpt2

STD, SIGMAS = gpt2.STD, gpt2.SIGMAS


class Fill(NamedTuple):
    """One call, which initialises so many elements."""

    call: Callable[[], Any]
    elements: int


class _Start(NamedTuple):
    """What a model's weights are drawn from: the scheme, and the calls of torch.nn.init for the same laws."""

    text: str
    scheme: Callable[[nn.Module], Scheme]
    peer: Callable[[nn.Module], list[Fill]]
    finish: Callable[[nn.Module], None] = lambda model: None  # constants that a library sets by a rule of its own


class Model(NamedTuple):
    """A model of one library. The constructor's argument: small, for trials, or as published."""

    package: str
    make: Callable[[bool], nn.Module]
    own_start: str  # what the constructor draws from
    start: _Start
    fills: tuple[_Start, ...] = ()  # starts with which it is filled in memory that is there already


def unusable(package: str) -> str | None:
    """Why a library cannot be imported, in a line; None: it can. timm needs a torchvision that was built for this torch."""
    try:
        importlib.import_module(package)
    except Exception as error:  # a library built for another torch fails in many ways
        reason = f"{package} cannot be imported: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
        mend = "Install the torchvision that belongs to this torch, from where torch came from."
        return f"{reason}. {mend}" if "torchvision" in reason else reason
    return None


def _hf_gpt2(small: bool, **sizes: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    if small:
        sizes = {"n_layer": 2, "n_embd": 128, "n_head": 2, "vocab_size": 1000, "n_positions": 64}
        sizes |= {"bos_token_id": 0, "eos_token_id": 0}  # the defaults lie outside so small a vocabulary
    return GPT2LMHeadModel(GPT2Config(**sizes))


def _hf_vit(small: bool) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512, "image_size": 32}
    return ViTForImageClassification(ViTConfig(**(sizes if small else {}), num_labels=1000))


def _hf_llama(small: bool) -> nn.Module:
    """1.24 billion parameters: the sizes of Llama 3.2 1B; its head shares the embedding's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    width, layers, vocabulary = (128, 2, 1000) if small else (2048, 16, 128256)
    heads = {"num_attention_heads": width // 64, "num_key_value_heads": max(1, width // 256)}
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, "vocab_size": vocabulary}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True))


def _timm_resnet(small: bool, name: str = "resnet50") -> nn.Module:
    import timm

    sizes = {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128), "num_classes": 100}
    return timm.create_model(name, **(sizes if small else {}))


def _timm_mobilenet(small: bool) -> nn.Module:
    import timm

    return timm.create_model("mobilenetv3_small_100", **({"num_classes": 100} if small else {}))


def _timm_vit(small: bool) -> nn.Module:
    import timm

    sizes = {"embed_dim": 128, "depth": 2, "num_heads": 2, "img_size": 32}
    return timm.create_model("vit_base_patch16_224", **(sizes if small else {}))


def _plain_gpt2(small: bool) -> nn.Module:
    """torch's own modules alone: needs no other library."""
    return gpt2.GPT2(layers=2, width=128, vocabulary=1000, positions=64) if small else gpt2.GPT2()


def _layers_of(model: nn.Module) -> int:
    """How many blocks a transformer has: the length of its longest list of modules."""
    return max(len(module) for module in model.modules() if isinstance(module, nn.ModuleList))


def _by_parameter(matrix: Callable[[str, Tensor, nn.Module], Any]) -> Callable[[nn.Module], list[Fill]]:
    """The calls that fill matrices by a function, biases with 0 and the scales of norms with 1."""

    def fill(name: str, parameter: Tensor, model: nn.Module) -> Any:
        if parameter.ndim > 1:
            return matrix(name, parameter, model)
        return nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.ones_(parameter)

    return lambda model: [Fill(partial(fill, name, p, model), p.numel()) for name, p in model.named_parameters()]


def _torch_gpt2_(name: str, parameter: Tensor, model: nn.Module) -> Tensor:
    scale = math.sqrt(2 * _layers_of(model)) if name.endswith("c_proj.weight") else 1.0
    return nn.init.normal_(parameter, std=STD / scale)


def _torch_truncated_(name: str, parameter: Tensor, model: nn.Module) -> Tensor:
    return nn.init.trunc_normal_(parameter, std=STD, a=-SIGMAS * STD, b=SIGMAS * STD)


def _torch_normal_(name: str, parameter: Tensor, model: nn.Module) -> Tensor:
    return nn.init.normal_(parameter, std=STD)


def _by_module(reset: Callable[[nn.Module], Any]) -> Callable[[nn.Module], list[Fill]]:
    """The calls that reset one module after the other, children first: attention resets a bias of its child's."""

    def fills(model: nn.Module) -> list[Fill]:
        owned = {module: sum(p.numel() for p in module.parameters(recurse=False)) for module in model.modules()}
        return [Fill(partial(reset, module), elements) for module, elements in reversed(owned.items()) if elements]

    return fills


def _torch_reset(module: nn.Module) -> None:
    """torch's defaults, by nn.init: what the module's constructor calls."""
    reset: Any = getattr(module, "reset_parameters", None) or module._reset_parameters
    reset()


def _resnet_reset(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    else:
        _torch_reset(module)


def _zero_last(model: nn.Module) -> None:
    """The last norm of every residual branch of a ResNet starts at 0."""
    for module in model.modules():
        rule: Any = getattr(module, "zero_init_last", None)
        if rule:
            rule()


def _resnet_scheme(model: nn.Module) -> Scheme:
    he = partial(fastinit.kaiming_normal_, mode="fan_out", nonlinearity="relu")
    return fastinit.torch_like.override({nn.Conv2d: {"weight": he}})


def _vit_scheme(model: nn.Module) -> Scheme:
    token = partial(fastinit.truncated_normal_, std=STD, a=-SIGMAS * STD, b=SIGMAS * STD)
    return fastinit.truncated_like(STD, SIGMAS).override({"*cls_token": token})


def _llama_scheme(model: nn.Module) -> Scheme:
    """Normal weights; the frequencies of the rotary embedding, which are buffers, as the library computes them."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    frequencies = partial(_rotary_, config=model.config)
    return fastinit.gpt2_like(_layers_of(model), std=STD, residual=()).override(
        {LlamaRotaryEmbedding: {"*inv_freq": frequencies}}
    )


def _rotary_(tensor: Tensor, config: Any) -> Tensor:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    return tensor.copy_(LlamaRotaryEmbedding.compute_default_rope_parameters(config)[0])


_GPT2 = _Start(f"normal {STD:g}, as GPT-2", lambda m: fastinit.gpt2_like(_layers_of(m), std=STD), _by_parameter(_torch_gpt2_))
TRUNCATED = _Start(
    f"normal {STD:g} cut at {SIGMAS:g} sigmas", lambda m: fastinit.truncated_like(STD, SIGMAS), _by_parameter(_torch_truncated_)
)
_VIT = TRUNCATED._replace(scheme=_vit_scheme)
_LLAMA = _Start(f"normal {STD:g}", _llama_scheme, _by_parameter(_torch_normal_))
_TORCH = _Start("torch's defaults", lambda m: fastinit.torch_like, _by_module(_torch_reset))
_RESNET = _Start("He normal, fan out", _resnet_scheme, _by_module(_resnet_reset), _zero_last)
_UNCUT = f"normal {STD:g}, cut at 100 sigmas"  # nn.init's and timm's bounds are absolute: -2 and 2

MODELS = {
    "gpt2-124m": Model("transformers", _hf_gpt2, _GPT2.text, _GPT2),
    "gpt2-1.5b": Model(
        "transformers",
        partial(_hf_gpt2, n_layer=48, n_embd=1600, n_head=25),
        _GPT2.text,
        _GPT2,
        fills=(_GPT2, TRUNCATED),
    ),
    "vit-b": Model("transformers", _hf_vit, _UNCUT, _VIT),
    "llama-1b": Model("transformers", _hf_llama, _LLAMA.text, _LLAMA),
    "timm-resnet50": Model("timm", _timm_resnet, _RESNET.text, _RESNET, fills=(_TORCH, _RESNET)),
    "timm-resnet18": Model("timm", partial(_timm_resnet, name="resnet18"), _RESNET.text, _RESNET),
    "timm-mobilenetv3": Model("timm", _timm_mobilenet, "normal, fan out", TRUNCATED),
    "timm-vit-b16": Model("timm", _timm_vit, _UNCUT, _VIT, fills=(_VIT,)),
    "torch-gpt2": Model("torch", _plain_gpt2, _TORCH.text, _TORCH, fills=(_TORCH,)),  # on request: needs no library
}
