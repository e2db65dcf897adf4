"""What strict says: the parameters that a scheme does not fill, by kind, and an override that can be pasted."""

from __future__ import annotations

import fnmatch
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from fastinit._model.slots import Slot
from fastinit._schemes.held import common_value, here, is_varied, is_vector
from fastinit._schemes.naming import name_of_dtype
from fastinit._schemes.norms import is_norm

_SHOWN = 3  # names of a kind
_ENOUGH = 64  # elements whose moments tell a law


class Missed(NamedTuple):
    """A parameter that the scheme does not fill."""

    slot: Slot
    holds: str | None = None  # what a constructor has set there and a rule would replace, in words; None: no rule names it


class _Kind(NamedTuple):
    """Parameters of one name in modules of one class, of one kind of shape."""

    module: type[nn.Module]
    attribute: str
    ndim: int
    vector: bool  # at most one dimension is above 1
    holds: str | None


class _Mend(NamedTuple):
    """An initializer as code, and why it is this one."""

    code: str
    reason: str


def message(missed: list[Missed], others: list[Slot]) -> str:
    """The text of the error: each kind on a line with its count and the first names, then the mend.

    Args:
        missed: what is not filled.
        others: the model's other parameters, which the mend must leave to the scheme.
    """
    kinds: dict[_Kind, list[Slot]] = defaultdict(list)
    for slot, holds in missed:
        shape = slot.tensor.shape
        kinds[_Kind(type(slot.module), slot.attribute, len(shape), is_vector(shape), holds)].append(slot)
    lines = [f"  {_described(kind, slots)}" for kind, slots in kinds.items()]
    held = any(kind.holds for kind in kinds)
    kept = " (or pass overwrite_constants=True, if the scheme is to replace what they hold)" if held else ""
    or_held = ", or would replace what a constructor has set" if held else ""
    return "\n".join(
        [
            f"the scheme has no rule that fills these {len(missed)} parameters{or_held}; nothing was written:",
            *lines,
            f"Say what each is, by rules such as these{kept}, or pass strict=False, which leaves and reports them:",
            "",
            *_code(kinds, others),
        ]
    )


def _described(kind: _Kind, slots: list[Slot]) -> str:
    shapes = list(dict.fromkeys(str(tuple(slot.tensor.shape)) for slot in slots))
    dtypes = ", ".join(dict.fromkeys(name_of_dtype(slot.tensor.dtype) for slot in slots))
    shape = f"shape {shapes[0]}" if len(shapes) == 1 else f"shapes {shapes[0]} to {shapes[-1]}"
    holds = f", holding {kind.holds}, which the scheme would replace" if kind.holds else ""
    names = ", ".join(slot.name for slot in slots[:_SHOWN])
    more = f" and {len(slots) - _SHOWN} more" if len(slots) > _SHOWN else ""
    of = f"parameters of {len(slots)} modules" if len(slots) > 1 else "parameter of"
    return f"{names}{more} ({of} {kind.module.__name__}, {dtypes}, {shape}{holds})"


# --- the mend -----------------------------------------------------------------------------------------------------------------


def _code(kinds: dict[_Kind, list[Slot]], others: list[Slot]) -> list[str]:
    """Lines of Python that make a scheme with rules for all kinds: by class where that is right for all of its modules."""
    by_class: dict[type[nn.Module], dict[str, _Mend]] = defaultdict(dict)
    by_name: dict[str, _Mend] = {}
    for kind, slots in kinds.items():
        mend = _mend(kind, slots[0])
        mends = {_mend(other, found[0]).code for other, found in kinds.items() if other[:2] == kind[:2]}
        elsewhere = any(isinstance(slot.module, kind.module) and slot.attribute == kind.attribute for slot in others)
        if len(mends) == 1 and not elsewhere and _imported(kind.module, kinds):
            by_class[kind.module][kind.attribute] = mend
        else:
            by_name |= dict.fromkeys(_patterns([slot.name for slot in slots], others), mend)
    rules = [f"        {_name(kind)}: {{{_entries(rule)}}},{_remark(rule)}" for kind, rule in by_class.items()]
    rules += [f"        {name!r}: {mend.code},{_remark({name: mend})}" for name, mend in by_name.items()]
    partial = ["from functools import partial"] if any("partial(" in rule for rule in rules) else []
    imports = sorted({_import(kind) for kind in by_class})
    lines = [*partial, "import fastinit", *imports, "scheme = scheme.override({"]
    return [*(f"    {line}" for line in lines), *rules, "    })"]


