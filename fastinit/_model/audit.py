"""Whether a scheme suits a model: what its constructor draws is drawn, what it sets is kept. Two constructions tell which."""

from __future__ import annotations

import contextlib
import fnmatch
import math
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastinit._core import keys
from fastinit._model.audit_report import FAULTS, Audit, AuditEntry, AuditState, Statistics
from fastinit._model.initialize import initialize_
from fastinit._model.report import Report
from fastinit._model.slots import slots
from fastinit._schemes.keras_rules import NORMS
from fastinit._schemes.ready import keras_like
from fastinit._schemes.scheme import Scheme
from fastinit._torch import storage_number

_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.original\d*$")  # what `initialize_` sets by the name of what it computes
_LENGTH = 1 << 20  # of the pieces in which statistics are taken: float64 of a whole embedding would be a model's memory


def audit(
    build: Callable[[], nn.Module], scheme: Scheme = keras_like, *, seed: int = 0, allow: Sequence[str] = (), check: bool = False
) -> Audit:
    """Tell of each parameter of a model whether a scheme treats it as its constructor does. A line in a test of yours.

    The model is built twice, on the CPU, under two seeds of torch, Python and NumPy. What is equal in both is constant in the
    constructor: a norm's gain, a gate, a table. All else is random. Memory that a constructor leaves as it is (``torch.empty``)
    holds NaN here, and counts as random. Then one of the models goes through `initialize_`, and is compared with what it was.
    Generators are put back as they were. At most two models are in memory: build a small one of the same classes.

    Args:
        build: takes nothing, and returns a new model each time.
        scheme: what fills each parameter, as for `initialize_`.
        seed: any integer. Both constructions and `initialize_` depend on it.
        allow: patterns, as in fnmatch, for the names of parameters that may be changed or left: they are shown, and count as
            clean.
        check: whether what is not clean is an error.

    Returns:
        An `Audit`, with every parameter's state and values before and after.

    Raises:
        AssertionError: with `check`, where a constant parameter was changed, or a random one left: the printed audit.
        TypeError: build cannot be called, or returns no module; another argument has a wrong type.
        ValueError: build returns a model that it has returned before, or that shares parameters with it; models of other
            parameters; one on meta; or one that `initialize_` refuses even where it is not strict.

    Reference:
        PyTorch, [torch.utils.deterministic](https://docs.pytorch.org/docs/stable/deterministic.html), which fills memory that
        nobody has written.

    Examples:
        >>> class Gate(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.scale, self.linear = nn.Parameter(torch.full((3,), 1e-5)), nn.Linear(3, 3)
        >>> print(fastinit.audit(Gate, fastinit.keras_like.override({Gate: {"scale": fastinit.ones_}})).changed)
        ['scale']
    """
    _check_arguments(build, scheme, allow)
    first, second = (_built(build, keys.key(seed, "audit", number)) for number in range(2))
    slots(second, scheme, "")  # refuses what cannot be initialized, before it is looked at
    _check_models(first, second)
    old, new = dict(first.named_parameters()), dict(second.named_parameters())
    with torch.no_grad():
        constant = {name for name, tensor in new.items() if _same(old[name], tensor) and not _has_nan(tensor)}
        for name in new.keys() - constant:
            old[name].copy_(new[name])  # the first model is now the second as it was
    report, refused = _initialized(second, scheme, seed)
    by = {entry.name: entry.initializer for entry in report.entries}
    entries = tuple(_entry(name, old[name], new[name], name in constant, second, by, allow) for name in new)
    found = Audit(int(seed), repr(scheme), entries, refused)
    if check and not found.clean:
        raise AssertionError(f"the scheme and the model's constructor do not agree:\n{found}")
    return found


# --- two models ---------------------------------------------------------------------------------------------------------------


def _check_arguments(build: Any, scheme: Any, allow: Any) -> None:
    if isinstance(build, (nn.Module, Scheme)) or not callable(build):
        raise TypeError(
            f"build must be a function that returns a new model. Received: {type(build).__name__}. "
            "Pass e.g. lambda: Model(config), which is called twice."
        )
    if not isinstance(scheme, Scheme):
        raise TypeError(
            f"scheme must be a fastinit.Scheme. Received: {scheme!r} ({type(scheme).__name__}). Pass e.g. fastinit.keras_like."
        )
    if isinstance(allow, str) or not all(isinstance(pattern, str) for pattern in allow):
        raise TypeError(f"allow must be a sequence of patterns. Received: {allow!r}. Pass e.g. ['*.gamma'].")


