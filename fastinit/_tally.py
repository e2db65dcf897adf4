"""What a block of `accelerate` has served, and what it has left to torch: counts, and a report to print, and JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from fastinit import _text


@dataclass(eq=False)
class Record:
    """Like calls that were not served, as a block counts them."""

    function: str
    shape: tuple[int, ...]
    dtype: str
    reason: str
    is_undecided: bool  # values that the seed of the block was to decide, drawn by torch, of which no warning has been
    calls: int = 0
    elements: int = 0
    parameters: list[str] = field(default_factory=list)


class Served(NamedTuple):
    """The calls of one function that a block has served.

    Attributes:
        function: the name of this package's function, which is that of torch.nn.init.
        calls: how many.
        elements: how many values they have written.
    """

    function: str
    calls: int
    elements: int


class Left(NamedTuple):
    """Like calls that a block has not served.

    Attributes:
        function: such as "torch.randn".
        shape: of the tensor that torch made or filled.
        dtype: such as "float32".
        reason: why this package did not take them.
        calls: how many.
        elements: how many values they have written.
        parameters: the parameters that hold these values, or what was computed of them, as far as that is known: those of
            modules by class and name, such as "ViT.cls_token".
    """

    function: str
    shape: tuple[int, ...]
    dtype: str
    reason: str
    calls: int
    elements: int
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class BlockReport:
    """What a block of `accelerate` did: ``print(block.report)`` shows it in columns, ``block.report.json()`` gives it as JSON.

    What is left has every draw that torch shows to a mode: refused calls, `torch.randn` and the like, methods on tensors that are
    no parameters. Graphs that are compiled, random operations of layers (dropout) and numpy's values are not seen.

    Attributes:
        seed: of the block.
        served: what this package filled, by function.
        left: what it did not: torch drew the values, or, where they are loaded, they stayed.

    Examples:
        >>> with fastinit.accelerate(seed=0) as block:
        ...     layer = nn.Linear(8, 4)
        ...     layer.scale = nn.Parameter(layer.bias.detach().clone())
        >>> block.report.served
        (Served(function='kaiming_uniform_', calls=1, elements=32), Served(function='uniform_', calls=1, elements=4))
        >>> block.report.left, block.report.parameters
        ((), [])
    """

    seed: int | None
    served: tuple[Served, ...]
    left: tuple[Left, ...]

    @property
    def parameters(self) -> list[str]:
        """The names of parameters that hold what torch drew, as far as that is known."""
        return list(dict.fromkeys(name for left in self.left for name in left.parameters))

    def json(self, indent: int | None = 1) -> str:
        """Return the report as a JSON object of the seed, and of what was served and left, with the fields of each.

        Args:
            indent: the spaces of a level; None: all on one line.

        Returns:
            The text.
        """
        served, left = [each._asdict() for each in self.served], [each._asdict() for each in self.left]
        return json.dumps({"seed": self.seed, "served": served, "left": left}, indent=indent)

    def __str__(self) -> str:
        rows = [(each.function, "", "", str(each.calls), str(each.elements), "served") for each in self.served]
        rows += [(e.function, _sizes(e.shape), e.dtype, str(e.calls), str(e.elements), _why(e)) for e in self.left]
        calls = Counter(served=sum(each.calls for each in self.served), left=sum(each.calls for each in self.left))
        lines = [_text.aligned(("function", "shape", "dtype", "calls", "elements", ""), rows)]
        return "\n".join([*lines, f"seed {self.seed}: {calls['served']} calls served, {calls['left']} left"])


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _why(left: Left) -> str:
    held = f" Now in {', '.join(left.parameters)}." if left.parameters else ""
    return f"left: {left.reason}{held}"


def reported(seed: int | None, served: Counter[str], elements: Counter[str], records: list[Record]) -> BlockReport:
    """The report of counts."""
    lines = tuple(Served(name, calls, elements[name]) for name, calls in served.items())
    left = tuple(
        Left(each.function, each.shape, each.dtype, each.reason, each.calls, each.elements, tuple(each.parameters))
        for each in records
    )
    return BlockReport(seed, lines, left)


def warning_of(records: list[Record]) -> str | None:
    """What to say, as a seeded block ends, of parameters whose values the seed did not decide; None: nothing."""
    found = [each for each in records if each.is_undecided and each.parameters]
    if not found:
        return None
    names = list(dict.fromkeys(name for each in found for name in each.parameters))
    drawn = list(dict.fromkeys(f"{each.function} {each.shape}" for each in found))
    return (
        f"{_some(names)}: torch drew the values ({_some(drawn)}), and the seed of the block of fastinit.accelerate did "
        "not decide them: torch.manual_seed does. Fill such parameters by torch.nn.init to have them served. "
        "`with fastinit.accelerate(...) as block` has all of it in block.report."
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
