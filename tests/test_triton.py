"""The Triton kernels: bit for bit the reference for every law, dtype, box, stride and list; what is compiled, and how often.

On a machine without a GPU they are interpreted, on CPU tensors; where there is one, they run there. What they become for GPUs
that are not here is compiled ahead of time, in processes of their own: interpreted kernels cannot be compiled.
"""

import itertools
import json
import os
import pathlib
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers import places
from helpers.laws import KEY, LAWS, same_bits
from helpers.places import BLOCKED, UNBLOCKED, VIEWS, check_given_words, constants, expected
from helpers.quick import some

import fastinit
from fastinit._backends import reference
from fastinit._core import laws
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.plan import Box, Plan, whole
from fastinit._core.recipes import recipe, words_recipe

triton = pytest.importorskip("triton")
from fastinit._backends import triton as backend  # noqa: E402

pytestmark = [pytest.mark.one_of_each, pytest.mark.extra]

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
needs_kernels = pytest.mark.skipif(backend.unavailable(DEVICE) is not None, reason=f"triton: {backend.unavailable(DEVICE)}")
needs_gpu = pytest.mark.skipif(DEVICE.type == "cpu", reason="needs a GPU")
ROOT = pathlib.Path(__file__).parents[1]
FOUR = [torch.float32, torch.bfloat16, torch.float8_e5m2, torch.float64]  # one of each size


def blank(shape, dtype) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device=DEVICE)


def check(*plans: Plan) -> None:
    places.check(backend, *plans)


@needs_kernels
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_kind_and_dtype(law, dtype):
    """As a column that begins far out; contiguous fills of each are in the golden data."""
    check(Plan(blank(1021, dtype), recipe(law, dtype), KEY, Box(2**34 + 5, 1021, 1, 77)))


@pytest.mark.full
@needs_kernels
@pytest.mark.parametrize("dtype", some(FOUR, [torch.bfloat16]), ids=str)
def test_every_length_around_16_bytes_and_tiles(dtype):
    in_16_bytes = 16 // dtype.itemsize
    for count in sorted({1, 2, 3, in_16_bytes - 1, in_16_bytes, in_16_bytes + 1, 2 * in_16_bytes + 1, 4095, 4096, 4097}):
        check(Plan(blank(count, dtype), recipe(LAWS["2 sigmas"], dtype), KEY, Box(8, 1, count, count)))


@needs_kernels
@pytest.mark.parametrize("start", [1, 4, 2**31 + 8, 2**34 - 16, 2**34 - 16384, 2**34 - 4097, 2**62 + 4, 2**63 - 5005])
def test_starts_where_counters_carry(start):
    for dtype in (torch.float32, torch.bfloat16):
        check(Plan(blank(5001, dtype), recipe(LAWS["uniform"], dtype), KEY, Box(start, 1, 5001, 5001)))


@needs_kernels
@pytest.mark.parametrize("key", [0, 1, 2**31 + 5, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
def test_keys_of_any_size(key):
    check(Plan(blank(64, torch.int32), words_recipe(torch.int32), key, Box(0, 1, 64, 64)))
    check(Plan(blank(63, torch.int64), words_recipe(torch.int64), key, Box(3, 1, 63, 63)))


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e4m3fn, torch.float64], ids=str)
@pytest.mark.parametrize("box", [*BLOCKED, *UNBLOCKED], ids=str)
def test_boxes(dtype, box):
    """Boxes of whole blocks, which have a kernel to themselves, and of any elements."""
    for law in ("2 sigmas", "half-normal"):
        check(Plan(blank(box.rows * box.cols, dtype), recipe(LAWS[law], dtype), KEY, box))


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.float32, torch.float64], ids=str)  # of 1, 4 and 8 bytes
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_strides_keep_the_logical_order_and_the_gaps(dtype, view):
    base = torch.full((80, 65), 1).to(dtype).to(DEVICE)
    untouched = torch.ones(80, 65, dtype=torch.bool)
    view(untouched).fill_(False)
    for start in (0, 2**34 + 5):
        out = view(base)
        check(Plan(out, constants(LAWS["fmod"], dtype), KEY, whole(out)._replace(start=start)))
        assert bool((base.cpu().double()[untouched] == 1).all())
    rows = Box(7, out.numel(), 1, 9)
    check(Plan(out, constants(LAWS["fmod"], dtype), KEY, rows))


@needs_kernels
def test_axes_are_joined_and_sorted():
    assert backend.axes_of(torch.empty(4, 5, 6)) == [(120, 1, 1)]
    assert backend.axes_of(torch.empty(4, 5).t()) == [(5, 4, 1), (4, 1, 5)]
    channels_last = torch.empty(8, 3, 5, 7).to(memory_format=torch.channels_last)
    assert backend.axes_of(channels_last) == [(3, 35, 1), (35, 1, 3), (8, 105, 105)]
    assert backend.axes_of(torch.empty(1, 1)) == [(1, 1, 1)]


