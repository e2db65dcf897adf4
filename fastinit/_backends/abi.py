"""The C ABI of csrc/fastinit.h: loading a library that has it, and plans as its bytes. The only file with ctypes.

tests/test_one_order.py holds the structures, enums and table shapes against the header.
"""

from __future__ import annotations

import array
import ctypes
import functools
import pathlib
import struct
from collections.abc import Callable, Mapping
from ctypes import Structure, c_char_p, c_double, c_int32, c_int64, c_uint64, c_void_p
from typing import Any, get_type_hints

import torch

from fastinit._core.plan import Blending, Plan, whole
from fastinit._core.recipes import Constants, Recipe

ABI = 5  # as FASTINIT_ABI
DTYPES = {  # as enum fastinit_dtype
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
Library = ctypes.CDLL
PACKAGE = pathlib.Path(__file__).parents[1]  # where setup.py puts the libraries
_C_TYPES: dict[Any, Any] = {float: c_double, int: c_uint64, tuple[float, float]: c_double * 2}


class RawRecipe(Structure):
    """struct fastinit_recipe: the constants in their one order, then how the table is read and the dtype."""

    _fields_ = [
        *((name, _C_TYPES[hint]) for name, hint in get_type_hints(Constants).items()),
        ("table", c_void_p),
        ("kind", c_int32),
        ("dtype", c_int32),
        ("cells", c_int32),
        ("terms", c_int32),
        ("top_bits", c_int32),
        ("reserved", c_int32),
    ]


class RawPlan(Structure):
    """struct fastinit_plan, as FIELDS packs it. Bytes, because to fill in a ctypes structure takes 0.7 us longer."""

    _fields_ = [
        ("out", c_void_p),
        ("key", c_uint64),
        ("start", c_int64),
        ("rows", c_int64),
        ("cols", c_int64),
        ("pitch", c_int64),
        ("layout", c_void_p),
        ("recipe", c_void_p),
        ("dims", c_int64),
    ]


ONE = c_int64(1)  # as an argument
FIELDS = struct.Struct("@PQqqqqPPq")  # of RawPlan
_HEAD = struct.Struct("@PQ")  # its first two: what differs from tensor to tensor


class RawBlending(Structure):
    """struct fastinit_blending, as BLENDING packs what follows its plan."""

    _fields_ = [
        ("to", RawPlan),
        ("source", c_void_p),
        ("source_strides", c_void_p),
        ("keys", c_void_p),
        ("add", c_void_p),
        ("members", c_int64),
        ("keep", c_double),
        ("dtype", c_int32),
        ("reserved", c_int32),
    ]


BLENDING = struct.Struct("@PPPPqdii")  # of RawBlending, behind FIELDS

# Functions of both libraries, of the CPU's and of CUDA's: result and arguments.
_Signatures = Mapping[str, tuple[Any, list[Any]]]
COMMON: dict[str, tuple[Any, list[Any]]] = {"fastinit_abi": (c_int32, []), "fastinit_message": (c_char_p, [c_int32])}
CPU: _Signatures = COMMON | {
    "fastinit_check_isa": (c_int32, [c_int32]),
    "fastinit_best_isa": (c_int32, []),
    "fastinit_fill": (c_int32, [c_void_p, c_int64, c_int32, c_int32]),
    "fastinit_blend": (c_int32, [c_void_p, c_int64, c_int32, c_int32]),
    "fastinit_transform": (c_int32, [c_void_p, c_void_p, c_int64, c_int32, c_int32]),
}
CUDA: _Signatures = COMMON | {
    "fastinit_cuda_check": (c_int32, [c_int32]),
    "fastinit_cuda_fill": (c_int32, [c_void_p, c_int64, c_int32, c_void_p]),
    "fastinit_cuda_blend": (c_int32, [c_void_p, c_int64, c_int32, c_void_p]),
    "fastinit_cuda_transform": (c_int32, [c_void_p, c_void_p, c_int64, c_int32, c_void_p]),
}

# --- libraries ----------------------------------------------------------------------------------------------------------------


def load(path: pathlib.Path, signatures: _Signatures) -> Library | str:
    """Return a library, checked as far as it can be without running it, or why it cannot be used."""
    if not path.is_file():
        compiler = "CUDA's compiler (nvcc)" if signatures is CUDA else "a C++ compiler"
        return f"{path} does not exist: the package was installed without {compiler}, or is run from its source tree"
    try:
        if _is_truncated(path):
            return f"{path} is truncated: install the package again"
        library = Library(str(path))
        for name, (result, arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return f"{path} cannot be loaded: {error}"
    if library.fastinit_abi() != ABI:
        return f"{path} has ABI {library.fastinit_abi()}, this package needs {ABI}: install the package again"
    return library


def usable(library: Library | str) -> Library:
    """Return a library that was loaded. Raises RuntimeError with the reason why it was not."""
    if isinstance(library, str):
        raise RuntimeError(f"the native backend cannot be used: {library}")
    return library


def unchecked(library: Library, name: str) -> Callable[..., int]:
    """A function of C's ints alone, bytes and ctypes' own: to convert by argument types takes 0.3 us more."""
    return library[name]


def _is_truncated(path: pathlib.Path) -> bool:
    """Whether an ELF file ends before its section headers, its last part: mapping it would end the process by a signal."""
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 64:
        return head[:4] == b"\x7fELF" or not head
    if head[:5] != b"\x7fELF\x02":  # no ELF file of 64 bits, which the loader says by itself
        return False
    offset: int = struct.unpack_from("<Q", head, 40)[0]
    entry_size, entries = struct.unpack_from("<HH", head, 58)
    return bool(offset + entry_size * entries > path.stat().st_size)


def refusal(library: Library, status: int) -> RuntimeError:
    """The error for a status other than 0."""
    message = library.fastinit_message(status).decode()
    return RuntimeError(f"the native library refused a plan: {message} (status {status})")


# --- plans --------------------------------------------------------------------------------------------------------------------


def packed(plans: list[Plan]) -> tuple[bytes, object]:
    """Return an array of plans as the library's bytes, and what must stay alive until the library has been called."""
    raw: list[bytes] = []
    kept: list[object] = []
    rests: dict[tuple[int, int], bytes] = {}  # by recipe and box, which plans keep: mostly the same for many of them
    for out, recipe, key, box in plans:
        contiguous = out.is_contiguous()
        rest = rests.get((id(recipe), id(box))) if contiguous else None
        if rest is None:
            made, at = raw_recipe(recipe)
            kept.append(made)
            layout, dims = 0, 0
            if not contiguous:
                sizes_and_strides = _layout_of(out)
                kept.append(sizes_and_strides)
                layout, dims = ctypes.addressof(sizes_and_strides), len(sizes_and_strides) // 2
            rest = FIELDS.pack(0, 0, *box, layout, at, dims)[_HEAD.size :]
            if contiguous:
                rests[id(recipe), id(box)] = rest
        raw.append(_HEAD.pack(out.data_ptr(), key) + rest)
    return b"".join(raw), kept


def _layout_of(out: torch.Tensor) -> ctypes.Array[c_int64]:
    """Return sizes, then strides, of the axes that are not of size 1."""
    axes = [(size, stride) for size, stride in zip(out.shape, out.stride(), strict=True) if size > 1]
    return (c_int64 * (2 * len(axes)))(*(size for size, _ in axes), *(stride for _, stride in axes))


def packed_blendings(blendings: list[Blending]) -> tuple[bytes, object]:
    """Return an array of blendings as the library's bytes, and what must stay alive until the library has been called."""
    raw: list[bytes] = []
    kept: list[object] = []
    coefficients: dict[int, array.array[float]] = {}  # mostly one for all; by identity, as 0.0 equals -0.0
    for out, recipe, keys, (start, rows, cols, pitch), add, keep, source in blendings:
        made, at = raw_recipe(recipe)
        words = array.array("Q", keys)  # ctypes makes a type for each length, in 50 us
        if id(add) not in coefficients:
            coefficients[id(add)] = array.array("d", add)
        layout, strides, dims = 0, 0, 0
        if not (out.is_contiguous() and source.is_contiguous()):
            numbers = _layout_of_both(out, source)
            dims, layout = len(numbers) // 3, ctypes.addressof(numbers)
            strides = layout + 16 * dims
            kept.append(numbers)
        kept += [made, words]
        raw.append(FIELDS.pack(out.data_ptr(), 0, start, rows, cols, pitch, layout, at, dims))
        members = words.buffer_info()[0], coefficients[id(add)].buffer_info()[0], len(keys)
        raw.append(BLENDING.pack(source.data_ptr(), strides, *members, keep, DTYPES[out.dtype], 0))
    return b"".join(raw), [kept, coefficients]


def _layout_of_both(out: torch.Tensor, source: torch.Tensor) -> ctypes.Array[c_int64]:
    """Return sizes, the strides of both, of the axes that are not of size 1; of one element one axis."""
    axes = [axis for axis in zip(out.shape, out.stride(), source.stride(), strict=True) if axis[0] > 1] or [(1, 1, 1)]
    return (c_int64 * (3 * len(axes)))(*(number for column in zip(*axes, strict=True) for number in column))


def packed_map(recipe: Recipe, words: torch.Tensor) -> tuple[bytes, torch.Tensor, torch.Tensor, object]:
    """Return a plan for the map words -> values, contiguous words, where their values go, and what must stay alive."""
    if words.itemsize != (8 if recipe.dtype.itemsize == 8 else 4):
        raise TypeError(f"words of {words.dtype} do not go with {recipe.dtype}: int64 for 8-byte dtypes, else int32.")
    words, out = words.contiguous(), torch.empty(words.shape, dtype=recipe.dtype, device=words.device)
    raw, kept = packed([Plan(out, recipe, 0, whole(out))])
    return raw, words, out, kept


@functools.lru_cache(maxsize=1024)
def raw_recipe(recipe: Recipe) -> tuple[RawRecipe, int]:
    """Return a recipe as the library's structure, and its address; the recipe, which every plan keeps, owns the table."""
    raw = RawRecipe(*recipe.constants, kind=recipe.kind, dtype=DTYPES[recipe.dtype])
    if recipe.table is not None:
        _, raw.terms, raw.cells = recipe.table.shape
        raw.table, raw.top_bits = recipe.table.data_ptr(), recipe.top_bits
    return raw, ctypes.addressof(raw)
