"""Compile fills and blends for a GPU that is not here, execute their PTX on the CPU, and compare the bits.

A program (`PYTHONPATH=.:tests python tests/emulation/ptx_fills.py`), because a process that interprets kernels, as that of the
other tests, cannot compile them. Its arguments: compute capabilities, such as 90. Exit status 1 on a difference.
"""

import itertools
import re
import sys

import torch
import triton
from emulation import ptx
from helpers.blends import copy_of, onto
from helpers.laws import KEY, LAWS, same_bits
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from fastinit._backends import reference, triton_blend
from fastinit._backends import triton as backend
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.plan import Box, Plan, whole
from fastinit._core.recipes import recipe, words_recipe

TARGETS = (80, 90, 100)
MOST = 90  # of this one every law and dtype, and every kind of place
COMMON = (torch.float32, torch.bfloat16)  # in every law; compiling all takes minutes
FILLS, BLENDS = ("fill_blocks", "fill_list", "fill_elements"), ("blend_list", "blend_elements")
tensors: list[torch.Tensor] = []  # what the kernels of a list may write besides their arguments


class Absent(DriverBase):
    """The driver of a GPU that is not here: enough to compile what a launch would."""

    def __init__(self, capability):
        self.capability = capability
        self.get_current_device = lambda: capability  # Triton keeps what it compiled by the device's number
        self.get_current_stream = lambda device: 0

    @staticmethod
    def is_active():
        return True

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def get_active_torch_device(self):
        return torch.device("cpu")

    def nothing(self, *_):
        return None

    get_benchmarker = map_python_to_cpp_type = get_device_interface = get_empty_cache_for_benchmark = clear_cache = nothing


def compile_for(capability):
    triton.runtime.driver.set_active(Absent(capability))
    backend.is_ptx = lambda device: True


class Emulated:
    """In the place of a kernel of the backend: a launch compiles it and executes the PTX."""

    def __init__(self, kernel):
        self.kernel, self.launches, self.edited = kernel, 0, lambda text: text

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            made = self.kernel.warmup(*arguments, grid=grid, **options)
            assert f".target sm_{triton.runtime.driver.active.capability}" in made.asm["ptx"]
            entry = ptx.Kernel(self.edited(made.asm["ptx"]), made.metadata.num_warps * ptx.WARP)
            given = [a for p, a in zip(self.kernel.params, arguments, strict=False) if not p.is_constexpr]
            scratch = [0, 0]  # pointers that Triton adds
            numbers = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in given] + scratch
            buffers = [a for a in given if isinstance(a, torch.Tensor)] + tensors
            for program in range(grid[0]):
                entry.run(numbers, ptx.Memory(buffers, made.metadata.shared), program, grid[0])
            self.launches += 1

        return launch


def is_right(*plans):
    """Whether a fill of the list gives each tensor the bits of the reference."""
    tensors[:] = [plan.out for plan in plans]
    backend.fill(list(plans))
    for plan in plans:
        expected = torch.empty(plan.out.shape, dtype=plan.out.dtype)
        reference.fill([plan._replace(out=expected)])
        if not same_bits(plan.out, expected):
            print(f"WRONG: {plan.recipe.kind} {plan.out.dtype} {tuple(plan.out.shape)} {plan.out.stride()} {plan.box}")
            return False
    return True


def fills(targets):
    """Lists of plans: every law, beyond the end of a tile and from a start beyond 2^34; boxes, strides, lists, words."""
    for capability, (name, law), dtype in itertools.product(targets, LAWS.items(), FLOAT_DTYPES):
        compile_for(capability)
        if (capability != MOST or dtype not in COMMON) and name not in ("2 sigmas", "half-normal"):
            continue
        if capability != MOST and dtype not in COMMON:
            continue
        for n, start in ((4133, 2**35 + 8), (13, 0)):
            yield [Plan(torch.zeros(n, dtype=dtype), recipe(law, dtype), KEY, Box(start, 1, n, n))]
    compile_for(MOST)
    for dtype in (torch.bfloat16, torch.float8_e5m2):
        values, laws = recipe(LAWS["2 sigmas"], dtype), itertools.cycle([LAWS["2 sigmas"], LAWS["uniform"], LAWS["normal"]])
        yield [Plan(torch.zeros(21 * 20, dtype=dtype), values, KEY, Box(8, 21, 20, 2**31 + 4))]
        if dtype not in COMMON:
            continue
        yield [Plan(torch.zeros(40, 30, dtype=dtype).t(), values, KEY, Box(5, 1, 1200, 1200))]
        yield [Plan(torch.zeros(1501, dtype=dtype)[1:], values, KEY, Box(7, 100, 15, 77))]
        yield [
            Plan(torch.zeros(n, dtype=dtype), recipe(next(laws), dtype), KEY + n, Box(n * 4, 1, n, n)) for n in (4, 5000, 33, 16)
        ]
    for dtype in (torch.int32, torch.int64):
        out = torch.zeros(1201, dtype=dtype)
        yield [Plan(out, words_recipe(dtype), 2**64 - 5, whole(out))]


def is_blend_right(*blendings):
    """The same of a list of blendings."""
    tensors[:] = [each for b in blendings for each in (b.out, b.source, backend.uploaded(b.recipe, b.out.device))]
    expected = [copy_of(each) for each in blendings]
    reference.blend(expected)
    backend.blend(list(blendings))
    wrong = [b for b, wanted in zip(blendings, expected, strict=True) if not same_bits(b.out, wanted.out)]
    print(*(f"WRONG: {b.recipe.kind} {b.out.dtype} {tuple(b.out.shape)} {b.box}\n" for b in wrong), sep="", end="")
    return not wrong


def blends(targets):
    """By tiles, in lists, with several members; by elements, of any start and from another tensor."""
    for capability, dtype in itertools.product(targets, FLOAT_DTYPES):
        compile_for(capability)
        if capability == MOST or dtype in COMMON:
            yield [onto(4133, dtype), onto(40, dtype, law="normal", keep=0.0, members=3)]
            yield [onto(130, dtype, box=Box(2**34 + 5, 1, 130, 130), members=1, source=onto(260, dtype).out[::2])]


def controls(kernel):
    """Yield whether errors made on purpose are caught: one wrong constant in the text, and stores beyond the tensor."""
    out = torch.zeros(256)
    plan = Plan(out, recipe(LAWS["2 sigmas"], out.dtype), KEY, whole(out))
    kernel.edited = lambda text: text.replace("-766435501", "-766435499")  # a multiplier of Philox
    yield "a wrong constant", not is_right(plan)
    kernel.edited = lambda text: re.sub(r"(st\.global\S+ \[ %rd\d+ \+ )0", r"\g<1>65536", text)
    try:
        is_right(plan)
        yield "stores beyond the tensor", False
    except IndexError:
        yield "stores beyond the tensor", True


def main():
    targets = tuple(map(int, sys.argv[1:])) or TARGETS
    kernels = {}
    for module, name in [(backend, name) for name in FILLS] + [(triton_blend, name) for name in BLENDS]:
        kernels[name] = Emulated(getattr(module, name))
        setattr(module, name, kernels[name])
    results = [is_right(*plans) for plans in fills(targets)]
    results += [is_blend_right(*blendings) for blendings in blends(targets)]
    compile_for(targets[0])
    caught = dict(controls(kernels["fill_blocks"]))
    launches = ", ".join(f"{kernel.launches} {name}" for name, kernel in kernels.items())
    print(f"{len(results)} fills and blends, {results.count(False)} wrong; launches: {launches}; caught: {caught}")
    return 0 if all(results) and all(caught.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
