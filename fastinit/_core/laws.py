"""Laws: what may be asked of a fill, in doubles, checked; and which law an initializer fills a tensor with.

An initializer that fills its whole tensor from one law declares it by `declares`. Such fills can be planned without running the
initializer, which is how a model is filled in one batch.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

from fastinit._core.check import finite, is_less, not_negative, number
from fastinit._core.modes import ieee_arithmetic, is_flushing

_SMALLEST_FMOD_CUT = 2.0**-10  # sigmas; below it the float32 grid of z is too coarse for the law of the remainder


class Law(NamedTuple):
    """What a user asks of a fill, in doubles. Made by the functions of this module, which check it.

    Attributes:
        name: "uniform", "normal", "truncated_normal", "fmod_normal", "constant", "words" or "half_open_uniform".
        parameters: in the same order (a, b), (mean, std), (mean, std, a, b), (mean, std, a, b), (value,), () and (a, b).

    Examples:
        >>> fastinit.laws.normal(0.0, 0.02)
        Law(name='normal', parameters=(0.0, 0.02))
    """

    name: str
    parameters: tuple[float, ...]


RAW_WORDS = Law("words", ())  # of integer dtypes: the words themselves

# Arguments that are floats, and right, are seen at once by the functions below: a call less saves a small fill 0.1 us of its 12.
# A finite number minus itself is 0; torch.compile cannot always compare with infinity.


def uniform(a: float, b: float) -> Law:
    """Make the law U(a, b).

    Args:
        a: the lower bound, finite.
        b: the upper bound, finite, >= a. If it is a, all values are a, rounded to the dtype.

    Returns:
        The law, for `declares`.

    Raises:
        TypeError: an argument is not a number.
        ValueError: a bound is not finite, or a <= b does not hold.

    Examples:
        >>> fastinit.laws.uniform(-1, 1)
        Law(name='uniform', parameters=(-1.0, 1.0))
    """
    if not (type(a) is type(b) is float and a - a == b - b == 0 and a < b):
        a, b = finite("a", a), finite("b", b)
        if is_less(b, a):
            raise ValueError(f"uniform bounds must satisfy a <= b. Received: a={a}, b={b}.")
    return Law("uniform", (a, b))


def half_open(law: Law) -> Law:
    """The law as torch has it: a uniform one without its upper bound. Its other values keep their bits."""
    return Law("half_open_uniform", law.parameters) if law.name == "uniform" else law


def normal(mean: float, std: float) -> Law:
    """Make the law N(mean, std**2).

    Args:
        mean: finite.
        std: the standard deviation, finite, >= 0. If it is 0, all values are the mean.

    Returns:
        The law, for `declares`.

    Raises:
        TypeError: an argument is not a number.
        ValueError: mean is not finite, or std is not >= 0.

    Examples:
        >>> fastinit.laws.normal(0.0, 0.02)
        Law(name='normal', parameters=(0.0, 0.02))
    """
    return Law("normal", (finite("mean", mean), not_negative("std", std)))


def truncated_normal(mean: float, std: float, a: float, b: float) -> Law:
    """Make the law of N(mean, std**2) conditioned on [a, b].

    Args:
        mean: the mean before the cut, finite.
        std: the standard deviation before the cut, finite, >= 0. If it is 0, all values are the mean, or the bound
            nearest to it.
        a: the lower bound, in the units of the values (not in sigmas); may be -inf.
        b: the upper bound, in the same units, >= a; may be inf. If it is a, all values are a, rounded to the dtype.

    Returns:
        The law, for `declares`.

    Raises:
        TypeError: an argument is not a number.
        ValueError: mean is not finite, std is not >= 0, or a <= b does not hold.

    Examples:
        >>> fastinit.laws.truncated_normal(0.0, 0.5, -1.0, 1.0)
        Law(name='truncated_normal', parameters=(0.0, 0.5, -1.0, 1.0))
    """
    if not (type(mean) is type(std) is type(a) is type(b) is float and mean - mean == std - std == 0 and std > 0 and a < b):
        mean, std = finite("mean", mean), not_negative("std", std)
        a, b = number("a", a), number("b", b)
        if is_less(b, a) or a == math.inf or b == -math.inf:
            raise ValueError(f"truncation bounds must satisfy a <= b (absolute values, not sigmas). Received: a={a}, b={b}.")
    return Law("truncated_normal", (mean, std, a, b))


def fmod_normal(mean: float, std: float, a: float, b: float) -> Law:
    """Make the law of mean + std * fmod(z, cut), with z standard normal and cut = (b - mean) / std.

    Args:
        mean: finite.
        std: the standard deviation of the normal, finite, >= 0. If it is 0, all values are the mean.
        a: the lower bound, in the units of the values; as far below the mean as b is above it.
        b: the upper bound, in the same units, at least 2**-10 * std above the mean.

    Returns:
        The law, for `declares`.

    Raises:
        TypeError: an argument is not a number.
        ValueError: mean is not finite, std is not >= 0, the bounds are not symmetric about the mean, or they are too close to it.

    Examples:
        >>> fastinit.laws.fmod_normal(0.0, 0.5, -1.0, 1.0)
        Law(name='fmod_normal', parameters=(0.0, 0.5, -1.0, 1.0))
    """
    if is_flushing():
        with ieee_arithmetic():
            return fmod_normal(mean, std, a, b)
    mean, std, a, b = truncated_normal(mean, std, a, b).parameters
    lower, upper = mean - a, b - mean
    if lower != upper and not abs(lower - upper) <= 1e-12 * max(abs(lower), abs(upper), abs(mean)) < math.inf:
        raise ValueError(
            f"method='fmod' needs bounds symmetric about the mean. Received: mean={mean}, a={a}, b={b}. "
            "Move a bound, or use method='exact'."
        )
    if std > 0 and upper / std < _SMALLEST_FMOD_CUT:
        raise ValueError(
            f"method='fmod' needs a cut of at least 2^-10 sigmas. Received: {upper / std} (std={std}, b - mean={upper}). "
            "Use method='exact'."
        )
    return Law("fmod_normal", (mean, std, a, b))


def constant(value: float) -> Law:
    """Make the law of one value: among random fills a constant costs no launch of its own.

    Args:
        value: finite. A negative zero counts as zero.

    Returns:
        The law, for `declares`.

    Raises:
        TypeError: an argument is not a number.
        ValueError: the value is not finite.

    Examples:
        >>> fastinit.laws.constant(1)
        Law(name='constant', parameters=(1.0,))
    """
    return Law("constant", (finite("value", value),))


def of_parts(law: Law) -> Law:
    """The law of the real and of the imaginary parts of complex numbers, as torch has it: normal ones share the variance.

    Raises:
        TypeError: torch has no such law of complex numbers.
    """
    if law.name == "normal":
        mean, std = law.parameters
        return Law("normal", (mean, std / math.sqrt(2.0)))
    if law.name not in ("uniform", "half_open_uniform"):
        raise TypeError(f"no {law.name} law is known of complex numbers. Fill torch.view_as_real(tensor), their parts.")
    return law


# --- declared laws --------------------------------------------------------------------------------------------------------------

Initializer = Callable[[torch.Tensor], Any]
_Declared = TypeVar("_Declared", bound=Callable[..., Any])
_SOURCES = ("generator", "key")  # of randomness: what every initializer takes, and no law depends on


class _Declaration:
    """The law of an initializer: a function of shape, dtype and the initializer's other arguments."""

    def __init__(self, initializer: Callable[..., Any], law: Callable[..., Law | None]) -> None:
        self.initializer = initializer  # a wrapper that copies the attributes of what it wraps is another one
        self.law = law
        self.arguments = _arguments_of(initializer)  # now: torch.compile cannot read a signature

    def __call__(self, shape: torch.Size, dtype: torch.dtype, given: dict[str, Any]) -> Law | None:
        defaults, required = self.arguments
        arguments = {**defaults, **given}
        if arguments.keys() != defaults.keys() | required:
            inspect.signature(self.initializer).bind(None, **given)  # raises, and names the argument
        return self.law(shape, dtype, **arguments)


