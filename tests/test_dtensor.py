"""DTensors of any mesh, one rank after the other in one process: torch's fake process group, whose collectives do nothing."""

import itertools
import math
from functools import partial

import pytest
import torch
import torch.distributed as dist
from helpers.laws import KEY
from helpers.meshes import DTYPES, cases, rank_of, split_by_torch
from helpers.quick import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import fastinit
from fastinit._core.shard import fill_rows_

FILLS = {
    "uniform": lambda t: fastinit.uniform_(t, 1.0, 3.0, key=KEY),
    "truncated": lambda t: fastinit.truncated_normal_(t, 0.1, 0.2, key=KEY),
    "he": lambda t: fastinit.he_normal_(t, key=KEY, fan_in=7),
    "zeros": fastinit.zeros_,
    "made": lambda t: fastinit.blend_(t, fastinit.orthogonal_, key=[KEY, 1], add=[0.5, -1.0], keep=0.75),
    "blend": lambda t: fastinit.blend_(t, fastinit.normal_, key=[KEY, 1], add=[0.5, -1.0], keep=0.75),
    "rows": lambda t: fill_rows_(t, range(1, 3), 5.0),
}


def sharded(whole, mesh, placements, coordinate):
    local = split_by_torch(whole, mesh.shape, placements, coordinate).clone()
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride())


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


@settings(max_examples=examples(40))
@given(cases(), st.sampled_from(sorted(FILLS)), st.sampled_from(DTYPES), st.randoms(use_true_random=False))
def test_any_rank_of_any_mesh_holds_its_part_of_the_whole(case, name, dtype, chance):
    shape, mesh_shape, placements = case
    shape = [*shape, 4]  # bytes of the last axis are compared
    whole = torch.full(shape, 9.0).to(dtype)
    filled = whole.clone()
    FILLS[name](filled)
    coordinates = list(itertools.product(*map(range, mesh_shape)))
    for rank in {0, len(coordinates) - 1, chance.randrange(len(coordinates))}:
        with rank_of(mesh_shape, rank) as mesh:
            tensor = sharded(whole, mesh, placements, coordinates[rank])
            version = tensor._version
            FILLS[name](tensor)
            expected = split_by_torch(filled, mesh_shape, placements, coordinates[rank])
            assert torch.equal(bits(tensor.to_local()), bits(expected)) and tensor._version > version


@settings(max_examples=examples(20))
@given(cases(), st.sampled_from(DTYPES[:3]), st.booleans(), st.randoms(use_true_random=False))
def test_a_model_of_dtensors_on_any_mesh(case, dtype, meta, chance):
    """Experts stacked in one parameter, and a plain layer beside them; in place, and from meta."""
    shape, mesh_shape, placements = case
    shape = [*shape, 4]

    class Experts(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight, self.plain = nn.Parameter(weight), nn.Linear(3, 3, dtype=dtype)

    scheme = fastinit.truncated_like(0.02, 2.0).override({Experts: {"weight": partial(fastinit.truncated_normal_, std=0.02)}})
    alone = Experts(torch.empty(shape, dtype=dtype))
    report = fastinit.initialize_(alone, scheme, seed=1)
    coordinates = list(itertools.product(*map(range, mesh_shape)))
    rank = chance.randrange(len(coordinates))
    with rank_of(mesh_shape, rank) as mesh:
        whole = torch.full(shape, 9.0, dtype=dtype, device="meta" if meta else "cpu")
        model = Experts(sharded(whole, mesh, placements, coordinates[rank]))
        assert fastinit.initialize_(model, scheme, seed=1, device="cpu") == report
        expected = split_by_torch(alone.weight.detach(), mesh_shape, placements, coordinates[rank])
        assert isinstance(model.weight, DTensor) and isinstance(model.weight, nn.Parameter)
        assert torch.equal(bits(model.weight.detach().to_local()), bits(expected))
        assert torch.equal(model.plain.weight, alone.plain.weight)


def test_fans_are_those_of_the_whole():
    with rank_of((2, 2), 3) as mesh:
        for axis in (0, 1):
            tensor = sharded(torch.empty(64, 128), mesh, [Shard(axis), Replicate()], (1, 1))
            largest = fastinit.glorot_uniform_(tensor, key=1).to_local().abs().max().item()
            limit = math.sqrt(6 / 192)
            assert limit * (1 - 21 / 4096) < largest <= limit * (1 + 2**-24)


def test_meta_dtensors_and_wrong_arguments():
    with rank_of((2,), 1) as mesh:
        state = torch.get_rng_state()
        meta = sharded(torch.empty(4, 4, device="meta"), mesh, [Shard(0)], (1,))
        assert fastinit.normal_(meta) is meta and fastinit.orthogonal_(meta) is meta and fastinit.ones_(meta) is meta
        assert torch.equal(torch.get_rng_state(), state)
        with pytest.raises(ValueError, match="std must not be negative"):
            fastinit.normal_(meta, std=-1.0)
        tensor = sharded(torch.full((4, 4), 9.0), mesh, [Shard(0)], (1,))
        for wrong in (lambda: fastinit.normal_(tensor, std=-1.0), lambda: fastinit.orthogonal_(tensor, gain="a")):
            with pytest.raises((TypeError, ValueError)):
                wrong()
        with pytest.raises(TypeError, match="cannot fill a"):
            fastinit.normal_(sharded(torch.zeros(4, 4, dtype=torch.int64), mesh, [Shard(0)], (1,)))
        assert (tensor.to_local() == 9).all()


@pytest.mark.full
def test_around_a_compiled_graph_the_values_are_right():
    """Dynamo leaves its graph for the fill, or refuses; it never fills something else."""
    torch._dynamo.reset()
    with rank_of((2,), 1) as mesh:
        tensor = sharded(torch.full((4, 4), 9.0), mesh, [Shard(0)], (1,))
        torch.compile(lambda t: fastinit.normal_(t, key=3).mul_(2.0), backend="eager")(tensor)
    assert torch.equal(tensor.to_local(), fastinit.normal_(torch.empty(4, 4), key=3)[2:] * 2)


def test_a_rank_outside_the_mesh_holds_nothing_and_draws_like_the_others():
    dist.init_process_group("fake", rank=3, world_size=4, store=FakeStore())
    try:
        mesh = DeviceMesh("cpu", [0, 1])
        tensor = DTensor.from_local(torch.empty(0), mesh, [Shard(0)], run_check=False, shape=(4, 4), stride=(4, 1))
        torch.manual_seed(0)
        fastinit.normal_(tensor)
        after = torch.rand(1)
        torch.manual_seed(0)
        fastinit.normal_(torch.empty(4, 4))
        assert torch.equal(torch.rand(1), after)
    finally:
        dist.destroy_process_group()
