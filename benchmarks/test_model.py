"""Whole models by `initialize_` and by a loop of torch.nn.init over their parameters: ``pytest benchmarks --benchmark-only``.

GPT-2 small in torch's own modules, in memory that was touched before; its law, normal or cut at two sigmas. torch's truncated
normal is timed on one block and the embeddings' first rows: extra_info holds elements_per_s of both. Other models, built by
their libraries, and the peaks of memory: ``fastinit bench --models``.

And a model of many small parameters, where what is not filling counts: all in one `initialize_`, on the CPU or from meta, and
one call after the other, of fastinit, of torch and of torch's functions served by `accelerate`; and the least that one loop in
Python takes for what `initialize_` does.
"""

import os
import struct
from functools import partial

import pytest
import torch

import fastinit
from fastinit import laws
from fastinit._backends import abi, cpu
from fastinit._commands import gpt2
from fastinit._core import keys
from fastinit._core.memory import lies_alone
from fastinit._core.recipes import recipe
from fastinit._torch import base_of, leaf, storage_numbers, written

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


def least(model):
    """What `initialize_` cannot do without, in one loop that knows the model: names, looks at each parameter, keys, packing,
    rows of the report, one call. In Python it cannot take less."""
    law = recipe(laws.normal(0.0, 1.0), torch.float32)
    _, at = abi.raw_recipe(law)
    rest = abi.FIELDS.pack(0, 0, 0, 1, 64, 64, 0, at, 0)[16:]
    shape, key_of = torch.Size((8, 8)), keys.of_names(0)
    seen, rows, plans, tensors = {}, [], [], []
    for path, module in model.named_children():
        parameters, is_all = leaf(module)
        assert is_all and id(module) not in seen
        seen[id(module)] = path
        for attribute, tensor in parameters.items():
            if tensor is None:  # the bias
                continue
            assert type(tensor) is torch.nn.Parameter and tensor.shape == shape and tensor.dtype is torch.float32
            assert tensor.requires_grad and lies_alone(tensor) and base_of(tensor) is tensor and not tensor.is_neg()
            name = f"{path}.{attribute}"
            key = key_of(name)
            plans.append(struct.pack("@PQ", tensor.data_ptr(), key) + rest)
            rows.append((name, shape, torch.float32, "filled", "parameter", "normal_", key, None, False))
            tensors.append(tensor)
    assert len({*storage_numbers(tensors)}) == len(tensors)
    cpu.library().fastinit_fill(b"".join(plans), len(plans), torch.get_num_threads(), 0)
    written(*tensors)
    return rows


WAYS = {
    "initialize_": ("cpu", lambda model: fastinit.initialize_(model, NORMAL, seed=0)),
    "initialize_, keras_like": ("cpu", lambda model: fastinit.initialize_(model, seed=0)),  # looks for a constructor's constants
    "the least in Python": ("cpu", least),
    "initialize_ from meta": ("meta", lambda model: fastinit.initialize_(model, NORMAL, seed=0, device="cpu")),
    "fastinit.normal_": ("cpu", partial(loop, fastinit.normal_)),
    "nn.init.normal_": ("cpu", partial(loop, torch.nn.init.normal_)),
    "to_empty, nn.init.normal_ from meta": ("meta", lambda model: loop(torch.nn.init.normal_, model.to_empty(device="cpu"))),
    "nn.init.normal_ in accelerate": ("cpu", served),
}


@pytest.mark.parametrize("way", WAYS)
def test_many_small_parameters(benchmark, way):
    device, call = WAYS[way]
    benchmark.group = f"{COUNT:,} parameters of 8 x 8"
    benchmark.pedantic(call, setup=lambda: ((small_parameters(device),), {}), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(parameters=COUNT)
