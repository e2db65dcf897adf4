"""The AVX-512 and NEON sources on any processor: compiled against portable definitions of their intrinsics (SIMDe).

Proves the source: lane order, look-ups, conversions. The machine code of a processor that has the instruction set is
proved by tests/test_native.py on that processor.
"""

import ctypes
import pathlib
import shutil
import subprocess

import pytest
import torch
from helpers.blends import copy_of, onto
from helpers.laws import KEY, LAWS, filled, same_bits

from fastinit._backends import abi, reference
from fastinit._core import check, recipes
from fastinit._core.plan import Box, Plan, whole

pytestmark = pytest.mark.full

ROOT = pathlib.Path(__file__).parents[1]
simde = pytest.importorskip("simde_py")


@pytest.fixture(scope="module", params=["avx512", "neon"])
def library(request, tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("c++")
    if not compiler:
        pytest.skip("needs a C++ compiler")
    path = tmp_path_factory.mktemp("emulated") / f"{request.param}.so"
    folder = ROOT / "tests" / "emulation" / "isas" / request.param
    # -ffp-contract=off as the library is built; without -mfma, SIMDe's fused multiply-add is libm's exact one
    flags = ["-std=c++17", "-O0", "-DSIMDE_NO_INLINE", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
    includes = [f"-I{folder}", f"-I{simde.get_include()}"]
    subprocess.run([compiler, *flags, *includes, str(folder / "kernel.cpp"), "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


def emulated_fill(library, law, dtype, count, box, first=0):
    out = torch.full((count,), -1.0).to(dtype)
    raw, kept = abi.packed([Plan(out, recipes.recipe(law, dtype), KEY, box)])
    library.emulated_fill(raw, ctypes.c_int64(first), ctypes.c_int64(count), ctypes.c_void_p(out.data_ptr()))
    del kept
    return out


@pytest.mark.parametrize("dtype", check.FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_kind_and_dtype(library, law, dtype):
    for box in (Box(0, 1, 1021, 1021), Box(2**33 + 3, 1, 1021, 1021), Box(2**62 + 1, 1021, 1, 5)):
        got = emulated_fill(library, law, dtype, 1021, box)
        assert same_bits(got, filled(reference, law, dtype, 1021, box))


def test_lengths_and_starts_around_a_group(library):
    law = LAWS["2 sigmas"]
    expected = filled(reference, law, torch.float32, 300)
    for start in range(5):
        for count in [*range(1, 70), 127, 128, 129, 200]:
            got = emulated_fill(library, law, torch.float32, count, Box(start, 1, count, count))
            assert torch.equal(got, expected[start : start + count]), (start, count)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_given_words(library, law):
    words = torch.arange(-(2**31), 2**31, 41_943_037, dtype=torch.int64)
    words = torch.cat([words, torch.tensor([0, -1, 1, -2, 2**31 - 1, -(2**31)])]).to(torch.int32)
    recipe, out = recipes.recipe(law, torch.float32), torch.empty(len(words))
    raw, kept = abi.packed([Plan(out, recipe, 0, whole(out))])
    at = [ctypes.c_void_p(words.data_ptr()), ctypes.c_int64(len(words)), ctypes.c_void_p(out.data_ptr())]
    library.emulated_transform(raw, *at)
    del kept
    assert torch.equal(out, reference.transform(recipe, words.long()))


# --- blends -------------------------------------------------------------------------------------------------------------------


def check_blend(library, given):
    expected = copy_of(given)
    reference.blend([expected])
    raw, kept = abi.packed_blendings([given])
    at = [ctypes.c_int64(given.out.numel()), ctypes.c_void_p(given.source.data_ptr()), ctypes.c_void_p(given.out.data_ptr())]
    library.emulated_blend(raw, ctypes.c_int64(0), *at)
    del kept
    assert same_bits(given.out, expected.out), (given.box, given.keep, len(given.keys))


@pytest.mark.parametrize("dtype", check.FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_blends_of_every_kind_and_dtype(library, law, dtype):
    """Onto any bits: every one of a narrow dtype."""
    for count, box, keep in (
        (4099, None, 0.625),
        (1021, Box(2**34 - 77, 1, 1021, 1021), 1.0),
        (1021, Box(2**62 + 1, 1021, 1, 5), 0.0),
    ):
        check_blend(library, onto(count, dtype, law=law, box=box, keep=keep, members=3))


@pytest.mark.parametrize("dtype", check.FLOAT_DTYPES, ids=str)
def test_blends_onto_every_pattern(library, dtype):
    """Of two bytes or fewer, with a keep that changes none but NaN; and with one that makes others subnormal."""
    count = 256 ** min(dtype.itemsize, 2)
    patterns = torch.arange(count).to({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize])
    if dtype.itemsize > 2:
        patterns = patterns << 8 * dtype.itemsize - 16
    for keep, members in ((1.0, 0), (2.0**-6, 0), (-(2.0**-140 if dtype is torch.float64 else 2.0**-120), 1)):
        one = onto(count, dtype, keep=keep, members=members)
        check_blend(library, one._replace(source=patterns.view(dtype)))


def test_blends_of_lengths_and_starts_around_a_group(library):
    for dtype in (torch.float32, torch.bfloat16):
        for start in (0, 3):
            for count in [*range(1, 36), 63, 64, 65, 127, 129, 2047, 2048, 2049]:
                check_blend(library, onto(count, dtype, box=Box(start, 1, count, count)))
