"""Makes tests/data/golden.json: hashes of fills, and keys, which freeze the bits.

`python tests/helpers/golden.py` writes them anew, and refuses where one on file would change: only a release that raises
STREAM_VERSION may do that. The value contract (the docstring of fastinit/_core/recipes.py) is carried out here once more, in
NumPy's integers and float64 and in Python's integers, from the frozen constants and tables of tests/data/recipes.json:
neither fastinit nor torch is imported, but by `digest`, which is for tests. `python tests/test_golden.py` freezes recipes.
"""

import hashlib
import json
import pathlib
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

STREAM_VERSION = 1  # of the contract that this program carries out
DATA = pathlib.Path(__file__).parents[1] / "data"
FILE, RECIPES = DATA / "golden.json", DATA / "recipes.json"
UNIFORM, SYMMETRIC, TWO_SIDED, FMOD = range(4)
FLOATS = ("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2")
WORDS = ("int32", "int64")
NARROW = {"float16": (5, 10), "bfloat16": (8, 7), "float8_e4m3fn": (4, 3), "float8_e5m2": (5, 2)}  # exponent, mantissa bits
LOW32 = 0xFFFFFFFF


class Place(NamedTuple):
    """A key, and a box of indices: local (r, c), row-major, is global start + r * pitch + c."""

    key: int
    start: int
    rows: int
    cols: int
    pitch: int


class Case(NamedTuple):
    """A fill. The law is a name in recipes.json, or "words"."""

    law: str
    dtype: str
    place: Place


def named_key(seed: int, *path) -> int:
    secret = (seed % 2**64).to_bytes(8, "little")
    name = ".".join(str(part) for part in path)
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, key=secret).digest(), "little")


NAMES = [(0,), (0, "weight"), (1, "weight"), (42, "decoder", 3, "weight"), (-1, "bias"), (2**64, "été"), (7, 0), (7, "0.1")]
KEYS = (0, 2**64 - 1, 1, 1 << 31, 1 << 32, 1 << 63, named_key(42, "decoder", 3, "weight"))
STARTS = (0, 1, 2, 3, 2**32 - 3, 2**34 - 5, 2**62 + 3, 2**63 - 5000)
LENGTHS = (1, 3, 5, 64, 257, 4099)


def row(key: int, start: int, count: int) -> Place:
    return Place(key, start, 1, count, count)


ALWAYS = [row(0, 0, 4099), row(2**64 - 1, 2**34 - 5, 4099), row(0x0123456789ABCDEF, 2**62 + 3, 257)]
PAIRS = [(key, start) for key in KEYS for start in STARTS]
SPREAD = [row(key, start, LENGTHS[number % len(LENGTHS)]) for number, (key, start) in enumerate(PAIRS)]
BOXES = [  # any length in between, columns, rows far apart, rows that overlap, one row again and again
    Place(1 << 32, 11, 7, 13, 40),
    Place(KEYS[-1], 2**34 - 9, 64, 1, 3),
    Place(2**64 - 1, 1, 2, 9, 2**33),
    Place(0, 5, 6, 100, 1001),
    Place(1 << 63, 2, 3, 5, 2),
    Place(1, 2**62 + 1, 4, 6, 0),
]
STEP = 11  # of the spread, each law in each dtype sees every eleventh place; 66 such neighbours see all