def counted(monkeypatch) -> list[str]:
    """The kernels that are launched from now on, by name."""
    launches = []

    class Counted:
        def __init__(self, name, kernel):
            self.name, self.kernel = name, kernel

        def __getitem__(self, grid):
            launches.append(self.name)
            return self.kernel[grid]

    for name in ("fill_blocks", "fill_list", "fill_elements"):
        monkeypatch.setattr(backend, name, Counted(name, getattr(backend, name)))
    return launches


@pytest.mark.full
@needs_kernels
def test_a_list_is_one_launch_a_dtype(monkeypatch):
    launches = counted(monkeypatch)
    sizes, dtypes = [1, 3, 16, 4096, 5000, 12_289, 0], [torch.float32, torch.bfloat16]
    plans = []
    for i, (n, dtype, law) in enumerate(itertools.product(sizes, dtypes, ["uniform", "2 sigmas", "uniform to -1"])):
        plans.append(Plan(blank(n, dtype), recipe(LAWS[law], dtype), KEY + i, Box(4 * i, 1, n, n)))
    check(*plans)
    assert launches == ["fill_list", "fill_list"]
    backend.fill([plan for plan in plans if not plan.out.numel()])
    assert len(launches) == 2, "nothing is launched for nothing"


@needs_kernels
def test_a_list_of_everything():
    """What does not fit into the launch of a list is filled all the same."""
    plans = []
    for i, (law, dtype) in enumerate(zip(LAWS.values(), itertools.cycle(FLOAT_DTYPES), strict=False)):
        n = 100 + 7 * i
        plans.append(Plan(blank(n, dtype), recipe(law, dtype), KEY + i, Box(i, 1, n, n)))
        plans.append(Plan(blank((n, 3), dtype).t(), recipe(law, dtype), KEY - i, Box(0, 1, 3 * n, 3 * n)))
    check(*plans)
    backend.fill([])


@needs_kernels
def test_a_default_device_changes_nothing():
    """`with torch.device(...)` around a model's construction is where initializers run."""
    dtype, law = torch.float32, laws.normal(0.0, 0.123)  # of its own: nothing about it is cached
    plans = [Plan(blank(n, dtype), recipe(law, dtype), KEY, Box(0, 1, n, n)) for n in (40, 7)]
    strided = blank((5, 6), dtype).t()
    with torch.device("meta"):
        backend.fill(plans)
        backend.fill(plans[:1])
        backend.fill([Plan(strided, recipe(law, dtype), KEY, whole(strided))])
    for plan in plans:
        assert same_bits(plan.out.cpu(), expected(plan))


@needs_kernels
def test_a_launch_each_and_by_blocks_where_aligned(monkeypatch):
    launches = counted(monkeypatch)
    for out in (blank((16, 24), torch.bfloat16), blank((24, 16), torch.bfloat16).t(), blank((2, 3, 4, 5), torch.float32)):
        check(Plan(out, recipe(LAWS["uniform"], out.dtype), KEY, whole(out)))
    check(Plan(blank(16, torch.float32), recipe(LAWS["uniform"], torch.float32), KEY, Box(4, 4, 4, 8)))
    check(Plan(blank(17, torch.float32)[1:], recipe(LAWS["uniform"], torch.float32), KEY, Box(4, 1, 16, 16)))
    assert launches == ["fill_blocks", "fill_elements", "fill_blocks", "fill_blocks", "fill_elements"]


@needs_kernels
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_given_words(dtype):
    check_given_words(backend, dtype, DEVICE)
    values = recipe(LAWS["uniform"], dtype)
    words = torch.empty(0, dtype=torch.int64 if dtype is torch.float64 else torch.int32, device=DEVICE)
    assert backend.transform(values, words).numel() == 0
    with pytest.raises(TypeError, match="words of"):
        backend.transform(values, words.to(torch.int16))


@needs_kernels
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_zeros_are_the_bounds(dtype):
    """Where a bound is 0, a zero of the other sign becomes the bound's: as if -0 were less than +0."""
    values = replace(recipe(LAWS["uniform"], dtype), slope=0.0)
    word = torch.tensor([-5], dtype=torch.int64 if dtype is torch.float64 else torch.int32, device=DEVICE)
    above = backend.transform(replace(values, anchor=-0.0, low=0.0, high=1.0), word)
    below = backend.transform(replace(values, anchor=0.0, low=-1.0, high=-0.0), word)
    assert above.double().item() == below.double().item() == 0
    assert not above.double().signbit().item() and below.double().signbit().item()


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_remainder_survives_a_quotient_that_is_one_off(dtype):
    values = recipe(laws.fmod_normal(0.0, 1.0, -(2**0.5), 2**0.5), dtype)
    words = torch.arange(-(2**31), 2**31, 1 << 20).to(torch.int32)
    if dtype is torch.float64:
        words = words.long() << 32
    exact = reference.transform(values, words.long())
    for error in (1.02, 0.98):
        rough = replace(values, inverse_cut=values.inverse_cut * error)
        assert same_bits(backend.transform(rough, words.to(DEVICE)).cpu(), exact)


