"""Whole models by `initialize_` and by a loop of torch.nn.init over their parameters: ``pytest benchmarks --benchmark-only``.

GPT-2 small in torch's own modules, in memory that was touched before; its law, normal or cut at two sigmas. torch's truncated
normal is timed on one block and the embeddings' first rows: extra_info holds elements_per_s of both. Other models, built by
their libraries, and the peaks of memory: ``fastinit bench --models``.

And a model of many small parameters, where what is not filling counts: all in one `initialize_`, on the CPU or from meta, and
one call after the other, of fastinit, of torch and of torch's functions served by `accelerate`.
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


COUNT = 200 if QUICK else 10_000
NORMAL = fastinit.Scheme({torch.nn.Linear: {"weight": fastinit.normal_}})


def small_parameters(device):
    with torch.device(device):
        return torch.nn.ModuleList([torch.nn.Linear(8, 8, bias=False) for _ in range(COUNT)])


def loop(function, model):
    for parameter in model.parameters():
        function(parameter)


def served(model):
    with fastinit.accelerate(seed=0):
        loop(torch.nn.init.normal_, model)


WAYS = {
    "initialize_": ("cpu", lambda model: fastinit.initialize_(model, NORMAL, seed=0)),
    "initialize_ from meta": ("meta", lambda model: fastinit.initialize_(model, NORMAL, seed=0, device="cpu")),
    "fastinit.normal_": ("cpu", partial(loop, fastinit.normal_)),
    "nn.init.normal_": ("cpu", partial(loop, torch.nn.init.normal_)),
    "nn.init.normal_ in accelerate": ("cpu", served),
}


@pytest.mark.parametrize("way", WAYS)
def test_many_small_parameters(benchmark, way):
    device, call = WAYS[way]
    benchmark.group = f"{COUNT:,} parameters of 8 x 8"
    benchmark.pedantic(call, setup=lambda: ((small_parameters(device),), {}), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(parameters=COUNT)
