"""Schemes of families of models, law for law those of the code that they are named after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from fastinit._core.check import is_one_of, positive, shown
from fastinit._core.laws import Initializer, Law, constant, declares, truncated_normal
from fastinit._initializers.constants import constant_, zeros_
from fastinit._initializers.he_lecun import lecun_normal_
from fastinit._initializers.layouts import in_layout
from fastinit._initializers.plain import normal_, trunc_normal_
from fastinit._initializers.torch_names import xavier_uniform_
from fastinit._initializers.variance_scaling import variance_scaling_
from fastinit._schemes.depth import by_depth
from fastinit._schemes.roles import known, known_by_class
from fastinit._schemes.rules import Mapped, for_strangers
from fastinit._schemes.scheme import Scheme, general
from fastinit._schemes.torch_rules import dense
from fastinit._torch import own_parameters

_Llama = Literal["transformers", "torchtitan"]
_ViT = Literal["timm", "jax", "jax_nlhb", "moco", "transformers"]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def llama_like(std: float = 0.02, flavor: _Llama = "transformers") -> Scheme:
    """Make the scheme of Llama and its kin, as transformers or torchtitan initialize them.

    "transformers": matrices and embeddings are N(0, std**2), biases zero, normalizations what their constructors give.
    "torchtitan": matrices are normal, cut at 2 (which is no cut); those of the output of attention and of the feed-forward layer
    but its gate (wo, w2, w3; o_proj, down_proj, up_proj) have std / sqrt(2 (i + 1)) in layer i; embeddings are N(0, 1); the
    output has 1 / sqrt(dim), cut at three sigmas.

    Args:
        std: the standard deviation, finite, > 0.
        flavor: whose law it is, one of the above.

    Returns:
        A scheme for `fastinit.initialize_`.

    Raises:
        TypeError: std is not a number.
        ValueError: std is not positive, or the flavor is not one of its names.

    Reference:
        transformers 5, PreTrainedModel._init_weights; torchtitan, models/llama3.

    Examples:
        >>> layers = nn.ModuleList(nn.ModuleDict({"wo": nn.Linear(4, 4)}) for _ in range(2))
        >>> model = nn.ModuleDict({"layers": layers, "output": nn.Linear(4, 9)})
        >>> report = fastinit.initialize_(model, fastinit.llama_like(flavor="torchtitan"), seed=0)
        >>> report["layers.1.wo.weight"].initializer
        'trunc_normal_(std=0.01)'
    """
    std = positive("std", std)
    _check_flavor(flavor, get_args(_Llama))
    if flavor == "transformers":
        return general(known(partial(normal_, std=std)))
    scaled = by_depth(partial(_titan_layer, std=std))
    ends = ("wo.weight", "w2.weight", "w3.weight", "o_proj.weight", "down_proj.weight", "up_proj.weight", "experts.w[23]")
    outputs = dict.fromkeys(
        (pattern for name in ("output", "lm_head") for pattern in _anywhere(f"{name}.weight")), fan_in_normal_
    )
    rules = known(partial(trunc_normal_, std=std), partial(normal_, std=1.0))
    return general({**rules, **dict.fromkeys((f"*.{end}" for end in ends), scaled), **outputs})


def vit_like(flavor: _ViT = "timm", *, std: float = 0.02) -> Scheme:
    """Make the scheme of vision transformers, as timm or transformers initialize them.

    "timm" is timm's default: linear maps are N(0, std**2), patch embeddings as torch has them. "jax" and "moco" are its modes of
    these names: linear maps are Xavier-uniform; in "jax" the head is zero, the biases of MLPs N(0, 1e-12) and patch embeddings
    LeCun-normal; in "moco" query, key and value are three maps. "jax_nlhb" is "jax" with a head whose bias is -log(classes). In
    all of these position tables and distillation tokens are N(0, std**2), class and register tokens N(0, 1e-12). "transformers"
    is transformers' ViT: all of them are N(0, std**2), and mask tokens zero. Cuts are at 2, not at two sigmas, and so none.

    Args:
        flavor: whose law it is, one of the above.
        std: the standard deviation of what is normal, finite, > 0.

    Returns:
        A scheme for `fastinit.initialize_`.

    Raises:
        TypeError: std is not a number.
        ValueError: std is not positive, or the flavor is not one of its names.

    Reference:
        timm 1.0, models/vision_transformer.py (init_weights); transformers 5, ViTPreTrainedModel._init_weights.

    Examples:
        >>> model = nn.ModuleDict({"qkv": nn.Linear(8, 24), "head": nn.Linear(8, 5)})
        >>> report = fastinit.initialize_(model, fastinit.vit_like("moco"), seed=0)
        >>> report["qkv.weight"].initializer
        "in_layout(xavier_uniform_, '(3 out) in')"
    """
    _check_flavor(flavor, get_args(_ViT))
    table: Initializer = partial(trunc_normal_, std=positive("std", std))
    if flavor == "transformers":
        normal: Initializer = partial(normal_, std=std)
        return general({**known(normal), **_with_tokens(normal, table, {"cls_token": table, "mask_token": zeros_})})
    matrix: Initializer = table if flavor == "timm" else xavier_uniform_
    tokens: dict[str, Initializer] = {
        **dict.fromkeys(("cls_token", "reg_token"), partial(normal_, std=1e-6)),
        "dist_token": table,
    }
    rules = {**known(matrix, table), **_with_tokens(matrix, table, tokens)}
    jax = flavor.startswith("jax")
    convolution = {"weight": lecun_normal_, "bias": zeros_} if jax else dense
    names: dict[str, Initializer] = {"*qkv*.weight": in_layout(xavier_uniform_, "(3 out) in")} if flavor == "moco" else {}
    if jax:
        names = dict.fromkeys(("mlp*.fc*.bias", "*.mlp*.fc*.bias"), partial(normal_, std=1e-6))
        names |= {"head.weight": zeros_, "head.bias": class_bias_ if flavor == "jax_nlhb" else zeros_}
    return general({**rules, **dict.fromkeys(_CONVOLUTIONS, convolution), **names})


def t5_like(d_model: int, *, d_kv: int = 64, factor: float = 1.0) -> Scheme:
    """Make the scheme of T5, as transformers initializes it: the softmax has no scale, the query's weights have it.

    Queries have the standard deviation factor / sqrt(d_model * d_kv); keys, values, outputs, the layers of MLPs and of heads
    factor / sqrt(inputs); tables of relative positions factor / sqrt(d_model); embeddings, an output that is not tied to them
    and all other matrices the factor.

    Args:
        d_model: the width of the model, an int >= 1.
        d_kv: the width of one head's keys, an int >= 1.
        factor: the configuration's initializer_factor, finite, > 0: what normalizations get too.

    Returns:
        A scheme for `fastinit.initialize_`.

    Raises:
        TypeError: the factor is not a number.
        ValueError: d_model or d_kv is no int >= 1, or the factor is not positive.

    Reference:
        Raffel et al. 2020, "Exploring the limits of transfer learning"; transformers 5, T5PreTrainedModel._init_weights.

    Examples:
        >>> model = nn.ModuleDict({"SelfAttention": nn.ModuleDict({"q": nn.Linear(64, 32, bias=False)})})
        >>> fastinit.initialize_(model, fastinit.t5_like(64, d_kv=16), seed=0)["SelfAttention.q.weight"].initializer
        'normal_(std=0.03125)'
    """
    sizes = [_positive_int(name, value) for name, value in (("d_model", d_model), ("d_kv", d_kv))]
    factor = positive("factor", factor)
    by_inputs: Initializer = partial(variance_scaling_, scale=factor**2, distribution="untruncated_normal")
    names = dict.fromkeys(
        (
            *("*Attention.[kvo].weight", "*.wi.weight", "*.wi_[01].weight", "*.wo.weight"),
            *("classification_head.*.weight", "qa_outputs.weight"),
        ),
        by_inputs,
    )
    names["*Attention.q.weight"] = partial(normal_, std=factor / math.sqrt(math.prod(sizes)))
    names["*.relative_attention_bias.weight"] = partial(normal_, std=factor / math.sqrt(d_model))
    if factor != 1.0:
        names["*layer_norm.weight"] = partial(constant_, val=factor)
    return general({**known(partial(normal_, std=factor)), **names})


def mup_like(
    width: int, base_width: int, *, output: str | Sequence[str], input: str | Sequence[str] = (), std: float = 0.02
) -> Scheme:
    """Make the scheme of the maximal update parametrization: with it, and Adam, the best learning rates do not move with width.

    Hidden matrices have the standard deviation std * sqrt(base_width / width), outputs std * base_width / width, inputs and
    embeddings std; biases are zero. At the base width it is the standard parametrization. Beside it muP asks for Adam's learning
    rate times base_width / width for hidden and output matrices, and for attention scores divided by the size of a head, not by
    its root. An output that is tied to the embeddings is one of them: multiply its logits by base_width / width instead.

    Args:
        width: the width of this model, an int >= 1: what grows.
        base_width: the width at which the learning rates were found, an int >= 1.
        output: the full names of the weights that map the width to what does not grow, or patterns as in fnmatch, such as
            "lm_head.weight".
        input: likewise of those that map what does not grow to the width, but for embeddings: "patch_embed.proj.weight".
        std: the standard deviation at the base width, finite, > 0.

    Returns:
        A scheme for `fastinit.initialize_`, which refuses it where a name of output or input matches nothing.

    Raises:
        TypeError: std is not a number.
        ValueError: a width is no int >= 1, std is not positive, or output names nothing.

    Reference:
        Yang et al. 2022, "Tensor Programs V: Tuning large neural networks via zero-shot hyperparameter transfer", table 3.

    Examples:
        >>> model = nn.Sequential(nn.Embedding(9, 64), nn.Linear(64, 64), nn.Linear(64, 9))
        >>> report = fastinit.initialize_(model, fastinit.mup_like(64, 16, output="2.weight"), seed=0)
        >>> [report[name].initializer for name in ("0.weight", "1.weight", "2.weight")]
        ['normal_(std=0.02)', 'normal_(std=0.01)', 'normal_(std=0.005)']
    """
    ratio = _positive_int("base_width", base_width) / _positive_int("width", width)
    std = positive("std", std)
    outputs, inputs = ((names,) if isinstance(names, str) else tuple(names) for names in (output, input))
    if not outputs:
        raise ValueError(f"output must name the weights of the output. Received: {output!r}. Pass e.g. 'lm_head.weight'.")
    scheme = general(known(partial(normal_, std=std * math.sqrt(ratio)), partial(normal_, std=std)))
    of_ends = dict.fromkeys(inputs, partial(normal_, std=std)) | dict.fromkeys(outputs, partial(normal_, std=std * ratio))
    return scheme.override(of_ends)


# --- what they are made of ----------------------------------------------------------------------------------------------------


def _titan_layer(index: int, std: float) -> Initializer:
    return partial(trunc_normal_, std=std / math.sqrt(2 * (index + 1)))


def _fan_in_law(shape: torch.Size, dtype: torch.dtype, cut: float) -> Law:
    std = 1 / math.sqrt(max(1, shape[-1]))
    return truncated_normal(0.0, std, -cut * std, cut * std)


@declares(_fan_in_law)
def fan_in_normal_(tensor: Tensor, cut: float = 3.0, *, key: int | None = None) -> Tensor:
    """Fill a matrix [out, in] from a normal of std 1 / sqrt(in), cut at so many sigmas."""
    mean, std, a, b = _fan_in_law(tensor.shape, tensor.dtype, cut).parameters
    return trunc_normal_(tensor, mean, std, a, b, key=key)


@declares(lambda shape, dtype: constant(-math.log(max(1, shape[0]))))
def class_bias_(tensor: Tensor) -> Tensor:
    """Fill the bias of a classifier so that every class begins with the probability 1 / classes, each by itself."""
    return constant_(tensor, -math.log(max(1, len(tensor))))


@for_strangers
def tokens_by_class(module: nn.Module, matrix: Initializer, table: Initializer, tokens: Mapping[str, Initializer]) -> Mapped:
    """Return the rule of a module that may have tokens, which are vectors, but are drawn."""
    own = own_parameters(module)
    return {
        **known_by_class(module, matrix, table, zeros_),
        **{name: tokens[name] for name in tokens if own.get(name) is not None},
    }


def _with_tokens(matrix: Initializer, table: Initializer, tokens: Mapping[str, Initializer]) -> dict[Any, Any]:
    return {nn.Module: partial(tokens_by_class, matrix=matrix, table=table, tokens=tokens)}


def _anywhere(name: str) -> tuple[str, str]:
    return name, f"*.{name}"


def _check_flavor(flavor: object, names: tuple[str, ...]) -> None:
    if not is_one_of(flavor, names):
        raise ValueError(f"flavor must be one of {names}. Received: flavor={flavor!r}. Pass one of these names.")


def _positive_int(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an int >= 1. Received: {name}={shown(value)}.")
    return value
