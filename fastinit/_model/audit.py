"""Whether a scheme suits a model: what its constructor draws is drawn, what it sets is kept. Two constructions tell which."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from fastinit import _text
from fastinit._core import keys
from fastinit._model.initialize import initialize_
from fastinit._model.report import Report
from fastinit._model.slots import slots
from fastinit._schemes.keras_rules import NORMS
from fastinit._schemes.ready import keras_like
from fastinit._schemes.scheme import Scheme
from fastinit._torch import storage_number

_State = Literal["drawn", "kept", "default", "frozen", "changed", "left"]
_STATES: tuple[_State, ...] = get_args(_State)
_FAULTS = {
    "changed": "constant in the constructor, and changed by the scheme",
    "left": "random in the constructor, or never written by it, and left as it was",
}
_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.original\d*$")  # what `initialize_` sets by the name of what it computes
_LENGTH = 1 << 20  # of the pieces in which statistics are taken: float64 of a whole embedding would be a model's memory


class Statistics(NamedTuple):
    """The values of a parameter, in four numbers; NaN where memory was never written."""

    mean: float
    std: float
    least: float
    greatest: float

    def __str__(self) -> str:
        if self.least == self.greatest:
            return f"{self.least:.4g}"
        return f"{self.mean:.3g} ± {self.std:.3g} in [{self.least:.3g}, {self.greatest:.3g}]"


class AuditEntry(NamedTuple):
    """One parameter of an audited model.

    Attributes:
        name: as in ``named_parameters()``; of tied ones the first.
        module: the name of the class that holds it.
        shape: its shape.
        state: "drawn": random in the constructor, and filled. "kept": constant in the constructor, and as it was. "default": a
            constant that is the default of torch's type itself (a norm's 1 and 0, nn.PReLU's 0.25), which the scheme's rule for
            that type changes. "frozen": not trained (requires_grad is False), and as it was, constant or random. "changed": any
            other constant that was changed. "left": random in the constructor, or never written by it, and as it was.
        before: the values that the constructor gave.
        after: the values after `initialize_`.
        initializer: what filled it, as one would write the call; None where nothing did.
        allowed: whether `audit` was told to allow its state.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    state: _State
    before: Statistics
    after: Statistics
    initializer: str | None = None
    allowed: bool = False


