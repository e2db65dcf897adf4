"""Weights in other layouts than torch's [out, in, *kernel]: an initializer sees each matrix in them as its nn.Linear has it."""

from __future__ import annotations

import functools
import inspect
import math
import re
from typing import Any, NamedTuple

import torch
from torch import Generator, Size, Tensor
from torch import dtype as DType

from fastinit._core.check import DRAWN_DTYPES, is_loaded, left, shown
from fastinit._core.laws import Initializer, Law, call_of, declaration_of, declares, law_of
from fastinit._core.shard import cut_where_sharded
from fastinit._fill import fill_
from fastinit._initializers.scaling import shape_of

_MEND = "Pass e.g. 'in out', 'expert in out' or '(3 out) in'."
_MATRIX = ("out", "in", "kernel")
_Sizes = dict[str, int]


class _Layout(NamedTuple):
    """A layout of a shape: into what every dimension is split, and the order of these parts: [*stacks, out, in, *kernel]."""

    parts: list[list[int]]
    order: list[int]
    stacks: int

    @property
    def canonical(self) -> Size:
        sizes = [size for part in self.parts for size in part]
        return Size(sizes[axis] for axis in self.order)

    def view(self, tensor: Tensor) -> Tensor:
        for axis in reversed(range(len(self.parts))):
            if len(self.parts[axis]) > 1:
                tensor = tensor.unflatten(axis, self.parts[axis])
        return tensor.permute(self.order)


def in_layout(initializer: Initializer, layout: str, **sizes: int) -> Initializer:
    """Return an initializer for weights in another layout than torch's [out, in, *kernel].

    It gives each matrix in a weight what the initializer gives the weight of an nn.Linear: the fans, and with them standard
    deviations and bounds, are those of one [out, in]; `orthogonal_` makes each of them orthogonal.

    Args:
        initializer: one of this package, or another that declares its law (`fastinit.laws.declares`); or a partial of one.
        layout: what each dimension of the weight is, in words with spaces between them: "in", "out", "kernel" (of a
            convolution, as many as there are), and any other word for a dimension that stacks independent matrices. Brackets
            hold what one dimension is made of, the outermost first, as in einops: ``"in out"`` (transformers' Conv1D), ``"expert
            out in"``, ``"expert in out"``, ``"(3 out) in"`` (query, key and value, one after the other), ``"(heads 3 out) in"``.
        sizes: those of words in brackets, such as ``heads=8``: all but one for each dimension.

    Returns:
        The initializer, to be called, or to stand in a `Scheme`. It takes generator and key.

    Raises:
        TypeError: the initializer is not known, or an argument has a wrong type.
        ValueError: the layout is not of this form, or has not one "in" and one "out", or lacks a word that sizes has. (The
            initializer raises it where the layout does not fit a shape.)

    Reference:
        Rogozhnikov 2022, "Einops: clear and reliable tensor manipulations with Einstein-like notation".

    Examples:
        >>> initializer = fastinit.in_layout(fastinit.he_uniform_, "expert in out")
        >>> weight = initializer(torch.empty(4, 100, 200), key=0)
        >>> bool(weight.abs().max() <= (6 / 100) ** 0.5)
        True
        >>> packed = fastinit.in_layout(fastinit.orthogonal_, "(3 out) in")
        >>> scheme = fastinit.Scheme({nn.Linear: {"weight": packed, "bias": fastinit.zeros_}})
        >>> fastinit.initialize_(nn.Linear(4, 12), scheme, seed=0)["weight"].initializer
        "in_layout(orthogonal_, '(3 out) in')"
    """
    function, before, given = call_of(initializer)
    if declaration_of(function) is None:
        raise TypeError(
            f"in_layout adapts initializers that declare their law. Received: {getattr(initializer, '__name__', initializer)!r}. "
            "Pass one of fastinit's, or declare the law of your own by fastinit.laws.declares."
        )
    if not isinstance(layout, str):
        raise TypeError(f"layout must be a str. Received: {layout!r} ({type(layout).__name__}). {_MEND}")
    words = {word for dimension in _parsed(layout) for word in dimension}
    for word, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"the size of {word!r} must be an int >= 1. Received: {word}={size!r} ({type(size).__name__}).")
        if size < 1 or word not in words:
            raise ValueError(f"sizes are ints >= 1 of words of the layout {layout!r}. Received: {word}={shown(size)}.")
    own = {name: value for name, value in given.items() if name not in ("key", "generator")}
    bare: Initializer = functools.partial(function, *before, **own) if before or own else function
    sources = {name: value for name, value in given.items() if name not in own}
    return functools.partial(laid_out_, initializer=bare, layout=layout, sizes=sizes, **sources)


