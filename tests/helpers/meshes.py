"""Meshes for tests, without processes: random ones, torch's own splitting, and one rank of torch's fake process group."""

import contextlib
import math

import torch
import torch.distributed as dist
from hypothesis import strategies as st
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float8_e5m2]


def split_by_torch(tensor, mesh_shape, placements, coordinate):
    """What torch leaves on a rank, mesh dimension by mesh dimension."""
    for ranks, placement, rank in zip(mesh_shape, placements, coordinate, strict=True):
        if not isinstance(placement, Replicate):
            tensor = placement._split_tensor(tensor, ranks, with_padding=False, contiguous=True)[0][rank]
    return tensor


@st.composite
def cases(draw):
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    mesh_shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = st.integers(0, len(shape) - 1)
    kinds = [st.builds(Replicate), st.builds(Shard, axis)]
    even_only = hasattr(_StridedShard(0, split_factor=1), "_split_tensor") and torch.__version__ < "2.10"
    if not even_only:
        kinds.append(st.builds(lambda dim, factor: _StridedShard(dim, split_factor=factor), axis, st.integers(1, 5)))
    placements = [draw(st.one_of(kinds)) for _ in mesh_shape]
    return shape, mesh_shape, placements


@contextlib.contextmanager
def rank_of(mesh_shape, rank, device="cpu"):
    dist.init_process_group("fake", rank=rank, world_size=math.prod(mesh_shape), store=FakeStore())
    try:
        yield DeviceMesh(device, torch.arange(math.prod(mesh_shape)).view(mesh_shape))
    finally:
        dist.destroy_process_group()
