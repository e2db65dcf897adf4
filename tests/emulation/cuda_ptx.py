"""Execute nvcc's PTX of csrc/cuda/cuda.cu on the CPU, for the launches that its host code makes, and compare the bits with the
reference: `PYTHONPATH=.:tests python -m emulation.cuda_ptx`. With --all, in every dtype and law, and for both PTX targets of
setup.py. With --library PATH the PTX is what that library of CUDA holds.

The host code runs on the CPU, against cuda_twin's stand-in for CUDA; a launch is recorded there as its kernel's name and its
parameters, byte for byte, and ptx.py executes it. Not seen are ptxas and a missing barrier. Exit status 1 on a
difference.
"""

import argparse
import ast
import collections
import ctypes
import dataclasses
import functools
import itertools
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

import torch
from emulation import ptx, twin
from helpers.blends import any_bits, blending, copy_of, onto
from helpers.laws import KEY, LAWS, same_bits
from helpers.places import constants

from benchmarks import sass
from fastinit._backends import abi, reference
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.plan import Box, Plan, whole
from fastinit._core.recipes import recipe

CUDA, SETUP = twin.SOURCE, twin.ROOT / "setup.py"
THREADS = 256
FEW = ("2 sigmas", "half-normal")  # of dtypes other than float32, without --all
DTYPES = (*FLOAT_DTYPES, torch.int32, torch.int64)
SMALL_FMOD = "fmod of a small table"
KERNELS = ("fill_one", "fill_list", "fill_elements", "map_words", "blend_list", "blend_elements")
# Takes the place of the launch, which names its kernel as a value: `auto KERNEL`.
HEADER = """#pragma once
#include "%s"
using Seen = void (*)(const char *kernel, const void *parameters, int64_t bytes, int grid, int block);
extern "C" __attribute__((visibility("default"))) Seen seen;
Seen seen;
template <class Parameter> constexpr int64_t bytes_of(void (*)(Parameter)) { return sizeof(Parameter); }
template <auto KERNEL> cudaError_t record(dim3 grid, dim3 block, void **parameters, size_t, cudaStream_t) {
  seen(__PRETTY_FUNCTION__, parameters[0], bytes_of(KERNEL), grid.x, block.x);
  return cudaSuccess;
}
#define cudaLaunchKernel(KERNEL, ...) record<KERNEL>(__VA_ARGS__)
"""
SEEN = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int)


class Launch(NamedTuple):
    kernel: str
    dtype: int  # of enum fastinit_dtype
    parameters: bytes
    grid: int


def nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def flags() -> list[str]:
    """Those of setup.py's that bear on the values."""
    assigned = re.search(r"^NVCC_FLAGS = (\[.*\])$", SETUP.read_text(), re.M)
    return [flag for flag in ast.literal_eval(assigned[1]) if re.match("-std|-O|--fmad|--ftz|--prec|--use_fast", flag)]


def compiled(folder: pathlib.Path, targets) -> tuple[ctypes.CDLL, dict[int, str]]:
    """The host code as a library that records launches, and the PTX for each target; compiled side by side."""
    header, library = folder / "cuda_runtime.h", folder / "recorder.so"
    header.write_text(HEADER % (twin.STAND_IN / "cuda_runtime.h"))
    commands = [[nvcc(), "-ptx", f"-arch=compute_{n}", *flags(), str(CUDA), "-o", str(folder / f"{n}.ptx")] for n in targets]
    commands.append([twin.compiler(), *twin.FLAGS, "-I", str(folder), "-x", "c++", str(CUDA), "-o", str(library)])
    running = [subprocess.Popen(command) for command in commands]
    assert not any([process.wait() for process in running]), "it does not compile"
    return abi.load(library, abi.CUDA), {n: (folder / f"{n}.ptx").read_text() for n in targets}


def held_by(library: pathlib.Path) -> dict[int, str]:
    """The PTX for 8.0 in a library; empty where it has none, or nothing here reads it."""
    if not library.is_file() or not sass.tool():
        return {}
    _, found, text = sass.told("--dump-ptx", str(library)).partition(".target sm_80\n")
    return {80: text} if found else {}


