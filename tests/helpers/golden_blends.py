"""Makes tests/data/golden_blends.json: hashes of blends, which freeze their bits, as golden.py does for fills.

`cd tests; python -m helpers.golden_blends` writes them anew, and refuses where one on file would change. Sums are carried
out here once more, in NumPy's integers and float64 and in Python's integers; neither fastinit nor torch is imported, but by
`digest`.
"""

import itertools
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from helpers import golden
from helpers.golden import Place, row

FILE = golden.DATA / "golden_blends.json"
SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
# The greatest numbers that are rounded to, without the sign: infinity, or in float8_e4m3fn, which has none, 448. Then NaN.
TOPS = {"float16": 0x7C00, "bfloat16": 0x7F80, "float8_e4m3fn": 0x7E, "float8_e5m2": 0x7C}


class Case(NamedTuple):
    """A blend onto `old_bits`. The law is a name in recipes.json; each member has a key and a coefficient."""

    law: str
    dtype: str
    place: Place  # without a key
    keys: tuple[int, ...]
    add: tuple[float, ...]
    keep: float


KEEPS = (1.0, 0.0, 0.625, -1.0, 1 / 3, 2.0**-130, 1e30)
MEMBERS, MANY = (1, 2, 3, 4, 5), 40
# Exact, inexact, lost beside others, of every dtype's overflow, subnormal in float32
ADDS = (0.75, -3.0, 1 / 3, 2.0**-30, 1e5, -(2.0**-140), 1.5e30, -0.01, 3e38)
WIDE_ADDS = (*ADDS[:-2], -0.01, 1.5e308, 2.0**-1060)
PLACES = (
    row(0, 0, 129),
    row(0, 3, 257),
    row(0, 2**34 - 5, 131),
    row(0, 2**62 + 1, 65),
    Place(0, 2**32 - 3, 7, 13, 40),
    Place(0, 2**34 - 9, 64, 1, 3),
    Place(0, 5, 6, 17, 1001),
)


def cases():
    """(name, case) of every golden blend: of each law in each dtype two."""
    pairs = itertools.product(golden.names_of_laws(), golden.FLOATS)
    for number, (law, dtype) in enumerate(pairs):
        for turn in range(2):
            of_law, of_dtype = divmod(number, len(golden.FLOATS))
            at = 2 * number + of_law + turn
            many = of_law == of_dtype and turn == 0  # for once in each dtype
            members, keep = MANY if many else MEMBERS[(at + of_law) % len(MEMBERS)], KEEPS[at % len(KEEPS)]
            place = row(0, 1, 33) if many else PLACES[at * 3 % len(PLACES)]
            keys = [golden.KEYS[(at + m) % len(golden.KEYS)] ^ m for m in range(members)]
            add = [real((WIDE_ADDS if dtype == "float64" else ADDS)[(at * 5 + m) % 9], dtype) for m in range(members)]
            extent = f"start {place.start} rows {place.rows} cols {place.cols} pitch {place.pitch}"
            name = f"{law} | {dtype} | members {members} first key {keys[0]:#x} add {add[0]:g} keep {keep:g} {extent}"
            yield name, Case(law, dtype, place, tuple(keys), tuple(add), real(keep, dtype))


def real(x: float, dtype: str) -> float:
    return x if dtype == "float64" else float(np.float32(x))


