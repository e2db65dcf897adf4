"""The native library: bit for bit the reference on every instruction set, thread count, box, stride and list; its refusals."""

import ctypes
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import pytest
import torch
from helpers.hostile import REFUSED, raw
from helpers.laws import KEY, LAWS, filled, same_bits
from helpers.quick import examples, some
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastinit._backends import abi, cpu, reference
from fastinit._core import check, laws, recipes
from fastinit._core.plan import Box, Plan, whole

pytestmark = pytest.mark.skipif(
    cpu.unavailable(torch.device("cpu")) is not None, reason=f"native: {cpu.unavailable(torch.device('cpu'))}"
)
HERE = [name for name, reason in cpu.isas().items() if reason is None]


@pytest.mark.one_of_each
@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("dtype", check.FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_kind_and_dtype_on_every_isa(isa, dtype, law):
    boxes = [None, Box(2**33 + 3, 1, 1021, 1021), Box(2**62 + 1, 1, 1021, 1021), Box(2**34 + 5, 1021, 1, 77)]
    with cpu.forced_isa(isa):
        for box in boxes:
            assert same_bits(filled(cpu, law, dtype, 1021, box), filled(reference, law, dtype, 1021, box))


@pytest.mark.parametrize("isa", HERE)
def test_every_length_and_start_around_a_group(isa):
    law, dtype = LAWS["2 sigmas"], torch.float32
    expected = filled(reference, law, dtype, 400)
    with cpu.forced_isa(isa):
        for start in range(0, 9):
            for count in [*range(1, 80), 127, 128, 129, 255, 256, 257, 300]:
                got = filled(cpu, law, dtype, count, Box(start, 1, count, count))
                assert torch.equal(got, expected[start : start + count]), (start, count)


@pytest.mark.one_of_each
@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("rows, cols, pitch", [(7, 13, 40), (64, 1, 3), (3, 1000, 1001), (5, 8, 8), (4, 6, 0)])
def test_boxes_are_cut_from_the_whole(isa, rows, cols, pitch):
    whole_tensor = filled(reference, LAWS["normal"], torch.bfloat16, 5000)
    index = 11 + torch.arange(rows)[:, None] * pitch + torch.arange(cols)
    with cpu.forced_isa(isa):
        got = filled(cpu, LAWS["normal"], torch.bfloat16, rows * cols, Box(11, rows, cols, pitch))
    assert same_bits(got, whole_tensor[index].flatten())


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 64])
def test_any_number_of_threads(threads):
    count, before = 700_001, torch.get_num_threads()
    expected = filled(reference, LAWS["2 sigmas"], torch.float32, count)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(filled(cpu, LAWS["2 sigmas"], torch.float32, count), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.t(),
        lambda t: t[::3, 1::2],
        lambda t: t[:, 5],
        lambda t: t.reshape(8, 5, 5, -1).permute(0, 3, 1, 2),
        lambda t: t.as_strided((3, 2, 4, 5), (1000, 100, 3, 20)),
    ],
    ids=["transposed", "strided", "column", "channels last", "gaps"],
)
@pytest.mark.one_of_each
def test_strides_keep_the_logical_order_and_the_gaps(dtype, view):
    base = torch.full((200, 61), 0.5).to(dtype)
    out, law = view(base), LAWS["fmod"]
    untouched = torch.ones_like(base, dtype=torch.bool)
    view(untouched).fill_(False)
    cpu.fill([Plan(out, recipes.recipe(law, dtype), KEY, whole(out))])
    assert same_bits(out, filled(reference, law, dtype, out.numel()).view(out.shape))
    assert bool((base.double()[untouched] == 0.5).all())


def test_a_list_of_plans_is_one_call_with_the_same_values():
    sizes = [1, 70_000, 3, 0, 200_001, 17]
    plans = [
        Plan(torch.empty(n, dtype=dtype), recipes.recipe(law, dtype), KEY + i, Box(i, 1, n, n))
        for i, (n, law, dtype) in enumerate(zip(sizes, LAWS.values(), check.FLOAT_DTYPES, strict=False))
    ]
    cpu.fill(plans)
    for plan in plans:
        alone = torch.empty_like(plan.out)
        reference.fill([plan._replace(out=alone)])
        assert same_bits(plan.out, alone)


@pytest.mark.one_of_each
@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint32, torch.int64, torch.uint64], ids=str)
def test_words(isa, dtype):
    a, b = torch.empty(1003, dtype=dtype), torch.empty(1003, dtype=dtype)
    recipe, box = recipes.words_recipe(dtype), Box(2**40 + 1, 1, 1003, 1003)
    with cpu.forced_isa(isa):
        cpu.fill([Plan(a, recipe, KEY, box)])
    reference.fill([Plan(b, recipe, KEY, box)])
    assert same_bits(a, b)


@settings(max_examples=examples(150))
@example(name="truncated_normal", dtype=torch.float32, mean=0.0, log_std=0.0, bounds=(-6.3, 6.3))
@example(name="truncated_normal", dtype=torch.float16, mean=-(2.0**-81), log_std=-49.86, bounds=(0.0, 33.0))
@given(
    name=st.sampled_from(["uniform", "normal", "truncated_normal", "fmod_normal"]),
    dtype=st.sampled_from(check.FLOAT_DTYPES),
    mean=st.one_of(st.just(0.0), st.floats(-1e6, 1e6)),
    log_std=st.floats(-60, 20),
    bounds=st.tuples(st.floats(-40, 40), st.floats(2.0**-9, 40)),
)
def test_any_law_on_every_isa(name, dtype, mean, log_std, bounds):
    """Bounds in sigmas; where the law cannot be had, the refusal comes before any backend."""
    std, (low, high) = 2.0**log_std, bounds
    low, high = mean + std * low, mean + std * high
    arguments = {
        "uniform": (low, high),
        "normal": (mean, std),
        "truncated_normal": (mean, std, low, high),
        "fmod_normal": (mean, std, mean - (high - mean), high),
    }[name]
    try:
        law = getattr(laws, name)(*arguments)
        expected = filled(reference, law, dtype, 300)
    except ValueError:
        return
    for isa in HERE:
        with cpu.forced_isa(isa):
            assert same_bits(filled(cpu, law, dtype, 300), expected), isa


