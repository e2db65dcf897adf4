"""Compile the Triton kernels for GPUs that need not be here and count instructions: `python -m benchmarks.machine_code`.

Instructions an element: those of fill_blocks' loop over tiles, from its first to the branch back, over the elements a thread
makes in a turn, with guards, clamps, stores and those of the loop itself. What a program runs once is a number of its own:
constants, table and round keys, and the end of an odd tensor, less than 16 bytes, which one program fills. NOPs are not counted.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
import tempfile
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks import sass
from fastinit._backends import triton as backend
from fastinit._commands import files
from fastinit._core import laws
from fastinit._core.recipes import Recipe, recipe
from fastinit._core.rounding import INTEGERS

NVIDIA = {80: "sm_80", 90: "sm_90", 100: "sm_100"}
AMD = "gfx942"
LAWS = {
    "uniform": laws.uniform(-1.0, 1.0),
    "uniform from 0": laws.uniform(0.0, 1.0),
    "truncated normal at 2 sigmas": laws.truncated_normal(0.0, 1.0, -2.0, 2.0),
    "normal": laws.normal(0.0, 1.0),
    "half-normal": laws.truncated_normal(0.0, 1.0, 0.0, float("inf")),
    "fmod": laws.fmod_normal(0.0, 1.0, -1.0, 1.0),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float64)
AMD_LAWS = ("truncated normal at 2 sigmas", "half-normal")  # shuffles, and loads
POINTERS = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
ALIGNED = ("out", "recipe")  # at launch they are, and fill_blocks is specialized to it
SCALARS = {"key": "u64", "count": "i32", "steps": "i32"}  # the other numbers are i64
LINE = "{:8}{:30}{:16}{:>10}{:>6}{:>11}{:>8}{:>8}{:>10}"


class Code(NamedTuple):
    """What a compiled fill_blocks is made of."""

    target: str
    law: str
    dtype: str
    an_element: float  # instructions in the loop
    once: int  # instructions outside it
    registers: int
    spills: int  # loads and stores of local memory
    shared: int  # bytes
    widest_store: int  # bits, in the loop
    stores: int  # an iteration and thread


def compiled(kernel: Any, values: Recipe, target: GPUTarget, **code: Any) -> Any:
    """A kernel of the backend compiled for a recipe's dtype and a target, as a launch there would."""
    out = backend.integer_view(torch.empty(1, dtype=values.dtype)).dtype
    code = {**backend.code_of(values, torch.device("cpu")), "PTX": target.backend == "cuda", **code}
    code |= {"TILE": backend.TILE[values.real], "SIZE": backend.SMALL}
    pointers = {"out": POINTERS[out], "recipe": POINTERS[values.real], "words": POINTERS[INTEGERS[values.real.itemsize]]}
    pointers |= {"entries": "*i64", "example": POINTERS[out]}
    names = kernel.arg_names
    constants = {name: code[name] for name in names if name in code}
    signature = {name: "constexpr" if name in constants else pointers.get(name, SCALARS.get(name, "i64")) for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in ALIGNED}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=target, options=dict(backend.OPTIONS))


def nvidia(values: Recipe, law: str, capability: int) -> Code:
    """The machine code of fill_blocks for an NVIDIA GPU, taken apart."""
    made = compiled(backend.fill_blocks, values, GPUTarget("cuda", capability, 32), BOXED=False)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(made.asm["cubin"])
        cubin.flush()
        lines = sass.instructions(sass.told("--dump-sass", cubin.name))
        usage = sass.told("-res-usage", cubin.name)
    loop = max(sass.loops(lines), key=len)
    stores = [text for text in loop if sass.opcode(text).startswith("STG")]
    return Code(
        target=NVIDIA[capability],
        law=law,
        dtype=name_of(values.dtype),
        an_element=len(loop) * 32 * backend.WARPS / backend.TILE[values.real],
        once=len(lines) - len(loop),
        registers=int(re.findall(r"REG:(\d+)", usage)[-1]),
        spills=sass.count([text for _, text in lines], "LDL", "STL"),
        shared=made.metadata.shared,
        widest_store=max(map(sass.store_bits, stores)),
        stores=len(stores),
    )


def counted(capabilities: list[int], laws: list[str], dtypes: list[str]) -> list[Code]:
    """The code of every target, law and dtype that is asked for."""
    wanted = [dtype for dtype in DTYPES if name_of(dtype) in dtypes]
    return [nvidia(recipe(LAWS[law], dtype), law, target) for target in capabilities for law in laws for dtype in wanted]


def amd(law: str, dtype: torch.dtype) -> list[dict[str, Any]]:
    """The size of every kernel, compiled for gfx942; instructions are not counted."""
    values = recipe(LAWS[law], dtype)
    real = tl.float64 if values.real is torch.float64 else tl.float32
    kind, cells, terms = backend.variant_of(values)
    kernels = {
        "fill_blocks": {"BOXED": False},
        "fill_list": {"KINDS": (kind,), "CELLS": (cells,), "TERMS": (terms,), "REAL": real},
        "fill_elements": {},
        "transform_words": {},
    }
    made = {
        name: compiled(getattr(backend, name), values, GPUTarget("hip", AMD, 64), **code).asm["hsaco"]
        for name, code in kernels.items()
    }
    return [{"target": AMD, "law": law, "dtype": name_of(dtype), "kernel": k, "bytes": len(code)} for k, code in made.items()]


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--laws", nargs="+", default=list(LAWS), choices=list(LAWS))
    parser.add_argument("--targets", nargs="+", type=int, default=list(NVIDIA), choices=list(NVIDIA), help="compute capabilities")
    parser.add_argument("--dtypes", nargs="+", default=list(map(name_of, DTYPES)), choices=list(map(name_of, DTYPES)))
    parser.add_argument("--amd", action="store_true", help=f"compile for {AMD} instead, in bfloat16")
    parser.add_argument("--output", type=pathlib.Path, help="also a results file: benchmarks/results/machine-code.json")
    arguments = parser.parse_args()
    files.check_writable(arguments.output)
    if arguments.amd:
        print(json.dumps([row for law in AMD_LAWS for row in amd(law, torch.bfloat16)]))
        return
    rows = counted(arguments.targets, arguments.laws, arguments.dtypes)
    if arguments.output:
        report = {"compiler": f"Triton {triton.__version__}", "rows": [row._asdict() for row in rows]}
        files.write(arguments.output, json.dumps(report, indent=1) + "\n")
    if arguments.json:
        print(json.dumps([row._asdict() for row in rows]))
        return
    print(f"triton {triton.__version__}, instructions of fill_blocks, compiled only: none of it was run")
    print(LINE.format("target", "law", "dtype", "an element", "once", "registers", "spills", "shared", "stores"))
    for row in rows:
        *cells, widest, stores = row
        print(LINE.format(*cells[:3], f"{row.an_element:.2f}", *cells[4:], f"{stores} x {widest}"))


if __name__ == "__main__":
    sys.exit(files.status_of("python -m benchmarks.machine_code", main))
