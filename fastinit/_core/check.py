"""Checks of arguments, before anything is written: the value received, what is allowed, the mend."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import sys
import warnings
from collections.abc import Collection, Iterator
from numbers import Complex, Real
from typing import Any, SupportsFloat, TypeVar

import torch

from fastinit._core.memory import overlaps_itself
from fastinit._core.modes import ieee_arithmetic, is_flushing
from fastinit._torch import base_of, is_transformers_loading

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
COMPLEX_DTYPES = (torch.complex32, torch.complex64, torch.complex128)
DRAWN_DTYPES = (*FLOAT_DTYPES, *COMPLEX_DTYPES)  # of the functions with torch's names
_INTEGERS = (torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64, torch.int64)
ZEROED_DTYPES = (*DRAWN_DTYPES, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.bool, *_INTEGERS)  # of what is not drawn
ALL_DTYPES = (*ZEROED_DTYPES, torch.float8_e8m0fnu)  # the last has no 0
WORD_DTYPES = (torch.int32, torch.uint32, torch.int64, torch.uint64)
_Tensor = TypeVar("_Tensor", bound=torch.Tensor)
PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
LOADED = "_is_hf_initialized"  # transformers' mark


def shown(value: object) -> str:
    """A value in an error: Python refuses to print integers of more than some thousand digits."""
    try:
        return repr(value)
    except ValueError:
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"


def number(name: str, value: SupportsFloat) -> float:
    """A float that is not NaN, from a number: of Python, of NumPy, a tensor of one element, or what else has a float."""
    if type(value) is float and value == value:  # nearly always: as below, a call less is 0.2 us of a small tensor's 12
        return value
    found = as_float(name, value)
    if found != found:
        raise ValueError(f"{name} must not be NaN. Received: {value}.")
    return found


def as_float(name: str, value: SupportsFloat) -> float:
    """The float of a number, NaN too."""
    if not isinstance(value, (int, float)) and (not hasattr(value, "__float__") or _is_no_number(value)):
        raise TypeError(f"{name} must be a number. Received: {shown(value)} of type {type(value).__name__}.")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must lie in the range of a float. Received: {shown(value)}.") from None
    except (TypeError, ValueError, RuntimeError) as error:  # of arrays and tensors of several elements
        raise TypeError(f"{name} must be a number. Received: {shown(value)} of type {type(value).__name__}: {error}") from None


def _is_no_number(value: object) -> bool:
    """Whether it has a float that it should not have: NumPy's strings and complex numbers, which lose a part of it."""
    return isinstance(value, (str, bytes)) or (isinstance(value, Complex) and not isinstance(value, Real))


def finite(name: str, value: SupportsFloat) -> float:
    if type(value) is float and value - value == 0:  # comparing with infinity, torch.compile cannot always do
        return value
    value = number(name, value)
    if math.isinf(value):
        raise ValueError(f"{name} must be finite. Received: {value}.")
    return value


def positive(name: str, value: SupportsFloat) -> float:
    if type(value) is float and 0 < value < math.inf:
        return value
    value = finite(name, value)
    if not is_less(0.0, value):
        raise ValueError(f"{name} must be positive. Received: {value}. For one value use constant_.")
    return value


def not_negative(name: str, value: SupportsFloat) -> float:
    if type(value) is float and 0 < value < math.inf:
        return value
    value = finite(name, value)
    if is_less(value, 0.0):
        raise ValueError(f"{name} must not be negative. Received: {value}.")
    return value


def is_less(a: float, b: float) -> bool:
    """Whether a < b, also of subnormal numbers where these are flushed, which makes them equal."""
    if a < b or not is_flushing():
        return a < b
    with ieee_arithmetic():
        return a < b


def is_one_of(value: object, names: Collection[str]) -> bool:
    """Whether it is one of the names. An array, which compares with each of them element by element, is none."""
    return isinstance(value, str) and value in names


def check_dtype(dtype: torch.dtype, allowed: tuple[torch.dtype, ...]) -> None:
    if dtype not in allowed:
        names = ", ".join(str(each) for each in allowed)
        mend = ", or fill its torch.view_as_real()" if dtype in COMPLEX_DTYPES else ""
        raise TypeError(f"cannot fill a {dtype} tensor. Allowed: {names}. Initialize in one of these, then convert{mend}.")


