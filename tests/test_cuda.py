"""The CUDA kernels and their host code: bit for bit the reference for every law, dtype, box, stride and list; launches; refusals.

Where there is no GPU, the twin runs (tests/emulation/twin.py): the same source, built for the CPU, on CPU tensors. Where there
is one, the library runs there.
"""

import ctypes
import dataclasses
import itertools
import json
import math

import pytest
import torch
from emulation import twin
from helpers import golden
from helpers.hostile import REFUSED, raw
from helpers.laws import KEY, LAWS
from helpers.places import (
    BLOCKED,
    UNBLOCKED,
    VIEWS,
    WORDS,
    check,
    check_constants,
    check_given_words,
    check_streams_and_graphs,
    constants,
)

import fastinit
from fastinit._backends import abi, cuda
from fastinit._core import laws
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.plan import Box, Plan, whole
from fastinit._core.recipes import recipe

ON_GPU = torch.cuda.is_available() and cuda.unavailable(torch.device("cuda", 0)) is None
DEVICE = torch.device("cuda", 0) if ON_GPU else torch.device("cpu")
BACKEND = cuda if ON_GPU else twin
pytestmark = [pytest.mark.full, pytest.mark.skipif(not ON_GPU and not twin.compiler(), reason="the twin needs a C++ compiler")]
needs_gpu = pytest.mark.skipif(not ON_GPU, reason=f"needs a GPU and the library: {cuda.unavailable(torch.device('cuda', 0))}")
needs_twin = pytest.mark.skipif(ON_GPU or not twin.compiler(), reason="asks the twin what only it can tell")
ELEMENTS = {torch.float64: 1024}  # in a tile; 4096 of others


def blank(shape, dtype) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device=DEVICE)


def plan_of(n, law, dtype, start=0, key=KEY, box=None):
    return Plan(blank(n, dtype), constants(LAWS[law], dtype), key, box or Box(start, 1, n, n))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_every_kind_and_dtype(law, dtype):
    """By tiles, over a tile's end; by elements, as a column far out; both in one launch where a list has them."""
    tiled, column = plan_of(9001, law, dtype, 2**35 + 8), plan_of(1021, law, dtype, box=Box(2**34 + 5, 1021, 1, 77))
    check(BACKEND, tiled)
    check(BACKEND, column)
    check(BACKEND, tiled, plan_of(40, law, dtype), plan_of(5000, "uniform", dtype, 8), plan_of(4097, law, dtype, 4, KEY + 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2, torch.float64], ids=str)
def test_every_length_around_16_bytes_and_tiles(dtype):
    tile = ELEMENTS.get(dtype, 4096)
    for count in [*range(1, 37), tile - 1, tile, tile + 1, tile + 16, 5 * tile + 333]:
        check(BACKEND, plan_of(count, "2 sigmas", dtype, 8))


@pytest.mark.parametrize("start", [1, 4, 2**31 + 8, *(2**34 - n for n in (16, 20, 4097, 16384)), 2**62 + 4, 2**63 - 50005])
def test_starts_where_counters_carry(start):
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float64):
        check(BACKEND, plan_of(50001, "uniform", dtype, start))


@pytest.mark.parametrize("key", [0, 1, 2**31 + 5, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
def test_keys_of_any_size(key):
    for dtype, start in itertools.product((torch.int32, torch.int64), (0, 3)):
        check(BACKEND, plan_of(5000, "uniform", dtype, start, key))


LONG = [
    Box(8, 7, 1600, 4000),
    Box(0, 3, 16_384, 20_000),
    Box(0, 3, 4096, 5001),
    Box(8, 3, 4100, 8000),
    Box(0, 30, 2048, 100_000),
    Box(0, 5, 12_352, 2**33 + 8),
    Box(16, 11, 4112, 4112),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e4m3fn, torch.float64], ids=str)
@pytest.mark.parametrize("box", [*BLOCKED, *UNBLOCKED, *LONG], ids=str)
def test_boxes(dtype, box):
    """Of long lines of whole vectors, by tiles; of any others, by elements."""
    n = box.rows * box.cols
    for law in ("2 sigmas", "half-normal"):
        check(BACKEND, plan_of(n, law, dtype, box=box))
    check(BACKEND, Plan(blank(n + 1, dtype)[1:], constants(LAWS["2 sigmas"], dtype), KEY, box))  # at no multiple of 16 bytes


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_constants(dtype):
    check_constants(BACKEND, dtype, DEVICE)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_zeros_are_the_bounds(dtype):
    """Where a bound is 0, a zero of the other sign becomes the bound's: as if -0 were less than +0."""
    values = dataclasses.replace(recipe(LAWS["uniform"], dtype), slope=0.0)
    above = dataclasses.replace(values, anchor=-0.0, low=0.0, high=1.0)
    below = dataclasses.replace(values, anchor=0.0, low=-1.0, high=-0.0)
    for n in (64, 3):
        for values, is_negative in ((above, False), (below, True)):
            out = blank(n, dtype)
            BACKEND.fill([Plan(out, values, KEY, whole(out))])
            assert bool((out.double() == 0).all()) and bool((out.double().signbit() == is_negative).all())


TEN_AXES = {"ten axes": lambda t: t.as_strided((2,) * 9 + (3,), (4380, 2189, 1093, 545, 271, 135, 67, 33, 16, 7))}


@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.bfloat16, torch.float32, torch.float64, *WORDS], ids=str)
@pytest.mark.parametrize("view", (VIEWS | TEN_AXES).values(), ids=VIEWS | TEN_AXES)
def test_strides_keep_the_logical_order_and_the_gaps(dtype, view):
    base = torch.full((200, 61), 1).to(dtype).to(DEVICE)
    untouched = torch.ones(200, 61, dtype=torch.bool)
    view(untouched).fill_(False)
    for start in (0, 2**34 + 5):
        out = view(base)
        check(BACKEND, Plan(out, constants(LAWS["half-normal"], dtype), KEY, whole(out)._replace(start=start)))
        assert bool((base.cpu().double()[untouched] == 1).all())
    check(BACKEND, Plan(out, constants(LAWS["fmod"], dtype), KEY, Box(7, out.numel(), 1, 9)))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_given_words(dtype):
    check_given_words(BACKEND, dtype, DEVICE)


