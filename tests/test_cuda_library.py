"""The CUDA library as it is built: what it exports, how it behaves without a driver, its machine code; and setup.py's choices.

FASTINIT_CUDA=1 (as at installation) says that it must be there: tests then fail, not skip.
"""

import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import torch
from helpers.hostile import raw

from benchmarks import cuda_code, sass
from fastinit._backends import abi, cpu, cuda

ROOT = pathlib.Path(__file__).parents[1]
HEADER = (ROOT / "csrc" / "fastinit.h").read_text()
LIBRARY = cuda.library_or_reason()
REQUIRED = os.environ.get("FASTINIT_CUDA") == "1"
needs_library = pytest.mark.skipif(isinstance(LIBRARY, str) and not REQUIRED, reason=str(LIBRARY))
needs_sass = pytest.mark.skipif(sass.tool() is None, reason="needs cuobjdump, which Triton brings")
PHILOX = 10  # instructions, of a word alone
LIMITS = {  # where a pair of 16-bit values is clamped in two instructions; in fill_list, ptxas adds copies on some GPUs
    ("uniform", "float32"): 20,
    ("uniform", "bfloat16"): 20,
    ("uniform from a bound", "float32"): 20,
    ("uniform from a bound", "bfloat16"): 20,
    ("symmetric, 32 cells", "bfloat16"): 32,
}
TABLED = [f"{kind}, {cells} cells" for kind in ("symmetric", "two-sided", "fmod") for cells in (32, 64)]
TILED_VARIANTS = ["uniform", "uniform from a bound", *TABLED]


def declared(part: str) -> set[str]:
    return set(re.findall(r"^FASTINIT_API .*?(fastinit_\w+)\(", part, re.M))


def test_the_tables_of_functions_are_the_header_s():
    common, cpu, cuda = re.split(r"/\* libfastinit\w*\.so -+ \*/", HEADER)
    assert declared(common) == set(abi.COMMON)
    assert declared(common) | declared(cpu) == set(abi.CPU)
    assert declared(common) | declared(cuda) == set(abi.CUDA)


@needs_library
def test_exactly_the_header_s_functions_are_exported():
    """Above all none of the CUDA runtime inside, which would meet torch's."""
    if not shutil.which("nm"):
        pytest.skip("needs nm")
    told = subprocess.run(["nm", "-D", "--defined-only", cuda.library_path()], capture_output=True, text=True, check=True)
    assert {line.split()[-1].split("@")[0] for line in told.stdout.splitlines()} == set(abi.CUDA)


@needs_library
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_driver_it_loads_and_says_so():
    assert not isinstance(LIBRARY, str), LIBRARY
    plan = raw()
    for status in (LIBRARY.fastinit_cuda_check(0), LIBRARY.fastinit_cuda_fill(bytes(plan), 1, 0, None)):
        assert status > 1000 and re.search("driver|device", LIBRARY.fastinit_message(status).decode())
    assert LIBRARY.fastinit_cuda_fill(bytes(raw(kind=9)), 1, 0, None) == 2, "a bad plan is refused before a device is asked for"
    assert bool((plan.kept[0] == 0).all())
    assert cuda.unavailable(torch.device("cuda")) == "there is no cuda device here"


def test_a_missing_library_names_its_compiler(tmp_path):
    assert "nvcc" in abi.load(tmp_path / "absent.so", abi.CUDA) and "C++" in abi.load(tmp_path / "absent.so", abi.CPU)
    reason = abi.load(cpu.library_path(), abi.CUDA) if cpu.library_path().is_file() else "fastinit_cuda_check"
    assert "fastinit_cuda_check" in reason


# --- machine code -------------------------------------------------------------------------------------------------------------


@pytest.mark.full
@needs_library
@needs_sass
def test_no_kernel_spills_or_has_a_stack():
    assert cuda_code.targets()
    for target in cuda_code.targets():
        kernels = cuda_code.kernels(target)
        floats = cuda_code.DTYPES[:6]
        made = [*itertools.product(cuda_code.FILLS, cuda_code.DTYPES), *itertools.product(cuda_code.BLENDS, floats)]
        assert sorted((k.kernel, k.dtype) for k in kernels) == sorted(made)
        assert not [k for k in kernels if k.spills or k.stack]


@pytest.mark.full
@needs_library
@needs_sass
def test_instructions_an_element_and_16_byte_stores():
    for target in cuda_code.targets():
        loops = cuda_code.tile_loops(target)
        for kernel in cuda_code.TILED:
            for dtype in ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"):
                variants = [loop.variant for loop in loops if (loop.kernel, loop.dtype) == (kernel, dtype)]
                assert sorted(variants) == sorted(TILED_VARIANTS), (kernel, dtype)
        for loop in loops:
            assert loop.widest_store == 128 and loop.an_element > PHILOX, loop
            limit = LIMITS.get((loop.variant, loop.dtype))
            if limit and target != "sm_75":
                copies = 0.25 if loop.kernel == "fill_list" and target not in ("sm_80", "sm_90") else 0
                assert loop.an_element <= limit + copies, loop


