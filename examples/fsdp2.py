"""Sharded by FSDP2: torchrun --standalone --nproc-per-node 4 examples/fsdp2.py

Every rank fills its shards, without communication. The weights are those of one device, whatever the number of ranks.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor

import fastinit

device = "cuda" if torch.cuda.is_available() else "cpu"
dist.init_process_group("nccl" if device == "cuda" else "gloo")
if device == "cuda":
    torch.cuda.set_device(dist.get_rank() % torch.cuda.device_count())


def make():
    layer = nn.TransformerEncoderLayer(250, 5, 1001)
    return nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)


with torch.device("meta"):
    model = make()
mesh = init_device_mesh(device, (dist.get_world_size(),))
for layer in model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
report = fastinit.initialize_(model, fastinit.torch_like, seed=0, device=device)

whole = make()  # on one device, for comparison
fastinit.initialize_(whole, fastinit.torch_like, seed=0)
for name, parameter in model.named_parameters():
    same = whole.get_parameter(name).to(device)
    shard = distribute_tensor(same, mesh, parameter.placements, src_data_rank=None)
    assert torch.equal(parameter.to_local(), shard.to_local()), name
if dist.get_rank() == 0:
    print(f"{len(report.filled)} parameters on {dist.get_world_size()} ranks: the bits of one device")
dist.destroy_process_group()
