"""The CUDA kernels of blends and their host code: bit for bit the reference for every law, dtype, box, stride and list.

As in test_cuda.py, the twin runs where there is no GPU.
"""

import ctypes
import math

import pytest
import torch
from emulation import twin
from helpers.blends import any_bits, blending, check_blends, copy_of, onto
from helpers.laws import LAWS, same_bits
from helpers.places import BLOCKED, UNBLOCKED, VIEWS
from test_cuda import BACKEND, DEVICE, LONG, needs_gpu, needs_twin, pytestmark  # noqa: F401

from fastinit._backends import abi, cuda, reference
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.plan import Box

FEW = [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float64]


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_every_kind_and_dtype(law, dtype):
    """By tiles, over a tile's end; by elements, as a column far out; both in one list."""
    tiled = onto(5001, dtype, DEVICE, law=law, box=Box(2**35 + 8, 1, 5001, 5001), members=1)
    column = onto(1021, dtype, DEVICE, law=law, box=Box(2**34 + 5, 1021, 1, 77))
    check_blends(BACKEND, tiled, column)
    check_blends(
        BACKEND,
        *(onto(40, dtype, DEVICE, law=law, keep=1.0), onto(300, dtype, DEVICE, law="uniform", members=5, keep=0.0)),
        onto(1100, dtype, DEVICE, law=law, members=3, keep=-(2.0**-130) if dtype is torch.float64 else -0.5),
    )


@pytest.mark.parametrize("dtype", FEW, ids=str)
def test_every_length_around_16_bytes(dtype):
    for count in [*range(1, 37), 1023, 1024, 4095, 4096, 4112]:
        check_blends(BACKEND, onto(count, dtype, DEVICE, box=Box(8, 1, count, count)))


@pytest.mark.parametrize("start", [1, 2**34 - 16, 2**34 - 20, 2**62 + 4, 2**63 - 5005])
def test_starts_where_counters_carry(start):
    for dtype in FEW:
        check_blends(BACKEND, onto(5001, dtype, DEVICE, box=Box(start, 1, 5001, 5001)))


@pytest.mark.parametrize("dtype", FEW, ids=str)
@pytest.mark.parametrize("box", [*BLOCKED, *UNBLOCKED, LONG[0], LONG[5]], ids=str)
def test_boxes(dtype, box):
    for law in ("2 sigmas", "half-normal"):
        check_blends(BACKEND, onto(box.rows * box.cols, dtype, DEVICE, law=law, box=box))