def _entries(rule: dict[str, _Mend]) -> str:
    return ", ".join(f'"{name}": {mend.code}' for name, mend in rule.items())


def _remark(rule: dict[str, _Mend]) -> str:
    reasons = dict.fromkeys(mend.reason for mend in rule.values())
    return f"  # {'; '.join(reasons)}"


def _mend(kind: _Kind, slot: Slot) -> _Mend:
    """What fills parameters of a kind: never noise where it may be a gain."""
    tensor = slot.tensor
    if kind.holds:
        return _Mend("None", f"stays {kind.holds.partition(',')[0]}")
    if tensor.is_meta and kind.vector and is_norm(slot.module):
        zero = kind.attribute.endswith(("bias", "beta"))
        remark = "or pass reset_buffers=fastinit.from_constructor(build): it may be used as 1 + weight"
        return _Mend("fastinit.zeros_", "a normalization") if zero else _Mend("fastinit.ones_", remark)
    if tensor.is_meta:
        return _Mend("None", "with reset_buffers=fastinit.from_constructor(build), for what its constructor gives")
    held = common_value(tensor)
    if held is not None:
        return _Mend("None", f"stays {held:.6g}")
    return _law(tensor) if is_varied(tensor) else _Mend("None", "stays as it is")


def _law(tensor: Tensor) -> _Mend:
    """The law that a tensor's moments tell: a normal or a uniform one of mean 0, where there are enough elements."""
    values = here(tensor).cpu().double().flatten()
    n, mean, std = values.numel(), values.mean().item(), values.std().item()
    known = n >= _ENOUGH and math.isfinite(std) and std > 0 and abs(mean) < 4 * std / math.sqrt(n)
    if known and not _is_repetitive(tensor):
        kurtosis, spread = ((values - mean) / std).pow(4).mean().item(), math.sqrt(24 / n)
        largest = values.abs().max().item()
        if abs(kurtosis - 1.8) < 3 * spread and largest < 1.8 * std:
            limit = f"{largest * (n + 1) / n:.2g}"
            return _Mend(f"partial(fastinit.uniform_, a=-{limit}, b={limit})", "as the constructor draws it")
        if abs(kurtosis - 3.0) < 5 * spread:
            return _Mend(f"partial(fastinit.normal_, std={std:.2g})", "as the constructor draws it")
    return _Mend("None", "stays as it is: not known to be random")


def _is_repetitive(tensor: Tensor) -> bool:
    """Whether values recur or follow each other in order, as in tables that are computed."""
    values = here(tensor).flatten()
    steps = values.diff()
    return values.unique().numel() < 0.9 * values.numel() or bool((steps >= 0).all() or (steps <= 0).all())


def _patterns(names: list[str], others: list[Slot]) -> Iterator[str]:
    """Patterns that cover the names: with an asterisk for the numbers of layers, where that covers no other parameter."""
    for pattern in dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", "*", name) for name in names):
        covered = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        wrong = any(fnmatch.fnmatchcase(slot.name, pattern) for slot in others)
        yield from covered if wrong or len(covered) == 1 else [pattern]


# --- classes ------------------------------------------------------------------------------------------------------------------


def _imported(kind: type[nn.Module], kinds: dict[_Kind, list[Slot]]) -> bool:
    """Whether a class can be imported, under a name that no other of these has."""
    found = getattr(sys.modules.get(kind.__module__), kind.__qualname__, None)
    alike = {other.module for other in kinds if other.module.__name__ == kind.__name__}
    return found is kind and kind.__module__ != "__main__" and len(alike) == 1


def _is_in_nn(kind: type[nn.Module]) -> bool:
    return getattr(nn, kind.__name__, None) is kind


def _name(kind: type[nn.Module]) -> str:
    return f"nn.{kind.__name__}" if _is_in_nn(kind) else kind.__name__


def _import(kind: type[nn.Module]) -> str:
    source = "torch" if _is_in_nn(kind) else kind.__module__
    return f"from {source} import {'nn' if _is_in_nn(kind) else kind.__name__}"
