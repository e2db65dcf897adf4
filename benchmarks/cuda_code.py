"""Count the instructions of the CUDA kernels in the installed library: `python -m benchmarks.cuda_code`. No GPU is needed.

Of blends also those of the loop over members, an element and member; and of the loop over tiles with one turn of it, which also
reads, rounds and stores.

Instructions an element: those of a kernel's loop over tiles, from its first to the branch back, over the elements that a thread
makes in a turn; guards, clamps, stores and the loop's own are included. A kernel has a loop for each variant of recipe, which is
recognized by what the loop does. NOPs are not counted.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
from typing import NamedTuple

from benchmarks import sass
from fastinit._backends import cuda
from fastinit._commands import files

FILLS, BLENDS = ("fill_one", "fill_list", "fill_elements", "map_words"), ("blend_list", "blend_elements")
KERNELS = FILLS + BLENDS
TILED = FILLS[:2]  # those whose loop makes 16 elements a turn (4 of 8-byte dtypes)
DTYPES = ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "uint32", "uint64")  # enum fastinit_dtype
WIDE = ("float64", "uint64")
SHOWN = {
    "uniform": "uniform",
    "symmetric, 32 cells": "truncated normal at 2 sigmas",
    "symmetric, 64 cells": "normal",
}  # in docs/gpus.md
LINE = "{:7}{:15}{:15}{:26}{:>10}{:>8}{:>10}"


class Loop(NamedTuple):
    """A variant's loop in a kernel."""

    target: str
    kernel: str
    dtype: str
    variant: str
    an_element: float
    widest_store: int  # bits
    stores: int  # a turn and thread


class Sum(NamedTuple):
    """A variant's loop over members."""

    target: str
    dtype: str
    variant: str
    a_member: float  # instructions, an element
    one_member: float  # of the loop over tiles with one turn, an element
    widest_store: int  # bits, of the loop over tiles
    widest_load: int


class Kernel(NamedTuple):
    """A whole kernel."""

    target: str
    kernel: str
    dtype: str
    registers: int
    stack: int  # bytes
    spills: int  # loads and stores of local memory
    shared: int  # bytes


def library() -> pathlib.Path:
    path = cuda.library_path()
    assert path.is_file(), f"{path} does not exist: install with nvcc at hand (FASTINIT_CUDA=1 demands it)"
    return path


def targets() -> list[str]:
    """The architectures in the library."""
    return sorted(set(re.findall(r"\.(sm_\d+)\.cubin", sass.told("--list-elf", str(library())))), key=lambda name: int(name[3:]))


def name_of(mangled: str) -> tuple[str, str]:
    """Kernel and dtype."""
    kernel, dtype = re.findall(rf"\d({'|'.join(KERNELS)})ILi(\d)", mangled)[0]
    return kernel, DTYPES[int(dtype)]


def kernels(target: str) -> list[Kernel]:
    usage = sass.told("-arch", target, "-res-usage", str(library()))
    figures = dict(re.findall(r"Function (\S+):\s+(REG:.*)", usage))
    found = []
    for mangled, lines in sass.functions(library(), "-arch", target).items():
        numbers = {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED):(\d+)", figures[mangled])}
        spills = sass.count([text for _, text in lines], "LDL", "STL")
        found.append(Kernel(target, *name_of(mangled), numbers["REG"], numbers["STACK"], spills, numbers["SHARED"]))
    return found


def tile_loops(target: str) -> list[Loop]:
    """The loops over tiles of fill_one and fill_list: those with 16-byte stores to global memory."""
    found = []
    for mangled, lines in sass.functions(library(), "-arch", target).items():
        kernel, dtype = name_of(mangled)
        if kernel not in TILED:
            continue
        elements = 4 if dtype in WIDE else 16
        for loop in sass.loops(lines):
            stores = [text for text in loop if sass.opcode(text).startswith("STG")]
            if stores:
                widest = min(map(sass.store_bits, stores))
                variant = variant_of(loop, elements, dtype)
                found.append(Loop(target, kernel, dtype, variant, len(loop) / elements, widest, len(stores)))
    return found