@needs_kernels
def test_public_functions_and_warm_up():
    with fastinit.backend("triton"):
        fastinit.warm_up(DEVICE, dtypes=[torch.float16], strided=True)
        got = fastinit.glorot_uniform_(torch.empty(30, 17, device=DEVICE), key=3)
    assert torch.equal(got.cpu(), fastinit.glorot_uniform_(torch.empty(30, 17), key=3))


def test_warm_up_names_what_is_wrong():
    with pytest.raises(TypeError, match="int32"):
        fastinit.warm_up("cpu", dtypes=[torch.int32])
    for device in ("cpu", "meta"):
        fastinit.warm_up(device)  # nothing to compile, and no harm
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):
            fastinit.warm_up("cuda")


def test_every_reason_is_given():
    reasons = fastinit.backends("cuda")
    assert list(reasons) == ["native", "triton", "reference"]
    if not torch.cuda.is_available():
        assert "there is no cuda device here" in reasons["triton"] and "there is no cuda device here" in reasons["native"]
    assert "CUDA, ROCm and XPU" in fastinit.backends("meta")["triton"]


def test_the_interpreter_never_serves_unasked(monkeypatch):
    selection = sys.modules["fastinit._backends.choose"]
    monkeypatch.setattr(selection.module("native"), "unavailable", lambda device: "taken away")
    monkeypatch.setattr(selection, "say_slow", lambda device_type: None)
    assert selection.automatic_choice.__wrapped__(torch.device("cpu")) is reference


def python(code: str, **environment: str | None) -> subprocess.CompletedProcess:
    """A process without TRITON_INTERPRET, unless it is given."""
    merged = {**os.environ, "TRITON_INTERPRET": None, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environment}
    merged = {name: value for name, value in merged.items() if value is not None}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=merged, timeout=600)


FILL = "import torch, fastinit; print(fastinit.uniform_(torch.empty(8), key=1).sum().item())"


@pytest.mark.full
def test_forced_by_the_environment():
    if DEVICE.type == "cpu" and backend.unavailable(DEVICE):
        pytest.skip("this Triton's interpreter cannot serve")
    asked = python(FILL, FASTINIT_BACKEND="triton", TRITON_INTERPRET="1")
    assert asked.returncode == 0 and asked.stdout == python(FILL).stdout, asked.stderr
    refused = python(FILL, FASTINIT_BACKEND="triton")
    assert refused.returncode == 1 and "TRITON_INTERPRET" in refused.stderr and "RuntimeError" in refused.stderr


@pytest.mark.full
def test_without_triton():
    code = "import sys; sys.modules['triton'] = None\n" + FILL + "\nprint(fastinit.backends('cuda'))"
    done = python(code)
    assert done.returncode == 0 and "cannot be imported" in done.stdout, done.stderr


def test_filling_on_the_cpu_imports_no_triton():
    done = python("import sys\n" + FILL + "\nprint('triton' in sys.modules, 'fastinit._backends.triton' in sys.modules)")
    assert done.stdout.split()[-1] == "False", done.stderr