def _arguments_of(initializer: Callable[..., Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """The defaults of the arguments after the tensor, and the names of those without one."""
    _, *parameters = inspect.signature(initializer).parameters.values()
    own = [parameter for parameter in parameters if parameter.name not in _SOURCES]
    defaults = {parameter.name: parameter.default for parameter in own if parameter.default is not parameter.empty}
    return defaults, frozenset(parameter.name for parameter in own) - defaults.keys()


def declares(law: Callable[..., Law | None]) -> Callable[[_Declared], _Declared]:
    """Declare the law that an initializer fills a whole tensor with, so that `initialize_` batches its fills.

    Args:
        law: called as ``law(shape, dtype, **arguments)`` with the torch.Size of the whole tensor, its torch.dtype, and the
            initializer's arguments by name, defaults included; without its first, the tensor, and without `generator` and `key`.
            It returns a `Law`, or None where the values of these arguments are not drawn from one law: the initializer is then
            called as it is. It raises ValueError or TypeError for wrong arguments.

    Returns:
        A decorator, which returns the initializer itself. `initialize_` then trusts the declaration, and instead of calling
            the initializer fills the tensor from the law by the parameter's key, or by the `key` that a partial carries.

    Raises:
        TypeError: the law is not callable.

    Examples:
        >>> @fastinit.laws.declares(lambda shape, dtype, depth: fastinit.laws.normal(0.0, 0.02 / depth**0.5))
        ... def scaled_(tensor, depth, *, key=None):
        ...     return fastinit.normal_(tensor, std=0.02 / depth**0.5, key=key)
        >>> scheme = fastinit.Scheme({nn.Linear: {"weight": partial(scaled_, depth=4), "bias": fastinit.zeros_}})
        >>> fastinit.initialize_(nn.Linear(3, 3), scheme, seed=0)["weight"].initializer
        'scaled_(depth=4)'
    """
    if not callable(law):
        raise TypeError(f"a law is a function of shape, dtype and the initializer's arguments. Received: {law!r}.")

    def declared(initializer: _Declared) -> _Declared:
        initializer.__fastinit_law__ = _Declaration(initializer, law)  # type: ignore[attr-defined]
        return initializer

    return declared


def declaration_of(function: object) -> _Declaration | None:
    """What the function itself declares; None for any other, also one that wraps it."""
    found = getattr(function, "__fastinit_law__", None)
    return found if isinstance(found, _Declaration) and found.initializer is function else None


def law_of(initializer: Initializer, shape: torch.Size, dtype: torch.dtype) -> tuple[Law, int | None] | None:
    """The declared law of an initializer, or of a partial of one, and the key that a partial carries.

    Returns:
        None where the initializer declares nothing, or a partial carries a generator: it must be called.

    Raises:
        TypeError, ValueError: the arguments are wrong.
    """
    function, before, given = call_of(initializer)
    declaration = declaration_of(function)
    if declaration is None or "generator" in given:
        return None
    if before:
        raise TypeError(f"an initializer's first argument is the tensor: name the others in a partial. Received: {before!r}.")
    law = declaration(shape, dtype, {name: value for name, value in given.items() if name != "key"})
    return None if law is None else (law, given.get("key"))


def call_of(initializer: Initializer) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The function of an initializer, and what a partial gives it: by position, by name."""
    if isinstance(initializer, functools.partial):
        return initializer.func, initializer.args, initializer.keywords
    return initializer, (), {}