def _built(build: Callable[[], Any], seed: int) -> nn.Module:
    with _seeded(seed), torch.device("cpu"):
        model = build()
    if not isinstance(model, nn.Module):
        raise TypeError(f"build must return a torch.nn.Module. Received: {model!r} ({type(model).__name__}). Return the model.")
    return model


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed all generators, and let memory that nobody writes be NaN; all is as before afterwards."""
    numpy = sys.modules.get("numpy.random")
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    states, mode = (random.getstate(), numpy and numpy.get_state()), torch.get_deterministic_debug_mode()
    with torch.random.fork_rng(cuda):
        try:
            torch.default_generator.manual_seed(seed)
            if cuda:
                torch.cuda.manual_seed_all(seed)
            random.seed(seed)
            if numpy:
                numpy.seed(seed % 2**32)
            torch.set_deterministic_debug_mode("warn")
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            random.setstate(states[0])
            if numpy:
                numpy.set_state(states[1])


def _check_models(first: nn.Module, second: nn.Module) -> None:
    """Raise ValueError unless they are two models of the same parameters, with values."""
    one, two = dict(first.named_parameters()), dict(second.named_parameters())
    if [(name, p.shape) for name, p in one.items()] != [(name, p.shape) for name, p in two.items()]:
        odd = sorted(name for name in {**one, **two} if name not in one or name not in two or one[name].shape != two[name].shape)
        raise ValueError(
            f"build must return the same architecture each time. Parameters that differ: {', '.join(odd) or 'order'}."
        )
    if on_meta := [name for name, tensor in two.items() if tensor.is_meta]:
        raise ValueError(f"build must give parameters values. On meta: {', '.join(on_meta)}. Build without torch.device('meta').")
    owned = {storage_number(tensor): name for name, tensor in one.items()}
    shared = [owned[number] for number in map(storage_number, two.values()) if number in owned]
    if shared or first is second:
        raise ValueError(
            f"build must make a new model each time. Both hold the same: {', '.join(shared) or 'module'}. "
            "Construct all of it inside of the function."
        )


def _initialized(model: nn.Module, scheme: Scheme, seed: int) -> tuple[Report, str | None]:
    """Initialize the model, strictly if that is possible; also what strict says against it. It writes nothing where it raises."""
    try:
        return initialize_(model, scheme, seed=seed), None
    except ValueError as error:
        return initialize_(model, scheme, seed=seed, strict=False), str(error)


# --- what became of each parameter --------------------------------------------------------------------------------------------


def _entry(
    name: str, old: Tensor, new: Tensor, constant: bool, model: nn.Module, by: dict[str, str | None], allow: Sequence[str]
) -> AuditEntry:
    owner, _, attribute = name.rpartition(".")
    module, before = model.get_submodule(owner), _statistics(old)
    state: AuditState = "drawn"
    if _same(old, new):
        frozen = not new.requires_grad and not _has_nan(new)
        state = "frozen" if frozen else "kept" if constant else "left"
    elif constant:
        state = "default" if _is_default(module, attribute, before) else "changed"
    filled = by.get(_PARAMETRIZED.sub(r"\1", name))
    allowed = state in FAULTS and any(fnmatch.fnmatchcase(name, pattern) for pattern in allow)
    return AuditEntry(name, type(module).__name__, tuple(new.shape), state, before, _statistics(new), filled, allowed)


def _is_default(module: nn.Module, attribute: str, before: Statistics) -> bool:
    """Whether it held what torch's own type holds when it is made: a choice of the type's, not of the model's."""
    value = 0.25 if isinstance(module, nn.PReLU) else {"weight": 1.0, "bias": 0.0}.get(attribute)
    return isinstance(module, (nn.PReLU, *NORMS)) and before.least == before.greatest == value


def _same(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors hold the same; NaN is the same as NaN."""
    a, b = _real(one), _real(two)
    return torch.equal(a, b) or (
        _has_nan(a) and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
    )


def _has_nan(tensor: Tensor) -> bool:
    return bool(_real(tensor).isnan().any())


def _real(tensor: Tensor) -> Tensor:
    """The values as real numbers, of a type that every operation takes."""
    data = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    return data if data.dtype in (torch.float32, torch.float64) else data.cpu().double()


def _statistics(tensor: Tensor) -> Statistics:
    """Of all elements, exact but for roundings in float64."""
    if not tensor.numel():
        return Statistics(0.0, 0.0, 0.0, 0.0)
    values = _real(tensor).flatten()
    least, greatest = (float(bound) for bound in values.aminmax())
    mean = math.fsum(float(piece.cpu().double().sum()) for piece in values.split(_LENGTH)) / len(values)
    squares = math.fsum(float((piece.cpu().double() - mean).square().sum()) for piece in values.split(_LENGTH))
    return Statistics(mean, math.sqrt(squares / len(values)), least, greatest)
