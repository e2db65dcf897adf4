"""Subclasses of Tensor: those that change nothing are plain tensors everywhere; local tensors of others are filled, or named."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import fastinit
from fastinit._core.laws import normal
from fastinit._core.plan import whole
from fastinit._core.recipes import recipe
from fastinit._fill import plans_of

KEY = 5


class Trivial(nn.Parameter):
    """One with a name of its own, as libraries make them to recognize their parameters."""


class TrivialTensor(torch.Tensor):
    pass


class Wrapper(torch.Tensor):
    """One that holds another tensor, as weights that are cast to float8 when they are used: operations are done on that one, and
    what views and casts give is no Wrapper."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, strides=inner.stride(), dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        args, kwargs = torch.utils._pytree.tree_map_only(cls, lambda t: t.inner, (args, kwargs or {}))
        out = function(*args, **kwargs)
        return out.clone() if function.is_view else out


def trivial_model():
    layer = nn.Linear(6, 5)
    layer.weight = Trivial(torch.full((5, 6), 3.0))
    return layer


def test_a_trivial_subclass_is_treated_as_a_parameter():
    """By the functions, by apply, by initialize_ (also from meta, its class kept), and by a block with a seed."""
    expected = nn.Linear(6, 5)
    fastinit.initialize_(expected, seed=0)
    layer = trivial_model()
    fastinit.initialize_(layer, seed=0)
    assert torch.equal(layer.weight, expected.weight) and type(layer.weight) is Trivial
    layer = trivial_model().to("meta")
    layer.weight = Trivial(layer.weight)
    fastinit.initialize_(layer, seed=0, device="cpu")
    assert torch.equal(layer.weight, expected.weight) and type(layer.weight) is Trivial
    with fastinit.accelerate(seed=4):
        nn.init.normal_(layer.weight)
    assert torch.equal(layer.weight, fastinit.normal_(torch.empty(5, 6), key=fastinit.key(4, 0)))
    for tensor in (Trivial(torch.empty(5, 6)), torch.empty(5, 6).as_subclass(TrivialTensor)):
        assert fastinit.normal_(tensor, key=KEY) is tensor
        assert torch.equal(torch.Tensor(tensor.detach()), fastinit.normal_(torch.empty(5, 6), key=KEY))


# --- local tensors ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mesh():
    dist.init_process_group("fake", rank=3, world_size=8, store=FakeStore())
    yield DeviceMesh("cpu", torch.arange(8).view(2, 2, 2), mesh_dim_names=("x", "y", "z"))
    dist.destroy_process_group()


KINDS = {"wrapper": Wrapper, "asynchronous": AsyncCollectiveTensor, "trivial": lambda t: t.as_subclass(TrivialTensor)}
FILLS = {
    "normal_": lambda t: fastinit.normal_(t, key=KEY),
    "he_uniform_": lambda t: fastinit.he_uniform_(t, key=KEY),
    "constant_": lambda t: fastinit.constant_(t, 2.5),
    "orthogonal_": lambda t: fastinit.orthogonal_(t, key=KEY),
    "dirac_": lambda t: fastinit.dirac_(t, key=KEY),
}


def sharded(kind, mesh, inner):
    placements = [Shard(0), Shard(2), Shard(1)]
    made = DTensor.from_local(inner, mesh, placements, run_check=False, shape=(4, 6, 8), stride=(48, 8, 1))
    made._local_tensor = KINDS[kind](inner)  # from_local makes a view, which of a subclass may be another tensor
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILLS)
def test_a_local_tensor_of_a_subclass_is_filled(kind, name, mesh):
    """Cut on three axes: rank 3 of 8 has the place (0, 1, 1)."""
    inner = torch.full((2, 3, 4), 9.0)
    tensor = sharded(kind, mesh, inner)
    assert FILLS[name](tensor) is tensor
    expected = FILLS[name](torch.empty(4, 6, 8))[:2, 3:, 4:]
    assert torch.equal(inner, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seeded_block_fills_it(kind, mesh):
    inner = torch.full((2, 3, 4), 9.0)
    with fastinit.accelerate(seed=4):
        nn.init.normal_(sharded(kind, mesh, inner))
    assert torch.equal(inner, fastinit.normal_(torch.empty(4, 6, 8), key=fastinit.key(4, 0))[:2, 3:, 4:])


def test_a_model_with_one_is_refused_by_name(mesh):
    layer = nn.Module()
    layer.weight = nn.Parameter(sharded("trivial", mesh, torch.full((2, 3, 4), 9.0)))
    layer.weight._local_tensor = Wrapper(torch.full((2, 3, 4), 9.0))
    with pytest.raises(ValueError, match=r"weight: DTensor of Wrapper is no plain tensor"):
        fastinit.initialize_(layer, fastinit.Scheme({"*": fastinit.normal_}), seed=0)


def test_a_part_that_no_plan_covers_is_an_error():
    part = Wrapper(torch.empty(3))
    with pytest.raises(TypeError, match="no backend can fill a Wrapper"):
        plans_of([(part, whole(part))], recipe(normal(0.0, 1.0), torch.float32), 0)
    assert plans_of([(torch.empty(3, device="meta"), whole(part))], recipe(normal(0.0, 1.0), torch.float32), 0) == []
