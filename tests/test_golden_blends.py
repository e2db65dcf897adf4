"""The bits of blends are frozen: every backend's are those on file, whose maker shares nothing with the library."""

import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import golden, golden_blends, oracle
from helpers.laws import LAWS
from helpers.quick import some
from test_golden import USABLE, on_file

from fastinit import STREAM_VERSION
from fastinit._backends.choose import module


@pytest.mark.parametrize("name", some(USABLE, ["native", "reference"]))
def test_hashes(name):
    of_all = list(golden_blends.cases())
    chosen = of_all[:: 11 if name == "triton" else 1]  # interpreted
    hashes = on_file(golden_blends.FILE)["hashes"]
    changed = [title for title, case in chosen if golden_blends.digest(module(name), case) != hashes.get(title)]
    assert not changed and len(dict(of_all)) == len(of_all) == len(hashes), changed[:5]


def test_cases_are_of_every_kind():
    found = [case for _, case in golden_blends.cases()]
    assert {(case.law, case.dtype) for case in found} == {(law, dtype) for law in LAWS for dtype in golden.FLOATS}
    for dtype in golden.FLOATS:
        of_dtype = [case for case in found if case.dtype == dtype]
        assert {len(case.keys) for case in of_dtype} == {*golden_blends.MEMBERS, golden_blends.MANY}
        assert {0.0, 1.0} < {case.keep for case in of_dtype} and len({case.place for case in of_dtype}) > 6


MAKER = """
import json, sys
sys.modules.update(torch=None, fastinit=None)  # importing either fails
sys.path.insert(0, sys.argv[1])
from helpers import golden_blends
json.dump({"hashes": golden_blends.hashes(golden_blends.cases())}, sys.stdout)
"""


def test_the_maker_gives_the_file_without_torch_and_fastinit():
    made = subprocess.run([sys.executable, "-c", MAKER, str(golden.DATA.parent)], check=True, capture_output=True, text=True)
    assert on_file(golden_blends.FILE) == {"stream_version": STREAM_VERSION, **json.loads(made.stdout)}


def test_the_maker_s_sums_are_single_steps():
    """Of float32: members one after the other, each onto what the last one left."""
    constants, seen = golden.recipes(), 0
    for _, case in golden_blends.cases():
        if case.dtype != "float32" or len(case.keys) > 5:
            continue
        bits, steps = golden_blends.blended(case, constants), golden_blends.old_bits(case)
        for number, (key, factor) in enumerate(zip(case.keys, case.add, strict=True)):
            step = case._replace(keys=(key,), add=(factor,), keep=1.0 if number else case.keep)
            old = golden_blends.widened(steps, case.dtype)
            steps = golden_blends.narrowed(golden_blends.sums(step, old, constants), case.dtype)
        assert np.array_equal(steps, bits)
        seen += len(case.keys) > 1
    assert seen > 10


@pytest.mark.parametrize("name", golden.FLOATS)
def test_the_maker_reads_every_number(name):
    """All bits of narrow formats, some of wide ones: torch's values."""
    dtype, size = getattr(torch, name), golden_blends.SIZES[name]
    count = min(256**size, 65_536)
    bits = (np.arange(count, dtype=np.uint64) * np.uint64(256**size // count)).astype(f"<u{size}")
    theirs = torch.from_numpy(bits.view("u1").copy()).view(dtype).double().numpy()
    ours = golden_blends.widened(bits, name)
    number = ~np.isnan(theirs)
    assert np.array_equal(ours, theirs, equal_nan=True)
    assert np.array_equal(np.signbit(ours)[number], np.signbit(theirs)[number])


@pytest.mark.parametrize("name", golden.FLOATS)
def test_the_maker_rounds_sums_of_any_size(name):
    """To nearest even, subnormal or overflowing; one NaN; no infinity in float8_e4m3fn."""
    rng, dtype, size = random.Random(1), getattr(torch, name), golden_blends.SIZES[name]
    low, high = (-1080, 1030) if size == 8 else (-150, 128)
    x = [rng.choice((-1, 1)) * math.ldexp(rng.random() + 0.5, min(rng.randrange(low, high), 1023)) for _ in range(3000)]
    greatest = torch.finfo(dtype).max
    x += [greatest, -greatest, greatest * (1 + 2.0**-11), greatest * 1.0625, 0.0, -0.0] if size < 4 else [0.0, -0.0]
    acc = golden.rounded(np.array(x), 64 if size == 8 else 32)
    made = golden_blends.narrowed(np.concatenate([acc, [np.inf, -np.inf, np.nan, -np.nan]]), name)
    *found, top, bottom, nan, other = golden_blends.widened(made, name).tolist()
    for given, got in zip(acc.tolist(), found, strict=True):
        if math.isfinite(given):
            assert got == oracle.cast(given, dtype) and math.copysign(1, got) == math.copysign(1, given), given
    assert (top, bottom) == ((448.0, -448.0) if name == "float8_e4m3fn" else (math.inf, -math.inf))
    assert math.isnan(nan) and math.isnan(other) and set(made[-2:].tolist()) == {(1 << 8 * size - 1) - 1}


def test_a_frozen_entry_is_not_written_over(tmp_path):
    file, content = tmp_path / "golden_blends.json", on_file(golden_blends.FILE)
    name = next(iter(content["hashes"]))
    file.write_text(json.dumps({**content, "hashes": {**content["hashes"], name: "0x0"}}))
    with pytest.raises(SystemExit, match="would change"):
        golden.written_anew(file, {"hashes": content["hashes"]})
