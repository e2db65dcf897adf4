"""Random calls of the public functions that fill a tensor: tensors of every kind, arguments good and bad, and which are bad.

What is bad is said here once more, in plain predicates, from the documentation alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
WORDS = (torch.int32, torch.uint32, torch.int64, torch.uint64)
COMPLEX = (torch.complex64, torch.complex128)
OTHERS = (torch.uint8, torch.int8, torch.int16, torch.bool, *COMPLEX)
NEGATED = {torch.float32: torch.complex64, torch.float64: torch.complex128}  # their conjugate's imaginary part: a lazy minus
CANARY = 0xA5  # what memory holds before a call
OMITTED = object()
Arguments = dict[str, Any]


class Place(NamedTuple):
    """A tensor to fill, and all of the memory around it."""

    tensor: Any
    buffer: bytearray
    inside: torch.Tensor  # of each byte of the buffer: whether it is the tensor's
    faults: list[Any]  # what makes it one that must be refused, as a message may name it
    inference: bool  # the call is made in inference mode

    def bytes_outside(self) -> bytes:
        return bytes(torch.frombuffer(self.buffer, dtype=torch.uint8)[~self.inside].tolist()) if self.buffer else b""


class Subclass(torch.Tensor):
    """One that changes nothing."""


@st.composite
def places(draw, allowed: tuple[torch.dtype, ...], refused: tuple[torch.dtype, ...], shape: st.SearchStrategy) -> Place:
    """Tensors over a buffer of their own; a few of a dtype that is not allowed, a few that overlap themselves."""
    dtype = draw(st.sampled_from(allowed if draw(st.integers(0, 9)) or not refused else refused))
    sizes = draw(shape)
    layout = draw(st.sampled_from(["contiguous", "strided", "strided", "strided", "expanded", "windows"]))
    strides = draw(strides_of(sizes, layout))
    start = draw(st.integers(0, 3)) if layout != "contiguous" else 0
    reach = start + 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True) if size)
    index = torch.arange(reach).as_strided(sizes, strides, start).flatten()
    meeting = len(index.unique()) < len(index)
    faults = [dtype] if dtype not in allowed else [tuple(sizes)] if meeting else []
    device = draw(st.sampled_from(["cpu"] * 9 + ["meta"]))
    if device == "meta":
        tensor = torch.empty_strided(sizes, strides, dtype=dtype, device="meta")
        return Place(tensor, bytearray(), torch.empty(0, dtype=torch.bool), faults, draw(st.booleans()))
    skip = draw(st.sampled_from([0, 0, 1, dtype.itemsize // 2]))
    negated = dtype in NEGATED and draw(st.integers(0, 7)) == 0
    unit, at = (2, 2 * index + 1) if negated else (1, index)
    buffer = bytearray([CANARY] * (skip + reach * unit * dtype.itemsize + 8))
    inside = torch.zeros(len(buffer), dtype=torch.bool)
    inside[(skip + at[:, None] * dtype.itemsize + torch.arange(dtype.itemsize)).flatten()] = True
    mode = draw(st.sampled_from(["plain", "plain", "plain", "inference", "entered", "left"]))
    with torch.inference_mode(mode in ("inference", "left")):
        flat = torch.frombuffer(buffer, dtype=NEGATED[dtype] if negated else dtype, offset=skip, count=reach)
        kind = draw(st.sampled_from(KINDS)) if dtype.is_floating_point and mode in ("plain", "entered") else "plain"
        tensor = wrapped(flat, kind, lambda t: t.as_strided(sizes, strides, start), negated)
    return Place(tensor, buffer, inside, faults, mode in ("inference", "entered"))


KINDS = ("plain", "plain", "leaf", "parameter", "view of a leaf", "subclass")


def wrapped(flat: torch.Tensor, kind: str, view: Callable[[torch.Tensor], torch.Tensor], negated: bool) -> torch.Tensor:
    """The view, as autograd knows it in several ways."""
    if negated:
        return view(flat).conj().imag
    if kind == "view of a leaf":
        return view(flat.requires_grad_())
    if kind == "subclass":
        return view(flat).as_subclass(Subclass)
    return torch.nn.Parameter(view(flat)) if kind == "parameter" else view(flat).requires_grad_(kind == "leaf")


@st.composite
def strides_of(draw, sizes: list[int], layout: str) -> list[int]:
    """Of axes nested in any order, with gaps; "expanded": then one axis stands still, "windows": or moves by one."""
    axes = list(range(len(sizes)))[::-1]
    order = axes if layout == "contiguous" else draw(st.permutations(axes))
    strides, reach = [1] * len(sizes), 1
    for axis in order:
        strides[axis] = reach * (1 if layout == "contiguous" else draw(st.sampled_from([1, 1, 2, 3])))
        reach = strides[axis] * max(1, sizes[axis])
    if layout in ("expanded", "windows") and sizes:
        strides[draw(st.sampled_from(axes))] = int(layout == "windows")
    return strides


def shapes(least: int, most: int) -> st.SearchStrategy:
    """Small, a few empty; one time in eight long enough for a remainder after whole vectors."""
    small = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 7]), min_size=least, max_size=most)
    if least > 2:
        return small
    return st.one_of(*[small] * 7, st.integers(50, 600).map(lambda n: [n] if least < 2 else [n // 9, 9]))


STRANGE = {  # tensors that must be refused, whatever their memory
    "sparse": lambda: torch.ones(3, 4).to_sparse(),
    "compressed": lambda: torch.ones(3, 4).to_sparse_csr(),
    "mkldnn": lambda: torch.ones(3, 4).to_mkldnn(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "uninitialized": torch.nn.UninitializedParameter,
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3, 4), 0.1, 0, torch.qint8),
    "array": lambda: np.ones((3, 4), dtype=np.float32),
    "list": lambda: [[1.0, 2.0]],
    "nothing": lambda: None,
}

# --- arguments ----------------------------------------------------------------------------------------------------------------

ODD_NUMBERS = [
    *(math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, -3, 0, 2, 5e-324, -1e-310, 1e-200, 1e-45, 2.0**-149, 1e-60),
    *(448.5, 65520.0, 1e20, 3.4e38, 1e39, 1e200, 1.7e308, -1.7e308, 2**70, 10**400, -(10**400)),
    *(True, False, None, "1", "wide", b"1", 1j, [1.0], (0.5,), Decimal("0.5"), Fraction(1, 2)),
    *(np.float64(0.5), np.float64(math.nan), np.float32(0.5), np.int64(2), np.array([0.5, 1.0]), torch.tensor(0.5)),
    torch.ones(2),
]
ODD_KEYS = [-1, 2**64, 10**400, 1.0, math.nan, True, "7", b"7", np.float64(3), np.array([1, 2]), torch.tensor(3), [3]]
ODD_NAMES = ["", "fan_sum", "Fan_in", None, 3, True, b"fan_in", ("fan_in",), np.ones(2), torch.ones(2)]
GENERATORS = st.integers(0, 5).map(lambda seed: torch.Generator().manual_seed(seed))
MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("truncated_normal", "normal", "untruncated_normal", "uniform")
NONLINEARITIES = (
    *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("sigmoid", "tanh", "relu", "leaky_relu", "selu"),
)


def mostly(good: st.SearchStrategy, odd: list[Any]) -> st.SearchStrategy:
    return st.one_of(*[good] * 8, st.sampled_from(odd))


def scales(least: float, most: float) -> st.SearchStrategy:
    return mostly(st.floats(least, most).map(lambda x: 2.0**x), ODD_NUMBERS)


NUMBERS = mostly(st.one_of(st.floats(-4, 4), st.integers(-3, 3)), ODD_NUMBERS)
LOWER, UPPER = (mostly(st.one_of(st.floats(x, x + 3.5), st.just(2.0 * x + 3)), ODD_NUMBERS) for x in (-4.0, 0.25))
SOURCE = {
    "key": (None, mostly(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([np.uint64(2**64 - 1), np.int8(3)])), ODD_KEYS)),
    "generator": (None, st.one_of(*[st.none()] * 6, GENERATORS, st.sampled_from([3, "cpu", torch.default_generator]))),
}
FANS = {
    "fan_in": (None, mostly(st.one_of(st.integers(1, 5000), st.floats(0.5, 1e6)), ODD_NUMBERS)),
    "fan_out": (None, mostly(st.one_of(st.integers(1, 5000), st.floats(0.5, 1e6)), ODD_NUMBERS)),
    "batch_dims": (0, mostly(st.integers(0, 2), [-1, 7, 1.0, True, None, "1", torch.tensor(1)])),
    "groups": (1, mostly(st.sampled_from([1, 1, 1, 2, 3]), [0, -1, 7, 1.0, True, None, "1", torch.tensor(1), 10**400])),
}
GAIN = {"gain": (1.0, scales(-6, 6))}
RECTIFIER = {
    "a": (0, NUMBERS),
    "mode": ("fan_in", mostly(st.sampled_from(MODES[:2]), ["fan_avg", *ODD_NAMES])),
    "nonlinearity": ("leaky_relu", mostly(st.sampled_from(NONLINEARITIES), ["swish", *ODD_NAMES])),
}


NUMBERS_BY_NAME = {"mean", "std", "a", "b", "gain", "scale", "sparsity", "val", "fan_in", "fan_out"}


def plain(x: Any) -> Any:
    """Python's number of what holds one: of NumPy's, tensors of one element, and others."""
    if isinstance(x, (np.generic, np.ndarray, torch.Tensor)):
        return x.item() if x.size == 1 or (isinstance(x, torch.Tensor) and x.numel() == 1) else x
    return float(x) if isinstance(x, (Decimal, Fraction)) else x


def is_real(x: Any) -> bool:
    return isinstance(x, (int, float)) and x == x


def is_finite(x: Any) -> bool:
    return is_real(x) and abs(x) <= Fraction(np.finfo(float).max)


def is_positive(x: Any) -> bool:
    return is_finite(x) and x > 0


def is_not_negative(x: Any) -> bool:
    return is_finite(x) and x >= 0


def is_one_of(x: Any, names: tuple[str, ...]) -> bool:
    return isinstance(x, str) and x in names


def is_count(x: Any, least: int) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x >= least


def bad(arguments: Arguments, **tests: Callable[[Any], bool]) -> list[Any]:
    return [arguments[name] for name, test in tests.items() if not test(arguments[name])]


def uniform_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    return bad(x, a=is_finite, b=is_finite) or ([x["a"], x["b"]] if not x["a"] <= x["b"] else [])


def normal_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    return bad(x, mean=is_finite, std=is_not_negative)


def is_bound(x: Any) -> bool:
    return is_finite(x) or (is_real(x) and isinstance(x, float))


def cut_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    found = normal_faults(x, shape) + bad(x, a=is_bound, b=is_bound)
    return found or ([x["a"], x["b"]] if not x["a"] <= x["b"] or x["a"] == math.inf or x["b"] == -math.inf else [])


def truncated_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    """None stands for two sigmas. A folded one must be symmetric, and not too narrow."""
    found = normal_faults(x, shape) + bad(x, method=lambda method: is_one_of(method, ("exact", "fmod")))
    found += bad(x, a=lambda a: a is None or is_bound(a), b=lambda b: b is None or is_bound(b))
    if found:
        return found
    a, b = (two_sigmas(x)[name] for name in "ab")
    if is_one_of(x["method"], ("fmod",)) and (abs(a) == math.inf) != (abs(b) == math.inf):
        return [a, b]
    return cut_faults(two_sigmas(x), shape)


def two_sigmas(x: Arguments) -> Arguments:
    mean, std = float(x["mean"]), float(x["std"])
    a, b = (mean + k * std if x[name] is None else x[name] for name, k in (("a", -2), ("b", 2)))
    return {**x, "a": a, "b": b}


def fan_faults(x: Arguments, shape: tuple[int, ...], mode: str) -> list[Any]:
    """The fans a mode needs come from the shape where they are not given."""
    needed = [mode] if is_one_of(mode, MODES[:2]) else ["fan_in", "fan_out"]
    leading = x["batch_dims"] if is_count(x["batch_dims"], 0) else 0
    of_shape = any(x[name] is None for name in needed)
    missing = of_shape and len(shape) - leading < 2
    uneven = of_shape and not missing and is_count(x["groups"], 1) and shape[leading] % x["groups"] != 0
    counts = {"batch_dims": lambda n: is_count(n, 0), "groups": lambda n: is_count(n, 1)}
    return bad(x, fan_in=is_fan, fan_out=is_fan, **counts) + [shape] * (missing or uneven)


def is_fan(x: Any) -> bool:
    return x is None or (is_positive(x) and x / 2 > 0 and not isinstance(x, bool))


def scaling_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    named = bad(x, mode=lambda m: is_one_of(m, MODES), distribution=lambda d: is_one_of(d, DISTRIBUTIONS))
    return bad(x, scale=is_positive) + named + fan_faults(x, shape, x["mode"])


def gain_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    return bad(x, gain=is_positive) + fan_faults(x, shape, "fan_avg")


def torch_gain_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    return bad(x, gain=is_not_negative) + fan_faults(x, shape, "fan_avg")


def rectifier_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    """The slope counts only where there is one; the mode is read in small letters."""
    named = bad(
        x, mode=lambda m: isinstance(m, str) and m.lower() in MODES[:2], nonlinearity=lambda n: is_one_of(n, NONLINEARITIES)
    )
    slope = bad(x, a=is_slope) if is_one_of(x["nonlinearity"], ("leaky_relu",)) else []
    return slope + named + fan_faults(x, shape, x["mode"].lower() if isinstance(x["mode"], str) else x["mode"])


def is_slope(x: Any) -> bool:
    """Its square is finite; an infinite one leaves nothing, as in torch."""
    square = is_real(x) and not isinstance(x, bool) and (is_bound(x) and not 1e150 < abs(x) < math.inf)
    return x is None or square


def source_faults(x: Arguments, may_draw: bool) -> list[Any]:
    """Of key and generator; a function without a generator must have a key."""
    key, generator = x["key"], x.get("generator")
    if not may_draw:
        return [] if is_key(key) else [key]
    both = key is not None and generator is not None
    odd = generator is not None and not isinstance(generator, torch.Generator)
    return [key] * (both or not (key is None or is_key(key))) + [generator] * odd


def is_key(x: Any) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool) and 0 <= x < 2**64
