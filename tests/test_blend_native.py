"""Blends on the CPU: bit for bit the reference in every instruction set, box, stride, list and thread count; both the contract.

The contract is carried out in exact fractions by helpers/oracle.py. tests/test_golden_blends.py has another model of it.
"""

import ctypes
import math

import pytest
import torch
from helpers import oracle
from helpers.blends import any_bits, blending, check_blends, copy_of, onto
from helpers.laws import KEY, LAWS, same_bits
from helpers.places import VIEWS
from helpers.quick import examples, some
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit
from fastinit._backends import abi, cpu, reference
from fastinit._core import laws
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.plan import Blending, Box, batches
from fastinit._core.recipes import real_of, recipe
from fastinit._core.rounding import INTEGERS

pytestmark = pytest.mark.skipif(
    cpu.unavailable(torch.device("cpu")) is not None, reason=f"native: {cpu.unavailable(torch.device('cpu'))}"
)
HERE = [name for name, reason in cpu.isas().items() if reason is None]
FEW = [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float64]
TILE = 2048  # of csrc/cpu/blend.h
CONSTANT = laws.constant(-1 / 3)


@pytest.mark.one_of_each
@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("law", [*LAWS, "constant"])
def test_every_kind_and_dtype_on_every_isa(monkeypatch, isa, dtype, law):
    """In one list of all boxes; onto any bits, and sums that begin at nothing."""
    monkeypatch.setitem(LAWS, "constant", CONSTANT)
    boxes = [None, Box(2**33 + 3, 1, 1021, 1021), Box(2**62 + 1, 1, 1021, 1021), Box(2**34 + 5, 1021, 1, 77)]
    keeps = (0.625, 1.0, -(2.0**-130), 0.0)
    with cpu.forced_isa(isa):
        together = [
            onto(1021, dtype, law=law, box=box, keep=keep, members=members, key=KEY + members)
            for box, keep, members in zip(boxes, keeps, (1, 5, 0, 2), strict=True)
        ]
        check_blends(cpu, *together)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("dtype", some(FEW, [torch.float32, torch.bfloat16]), ids=str)
def test_every_length_and_start_around_a_group(isa, dtype):
    """In place and from a source, which is not written, nor is what lies beside the elements."""
    integer, many = INTEGERS[dtype.itemsize], 2 * TILE + 30
    old, gap = any_bits(many, dtype).view(integer), 77
    whole = onto(many, dtype)._replace(source=old.view(dtype))
    reference.blend([whole])
    kept, expected = old.clone(), whole.out.view(integer)
    with cpu.forced_isa(isa):
        for start in range(9):
            for count in [*range(1, 70), 127, 128, 129, 255, 257, TILE - 1, TILE, TILE + 1, 2 * TILE + 3]:
                memory = torch.full((count + 2,), gap, dtype=integer)
                out, source, box = memory[1:-1], old[start : start + count], Box(start, 1, count, count)
                cpu.blend([whole._replace(out=out.view(dtype), source=source.view(dtype), box=box)])
                assert torch.equal(out, expected[start : start + count]), (start, count)
                assert memory[0] == memory[-1] == gap, (start, count)
                out.copy_(source)
                cpu.blend([whole._replace(out=out.view(dtype), source=out.view(dtype), box=box)])
                assert torch.equal(out, expected[start : start + count]), (start, count)
    assert torch.equal(old, kept), "a source was written"


@pytest.mark.one_of_each
@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("dtype", FEW, ids=str)
@pytest.mark.parametrize(
    "box",
    [
        Box(11, 7, 13, 40),
        Box(5, 3, TILE + 1, TILE + 9),
        Box(2**34 - 5, 1, 4101, 4101),
        Box(3 * 2**34 - 3, 9, 17, 2**34 + 1),
        Box(2**32 - 9, 64, 1, 3),
        Box(4, 6, 1000, 0),
        Box(2**63 - 5001, 1, 5001, 5001),
    ],
    ids=str,
)
def test_boxes(isa, dtype, box):
    with cpu.forced_isa(isa):
        for law in ("2 sigmas", "half-normal"):
            check_blends(cpu, onto(box.rows * box.cols, dtype, law=law, box=box))