@pytest.mark.parametrize("dtype", FEW, ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_strides_of_the_tensor_and_of_its_source(name, dtype):
    whole = any_bits(20_000, dtype).to(DEVICE).view(100, 200)
    view = VIEWS[name](whole)
    check_blends(BACKEND, blending(view))
    apart = any_bits(view.numel(), dtype, 1).to(DEVICE).view(view.shape)
    check_blends(
        BACKEND,
        blending(view, source=apart),
        blending(apart, source=VIEWS[name](any_bits(20_000, dtype, 2).view(100, 200)).to(DEVICE)),
    )
    assert math.isclose(whole.numel(), 20_000)


@pytest.mark.parametrize("dtype", FEW, ids=str)
def test_sources_apart_and_at_no_multiple_of_16_bytes(dtype):
    for first in (0, 1):
        source = any_bits(5001, dtype, 3).to(DEVICE)[first : first + 5000]
        check_blends(BACKEND, onto(5000, dtype, DEVICE, source=source), onto(5000, dtype, DEVICE, source=source, keep=0.0))


@pytest.mark.parametrize(
    "dtype, law", [(torch.float64, "normal"), (torch.float64, "half-normal"), (torch.bfloat16, "normal")], ids=str
)
def test_many_members(dtype, law):
    """Of float64 more than a launch takes; where its table has two halves, each member takes two launches."""
    for box, many in ((Box(0, 1, 40, 40), 370), (Box(1, 1, 40, 40), 20)):
        members = 20 if law == "half-normal" else many
        check_blends(BACKEND, *(onto(40, dtype, DEVICE, law=law, members=n, box=box) for n in (0, members, 1)))


def test_keep_0_of_either_sign_reads_nothing():
    for n, start in ((64, 0), (5, 1)):
        for keep, members in ((0.0, 1), (-0.0, 1), (-0.0, 0)):
            one = onto(n, torch.float32, DEVICE, keep=keep, members=members, box=Box(start, 1, n, n))
            check_blends(BACKEND, one._replace(add=(0.0,) * members))  # or -0 would be lost in the sum


def test_members_beyond_those_of_a_launch():
    """Of float32 in several launches; of narrower dtypes refused by the library, and made by way of float32."""
    check_blends(BACKEND, onto(8, torch.float32, DEVICE, law="uniform", members=2750, keep=0.5))
    narrow = onto(8, torch.bfloat16, DEVICE, law="uniform", members=2049)
    with pytest.raises(RuntimeError, match="too many keys"):
        (twin.blend if BACKEND is twin else cuda.blend_at_once)([narrow])


@needs_twin
def test_many_members_of_narrow_dtypes_by_way_of_float32(monkeypatch):
    monkeypatch.setattr(cuda, "MOST_MEMBERS", 3)
    monkeypatch.setattr(cuda, "blend_at_once", twin.blend)

    class Narrow:
        blend = staticmethod(cuda.blend)

    for dtype in (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2):
        view = any_bits(20_000, dtype).view(100, 200)[::3, 1::2]
        check_blends(Narrow, onto(1000, dtype, members=8), onto(77, dtype, members=2), blending(view, members=7, keep=0.0))


def launches(*blendings) -> int:
    before = twin.state().launches
    twin.blend(list(blendings))
    return twin.state().launches - before


@needs_twin
def test_one_launch_for_a_list():
    assert launches(*(onto(n, torch.float32, members=3) for n in (4096, 100, 7000))) == 1
    assert launches(*(onto(64, torch.bfloat16, members=1000) for _ in range(5))) == 3, "where a launch is full, another begins"
    assert launches(*(onto(64, torch.float64, law="normal", members=1) for _ in range(20))) == 1, "they have one table"
    assert launches(*(onto(64, torch.float64, law=law, members=1) for law in ("normal", "2 sigmas", "normal"))) == 3


def changed(structure, **fields):
    for name, value in fields.items():
        setattr(structure, name, value(structure) if callable(value) else value)
    return structure


@needs_twin
def test_coefficients_that_begin_alike():
    """One array is stored once, but all that each tensor needs of it."""
    for counts in ((1, 3), (0, 2), (3, 1, 2)):
        blendings = [onto(64, torch.float32, members=n) for n in counts]
        expected = [copy_of(each) for each in blendings]
        reference.blend(expected)
        packed, kept = abi.packed_blendings(blendings)
        raw = (abi.RawBlending * len(counts)).from_buffer_copy(packed)
        for each in raw:
            each.add = raw[counts.index(max(counts))].add
        assert twin.library().fastinit_cuda_blend(ctypes.byref(raw), len(counts), 0, None) == 0
        assert all(same_bits(got.out, wanted.out) for got, wanted in zip(blendings, expected, strict=True))
        del kept


@needs_twin
def test_with_keep_0_there_need_be_no_source():
    for start in (0, 1):
        one = onto(64, torch.float32, keep=0.0, box=Box(start, 1, 64, 64))
        packed, kept = abi.packed_blendings([one])
        raw = changed(abi.RawBlending.from_buffer_copy(packed), source=None)
        assert twin.library().fastinit_cuda_blend(ctypes.byref(raw), 1, 0, None) == 0
        del kept


REFUSED = {
    "no keys": ({"keys": 0}, 1),
    "no coefficients": ({"add": 0}, 1),
    "no source": ({"source": 0}, 1),
    "a dtype of words": ({"dtype": 6}, 3),
    "no dtype": ({"dtype": -1}, 3),
    "another real type": ({"dtype": 1}, 3),
    "negative members": ({"members": -1}, 8),
    "a source's address": ({"source": lambda one: one.source + 2}, 9),
    "an address": ({"to": lambda one: changed(one.to, out=one.to.out + 2)}, 9),
    "elements": ({"to": lambda one: changed(one.to, cols=2**41)}, 10),
    "keep": ({"keep": math.inf}, 13),
    "keep of another type": ({"keep": 0.1}, 13),
}


@needs_twin
@pytest.mark.parametrize("name", REFUSED)
def test_wrong_blendings_are_refused(name):
    given, status = REFUSED[name]
    one = onto(64, torch.float32)
    before = one.out.clone()
    packed, kept = abi.packed_blendings([one])
    raw = changed(abi.RawBlending.from_buffer_copy(packed), **given)
    assert twin.library().fastinit_cuda_blend(ctypes.byref(raw), 1, 0, None) == status
    assert torch.equal(one.out.view(torch.int32), before.view(torch.int32))
    assert (
        twin.library().fastinit_cuda_blend(None, 1, 0, None) == 1 and twin.library().fastinit_cuda_blend(None, -1, 0, None) == 8
    )
    del kept


@pytest.mark.gpu
@needs_gpu
def test_streams_and_graphs():
    """Captured, and replayed: keys are captured too."""
    one, other = onto(5001, torch.bfloat16, DEVICE), onto(77, torch.float32, DEVICE)
    before, graph = one.out.clone(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        cuda.blend([one, other])
    for _ in range(2):
        one.out.copy_(before)
        graph.replay()
    check_blends(type("Done", (), {"blend": staticmethod(lambda _: None)}), one._replace(source=before))