SPECIALIZED = """
import json
from emulation import ptx_fills
import torch
from fastinit._core import laws, recipes
from fastinit._backends import triton as backend
from fastinit._core.plan import Box, Plan, whole

class Warm:
    def __init__(self, kernel):
        self.kernel = kernel
    def __getitem__(self, grid):
        return lambda *args, **options: self.kernel.warmup(*args, grid=grid, **options)

names = ["fill_blocks", "fill_list", "fill_elements", "transform_words"]
for name in names:
    setattr(backend, name, Warm(getattr(backend, name)))
ptx_fills.compile_for(90)
dtype = torch.bfloat16
laws = [laws.truncated_normal(0, 1, -cut, cut) for cut in (1.0, 1.5, 2.0)] + [laws.uniform(0.1, 1)]
for recipe in [recipes.recipe(law, dtype) for law in laws]:
    for n in (1, 16, 1000, 4096, 5001, 1 << 20):
        for key in (0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1):
            for start in (0, 1, 4, 16, 2**33, 2**34 + 8):
                backend.fill([Plan(torch.empty(n, dtype=dtype), recipe, key, Box(start, 1, n, n))])
    large = torch.empty(2**31 + 8, dtype=dtype)  # never touched
    backend.fill([Plan(large, recipe, 3, whole(large))])
    backend.fill([Plan(large[1:], recipe, 3, Box(0, 1, 2**31 + 7, 2**31 + 7))])
    backend.fill([Plan(torch.empty(8, 4, dtype=dtype), recipe, 3, Box(8, 8, 4, 8))])
    backend.fill([Plan(torch.empty(4, 8, 6, dtype=dtype).transpose(0, 1), recipe, 3, Box(8, 1, 192, 192))])
    for many in (2, 300):
        backend.fill([Plan(torch.empty(32, dtype=dtype), recipe, 3, Box(0, 1, 32, 32))] * many)
    backend.transform(recipe, torch.zeros(100, dtype=torch.int32))
print(json.dumps({name: len(getattr(backend, name).kernel.device_caches[90][0]) for name in names}))
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_sizes_values_and_keys_compile_nothing_new():
    """Two kinds of law, of one dtype and table shape: a compilation each, and one for boxes."""
    done = python(SPECIALIZED)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {"fill_blocks": 4, "fill_list": 2, "fill_elements": 2, "transform_words": 2}


def machine_code(*arguments: str) -> list[dict]:
    command = [sys.executable, "-m", "benchmarks.machine_code", "--json", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


KEYS = """
from fastinit._core import recipes
if {turned}:  # as another version of the package might have them
    names = [*recipes.Constants._fields[1:], recipes.Constants._fields[0]]
    recipes.Constants.__annotations__ = {{name: recipes.Constants.__annotations__[name] for name in names}}
from fastinit._backends import triton_kernels, triton_values
print(triton_values.ORDER.value[0], triton_kernels.fill_blocks.cache_key, triton_kernels.fill_list.cache_key)
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_kernels_for_another_order_of_constants_are_compiled_anew():
    """Triton keeps compiled kernels on disk. One of an older version of this package must not read today's buffers."""
    (first, *today), (second, *turned) = (python(KEYS.format(turned=turned)).stdout.split() for turned in (False, True))
    assert (first, second) == ("slope", "anchor")
    assert len(today) == len(turned) == 2 and not set(today) & set(turned)


LIMITS = {"uniform": 18, "truncated normal at 2 sigmas": 33, "normal": 41}
HEAVY = {"normal": 41, "half-normal": 43, "fmod": 57}  # Triton 3.6 to 3.9


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_instructions_an_element():
    rows = machine_code("--targets", "80", "90", "--laws", *LIMITS, "--dtypes", "float32", "bfloat16")
    assert {row["target"] for row in rows} == {"sm_80", "sm_90"} and len(rows) == 12
    for row in rows:
        assert 9 < row["an_element"] <= LIMITS[row["law"]], row
        assert row["widest_store"] == 128 and row["stores"] * 128 == 32 * 8 * {"float32": 4, "bfloat16": 2}[row["dtype"]], row
        assert row["spills"] == 0 and row["shared"] == 0, row


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_instructions_an_element_and_member():
    """No more than 4 beyond a fill's, the loop over members included; old elements are read 128 bits at a time."""
    laws_of = ("truncated normal at 2 sigmas", "normal")
    rows = machine_code("--blends", "--targets", "90", "--laws", *laws_of, "--dtypes", "bfloat16")
    assert len(rows) == 2
    for row in rows:
        assert 9 < row["a_member"] <= LIMITS[row["law"]] + 4 and row["a_member"] < row["one_member"], row
        assert row["widest_store"] == row["widest_load"] == 128 and row["spills"] == 0 and row["shared"] == 0, row


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_the_heaviest_laws_do_not_spill():
    wide = machine_code("--targets", "90", "--dtypes", "float64", "--laws", "uniform", "half-normal", "fmod")
    narrow = machine_code("--targets", "90", "--dtypes", "bfloat16", "--laws", *HEAVY)
    for row in wide + narrow:
        assert row["spills"] == 0 and row["widest_store"] == 128, row
    for row in narrow:
        assert row["shared"] == 0 and 9 < row["an_element"] <= HEAVY[row["law"]], row


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_amd_s_compiler_takes_the_kernels():
    sizes = machine_code("--amd")
    assert len(sizes) == 2 * 4 + 2 and all(row["bytes"] > 1000 for row in sizes)


@pytest.mark.gpu
@needs_gpu
@needs_kernels
def test_streams_and_graphs():
    values, out = recipe(LAWS["2 sigmas"], torch.float32), blank(10_000, torch.float32)
    plan = Plan(out, values, KEY, whole(out))
    places.check_streams_and_graphs(backend, plan)
    fresh = recipe(laws.normal(0.0, 3.25), torch.float32)
    with pytest.raises(RuntimeError, match="before the capture"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        backend.fill([plan._replace(recipe=fresh)])