def member_loops(target: str) -> list[Sum]:
    """The loops over members of blend_list: those that make a number of each element's word."""
    found = []
    for mangled, lines in sass.functions(library(), "-arch", target).items():
        kernel, dtype = name_of(mangled)
        elements = 4 if dtype in WIDE else 16
        for loop, around in sass.nests(lines) if kernel == "blend_list" else ():
            if sass.count(loop, "I2F") >= elements:
                bits = [min(sass.store_bits(t) for t in around if sass.opcode(t).startswith(name)) for name in ("STG", "LDG")]
                counts = len(loop) / elements, len(around) / elements
                found.append(Sum(target, dtype, variant_of(loop, elements, dtype), *counts, *bits))
    return found


def variant_of(loop: list[str], elements: int, dtype: str) -> str:
    """Recognize a variant by the look-ups an element, the truncations of fmod's quotient, the selections of two halves."""
    if dtype.startswith("uint"):
        return "words"
    terms = sass.count(loop, "LDS") // elements
    if terms == 0:
        shifts = sass.count(loop, "SHF", "IMAD.SHL", "USHF")
        return "uniform from a bound" if shifts >= elements and is_shifted(loop, elements) else "uniform"
    cells = {5: 32, 7: 64, 13: 256}[terms]
    kind = "fmod" if sass.count(loop, "FRND") >= elements else "symmetric"
    if kind == "symmetric" and dtype != "float64" and is_two_sided(loop, elements):
        kind = "two-sided"
    return f"{kind}, {cells} cells"


def is_shifted(loop: list[str], elements: int) -> bool:
    """Whether every element's word is shifted right by one."""
    return sum(bool(re.search(r"SHF\.R\.U(32|64)(\.HI)? .*, 0x1,", text)) for text in loop) >= elements


def is_two_sided(loop: list[str], elements: int) -> bool:
    """Whether the sign of every element's word is asked for."""
    return sass.count(loop, "ISETP") >= elements


def shown_row(loop: Loop | Sum) -> dict[str, object]:
    """A row of the results file, which names a law of the variant."""
    named = {"law" if name == "variant" else name: value for name, value in loop._asdict().items()}
    return named | {"law": SHOWN[loop.variant]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", help="architectures, such as sm_90 (default: all in the library)")
    parser.add_argument("--output", type=pathlib.Path, help="also a results file: benchmarks/results/cuda-code.json")
    arguments = parser.parse_args()
    files.check_writable(arguments.output)
    chosen = arguments.targets or targets()
    rows = [loop for target in chosen for loop in tile_loops(target)]
    if arguments.output:  # of the kernel for one tensor, by the names of laws that Triton's table has
        shown = [shown_row(row) for row in rows if row.kernel == "fill_one" and row.variant in SHOWN]
        shown.sort(key=lambda row: list(SHOWN.values()).index(row["law"]))
        blends = [shown_row(row) for target in chosen for row in member_loops(target) if row.variant in SHOWN]
        results = {"compiler": compiler(), "rows": shown, "blends": blends}
        files.write(arguments.output, json.dumps(results, indent=1) + "\n")
    print(f"{compiler()}, instructions of the loops over tiles, compiled only: none of it was run")
    print(LINE.format("target", "kernel", "dtype", "variant", "an element", "stores", "of bits"))
    for row in rows:
        print(LINE.format(*row[:4], f"{row.an_element:.2f}", row.stores, row.widest_store))
    print("blends: instructions of the loops over members, an element and member, and of a whole blend of one member")
    for row in (row for target in chosen for row in member_loops(target)):
        counts = f"{row.a_member:.2f}", f"{row.one_member:.2f}"
        print(LINE.format(row.target, "blend_list", row.dtype, row.variant, *counts, row.widest_store))
    whole = [kernel for target in chosen for kernel in kernels(target)]
    print(f"{len(whole)} kernels: {sum(kernel.spills > 0 or kernel.stack > 0 for kernel in whole)} spill or have a stack")


def compiler() -> str:
    """From the library itself: what it was compiled by."""
    found = re.findall(r"release (\d+\.\d+), V([\d.]+)", sass.told("-elf", "-arch", targets()[0], str(library())))
    return f"CUDA {found[0][1]}" if found else "CUDA"


if __name__ == "__main__":
    sys.exit(files.status_of("python -m benchmarks.cuda_code", main))
