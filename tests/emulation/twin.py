"""The twin of the CUDA library: csrc/cuda/cuda.cu, kernels and host code, built by a C++ compiler to run on CPU tensors."""

import ctypes
import functools
import pathlib
import shutil
import subprocess
import tempfile

import torch

from fastinit._backends import abi
from fastinit._core.plan import Blending, Plan, whole

ROOT = pathlib.Path(__file__).parents[2]
SOURCE = ROOT / "csrc" / "cuda" / "cuda.cu"
STAND_IN = pathlib.Path(__file__).parent / "cuda_twin"  # a cuda_runtime.h
FLAGS = ["-shared", "-fPIC", "-fvisibility=hidden", "-std=c++17", "-O0"]  # optimized, it compiles for 20 s
FLAGS += ["-DFASTINIT_INLINE_MEMBER=inline", "-ffp-contract=off", "-fno-strict-aliasing", "-Wno-psabi"]
FLAGS += ["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"]  # what a GPU would not store, ends the process


class State(ctypes.Structure):
    """struct Twin of cuda_twin/cuda_runtime.h."""

    _fields_ = [(name, ctypes.c_int) for name in ("launches", "error", "contexts")]
    _fields_ += [("current", ctypes.c_void_p), ("grid", ctypes.c_int)]


def compiler() -> str | None:
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@functools.cache
def library() -> abi.Library:
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "twin.so"
        command = [compiler(), *FLAGS, "-I", str(STAND_IN), "-x", "c++", str(SOURCE), "-o", str(made)]
        subprocess.run(command, check=True)
        loaded = abi.load(made, abi.CUDA)
    assert isinstance(loaded, abi.Library), loaded
    return loaded


def state() -> State:
    return State.in_dll(library(), "twin")


def fill(plans: list[Plan]) -> None:
    raw, kept = abi.packed(plans)
    check(library(), library().fastinit_cuda_fill(raw, len(plans), 0, None))
    del kept


def check(loaded: abi.Library, status: int) -> None:
    if status:
        raise abi.refusal(loaded, status)


def transform(recipe, words: torch.Tensor) -> torch.Tensor:
    out = torch.empty(words.shape, dtype=recipe.dtype)
    raw, kept = abi.packed([Plan(out, recipe, 0, whole(out))])
    check(library(), library().fastinit_cuda_transform(raw, words.data_ptr(), words.numel(), 0, None))
    del kept
    return out


def blend(blendings: list[Blending]) -> None:
    raw, kept = abi.packed_blendings(blendings)
    check(library(), library().fastinit_cuda_blend(raw, len(blendings), 0, None))
    del kept