def test_a_list_of_everything():
    """Nothing, what fits a list, what does not, in every dtype and law."""
    plans = []
    for i, (law, dtype) in enumerate(zip(LAWS, itertools.cycle([*FLOAT_DTYPES, torch.int32, torch.int64]), strict=False)):
        n = 100 + 7 * i
        plans.append(plan_of(n, law, dtype, i, KEY + i))
        plans.append(plan_of(0, law, dtype))
        transposed = blank((n, 3), dtype).t()
        plans.append(Plan(transposed, constants(LAWS[law], dtype), KEY - i, whole(transposed)))
    check(BACKEND, *plans)
    check(BACKEND, *plans[::-1])


@pytest.mark.quick  # every law and dtype; most of its time is the twin's compilation
def test_golden_hashes():
    hashes = json.loads(golden.FILE.read_text())["hashes"]
    changed = [name for name, *rest in golden.cases() if golden.digest(BACKEND, *rest, DEVICE) != hashes[name]]
    assert not changed and len(hashes) > 200, changed[:5]


# --- launches: the twin counts them -------------------------------------------------------------------------------------------


def launches(*plans: Plan) -> int:
    before = twin.state().launches
    check(twin, *plans)
    return twin.state().launches - before


@needs_twin
def test_one_launch_a_dtype():
    sizes = [1, 3, 16, 4096, 5000, 40_001, 0]
    laws = ["uniform", "2 sigmas", "uniform to -1"]
    plans = [plan_of(n, law, dtype, 4 * n) for n, dtype, law in itertools.product(sizes, (torch.float32, torch.bfloat16), laws)]
    assert launches(*plans) == 2
    assert launches(*plans[:1]) == 1 and launches(plan_of(0, "uniform", torch.float32)) == 0 and launches() == 0


@needs_twin
def test_whole_models_are_one_launch():
    """GPT-2's 148 tensors in two laws, and ResNet-50's 54 in a law for each fan-in; as many more take one more launch."""
    gpt2 = [laws.normal(0.0, 0.02), laws.normal(0.0, 0.02 / math.sqrt(24))]
    fans = [64, 147, 256, 512, 576, 1024, 1152, 2048, 2304, 4608]
    resnet = [laws.truncated_normal(0, (2 / fan) ** 0.5, *(s * 2 * (2 / fan) ** 0.5 for s in (-1, 1))) for fan in fans]
    for drawn, tensors in ((gpt2, 148), (resnet, 54)):
        values = [recipe(law, torch.bfloat16) for law in drawn]
        plans = [Plan(blank(48, torch.bfloat16), values[i % len(drawn)], i, Box(0, 1, 48, 48)) for i in range(tensors)]
        assert launches(*plans) == 1
        assert launches(*plans, *plans, *plans) in (2, 3)


@needs_twin
def test_laws_that_exceed_a_launch_take_more():
    """24 normals of 1,872 bytes beside 160 of a row: 16 fit."""
    values = [recipe(laws.normal(0.0, 0.1 + i), torch.float32) for i in range(24)]
    assert launches(*[Plan(blank(33, torch.float32), v, i, Box(0, 1, 33, 33)) for i, v in enumerate(values)]) == 2
    wide = [recipe(laws.normal(0.0, 0.1 + i), torch.float64) for i in range(3)]
    assert launches(*[Plan(blank(33, torch.float64), v, i, Box(0, 1, 33, 33)) for i, v in enumerate(wide)]) == 3


@needs_twin
def test_a_launch_each_and_by_tiles_where_aligned():
    assert launches(plan_of(4096 * 9, "uniform", torch.bfloat16)) == 1 and twin.state().grid == 4  # of 2 x 2 that fit
    assert launches(plan_of(4097, "uniform", torch.bfloat16)) == 1 and twin.state().grid == 2  # tiles
    assert launches(plan_of(1024, "uniform", torch.bfloat16, 1)) == 1 and twin.state().grid == 4  # 256 elements a block
    assert launches(plan_of(1024, "half-normal", torch.float64)) == 2  # a launch for each half of the table
    scattered = TEN_AXES["ten axes"](blank((200, 61), torch.float32))
    assert launches(Plan(scattered, recipe(LAWS["uniform"], torch.float32), KEY, whole(scattered))) == 4  # it takes eight axes


