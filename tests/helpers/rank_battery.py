"""What only several processes can show, run by test_mesh.py under torchrun: real DTensors, FSDP2 and tensor parallelism on gloo.

Every rank checks its own shard and the gathered tensor against one fill of the whole, bit for bit; any fault ends the program.
"""

import copy
import itertools
import os
import random

import torch
import torch.distributed as dist
from helpers.meshes import split_by_torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

import fastinit

KEY = fastinit.key(7, "battery")
INITIALIZERS = {
    "uniform": lambda t: fastinit.uniform_(t, -0.3, 0.7, key=KEY),
    "normal": lambda t: fastinit.normal_(t, std=0.02, key=KEY),
    "truncated": lambda t: fastinit.truncated_normal_(t, key=KEY),
    "fmod": lambda t: fastinit.truncated_normal_(t, method="fmod", key=KEY),
    "glorot": lambda t: fastinit.glorot_uniform_(t, key=KEY),
    "kaiming": lambda t: fastinit.kaiming_normal_(t, key=KEY),
    "batch": lambda t: fastinit.lecun_normal_(t, batch_dims=t.ndim - 2, key=KEY),
    "constant": lambda t: fastinit.constant_(t, 0.5),
    "blend": lambda t: fastinit.blend_(t, fastinit.glorot_uniform_, key=[KEY, 5], add=[0.5, -1.0], keep=0.75),
    "orthogonal": lambda t: fastinit.orthogonal_(t, key=KEY),
    "members": lambda t: fastinit.orthogonal_(t, key=KEY, batch_dims=t.ndim - 2),
    "layout": lambda t: fastinit.in_layout(fastinit.he_normal_, "expert in out" if t.ndim == 3 else "in out")(t, key=KEY),
    "turned": lambda t: fastinit.in_layout(fastinit.orthogonal_, "expert in out" if t.ndim == 3 else "in out")(t, key=KEY),
}
MATRICES = {
    "eye": fastinit.eye_,
    "sparse": lambda t: fastinit.sparse_(t, 0.3, key=KEY),
}


def same(a, b):
    a_bits, b_bits = (t.detach().contiguous().flatten().view(torch.uint8) for t in (a, b))
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a_bits, b_bits)


def distributed(whole, mesh, placements):
    """Without communication; also of strided shards, which distribute_tensor refuses in some versions."""
    local = split_by_torch(whole, mesh.shape, placements, mesh.get_coordinate())
    return DTensor.from_local(local.clone(), mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride())


def check_fill(initializer, shape, dtype, mesh, placements):
    expected = initializer(torch.full(shape, 9.0, dtype=dtype))
    tensor = distributed(torch.full(shape, 9.0, dtype=dtype), mesh, placements)
    version = tensor._version
    with CommDebugMode() as communication:
        assert initializer(tensor) is tensor
    assert communication.get_total_counts() == 0 and tensor._version > version
    shard = distributed(expected, mesh, placements).to_local()
    assert same(tensor.to_local(), shard), (shape, dtype, placements)