class Emulated:
    """The CUDA library, where a launch executes the target's PTX."""

    def __init__(self, library, text):
        self.library, self.edited, self.changed, self.recorded = library, lambda text: text, lambda launch: launch, []
        self.launches = collections.Counter()
        self.callback = SEEN(self.record)  # kept: the library has but its address
        ctypes.c_void_p.in_dll(library, "seen").value = ctypes.cast(self.callback, ctypes.c_void_p).value
        self.texts = {named(entry, r"\d({})ILi(\d)E"): ".entry" + entry for entry in text.split(".entry")[1:]}
        self.kernel = functools.cache(lambda *name: ptx.Kernel(self.texts[name], THREADS))

    def record(self, name, parameters, size, grid, block):
        kernel, dtype = named(name.decode(), r"\b({})<(\d)\b")
        self.recorded.append(Launch(kernel, dtype, ctypes.string_at(parameters, size), grid if block == THREADS else 0))

    def execute(self, tensors):
        launches, self.recorded = self.recorded, []
        for launch in map(self.changed, launches):
            name = launch.kernel, launch.dtype
            kernel, text = self.kernel(*name), self.edited(self.texts[name])
            if text != self.texts[name]:
                kernel = ptx.Kernel(text, THREADS)
            assert launch.grid > 0
            for block in range(launch.grid):
                kernel.run(launch.parameters, ptx.Memory(tensors, kernel.shared_bytes), block, launch.grid)
            self.launches[launch.kernel] += 1

    def fill(self, plans):
        raw, kept = abi.packed(plans)
        twin.check(self.library, self.library.fastinit_cuda_fill(raw, len(plans), 0, None))
        del kept
        self.execute([plan.out for plan in plans])

    def blend(self, blendings):
        raw, kept = abi.packed_blendings(blendings)
        twin.check(self.library, self.library.fastinit_cuda_blend(raw, len(blendings), 0, None))
        del kept
        self.execute([tensor for each in blendings for tensor in (each.out, each.source)])

    def transform(self, values, words):
        out = torch.zeros(words.shape, dtype=values.dtype)
        raw, kept = abi.packed([Plan(out, values, 0, whole(out))])
        twin.check(self.library, self.library.fastinit_cuda_transform(raw, words.data_ptr(), words.numel(), 0, None))
        del kept
        self.execute([out, words])
        return out


def named(text, pattern):
    """A kernel's name and dtype: in mangled names, and as compilers print them."""
    name, dtype = re.search(pattern.format("|".join(KERNELS)), text).groups()
    return name, int(dtype)


# --- cases --------------------------------------------------------------------------------------------------------------------


@functools.cache
def values_of(law, dtype):
    """Of a law, or of words. No law has what the C ABI also takes, fmod with a small table: here of a normal cut at 2 sigmas."""
    if law != SMALL_FMOD:
        return constants(LAWS[law], dtype)
    cut, fmod = recipe(LAWS["2 sigmas"], dtype), recipe(LAWS["fmod"], dtype)
    return dataclasses.replace(fmod, table=cut.table, top_bits=cut.top_bits, offset=cut.offset, scale=cut.scale)


def plan_of(n, law, dtype, start=0, key=KEY, box=None):
    return Plan(torch.ones(n).to(dtype), values_of(law, dtype), key, box or Box(start, 1, n, n))


def tile_of(dtype):
    return 1024 if dtype.itemsize == 8 else 4096


def laws_of(dtype, everything):
    if not dtype.is_floating_point:
        return ["uniform"]
    return [*LAWS, SMALL_FMOD] if everything or dtype is torch.float32 else list(FEW)


def fills(everything):
    """Lists of plans: by tiles, one tensor and many; by elements, of any start, box and strides."""
    for dtype in DTYPES:
        laws = laws_of(dtype, everything)
        for law in laws:
            yield from by_tiles(law, dtype)
            yield [plan_of(1025, law, dtype, 2**34 + 5)]
        yield from by_lines(laws[0], dtype)
        yield from lists(laws_of(dtype, True), dtype)
        if everything:
            for shift in range(len(laws)):  # in lists of full tiles, too
                yield [plan_of(tile_of(dtype) - shift, law, dtype) for law in (laws[shift], laws[shift - 1])]
            yield from ([plan_of(n, laws[-1], dtype, 8)] for n in (*range(1, 20), 31, 33, tile_of(dtype)))
            yield from ([plan_of(70, law, dtype, 2**62 + 4, key)] for law in FEW for key in (0, 2**32 - 1, 2**63, 2**64 - 1))