@pytest.mark.one_of_each
@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_given_words(isa, law):
    words = torch.arange(-(2**31), 2**31, 4_194_301, dtype=torch.int64)
    words = torch.cat([words, torch.tensor([0, -1, 1, -2, 2**31 - 1, -(2**31)])])
    recipe = recipes.recipe(law, torch.float32)
    with cpu.forced_isa(isa):
        assert torch.equal(cpu.transform(recipe, words.to(torch.int32)), reference.transform(recipe, words))


@pytest.mark.parametrize("fields, status", REFUSED, ids=str)
def test_refusals_are_codes_and_write_nothing(fields, status):
    library, good, bad = cpu.library(), raw(), raw(**fields)
    both = (abi.RawPlan * 2)(good, bad)
    assert library.fastinit_fill(ctypes.byref(both), 2, 1, 0) == status
    assert bool((good.kept[0] == 0).all()) == (status != 0), "plans are all checked before any is filled"
    message = library.fastinit_message(status).decode()
    assert message and "unknown status" not in message


def test_refused_calls():
    library, plan = cpu.library(), raw()
    assert library.fastinit_fill(None, 1, 1, 0) == 1
    assert library.fastinit_fill(ctypes.byref(plan), -1, 1, 0) == 8
    assert library.fastinit_fill(ctypes.byref(plan), 1, 0, 0) == 8
    assert library.fastinit_fill(ctypes.byref(plan), 1, 1, 99) == 15
    assert library.fastinit_transform(ctypes.byref(plan), None, 4, 1, 0) == 1
    assert library.fastinit_transform(ctypes.byref(raw(recipe=None)), plan.out, 4, 1, 0) == 1
    assert library.fastinit_fill(None, 0, 1, 0) == 0


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    import os

    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd="/", timeout=120)


FILL = "import torch, fastinit; fastinit.uniform_(torch.empty(8), key=1)"


@pytest.mark.full
def test_isa_and_backend_forced_by_the_environment():
    assert python(FILL, FASTINIT_CPU_ISA="scalar", FASTINIT_BACKEND="native").returncode == 0
    missing = next(name for name in cpu.ISAS if name not in HERE)
    refused = python(FILL, FASTINIT_CPU_ISA=missing, FASTINIT_BACKEND="native")
    assert refused.returncode == 1 and missing in refused.stderr and "RuntimeError" in refused.stderr
    unknown = python(FILL, FASTINIT_CPU_ISA="sse2")
    assert unknown.returncode == 1 and "'sse2'" in unknown.stderr and "'avx2'" in unknown.stderr


@pytest.mark.parametrize("share", some([0.0, 0.0001, 0.3, 0.9, 0.999], [0.3]))
def test_a_truncated_library_is_ignored_with_its_reason(tmp_path, share):
    content = cpu.library_path().read_bytes()
    broken = tmp_path / "libfastinit.so"
    broken.write_bytes(content[: int(share * len(content))])
    code = f"import pathlib; from fastinit._backends import abi; print(abi.load(pathlib.Path({str(broken)!r}), abi.CPU))"
    result = python(code)
    assert result.returncode == 0 and "truncated" in result.stdout, (result.returncode, result.stdout, result.stderr)


def test_a_library_of_another_abi_is_ignored_with_its_reason(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    names = [name for name in abi.CPU if name != "fastinit_abi"]
    source = tmp_path / "other.c"
    source.write_text("int fastinit_abi(void) { return 999; }\n" + "".join(f"int {n}(void) {{ return 0; }}\n" for n in names))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "other.so", source], check=True)
    assert "ABI 999" in abi.load(tmp_path / "other.so", abi.CPU)
    source.write_text("int something_else(void) { return 1; }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "none.so", source], check=True)
    assert "fastinit_abi" in abi.load(tmp_path / "none.so", abi.CPU)
    assert "does not exist" in abi.load(pathlib.Path(tmp_path / "absent.so"), abi.CPU)


def test_fills_from_many_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    expected = filled(reference, LAWS["2 sigmas"], torch.float32, 20_000)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: filled(cpu, LAWS["2 sigmas"], torch.float32, 20_000), range(64)))
    assert all(torch.equal(result, expected) for result in results)


def test_the_gil_is_released():
    """Python switches no threads by itself here: the main one can look between the marks of a call only if the call lets it."""
    out, fill, marks, seen = torch.empty(1 << 20), cpu.library().fastinit_fill, ["none"], []
    plans, kept = abi.packed([Plan(out, recipes.recipe(LAWS["2 sigmas"], out.dtype), KEY, whole(out))])

    def work():
        for _ in range(1000):
            marks[0] = "inside"
            fill(plans, 1, 1, 0)
            marks[0] = "outside"
            if seen:
                return

    interval, thread = sys.getswitchinterval(), threading.Thread(target=work)
    sys.setswitchinterval(3600)
    try:
        thread.start()
        while thread.is_alive() and not seen:
            seen += [mark for mark in marks if mark == "inside"]
            time.sleep(0)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    del kept
    assert seen, "Python stood still during the fills"