def check_fills(meshes):
    chance = random.Random(0)  # the same on all ranks
    for mesh in meshes:
        kinds = [Replicate(), Shard(0), Shard(1), Shard(2)]
        for placements in itertools.product(kinds, repeat=mesh.ndim):
            for shape in ((8, 12, 4), (3, 5, 3)):
                name = chance.choice(list(INITIALIZERS))
                check_fill(INITIALIZERS[name], shape, chance.choice([torch.float32, torch.bfloat16]), mesh, placements)
        for name, initializer in {**INITIALIZERS, **MATRICES}.items():
            for dtype in (torch.float64, torch.float8_e4m3fn):
                placements = [Shard(0)] * mesh.ndim if name != "eye" else [Shard(1)] * mesh.ndim
                check_fill(initializer, (13, 10), dtype, mesh, placements)
        check_fill(fastinit.dirac_, (6, 5, 3), torch.float32, mesh, [Shard(1)] * mesh.ndim)
        words = distributed(torch.zeros(9, 4, dtype=torch.int32), mesh, [Shard(1)] * mesh.ndim)
        whole = fastinit.bits_(torch.zeros(9, 4, dtype=torch.int32), key=KEY)
        assert same(fastinit.bits_(words, key=KEY).to_local(), distributed(whole, mesh, [Shard(1)] * mesh.ndim).to_local())
        assert torch.equal(words.full_tensor(), whole)  # torch's own gathering
    if meshes[-1].ndim == 2:
        for shape, factor in (((16, 6), 2), ((16, 6), 4), ((24, 5), 3)):
            strided = _StridedShard(0, split_factor=factor)
            check_fill(INITIALIZERS["normal"], shape, torch.float32, meshes[-1], [strided, Shard(0)])
            check_fill(INITIALIZERS["batch"], shape, torch.bfloat16, meshes[-1], [strided, Shard(1)])


def check_draws(mesh):
    """All ranks draw alike from the default generator, also those that hold nothing."""
    torch.manual_seed(3)
    first, second = torch.zeros(1, 4), torch.zeros(6, 4)
    expected = [fastinit.normal_(first), fastinit.orthogonal_(second), fastinit.normal_(torch.zeros(5))]
    torch.manual_seed(3)
    found = [
        fastinit.normal_(distribute_tensor(torch.zeros(1, 4), mesh, [Shard(0)])).full_tensor(),
        fastinit.orthogonal_(distribute_tensor(torch.zeros(6, 4), mesh, [Shard(0)])).full_tensor(),
        fastinit.normal_(torch.zeros(5)),
    ]
    assert all(same(a, b) for a, b in zip(expected, found, strict=True))


def check_refusals(mesh):
    for initializer in (fastinit.normal_, fastinit.ones_, fastinit.orthogonal_, fastinit.eye_):
        summands = DTensor.from_local(torch.full((4, 4), 9.0), mesh, [Partial()])
        try:
            initializer(summands)
        except ValueError as error:
            assert "summands" in str(error) and (summands.to_local() == 9).all()
        else:
            raise AssertionError("a Partial tensor was filled")
    uneven = DTensor.from_local(torch.full((dist.get_rank() + 1, 2), 9.0), mesh, [Shard(0)], run_check=False)
    try:
        fastinit.normal_(uneven)
    except ValueError as error:
        assert "must have the shape" in str(error)
    else:
        assert uneven.to_local().shape[0] * dist.get_world_size() == uneven.shape[0]


def check_fsdp1():
    wrapped = nn.Sequential(FullyShardedDataParallel(nn.Linear(4, 4), device_id=torch.device("cpu")))
    before = [parameter.detach().clone() for parameter in wrapped.parameters()]
    try:
        fastinit.initialize_(wrapped, seed=0)
    except ValueError as error:
        assert "0 (FullyShardedDataParallel)" in str(error) and "fully_shard" in str(error)
    else:
        raise AssertionError("FSDP1's flat parameters were filled")
    assert all(map(torch.equal, wrapped.parameters(), before))


def check_accelerate(mesh):
    whole = nn.Parameter(torch.zeros(7, 5))
    sharded = nn.Parameter(distributed(whole.detach(), mesh, [Shard(0)]))
    for seed, name in enumerate(("kaiming_uniform_", "trunc_normal_", "orthogonal_")):
        for weight in (sharded, whole):
            with fastinit.accelerate(seed=seed):
                getattr(nn.init, name)(weight)
        assert same(sharded.to_local(), distributed(whole.detach(), mesh, [Shard(0)]).to_local())


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Model(nn.Module):
    """Tied embeddings, a padding row, batch norm's buffers, an LSTM with its forget biases, attention in blocks of three."""

    def __init__(self, width=18, vocabulary=23):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=3)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x.transpose(1, 2)).transpose(1, 2))