def by_tiles(law, dtype):
    """Over a tile's end, with a rest; and a vector's part."""
    yield [plan_of(tile_of(dtype) + 37, law, dtype, 2**35 + 8)]
    yield [plan_of(13, law, dtype)]


def by_lines(law, dtype):
    """More tiles than the grid's 4 blocks; a rectangle's lines of more than a tile; a start where the counter carries."""
    tile = tile_of(dtype)
    yield [plan_of(5 * tile + 333, law, dtype, 4)]
    yield [plan_of(4 * (tile + 64), law, dtype, box=Box(2**34 + 4, 4, tile + 64, 2 * tile))]
    yield [plan_of(1600, law, dtype, 2**34 - 1024)]


def lists(laws, dtype):
    """Law after law, then the first ones again: tables are brought anew. More tiles than blocks; two tensors of one law."""
    sizes = itertools.cycle([70, 16, tile_of(dtype) + 5, 1])
    yield [plan_of(next(sizes), law, dtype, 4 * i, KEY + i) for i, law in enumerate([*laws, *laws[:3]])]
    yield [plan_of(n, laws[-1], dtype, 0, n) for n in (40, 2 * tile_of(dtype))]


def elements(everything):
    for dtype in DTYPES:
        for law in laws_of(dtype, True) if everything else laws_of(dtype, False)[-1:]:
            yield from by_elements(law, dtype)


def by_elements(law, dtype):
    """Of 1 to 6 axes, with gaps and without; not at 16 bytes; boxed, of odd lines."""
    base, values = torch.ones(40, 61).to(dtype), values_of(law, dtype)
    views = [base[:, :30].t(), base[::3, 1::2], base.view(-1)[1:1200], base[3, 4]]
    views += [base.as_strided((3, 2, 4, 5), (600, 100, 3, 20)), base.as_strided((2, 2, 2, 2, 2, 3), (900, 400, 200, 100, 3, 20))]
    for view in (*views, base.as_strided((3, 4, 5), (700, 30, 3)), base.as_strided((2, 2, 2, 2, 3), (900, 400, 200, 100, 20))):
        yield [Plan(view, values, KEY, whole(view)._replace(start=2**34 + 5))]
    yield [Plan(base[:15].t(), values, 2**64 - 5, Box(7, 61, 15, 77))]
    yield [plan_of(91, law, dtype, box=Box(11, 7, 13, 2**33 + 9))]


def words_of(dtype):
    bits = 8 * max(4, dtype.itemsize)
    step = 2**bits // 5000
    words = [-(2 ** (bits - 1)) + i * step for i in range(5000)] + [0, -1, 1, -2, 2 ** (bits - 1) - 1]
    return torch.tensor(words).to(torch.int64 if bits == 64 else torch.int32)


# --- comparisons ----------------------------------------------------------------------------------------------------------------


def every_byte(tensor):
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def is_right(gpu, *plans):
    """Whether a fill of the list gives each tensor the reference's bits, and leaves what lies between its elements."""
    before = [every_byte(plan.out).clone() for plan in plans]
    gpu.fill(list(plans))
    for plan, expected in zip(plans, before, strict=True):
        out = plan.out
        reference.fill([plan._replace(out=expected.view(out.dtype).as_strided(out.shape, out.stride(), out.storage_offset()))])
    return all(torch.equal(every_byte(plan.out), expected) for plan, expected in zip(plans, before, strict=True))


def maps_right(gpu, law, dtype):
    values, words = values_of(law, dtype), words_of(dtype)
    expected = reference.transform(values, words.long()) if dtype.is_floating_point else words
    return same_bits(gpu.transform(values, words), expected)


