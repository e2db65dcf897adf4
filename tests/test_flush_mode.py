"""A thread that flushes subnormal numbers to zero (torch.set_flush_denormal) gets the bits of one that does not, and stays so."""

import contextlib
import ctypes
import math
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from helpers.laws import KEY, same_bits

import fastinit
from fastinit._backends import cpu, reference
from fastinit._core import modes, normal, recipes, rounding, tables
from fastinit._core.laws import Law

pytestmark = pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor has no such mode")
needs_native = pytest.mark.skipif(cpu.unavailable(torch.device("cpu")) is not None, reason="needs the native library")
CACHES = [f for module in (recipes, tables, normal, rounding) for f in vars(module).values() if hasattr(f, "cache_clear")]
TINY, TINIEST = 1e-40, 1e-309  # subnormal in float32, in float64
FILLS = {
    "uniform": lambda x: partial(fastinit.uniform_, a=1.5 * x, b=3.5 * x),
    "uniform from 0": lambda x: partial(fastinit.uniform_, a=0.0, b=9 * x),
    "uniform from a bound": lambda x: partial(fastinit.uniform_, a=1.5 * x, b=1.0),
    "uniform about 0": lambda x: partial(fastinit.uniform_, a=-x, b=2 * x),
    "normal": lambda x: partial(fastinit.normal_, std=10 * x),
    "moved normal": lambda x: partial(fastinit.normal_, mean=3 * x, std=2 * x),
    "truncated normal": lambda x: partial(fastinit.truncated_normal_, std=10 * x),
    "two-sided": lambda x: partial(fastinit.truncated_normal_, mean=x, std=2 * x, a=0.0, b=9 * x),
    "default bounds": lambda x: partial(fastinit.truncated_normal_, mean=30 * x, std=10 * x),
    "subnormal mean": lambda x: partial(fastinit.truncated_normal_, mean=x, std=100 * x),
    "fmod": lambda x: partial(fastinit.truncated_normal_, mean=30 * x, std=10 * x, method="fmod"),
    "sparse": lambda x: partial(fastinit.sparse_, sparsity=x, std=x),
    "constant": lambda x: lambda tensor, key: fastinit.constant_(tensor, x),
    "orthogonal": lambda x: partial(fastinit.orthogonal_, gain=2 * x),
}
INTERPRETED = ("uniform", "truncated normal", "two-sided", "fmod")  # others show no more of it, in seconds
SCALES = [
    *((dtype, TINY) for dtype in (torch.float32, torch.bfloat16, torch.float64)),
    (torch.float64, TINIEST),
    *((dtype, 2e-7) for dtype in (torch.float16, torch.float32)),
    (torch.float8_e5m2, 1e-5),
]


@contextlib.contextmanager
def flushing():
    """The mode, which must still be there at the end."""
    torch.set_flush_denormal(True)
    try:
        yield
        assert modes.is_flushing(), "the mode was not put back"
    finally:
        torch.set_flush_denormal(False)


def forget():
    for cache in CACHES:
        cache.cache_clear()


def new(dtype, shape=(40, 30)):
    return torch.full(shape, 1.0).to(dtype)


@pytest.mark.parametrize("dtype, scale", SCALES, ids=str)
def test_fills_have_the_same_bits(backend, dtype, scale):
    """Made in the mode, and of constants that were made in it."""
    if backend.NAME == "triton" and dtype not in (torch.float32, torch.float64):
        pytest.skip("interpreted for seconds each: its kernels compute in these two")
    with fastinit.backend(backend.NAME):
        for name in FILLS if backend.NAME != "triton" else INTERPRETED:
            fill = FILLS[name](scale)
            forget()
            expected = fill(new(dtype), key=KEY)
            forget()
            with flushing():
                assert same_bits(fill(new(dtype), key=KEY), expected), name
            assert same_bits(fill(new(dtype), key=KEY), expected), f"{name}: what is kept depends on the mode"


