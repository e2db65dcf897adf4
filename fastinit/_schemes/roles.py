"""What is known about the parameters of modules: of torch's own types by name, of others where class and name leave no doubt.

A scheme for any model draws what is known here to be a matrix (of a linear map, a convolution or an embedding) or a table of
positions, and sets what is known to be a bias. Everything else has no rule: a gain, a step size or a decay is no matrix, whatever
its shape, and noise in it ruins the model.
"""

from __future__ import annotations

import re
from functools import partial

from torch import nn

from fastinit._core.laws import Initializer
from fastinit._initializers.constants import constant_, zeros_
from fastinit._schemes.held import is_vector
from fastinit._schemes.keras_rules import NORMS, gates
from fastinit._schemes.known_layouts import layout_of
from fastinit._schemes.norms import of_norm
from fastinit._schemes.rules import Mapped, Rule, for_strangers
from fastinit._torch import own_parameters

_LINEAR = (nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_RECURRENT = (nn.RNN, nn.RNNCell, nn.GRU, nn.GRUCell, nn.LSTM, nn.LSTMCell)
_POSITIONS = re.compile(r"(abs(olute)?_)?pos(ition(al)?)?_?(emb(ed(ding)?s?)?|encodings?|table)(_table)?")
_ROUTER = re.compile(r"(Router|MoEGate)$")  # a linear map from features to experts
_STACKS = ("gate_up_proj", "up_proj", "gate_proj", "down_proj", "w1", "w2", "w3")  # [experts, out, in], or in before out


def known(matrix: Initializer, embedding: Initializer | None = None, bias: Initializer = zeros_) -> dict[type[nn.Module], Rule]:
    """The rules of a scheme for any model: what fills matrices, embeddings (as matrices, if not given) and biases."""
    table = embedding or matrix
    linear: Mapped = {"weight": matrix, "bias": bias}
    recurrent: Mapped = {**gates("weight_[ih][hr]", matrix), **gates("bias_[ih]h", bias)}
    lookup: Mapped = {"weight": table}
    return {
        nn.Module: partial(known_by_class, matrix=matrix, embedding=table, bias=bias),
        **dict.fromkeys(_LINEAR, linear),
        **dict.fromkeys(_RECURRENT, recurrent),
        nn.MultiheadAttention: {
            **dict.fromkeys(("in_proj_weight", "[qkv]_proj_weight"), matrix),
            **dict.fromkeys(("in_proj_bias", "bias_[kv]"), bias),
        },
        **dict.fromkeys((nn.Embedding, nn.EmbeddingBag), lookup),
        **NORMS,
        nn.PReLU: {"weight": partial(constant_, val=0.25)},
    }


@for_strangers
def known_by_class(module: nn.Module, matrix: Initializer, embedding: Initializer, bias: Initializer) -> Mapped:
    """The rule of a module of another type: normalizations, transformers' Conv1D, stacks of experts, tables of positions."""
    rule: dict[str, Initializer | None] = of_norm(module)
    if layout_of(module, "weight") == "in out":  # transformers' Conv1D
        rule |= {"weight": matrix, "bias": bias}
    for name, tensor in own_parameters(module).items():
        if tensor is None or is_vector(tensor.shape) or name in rule:
            continue
        if _is_stack(module, name, tensor.ndim) or (name == "weight" and _ROUTER.search(type(module).__name__)):
            rule[name] = matrix
            if layout_of(module, name):
                rule[f"{name}_bias"] = bias
        elif _POSITIONS.fullmatch(name):
            rule[name] = embedding
    return rule


def _is_stack(module: nn.Module, name: str, ndim: int) -> bool:
    """Whether a parameter is one matrix for each of a layer's experts."""
    return ndim == 3 and name in _STACKS and type(module).__name__.endswith("Experts")
