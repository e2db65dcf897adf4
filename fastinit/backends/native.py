"""The native backend: the C++ library over ctypes. The only file that knows it is there.

The library is found beside the package, checked without running any of it, loaded at the first fill, and called with the
GIL released. Where it is missing or does not fit, `unavailable` says why and another backend serves.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pathlib
import struct
from collections.abc import Iterator
from contextvars import ContextVar
from ctypes import Structure, c_char_p, c_double, c_int32, c_int64, c_uint64, c_void_p

import torch

from fastinit.distributions import Recipe
from fastinit.plan import Plan, whole

NAME = "native"
ABI = 1  # as FASTINIT_ABI in csrc/fastinit.h
DTYPES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.float8_e4m3fn: 4,
    torch.float8_e5m2: 5,
    torch.uint32: 6,
    torch.int32: 6,
    torch.uint64: 7,
    torch.int64: 7,
}
ISAS = {"scalar": 1, "avx2": 2, "avx512": 3, "neon": 4}  # as enum fastinit_isa; 0 is the best
forced: ContextVar[str | None] = ContextVar("fastinit_isa", default=None)


class Raw(Structure):
    """struct fastinit_plan of csrc/fastinit.h, field by field."""

    _fields_ = [
        ("out", c_void_p),
        ("key", c_uint64),
        ("start", c_int64),
        ("rows", c_int64),
        ("cols", c_int64),
        ("pitch", c_int64),
        ("layout", c_void_p),
        ("table", c_void_p),
        ("slope", c_double),
        ("anchor", c_double),
        ("flip", c_uint64),
        ("std", c_double),
        ("cut", c_double),
        ("inverse_cut", c_double),
        ("low", c_double),
        ("high", c_double),
        ("offset", c_double * 2),
        ("scale", c_double * 2),
        ("kind", c_int32),
        ("dtype", c_int32),
        ("dims", c_int32),
        ("cells", c_int32),
        ("terms", c_int32),
        ("top_bits", c_int32),
    ]


PLACE = struct.Struct("@PQqqqqP")  # out to layout: what differs from fill to fill

SIGNATURES = {
    "fastinit_abi": (c_int32, []),
    "fastinit_message": (c_char_p, [c_int32]),
    "fastinit_check_isa": (c_int32, [c_int32]),
    "fastinit_best_isa": (c_int32, []),
    "fastinit_fill": (c_int32, [c_void_p, c_int64, c_int32, c_int32]),
    "fastinit_transform": (c_int32, [c_void_p, c_void_p, c_int64, c_int32, c_int32]),
}


def library_path() -> pathlib.Path:
    """Where setup.py puts the library."""
    return pathlib.Path(__file__).parents[1] / "libfastinit.so"


@functools.cache
def library_or_reason() -> ctypes.CDLL | str:
    """The package's library, loaded once a process, or why it cannot be used."""
    return load(library_path())


def load(path: pathlib.Path) -> ctypes.CDLL | str:
    """A library, checked as far as it can be without running it, or why it cannot be used."""
    if not path.is_file():
        return f"{path} does not exist: the package was installed without a C++ compiler, or is run from its source tree"
    if is_truncated(path):
        return f"{path} is truncated: install the package again"
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return f"{path} cannot be loaded: {error}"
    if library.fastinit_abi() != ABI:
        return f"{path} has ABI {library.fastinit_abi()}, this package needs {ABI}: install the package again"
    return library


def is_truncated(path: pathlib.Path) -> bool:
    """Whether an ELF file ends before its section headers, its last part: mapping it would end the process by a signal."""
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":
        return head[:4] == b"\x7fELF" or not head
    (offset,), (entry_size, entries) = struct.unpack_from("<Q", head, 40), struct.unpack_from("<HH", head, 58)
    return offset + entry_size * entries > path.stat().st_size