@pytest.mark.parametrize("dtype, scale", SCALES, ids=str)
def test_maps_of_given_words_have_the_same_bits(backend, dtype, scale):
    words = torch.arange(-(2**31), 2**31, 2**22, dtype=torch.int64)
    words = words << 32 if dtype is torch.float64 else words.int()
    for law in (Law("uniform", (1.5 * scale, 3.5 * scale)), Law("normal", (scale, 3 * scale)), Law("constant", (scale,))):
        values = recipes.recipe(law, dtype)
        expected = backend.transform(values, words)
        with flushing():
            assert same_bits(backend.transform(values, words), expected), law


@needs_native
@pytest.mark.parametrize("dtype, scale", SCALES[:4], ids=str)
def test_native_threads_do_not_flush(dtype, scale):
    fill, threads = FILLS["uniform"](scale), torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with fastinit.backend("native"):
            expected = fill(new(dtype, (1 << 20,)), key=KEY)
            with flushing():
                assert same_bits(fill(new(dtype, (1 << 20,)), key=KEY), expected)
    finally:
        torch.set_num_threads(threads)


@needs_native
def test_native_fills_round_to_nearest_whatever_the_mode():
    """With it, exceptions do not trap, and the mode is the thread's again."""
    libm = ctypes.CDLL(None)
    if not hasattr(libm, "fesetround"):
        pytest.skip("needs C's mathematical library")
    upward, fills = 0x800 if sys.platform == "linux" and os.uname().machine == "x86_64" else 0x400000, []
    for dtype in (torch.float32, torch.float64):
        values = recipes.recipe(Law("normal", (0.3, 1.7)), dtype)
        words = torch.arange(0, 2**31, 2**20, dtype=torch.int64 if dtype is torch.float64 else torch.int32)
        expected = cpu.transform(values, words)
        assert libm.fesetround(upward) == 0
        try:
            fills.append(same_bits(cpu.transform(values, words), expected))
            assert libm.fegetround() == upward
        finally:
            libm.fesetround(0)
    assert fills == [True, True]


