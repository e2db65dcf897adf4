"""Words: known answers pin the integer oracle, the oracle pins every backend."""

import pytest
import torch
from helpers.oracle import DATA, MASK64, philox4x32, word32, word64
from helpers.quick import compiled_backends

import fastinit
from fastinit._core.plan import Box, Plan, whole
from fastinit._core.recipes import words_recipe

KEYS = [0, 1, 0xFFFFFFFF, 1 << 32, 0x299F31D0_A4093822, 1 << 63, MASK64]
# Where the group of 4, the low counter word (block 2^32, element 2^34) and 64 bits turn over.
STARTS = [0, 1, 2, 3, 4, 2**32 - 3, 2**34 - 6, 2**34 - 1, 2**34, 3 * 2**40 + 7, 2**62 + 5, 2**63 - 40]
POISON = 0x5A5A5A5A


def known_answers():
    lines = (DATA / "philox_kat.txt").read_text().splitlines()
    numbers = [[int(word, 16) for word in line.split()] for line in lines if not line.startswith("#")]
    return [(row[:4], row[4:6], row[6:]) for row in numbers]


def words(backend, key: int, box: Box, dtype=torch.int32) -> list[int]:
    """As unsigned numbers. The output is poisoned first."""
    out = torch.full((box.rows * box.cols,), POISON, dtype=dtype)
    backend.fill([Plan(out, words_recipe(dtype), key, box)])
    return [w & (2 ** (8 * dtype.itemsize) - 1) for w in out.tolist()]


@pytest.mark.parametrize("counter, key, answer", known_answers())
def test_oracle_gives_the_known_answers(counter, key, answer):
    assert philox4x32(counter, key) == answer


def test_there_are_three_known_answers():
    assert len(known_answers()) == 3


def test_key_zero_begins_with_the_first_known_answer(backend):
    assert words(backend, 0, Box(0, 1, 4, 4)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.one_of_each
@pytest.mark.parametrize("start", STARTS)
def test_words_are_the_oracle_s(backend, start):
    for key in KEYS:
        assert words(backend, key, Box(start, 1, 33, 33)) == [word32(key, start + i) for i in range(33)], hex(key)


@pytest.mark.one_of_each
@pytest.mark.parametrize("start", STARTS)
def test_wide_words_hold_both_streams(backend, start):
    for key in KEYS:
        assert words(backend, key, Box(start, 1, 17, 17), torch.int64) == [word64(key, start + i) for i in range(17)], hex(key)


@pytest.mark.one_of_each
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("rows, cols, pitch", [(5, 3, 10), (7, 1, 3), (2, 9, 2**33), (3, 4, 4), (3, 5, 2)])
def test_boxes_take_the_words_of_their_indices(backend, dtype, rows, cols, pitch):
    start, oracle = 2**34 - 9, word32 if dtype is torch.int32 else word64
    expected = [oracle(77, start + r * pitch + c) for r in range(rows) for c in range(cols)]
    assert words(backend, 77, Box(start, rows, cols, pitch), dtype) == expected


@compiled_backends
def test_a_large_fill_has_no_seams(backend):
    """More than any chunk or thread's share, checked by fills of other lengths and at the ends by the oracle."""
    n, length = (70_003, 9_991) if backend.NAME == "triton" else (700_003, 99_991)  # interpreted, it takes longer
    key = 0xFEDCBA9876543210
    out = torch.empty(n, dtype=torch.int32)
    backend.fill([Plan(out, words_recipe(torch.int32), key, whole(out))])
    pieces = torch.empty_like(out)
    for first in range(0, n, length):
        piece = pieces[first : first + length]
        backend.fill([Plan(piece, words_recipe(torch.int32), key, Box(first, 1, len(piece), len(piece)))])
    assert torch.equal(out, pieces)
    for i in [i for i in (0, 65_535, 65_536, 131_071, 196_607, 196_608, 393_215, 393_216, n - 1) if i < n]:
        assert out[i].item() & 0xFFFFFFFF == word32(key, i)


@pytest.mark.one_of_each
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint32, torch.int64, torch.uint64], ids=str)
def test_bits_fills_the_logical_order_and_returns_the_tensor(backend, dtype):
    key, base = 2**63 + 11, torch.full((6, 10), 7, dtype=torch.int64).to(dtype)
    view = base.t()[1:9:2]
    with fastinit.backend(backend.NAME):
        assert fastinit.bits_(view, key=key) is view
    oracle = word32 if dtype.itemsize == 4 else word64
    signed = [oracle(key, i) - (oracle(key, i) >> 8 * dtype.itemsize - 1 << 8 * dtype.itemsize) for i in range(24)]
    integer = torch.int32 if dtype.itemsize == 4 else torch.int64
    assert view.reshape(-1).view(integer).tolist() == signed
    untouched = base.view(integer)[:, [0, 2, 4, 6, 8, 9]]
    assert bool((untouched == 7).all())


@compiled_backends
def test_every_bit_of_key_and_counter_matters(backend):
    """Flipping one input bit flips 64 of a block's 128 bits, give or take 6 standard deviations."""
    reference = words(backend, 0, Box(0, 1, 4, 4))
    flipped = [words(backend, 1 << bit, Box(0, 1, 4, 4)) for bit in range(64)]
    flipped += [words(backend, 0, Box(1 << bit, 1, 4, 4)) for bit in range(2, 62)]
    for other in flipped:
        distance = sum((a ^ b).bit_count() for a, b in zip(reference, other, strict=True))
        assert abs(distance - 64) < 6 * 128**0.5 / 2
