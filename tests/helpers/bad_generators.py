"""Generators that the battery must fail, each with a number of words and the tests that catch it there."""

import functools

import numpy as np

import fastinit

SLICE = 1 << 18
MASK = np.uint64(0xFFFFFFFF)


def sfc(seed: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.SFC64(seed)).integers(0, 1 << 32, count, dtype=np.uint32)


def congruential(count: int) -> np.ndarray:
    """Numerical Recipes' x -> 1664525 x + 1013904223: its lowest bits have periods of 2, 4, 8, ..."""
    words, step = np.zeros(1, np.uint32), (np.uint32(1664525), np.uint32(1013904223))
    with np.errstate(over="ignore"):
        while len(words) < count:  # words[i + n] = a^n words[i] + c (a^n - 1) / (a - 1)
            words = np.concatenate([words, step[0] * words + step[1]])
            step = step[0] * step[0], step[0] * step[1] + step[1]
    return words[:count]


def weyl(count: int) -> np.ndarray:
    """A counter times a constant."""
    return (np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B9) & MASK).astype(np.uint32)


def xorshift(count: int) -> np.ndarray:
    """Marsaglia's xorshift128: linear, of 128 bits."""
    x, y, z, w = 123456789, 362436069, 521288629, 88675123
    words = np.empty(count, np.uint32)
    for i in range(count):
        t = x ^ x << 11 & 0xFFFFFFFF
        x, y, z = y, z, w
        w ^= w >> 19 ^ t ^ t >> 8
        words[i] = w
    return words


def twister(count: int) -> np.ndarray:
    """MT19937, which torch's CPU generator is: linear, of 19,937 bits."""
    return np.random.Generator(np.random.MT19937(1)).integers(0, 1 << 32, count, dtype=np.uint32)


def philox(counters: np.ndarray, keys: np.ndarray, rounds: int, bumped: bool = True) -> np.ndarray:
    """A row of four words for each counter and key; `rounds` and the key schedule may be wrong."""
    c = [counters.astype(np.uint64), *(np.zeros(len(counters), np.uint64) for _ in range(3))]
    k0, k1 = keys & MASK, keys >> np.uint64(32)
    for _ in range(rounds):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [p1 >> np.uint64(32) ^ c[1] ^ k0, p1 & MASK, p0 >> np.uint64(32) ^ c[3] ^ k1, p0 & MASK]
        if bumped:
            k0, k1 = k0 + np.uint64(0x9E3779B9) & MASK, k1 + np.uint64(0xBB67AE85) & MASK
    return np.stack(c, axis=1).astype(np.uint32)


