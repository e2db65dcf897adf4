"""Compile the Triton kernels for GPUs that need not be here and count instructions: `python -m benchmarks.machine_code`.

Instructions an element: those of fill_blocks' loop over tiles, from its first to the branch back, over the elements a thread
makes in a turn, with guards, clamps, stores and those of the loop itself. What a program runs once is a number of its own:
constants, table and round keys, and the end of an odd tensor, less than 16 bytes, which one program fills. NOPs are not counted.

Of blends, those of blend_list's loop over members, an element and member, its own and those of round keys included; and of the
loop over tiles with one turn of it, which also reads, rounds and stores.
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
from fastinit._backends import triton_blend_kernels
from fastinit._commands import files
from fastinit._core import laws
from fastinit._core.recipes import Recipe, real_of, recipe
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
BLENDED = (torch.float32, torch.bfloat16)
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


class Sum(NamedTuple):
    """What a compiled blend_list is made of."""

    target: str
    law: str
    dtype: str
    a_member: float  # instructions of the loop over members, an element
    one_member: float  # of the loop over tiles with one turn of that, an element
    registers: int
    spills: int
    shared: int
    widest_store: int  # bits, in the loop over tiles
    widest_load: int


def compiled(kernel: Any, values: Recipe, target: GPUTarget, dtype: torch.dtype | None = None, **code: Any) -> Any:
    """A kernel of the backend compiled for a dtype, without one the recipe's, and a target, as a launch there would."""
    dtype = dtype or values.dtype
    out = backend.integer_view(torch.empty(1, dtype=dtype)).dtype
    code = {**backend.code_of(values, torch.device("cpu")), "PTX": target.backend == "cuda", **code}
    code["FORMAT"] = backend.FLOAT8.get(dtype, 0)
    code |= {"TILE": backend.TILE[values.real], "SIZE": backend.SMALL}
    pointers = {"out": POINTERS[out], "recipe": POINTERS[values.real], "words": POINTERS[INTEGERS[values.real.itemsize]]}
    pointers |= {"entries": "*i64", "members": "*i64", "example": POINTERS[out], "source": POINTERS[out]}
    names = kernel.arg_names
    constants = {name: code[name] for name in names if name in code}
    signature = {name: "constexpr" if name in constants else pointers.get(name, SCALARS.get(name, "i64")) for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in ALIGNED}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=target, options=dict(backend.OPTIONS))


