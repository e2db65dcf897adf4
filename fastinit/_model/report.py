"""What `initialize_` did to each parameter and buffer of a model: a table to print, and JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastinit import _text

STATES = ("filled", "tied", "left", "missed")


class Entry(NamedTuple):
    """One name of a parameter or buffer.

    state: "filled" by its initializer; "tied" to the parameter that `source` names, which was filled; "left" as it was,
    because a rule says None or it is a buffer that no rule names; or "missed": a parameter that no rule names.
    """

    name: str
    shape: tuple[int, ...]  # of the whole tensor, where this rank holds a shard
    dtype: str  # such as "float32"
    state: str
    kind: str = "parameter"  # or "buffer"
    initializer: str | None = None
    key: int | None = None
    source: str | None = None


@dataclass(frozen=True)
class Report:
    """All entries, in the order of the model. ``print(report)`` for a table, ``report.json()`` for machines."""

    seed: int
    entries: tuple[Entry, ...]

    @property
    def filled(self) -> list[str]:
        return self.names("filled")

    @property
    def tied(self) -> list[str]:
        return self.names("tied")

    @property
    def left(self) -> list[str]:
        return self.names("left")

    @property
    def missed(self) -> list[str]:
        return self.names("missed")

    def names(self, state: str) -> list[str]:
        return [entry.name for entry in self.entries if entry.state == state]

    def __getitem__(self, name: str) -> Entry:
        """The entry of a canonical name. Raises KeyError if the model has none of that name."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def json(self, indent: int | None = 1) -> str:
        """As a JSON object: seed, and entries with the fields of `Entry`; keys are hexadecimal, which no reader rounds."""
        entries: list[dict[str, Any]] = [entry._asdict() for entry in self.entries]
        for entry in entries:
            entry["key"] = None if entry["key"] is None else f"{entry['key']:016x}"
        return json.dumps({"seed": self.seed, "entries": entries}, indent=indent)

    def __str__(self) -> str:
        rows = [(e.name, "x".join(map(str, e.shape)) or "scalar", e.dtype, e.state, how(e)) for e in self.entries]
        counts = Counter(entry.state for entry in self.entries)
        summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "nothing to fill"
        return f"{_text.table(('name', 'shape', 'dtype', 'state', 'by'), rows)}\nseed {self.seed}: {summary}"


def how(entry: Entry) -> str:
    if entry.source is not None:
        return f"as {entry.source}"
    if entry.initializer is None:
        return ""
    return entry.initializer if entry.key is None else f"{entry.initializer}, key {entry.key:016x}"
