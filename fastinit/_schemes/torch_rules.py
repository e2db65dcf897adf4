"""PyTorch's own defaults as the rules of a scheme: what each layer's reset_parameters does, law for law."""

import math
from functools import partial
from typing import Any

from torch import nn

from fastinit._core.fans import fans
from fastinit._core.laws import Initializer
from fastinit._initializers.constants import constant_, zeros_
from fastinit._initializers.plain import normal_, uniform_
from fastinit._initializers.torch_names import kaiming_uniform_, xavier_normal_, xavier_uniform_
from fastinit._schemes.keras_rules import NORMS, gates
from fastinit._schemes.rules import Mapped, Rule


def symmetric(width: float) -> Initializer:
    """U(-1/sqrt(width), 1/sqrt(width)); zeros where there is no width."""
    return partial(uniform_, a=-1 / math.sqrt(width), b=1 / math.sqrt(width)) if width > 0 else zeros_


def dense(module: Any) -> Mapped:
    """Return the rule of Linear and the convolutions: torch's kaiming_uniform_ with a = sqrt(5) is U of 1/sqrt(fan_in)."""
    fan_in, _ = fans(module.weight.shape)
    return {"weight": partial(kaiming_uniform_, a=math.sqrt(5)), "bias": symmetric(fan_in)}


def bilinear(module: Any) -> Mapped:
    return dict.fromkeys(("weight", "bias"), symmetric(module.in1_features))


def recurrent(module: Any) -> Mapped:
    return {**gates("weight_?[hr]", symmetric(module.hidden_size)), **gates("bias_?h", symmetric(module.hidden_size))}


def prelu(module: Any) -> Mapped:
    return {"weight": partial(constant_, val=module.init)}


def transformer(module: nn.Module) -> Mapped:
    """Return the rule of nn.Transformer, which fills the matrices of its layers anew: their names are relative to it."""
    return {name: xavier_uniform_ for name, parameter in module.named_parameters() if parameter.ndim > 1}


_ATTENTION: Mapped = {
    "in_proj_weight": xavier_uniform_,
    "[qkv]_proj_weight": xavier_uniform_,
    "in_proj_bias": zeros_,
    "out_proj.bias": zeros_,
    "bias_[kv]": xavier_normal_,
}
_EMBEDDING: Mapped = {"weight": normal_}

TORCH_RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d), dense),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), dense),
    nn.Bilinear: bilinear,
    **dict.fromkeys((nn.RNN, nn.RNNCell, nn.GRU, nn.GRUCell, nn.LSTM, nn.LSTMCell), recurrent),
    **dict.fromkeys((nn.Embedding, nn.EmbeddingBag), _EMBEDDING),
    **NORMS,
    nn.MultiheadAttention: _ATTENTION,
    nn.Transformer: transformer,
    nn.PReLU: prelu,
}
