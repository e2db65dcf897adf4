"""What `fastinit check` compares on: laws, layouts and words; and Philox once more, in plain integers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from fastinit._core.laws import Law, fmod_normal, normal, truncated_normal, uniform
from fastinit._core.plan import Box, whole

# Random123's vectors: counter, key, words.
KNOWN_ANSWERS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
KEYS = (0, 2**64 - 1, 0x299F31D0A4093822)
_MASK = 0xFFFFFFFF


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox4x32-10 of one counter."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & _MASK, p0 >> 32 ^ c3 ^ k1, p0 & _MASK
        k0, k1 = k0 + 0x9E3779B9 & _MASK, k1 + 0xBB67AE85 & _MASK
    return c0, c1, c2, c3


def word(key: int, index: int, stream: int = 0) -> int:
    """The word of element `index`, as the value contract has it."""
    block = index >> 2
    return philox((block & _MASK, block >> 32, stream, 0), (key & _MASK, key >> 32))[index & 3]


class Sample(NamedTuple):
    """A law, and whether its values are symmetric about 0 and reach the outermost values in the bounds."""

    law: Law
    symmetric: bool = False
    reaches: bool = False


SAMPLES = {
    "uniform on [-0.1, 0.1]": Sample(uniform(-0.1, 0.1), True, True),
    "uniform on [0, 1]": Sample(uniform(0, 1)),
    "uniform on [-2, -1]": Sample(uniform(-2, -1)),
    "uniform on [-0.3, 1.7]": Sample(uniform(-0.3, 1.7)),
    "normal": Sample(normal(0, 0.7), True),
    "truncated normal at 2 sigmas": Sample(truncated_normal(0, 0.3, -0.6, 0.6), True, True),
    "truncated normal at 3.7 sigmas, mean 1": Sample(truncated_normal(1, 0.5, -0.85, 2.85)),
    "half-normal": Sample(truncated_normal(0, 1, 0, math.inf)),
    "truncated normal on [-1, 3] sigmas": Sample(truncated_normal(0, 1, -1, 3)),
    "truncated normal on [8, 9] sigmas": Sample(truncated_normal(0, 1, 8, 9)),
    "fmod normal at 2 sigmas": Sample(fmod_normal(0, 0.3, -0.6, 0.6), True),
}


class Layout(NamedTuple):
    """A piece of memory, the view of it that is filled, and the view's box in the global tensor."""

    elements: int
    view: Callable[[torch.Tensor], torch.Tensor]
    box: Callable[[torch.Tensor], Box] = whole


def _shard(start: int, rows: int, cols: int, pitch: int) -> Layout:
    return Layout(rows * cols + 3, lambda memory: memory[1:-2], lambda view: Box(start, rows, cols, pitch))


LAYOUTS = {
    "1 element": Layout(3, lambda memory: memory[1:2]),
    "1027 elements, not aligned": Layout(1031, lambda memory: memory[3:-1]),
    "from element 3": _shard(3, 1, 66, 66),
    "from element 2^32 - 5": _shard(2**32 - 5, 1, 275, 275),
    "from element 2^34 - 7, where the counter carries": _shard(2**34 - 7, 1, 531, 531),
    "from element 2^62 + 2": _shard(2**62 + 2, 1, 130, 130),
    "columns of a matrix": _shard(5, 37, 31, 101),
    "columns far out": _shard(2**40 + 1, 19, 67, 2**31 + 3),
    "a column": _shard(2, 143, 1, 7),
    "transposed": Layout(65 * 33, lambda memory: memory.view(33, 65).t()),
    "every second element": Layout(601, lambda memory: memory[::2]),
    "channels last": Layout(4 * 5 * 3 * 7, lambda memory: memory.view(4, 3, 7, 5).permute(0, 3, 1, 2)),
    "rows with gaps": Layout(40 * 50, lambda memory: memory.view(40, 50)[:, 3:44]),
}


@functools.cache
def swept_words(bits: int, count: int) -> torch.Tensor:
    """About `count` words as int64, in pairs of a word and its complement: the ends, powers of two and around them, and an
    even sweep with all low bits stirred."""
    powers = {(1 << k) + step for k in range(bits) for step in range(-3, 4)}
    edges = sorted(edge for edge in powers if 0 <= edge < 1 << bits)
    golden = 0x9E3779B97F4A7C15 >> (64 - bits) | 1  # an odd factor permutes the words
    steps = range(count // 2 - len(edges))
    chosen = [*edges, *(i * golden & (1 << bits) - 1 for i in steps)]
    half = torch.tensor([w - (w >> 63 << 64) for w in chosen], dtype=torch.int64)
    return torch.cat([half, ~half if bits == 64 else half ^ _MASK])