@functools.cache
def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot fill tensors on the device; None where it can."""
    if device.type != "cpu":
        return "it fills CPU tensors"
    library = library_or_reason()
    if isinstance(library, str):
        return library
    name = os.environ.get("FASTINIT_CPU_ISA")
    return isas()[check_isa_name(name)] if name else None


def isas() -> dict[str, str | None]:
    """Every instruction set: None where it can be used here, else the reason why not."""
    library = library_or_reason()
    if isinstance(library, str):
        return dict.fromkeys(ISAS, library)
    status = {name: library.fastinit_check_isa(number) for name, number in ISAS.items()}
    return {name: f"{name}: {library.fastinit_message(code).decode()}" if code else None for name, code in status.items()}


def isa() -> str:
    """The instruction set that fills use now."""
    name = forced.get() or os.environ.get("FASTINIT_CPU_ISA")
    if name:
        return check_isa_name(name)
    best = usable().fastinit_best_isa()
    return next(name for name, number in ISAS.items() if number == best)


@contextlib.contextmanager
def forced_isa(name: str) -> Iterator[None]:
    """Forces an instruction set inside a `with` block. Raises RuntimeError where it cannot be used."""
    reason = isas()[check_isa_name(name)]
    if reason:
        raise RuntimeError(f"the instruction set {name!r} was asked for and cannot be used: {reason}")
    token = forced.set(name)
    try:
        yield
    finally:
        forced.reset(token)


def check_isa_name(name: str) -> str:
    if name not in ISAS:
        raise ValueError(f"unknown instruction set. Received: {name!r}. Allowed: {', '.join(map(repr, ISAS))}.")
    return name


@functools.cache
def isa_of_environment() -> int:
    name = os.environ.get("FASTINIT_CPU_ISA")
    return ISAS[name] if name else 0


def isa_number() -> int:
    name = forced.get()
    return ISAS[name] if name else isa_of_environment()


def usable() -> ctypes.CDLL:
    library = library_or_reason()
    if isinstance(library, str):
        raise RuntimeError(f"the native backend cannot be used: {library}")
    return library


def threads() -> int:
    """How many threads a large fill uses: torch's own number."""
    return torch.get_num_threads()


def fill(plans: list[Plan]) -> None:
    """Fills every plan's tensor in one call of the library."""
    library = usable()
    if len(plans) == 1:
        raw, kept = raw_plan(plans[0])
    else:
        made = [raw_plan(plan) for plan in plans]
        raw, kept = b"".join(raw for raw, _ in made), made
    check(library, library.fastinit_fill(raw, len(plans), torch.get_num_threads(), isa_number()))
    del kept


def transform(recipe: Recipe, words: torch.Tensor) -> torch.Tensor:
    """The values of given words (int32, or int64 for recipes of float64)."""
    library, words, out = usable(), words.contiguous(), torch.empty(words.shape, dtype=recipe.dtype)
    if words.itemsize != (8 if recipe.dtype.itemsize == 8 else 4):
        raise TypeError(f"words of {words.dtype} do not go with {recipe.dtype}: int64 for 8-byte dtypes, else int32.")
    raw, _ = raw_plan(Plan(out, recipe, 0, whole(out)))
    check(library, library.fastinit_transform(raw, words.data_ptr(), words.numel(), torch.get_num_threads(), isa_number()))
    return out


def raw_plan(plan: Plan) -> tuple[bytes, object]:
    """The plan as the bytes of the library's structure, and what must stay alive until the library has been called.

    Bytes, because a ctypes structure takes 0.7 us longer to fill in and hand over.
    """
    out, recipe, key, box = plan
    if out.is_contiguous():
        return PLACE.pack(out.data_ptr(), key, *box, 0) + constants(recipe), None
    dims = [(size, stride) for size, stride in zip(out.shape, out.stride(), strict=True) if size > 1]
    layout = (c_int64 * (2 * len(dims)))(*(size for size, _ in dims), *(stride for _, stride in dims))
    place = PLACE.pack(out.data_ptr(), key, *box, ctypes.addressof(layout))
    raw = Raw.from_buffer_copy(place + constants(recipe))
    raw.dims = len(dims)
    return bytes(raw), layout


@functools.lru_cache(maxsize=1024)
def constants(recipe: Recipe) -> bytes:
    """A plan's fields after its place, of a contiguous tensor; the recipe, kept by the cache, owns the table."""
    raw = Raw(slope=recipe.slope, anchor=recipe.anchor, flip=recipe.flip, std=recipe.std, cut=recipe.cut)
    raw.inverse_cut, raw.low, raw.high = recipe.inverse_cut, recipe.low, recipe.high
    raw.kind, raw.dtype = recipe.kind, DTYPES[recipe.dtype]
    if recipe.table is not None:
        raw.table, raw.top_bits = recipe.table.data_ptr(), recipe.top_bits
        _, raw.terms, raw.cells = recipe.table.shape
        for half, (offset, scale) in enumerate(zip(recipe.offset, recipe.scale, strict=True)):
            raw.offset[half], raw.scale[half] = offset, scale
    return bytes(raw)[PLACE.size :]


def check(library: ctypes.CDLL, status: int) -> None:
    if status:
        raise RuntimeError(f"the native library refused a plan: {library.fastinit_message(status).decode()} (status {status})")
