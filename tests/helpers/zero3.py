"""What only the real DeepSpeed can show, run by test_zero3.py under torchrun: what is partitioned is refused, gathered filled."""

import os

os.environ["DS_ACCELERATOR"] = "cpu"  # read on import

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.comm import torch as backend
from helpers.models import Network
from torch import nn

import fastinit


def refused(call):
    try:
        call()
    except ValueError as error:
        return "with deepspeed.zero.GatheredParameters" in str(error)
    return False


def check_refusals(model):
    message = r"convolution.weight: DeepSpeed's ZeRO-3 has partitioned it (ds_shape=(12, 4, 3))"
    try:
        fastinit.initialize_(model, seed=5)
    except ValueError as error:
        assert message in str(error) and "head.weight" in str(error), error
    else:
        raise AssertionError("partitioned parameters were reported as filled")
    assert refused(lambda: model.apply(fastinit.keras_like))
    assert refused(lambda: fastinit.zeros_(model.convolution.bias))


def main():
    backend.build_shm_op = lambda: None  # or minutes go by while a compiler builds what gloo does not need
    deepspeed.init_distributed("gloo")
    expected = Network()
    report = fastinit.initialize_(expected, seed=5)
    with deepspeed.zero.Init(config_dict_or_path={"train_batch_size": dist.get_world_size(), "zero_optimization": {"stage": 3}}):
        model = Network()
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    check_refusals(model)
    with deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0):
        assert fastinit.initialize_(model, seed=5) == report
    assert all(parameter.numel() == 0 and isinstance(parameter, nn.Parameter) for parameter in model.parameters())
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        found = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found[name], tensor), name
    if dist.get_rank() == 0:
        print(f"zero3 passed on {dist.get_world_size()} ranks", flush=True)
    dist.barrier()
    os._exit(0)  # as rank_battery.py


if __name__ == "__main__":
    main()
