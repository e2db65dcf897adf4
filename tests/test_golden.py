"""The bits are frozen: recipes, keys and every backend's fills are those on file, whose maker shares nothing with the library.

`python tests/test_golden.py` writes tests/data/recipes.json anew, and refuses where a recipe on file would change.
"""

import json
import math
import pathlib
import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import golden, oracle
from helpers.laws import LAWS
from helpers.quick import some

import fastinit
from fastinit import STREAM_VERSION
from fastinit._backends.choose import backends as all_backends
from fastinit._backends.choose import module
from fastinit._core import check, recipes

INTEGER_FIELDS, REAL_FIELDS = ("kind", "flip", "top_bits"), ("slope", "anchor", "std", "cut", "inverse_cut", "low", "high")


def on_file(file: pathlib.Path) -> dict:
    return json.loads(file.read_text())


def exact(x: float) -> str:
    """Hexadecimal, without zeros at the end of the mantissa."""
    mantissa, mark, exponent = x.hex().partition("p")
    return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + mark + exponent


def todays_recipes() -> dict[str, dict]:
    """Of every law in every dtype. Narrow dtypes name the float32 table, unless theirs differs."""
    content: dict[str, dict] = {"recipes": {}, "tables": {}}
    for law, distribution in LAWS.items():
        for dtype in (torch.float32, torch.float64, *check.FLOAT_DTYPES):
            recipe, name = recipes.recipe(distribution, dtype), f"{law} | {str(dtype).removeprefix('torch.')}"
            fields = {field: getattr(recipe, field) for field in INTEGER_FIELDS}
            fields |= {field: exact(getattr(recipe, field)) for field in REAL_FIELDS}
            fields |= {field: [exact(x) for x in getattr(recipe, field)] for field in ("offset", "scale")}
            content["recipes"][name] = fields | {"table": name_of_table(recipe, law, name, content["tables"])}
    return content


def name_of_table(recipe: recipes.Recipe, law: str, name: str, tables: dict[str, dict]) -> str | None:
    if recipe.table is None:
        return None
    table, shared = written(recipe.table), f"{law} | {str(recipe.real).removeprefix('torch.')}"
    own = shared if tables.setdefault(shared, table) == table else name
    tables[own] = table
    return own


def written(table: torch.Tensor) -> dict:
    """The cells with coefficients: fills use no others."""
    used = [(half, cell) for half, _, cell in table.nonzero().tolist()]
    cells = {f"{half} {cell}": " ".join(map(exact, table[half, :, cell].tolist())) for half, cell in sorted(set(used))}
    return {"shape": list(table.shape), "cells": cells}


USABLE = [name for name, reason in all_backends().items() if reason is None]


@pytest.mark.parametrize("name", some(USABLE, ["native", "reference"]))
def test_hashes(name):
    of_all = list(golden.cases())
    chosen = of_all[:: 6 if name == "triton" else 1]  # interpreted; of every law in every dtype there are six in succession
    assert len({(case.law, case.dtype) for _, case in chosen}) == len(LAWS) * len(golden.FLOATS) + len(golden.WORDS)
    hashes = on_file(golden.FILE)["hashes"]
    changed = [title for title, case in chosen if golden.digest(module(name), case) != hashes.get(title)]
    assert not changed and len(dict(of_all)) == len(of_all) == len(hashes), changed[:5]


def test_todays_recipes_are_the_frozen_ones():
    today, frozen = todays_recipes(), on_file(golden.RECIPES)
    for section in ("recipes", "tables"):
        assert today[section].keys() == frozen[section].keys()
        changed = [name for name in frozen[section] if today[section][name] != frozen[section][name]]
        assert not changed, changed


def test_all_is_of_this_stream_version():
    files = [on_file(file)["stream_version"] for file in (golden.FILE, golden.RECIPES)]
    assert files == [golden.STREAM_VERSION] * 2 == [STREAM_VERSION] * 2