def blends(everything):
    """By tiles, with a rest, in lists; by elements, of any start and strides; sources apart, and not read."""
    for dtype in FLOAT_DTYPES:
        for law in laws_of(dtype, True)[:-1] if everything else FEW[:1] if dtype is not torch.float32 else FEW:
            yield [onto(tile_of(dtype) + 37, dtype, law=law, members=2), onto(40, dtype, law=law, keep=0.0, members=3)]
            yield [onto(130, dtype, law=law, box=Box(2**34 + 5, 1, 130, 130), members=1)]
        base = any_bits(2000, dtype).view(40, 50)
        yield [blending(base[::9, 1::2]), onto(99, dtype, source=any_bits(198, dtype, 1)[::2])]


def blends_right(gpu, given):
    expected = [copy_of(each) for each in given]
    reference.blend(expected)
    gpu.blend(given)
    return all(same_bits(got.out, wanted.out) for got, wanted in zip(given, expected, strict=True))


def with_long_quotients(launch):
    """As of 2^32 elements or more: without `narrow` of struct Place, which has 64 bytes in front of `axes` and it."""
    if launch.kernel != "fill_elements":
        return launch
    assert launch.parameters[68:72] == b"\1\0\0\0", "struct Place has changed"
    return launch._replace(parameters=launch.parameters[:68] + bytes(4) + launch.parameters[72:])


def results(gpu, everything):
    """(what was filled, whether it is right)."""
    for plans in itertools.chain(fills(everything), elements(everything)):
        yield [(p.recipe.kind, p.out.dtype, p.out.shape, p.out.stride(), p.box) for p in plans], is_right(gpu, *plans)
    for dtype in DTYPES:
        for law in laws_of(dtype, everything):
            yield ("map", law, dtype), maps_right(gpu, law, dtype)
    for given in blends(everything):
        yield [("blend", b.recipe.kind, b.out.dtype, b.out.shape, b.out.stride(), b.box) for b in given], blends_right(gpu, given)
    gpu.changed = with_long_quotients
    for plans in elements(True) if everything else by_elements(FEW[0], torch.bfloat16):
        yield ("long quotients", plans[0].out.dtype, plans[0].out.shape, plans[0].box), is_right(gpu, *plans)
    gpu.changed = lambda launch: launch


def controls(gpu):
    """What must not pass."""
    edits = {
        "a wrong constant": (r"-766435501\b|\b3528531795\b", "-766435499"),  # a multiplier of Philox
        "a pair the other way round": (r"(cvt\.rn\.bf16x2\.f32\s+\S+ )(\S+), (\S+);", r"\1\3, \2;"),
        "stores beyond the tensor": (r"(st\.global\S+\s+\[%rd\d+)[^]]*", r"\g<1>+65536"),
    }
    for name, (pattern, replacement) in edits.items():
        gpu.edited = functools.partial(re.sub, pattern, replacement)
        try:
            yield name, not is_right(gpu, plan_of(256, FEW[0], torch.bfloat16))
        except IndexError:
            yield name, "beyond" in name
    gpu.edited = lambda text: text


def is_target_right(library, target, text, everything):
    gpu = Emulated(library, text)
    found, caught = list(results(gpu, everything)), dict(controls(gpu)) if target == 80 else {}
    wrong = [case for case, right in found if not right]
    print(*(f"WRONG: {case}" for case in wrong), sep="\n", end="\n" if wrong else "")
    launches = ", ".join(f"{gpu.launches[name]} {name}" for name in KERNELS)
    print(f"compute_{target}: {len(found)} fills, {len(wrong)} wrong; launches: {launches}; caught: {caught}")
    for name in KERNELS:
        executed = [gpu.kernel(*key).executed for key in gpu.texts if key[0] == name]
        print(f"  {name}: {sum(map(sum, executed))} of {sum(map(len, executed))} instructions executed")
    return not wrong and all(caught.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--library", type=pathlib.Path)
    arguments = parser.parse_args()
    held = held_by(arguments.library) if arguments.library else {}
    with tempfile.TemporaryDirectory() as folder:
        library, made = compiled(pathlib.Path(folder), () if held else (80, 75) if arguments.all else (80,))
    print(f"the PTX of {arguments.library}" if held else "PTX compiled anew")
    right = [is_target_right(library, target, text, arguments.all) for target, text in (held or made).items()]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