def weak_philox(rounds: int, count: int) -> np.ndarray:
    """Philox of too few rounds, consecutive elements of one key."""
    counters = np.arange(count // 4)
    return philox(counters, np.full(len(counters), 0x0123456789ABCDEF, np.uint64), rounds).ravel()


def side_by_side(words_of, count: int, keys: int = 4096) -> np.ndarray:
    """Interleaves the words of many keys: words_of(counters, numbers of the keys) gives four words a row."""
    blocks = count // keys // 4
    rows = words_of(np.tile(np.arange(blocks), keys), np.repeat(np.arange(keys, dtype=np.uint64), blocks))
    return np.ascontiguousarray(rows.reshape(keys, 4 * blocks).T).ravel()


def weak_keys(rounds: int, count: int) -> np.ndarray:
    """Philox of too few rounds, the same element of keys that count."""
    return side_by_side(lambda counters, keys: philox(counters, keys, rounds), count)


def weak_named_keys(rounds: int, count: int) -> np.ndarray:
    """Philox of too few rounds, the same element of keys made of names."""
    named = np.array([fastinit.key(0, number) for number in range(4096)], np.uint64)
    return side_by_side(lambda counters, keys: philox(counters, named[keys], rounds), count)


def key_in_counter(count: int) -> np.ndarray:
    """A wrong key schedule: the key is added to the counter, so that neighbouring keys yield the same words, shifted."""
    return side_by_side(lambda counters, keys: philox(counters + keys.astype(np.int64), 0 * keys, 10), count)


def one_key_twice(count: int) -> np.ndarray:
    """4,096 parameters, of which two share a key."""
    return side_by_side(lambda counters, keys: philox(counters, np.where(keys == 3000, 17, keys).astype(np.uint64), 10), count)


def repeated_block(count: int) -> np.ndarray:
    """A block of 4,096 words that comes again 40,000 words later."""
    words = sfc(1, count)
    words[count // 2 + 40_000 : count // 2 + 44_096] = words[count // 2 : count // 2 + 4096]
    return words


def short_period(count: int) -> np.ndarray:
    return np.resize(sfc(2, 3_000_000), count)


def biased_bit(count: int) -> np.ndarray:
    """Bit 13 is 1 with probability 1/2 + 1/64."""
    return sfc(3, count) | (sfc(4, count) >> 27 == 0).astype(np.uint32) << 13


def even_weights(count: int) -> np.ndarray:
    """Every bit is fair, and so is each pair of bits; the weight of a word is even."""
    words = sfc(5, count)
    return words ^ (np.bitwise_count(words) & 1).astype(np.uint32)


def clumped_weights(count: int) -> np.ndarray:
    """Now and then a word lends its weight to the word 64 later, by complementing it where one is light and the other heavy."""
    words = sfc(6, count).reshape(-1, 2, 64)
    light = np.bitwise_count(words) < 16
    flips = (light[:, 0] != light[:, 1]) & (sfc(7, words[:, 0].size).reshape(-1, 64) >> 28 == 0)
    words[:, 1] ^= flips * MASK.astype(np.uint32)
    return words.ravel()


def copied_top(lag: int, count: int) -> np.ndarray:
    """One word in 16 takes the highest 8 bits of the word before it, at a lag."""
    words = sfc(8, count)
    copied = np.flatnonzero(sfc(10, count)[lag:] >> 28 == 0) + lag
    words[copied] = words[copied] & 0xFFFFFF | words[copied - lag] & 0xFF000000
    return words


def missing_top(count: int) -> np.ndarray:
    """No word is among the largest 2^-8: what is left is drawn again."""
    words = sfc(11, count + count // 64)
    return words[words < 0xFF000000][:count]


def returning(count: int) -> np.ndarray:
    """One word in 8 undoes the steps of the one before it."""
    words = sfc(12, count).reshape(-1, 2)
    undone = sfc(13, len(words)) >> 30 == 0
    words[undone, 1] = ~words[undone, 0]
    return words.ravel()


BAD = {
    "congruential": (congruential, SLICE, ["bits", "ranks", "complexity"]),
    "counter times a constant": (weyl, SLICE, ["bits", "lags", "serial", "birthdays", "gaps", "maximum", "walk"]),
    "counter times a constant, longer": (weyl, 1 << 20, ["collisions"]),
    "xorshift": (xorshift, SLICE, ["ranks", "complexity"]),
    "Mersenne twister": (twister, 1 << 20, ["complexity"]),
    "Philox of 2 rounds": (functools.partial(weak_philox, 2), SLICE, ["bits", "weights", "serial"]),
    "Philox of 4 rounds": (functools.partial(weak_philox, 4), SLICE, ["bits"]),
    "Philox of 4 rounds, counting keys": (functools.partial(weak_keys, 4), SLICE, ["bits"]),
    "Philox of 4 rounds, named keys": (functools.partial(weak_named_keys, 4), SLICE, ["serial", "duplicates"]),
    "key in the counter": (key_in_counter, SLICE, ["duplicates"]),
    "a key used twice": (one_key_twice, 1 << 20, ["duplicates"]),
    "repeated block": (repeated_block, SLICE, ["duplicates"]),
    "short period": (short_period, 1 << 24, ["birthdays"]),
    "biased bit": (biased_bit, SLICE, ["bits"]),
    "even weights": (even_weights, SLICE, ["weights"]),
    "clumped weights": (clumped_weights, SLICE, ["weights"]),
    "copied top at lag 1": (functools.partial(copied_top, 1), SLICE, ["serial", "bits"]),
    "copied top at lag 4096": (functools.partial(copied_top, 4096), SLICE, ["serial", "bits"]),
    "copied top at lag 777": (functools.partial(copied_top, 777), SLICE, ["lags"]),
    "missing top": (missing_top, SLICE, ["maximum"]),
    "returning": (returning, SLICE, ["walk"]),
}