def cases():
    """(name, case) of every golden fill."""
    laws = [(law, dtype) for law in names_of_laws() for dtype in FLOATS]
    words = [("words", dtype) for dtype in WORDS]
    chosen = [(of, place) for of in laws + words for place in ALWAYS]
    chosen += [(of, place) for of in words for place in SPREAD + BOXES]
    for number, of in enumerate(laws):
        chosen += [(of, place) for place in SPREAD[number % STEP :: STEP]]
        chosen.append((of, BOXES[(number + number // len(FLOATS)) % len(BOXES)]))  # each dtype sees all of them
    for (law, dtype), (key, start, rows, cols, pitch) in chosen:
        extent = f"count {cols}" if rows == 1 else f"rows {rows} cols {cols} pitch {pitch}"
        yield f"{law} | {dtype} | key {key:#x} start {start} {extent}", Case(law, dtype, Place(key, start, rows, cols, pitch))


def frozen() -> dict:
    return json.loads(RECIPES.read_text())


def names_of_laws() -> list[str]:
    return list(dict.fromkeys(name.split(" | ")[0] for name in frozen()["recipes"]))


def recipes() -> dict[str, SimpleNamespace]:
    """The frozen recipes as numbers, by "law | dtype", with the fields of fastinit._core.recipes.Recipe."""
    content = frozen()
    tables = {name: table_of(**table) for name, table in content["tables"].items()}
    return {name: recipe_of(tables=tables, **fields) for name, fields in content["recipes"].items()}


def table_of(shape: list[int], cells: dict[str, str]) -> np.ndarray:
    """[halves, terms, cells], from the coefficients of the cells in use, which are named "half cell"."""
    table = np.zeros(shape)
    for place, coefficients in cells.items():
        half, cell = map(int, place.split())
        table[half, :, cell] = [float.fromhex(c) for c in coefficients.split()]
    return table


def recipe_of(kind, flip, top_bits, offset, scale, table, tables, **reals) -> SimpleNamespace:
    offset, scale = (np.array([float.fromhex(x) for x in numbers]) for numbers in (offset, scale))
    reals = {name: float.fromhex(x) for name, x in reals.items()}
    integers = dict(kind=kind, flip=flip, top_bits=top_bits)
    return SimpleNamespace(**integers, **reals, offset=offset, scale=scale, table=tables.get(table))


def philox(counter: list, key: tuple[int, int]) -> list:
    """Philox4x32-10 of Salmon et al. 2011: four uint64 arrays of 32-bit numbers, counters to words."""
    low, shift = np.uint64(LOW32), np.uint64(32)
    a, b, c, d = counter
    for turn in range(10):
        left, right = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        key0, key1 = (np.uint64((key[i] + turn * weyl) & LOW32) for i, weyl in enumerate((0x9E3779B9, 0xBB67AE85)))
        a, b, c, d = (right >> shift) ^ b ^ key0, right & low, (left >> shift) ^ d ^ key1, left & low
    return [a, b, c, d]


def words(place: Place, stream: int) -> np.ndarray:
    """32 bits of each element, as uint64."""
    rows = place.start + np.arange(place.rows, dtype=np.uint64) * np.uint64(place.pitch)
    index = (rows[:, None] + np.arange(place.cols, dtype=np.uint64)).ravel()
    block = index >> np.uint64(2)
    counter = [block & np.uint64(LOW32), block >> np.uint64(32), np.full_like(block, stream), np.zeros_like(block)]
    group = np.stack(philox(counter, (place.key & LOW32, place.key >> 32)))
    return np.take_along_axis(group, (index & np.uint64(3)).astype(np.int64)[None], 0)[0]


def both_words(place: Place) -> np.ndarray:
    return words(place, 0) << np.uint64(32) | words(place, 1)


def values(recipe: SimpleNamespace, word: np.ndarray, bits: int) -> np.ndarray:
    """The contract's values of words of 32 or 64 bits, clamped, before their rounding to the dtype.

    Real numbers are float64 arrays here and below; float32 ones are exact in them.
    """
    odd = word | np.uint64(1)
    s = odd.view(np.int64) if bits == 64 else odd.astype(np.uint32).view(np.int32).astype(np.int64)
    if recipe.kind == UNIFORM:
        x = (odd ^ np.uint64(recipe.flip)) >> np.uint64(1) if recipe.flip else s
        v = fma(rounded(x, bits), recipe.slope, recipe.anchor, bits)
    else:
        p = polynomial(recipe, s, bits)
        v = p if recipe.kind == TWO_SIDED else rounded(s, bits)
        if recipe.kind == SYMMETRIC:
            v = fma(v, p, recipe.anchor, bits)
        elif recipe.kind == FMOD:
            v = fma(remainder(recipe, rounded(v * p, bits), bits), recipe.std, recipe.anchor, bits)
    v = np.where(v <= recipe.low, recipe.low, v)
    return np.where(v >= recipe.high, recipe.high, v)


def polynomial(recipe: SimpleNamespace, s: np.ndarray, bits: int) -> np.ndarray:
    halves, terms, cells = recipe.table.shape
    half = (s > 0).astype(np.int64) if halves == 2 else np.zeros_like(s)
    d = np.uint64(1 << bits - 1) - np.abs(s).astype(np.uint64)
    fraction, exponent = np.frexp(fma(rounded(d, bits), recipe.scale[half], recipe.offset[half], bits))
    mantissa, tops = 2 * fraction - 1, 2**recipe.top_bits
    top = np.floor(mantissa * tops)
    field = exponent.astype(np.int64) - 1 + (1023 if bits == 64 else 127)
    cell, r = (field * tops + top.astype(np.int64)) % cells, mantissa - top / tops
    p = recipe.table[half, terms - 1, cell]
    for term in reversed(range(terms - 1)):
        p = fma(p, r, recipe.table[half, term, cell], bits)
    return p


def remainder(recipe: SimpleNamespace, z: np.ndarray, bits: int) -> np.ndarray:
    n = np.trunc(rounded(np.abs(z) * recipe.inverse_cut, bits))
    r = fma(-n, recipe.cut, np.abs(z), bits)
    r = np.where(r < 0, rounded(r + recipe.cut, bits), r)
    r = np.where(r >= recipe.cut, rounded(r - recipe.cut, bits), r)
    return np.copysign(r, z)


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """To float32 or float64. A product of float32 numbers is exact in float64; of a sum, rounding twice is rounding once."""
    return x.astype(np.float64 if bits == 64 else np.float32).astype(np.float64)


def fma(a, b, c, bits: int) -> np.ndarray:
    """a * b + c, rounded once to float32 or float64."""
    a, b, c = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (a, b, c)))
    return fma_float64(a, b, c) if bits == 64 else fma_float32(a, b, c)


def fma_float32(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The product is exact in float64. The sum is rounded to odd: what is left of it tells on which side of a midpoint it was."""
    product = a * b
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)  # of the sum, exactly (Knuth)
    inexact_and_even = (error != 0) & (total.view(np.int64) & 1 == 0)
    odd = np.where(inexact_and_even, np.nextafter(total, np.copysign(np.inf, error)), total)
    return rounded(odd, 32)


def fma_float64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """In Python's integers, whose quotient is correctly rounded, subnormal or not."""
    (ma, ea), (mb, eb), (mc, ec) = (integers(x) for x in (a, b, c))
    results = np.empty(a.shape)
    for i, (x, y, z, product, addend) in enumerate(zip(ma, mb, mc, (ea + eb).tolist(), ec.tolist(), strict=True)):
        unit = min(product, addend)
        total = (x * y << product - unit) + (z << addend - unit)
        exact = total / (1 << -unit) if unit < 0 else float(total << unit)
        results[i] = exact if total else a[i] * b[i] + c[i]  # a zero has the sign that float64's exact operations give it
    return results


def integers(x: np.ndarray) -> tuple[list[int], np.ndarray]:
    """x as an integer of 53 bits and the exponent of its last one."""
    fraction, exponent = np.frexp(x)
    return (fraction * 2.0**53).astype(np.int64).tolist(), exponent.astype(np.int64) - 53


def narrowed(v: np.ndarray, exponent_bits: int, mantissa_bits: int) -> np.ndarray:
    """float32 numbers within a narrower format's range to its bits: nearest, ties to even, in integers."""
    fraction, exponent = np.frexp(np.abs(v))
    significand, least = (fraction * 2.0**24).astype(np.int64), 2 - 2 ** (exponent_bits - 1)  # of normal exponents
    binade = np.where(significand > 0, np.maximum(exponent - 1, least), least).astype(np.int64)
    shift = np.minimum(binade - mantissa_bits - (exponent - 24), 30)  # of 24 bits, 26 leave nothing but a rounding to 0
    kept, lost, tie = significand >> shift, significand & (1 << shift) - 1, np.int64(1) << shift - 1
    kept += (lost > tie) | (lost == tie) & (kept & 1 == 1)
    return (binade - least << mantissa_bits) + kept + (np.signbit(v).astype(np.int64) << exponent_bits + mantissa_bits)


def filled(case: Case, constants: dict[str, SimpleNamespace]) -> np.ndarray:
    """The little-endian elements of a fill."""
    law, dtype, place = case
    if law == "words":
        return words(place, 0).astype("<u4") if dtype == "int32" else both_words(place).astype("<u8")
    if dtype == "float64":
        return values(constants[f"{law} | {dtype}"], both_words(place), 64).astype("<f8")
    v = values(constants[f"{law} | {dtype}"], words(place, 0), 32)
    if dtype == "float32":
        return v.astype("<f4")
    return narrowed(v, *NARROW[dtype]).astype("<u2" if dtype in ("float16", "bfloat16") else "<u1")


def hashed(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def hashes(chosen) -> dict[str, str]:
    """By this program, of (name, case) pairs."""
    constants = recipes()
    return {name: hashed(filled(case, constants).tobytes()) for name, case in chosen}


def keys() -> dict[str, str]:
    return {json.dumps(name): f"{named_key(*name):#x}" for name in NAMES}


def written_anew(file: pathlib.Path, sections: dict[str, dict]) -> None:
    """Writes the file, unless an entry on it would change or vanish and the stream version stays."""
    before = json.loads(file.read_text()) if file.exists() else {}
    if before.get("stream_version") == STREAM_VERSION:
        held = [(section, name) for section in sections for name in before.get(section, {})]
        changed = [name for section, name in held if sections[section].get(name) != before[section][name]]
        if changed:
            raise SystemExit(f"{file.name}: {len(changed)} entries would change, the first: {changed[0]!r}. See STREAM_VERSION.")
    file.write_text(json.dumps({"stream_version": STREAM_VERSION, **sections}, indent=1) + "\n")


def digest(backend, case: Case, device="cpu") -> str:
    """The hash of a backend's fill of a case, from today's recipe of the law."""
    import torch
    from helpers.laws import INTEGERS, LAWS

    from fastinit._core import recipes
    from fastinit._core.plan import Box, Plan

    dtype, (key, *box) = getattr(torch, case.dtype), case.place
    recipe = recipes.words_recipe(dtype) if case.law == "words" else recipes.recipe(LAWS[case.law], dtype)
    out = torch.zeros(case.place.rows * case.place.cols, dtype=dtype, device=device)
    backend.fill([Plan(out, recipe, key, Box(*box))])
    return hashed(out.cpu().view(INTEGERS[out.itemsize]).numpy().tobytes())


if __name__ == "__main__":
    written_anew(FILE, {"hashes": hashes(cases()), "keys": keys()})
