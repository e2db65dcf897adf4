"""A whole model by `initialize_` and by a loop of torch.nn.init over its parameters: ``pytest benchmarks --benchmark-only``.

GPT-2 small in torch's own modules, in memory that was touched before; its law, normal or cut at two sigmas. torch's truncated
normal is timed on one block and the embeddings' first rows: extra_info holds elements_per_s of both. Other models, built by
their libraries, and the peaks of memory: ``fastinit bench --models``.
"""

import os
from functools import partial

import pytest
import torch

import fastinit
from fastinit._commands import gpt2

QUICK = os.environ.get("FASTINIT_BENCH_QUICK", "") not in ("", "0")
SIZES = {"layers": 2, "width": 128, "vocabulary": 5000} if QUICK else {}
ROUNDS = 3 if QUICK else 7
SCHEMES = {
    "truncated": fastinit.truncated_like(gpt2.STD, gpt2.SIGMAS),
    "normal": fastinit.gpt2_like(n_layer=SIZES.get("layers", 12), std=gpt2.STD),
}
PEERS = {
    "truncated": lambda name, weight, std: torch.nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std),
    "normal": lambda name, weight, std: torch.nn.init.normal_(weight, std=std),
}


@pytest.mark.parametrize("who", ["fastinit", "nn.init"])
@pytest.mark.parametrize("law", SCHEMES)
def test_gpt2(benchmark, law, who):
    small = who == "nn.init" and law == "truncated" and not QUICK
    model = gpt2.allocated(**({"layers": 1, "vocabulary": 5000} if small else SIZES))
    calls = {
        "fastinit": partial(fastinit.initialize_, model, SCHEMES[law], seed=0),
        "nn.init": partial(gpt2.initialize, model, PEERS[law]),
    }
    benchmark.group = f"GPT-2 small, {law} normal"
    benchmark.pedantic(calls[who], rounds=ROUNDS, warmup_rounds=1)
    elements = sum(parameter.numel() for parameter in model.parameters())
    if benchmark.stats:  # none under --benchmark-disable
        benchmark.extra_info.update(elements=elements, elements_per_s=elements / benchmark.stats.stats.median)