@functools.lru_cache(256)
def _parsed(layout: str) -> tuple[tuple[str, ...], ...]:
    """The words of each dimension."""
    if not re.fullmatch(r"\s*((\w+|\(\s*\w+(\s+\w+)*\s*\))(\s+|$|(?=\()))*", layout):
        raise ValueError(f"layout must be words, and words in brackets. Received: layout={layout!r}. {_MEND}")
    found = tuple(tuple(item.strip("()").split()) for item in re.findall(r"\([^)]*\)|\w+", layout))
    words = [word for dimension in found for word in dimension if not word.isdecimal()]
    twice = {word for word in words if words.count(word) > 1 and word != "kernel"}
    if words.count("in") != 1 or words.count("out") != 1 or twice or any(word.strip("0") == "" for word in sum(found, ())):
        raise ValueError(f"layout must have one 'in' and one 'out', and no word twice. Received: layout={layout!r}. {_MEND}")
    return found


def _layout_of(shape: Size, layout: str, sizes: _Sizes) -> _Layout:
    """The layout of a shape.

    Raises:
        ValueError: it does not fit.
    """
    dimensions = _parsed(layout)
    if len(dimensions) != len(shape):
        raise ValueError(f"the layout {layout!r} has {len(dimensions)} dimensions. Received: shape={tuple(shape)}.")
    parts = [_split(size, words, layout, sizes, shape) for size, words in zip(shape, dimensions, strict=True)]
    words = [word for dimension in dimensions for word in dimension]
    axes = {name: [axis for axis, word in enumerate(words) if word == name] for name in _MATRIX}
    stacks = [axis for axis, word in enumerate(words) if word not in _MATRIX]
    return _Layout(parts, [*stacks, *axes["out"], *axes["in"], *axes["kernel"]], len(stacks))


def dimensions_of(layout: str) -> int:
    return len(_parsed(layout))


def inputs_of(shape: Size, layout: str) -> int:
    """How many inputs the matrices of a weight have."""
    laid = _layout_of(shape, layout, {})
    return laid.canonical[laid.stacks + 1]


def _split(size: int, words: tuple[str, ...], layout: str, sizes: _Sizes, shape: Size) -> list[int]:
    """The sizes of what a dimension is made of: at most one of them is not known, and is what is left."""
    known = [int(word) if word.isdecimal() else sizes.get(word) for word in words]
    unknown = [word for word, each in zip(words, known, strict=True) if each is None]
    product = math.prod(each for each in known if each is not None)
    if len(unknown) > 1:
        raise ValueError(
            f"of {', '.join(unknown)} in {layout!r} one size alone may be left out. Pass in_layout(..., {unknown[0]}=)."
        )
    if size % product or (not unknown and size != product):
        raise ValueError(f"the layout {layout!r} does not fit, with sizes {sizes}. Received: shape={tuple(shape)}.")
    return [size // product if each is None else each for each in known]


def _law_in_layout(shape: Size, dtype: DType, initializer: Initializer, layout: str, sizes: _Sizes) -> Law | None:
    """The law of one matrix, which is that of all elements; None where the initializer has none: then it must take stacks."""
    laid = _layout_of(shape, layout, sizes)
    found = law_of(initializer, Size(laid.canonical[laid.stacks :]), dtype)
    if found is None:
        law_of(_of_stacks(initializer, laid.stacks), laid.canonical, dtype)
    return found[0] if found else None


def _of_stacks(initializer: Initializer, stacks: int) -> Initializer:
    """The initializer of as many leading dimensions of independent matrices."""
    function = call_of(initializer)[0]
    if not stacks:
        return initializer
    if "batch_dims" not in inspect.signature(function).parameters:
        raise ValueError(
            f"{getattr(function, '__name__', function)} fills one matrix, and takes no batch_dims. Received: a layout with "
            f"{stacks} stacking dimensions. Fill each matrix by itself."
        )
    return functools.partial(initializer, batch_dims=stacks)  # type: ignore[call-arg]


@declares(_law_in_layout)
def laid_out_(
    tensor: Tensor,
    initializer: Initializer,
    layout: str,
    sizes: _Sizes,
    *,
    generator: Generator | None = None,
    key: int | None = None,
) -> Tensor:
    """Fill a tensor as `in_layout` says."""
    law = _law_in_layout(shape_of(tensor), tensor.dtype, initializer, layout, sizes)
    if law is not None and law.name != "constant":
        return fill_(tensor, law, generator, key, DRAWN_DTYPES)
    if is_loaded(tensor):
        return left(tensor)
    given = {name: value for name, value in (("generator", generator), ("key", key)) if value is not None}
    return _fill_view_(tensor, initializer, layout, sizes, given)


@cut_where_sharded
def _fill_view_(tensor: Tensor, initializer: Initializer, layout: str, sizes: _Sizes, given: dict[str, Any]) -> Tensor:
    """Let the initializer fill a view of the tensor in torch's layout."""
    laid = _layout_of(tensor.shape, layout, sizes)
    with torch.no_grad():
        view = laid.view(tensor)
    stacked = initializer if _is_constant(initializer, laid, tensor.dtype) else _of_stacks(initializer, laid.stacks)
    stacked(view, **given)
    return tensor


def _is_constant(initializer: Initializer, laid: _Layout, dtype: DType) -> bool:
    return law_of(initializer, Size(laid.canonical[laid.stacks :]), dtype) is not None
