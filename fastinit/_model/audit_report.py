"""What `audit` found: each parameter's state and values, in columns to print and as JSON."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from fastinit import _text

AuditState = Literal["drawn", "kept", "default", "frozen", "changed", "left"]
_STATES: tuple[AuditState, ...] = get_args(AuditState)
FAULTS = {
    "changed": "constant in the constructor, and changed by the scheme",
    "left": "random in the constructor, or never written by it, and left as it was",
}


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
    state: AuditState
    before: Statistics
    after: Statistics
    initializer: str | None = None
    allowed: bool = False


@dataclass(frozen=True)
class Audit:
    """What `audit` found: ``print(found)`` shows it in columns, ``found.json()`` gives it to machines.

    ``f"{found:60}"`` shows it in lines of at most 60 characters: as a list, where the columns are wider.

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

    def names(self, state: AuditState) -> list[str]:
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
        return f"{self:}"

    def __format__(self, spec: str) -> str:
        """The audit in lines of at most so many characters; of any length without a number."""
        width = int(spec) if spec else None
        rows = [_row(group) for group in _grouped(self.entries)]
        table = _text.aligned(("name", "shape", "state", "in the constructor", "after", "by"), rows, width=width)
        return "\n".join([table, *(_text.wrapped(line, width, 4) for line in self._summary())])

    def _summary(self) -> list[str]:
        """The lines below the table."""
        counts = Counter(entry.state for entry in self.entries)
        scheme = "a scheme of rules" if "\n" in self.scheme else self.scheme
        summary = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state]) or "no parameters"
        lines = [f"{scheme}, seed {self.seed}: {summary}"]
        faults = self._faults()
        for state, words in FAULTS.items():
            lines += [f"  {e.name}: {words} ({e.before} -> {e.after})" for e in faults if e.state == state]
        if self.refused:
            lines += ["strict refuses:", self.refused, "where it is not strict:"]
        return [*lines, "clean" if self.clean else "not clean"]

    def _faults(self) -> list[AuditEntry]:
        return [entry for entry in self.entries if entry.state in FAULTS and not entry.allowed]


def _finite(statistics: Statistics) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in statistics._asdict().items()}


def _grouped(entries: Iterable[AuditEntry]) -> list[list[AuditEntry]]:
    """Entries that differ in the numbers of their names and in values that were drawn; what is changed or left stands alone."""
    groups: dict[Any, list[AuditEntry]] = {}
    for entry in entries:
        pattern = entry.name if entry.state in FAULTS else re.sub(r"\d+", "*", entry.name)
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
