"""Fills by fastinit, torch.nn.init, timm and JAX: ``pytest benchmarks --benchmark-only``. FASTINIT_BENCH_QUICK=1: under a minute.

A group is a function, a dtype and a size. extra_info holds elements_per_s, gb_per_s and ratio_to_fill: the time that
Tensor.fill_ takes on the same tensor, in turns with the contender, over the contender's.
"""

import os
import statistics
import time

import pytest

from fastinit._commands.measure import SETTLE, Contender, affordable, paired, repeats, timed
from fastinit._commands.peers import DTYPES, WORKS, matrix, other_peers, torch_peer

QUICK = os.environ.get("FASTINIT_BENCH_QUICK", "") not in ("", "0")
SIZES = (1 << 6, 1 << 10, 1 << 18) if QUICK else (1 << 6, 1 << 10, 1 << 20, 1 << 26)
ROUNDS, PEER_SECONDS = (3, 0.05) if QUICK else (7, 1.5)
DTYPE_NAMES = ("float32", "bfloat16", "float16", "float8_e4m3fn")


def contenders(work, dtype):
    """Name -> call: fastinit's, and every peer that is installed and knows the dtype."""
    peer = torch_peer(work, dtype)
    return {"fastinit": work.ours, **({work.peer_name: peer} if peer else {}), **other_peers(work, dtype)}


CASES = [
    pytest.param(work, dtype, size, who, id=f"{work.name}-{dtype}-{size}-{who}")
    for work in WORKS.values()
    for dtype in DTYPE_NAMES
    for size in SIZES
    for who in contenders(work, DTYPES[dtype])
]


@pytest.mark.parametrize(("work", "dtype", "size", "who"), CASES)
def test_fill(benchmark, work, dtype, size, who):
    benchmark.group = f"{work.name} {dtype} {size:,}"
    call = contenders(work, DTYPES[dtype])[who]
    elements = affordable(call, lambda n: matrix(n, DTYPES[dtype]), size, PEER_SECONDS)  # less than `size` for slow peers
    tensor = matrix(elements, DTYPES[dtype])
    fills, owns = run_in_turns(benchmark, call, tensor)
    seconds = statistics.median(owns)
    benchmark.extra_info.update(
        elements=elements,
        elements_per_s=elements / seconds,
        gb_per_s=elements * tensor.itemsize / seconds / 1e9,
        ratio_to_fill=statistics.median(f / o for f, o in zip(fills, owns, strict=True)),
    )


def run_in_turns(benchmark, call, tensor):
    """Seconds of Tensor.fill_ and of the call. Short calls are repeated within a round, which leaves no turn for a setup."""
    calls = repeats(Contender(call, tensor))
    if calls > 1:
        benchmark.pedantic(call, args=(tensor,), rounds=ROUNDS, iterations=calls, warmup_rounds=1)
        both = paired({"fill": Contender(fill, tensor), "own": Contender(call, tensor)}, ROUNDS)
        return both["fill"], both["own"]
    fills = []

    def setup():
        fills.append(timed(fill, tensor))
        time.sleep(SETTLE)

    benchmark.pedantic(call, args=(tensor,), setup=setup, rounds=ROUNDS)
    return fills, benchmark.stats.stats.data if benchmark.stats else fills  # no stats under --benchmark-disable


def fill(tensor):
    return tensor.fill_(1.0)