LAWS = [
    ("uniform", (1.5 * TINY, 3.5 * TINY)),
    ("uniform", (-TINIEST, 2 * TINIEST)),
    ("uniform", (-1.0, 2.0)),
    ("normal", (0.0, TINY)),
    ("normal", (0.1, 0.02)),
    ("normal", (TINIEST, 2 * TINIEST)),
    ("truncated_normal", (0.0, 1.0, -1.0, math.inf)),
    ("truncated_normal", (0.0, 1.0, 37.0, 38.0)),
    ("truncated_normal", (0.0, TINIEST, 0.0, 4 * TINIEST)),
    ("fmod_normal", (0.0, 3 * TINY, -TINY, TINY)),
    ("constant", (TINY,)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_constants_do_not_depend_on_the_mode(dtype):
    for law in LAWS:
        forget()
        one = recipes.recipe(Law(*law), dtype)
        forget()
        with flushing():
            other = recipes.recipe(Law(*law), dtype)
        assert repr(one.constants) == repr(other.constants), law
        assert (one.table is None and other.table is None) or same_bits(one.table, other.table), law


def test_laws_that_are_equal_when_flushed_are_not_mixed_up():
    """Subnormal parameters then have the hash of 0, and are equal to it and to each other."""
    lows = [0.0, TINIEST, 2 * TINIEST]
    laws = [Law("uniform", (low, 1e-307)) for low in lows]
    with flushing():
        made = [recipes.recipe(law, torch.float64) for law in laws]
    assert [each.low for each in made] == lows
    assert all(recipes.recipe(law, torch.float64) is each for law, each in zip(laws, made, strict=True))


def test_wrong_laws_are_refused_and_the_mode_is_put_back():
    calls = [
        (lambda: fastinit.uniform_(torch.empty(3), 2e-309, TINIEST), "a <= b"),
        (lambda: fastinit.normal_(torch.empty(3), std=-TINIEST), "negative"),
        (lambda: fastinit.variance_scaling_(torch.empty(3, 3), scale=0.0), "positive"),
        (lambda: fastinit.truncated_normal_(torch.empty(3), 0.0, 1.0, a=2e-309, b=TINIEST), "a <= b"),
        (lambda: fastinit.truncated_normal_(torch.empty(3), 0.0, TINIEST, -TINIEST, 2e-309, method="fmod"), "symmetric"),
        (lambda: fastinit.sparse_(torch.empty(3, 3), -TINIEST), "sparsity"),
        (lambda: fastinit.uniform_(torch.empty(3), 1e-60, 2e-60), "no torch.float32 value"),
        (lambda: fastinit.glorot_uniform_(torch.empty(3, 3), gain=TINIEST), "leaves the range"),
        (lambda: fastinit.variance_scaling_(torch.empty(3, 3), scale=TINIEST), "leaves the range"),
        (lambda: fastinit.xavier_normal_(torch.empty(3, 3), gain=TINIEST), "leaves the range"),
        (lambda: fastinit.xavier_normal_(torch.empty(3), fan_in=3e-308, fan_out=3e-308), "range|positive"),
    ]
    for call, words in calls:
        with flushing(), pytest.raises(ValueError, match=words):
            call()


def test_models_have_the_same_bits():
    scheme = fastinit.Scheme({torch.nn.Linear: {"weight": FILLS["normal"](TINY), "bias": FILLS["uniform"](TINY)}})
    one, other = (torch.nn.Linear(40, 30) for _ in range(2))
    forget()
    with flushing():
        fastinit.initialize_(one, scheme, seed=0)
    fastinit.initialize_(other, scheme, seed=0)
    assert same_bits(one.weight, other.weight) and same_bits(one.bias, other.bias)


# torch's other threads keep the mode of the thread that started them. Prints which fills they changed.
WORKERS = """
import torch, fastinit
from fastinit._core.recipes import recipe
torch.set_num_threads(4)
torch.set_flush_denormal(True)
torch.ones(1 << 20) + 1
torch.set_flush_denormal(False)
assert int((torch.full((1 << 20,), 1e-40) * 1.0 == 0).sum()), "torch's threads do not flush: this shows nothing"
scales = (torch.float32, 1e-40), (torch.bfloat16, 1e-40), (torch.float64, 1e-309), (torch.float32, 1e-7), (torch.float16, 1e-7)
for dtype, x in scales:
    for name, law in (("uniform_", (1.5 * x, 3.5 * x)), ("normal_", (x, 2 * x)), ("truncated_normal_", (x, 2 * x, 0.0, 9 * x)),
                      ("uniform_", (0.0, 1.0)), ("normal_", ())):
        made = []
        for threads in (4, 1):
            torch.set_num_threads(threads)
            with fastinit.backend("reference"):
                made.append(getattr(fastinit, name)(torch.empty(3 << 16, dtype=dtype), *law, key=1).view(torch.uint8))
        if not torch.equal(*made): print(dtype, name, law)
"""


def test_the_reference_keeps_subnormal_numbers_from_threads_that_flush():
    env = {**os.environ, "OMP_NUM_THREADS": "4"}
    ended = subprocess.run([sys.executable, "-c", WORKERS], capture_output=True, text=True, env=env, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stdout + ended.stderr


def test_laws_that_people_use_are_filled_in_large_chunks():
    """Few elements at once cost the reference its threads: only what comes near subnormal numbers is done so."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for law in (("uniform", (-1e-4, 1e-4)), ("normal", (0.0, 1e-4)), ("truncated_normal", (0.0, 1.0, -2.0, 2.0))):
            assert reference.chunk_of(recipes.recipe(Law(*law), dtype)) == reference.CHUNK, (law, dtype)
        assert reference.chunk_of(recipes.recipe(Law("normal", (0.0, TINIEST)), torch.float64)) < 1 << 15