@pytest.mark.full
@needs_library
@needs_sass
def test_instructions_an_element_and_member_of_blends():
    """At most 4 more than a fill in the dtype, the loop over members included; loads and stores of 16 bytes."""
    for target in (target for target in cuda_code.targets() if target != "sm_75"):
        fills = {(f.dtype, f.variant): f.an_element for f in cuda_code.tile_loops(target) if f.kernel == "fill_one"}
        found = cuda_code.member_loops(target)
        for dtype in ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"):
            assert sorted(each.variant for each in found if each.dtype == dtype) == sorted(TILED_VARIANTS)
        for each in found:
            assert each.widest_store == each.widest_load == 128, each
            if each.dtype != "float64":
                assert PHILOX < each.a_member <= fills[each.dtype, each.variant] + 4, each
                assert each.one_member > each.a_member


@needs_library
@needs_sass
def test_ptx_for_gpus_to_come():
    assert re.search(r"sm_(80|75)\.ptx", sass.told("--list-ptx", str(cuda_code.library())))


# --- setup.py -----------------------------------------------------------------------------------------------------------------


def build(folder, **environment) -> subprocess.CompletedProcess:
    """Of CUDA's library alone."""
    merged = {**os.environ, "FASTINIT_NATIVE": "0", "FASTINIT_CUDA": "1", "PATH": f"{folder}:{os.environ['PATH']}", **environment}
    places = ["--build-lib", str(folder / "lib"), "--build-temp", str(folder / "temp")]
    command = [sys.executable, "setup.py", "-v", "build_ext", *places]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=merged, timeout=300)


@pytest.fixture
def stand_in(tmp_path):
    """An nvcc that says what it was called with, on a machine with GPUs of these compute capabilities."""
    pytest.importorskip("setuptools")

    def make(release: str, gpus: str = "") -> str:
        path, tool = tmp_path / "nvcc", tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\nprintf '{gpus}'\n" if gpus else "#!/bin/sh\necho no devices were found\nexit 6\n")
        tool.chmod(0o755)
        path.write_text(
            f"#!/bin/sh\ncase $1 in\n--version) echo 'Cuda compilation tools, release {release}, V{release}.1';;\n"
            "--list-gpu-arch) printf 'compute_70\\ncompute_75\\ncompute_80\\ncompute_90\\ncompute_120\\n';;\n"
            f'*) echo "$@" >"{tmp_path}/called";;\nesac\n'
        )
        path.chmod(0o755)
        return str(path)

    return make


def called_with(folder, *wanted: str) -> bool:
    text = (folder / "called").read_text()
    assert "--fmad=false" in text and "-cudart static" in text and text.count("-gencode") == len(wanted)
    return all(f"arch={pair} " in text for pair in wanted)


PTX = "compute_80,code=compute_80"


def test_every_architecture_that_nvcc_knows(stand_in, tmp_path):
    done = build(tmp_path, CUDACXX=stand_in("12.4"), FASTINIT_CUDA_ARCHS="all")
    assert done.returncode == 0, done.stderr
    assert called_with(tmp_path, "compute_75,code=sm_75", *(f"compute_80,code=sm_{n}" for n in (80, 90, 120)), PTX)


@pytest.mark.full
@pytest.mark.parametrize(
    "gpus, pairs",
    [
        ("", ["compute_80,code=sm_80", "compute_80,code=sm_90", PTX]),
        ("9.0\\n9.0\\n", ["compute_80,code=sm_90", PTX]),
        ("12.0\\n7.5\\n", ["compute_75,code=sm_75", "compute_80,code=sm_120", PTX]),
        ("7.5\\n", ["compute_75,code=sm_75", "compute_75,code=compute_75"]),
        ("13.1\\n", ["compute_80,code=sm_80", "compute_80,code=sm_90", PTX]),  # later than this nvcc: PTX serves it
        ("6.1\\n8.0\\n", ["compute_80,code=sm_80", PTX]),  # one too old: plain torch serves it
    ],
)
def test_the_default_is_for_the_gpus_of_this_machine(stand_in, tmp_path, gpus, pairs):
    done = build(tmp_path, CUDACXX=stand_in("12.4", gpus), FASTINIT_CUDA_ARCHS="")
    assert done.returncode == 0, done.stderr
    assert called_with(tmp_path, *pairs)
    assert "CUDA library for compute capabilities" in done.stdout


@pytest.mark.full
def test_chosen_architectures(stand_in, tmp_path):
    done = build(tmp_path, CUDACXX=stand_in("13.0"), FASTINIT_CUDA_ARCHS="9.0; 75")
    assert done.returncode == 0, done.stderr
    assert called_with(tmp_path, "compute_75,code=sm_75", "compute_80,code=sm_90", PTX)
    refused = build(tmp_path, CUDACXX=stand_in("13.0"), FASTINIT_CUDA_ARCHS="61")
    assert refused.returncode == 1 and "'61': this nvcc knows 75 80 90 120" in refused.stdout + refused.stderr


@pytest.mark.full
def test_an_old_nvcc_is_refused_or_passed_over(stand_in, tmp_path):
    old = stand_in("12.3")
    refused = build(tmp_path, CUDACXX=old)
    assert refused.returncode == 1 and "CUDA 12.3: fastinit needs 12.4 or newer" in refused.stdout + refused.stderr
    passed = build(tmp_path, CUDACXX=old, FASTINIT_CUDA="")
    assert passed.returncode == 0 and "12.4 or newer" in passed.stdout + passed.stderr
    silent = build(tmp_path, CUDACXX=old, FASTINIT_CUDA="0")
    assert silent.returncode == 0 and "12.4" not in silent.stdout + silent.stderr
    assert not (tmp_path / "called").exists()