def test_a_box_is_cut_from_the_whole():
    """Of the public function: what a shard gets, the whole tensor has there."""
    old, keys = any_bits(5000, torch.bfloat16), {"key": [3, 4], "add": [0.5, -0.25], "keep": 0.75}
    whole = fastinit.blend_(old.clone(), fastinit.normal_, **keys)
    index = 11 + torch.arange(7)[:, None] * 40 + torch.arange(13)
    part = old.view(torch.int16)[index].view(torch.bfloat16).flatten()
    values = recipe(laws.normal(0.0, 1.0), torch.float32)
    cpu.blend([Blending(part, values, (3, 4), Box(11, 7, 13, 40), (0.5, -0.25), 0.75, part)])
    assert torch.equal(part.view(torch.int16), whole.view(torch.int16)[index].flatten())


@pytest.mark.one_of_each
@pytest.mark.parametrize("dtype", FEW, ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_strides_of_the_tensor_and_of_its_source(name, dtype):
    """Either, or both; the gaps keep their bits, and so does the source."""
    whole, old = any_bits(20_000, dtype).view(100, 200), any_bits(20_000, dtype, 2).view(100, 200)
    view, source = VIEWS[name](whole), VIEWS[name](old)
    apart = any_bits(view.numel(), dtype, 1).view(view.shape)
    untouched = torch.ones(100, 200, dtype=torch.bool)
    VIEWS[name](untouched).fill_(False)
    before, kept = (each.view(INTEGERS[dtype.itemsize]).clone() for each in (whole, old))
    check_blends(cpu, blending(view))
    check_blends(cpu, blending(view, source=apart, law="fmod"))
    check_blends(cpu, blending(apart, source=source, members=3), blending(view, source=source, keep=1.0))
    check_blends(cpu, blending(view, source=source, keep=0.0), blending(VIEWS["column"](old[::2]), law="uniform"))
    assert torch.equal(whole.view(before.dtype)[untouched], before[untouched])
    changed = torch.zeros(100, 200, dtype=torch.bool)
    VIEWS["column"](changed[::2]).fill_(True)
    assert torch.equal(old.view(before.dtype)[~changed], kept[~changed]), "a source was written"


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads(threads):
    """Of a large tensor, of a list, of strided memory: pieces end anywhere in a tile."""
    before = torch.get_num_threads()
    given = [
        onto(300_001, torch.float32, box=Box(2**34 - 77_777, 1, 300_001, 300_001), keep=1.0),
        onto(70_003, torch.bfloat16, members=9),
        blending(
            any_bits(90_000, torch.float32).view(300, 300).t(),
            law="uniform",
            source=any_bits(90_000, torch.float32, 1).view(300, 300),
        ),
    ]
    try:
        torch.set_num_threads(threads)
        check_blends(cpu, *given)
    finally:
        torch.set_num_threads(before)


def test_a_large_blend_is_cut_at_any_place(monkeypatch):
    """As it is between looks for Ctrl-C."""
    monkeypatch.setattr(cpu, "AT_ONCE", 1)  # of which 2^16 elements are the least
    monkeypatch.setattr(cpu, "batches", lambda jobs, most: batches(jobs, most >> 3))
    strided = any_bits(50_000, torch.float16).view(100, 500).t()
    check_blends(
        cpu,
        *(onto(20_001, dtype, box=Box(7, 3, 6667, 7000)) for dtype in FLOAT_DTYPES),
        blending(strided, source=any_bits(50_000, torch.float16, 1).view(500, 100)),
    )


def test_fills_are_blends_of_nothing():
    """blend_ with keep=0 on float32 is the initializer, bit for bit; the memory is not read."""
    for initializer in (
        fastinit.normal_,
        fastinit.uniform_,
        fastinit.glorot_normal_,
        fastinit.he_uniform_,
        fastinit.trunc_normal_,
    ):
        for shape in ((3, 5), (64, 100)):
            old = torch.full(shape, math.nan)
            expected = initializer(torch.empty(shape), key=9)
            assert same_bits(fastinit.blend_(old, initializer, key=9, keep=0), expected), initializer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_sum_is_single_steps(dtype):
    add = (0.3, -7.0, 1e-3, 2.0**-80, 1e20, -1e20)
    old = any_bits(4099, dtype)
    at_once = fastinit.blend_(old.clone(), fastinit.truncated_normal_, key=range(6), add=add, keep=0.7)
    steps = old.clone()
    for key, factor in enumerate(add):
        fastinit.blend_(steps, fastinit.truncated_normal_, key=key, add=factor, keep=1.0 if key else 0.7)
    assert same_bits(at_once, steps)


def test_a_list_is_one_call():
    sizes = [1, 70_000, 3, 200_001, 17, 2048]
    together = [
        onto(n, dtype, law=law, box=Box(i, 1, n, n), members=i, keep=(0.0, 1.0, 0.5)[i % 3])
        for i, (n, law, dtype) in enumerate(zip(sizes, LAWS, FLOAT_DTYPES, strict=False))
    ]
    check_blends(cpu, *together)


def test_zeros_of_either_sign_are_other_coefficients():
    """In one list, where they are equal numbers: onto -0, their sums have other signs."""
    given = [onto(9, torch.float32, keep=1.0, members=1)._replace(add=(zero,)) for zero in (-0.0, 0.0, -0.0)]
    for one in given:
        one.out.fill_(-0.0)
    check_blends(cpu, *given)


def test_many_members():
    for dtype in (torch.float32, torch.float16, torch.float64):
        check_blends(cpu, *(onto(40, dtype, law="uniform", members=n, box=Box(1, 1, 40, 40)) for n in (0, 41, 130)))


# --- against exact fractions --------------------------------------------------------------------------------------------------


def edges(dtype: torch.dtype) -> torch.Tensor:
    """Zeros, subnormal numbers, the greatest ones, infinities and NaN, and what rounds at midpoints; positive and negative."""
    integer, bits = INTEGERS[dtype.itemsize], 8 * dtype.itemsize
    top = 0x7E if dtype is torch.float8_e4m3fn else int(torch.tensor(math.inf).to(dtype).view(integer)) & (1 << bits - 1) - 1
    first = [0, 1, 2, 3, top - 2, top - 1, top, top + 1, (1 << bits - 1) - 1]
    near = int(torch.tensor(1.0).to(dtype).view(integer))
    sizes = torch.tensor([p for p in first if p < 1 << bits - 1] + [near + i for i in range(-3, 4)], dtype=torch.int64)
    patterns = torch.cat([sizes, sizes + (-1 << bits - 1)])
    return (patterns if bits > 8 else patterns % 256).to(integer).view(dtype)


COEFFICIENTS = {
    "plain": ((0.75, -3.0, 1 / 3), 0.7),
    "halves": ((0.5,), 1.0),
    "subnormal": ((2.0**-140, -(2.0**-149)), 2.0**-126),
    "lost": ((2.0**-30, 1e-8, -(2.0**-30)), 1.0),
    "overflow of the real type": ((3e38, 3e38, -3e38), 1.0),
    "overflow of the dtype": ((6e4, 300.0), -1.0),
    "cancelled": ((1e20, -1e20, 1e-20), 1.0),
    "nothing": ((0.0, -0.0), 0.0),
}
WIDE = {"subnormal": ((2.0**-1070, -5e-324), 2.0**-1022), "overflow of the real type": ((1.7e308, 1.7e308, -1e308), 1.0)}


@pytest.mark.one_of_each
@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("law", ["uniform", "uniform from 0", "2 sigmas", "half-normal", "fmod"])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_the_contract_in_exact_fractions(dtype, law, name):
    """Every rounding: of keep, of each member, of the sum to its dtype; infinity, or 448 where there is none; one NaN."""
    real, old = real_of(dtype), edges(dtype)
    add, keep = (WIDE if dtype is torch.float64 else {}).get(name, COEFFICIENTS[name])
    add, keep = (
        tuple(torch.tensor(add, dtype=torch.float64).to(real).tolist()),
        float(torch.tensor(keep, dtype=torch.float64).to(real)),
    )
    keys, start, values = (KEY, 2**63, 1)[: len(add)], 2**34 - 9, recipe(LAWS[law], real)
    wanted = [oracle.blended(values, keys, add, keep, x, start + i, dtype) for i, x in enumerate(old.double().tolist())]
    expected = torch.tensor(wanted, dtype=torch.float64).to(dtype)
    nan = torch.tensor(wanted).isnan()
    integer, greatest = INTEGERS[dtype.itemsize], (1 << 8 * dtype.itemsize - 1) - 1
    bits = torch.where(nan, greatest, expected.view(integer))
    for backend in (cpu, reference):
        out = old.clone()
        backend.blend([Blending(out, values, keys, Box(start, 1, len(out), len(out)), add, keep, out)])
        wrong = (out.view(integer) != bits).nonzero()[:, 0].tolist()
        assert not wrong, [(backend.NAME, old[i].item(), out[i].item(), wanted[i]) for i in wrong[:3]]


# --- whatever is given ----------------------------------------------------------------------------------------------------------

REALS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-149, 3.4e38]),
    st.floats(-(2.0**127), 2.0**127, width=32),
    st.builds(lambda sign, log: sign * 2.0**log, st.sampled_from([-1, 1]), st.floats(-140, 120)),
)
AXES = st.lists(st.integers(1, 7), min_size=1, max_size=4)


