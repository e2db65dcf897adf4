"""The schemes that come with the package: Keras's defaults, PyTorch's, and those of transformers."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from fastinit._core.check import positive, shown
from fastinit._core.laws import Initializer
from fastinit._initializers.glorot import glorot_uniform_
from fastinit._initializers.plain import normal_, truncated_normal_
from fastinit._initializers.torch_names import kaiming_uniform_
from fastinit._schemes.keras_rules import KERAS_RULES
from fastinit._schemes.known_layouts import laid_out, zero_bias
from fastinit._schemes.norms import of_norm
from fastinit._schemes.roles import known
from fastinit._schemes.rules import Mapped, for_strangers
from fastinit._schemes.scheme import Scheme, general, named
from fastinit._schemes.torch_rules import TORCH_RULES, symmetric


@for_strangers
def by_class(module: nn.Module, matrix: Initializer, bias: Callable[[int], Initializer]) -> Mapped:
    """Return the rule of a module of no type of torch's: normalizations, and matrices in a layout that is known."""
    return of_norm(module) | laid_out(module, matrix, bias)


_KERAS_OTHERS = partial(by_class, matrix=glorot_uniform_, bias=zero_bias)
_TORCH_OTHERS = partial(by_class, matrix=partial(kaiming_uniform_, a=math.sqrt(5)), bias=symmetric)

keras_like: Scheme = named("fastinit.keras_like", {nn.Module: _KERAS_OTHERS, **KERAS_RULES})
"""The default initializers of Keras 3, module type by module type, in torch's names and layouts.

Checked against Keras 3.15: Dense, Conv, ConvTranspose, DepthwiseConv, SimpleRNN, LSTM, GRU and their cells, Embedding,
the normalizations, MultiHeadAttention, PReLU. Where torch has what Keras lacks (grouped transposed convolutions,
projections of an LSTM, Bilinear), the rule is Keras's for a kernel of that shape.
"""

torch_like: Scheme = named("fastinit.torch_like", {nn.Module: _TORCH_OTHERS, **TORCH_RULES})
"""PyTorch's own defaults, filled with fastinit's keys and speed: the laws of each layer's reset_parameters (torch 2.13)."""

# Where a transformer adds to its residual stream: GPT-2, PyTorch's layers, Llama and its kin, T5, ViT and fairseq.
_RESIDUAL = (
    *("*.c_proj.weight", "*.out_proj.weight", "*.linear2.weight", "*.o_proj.weight", "*.down_proj.weight"),
    *("*.wo.weight", "*.w2.weight", "*.fc2.weight", "*.attn.proj.weight", "*.dense_4h_to_h.weight"),
)


def gpt2_like(n_layer: int, *, std: float = 0.02, residual: Sequence[str] | None = None) -> Scheme:
    """Make the scheme of GPT-2: N(0, std**2), with the projections that end in the residual stream scaled by 1/sqrt(2 n_layer).

    What it knows to be a matrix (of linear maps, convolutions, embeddings, stacks of experts, tables of positions) is normal;
    biases are zero; normalizations are what their constructors give. Everything else has no rule: class tokens, gains.

    Args:
        n_layer: the number of blocks, >= 1, each of which adds to the residual stream twice.
        std: the standard deviation, finite, > 0. The default is GPT-2's.
        residual: Patterns, as in fnmatch, for the full names of the projections to scale. None takes the names that GPT-2,
            PyTorch's layers, Llama, T5, ViT and fairseq give them, such as ``"*.c_proj.weight"``.

    Returns:
        A scheme for `fastinit.initialize_`.

    Raises:
        TypeError: the std is not a number.
        ValueError: n_layer is not a positive int, or the std is not positive.

    Reference:
        Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.3.

    Examples:
        >>> block = nn.ModuleDict({"up": nn.Linear(64, 256), "c_proj": nn.Linear(256, 64)})
        >>> report = fastinit.initialize_(nn.Sequential(block), fastinit.gpt2_like(n_layer=8), seed=0)
        >>> report["0.up.weight"].initializer, report["0.c_proj.weight"].initializer
        ('normal_(std=0.02)', 'normal_(std=0.005)')
    """
    if isinstance(n_layer, bool) or not isinstance(n_layer, int) or n_layer < 1:
        raise ValueError(f"n_layer must be an int >= 1. Received: {shown(n_layer)}. Pass the number of transformer blocks.")
    scaled = partial(normal_, std=positive("std", std) / math.sqrt(2 * n_layer))
    rules = known(partial(normal_, std=std))
    if residual is not None:
        return general(rules).override(dict.fromkeys(residual, scaled))
    return general({**rules, **dict.fromkeys(_RESIDUAL, scaled)})


def truncated_like(std: float = 0.02, cutoff: float = 2.0) -> Scheme:
    """Make the scheme of ViT, BERT and T5X code: normals of a standard deviation, cut at so many sigmas.

    What it knows to be a matrix (of linear maps, convolutions, embeddings, stacks of experts, tables of positions) is truncated
    normal; biases are zero; normalizations are what their constructors give. Everything else has no rule: class tokens, gains.

    Args:
        std: the standard deviation of the normal before the cut, finite, > 0. The default is that of ViT and BERT.
        cutoff: where the normal is cut, in sigmas from its mean, > 0. The default is that of Keras, JAX and BERT. timm's
            trunc_normal_(std=0.02) and transformers' ViT cut at 2, which is 100 sigmas: `vit_like` has their laws.

    Returns:
        A scheme for `fastinit.initialize_`, or for ``model.apply``.

    Raises:
        TypeError: std or cutoff is not a number.
        ValueError: std or cutoff is not positive.

    Reference:
        Dosovitskiy et al. 2021, "An image is worth 16x16 words"; Devlin et al. 2019, "BERT".

    Examples:
        >>> layer = nn.Linear(64, 64).apply(fastinit.truncated_like(std=0.02))
        >>> bool(layer.weight.abs().max() <= 0.04)
        True
    """
    bound = positive("cutoff", cutoff) * positive("std", std)
    return general(known(partial(truncated_normal_, std=std, a=-bound, b=bound)))