# --- refusals -----------------------------------------------------------------------------------------------------------------


@needs_twin
@pytest.mark.parametrize("fields, status", REFUSED, ids=str)
def test_refusals_are_codes_and_launch_nothing(fields, status):
    good, bad = raw(), raw(**fields)
    both, before = (abi.RawPlan * 2)(good, bad), twin.state().launches
    assert twin.library().fastinit_cuda_fill(ctypes.byref(both), 2, 0, None) == status
    assert (twin.state().launches == before) == (status != 0) and bool((good.kept[0] == 0).all()) == (status != 0)


@needs_twin
def test_refused_calls():
    library, plan = twin.library(), raw()
    reference_to = ctypes.byref(plan)
    assert library.fastinit_cuda_fill(None, 1, 0, None) == 1
    assert library.fastinit_cuda_fill(None, 0, 0, None) == 0
    assert library.fastinit_cuda_fill(reference_to, -1, 0, None) == 8
    assert library.fastinit_cuda_fill(ctypes.byref(raw(out=plan.out + 2)), 1, 0, None) == 9
    assert library.fastinit_cuda_fill(ctypes.byref(raw(rows=1, cols=2**41)), 1, 0, None) == 10
    for device in (-1, 3, 2**31 - 1):
        assert library.fastinit_cuda_fill(reference_to, 1, device, None) == 11
        assert library.fastinit_cuda_check(device) == 11
    assert library.fastinit_cuda_transform(None, None, 0, 0, None) == 1
    assert library.fastinit_cuda_transform(reference_to, None, 4, 0, None) == 1
    assert library.fastinit_cuda_transform(ctypes.byref(raw(recipe=None)), plan.out, 4, 0, None) == 1
    assert library.fastinit_cuda_transform(reference_to, plan.out + 1, 4, 0, None) == 9
    assert library.fastinit_cuda_transform(ctypes.byref(raw(kind=7)), plan.out, 4, 0, None) == 2
    assert library.fastinit_cuda_transform(reference_to, None, 0, 0, None) == 0
    assert bool((plan.kept[0] == 0).all())
    for status in range(9, 16):
        assert "unknown" not in library.fastinit_message(status).decode()
    assert "unknown status" in library.fastinit_message(16).decode()


@needs_twin
def test_errors_of_cuda_come_back_and_are_over():
    library, plan, state = twin.library(), raw(), twin.state()
    state.error = 1
    try:
        status = library.fastinit_cuda_fill(ctypes.byref(plan), 1, 0, None)
        assert status == 1001 and library.fastinit_message(status) == b"invalid argument"
        with pytest.raises(RuntimeError, match=r"refused.*invalid argument \(status 1001\)"):
            twin.fill([plan_of(7, "uniform", torch.float32)])
    finally:
        state.error = 0
    check(twin, plan_of(7, "uniform", torch.float32))


@needs_twin
def test_the_thread_s_device_stays_what_it_was():
    library, plan, state = twin.library(), raw(), twin.state()
    for before in (None, 1, 3):  # none, device 0, device 2
        for device in (0, 1, 2):
            state.current, switches = before, state.contexts
            assert library.fastinit_cuda_fill(ctypes.byref(plan), 1, device, None) == 0
            assert library.fastinit_cuda_fill(ctypes.byref(plan), 1, 99, None) == 11
            assert state.current == before and state.contexts - switches == (before != device + 1)
    state.current = None


# --- on a GPU -------------------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_gpu
def test_public_functions_and_devices():
    with fastinit.backend("native"):
        got = fastinit.glorot_uniform_(torch.empty(30, 17, device="cuda"), key=3)
    assert torch.equal(got.cpu(), fastinit.glorot_uniform_(torch.empty(30, 17), key=3))
    for index in range(torch.cuda.device_count()):
        out = torch.zeros(5000, device=f"cuda:{index}")
        check(cuda, Plan(out, recipe(LAWS["2 sigmas"], torch.float32), KEY, whole(out)))
        assert torch.cuda.current_device() == 0


@pytest.mark.gpu
@needs_gpu
def test_streams_and_graphs():
    """Also with a law that was never used before the capture."""
    out = blank(10_000, torch.float32)
    plan = Plan(out, recipe(LAWS["2 sigmas"], torch.float32), KEY, whole(out))
    fresh = plan._replace(recipe=recipe(laws.normal(0.0, 3.25), torch.float32))
    check_streams_and_graphs(cuda, plan, fresh)


@pytest.mark.gpu
@needs_gpu
def test_words_of_a_cuda_tensor():
    out = torch.zeros(1001, dtype=torch.int32, device="cuda")
    assert torch.equal(fastinit.bits_(out, key=5).cpu(), fastinit.bits_(torch.zeros(1001, dtype=torch.int32), key=5))
