"""The words in the orders in which weights meet them: what the battery tests.

A stream is a function of a number, its part, that yields blocks of uint32 words without end; different parts share no key,
so they are fresh material of the same kind. The words are the library's own, filled by the backend that serves this CPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

import fastinit
from fastinit._backends.choose import choose
from fastinit._core.plan import Box, Plan
from fastinit._core.recipes import words_recipe

CPU = torch.device("cpu")
BLOCK = 1 << 22  # words of a fill: 16 MiB
PIECES = (
    *(f"self_attn.{name}_proj.weight" for name in "qkvo"),
    *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
    "input_layernorm.weight",
)
LAYERS = 512
RANKS, SIDE = 8, 2048  # a matrix of SIDE x SIDE on so many ranks

Blocks = Iterator[np.ndarray]


def fill(keys: Sequence[int], boxes: Sequence[Box], dtype: torch.dtype = torch.int32) -> torch.Tensor:
    """A row of words for each pair of a key and a box; all boxes hold equally many."""
    out = torch.empty(len(keys), boxes[0].rows * boxes[0].cols, dtype=dtype)
    recipe = words_recipe(dtype)
    choose(CPU).fill([Plan(row, recipe, key, box) for row, key, box in zip(out, keys, boxes, strict=True)])
    return out


def interleaved(rows: torch.Tensor) -> np.ndarray:
    """The first word of every row, then the second of every row, and so on."""
    return rows.t().contiguous().view(-1).numpy().view(np.uint32)


def names() -> list[str]:
    """The parameters of a model, 4,096 of them, in its order."""
    return [f"layers.{layer}.{piece}" for layer in range(LAYERS) for piece in PIECES]


def together(keys: Sequence[int]) -> Iterator[torch.Tensor]:
    """The words of many keys, a row each; the next block holds the elements that follow."""
    length = max(BLOCK // len(keys), 4096)  # fewer words a key would leave most of the time to the list of plans
    for start in itertools.count(0, length):
        yield fill(keys, [Box(start, 1, length, length)] * len(keys))


def consecutive(part: int) -> Blocks:
    """The elements of one parameter."""
    return map(interleaved, together([fastinit.key(part, "embed_tokens.weight")]))


def model(part: int) -> Iterator[torch.Tensor]:
    """The parameters of one model, with the keys that `fastinit.initialize_` gives them."""
    return together([fastinit.key(part, name) for name in names()])


def parameters(part: int) -> Blocks:
    """Element 0 of 4,096 parameters of one model, element 1 of them, ..."""
    return map(interleaved, model(part))


def parameter_differences(part: int) -> Blocks:
    """Element by element the XOR of each parameter with the next."""
    return (interleaved(rows[1:] ^ rows[:-1]) for rows in model(part))


def seeds(part: int) -> Blocks:
    """The same element of one parameter under 4,096 successive seeds."""
    first = part * 4096
    return map(interleaved, together([fastinit.key(seed, "embed_tokens.weight") for seed in range(first, first + 4096)]))


def counting_keys(part: int) -> Blocks:
    """The same element of 4,096 keys that count, as where a user passes key=0, key=1, ...: no hash parts them."""
    first = part << 32
    return map(interleaved, together(range(first, first + 4096)))


def neighbours(part: int) -> Iterator[torch.Tensor]:
    """A key and the 64 keys that differ from it in one bit, a row each; another key in every block."""
    length = BLOCK // 64
    for number in itertools.count():
        base = fastinit.key(part, "one-bit", number)
        yield fill([base, *(base ^ 1 << bit for bit in range(64))], [Box(0, 1, length, length)] * 65)


def one_bit_keys(part: int) -> Blocks:
    """The same element of a key and of its 64 neighbours at one bit's distance."""
    return map(interleaved, neighbours(part))


def one_bit_differences(part: int) -> Blocks:
    """What the change of one bit of the key does: the XOR of the 64 neighbours' words with the key's own."""
    return (interleaved(rows[1:] ^ rows[0]) for rows in neighbours(part))


def shards(part: int) -> Blocks:
    """Matrices cut over 8 ranks, by columns and by rows in turn: the first element of every rank's shard, the second, ..."""
    local = SIDE // RANKS
    columns = [Box(rank * local, SIDE, local, SIDE) for rank in range(RANKS)]
    rows = [Box(rank * local * SIDE, local, SIDE, SIDE) for rank in range(RANKS)]
    for number in itertools.count():
        yield interleaved(fill([fastinit.key(part, "sharded", number)] * RANKS, (columns, rows)[number % 2]))


def two_streams(part: int) -> Blocks:
    """What float64 takes: the words of stream 0 and stream 1 of every element."""
    key = fastinit.key(part, "float64")
    for start in itertools.count(0, BLOCK // 2):
        yield fill([key], [Box(start, 1, BLOCK // 2, BLOCK // 2)], torch.int64).view(-1).numpy().view(np.uint32)


def far(part: int) -> Blocks:
    """Around the elements where the block number's low word carries: m 2^34, and 2^62 + m 2^34."""
    key, length = fastinit.key(part, "far"), BLOCK // 4
    for number in itertools.count(1):
        carries = (number << 34, (1 << 62) + (number << 34))
        for carry in carries:
            yield interleaved(fill([key], [Box(carry - length // 2, 1, length, length)]))


def low_bits(blocks: Blocks) -> Blocks:
    """The lowest 8 bits of every word, four to a word."""
    return (block.astype(np.uint8).view("<u4") for block in blocks)


def reversed_bits(blocks: Blocks) -> Blocks:
    """Every word's bits from the lowest to the highest: most tests look at the high ones."""
    table = np.zeros(1 << 16, np.uint16)
    for bit in range(16):
        table |= (np.arange(1 << 16, dtype=np.uint16) >> bit & 1) << (15 - bit)
    for block in blocks:
        yield table[block.view(np.uint16).reshape(-1, 2)[:, ::-1]].reshape(-1).view(np.uint32)


def control(part: int) -> Blocks:
    """Not of this library: NumPy's SFC64, which tells a test that fails good generators from a stream that fails a test."""
    source = np.random.Generator(np.random.SFC64(part))
    while True:
        yield source.integers(0, 1 << 32, BLOCK, dtype=np.uint32)


STREAMS: dict[str, Callable[[int], Blocks]] = {
    "parameters": parameters,
    "consecutive": consecutive,
    "parameter-differences": parameter_differences,
    "parameters-low-bits": lambda part: low_bits(parameters(part)),
    "parameters-reversed": lambda part: reversed_bits(parameters(part)),
    "one-bit-keys": one_bit_keys,
    "one-bit-differences": one_bit_differences,
    "counting-keys": counting_keys,
    "seeds": seeds,
    "shards": shards,
    "two-streams": two_streams,
    "far": far,
    "low-bits": lambda part: low_bits(consecutive(part)),
    "reversed": lambda part: reversed_bits(consecutive(part)),
}


def words(blocks: Blocks, count: int) -> Blocks:
    """The first `count` words."""
    for block in blocks:
        yield block[:count]
        count -= len(block)
        if count <= 0:
            return
