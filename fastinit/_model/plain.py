"""Tensors that are plain attributes of modules, also in their lists, tuples and dicts: nothing of torch's finds or moves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from fastinit._torch import children_of, own_buffers, own_parameters

Steps = tuple[Any, ...]  # the attribute's name, then indices and keys
_PLAIN = {bool, int, float, str, set, type(None)}  # nearly all attributes
_OWN = frozenset(vars(nn.Module()))  # every module's: what is registered, hooks


def plain_tensors(module: nn.Module) -> Iterator[tuple[Steps, Tensor]]:
    """A module's plain attributes on meta, each with the way to it. Modules that are not registered are models of their own."""
    others = [(name, value) for name, value in vars(module).items() if name not in _OWN and type(value) not in _PLAIN]
    if not others:  # mostly
        return
    known = {id(place) for place in (own_parameters(module), own_buffers(module), children_of(module))}
    waiting: list[tuple[Steps, Any]] = [((name,), value) for name, value in reversed(others) if id(value) not in known]
    while waiting:
        steps, value = waiting.pop()
        if isinstance(value, Tensor):
            if value.is_meta:
                yield steps, value
        elif isinstance(value, (list, tuple, dict)) and value and id(value) not in known:
            known.add(id(value))  # some contain themselves
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += reversed([((*steps, key), item) for key, item in items if isinstance(item, (Tensor, list, tuple, dict))])


def words(steps: Steps) -> str:
    """As one would write it after the module and a dot."""
    return str(steps[0]) + "".join(f"[{key!r}]" for key in steps[1:])


def put(module: nn.Module, steps: Steps, tensor: Tensor) -> None:
    """Put a tensor where the steps lead."""
    _with(vars(module), steps, tensor)


def _with(place: Any, steps: Steps, tensor: Tensor) -> Any:
    """What is at a place, with a tensor where the steps lead: tuples are made anew."""
    if not steps:
        return tensor
    new = _with(place[steps[0]], steps[1:], tensor)
    if not isinstance(place, tuple):
        place[steps[0]] = new
        return place
    items = [*place[: steps[0]], new, *place[steps[0] + 1 :]]
    return type(place)(*items) if hasattr(place, "_fields") else tuple(items)


def look_up(module: nn.Module, steps: Steps) -> Any:
    """What is there in another module; None where there is nothing."""
    found = getattr(module, steps[0], None)
    for step in steps[1:]:
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, (list, tuple)) and step < len(found):
            found = found[step]
        else:
            return None
    return found
