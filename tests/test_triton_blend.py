"""The Triton kernels of blends: bit for bit the reference for every law, dtype, box, stride and list; what is compiled.

As in test_triton.py they are interpreted where there is no GPU.
"""

import pytest
import torch
from helpers import blends
from helpers.blends import any_bits, blending, onto
from helpers.places import BLOCKED, UNBLOCKED

pytest.importorskip("triton")
from test_triton import DEVICE, backend, needs_gpu, needs_kernels

from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.plan import Box

pytestmark = [pytest.mark.one_of_each, pytest.mark.extra, needs_kernels]
FEW = [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float64]


def check(*given) -> None:
    blends.check_blends(backend, *given)


@pytest.mark.parametrize(
    ("law", "dtype"),
    [
        *(("2 sigmas", dtype) for dtype in FLOAT_DTYPES),
        *((law, torch.float32) for law in ("uniform", "uniform from 0", "normal", "half-normal", "fmod")),
        *((law, torch.float64) for law in ("uniform", "half-normal")),
    ],
)
def test_every_kind_and_dtype(law, dtype):
    """By blocks, with what is left behind the last; by elements, as a column far out."""
    check(onto(1037, dtype, DEVICE, law=law, box=Box(2**35 + 8, 1, 1037, 1037), members=1))
    check(onto(521, dtype, DEVICE, law=law, box=Box(2**34 + 5, 521, 1, 77), members=2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2], ids=str)
def test_every_length_around_16_bytes(dtype):
    for count in (1, 3, 7, 8, 9, 15, 16, 17, 4097):
        check(onto(count, dtype, DEVICE, box=Box(8, 1, count, count)))


@pytest.mark.parametrize("dtype", FEW[1:3], ids=str)
def test_lists(dtype):
    """Of several laws, numbers of members, and factors; nothing is read where keep is 0."""
    given = [
        onto(40, dtype, DEVICE, law="normal", keep=1.0, members=4),
        onto(100, dtype, DEVICE, law="uniform", keep=0.0, members=1),
        onto(777, dtype, DEVICE, keep=-0.5, members=3),
        onto(16, dtype, DEVICE, law="normal", keep=-0.0, members=2),
        onto(0, dtype, DEVICE),
    ]
    check(*given)
    check(*given[:2], onto(64, torch.float32, DEVICE), blending(any_bits(300, dtype).to(DEVICE)[::3], members=2))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("box", [*BLOCKED, *UNBLOCKED], ids=str)
def test_boxes(dtype, box):
    check(onto(box.rows * box.cols, dtype, DEVICE, box=box))


VIEWS = {
    "transposed": lambda t: t[:20].t(),
    "strided": lambda t: t[::3, 1::2],
    "gaps": lambda t: t.as_strided((3, 2, 4, 5), (300, 100, 3, 20)),
    "six axes": lambda t: t.as_strided((2, 2, 2, 2, 2, 3), (600, 300, 140, 60, 3, 20)),
    "unaligned": lambda t: t.reshape(-1)[1:700],
    "scalar": lambda t: t.reshape(-1)[3:4].reshape(()),
}


@pytest.mark.parametrize(("name", "dtype"), [*((name, torch.bfloat16) for name in VIEWS), ("strided", torch.float64)])
def test_strides_of_the_tensor_and_of_its_source(name, dtype):
    view, other = (VIEWS[name](any_bits(2000, dtype, seed).to(DEVICE).view(40, 50)) for seed in (1, 2))
    apart = any_bits(view.numel(), dtype, 3).to(DEVICE).view(view.shape)
    check(blending(view))
    check(blending(view, source=apart), blending(apart, source=other))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_sources_apart_and_at_no_multiple_of_16_bytes(dtype):
    for first in (0, 1):
        source = any_bits(1001, dtype, 3).to(DEVICE)[first : first + 1000]
        check(onto(1000, dtype, DEVICE, source=source), onto(1000, dtype, DEVICE, source=source, keep=0.0))


@needs_gpu
def test_no_number_decides_what_is_compiled():
    """Neither keys, coefficients nor how many there are."""
    from fastinit._backends.triton_blend_kernels import blend_list

    backend.blend([onto(64, torch.float32, DEVICE, members=1)])
    compiled = sum(len(each) for each, *_ in blend_list.device_caches.values())
    for members in (1, 2, 16, 33):
        backend.blend([onto(64 * members, torch.float32, DEVICE, members=members, keep=1.0, key=16 * members)])
    assert sum(len(each) for each, *_ in blend_list.device_caches.values()) == compiled


@needs_gpu
def test_a_capture_is_refused():
    one, graph = onto(64, torch.float32, DEVICE), torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="Blend outside of the capture"), torch.cuda.graph(graph):
        backend.blend([one])
