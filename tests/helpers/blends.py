"""Where tests blend: onto any bits, in boxes and layouts; and what must come out."""

import torch
from helpers.laws import KEY, LAWS, same_bits

from fastinit._backends import reference
from fastinit._core.plan import Blending, Box
from fastinit._core.recipes import real_of, recipe
from fastinit._core.rounding import INTEGERS

ADD = (0.75, -3.0, 2.0**-30, 1.5e30, -(2.0**-140))  # two that are exact, one that is lost, one that overflows, a subnormal one


def any_bits(count: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Numbers of every size: subnormal, infinite and NaN among them, and in front what lies at the ends."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.randint(0, 256, (count * dtype.itemsize,), dtype=torch.uint8, generator=generator).view(dtype)
    info = torch.finfo(dtype)
    edges = [0.0, -0.0, info.max, -info.max, info.smallest_normal, info.smallest_normal / 2, float("nan"), 1.0, float("inf")]
    edges = torch.tensor(edges[:count], dtype=torch.float64).to(dtype)
    out.view(INTEGERS[dtype.itemsize])[: len(edges)] = edges.view(INTEGERS[dtype.itemsize])
    middle = torch.randn(count // 2, generator=generator).to(dtype)
    out.view(INTEGERS[dtype.itemsize])[count - count // 2 :] = middle.view(INTEGERS[dtype.itemsize])
    return out


def blending(out, law="2 sigmas", keep=0.625, members=2, box=None, source=None, key=KEY) -> Blending:
    """Of a tensor that holds what it is to hold before."""
    real, n = real_of(out.dtype), out.numel()
    keys = tuple((key + 2**61 * i + i) % 2**64 for i in range(members))
    add = tuple(torch.tensor((ADD * (members // len(ADD) + 1))[:members], dtype=torch.float64).to(real).tolist())
    return Blending(out, recipe(LAWS[law], real), keys, box or Box(0, 1, n, n), add, keep, out if source is None else source)


def onto(count, dtype, device="cpu", **settings) -> Blending:
    return blending(any_bits(count, dtype).to(device), **settings)


def copy_of(given: Blending) -> Blending:
    """On the CPU, in memory of its own."""
    out, source = given.out.cpu().clone(), given.source.cpu().clone()
    return given._replace(out=out, source=out if given.source is given.out else source)


def check_blends(backend, *blendings: Blending) -> None:
    """Blends into the list, and compares each tensor with the reference on the CPU."""
    expected = [copy_of(each) for each in blendings]
    reference.blend(expected)
    backend.blend(list(blendings))
    for got, wanted in zip(blendings, expected, strict=True):
        what = got.recipe.kind, got.out.dtype, got.out.shape, got.box, got.keep, len(got.keys)
        assert same_bits(got.out.cpu(), wanted.out), what
