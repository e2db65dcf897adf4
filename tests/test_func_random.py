"""The raw words are those of torch's stateless generator: torch.func._random.bits of a key made of the same integer.

Its keys are (seed, offset) pairs of uint64, its words Philox4x32-10's at position 4 * offset + i of stream 0, as in the value
contract: an offset counts blocks. Its 64-bit elements are two successive words each, ours one word of either stream: those
differ.
"""

import importlib

import pytest
import torch

import fastinit

KEYS = [0, 1, 1 << 31, 1 << 32, 0x0123456789ABCDEF, 1 << 63, 2**64 - 1, fastinit.key(42, "decoder", 3, "weight")]


@pytest.fixture(scope="module")
def stateless():
    try:
        module = importlib.import_module("torch.func._random")
    except ImportError as error:
        pytest.skip(f"torch {torch.__version__} has no stateless generator: {error}")
    if not hasattr(module, "bits"):
        pytest.skip(f"torch.func._random of torch {torch.__version__} has no bits(): torch 2.15 has")
    return module


@pytest.mark.parametrize("key", KEYS, ids=hex)
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint32], ids=str)
def test_bits(stateless, key, dtype):
    for shape in ((1,), (3,), (257,), (4099,), (17, 9)):
        ours = fastinit.bits_(torch.empty(shape, dtype=dtype), key=key)
        theirs = stateless.bits(stateless.key(key), *shape, dtype=dtype)
        assert torch.equal(ours.view(torch.int32), theirs.view(torch.int32))


@pytest.mark.parametrize("key", KEYS[3:6], ids=hex)
def test_an_offset_is_where_the_words_start(stateless, key):
    ours = fastinit.bits_(torch.empty(400, dtype=torch.int32), key=key)
    for offset in (1, 2, 3, 4, 41):
        start = torch.tensor([key, offset], dtype=torch.uint64)
        assert torch.equal(ours[4 * offset :], stateless.bits(start, 400 - 4 * offset, dtype=torch.int32))


def test_wide_words_hold_our_words_in_pairs(stateless):
    """What `bits_` of a 64-bit tensor does not give: two streams, so that an element's place does not depend on its dtype."""
    narrow = fastinit.bits_(torch.empty(64, dtype=torch.int32), key=7).long() & 0xFFFFFFFF
    theirs = stateless.bits(stateless.key(7), 32, dtype=torch.int64)
    assert torch.equal(theirs, narrow[::2] << 32 | narrow[1::2])
    assert not torch.equal(theirs, fastinit.bits_(torch.empty(32, dtype=torch.int64), key=7))