@st.composite
def blendings(draw):
    """Of any dtype, law, numbers, box and layout, onto any bits."""
    dtype, shape = draw(st.sampled_from(FLOAT_DTYPES)), draw(AXES)
    n, members = math.prod(shape), draw(st.integers(0, 4))
    real, seed = real_of(dtype), draw(st.integers(0, 99))
    add = tuple(torch.tensor(draw(st.lists(REALS, min_size=members, max_size=members)), dtype=real).tolist())
    rows = draw(st.sampled_from([i for i in range(1, n + 1) if n % i == 0]))
    box = Box(draw(st.sampled_from([0, 3, 2**34 - 20, 2**61 + 1])), rows, n // rows, n // rows + draw(st.integers(-1, 50)))
    tensors = []
    for number in range(2):
        order = draw(st.permutations(range(len(shape))))
        memory = any_bits(2 * n, dtype, seed + number)[:: draw(st.integers(1, 2))][:n]
        straight = memory.view([shape[axis] for axis in order])
        tensors.append(straight.permute([order.index(axis) for axis in range(len(shape))]))
    out, source = tensors
    keys = tuple(draw(st.lists(st.integers(0, 2**64 - 1), min_size=members, max_size=members)))
    law, keep = LAWS[draw(st.sampled_from(list(LAWS)))], float(torch.tensor(draw(REALS), dtype=real))
    return Blending(out, recipe(law, real), keys, box, add, keep, source if draw(st.booleans()) else out)


@settings(max_examples=examples(150))
@given(st.lists(blendings(), min_size=1, max_size=3), st.sampled_from(HERE))
def test_any_blends(together, isa):
    with cpu.forced_isa(isa):
        check_blends(cpu, *together)


# --- refusals -------------------------------------------------------------------------------------------------------------------

REFUSED = {
    "no keys": ({"keys": 0}, 1),
    "no coefficients": ({"add": 0}, 1),
    "no source": ({"source": 0}, 1),
    "no strides of the source": ({"source_strides": 0}, 1),
    "no output": ({"to.out": 0}, 1),
    "no recipe": ({"to.recipe": 0}, 1),
    "no layout": ({"to.layout": 0}, 1),
    "a dtype of words": ({"dtype": 6}, 3),
    "no dtype": ({"dtype": -1}, 3),
    "another real type": ({"dtype": 1}, 3),
    "a negative box": ({"to.rows": -1}, 4),
    "indices beyond 2^63": ({"to.start": 2**63 - 9}, 4),
    "another number of elements": ({"to.cols": 5}, 5),
    "too many axes": ({"to.dims": 65}, 5),
    "negative members": ({"members": -1}, 8),
    "keep": ({"keep": math.inf}, 13),
    "keep that is NaN": ({"keep": math.nan}, 13),
    "keep of another type": ({"keep": 0.1}, 13),
    "keep beyond the type": ({"keep": 1e39}, 13),
}


def structures(*given: Blending):
    """The library's, and what must stay alive."""
    packed, kept = abi.packed_blendings(list(given))
    return (abi.RawBlending * len(given)).from_buffer_copy(packed), [kept, given]


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_blendings_are_refused_before_a_byte_is_written(name):
    fields, status = REFUSED[name]
    good, bad = onto(64, torch.float32), blending(any_bits(200, torch.float32).view(10, 20)[:, ::4])
    before = [copy_of(good).out, copy_of(bad).out]
    raw, kept = structures(good, bad)
    for field, value in fields.items():
        setattr(raw[1].to if field.startswith("to.") else raw[1], field.removeprefix("to."), value)
    assert cpu.library().fastinit_blend(ctypes.byref(raw), 2, 1, 0) == status
    assert same_bits(good.out, before[0]) and same_bits(bad.out, before[1])
    del kept


@pytest.mark.parametrize("x", [math.inf, -math.inf, math.nan, 0.1, 1e39])
@pytest.mark.parametrize("at", [0, 4])
def test_wrong_coefficients_are_refused(x, at):
    good, bad = onto(64, torch.float32), onto(64, torch.bfloat16, members=5)
    before = copy_of(good).out
    raw, kept = structures(good, bad._replace(add=tuple(x if i == at else 1.0 for i in range(5))))
    assert cpu.library().fastinit_blend(ctypes.byref(raw), 2, 1, 0) == 13
    assert same_bits(good.out, before)
    raw, others = structures(onto(64, torch.float64, members=5)._replace(add=(0.1,) * 5, keep=0.1))
    assert cpu.library().fastinit_blend(ctypes.byref(raw), 1, 1, 0) == 0
    del kept, others


def test_refused_calls():
    library, (raw, kept) = cpu.library(), structures(onto(64, torch.float32))
    assert library.fastinit_blend(None, 1, 1, 0) == 1
    assert library.fastinit_blend(ctypes.byref(raw), -1, 1, 0) == 8
    assert library.fastinit_blend(ctypes.byref(raw), 1, 0, 0) == 8
    assert library.fastinit_blend(ctypes.byref(raw), 1, 1, 99) == 15
    assert library.fastinit_blend(None, 0, 1, 0) == 0
    raw[0].to.rows = raw[0].to.out = raw[0].source = 0
    assert library.fastinit_blend(ctypes.byref(raw), 1, 1, 0) == 0, "the memory of an empty box is not asked for"
    raw, others = structures(onto(64, torch.float32, keep=0.0))
    raw[0].source = 0
    assert library.fastinit_blend(ctypes.byref(raw), 1, 1, 0) == 0, "with keep 0 nothing is read"
    del kept, others


def test_blends_from_many_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    expected = copy_of(onto(20_000, torch.bfloat16))
    reference.blend([expected])

    def work(_):
        one = onto(20_000, torch.bfloat16)
        cpu.blend([one])
        return one.out

    with ThreadPoolExecutor(8) as pool:
        assert all(same_bits(out, expected.out) for out in pool.map(work, range(24)))
