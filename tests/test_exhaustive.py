"""All 2^32 words through the native map: ulp error against float64, exact symmetry (so a mean of exactly 0), exact bounds."""

import math

import pytest
import torch

from fastinit import distributions
from fastinit.backends import native

REASON = native.unavailable(torch.device("cpu"))
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"native: {REASON}")
CHUNK = 1 << 18  # 2 MB temporaries; larger ones leave the caches


def odd_words():
    """The 2^30 positive odd words; w, w ^ 1, ~w and ~w ^ 1 for each of them are all 2^32."""
    for first in range(0, 1 << 30, CHUNK):
        yield torch.arange(first, first + CHUNK, dtype=torch.int64) * 2 + 1


def ulps(value: torch.Tensor, exact: torch.Tensor) -> float:
    """The worst error in units of the last place of the float32 nearest to the exact value."""
    _, exponent = torch.frexp(exact.abs())
    return float(((value.double() - exact).abs() * torch.ldexp(torch.ones_like(exact), 24 - exponent.clamp(min=-125))).max())


def sweep(law: distributions.Distribution, centre: float, exact) -> tuple[float, float, float]:
    """Worst ulps, least and greatest value. Asserts v(~w) = 2 centre - v(w) where that is exact, and v(w ^ 1) = v(w)."""
    recipe, worst, least, greatest = distributions.recipe(law, torch.float32), 0.0, math.inf, -math.inf
    for words in odd_words():
        s, w = words, words.to(torch.int32)
        value, mirrored = native.transform(recipe, w), native.transform(recipe, ~w)
        assert torch.equal(native.transform(recipe, w ^ 1), value) and torch.equal(native.transform(recipe, ~w ^ 1), mirrored)
        if centre == 0:
            assert torch.equal(mirrored, -value)
        t = s.double() * 2.0**-31
        worst = max(worst, ulps(value, exact(t)), ulps(mirrored, exact(-t)) if centre else 0.0)
        least, greatest = min(least, float(mirrored.min())), max(greatest, float(value.max()))
    return worst, least, greatest


def truncated_quantile(t: torch.Tensor) -> torch.Tensor:
    return math.sqrt(2) * torch.special.erfinv(t * math.erf(math.sqrt(2)))  # mass of +-2 sigmas = erf(2 / sqrt 2)


def test_truncated_normal():
    worst, least, greatest = sweep(distributions.truncated_normal(0.0, 1.0, -2.0, 2.0), 0.0, truncated_quantile)
    print(f"truncated normal at 2 sigmas, all words: worst {worst:.3f} ulp")
    assert worst <= 3.0 and (least, greatest) == (-2.0, 2.0)


def test_normal():
    worst, least, greatest = sweep(distributions.normal(0.0, 1.0), 0.0, lambda t: math.sqrt(2) * torch.special.erfinv(t))
    print(f"normal, all words: worst {worst:.3f} ulp")
    end = float(math.sqrt(2) * torch.special.erfinv(torch.tensor(1 - 2.0**-31, dtype=torch.float64)))
    assert worst <= 3.0 and greatest == -least and abs(greatest - end) <= 3 * 2.0**-21


def test_uniform():
    worst, least, greatest = sweep(distributions.uniform(-1.0, 1.0), 0.0, lambda t: t)
    print(f"uniform(-1, 1), all words: worst {worst:.3f} ulp")
    assert worst <= 2.0 and (least, greatest) == (-1.0, 1.0)


def test_uniform_from_zero():
    worst, least, greatest = sweep(distributions.uniform(0.0, 1.0), 0.5, lambda t: (1 + t) / 2)
    print(f"uniform(0, 1), all words: worst {worst:.3f} ulp")
    assert worst <= 2.0 and (least, greatest) == (2.0**-32, 1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize("scale", [1.0, 3e-5], ids=["normals", "subnormals"])
def test_narrow_dtypes_are_the_rounded_clamped_float32(dtype, scale):
    """Bounds that the dtype does not hold, so that the clamp matters; a 64th of the words of either sign."""
    bound = 2.0 * scale * (1 + 1e-3)
    law = distributions.truncated_normal(0.0, scale, -bound, bound)
    narrow, wide = distributions.recipe(law, dtype), distributions.recipe(law, torch.float32)
    assert narrow.high <= bound
    for i, words in enumerate(odd_words()):
        if i % 64 == 0:
            for w in (words.to(torch.int32), ~words.to(torch.int32)):
                expected = native.transform(wide, w).clamp(narrow.low, narrow.high).to(dtype)
                assert torch.equal(native.transform(narrow, w).float(), expected.float())