def check_tensor(tensor: torch.Tensor, allowed: tuple[torch.dtype, ...] = FLOAT_DTYPES) -> None:
    """Raise for what no backend can fill, before anything is written."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"expected a torch.Tensor. Received: {tensor!r} of type {type(tensor).__name__}.")
    if tensor.dtype not in allowed:
        check_dtype(tensor.dtype, allowed)
    check_layout(tensor)


def check_layout(tensor: torch.Tensor) -> None:
    """Raise ValueError for a tensor whose elements have no places of their own."""
    if tensor.is_nested:
        raise ValueError("cannot fill a nested tensor, whose parts have no common shape. Fill the parts that unbind() gives.")
    if tensor.layout is not torch.strided:
        raise ValueError(f"cannot fill a tensor of layout {tensor.layout}: only torch.strided. Call to_dense() first.")
    if not tensor.is_contiguous() and overlaps_itself(tensor):
        raise ValueError(
            f"elements of the tensor share memory (shape {tuple(tensor.shape)}, strides {tensor.stride()}), as after expand(). "
            "Fill the tensor it was expanded from, or clone() it."
        )


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements are its memory: torch's own kinds, and subclasses that change nothing about operations."""
    return type(tensor) in PLAIN or is_plain_kind(type(tensor))


@functools.cache
def is_plain_kind(kind: type) -> bool:
    torchs = (*PLAIN, *inspect.getmro(torch.Tensor))
    defined = ("__torch_function__", "__torch_dispatch__")
    return all(next(base for base in inspect.getmro(kind) if name in vars(base)) in torchs for name in defined)


def is_frozen(tensor: Any) -> bool:
    """Whether a tensor is a parameter that is not trained, such as a table of sines. Integers never are."""
    if tensor.requires_grad or not isinstance(tensor, torch.nn.Parameter):
        return False
    return tensor.is_floating_point() or tensor.is_complex()


def depth_of_user() -> int:
    """How far up its caller's stack the first frame is that is neither torch's nor this package's."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("fastinit", "torch"):
        frame, depth = frame.f_back, depth + 1
    return depth


def is_loaded(tensor: Any) -> bool:
    """Whether transformers has marked a tensor, or the one that it is a view of, as loaded from a checkpoint.

    From version 5 on, its constructors call initializers on all weights, and count on them to leave those that are marked.
    """
    if getattr(tensor, LOADED, False):
        return True
    base = tensor if torch.compiler.is_compiling() else base_of(tensor)
    return base is not tensor and bool(getattr(base, LOADED, False))


def left(tensor: _Tensor) -> _Tensor:
    """What a function returns of a loaded tensor: itself. It says so, but while transformers loads, when marks are all around."""
    if not is_transformers_loading():
        warnings.warn(
            "a tensor that transformers has marked as loaded is left as it is. To fill it, delete its attribute "
            f"{LOADED}, or pass overwrite_loaded=True to fastinit.initialize_.",
            UserWarning,
            stacklevel=4,
        )
    return tensor


@contextlib.contextmanager
def unmarked(tensor: torch.Tensor) -> Iterator[None]:
    """Let initializers write a tensor although it is loaded."""
    marked = [each for each in (tensor, base_of(tensor)) if getattr(each, LOADED, False)]
    for each in marked:
        setattr(each, LOADED, False)
    try:
        yield
    finally:
        for each in marked:
            setattr(each, LOADED, True)


def absence(tensor: Any) -> str | None:
    """Why a tensor has no elements though it should: DeepSpeed's ZeRO-3 has given them to all ranks. None of any other."""
    shape = getattr(tensor, "ds_shape", None)
    if not hasattr(tensor, "ds_id") or tensor.numel() or (shape is not None and not math.prod(shape)):
        return None
    state = f"DeepSpeed's ZeRO-3 has partitioned it (ds_shape={shape and tuple(shape)}), and no elements are here"
    mend = "with deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0): fastinit.initialize_(...)"
    return f"{state}. Gather first: {mend}"


def whole_shape(tensor: Any) -> torch.Size:
    """A tensor's shape; of a loaded one that ZeRO-3 has partitioned, the whole's, for arguments are checked though it stays.

    Raises:
        ValueError: it is partitioned and not loaded: a fill would do nothing, and not say so.
    """
    if (reason := absence(tensor)) is None:
        return tensor.shape  # type: ignore[no-any-return]
    if not is_loaded(tensor):
        raise ValueError(f"cannot fill this parameter: {reason}.")
    return torch.Size(getattr(tensor, "ds_shape", tensor.shape))