MAKER = """
import json, sys
sys.modules.update(torch=None, fastinit=None)  # importing either fails
sys.path.insert(0, sys.argv[1])
from helpers import golden
json.dump({"hashes": golden.hashes(golden.cases()), "keys": golden.keys()}, sys.stdout)
"""


def test_the_maker_gives_the_file_without_torch_and_fastinit():
    made = subprocess.run([sys.executable, "-c", MAKER, str(golden.DATA.parent)], check=True, capture_output=True, text=True)
    assert on_file(golden.FILE) == {"stream_version": STREAM_VERSION, **json.loads(made.stdout)}


def test_keys():
    frozen = on_file(golden.FILE)["keys"]
    assert len(frozen) == len(golden.NAMES)
    for name, value in frozen.items():
        assert fastinit.key(*json.loads(name)) == int(value, 16), name


def test_the_maker_s_philox_gives_the_known_answers():
    lines = (golden.DATA / "philox_kat.txt").read_text().splitlines()
    answers = np.array([[int(word, 16) for word in line.split()] for line in lines if not line.startswith("#")], dtype=np.uint64)
    assert len(answers) == 3
    for answer in answers:
        words = golden.philox([answer[i : i + 1] for i in range(4)], (int(answer[4]), int(answer[5])))
        assert np.array_equal(np.concatenate(words), answer[6:])