@dataclass(frozen=True)
class Audit:
    """What `audit` found: ``print(found)`` shows it in columns, ``found.json()`` gives it to machines.

    In print, parameters whose names differ in numbers alone and that were treated alike are one line; those that are changed or
    left are named one by one.

    Attributes:
        seed: the seed of both constructions and of `initialize_`.
        scheme: the scheme's repr.
        entries: all parameters, in the order of the model.
        refused: what `initialize_` says where it is strict; None where it refuses nothing. The entries then show what it does
            where it is not strict.

    Examples:
        >>> found = fastinit.audit(lambda: nn.Linear(3, 2))
        >>> found.clean, found.drawn, found["bias"].after.std
        (True, ['weight', 'bias'], 0.0)
    """

    seed: int
    scheme: str
    entries: tuple[AuditEntry, ...]
    refused: str | None = None

    @property
    def drawn(self) -> list[str]:
        """The names of what is random in the constructor and was filled."""
        return self.names("drawn")

    @property
    def kept(self) -> list[str]:
        """The names of what is constant in the constructor and as it was."""
        return self.names("kept")

    @property
    def frozen(self) -> list[str]:
        """The names of what is not trained and as it was."""
        return self.names("frozen")

    @property
    def changed(self) -> list[str]:
        """The names of what is constant in the constructor and was changed."""
        return self.names("changed")

    @property
    def left(self) -> list[str]:
        """The names of what is random in the constructor, or never written by it, and was left."""
        return self.names("left")

    @property
    def clean(self) -> bool:
        """Whether nothing was changed or left, but for what was allowed."""
        return not self._faults()

    def names(self, state: _State) -> list[str]:
        """Return the names of the entries in a state.

        Args:
            state: one of those of `AuditEntry`.

        Returns:
            The names, in the order of the model.
        """
        return [entry.name for entry in self.entries if entry.state == state]

    def __getitem__(self, name: str) -> AuditEntry:
        """Return the entry of a parameter.

        Args:
            name: its name.

        Returns:
            The entry.

        Raises:
            KeyError: the model has no parameter of that name.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def json(self, indent: int | None = 1) -> str:
        """Return the audit as a JSON object: seed, scheme, clean, refused, and the entries with the fields of `AuditEntry`.

        Args:
            indent: the spaces of a level; None: all on one line.

        Returns:
            The text. Numbers that JSON lacks (NaN, infinities) are null.
        """
        entries = [{**e._asdict(), "before": _finite(e.before), "after": _finite(e.after)} for e in self.entries]
        whole = {"seed": self.seed, "scheme": self.scheme, "clean": self.clean, "refused": self.refused, "entries": entries}
        return json.dumps(whole, indent=indent, allow_nan=False)

    def __str__(self) -> str:
        rows = [_row(group) for group in _grouped(self.entries)]
        lines = [_text.aligned(("name", "shape", "state", "in the constructor", "after", "by"), rows)]
        counts = Counter(entry.state for entry in self.entries)
        scheme = "a scheme of rules" if "\n" in self.scheme else self.scheme
        summary = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state]) or "no parameters"
        lines.append(f"{scheme}, seed {self.seed}: {summary}")
        faults = self._faults()
        for state, words in _FAULTS.items():
            lines += [f"  {e.name}: {words} ({e.before} -> {e.after})" for e in faults if e.state == state]
        if self.refused:
            lines += ["strict refuses:", self.refused, "where it is not strict:"]
        return "\n".join([*lines, "clean" if self.clean else "not clean"])

    def _faults(self) -> list[AuditEntry]:
        return [entry for entry in self.entries if entry.state in _FAULTS and not entry.allowed]


def audit(
    build: Callable[[], nn.Module], scheme: Scheme = keras_like, *, seed: int = 0, allow: Sequence[str] = (), check: bool = False
) -> Audit:
    """Say of each parameter of a model whether a scheme treats it as its constructor does. A line in a test of yours.

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
    entries = tuple(_entry(name, old[name], new[name], name in constant, second, report, allow) for name in new)
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
    name: str, old: Tensor, new: Tensor, constant: bool, model: nn.Module, report: Report, allow: Sequence[str]
) -> AuditEntry:
    owner, _, attribute = name.rpartition(".")
    module, before = model.get_submodule(owner), _statistics(old)
    reported = _PARAMETRIZED.sub(r"\1", name)
    by = next((entry.initializer for entry in report.entries if entry.name == reported), None)
    state: _State = "drawn"
    if _same(old, new):
        frozen = not new.requires_grad and not _has_nan(new)
        state = "frozen" if frozen else "kept" if constant else "left"
    elif constant:
        state = "default" if _is_default(module, attribute, before) else "changed"
    allowed = state in _FAULTS and any(fnmatch.fnmatchcase(name, pattern) for pattern in allow)
    return AuditEntry(name, type(module).__name__, tuple(new.shape), state, before, _statistics(new), by, allowed)


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


# --- how it is shown ----------------------------------------------------------------------------------------------------------


def _finite(statistics: Statistics) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in statistics._asdict().items()}


def _grouped(entries: Iterable[AuditEntry]) -> list[list[AuditEntry]]:
    """Entries that differ in the numbers of their names and in values that were drawn; what is changed or left stands alone."""
    groups: dict[Any, list[AuditEntry]] = {}
    for entry in entries:
        pattern = entry.name if entry.state in _FAULTS else re.sub(r"\d+", "*", entry.name)
        values = (entry.before, entry.after) if entry.before.least == entry.before.greatest else ()
        key = (pattern, entry.shape, entry.state, entry.initializer, values)
        groups.setdefault(key, []).append(entry)
    return list(groups.values())


def _row(group: list[AuditEntry]) -> tuple[str, ...]:
    first = group[0]
    name = first.name if len(group) == 1 else f"{re.sub(r'[0-9]+', '*', first.name)} ({len(group)})"
    shape = "x".join(map(str, first.shape)) or "scalar"
    before, after = (_pooled([getattr(entry, when) for entry in group]) for when in ("before", "after"))
    return name, shape, first.state + ", allowed" * first.allowed, str(before), str(after), first.initializer or ""


def _pooled(parts: list[Statistics]) -> Statistics:
    """Of tensors of one shape together."""
    mean = math.fsum(part.mean for part in parts) / len(parts)
    variance = math.fsum(part.std**2 + (part.mean - mean) ** 2 for part in parts) / len(parts)
    return Statistics(mean, math.sqrt(variance), min(p.least for p in parts), max(p.greatest for p in parts))
