"""The C ABI of csrc/fastinit.h: loading a library of it, and plans as its bytes. The only file with ctypes' structures."""

from __future__ import annotations

import ctypes
import functools
import pathlib
import struct
from collections.abc import Mapping
from ctypes import Structure, c_char_p, c_double, c_int32, c_int64, c_uint64, c_void_p
from typing import Any

import torch

from fastinit._core.plan import Plan, whole
from fastinit._core.recipes import Recipe

ABI = 2  # as FASTINIT_ABI in csrc/fastinit.h
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


PACKAGE = pathlib.Path(__file__).parents[1]  # where setup.py puts the libraries
PLACE = struct.Struct("@PQqqqqP")  # out to layout: what differs from fill to fill

# Functions of both libraries, of the CPU's and of CUDA's: result and arguments.
Signatures = Mapping[str, tuple[Any, list[Any]]]
COMMON: dict[str, tuple[Any, list[Any]]] = {"fastinit_abi": (c_int32, []), "fastinit_message": (c_char_p, [c_int32])}
CPU: Signatures = COMMON | {
    "fastinit_check_isa": (c_int32, [c_int32]),
    "fastinit_best_isa": (c_int32, []),
    "fastinit_fill": (c_int32, [c_void_p, c_int64, c_int32, c_int32]),
    "fastinit_transform": (c_int32, [c_void_p, c_void_p, c_int64, c_int32, c_int32]),
}
CUDA: Signatures = COMMON | {
    "fastinit_cuda_check": (c_int32, [c_int32]),
    "fastinit_cuda_fill": (c_int32, [c_void_p, c_int64, c_int32, c_void_p]),
    "fastinit_cuda_transform": (c_int32, [c_void_p, c_void_p, c_int64, c_int32, c_void_p]),
}


def load(path: pathlib.Path, signatures: Signatures) -> ctypes.CDLL | str:
    """A library, checked as far as it can be without running it, or why it cannot be used."""
    if not path.is_file():
        compiler = "CUDA's compiler (nvcc)" if signatures is CUDA else "a C++ compiler"
        return f"{path} does not exist: the package was installed without {compiler}, or is run from its source tree"
    try:
        if is_truncated(path):
            return f"{path} is truncated: install the package again"
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return f"{path} cannot be loaded: {error}"
    if library.fastinit_abi() != ABI:
        return f"{path} has ABI {library.fastinit_abi()}, this package needs {ABI}: install the package again"
    return library


def usable(library: ctypes.CDLL | str) -> ctypes.CDLL:
    if isinstance(library, str):
        raise RuntimeError(f"the native backend cannot be used: {library}")
    return library


def is_truncated(path: pathlib.Path) -> bool:
    """Whether an ELF file ends before its section headers, its last part: mapping it would end the process by a signal."""
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 64:
        return head[:4] == b"\x7fELF" or not head
    if head[:5] != b"\x7fELF\x02":  # no ELF file of 64 bits, which the loader says by itself
        return False
    (offset,), (entry_size, entries) = struct.unpack_from("<Q", head, 40), struct.unpack_from("<HH", head, 58)
    return bool(offset + entry_size * entries > path.stat().st_size)


def packed(plans: list[Plan]) -> tuple[bytes, object]:
    """An array of plans, and what must stay alive until the library has been called."""
    if len(plans) == 1:
        return raw_plan(plans[0])
    made = [raw_plan(plan) for plan in plans]
    return b"".join(raw for raw, _ in made), made


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


def packed_map(recipe: Recipe, words: torch.Tensor) -> tuple[bytes, torch.Tensor, torch.Tensor]:
    """A plan for the map words -> values, contiguous words, and where their values go."""
    if words.itemsize != (8 if recipe.dtype.itemsize == 8 else 4):
        raise TypeError(f"words of {words.dtype} do not go with {recipe.dtype}: int64 for 8-byte dtypes, else int32.")
    words, out = words.contiguous(), torch.empty(words.shape, dtype=recipe.dtype, device=words.device)
    return raw_plan(Plan(out, recipe, 0, whole(out)))[0], words, out


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