def disassembled(made: Any) -> tuple[list[sass.Line], int]:
    """A compiled kernel's instructions and registers."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(made.asm["cubin"])
        cubin.flush()
        lines = sass.instructions(sass.told("--dump-sass", cubin.name))
        return lines, int(re.findall(r"REG:(\d+)", sass.told("-res-usage", cubin.name))[-1])


def of_list(values: Recipe) -> dict[str, Any]:
    """What decides the code of a kernel for a list of one variant."""
    kind, cells, terms = backend.variant_of(values)
    real = tl.float64 if values.real is torch.float64 else tl.float32
    return {"KINDS": (kind,), "CELLS": (cells,), "TERMS": (terms,), "REAL": real}


def blend(law: str, dtype: torch.dtype, capability: int) -> Sum:
    """The machine code of blend_list for an NVIDIA GPU, taken apart."""
    values = recipe(LAWS[law], real_of(dtype))
    kernel, target = triton_blend_kernels.blend_list, GPUTarget("cuda", capability, 32)
    made = compiled(kernel, values, target, dtype, BOXED=False, **of_list(values))
    lines, registers = disassembled(made)
    loop, around = max(sass.nests(lines), key=lambda nest: len(nest[0]))
    elements = backend.TILE[values.real] / (32 * backend.WARPS)
    store, load = (max(sass.store_bits(t) for t in around if sass.opcode(t).startswith(name)) for name in ("STG", "LDG"))
    counts = len(loop) / elements, len(around) / elements
    spills = sass.count([text for _, text in lines], "LDL", "STL")
    return Sum(NVIDIA[capability], law, name_of(dtype), *counts, registers, spills, made.metadata.shared, store, load)


def nvidia(values: Recipe, law: str, capability: int) -> Code:
    """The machine code of fill_blocks for an NVIDIA GPU, taken apart."""
    made = compiled(backend.fill_blocks, values, GPUTarget("cuda", capability, 32), BOXED=False)
    lines, registers = disassembled(made)
    loop = max(sass.loops(lines), key=len)
    stores = [text for text in loop if sass.opcode(text).startswith("STG")]
    return Code(
        target=NVIDIA[capability],
        law=law,
        dtype=name_of(values.dtype),
        an_element=len(loop) * 32 * backend.WARPS / backend.TILE[values.real],
        once=len(lines) - len(loop),
        registers=registers,
        spills=sass.count([text for _, text in lines], "LDL", "STL"),
        shared=made.metadata.shared,
        widest_store=max(map(sass.store_bits, stores)),
        stores=len(stores),
    )


def counted(capabilities: list[int], laws: list[str], dtypes: list[str]) -> list[Code]:
    """The code of every target, law and dtype that is asked for."""
    wanted = [dtype for dtype in DTYPES if name_of(dtype) in dtypes]
    return [nvidia(recipe(LAWS[law], dtype), law, target) for target in capabilities for law in laws for dtype in wanted]


def summed(capabilities: list[int], laws: list[str], dtypes: list[str]) -> list[Sum]:
    """The code of blends, likewise."""
    wanted = [dtype for dtype in BLENDED if name_of(dtype) in dtypes]
    return [blend(law, dtype, target) for target in capabilities for law in laws for dtype in wanted]


def amd(law: str, dtype: torch.dtype) -> list[dict[str, Any]]:
    """The size of every kernel, compiled for gfx942; instructions are not counted."""
    values = recipe(LAWS[law], dtype)
    kernels = {
        "fill_blocks": {"BOXED": False},
        "fill_list": of_list(values),
        "fill_elements": {},
        "transform_words": {},
    }
    target = GPUTarget("hip", AMD, 64)
    made = {name: compiled(getattr(backend, name), values, target, **code).asm["hsaco"] for name, code in kernels.items()}
    values = recipe(LAWS[law], real_of(dtype))
    blends = {"blend_list": {"BOXED": False, **of_list(values)}, "blend_elements": {}}
    for name, code in blends.items() if law == AMD_LAWS[0] else ():
        made[name] = compiled(getattr(triton_blend_kernels, name), values, target, dtype, **code).asm["hsaco"]
    return [{"target": AMD, "law": law, "dtype": name_of(dtype), "kernel": k, "bytes": len(code)} for k, code in made.items()]


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--laws", nargs="+", default=list(LAWS), choices=list(LAWS))
    parser.add_argument("--targets", nargs="+", type=int, default=list(NVIDIA), choices=list(NVIDIA), help="compute capabilities")
    parser.add_argument("--dtypes", nargs="+", default=list(map(name_of, DTYPES)), choices=list(map(name_of, DTYPES)))
    parser.add_argument("--blends", action="store_true", help="of blends, in float32 and bfloat16, with --json alone")
    parser.add_argument("--amd", action="store_true", help=f"compile for {AMD} instead, in bfloat16")
    parser.add_argument("--output", type=pathlib.Path, help="also a results file: benchmarks/results/machine-code.json")
    arguments = parser.parse_args()
    files.check_writable(arguments.output)
    if arguments.amd:
        print(json.dumps([row for law in AMD_LAWS for row in amd(law, torch.bfloat16)]))
        return
    rows = [] if arguments.blends and arguments.json else counted(arguments.targets, arguments.laws, arguments.dtypes)
    sums = summed(arguments.targets, arguments.laws, arguments.dtypes) if arguments.blends or not arguments.json else []
    if arguments.output:
        found = {"rows": [row._asdict() for row in rows], "blends": [row._asdict() for row in sums]}
        files.write(arguments.output, json.dumps({"compiler": f"Triton {triton.__version__}", **found}, indent=1) + "\n")
    if arguments.json:
        print(json.dumps([row._asdict() for row in sums or rows]))
        return
    print(f"triton {triton.__version__}, instructions of fill_blocks, compiled only: none of it was run")
    print(LINE.format("target", "law", "dtype", "an element", "once", "registers", "spills", "shared", "stores"))
    for row in rows:
        *cells, widest, stores = row
        print(LINE.format(*cells[:3], f"{row.an_element:.2f}", *cells[4:], f"{stores} x {widest}"))
    print("blend_list: the loop over members, an element and member; the loop over tiles with one turn of it, an element")
    print(LINE.format("target", "law", "dtype", "a member", "one", "registers", "spills", "shared", "bits"))
    for total in sums:
        counts = f"{total.a_member:.2f}", f"{total.one_member:.1f}", total.registers, total.spills, total.shared
        print(LINE.format(*total[:3], *counts, f"{total.widest_load}, {total.widest_store}"))


if __name__ == "__main__":
    sys.exit(files.status_of("python -m benchmarks.machine_code", main))
