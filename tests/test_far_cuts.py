"""Truncated normals wherever their bounds lie: far from the mean, narrow, about it, at 0, subnormal, huge. No place is lost."""

import math
import os

import mpmath
import numpy as np
import pytest
import torch
from helpers import far

import fastinit
from fastinit._backends.choose import choose
from fastinit._core import laws, recipes

INF = math.inf
F32, F64 = torch.float32, torch.float64
BACKEND = choose(torch.device("cpu"))  # all give the same bits


def words_of(dtype: torch.dtype) -> torch.Tensor:
    """The middle, the quartiles and the outermost of both signs, and some between."""
    top = 1 << 8 * dtype.itemsize - 1
    above = [1, top >> 3, top >> 2, top >> 1, 3 * top >> 2, 7 * top >> 3, top - (top >> 8), top - (top >> 20), top - 256, top - 1]
    return torch.tensor([*above, *(-(word | 1) for word in above)], dtype=torch.int64 if dtype is F64 else torch.int32)


def wrong(asked: list, dtype: torch.dtype) -> tuple[list, list]:
    """The laws that are wrong, and the refusals."""
    served, values, refusals, words = [], [], [], words_of(dtype)
    for law in asked:
        try:
            recipe = recipes.cached_recipe.__wrapped__(laws.truncated_normal(*law), dtype)
        except ValueError as error:
            refusals.append((law, str(error)))
            continue
        served.append(law)
        values.append(BACKEND.transform(recipe, words).double().numpy())
    off = far.faults(served, words.tolist(), np.stack(values), dtype.itemsize).any(axis=1)
    return [law for law, fault in zip(served, off.tolist(), strict=True) if fault], refusals


def may_be_refused(law: tuple, error: str, dtype: torch.dtype) -> bool:
    """Where the range of the real type is left, or no number of it lies in the cut."""
    mean, std, a, b = law
    if "lies in" in error:
        with np.errstate(over="ignore"):
            least = np.float32(a)
        least = float(least if least >= np.float64(a) else np.nextafter(least, np.float32(INF)))
        return dtype is F32 and (least > b or math.isinf(least))
    return "leave the range" in error and abs(mean) + 40 * std > torch.finfo(dtype).max


LAWS = int(os.environ.get("FASTINIT_TEST_LAWS", "1500"))  # a minute for 10,000


@pytest.mark.parametrize("count", [300, pytest.param(LAWS, marks=pytest.mark.full)])
def test_values_are_the_laws(count):
    """To 4 ulps, or to a millionth of the quartile range. Every second law is one of float32, which holds fewer of them."""
    asked = far.grid(count) if far.WIDE else [law for law in far.grid(count) if law[1] > 1e-150]
    for dtype, those in ((F64, asked[::2]), (F32, asked[1::2])):
        found, refusals = wrong(those, dtype)
        print(f"{dtype}: {len(those)} laws, {len(refusals)} refused, {len(found)} wrong")
        assert not found, (dtype, len(found), found[:5])
        assert [(law, error) for law, error in refusals if not may_be_refused(law, error, dtype)] == []
        assert dtype is F32 or not refusals


ORACLE = [
    (0.0, 1.0, -1.5, 2.5),
    (-30.0, 2.0, 1.0, INF),
    (1.0, 0.5, 1.25, 1.2500001),
    (-7.0, 0.25, -INF, -8.0),
    (-1000.0, 1.0, -0.001, 0.0005),
    (5.0, 1.0, -1e-14, 1e-14),
]


def test_shares_are_those_of_many_digits():
    with mpmath.workdps(80):
        for mean, std, a, b in ORACLE:
            if b <= mean:
                mean, a, b = -mean, -b, -a
            start, end = (a if a > -INF else mean), (b if b < INF else max(a, mean) + std / 10)
            places = [start + (end - start) * part for part in (0.01, 0.3, 0.77)]
            v = np.array(places, dtype=far.Long)
            below, above = far.shares(*(np.full_like(v, x) for x in (mean, std, a, b)), v, 0 * v)
            for x, *found in zip(places, below, above, strict=True):
                over_a, over_x, over_b = (mpmath.erfc((mpmath.mpf(y) - mean) / std / mpmath.sqrt(2)) for y in (a, x, b))
                for share, mass in zip(found, (over_a - over_x, over_x - over_b), strict=True):
                    assert abs(float(share) * (over_a - over_b) / mass - 1) < 1e-12


def test_what_is_off_is_seen():
    """Values twice as far off as they may be are faults, in either direction."""
    words, law = words_of(F64), (-1e8, 1.0, 0.0, INF)
    right = BACKEND.transform(recipes.recipe(laws.truncated_normal(*law), F64), words).numpy()
    assert not far.faults([law], words.tolist(), [right], 8).any()
    for off in (2.2e-14, -2.2e-14):
        seen = far.faults([law], words.tolist(), [right + off], 8)
        assert seen.all()