def telling_triples(precision: int, lowest: int, rng: random.Random) -> list[tuple[float, float, float]]:
    """Factors and addends: any; what cancels the product but for its rounding; a midpoint, exactly or just off it; subnormal."""
    triples = []
    for _ in range(500):
        a, b, other = (rng.choice((-1, 1)) * (1 + rng.getrandbits(precision - 1) * 2.0 ** (1 - precision)) for _ in range(3))
        product = float(oracle.nearest(oracle.Fraction(a) * oracle.Fraction(b), DTYPES[precision]))
        far = rng.randrange(-3 * precision, 3 * precision)
        triples += [(a, b, 0.0), (a, b, -product), (a, b, math.ldexp(other, far)), (math.ldexp(a, lowest // 2), b, 0.0)]
        triples.append((math.ldexp(a, lowest // 2), math.ldexp(b, lowest // 2 + precision - 3), math.ldexp(1.0, lowest)))
        cut = rng.randrange(2, precision - 1)
        k = 2 * rng.getrandbits(cut - 1) + 1  # (1 + k 2^-cut)(1 + 2^(cut - precision)) ends in half a last bit, or its multiples
        on = (1 + k * 2.0**-cut, 1 + 2.0 ** (cut - precision))
        triples += [(*on, sign * math.ldexp(1.0, -rng.randrange(precision, -lowest))) for sign in (-1, 1)] + [(*on, 0.0)]
        triples += [(*on, math.ldexp(1 - 2.0**-10, rng.choice((-51, -52))))]  # in 53 bits one past a float32 midpoint, from below
    return triples


DTYPES = {24: torch.float32, 53: torch.float64}


@pytest.mark.parametrize(("precision", "bits"), [(24, 32), (53, 64)])
def test_the_maker_s_fused_multiply_add_rounds_once(precision, bits):
    dtype = DTYPES[precision]
    lowest = oracle.FORMATS[dtype][1]
    triples = telling_triples(precision, lowest, random.Random(bits))
    found = golden.fma(*map(np.array, zip(*triples, strict=True)), bits)
    for triple, x in zip(triples, found.tolist(), strict=True):
        assert oracle.Fraction(x) == oracle.fma(*triple, dtype), triple
    assert len({x for x in found.tolist() if 0 < abs(x) < math.ldexp(1.0, lowest + precision - 1)}) > 100, "no subnormal results"


def test_the_maker_s_zeros_have_their_signs():
    for bits in (32, 64):
        zeros = golden.fma([1.5, -1.5, 1.5, 0.0, -0.0], [2.0, 2.0, 2.0, 2.0, 2.0], [-3.0, 3.0, -3.0, -0.0, -0.0], bits)
        assert np.signbit(zeros).tolist() == [False, False, False, False, True] and not zeros.any()


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 32), (torch.float64, 64)], ids=str)
def test_the_maker_s_remainder_is_mended(dtype, bits):
    """Beside multiples of the cut the quotient is one off, either way."""
    rng, too_large, too_small = random.Random(bits), 0, 0
    for _ in range(40):
        cut = float(oracle.nearest(oracle.Fraction(rng.uniform(0.1, 6.0)), dtype))
        recipe = SimpleNamespace(cut=cut, inverse_cut=float(oracle.nearest(1 / oracle.Fraction(cut), dtype)), real=dtype)
        multiples = (np.arange(1, 60) * cut).astype(f"f{bits // 8}")
        z = np.concatenate([np.nextafter(multiples, 0), multiples, np.nextafter(multiples, np.inf)]).astype(np.float64)
        found = golden.remainder(recipe, np.concatenate([z, -z]), bits)
        expected = [oracle.remainder(oracle.Fraction(x), recipe) for x in z.tolist()]
        assert [oracle.Fraction(r) for r in found.tolist()] == expected + [-r for r in expected]
        quotients = np.trunc(golden.rounded(z * recipe.inverse_cut, bits)).tolist()
        left = [oracle.Fraction(x) - oracle.Fraction(cut) * int(n) for x, n in zip(z.tolist(), quotients, strict=True)]
        too_large, too_small = too_large + sum(r < 0 for r in left), too_small + sum(r >= cut for r in left)
    assert too_large and too_small


@pytest.mark.parametrize("name", golden.NARROW)
def test_the_maker_rounds_to_narrow_formats_in_one_step(name):
    """Every value of the format, or of 16 bits one of 97; every midpoint between two; and the float32 numbers beside those."""
    dtype = getattr(torch, name)
    integer = torch.uint8 if dtype.itemsize == 1 else torch.int16
    patterns = torch.arange(0, 2 ** (8 * dtype.itemsize - 1), 97 if dtype.itemsize == 2 else 1)
    pairs = torch.stack([patterns, patterns + 1]).to(integer).view(dtype).double().numpy()
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    low, high, middle = np.stack([*pairs, pairs.mean(0)]).astype(np.float32)
    sizes = np.concatenate([low, middle, np.nextafter(middle, low), np.nextafter(middle, high)])
    x = np.concatenate([sizes, -sizes]).astype(np.float64)
    made = golden.narrowed(x, *golden.NARROW[name])
    found = torch.from_numpy(made.astype(f"u{dtype.itemsize}")).view(dtype).double().numpy()
    assert np.array_equal(np.signbit(found), np.signbit(x))
    for given, rounded in zip(x.tolist(), found.tolist(), strict=True):
        assert oracle.Fraction(rounded) == oracle.nearest(oracle.Fraction(given), dtype), given


@pytest.mark.parametrize("section", ["hashes", "keys"])
def test_a_frozen_entry_is_not_written_over(section, tmp_path, monkeypatch):
    file, content = tmp_path / "golden.json", on_file(golden.FILE)
    name = next(iter(content[section]))
    held = {**content, section: {**content[section], name: "0x0"}}
    file.write_text(json.dumps(held))
    fresh = {key: content[key] for key in ("hashes", "keys")}
    for sections in (fresh, {**fresh, section: {}}):
        with pytest.raises(SystemExit, match="would change"):
            golden.written_anew(file, sections)
        assert on_file(file) == held
    monkeypatch.setattr(golden, "STREAM_VERSION", STREAM_VERSION + 1)
    golden.written_anew(file, fresh)
    assert on_file(file) == {**content, "stream_version": STREAM_VERSION + 1}


if __name__ == "__main__":
    golden.written_anew(golden.RECIPES, todays_recipes())
