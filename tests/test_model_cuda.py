"""Whole models on a GPU: the bits of the CPU, from meta, sharded, and inside `accelerate`. Skipped where there is none."""

import itertools

import pytest
import torch
from helpers.laws import same_bits
from helpers.meshes import rank_of, split_by_torch
from helpers.models import Network, bits, on_meta
from torch import nn
from torch.distributed.tensor import DTensor, Shard

import fastinit
from fastinit._backends.choose import choose

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
DEVICE = torch.device("cuda", 0)


def assert_same(found, expected):
    for name, tensor in expected.items():
        if "weight_hh" in name:  # orthogonal: equal to rounding
            torch.testing.assert_close(found[name].cpu(), tensor, rtol=0, atol=1e-5)
        else:
            assert same_bits(found[name].cpu(), tensor), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("meta", [True, False])
def test_a_model_on_the_gpu_has_the_bits_of_the_cpu(dtype, meta):
    expected = Network().to(dtype)
    report = fastinit.initialize_(expected, seed=2)
    model = on_meta(lambda: Network().to(dtype)) if meta else Network().to(dtype)
    assert fastinit.initialize_(model, seed=2, device="cuda") == report
    assert all(tensor.device == DEVICE for tensor in model.state_dict().values())
    assert model.head.weight is model.embedding.weight
    assert_same(bits(model), bits(expected))


def test_one_call_fills_all(monkeypatch):
    backend, calls = choose(DEVICE), []
    fill = backend.fill
    monkeypatch.setattr(backend, "fill", lambda plans: (calls.append(len(plans)), fill(plans)))
    model = nn.Sequential(nn.Linear(9, 9), nn.BatchNorm1d(9), nn.Conv1d(3, 3, 3)).to(DEVICE)
    fastinit.initialize_(model, seed=0)
    assert calls == [8]


def test_initializers_of_one_s_own_are_seeded_on_the_gpu():
    scheme = fastinit.Scheme({nn.Linear: {"weight": lambda tensor: tensor.normal_(), "bias": fastinit.zeros_}})
    model = nn.Linear(5, 6, device=DEVICE)
    state = torch.cuda.get_rng_state()
    fastinit.initialize_(model, scheme, seed=0)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    first = model.weight.clone()
    torch.randn(3, device=DEVICE)
    fastinit.initialize_(model, scheme, seed=0)
    assert torch.equal(first, model.weight)


def test_a_shard_on_the_gpu():
    whole = fastinit.truncated_normal_(torch.empty(10, 7), key=1)
    for rank, coordinate in enumerate(itertools.product(range(2), range(2))):
        with rank_of((2, 2), rank, "cuda") as mesh:
            placements = [Shard(0), Shard(1)]
            expected = split_by_torch(whole, (2, 2), placements, coordinate)
            local = torch.empty_like(expected, device=DEVICE)
            tensor = DTensor.from_local(local, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride())
            fastinit.truncated_normal_(tensor, key=1)
            assert same_bits(tensor.to_local().cpu(), expected)


def test_accelerate_on_the_gpu():
    with fastinit.accelerate(seed=3):
        expected = nn.TransformerEncoderLayer(16, 2, 32)
    with torch.device("cuda"), fastinit.accelerate(seed=3):
        model = nn.TransformerEncoderLayer(16, 2, 32)
    assert_same(bits(model), bits(expected))
