"""Fused multiply-adds, which torch does not have and the reference emulates: one rounding, against fractions."""

import math
import random
from fractions import Fraction

import pytest
import torch
from helpers.oracle import fma, nearest

from fastinit._backends import exact
from fastinit._core import rounding


def adversarial(rng: random.Random, bits: int) -> tuple[float, float, float]:
    """a * b + c next to the middle of two neighbors of c: half an ulp, times 1 + 2^(1 - bits) or its like, or exactly."""
    one = 2.0 ** (1 - bits)
    c = math.ldexp(rng.randrange(2 ** (bits - 1), 2**bits), rng.randrange(-8, 9) - bits)
    half = math.ulp(c) * 2.0 ** (53 - bits) / 2
    a, b = rng.choice([(1 + one, 1 - one), (1 + one, 1 + one), (1 - one, 1 - one / 2), (1.0, 1.0), (1 - one, 1.0)])
    return a * rng.choice([-1, 1]), b * half * rng.choice([1, 3, 0.5]), c * rng.choice([-1, 1])


def check_fma(triples, dtype: torch.dtype) -> None:
    a, b, c = (torch.tensor(column, dtype=dtype) for column in zip(*triples, strict=True))
    assert torch.equal(a.double(), torch.tensor([x for x, _, _ in triples], dtype=torch.float64)), "operands are exact"
    found = exact.fma(a, b, c, dtype).double().tolist()
    for x, y, z, got in zip(a.tolist(), b.tolist(), c.tolist(), found, strict=True):
        assert Fraction(got) == fma(x, y, z, dtype), (x, y, z)


@pytest.mark.parametrize("dtype, bits", [(torch.float32, 24), (torch.float64, 53)], ids=["float32", "float64"])
def test_emulated_fma(dtype, bits):
    rng = random.Random(bits)
    check_fma([adversarial(rng, bits) for _ in range(3000)], dtype)
    spread = [
        tuple(math.ldexp(rng.randrange(-(2**bits), 2**bits), rng.randrange(-20, 21) - bits) for _ in range(3))
        for _ in range(5000)
    ]
    check_fma(spread, dtype)
    cancelling = [(a, b, -float(nearest(Fraction(a) * Fraction(b), dtype))) for a, b, _ in spread]
    check_fma(cancelling, dtype)


def test_emulated_fma_of_subnormal_float32_results():
    """As tables of a tiny std have them: coefficients down to the smallest float32, variables of at most 29 bits."""
    rng = random.Random(9)
    triples = []
    for _ in range(5000):
        p, c = (rng.randrange(-(2**24), 2**24) * 2.0 ** rng.randrange(-149, -130) for _ in range(2))
        triples.append((p, rng.randrange(2**23) * 2.0**-23, c))
    check_fma(triples, torch.float32)


@pytest.mark.parametrize("b, c", [(0.75, 0.3), (2.0**-7, 0.1), (1e-30, 1e-32), (0.7, 0.0), (-3.3e-22, 0.0), (2.0**-70, 1e-21)])
def test_emulated_fma_with_numbers(b, c):
    b, c = (float(torch.tensor(x)) for x in (b, c))
    a = torch.tensor([0.0, 1.0, -1.0, 3.0, 2.0**31, -(2.0**31) + 128, 12345.67, 2.0**-20, -1 / 3])
    found = exact.fma(a, b, c, torch.float32)
    assert [Fraction(x) for x in found.tolist()] == [fma(x, b, c, torch.float32) for x in a.tolist()]


def test_fma_of_a_recipe_rounds_once():
    rng = random.Random(3)
    for real, bits in ((torch.float32, 24), (torch.float64, 53)):
        triples = [adversarial(rng, bits) for _ in range(1500)]
        triples += [(a, b, -float(nearest(Fraction(a) * Fraction(b), real))) for a, b, _ in triples]  # it cancels
        for triple in triples:
            assert Fraction(rounding.fma(*triple, real)) == fma(*triple, real)
    for triple in (
        (2.0**1000, 2.0**-1000, 2.0**-53),
        (2.0**-600, 3 * 2.0**-474, 2.0**-1021),
        (1 + 2.0**-52, 2.0**-1022, -(2.0**-1022)),
    ):
        assert Fraction(rounding.fma(*triple, torch.float64)) == fma(*triple, torch.float64)
