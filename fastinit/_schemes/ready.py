"""The schemes that come with the package: Keras's defaults, PyTorch's, and those of transformers."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from fastinit._core.check import positive
from fastinit._initializers.plain import constant_, normal_, ones_, truncated_normal_, zeros_
from fastinit._schemes.keras_rules import KERAS_RULES, NORMS
from fastinit._schemes.scheme import Initializer, Scheme
from fastinit._schemes.torch_rules import TORCH_RULES

keras_like = Scheme(KERAS_RULES)
"""The default initializers of Keras 3, module type by module type, in torch's names and layouts.

Checked against Keras 3.15: Dense, Conv, ConvTranspose, DepthwiseConv, SimpleRNN, LSTM, GRU and their cells, Embedding,
the normalizations, MultiHeadAttention, PReLU. Where torch has what Keras lacks (grouped transposed convolutions,
projections of an LSTM, Bilinear), the rule is Keras's for a kernel of that shape.
"""

torch_like = Scheme(TORCH_RULES)
"""PyTorch's own defaults, the laws that the layers' reset_parameters draw from (torch 2.13), of fastinit's keys and speed."""

# Where a transformer adds to its residual stream: GPT-2, PyTorch's layers, Llama and its kin, T5, ViT and fairseq.
RESIDUAL = (
    *("*.c_proj.weight", "*.out_proj.weight", "*.linear2.weight", "*.o_proj.weight", "*.down_proj.weight"),
    *("*.wo.weight", "*.w2.weight", "*.fc2.weight", "*.attn.proj.weight", "*.dense_4h_to_h.weight"),
)


def gpt2_like(n_layer: int, *, std: float = 0.02, residual: Sequence[str] = RESIDUAL) -> Scheme:
    """Make the scheme of GPT-2: N(0, std**2), with the projections that end in the residual stream scaled by 1/sqrt(2 n_layer).

    For every module type: matrices, embeddings among them, and other weights of two or more dimensions are normal; biases
    zero; the weights of normalizations one. A one-dimensional parameter of another name than "weight" or "bias" has no rule.

    Args:
        n_layer: the number of blocks, each of which adds to the residual stream twice.
        std: the standard deviation, > 0.
        residual: patterns for the full names of the projections to scale, as in fnmatch.

    Returns:
        A scheme for `fastinit.initialize_`.

    Raises:
        TypeError, ValueError: n_layer is no positive integer, or std not positive.

    Reference:
        Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.3.
    """
    if isinstance(n_layer, bool) or not isinstance(n_layer, int) or n_layer < 1:
        raise ValueError(f"n_layer must be an int >= 1. Received: {n_layer!r}. Pass the number of transformer blocks.")
    scaled = partial(normal_, std=positive("std", std) / math.sqrt(2 * n_layer))
    by_dimensions = partial(matrices_biases_norms, matrix=partial(normal_, std=std))
    return Scheme({nn.Module: by_dimensions, **_TYPED, **dict.fromkeys(residual, scaled)})


def truncated_like(std: float = 0.02, cutoff: float = 2.0) -> Scheme:
    """Make the scheme of ViT, BERT and T5X code: normals of a standard deviation, cut at so many sigmas.

    Weights of two or more dimensions (matrices, embeddings, patch and position embeddings, class tokens) are truncated
    normal; biases zero; the weights of normalizations one. A one-dimensional parameter of another name has no rule.

    Args:
        std: of the normal before the cut, > 0.
        cutoff: in sigmas, > 0: 2 as in Keras, JAX and BERT. timm's trunc_normal_(std=0.02) cuts at 100.

    Returns:
        A scheme for `fastinit.initialize_`, or ``model.apply``.

    Raises:
        TypeError, ValueError: std or cutoff is no positive number.

    Reference:
        Dosovitskiy et al. 2021, "An image is worth 16x16 words"; Devlin et al. 2019, "BERT".
    """
    bound = positive("cutoff", cutoff) * positive("std", std)
    by_dimensions = partial(matrices_biases_norms, matrix=partial(truncated_normal_, std=std, a=-bound, b=bound))
    return Scheme({nn.Module: by_dimensions, **_TYPED})


def matrices_biases_norms(module: nn.Module, matrix: Initializer) -> dict[str, Initializer]:
    """Return the rule of a module of any type, which tells its weights from its biases by names and dimensions."""
    table: dict[str, Initializer] = {}
    for name, parameter in module.named_parameters(recurse=False):
        if name.endswith("bias") or name.startswith("bias_"):
            table[name] = zeros_
        elif parameter.ndim > 1:
            table[name] = matrix
        elif name == "weight":
            table[name] = ones_
    return table


_TYPED: dict[Any, Any] = {**NORMS, nn.PReLU: {"weight": partial(constant_, val=0.25)}}  # which dimensions do not tell