@pytest.mark.parametrize("law", [(0.0, 1e305, 0.0, INF), (0.0, 1e305, -1e305, 2e305), (0.0, 4e306, -1e306, INF)], ids=str)
def test_a_law_near_the_end_of_the_range_has_no_nan_in_its_middle(law):
    """Where a cell that d = 1 alone visits had coefficients beyond the range."""
    assert wrong([law], F64) == ([], [])


def test_an_exponential_far_from_the_mean():
    x = fastinit.truncated_normal_(torch.empty(1 << 20, dtype=F64), mean=-1e8, std=1.0, a=0.0, b=INF, key=1)
    assert abs(x.mean().item() / 1e-8 - 1) < 0.01 and abs(x.std().item() / 1e-8 - 1) < 0.01
    assert int((x == 0).sum()) == 0 and bool((x >= 0).all())


def test_a_narrow_cut_beside_zero():
    x = fastinit.truncated_normal_(torch.empty(1 << 20, dtype=F64), mean=-5.0, std=1.0, a=-1e-14, b=1e-14, key=1)
    assert abs(x.mean().item()) < 1e-14 / 300 and abs(x.std().item() / (1e-14 / math.sqrt(3)) - 1) < 0.01


@pytest.mark.parametrize("dtype", [F64, F32, torch.float16, torch.bfloat16], ids=str)
def test_a_mirrored_law_is_the_mirror_image(dtype):
    words = words_of(dtype)
    for mean, std, a, b in [(-1e8, 1.0, 0.0, INF), (-3e7, 1.0, -1e-8, 2e-8), (-1e9, 1e4, 0.125, 0.25), (-1e30, 1e-20, 0.5, 1.0)]:
        value, image = (recipes.recipe(laws.truncated_normal(*law), dtype) for law in ((mean, std, a, b), (-mean, std, -b, -a)))
        assert torch.equal(BACKEND.transform(value, words).double(), -BACKEND.transform(image, ~words).double())


def test_narrow_dtypes_have_the_float32_value_rounded():
    words = words_of(F32)
    for law in [(-1e8, 1.0, 0.0, INF), (-3e4, 1.0, -1e-3, 2e-3), (-1e20, 1e10, -2.0, 3.0)]:
        exact = BACKEND.transform(recipes.recipe(laws.truncated_normal(*law), F32), words)
        for dtype in (torch.float16, torch.bfloat16):
            low, high = (torch.tensor(x).to(dtype) for x in recipes.representable(*law[2:], dtype))
            narrow = BACKEND.transform(recipes.recipe(laws.truncated_normal(*law), dtype), words)
            assert torch.equal(narrow.double(), exact.to(dtype).clamp(low, high).double())


@pytest.mark.parametrize("dtype", [F64, F32], ids=str)
def test_zeros_do_not_depend_on_which_zero_was_asked_for_first(dtype):
    """-0.0 and 0.0 are one law to the cache: they make one recipe."""
    words, cut = words_of(dtype), 2.0**-9
    for make, parameters in [
        (laws.uniform, (0.0, 1.0)),
        (laws.uniform, (-1.0, 0.0)),
        (laws.normal, (0.0, 1.0)),
        (laws.constant, (0.0,)),
        (laws.truncated_normal, (0.0, 1.0, -2.0, 2.0)),
        (laws.truncated_normal, (0.0, 1.0, 0.0, 1.0)),
        (laws.truncated_normal, (0.0, 1.0, -INF, 0.0)),
        (laws.truncated_normal, (1e9, 1.0, -1.0, 0.0)),
        (laws.truncated_normal, (-1e9, 1.0, 0.0, 1.0)),
        (laws.fmod_normal, (0.0, 1.0, -cut, cut)),
    ]:
        plain = recipes.cached_recipe.__wrapped__(make(*parameters), dtype)
        signed = recipes.cached_recipe.__wrapped__(make(*(-0.0 if p == 0 else p for p in parameters)), dtype)
        assert [x.hex() for x in flat(plain)] == [x.hex() for x in flat(signed)], parameters
        pair = [BACKEND.transform(recipe, words) for recipe in (plain, signed)]
        assert torch.equal(pair[0], pair[1]) and torch.equal(pair[0].signbit(), pair[1].signbit())


def flat(recipe: recipes.Recipe) -> list[float]:
    table = [] if recipe.table is None else recipe.table.double().flatten().tolist()
    return [float(x) for x in (recipe.slope, recipe.anchor, recipe.std, recipe.low, recipe.high)] + table
