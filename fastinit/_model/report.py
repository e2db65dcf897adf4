"""What `initialize_` or `perturb_` did to each parameter and buffer of a model: aligned columns to print, and JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch

from fastinit import _text
from fastinit._schemes.naming import name_of_dtype

State = Literal["filled", "tied", "left", "frozen", "kept", "missed"]
_STATES: tuple[State, ...] = get_args(State)
_LEFT: tuple[State, ...] = ("frozen", "kept")  # whose names have a heading of their own


class Entry(NamedTuple):
    """One parameter or buffer of a model.

    Attributes:
        name: its canonical name.
        shape: of the whole tensor, where this rank holds a shard.
        dtype: such as "float32".
        state: "filled" by its initializer, or by `perturb_` with its noise; "tied" to the parameter that `source` names, which
            was filled; "left" as it was, because a rule says None, or it is loaded, or it is a buffer that no rule names;
            "frozen", a parameter that is not trained, left as it was; "kept", a constant of the constructor's that a rule would
            have replaced; or "missed", a parameter that no rule names.
        kind: "parameter", "buffer", or "plain attribute": a tensor on meta that was neither.
        initializer: what filled it, as one would write the call; None where nothing did.
        key: the key of its values, an int in [0, 2**64); None where they are not random. Of a `perturb_` with several seeds a
            tuple.
        source: the name that a tied one is tied to; else None.
        loaded: whether it was left because transformers has marked it as loaded.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    state: State
    kind: Literal["parameter", "buffer", "plain attribute"] = "parameter"
    initializer: str | None = None
    key: int | tuple[int, ...] | None = None
    source: str | None = None
    loaded: bool = False


# An entry until it is read, as few are: the shape may be torch's, and the dtype is.
_Kind = Literal["parameter", "buffer", "plain attribute"]
Row = tuple[str, tuple[int, ...], torch.dtype, State, _Kind, str | None, int | None, str | None, bool]


@dataclass(frozen=True)
class Report:
    """What `initialize_` or `perturb_` did: ``print(report)`` shows it in columns, ``report.json()`` gives it to machines.

    Attributes:
        seed: the seed of all keys; of a `perturb_` with several seeds a tuple.
        entries: all entries, in the order of the model.
        unused: the rules that match nothing in the model, in words: of a scheme's own types, and all where `initialize_` is not
            strict, or has a prefix.

    Examples:
        >>> report = fastinit.initialize_(nn.Linear(3, 2), seed=7)
        >>> report.filled, report.missed, report.seed
        (['weight', 'bias'], [], 7)
        >>> report["weight"].key == fastinit.key(7, "weight")
        True
        >>> report.json(indent=None)[:36]
        '{"seed": 7, "entries": [{"name": "we'
    """

    seed: int | tuple[int, ...]
    entries: tuple[Entry, ...]
    unused: tuple[str, ...] = ()

    @classmethod
    def of_rows(cls, seed: int, rows: list[Row], unused: tuple[str, ...]) -> Report:
        """A report whose entries are made when they are read."""
        report = cls.__new__(cls)
        vars(report).update(seed=seed, unused=unused, _rows=rows)
        return report

    def __getattr__(self, name: str) -> Any:
        if name != "entries" or "_rows" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        rows = vars(self).pop("_rows")
        vars(self)["entries"] = found = tuple(
            Entry(name, tuple(shape), name_of_dtype(dtype), *others) for name, shape, dtype, *others in rows
        )
        return found

    @property
    def filled(self) -> list[str]:
        """The names of what was filled."""
        return self.names("filled")

    @property
    def tied(self) -> list[str]:
        """The names of what shares the memory of something filled."""
        return self.names("tied")

    @property
    def left(self) -> list[str]:
        """The names of what was left as it was: a rule says None, or it is loaded, or it is a buffer that no rule names."""
        return self.names("left")

    @property
    def loaded(self) -> list[str]:
        """The names of what was left because transformers has marked it as loaded."""
        return [entry.name for entry in self.entries if entry.loaded]

    @property
    def frozen(self) -> list[str]:
        """The names of parameters that are not trained (requires_grad is False), and were left as they were."""
        return self.names("frozen")

    @property
    def kept(self) -> list[str]:
        """The names of constants of the constructor's that the scheme would have replaced, and that were left as they were."""
        return self.names("kept")

    @property
    def missed(self) -> list[str]:
        """The names of parameters that no rule names."""
        return self.names("missed")

    def names(self, state: State) -> list[str]:
        """Return the names of the entries in a state.

        Args:
            state: one of those of `Entry`.

        Returns:
            The names, in the order of the model.
        """
        return [entry.name for entry in self.entries if entry.state == state]

    def __getitem__(self, name: str) -> Entry:
        """Return the entry of a canonical name.

        Args:
            name: the name of a parameter or buffer.

        Returns:
            The entry.

        Raises:
            KeyError: the model has nothing of that name.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def json(self, indent: int | None = 1) -> str:
        """Return the report as a JSON object of the seed, the entries, with the fields of `Entry`, and the unused rules.

        Args:
            indent: the spaces of a level; None: all on one line.

        Returns:
            The text. Keys are hexadecimal strings, or lists of them, which no reader of JSON rounds.
        """
        entries: list[dict[str, Any]] = [entry._asdict() for entry in self.entries]
        for entry in entries:
            entry["key"] = _hexadecimal(entry["key"])
        return json.dumps({"seed": self.seed, "entries": entries, "unused": self.unused}, indent=indent)

    def __str__(self) -> str:
        rows = [(e.name, "x".join(map(str, e.shape)) or "scalar", e.dtype, e.state, _how(e)) for e in self.entries]
        counts = Counter(entry.state for entry in self.entries)
        summary = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state]) or "nothing to fill"
        lines = [_text.aligned(("name", "shape", "dtype", "state", "by"), rows), f"{_seeds(self.seed)}: {summary}"]
        lines += [f"{state}, as it was: {', '.join(self.names(state))}" for state in _LEFT if counts[state]]
        return "\n".join([*lines, *(f"matches nothing: {rule}" for rule in self.unused)])


def _how(entry: Entry) -> str:
    """What filled an entry, in words."""
    if entry.source is not None:
        return f"as {entry.source}"
    if entry.initializer is None:
        return "loaded" if entry.loaded else ""
    if isinstance(entry.key, tuple):
        return f"{entry.initializer}, {len(entry.key)} keys"
    return entry.initializer if entry.key is None else f"{entry.initializer}, key {entry.key:016x}"


def _hexadecimal(key: int | tuple[int, ...] | None) -> str | list[str] | None:
    if isinstance(key, tuple):
        return [f"{each:016x}" for each in key]
    return None if key is None else f"{key:016x}"


def _seeds(seed: int | tuple[int, ...]) -> str:
    return f"seed {seed}" if isinstance(seed, int) else f"seeds {', '.join(map(str, seed))}"
