"""The twin of the CUDA library: csrc/cuda.cu, kernels and host code, built by a C++ compiler to run on CPU tensors."""

import ctypes
import functools
import pathlib
import shutil
import subprocess
import tempfile

import torch

from fastinit._backends import abi
from fastinit._core.plan import Plan, whole

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ["-shared", "-fPIC", "-fvisibility=hidden", "-std=c++17", "-O0"]  # optimised, it compiles for 20 s
FLAGS += ["-ffp-contract=off", "-fno-strict-aliasing", "-Wno-psabi"]
FLAGS += ["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"]  # what a GPU would not store, ends the process


class State(ctypes.Structure):
    """struct Twin of tests/cuda_twin/cuda_runtime.h."""

    _fields_ = [(name, ctypes.c_int) for name in ("launches", "error", "contexts")]
    _fields_ += [("current", ctypes.c_void_p), ("grid", ctypes.c_int)]


def compiler() -> str | None:
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@functools.cache
def library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "twin.so"
        include = ["-I", str(ROOT / "tests" / "cuda_twin")]
        command = [compiler(), *FLAGS, *include, "-x", "c++", str(ROOT / "csrc" / "cuda.cu"), "-o", str(made)]
        subprocess.run(command, check=True)
        loaded = abi.load(made, abi.CUDA)
    assert isinstance(loaded, ctypes.CDLL), loaded
    return loaded


def state() -> State:
    return State.in_dll(library(), "twin")


def fill(plans: list[Plan]) -> None:
    raw, kept = abi.packed(plans)
    abi.check(library(), library().fastinit_cuda_fill(raw, len(plans), 0, None))
    del kept


def transform(recipe, words: torch.Tensor) -> torch.Tensor:
    out = torch.empty(words.shape, dtype=recipe.dtype)
    raw, _ = abi.raw_plan(Plan(out, recipe, 0, whole(out)))
    abi.check(library(), library().fastinit_cuda_transform(raw, words.data_ptr(), words.numel(), 0, None))
    return out
