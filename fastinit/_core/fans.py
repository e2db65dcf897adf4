"""Fans: how many inputs feed one output of a weight, and how many outputs one input feeds. Shapes in, integers out."""

import math
import operator
import sys
from collections.abc import Sequence
from typing import Literal

from fastinit._core.check import as_float, shown

FanMode = Literal["fan_in", "fan_out"]
Mode = Literal[FanMode, "fan_avg"]  # which units divide a variance; the last: the mean of both fans
_LARGEST = sys.float_info.max  # torch.compile of torch 2.7 cannot read it


def fans(shape: Sequence[int], batch_dims: int = 0, groups: int = 1) -> tuple[int, int]:
    """Compute the fans of a weight in torch's layout, [out, in, *kernel].

    Args:
        shape: the shape of the whole weight, not of one shard of it.
        batch_dims: how many leading dimensions stack independent weights, such as the experts of [experts, out, in], >= 0.
        groups: those of a convolution, of whose weight the second size is that of one group's inputs, >= 1.

    Returns:
        The pair (fan_in, fan_out), which is in and out / groups, each times the number of kernel positions.

    Raises:
        TypeError: batch_dims or groups is not an int.
        ValueError: fewer than two dimensions remain, batch_dims is negative, or groups is < 1 or does not divide out.

    Reference:
        PyTorch, torch.nn.init; the same numbers as its ``_calculate_fan_in_and_fan_out``.

    Examples:
        >>> fans((64, 3, 5, 5))
        (75, 1600)
        >>> fans((64, 1, 3, 3), groups=32)
        (9, 18)
    """
    check_batch_dims(batch_dims)
    _check_groups(groups)
    if len(shape) - batch_dims < 2:
        raise ValueError(
            f"fans need at least two dimensions, [out, in, *kernel], after batch_dims. Received: shape={tuple(shape)}, "
            f"batch_dims={shown(batch_dims)}. Pass fan_in= and fan_out= to state the fans yourself."
        )
    # index() also pins the symbolic sizes of torch.compile: a limit is a constant of the graph, not a part of it.
    n_out, n_in, *kernel = map(operator.index, shape[batch_dims:] if batch_dims else shape)
    if n_out % groups:
        raise ValueError(
            f"groups must divide out, dimension {batch_dims}. Received: groups={shown(groups)}, shape={tuple(shape)}. "
            "Pass the groups of the convolution."
        )
    positions = math.prod(kernel)
    return n_in * positions, n_out // groups * positions


def resolve(
    shape: Sequence[int], batch_dims: int, fan_in: float | None, fan_out: float | None, mode: Mode, groups: int = 1
) -> tuple[float, float]:
    """Fill in the fans that the caller left out from the shape, as far as the mode needs them.

    Args:
        shape: as in `fans`.
        batch_dims: as in `fans`.
        fan_in: a positive number overrides the shape; None leaves it to the shape.
        fan_out: as fan_in.
        mode: "fan_in" and "fan_out" need one fan, so a 1-D tensor with that one given works; "fan_avg" needs both.
        groups: as in `fans`.

    Returns:
        The pair (fan_in, fan_out); one that the mode does not need and that is not given is 1.
    """
    if fan_in is None and fan_out is None:
        return fans(shape, batch_dims, groups)
    check_batch_dims(batch_dims)
    _check_groups(groups)
    fan_in, fan_out = _override("fan_in", fan_in), _override("fan_out", fan_out)
    missing = (fan_in is None and mode != "fan_out") or (fan_out is None and mode != "fan_in")
    from_shape = fans(shape, batch_dims, groups) if missing else (1, 1)
    return from_shape[0] if fan_in is None else fan_in, from_shape[1] if fan_out is None else fan_out


def check_batch_dims(batch_dims: int) -> None:
    _check_count("batch_dims", batch_dims, 0, "Pass the number of leading dimensions that stack independent weights.")


def _check_groups(groups: int) -> None:
    if type(groups) is not int or groups != 1:  # nearly always it is
        _check_count("groups", groups, 1, "Pass the groups of the convolution.")


def _check_count(name: str, count: int, least: int, mend: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} must be an int >= {least}. Received: {name}={count!r} ({type(count).__name__}). {mend}")
    if count < least:
        raise ValueError(f"{name} must be an int >= {least}. Received: {name}={shown(count)}. {mend}")


def _override(name: str, value: float | None) -> float | None:
    """A fan that was given, checked."""
    if value is None:
        return None
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a positive number or None. Received: {name}={value!r} (bool).")
    found = value if isinstance(value, int) else as_float(name, value)
    if not (0 < found <= _LARGEST and found / 2.0 > 0):  # the mean of two fans is not 0
        raise ValueError(
            f"{name} must be a positive, finite number or None. Received: {name}={shown(value)}. "
            "Pass the number of units, or leave it out to take it from the shape."
        )
    return found
