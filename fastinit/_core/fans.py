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


def fans(shape: Sequence[int], batch_dims: int = 0) -> tuple[int, int]:
    """Compute the fans of a weight in torch's layout, [out, in, *kernel].

    Args:
        shape: the shape of the whole weight, not of one shard of it.
        batch_dims: how many leading dimensions stack independent weights, such as the experts of [experts, out, in], >= 0.

    Returns:
        The pair (fan_in, fan_out), which is in and out, each times the number of kernel positions.

    Raises:
        TypeError: batch_dims is not an int.
        ValueError: fewer than two dimensions remain, or batch_dims is negative.

    Reference:
        PyTorch, torch.nn.init; the same numbers as its ``_calculate_fan_in_and_fan_out``.

    Examples:
        >>> fans((64, 3, 5, 5))
        (75, 1600)
    """
    _check_batch_dims(batch_dims)
    if len(shape) - batch_dims < 2:
        raise ValueError(
            f"fans need at least two dimensions, [out, in, *kernel], after batch_dims. Received: shape={tuple(shape)}, "
            f"batch_dims={shown(batch_dims)}. Pass fan_in= and fan_out= to state the fans yourself."
        )
    # index() also pins the symbolic sizes of torch.compile: a limit is a constant of the graph, not a part of it.
    n_out, n_in, *kernel = map(operator.index, shape[batch_dims:] if batch_dims else shape)
    positions = math.prod(kernel)
    return n_in * positions, n_out * positions


def resolve(
    shape: Sequence[int], batch_dims: int, fan_in: float | None, fan_out: float | None, mode: Mode
) -> tuple[float, float]:
    """Fill in the fans that the caller left out from the shape, as far as the mode needs them.

    Args:
        shape: as in `fans`.
        batch_dims: as in `fans`.
        fan_in: a positive number overrides the shape; None leaves it to the shape.
        fan_out: as fan_in.
        mode: "fan_in" and "fan_out" need one fan, so a 1-D tensor with that one given works; "fan_avg" needs both.

    Returns:
        The pair (fan_in, fan_out); one that the mode does not need and that is not given is 1.
    """
    if fan_in is None and fan_out is None:
        return fans(shape, batch_dims)
    _check_batch_dims(batch_dims)
    fan_in, fan_out = _override("fan_in", fan_in), _override("fan_out", fan_out)
    missing = (fan_in is None and mode != "fan_out") or (fan_out is None and mode != "fan_in")
    from_shape = fans(shape, batch_dims) if missing else (1, 1)
    return from_shape[0] if fan_in is None else fan_in, from_shape[1] if fan_out is None else fan_out


def _check_batch_dims(batch_dims: int) -> None:
    if isinstance(batch_dims, bool) or not isinstance(batch_dims, int):
        raise TypeError(
            f"batch_dims must be an int >= 0. Received: batch_dims={batch_dims!r} ({type(batch_dims).__name__}). "
            "Pass the number of leading dimensions that stack independent weights."
        )
    if batch_dims < 0:
        raise ValueError(
            f"batch_dims must be an int >= 0. Received: batch_dims={shown(batch_dims)}. "
            "Pass the number of leading dimensions that stack independent weights."
        )


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