def old_bits(case: Case) -> np.ndarray:
    """Any bits: subnormal, infinite and NaN among them. In front the last numbers, NaN and zeros; behind numbers near 1."""
    size, count = SIZES[case.dtype], case.place.rows * case.place.cols
    word = golden.both_words(row(len(case.keys), 7, count)) >> np.uint64(64 - 8 * size)
    sign, top = 1 << 8 * size - 1, TOPS.get(case.dtype, {8: 0x7FF << 52, 4: 0xFF << 23}.get(size))
    for i, pattern in enumerate((0, sign, top, top | sign, top - 1, top - 1 | sign, sign - 1, 2 * sign - 1, 1, 3 | sign)):
        word[i] = pattern
    near = {"float64": 0x3FF << 52, "float32": 0x7F << 23, "float16": 0x3C00, "bfloat16": 0x3F80}
    one, low = near.get(case.dtype, 0x38 if "e4" in case.dtype else 0x3C), sign // 128 | 1
    word[count // 2 :] = np.uint64(one) ^ word[count // 2 :] & np.uint64(sign | low * 2 - 1)
    return word.astype(f"<u{size}")


def widened(bits: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers that bits are, as float64."""
    as_floats = {
        "float8_e5m2": lambda: (bits.astype("<u2") << 8).view("<f2"),
        "bfloat16": lambda: (bits.astype("<u4") << 16).view("<f4"),
    }.get(dtype, lambda: bits.view(f"<f{SIZES[dtype]}"))
    if dtype != "float8_e4m3fn":
        with np.errstate(invalid="ignore"):  # of NaN that signals
            return as_floats().astype(np.float64)
    exponent, mantissa = (bits >> 3 & 15).astype(np.int64), (bits & 7).astype(np.float64)
    size = np.where(exponent > 0, np.ldexp(8 + mantissa, exponent - 10), np.ldexp(mantissa, -9))
    return np.where(bits & 127 == 127, np.nan, np.where(bits >> 7, -size, size))


def fma(a: np.ndarray, b: float, c: np.ndarray, bits: int) -> np.ndarray:
    """a * b + c with one rounding, of finite a and b, and any c."""
    finite = np.isfinite(c)
    if bits == 32:
        with np.errstate(over="ignore"):  # to infinity
            return np.where(finite, golden.fma_float32(a, np.full_like(a, b), np.where(finite, c, 0.0)), c)
    (ma, ea), (mb, eb), (mc, ec) = (golden.integers(np.where(finite, x, 0.0)) for x in (a, np.full_like(a, b), c))
    result = c.copy()
    for i in np.flatnonzero(finite).tolist():
        product, unit = int(ea[i] + eb[i]), int(min(ea[i] + eb[i], ec[i]))
        total = (ma[i] * mb[i] << product - unit) + (mc[i] << int(ec[i]) - unit)
        result[i] = quotient(total, unit) if total else a[i] * b + c[i]
    return result


def quotient(total: int, unit: int) -> float:
    """total * 2^unit, rounded; infinity where it is too large."""
    try:
        return total / (1 << -unit) if unit < 0 else float(total << unit)
    except OverflowError:
        return np.inf if total > 0 else -np.inf


def sums(case: Case, old: np.ndarray, constants: dict[str, SimpleNamespace]) -> np.ndarray:
    """As float64 numbers of the real type."""
    bits = 64 if case.dtype == "float64" else 32
    recipe = constants[f"{case.law} | float{bits}"]
    with np.errstate(over="ignore", invalid="ignore"):
        acc = golden.rounded(case.keep * old, bits) if case.keep else np.zeros_like(old)
    for key, factor in zip(case.keys, case.add, strict=True):
        place = case.place._replace(key=key)
        word = golden.both_words(place) if bits == 64 else golden.words(place, 0)
        acc = fma(golden.values(recipe, word, bits), factor, acc, bits)
    return acc


def narrowed(acc: np.ndarray, dtype: str) -> np.ndarray:
    """Sums as bits of the dtype: one rounding, the dtype's own overflow, one NaN."""
    size = SIZES[dtype]
    if size >= 4:
        with np.errstate(over="ignore"):
            bits = acc.astype(f"<f{size}").view(f"<u{size}")
    else:
        finite = np.abs(np.where(np.isfinite(acc), acc, 0.0))
        pattern = np.minimum(golden.narrowed(finite, *golden.NARROW[dtype]), TOPS[dtype])
        pattern = np.where(np.isinf(acc), TOPS[dtype], pattern)
        bits = (pattern | np.signbit(acc).astype(np.int64) << 8 * size - 1).astype(f"<u{size}")
    return np.where(np.isnan(acc), np.array((1 << 8 * size - 1) - 1, bits.dtype), bits)


def blended(case: Case, constants: dict[str, SimpleNamespace]) -> np.ndarray:
    """The little-endian elements of a blend, as integers."""
    return narrowed(sums(case, widened(old_bits(case), case.dtype), constants), case.dtype)


def hashes(chosen) -> dict[str, str]:
    """By this program, of (name, case) pairs."""
    constants = golden.recipes()
    return {name: golden.hashed(blended(case, constants).tobytes()) for name, case in chosen}


def digest(backend, case: Case, device="cpu") -> str:
    """The hash of a backend's blend of a case, from today's recipe of the law."""
    import torch
    from helpers.laws import INTEGERS, LAWS

    from fastinit._core import recipes
    from fastinit._core.plan import Blending, Box

    dtype = getattr(torch, case.dtype)
    integer, size = INTEGERS[dtype.itemsize], dtype.itemsize
    signed = torch.from_numpy(old_bits(case).view(f"<i{size}" if size > 1 else "u1"))
    out = signed.to(integer).view(dtype).to(device)
    recipe = recipes.recipe(LAWS[case.law], recipes.real_of(dtype))
    backend.blend([Blending(out, recipe, case.keys, Box(*case.place[1:]), case.add, case.keep, out)])
    return golden.hashed(out.cpu().view(integer).numpy().tobytes())


if __name__ == "__main__":
    golden.written_anew(FILE, {"hashes": hashes(cases())})