def wholes(model):
    return {name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor for name, tensor in model.state_dict().items()}


def check_model(sharded, expected):
    found = wholes(sharded)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        close = torch.allclose(found[name], tensor, atol=1e-6) if "weight_hh" in name else same(found[name], tensor)
        assert close, name


def check_fsdp2(mesh, meta):
    model = Model()
    report = fastinit.initialize_(model, seed=5)
    expected = wholes(copy.deepcopy(model))
    with torch.device("meta" if meta else "cpu"):
        sharded = Model()
    for block in sharded.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    optimizer, before = torch.optim.SGD(sharded.parameters(), lr=0.5), list(sharded.parameters())
    with CommDebugMode() as communication:
        again = fastinit.initialize_(sharded, seed=5, device="cpu" if meta else None)
    assert all(new is old for new, old in zip(sharded.parameters(), before, strict=True))
    assert communication.get_total_counts() == 0
    assert [(e.name, e.key, e.shape) for e in again.entries] == [(e.name, e.key, e.shape) for e in report.entries]
    assert sharded.head.weight is sharded.embedding.weight
    check_model(sharded, expected)
    tokens = torch.randint(0, 23, (2, 5), generator=torch.Generator().manual_seed(1))
    outputs = sharded(tokens)
    torch.testing.assert_close(outputs, model(tokens))  # also after FSDP has taken the new memory over
    outputs.sum().backward()
    optimizer.step()
    assert not torch.allclose(sharded(tokens), outputs)
    fastinit.initialize_(sharded, seed=5)  # while some are gathered
    sharded.reshard()
    check_model(sharded, expected)
    fastinit.initialize_(model, seed=5)
    check_noise(sharded, model)


def check_noise(sharded, model):
    """The same weights, and no communication; from a snapshot, and while some are gathered."""
    snapshots = [{name: p.detach().clone() for name, p in each.named_parameters()} for each in (sharded, model)]
    sharded.eval()(torch.zeros(2, 5, dtype=torch.long))
    for from_snapshot in (False, True):
        reports = []
        for each, snapshot in zip((sharded, model), snapshots, strict=True):
            given = {"source": snapshot} if from_snapshot else {"keep": 0.5}
            with CommDebugMode() as communication:
                reports.append(fastinit.perturb_(each, fastinit.normal_, seed=[1, -2, 1 << 70], add=[0.5, 0.25, -1.0], **given))
            assert communication.get_total_counts() == 0
        assert reports[0] == reports[1]
        check_model(sharded, wholes(model))


def check_tensor_parallel(mesh):
    model = Model()
    fastinit.initialize_(model, seed=6)
    sharded = Model()
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    for block in sharded.blocks:
        parallelize_module(block, mesh["tp"], plan)
        fully_shard(block, mesh=mesh["dp"])
    fully_shard(sharded, mesh=mesh["dp"])
    placements = {type(placement) for parameter in sharded.parameters() for placement in parameter.placements}
    assert _StridedShard in placements
    fastinit.initialize_(sharded, seed=6)
    check_model(sharded, wholes(model))
    check_noise(sharded, model)


def main():
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    ranks = dist.get_world_size()
    meshes = [init_device_mesh("cpu", (ranks,))]
    if ranks == 4:
        meshes.append(init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp")))
    check_fills(meshes)
    check_draws(meshes[0])
    check_refusals(meshes[0])
    check_fsdp1()
    check_accelerate(meshes[0])
    for meta in (False, True):
        check_fsdp2(meshes[0], meta)
    if ranks == 4:
        check_tensor_parallel(meshes[1])
    dist.barrier()
    if dist.get_rank() == 0:
        print(f"battery passed on {ranks} ranks", flush=True)
    dist.destroy_process_group()
    os._exit(0)  # a thread of gloo's may still be dropping tensors that it gathered; one that meets the interpreter's end aborts


if __name__ == "__main__":
    main()
