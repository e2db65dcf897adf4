"""Rules that know the depth: an initializer that is made for each layer from its number and the number of layers."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from torch import Tensor

from fastinit._core.check import shown
from fastinit._core.laws import Initializer

Make = Callable[..., Initializer | None]


class ByDepth:
    """What `by_depth` returns: it stands where an initializer stands, and is no initializer itself."""

    def __init__(self, make: Make, within: str | None, layers: int | None) -> None:
        self.make, self.within, self.layers = make, within, layers
        self._takes_two = _takes_two(make)

    def __call__(self, tensor: Tensor) -> Any:
        raise ValueError(f"{self} needs the names of a whole model. {_MEND}")

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in (("within", self.within), ("layers", self.layers)) if value is not None]
        return f"by_depth({', '.join([getattr(self.make, '__name__', None) or repr(self.make), *given])})"

    def at(self, name: str, children: Callable[[str], Collection[str] | None]) -> Initializer | None:
        """The initializer of a parameter by its canonical name; `children` gives the names of a module's children, by its name.

        Raises:
            TypeError: what was made is no initializer.
            ValueError: the name has no number, or the number of layers is not known.
        """
        path, index = self._place(name)
        arguments = (index, self._count(name, path, index, children(path))) if self._takes_two else (index,)
        made = self.make(*arguments)
        if made is not None and (isinstance(made, ByDepth) or not callable(made)):
            raise TypeError(f"{self} must make an initializer, or None. Received: {made!r} for {name!r}.")
        return made

    def _place(self, name: str) -> tuple[str, int]:
        """The name of the list of layers, and the number in it: the first number in the name, or the first within the list."""
        parts = name.split(".")[:-1]
        for at, part in enumerate(parts):
            path = ".".join(parts[:at])
            if part.isdecimal() and (self.within is None or _is_named(path, self.within)):
                return path, int(part)
        within = f" in a list of the name {self.within!r}" if self.within else ""
        raise ValueError(
            f"{self} needs a name with the number of a layer{within}, such as 'layers.3.mlp.weight'. Received: {name!r}. Give "
            "this parameter a rule of its own, or pass prefix= where the model is one layer of a larger one."
        )

    def _count(self, name: str, path: str, index: int, children: Collection[str] | None) -> int:
        count = self.layers if self.layers is not None else len(children or ())
        if self.layers is None and (children is None or {*children} != {str(number) for number in range(count)}):
            has = "is not in this model" if children is None else f"has the children {', '.join(children)}"
            raise ValueError(
                f"{self} does not know the number of layers: {path or 'the model'!r} {has}. Received: {name!r}. Pass layers= to "
                "by_depth."
            )
        if index >= count:
            raise ValueError(f"{self} has a layer that is not below {count}. Received: {name!r}. Pass a larger layers=.")
        return count


_MEND = "Call fastinit.initialize_(model, scheme, seed=0) instead of model.apply(scheme)."


def by_depth(make: Make, *, within: str | None = None, layers: int | None = None) -> Initializer:
    """Return what stands for an initializer in a `Scheme`, and differs from layer to layer.

    `initialize_` resolves it for each parameter by its canonical name: the number of the layer is the first number in it, 3 in
    "model.layers.3.mlp.up.weight", and the number of layers is that of the children of "model.layers". The report shows what it
    became. ``model.apply(scheme)`` knows no names, and refuses it.

    Args:
        make: called as ``make(index, layers)``, or ``make(index)`` if it takes one argument; returns an initializer, or None to
            leave the parameter as it is. `index` counts from 0.
        within: the name of the list of layers, where it is not the outermost: its last parts, such as "blocks" or
            "decoder.layers", or a pattern as in fnmatch. None: the outermost.
        layers: the number of layers, an int >= 1, for a part of a model: one layer under `initialize_`'s ``prefix``, or a stage
            of a pipeline, whose list lacks some. None: taken from the model.

    Returns:
        What stands for an initializer. To be called it is not.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: layers is < 1. (`initialize_` raises it where a name has no number, or the number of layers is not known.)

    Reference:
        torchtitan and GPT-NeoX scale by the depth so.

    Examples:
        >>> def scaled(index, layers):
        ...     return partial(fastinit.normal_, std=0.02 / (2 * (index + 1)) ** 0.5)
        >>> scheme = fastinit.gpt2_like(2).override({"*.weight": fastinit.by_depth(scaled)})
        >>> report = fastinit.initialize_(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), scheme, seed=0)
        >>> report["1.weight"].initializer
        'normal_(std=0.01)'
    """
    if not callable(make):
        raise TypeError(f"make must be a function of index and layers. Received: {make!r} ({type(make).__name__}).")
    if within is not None and not isinstance(within, str):
        raise TypeError(f"within must be a str or None. Received: {within!r} ({type(within).__name__}).")
    if layers is not None and (isinstance(layers, bool) or not isinstance(layers, int)):
        raise TypeError(f"layers must be an int >= 1 or None. Received: layers={layers!r} ({type(layers).__name__}).")
    if layers is not None and layers < 1:
        raise ValueError(f"layers must be an int >= 1 or None. Received: layers={shown(layers)}.")
    return ByDepth(make, within, layers)


def refuse_depth(initializers: Iterable[Initializer]) -> None:
    """Raise ValueError if there is one that needs names, also inside of one that zeroes a row."""
    for each in initializers:
        inner = each.keywords.get("initializer") if isinstance(each, partial) else each
        if isinstance(inner, ByDepth):
            raise ValueError(f"{inner} needs the names of a whole model. {_MEND}")


def _takes_two(make: Make) -> bool:
    parameters = inspect.signature(make).parameters.values()
    free = [each for each in parameters if each.default is each.empty and each.kind is not each.KEYWORD_ONLY]
    return len(free) != 1 or free[0].kind is free[0].VAR_POSITIONAL


def _is_named(path: str, within: str) -> bool:
    return path == within or path.endswith(f".{within}") or fnmatch.fnmatchcase(path, within)
