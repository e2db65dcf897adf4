"""A device without a backend: what tests/test_devices.py runs in a process of its own, where the stand-in is registered."""

import contextlib
import copy

import torch
from helpers import standin
from helpers.laws import LAWS, same_bits
from torch import distributed, nn
from torch.distributed.tensor import DeviceMesh, DTensor, Shard

import fastinit
from fastinit._backends import cpu, reference, staged
from fastinit._backends.choose import module
from fastinit._commands import info
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.plan import Box, Plan
from fastinit._core.recipes import recipe

FLOATS = [dtype for dtype in FLOAT_DTYPES if dtype is not torch.float64]
FUNCTIONS = {
    **{
        name: {}
        for name in ("zeros_", "ones_", "eye_", "orthogonal_", "uniform_", "normal_", "trunc_normal_", "truncated_normal_")
    },
    **{f"{name}_{law}_": {} for name in ("glorot", "he", "lecun", "xavier", "kaiming") for law in ("uniform", "normal")},
    "constant_": {"val": 0.3},
    "sparse_": {"sparsity": 0.3},
    "variance_scaling_": {"scale": 2.0},
}
KINDS = {name: FUNCTIONS[name] for name in ("normal_", "orthogonal_", "sparse_", "constant_")}


def back(tensor):
    assert tensor.device.type == standin.NAME and type(tensor) in (torch.Tensor, nn.Parameter)
    return standin.on_cpu(tensor.detach())


def layouts(device, dtype, rows=30, columns=21):
    """A matrix in several layouts, over memory of zeros."""
    make = lambda n: torch.zeros(n, dtype=dtype).to(device)  # noqa: E731
    yield make(rows * columns).view(rows, columns)
    yield make(rows * columns).view(columns, rows).t()
    yield make(4 * rows * columns).view(2 * rows, 2 * columns)[1::2, ::2]
    yield make(rows * columns + 1)[1:].view(rows, columns)


def every_function():
    for dtype in FLOATS:
        for name, given in FUNCTIONS.items() if dtype is torch.float32 else KINDS.items():
            initialize = getattr(fastinit, name)
            for here, there in zip(layouts("cpu", dtype), layouts(standin.NAME, dtype), strict=True):
                assert initialize(there, **given, key=7) is there
                assert same_bits(back(there), initialize(here, **given, key=7)), (name, dtype, there.stride())
    kernel = torch.empty(4, 2, 3, device=standin.NAME)
    assert same_bits(back(fastinit.dirac_(kernel, 2)), fastinit.dirac_(torch.empty(4, 2, 3), 2))
    words = torch.empty(9, dtype=torch.int64, device=standin.NAME)
    assert torch.equal(back(fastinit.bits_(words, key=1)), fastinit.bits_(torch.empty(9, dtype=torch.int64), key=1))
    here, there = (
        fastinit.uniform_(torch.empty(9, device=d), generator=torch.Generator().manual_seed(1)) for d in ("cpu", standin.NAME)
    )
    assert same_bits(back(there), here)


def every_box():
    """Shards' boxes, larger than a piece and smaller, by both backends."""
    for elements, names in ((8, ["native"]), (64, ["native", "reference"]), (10**6, ["native"])):
        staged.PIECE = elements * 4
        for name, inner in ((name, {"native": cpu, "reference": reference}[name]) for name in names):
            for box in (Box(3, 30, 21, 50), Box(8, 1, 630, 630), Box(0, 6, 105, 210)):
                values = recipe(LAWS["uniform"], torch.float32)
                for here, there in zip(layouts("cpu", torch.float32), layouts(standin.NAME, torch.float32), strict=True):
                    standin.COPIED.clear()
                    module(name, standin.NAME).fill([Plan(there, values, 5, box)])
                    inner.fill([Plan(here, values, 5, box)])
                    assert same_bits(back(there), here), (elements, name, box, there.stride())
                    assert sum(standin.COPIED) == 630 and max(standin.COPIED) <= elements


def blends():
    """In pieces, of any layout; from a source in another one; with keep 0 nothing is read."""
    for staged.PIECE in (256, 1 << 26):
        for dtype in FLOATS:
            pairs = [*zip(layouts("cpu", dtype), layouts(standin.NAME, dtype), strict=True)]
            for tensors in pairs:
                for tensor in tensors:
                    fastinit.uniform_(tensor, -2.0, 2.0, key=3)
            for (here, there), sources in zip(pairs, pairs[1:] + pairs[:1], strict=True):
                for given in ({"keep": 0.75}, {"keep": 0.0}, {"source": sources}):
                    both = [given | {"source": source} for source in sources] if "source" in given else [given] * 2
                    for tensor, own in zip((here, there), both, strict=True):
                        fastinit.blend_(tensor, fastinit.normal_, key=[7, 8], add=[0.5, -1.0], **own)
                    assert same_bits(back(there), here), (dtype, there.stride(), given.keys())
    model, plain = (nn.Linear(6, 5), nn.Linear(6, 5))
    fastinit.initialize_(plain, seed=1)
    fastinit.initialize_(model.to("meta"), seed=1, device=standin.NAME)
    for each in (model, plain):
        fastinit.perturb_(each, fastinit.normal_, seed=[1, 2], add=[0.5, 1.0], keep=0.5)
    assert all(same_bits(back(a), b.detach()) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def bounded():
    """At no time is more than a piece held beside the tensor: neither filled, nor copied, at once."""
    staged.PIECE, held = 4096, []
    fill = cpu.fill

    def counted(plans):
        held.append(sum(plan.out.nbytes for plan in plans))
        fill(plans)

    cpu.fill = counted
    tensors = [nn.Parameter(torch.empty(n, device=standin.NAME)) for n in (5000, 7, 1, 1023, 1025)]
    model = nn.ParameterList(tensors)
    fastinit.initialize_(model, fastinit.Scheme({"*": fastinit.normal_}), seed=0)
    cpu.fill = fill
    assert sum(held) == 4 * sum(t.numel() for t in tensors) and max(held) <= 4096 and len(held) <= 10, held
    plain = nn.ParameterList([nn.Parameter(torch.empty(t.shape)) for t in tensors])
    fastinit.initialize_(plain, fastinit.Scheme({"*": fastinit.normal_}), seed=0)
    assert all(same_bits(back(a), b.detach()) for a, b in zip(model, plain, strict=True))


def models():
    plain = nn.Sequential(nn.Embedding(5, 4, padding_idx=1), nn.Linear(4, 6), nn.LSTM(6, 3), nn.BatchNorm1d(3))
    moved, on_meta = copy.deepcopy(plain), copy.deepcopy(plain).to("meta")
    fastinit.initialize_(plain, seed=3)
    for model in (moved, on_meta):
        fastinit.initialize_(model, seed=3, device=standin.NAME)
        for (name, a), b in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):
            assert same_bits(back(a), b), name
    with fastinit.accelerate(seed=0):
        here, there = torch.empty(6, 4), torch.empty(6, 4, device=standin.NAME)
        nn.init.xavier_normal_(here)
    with fastinit.accelerate(seed=0):
        nn.init.xavier_normal_(there)
    assert same_bits(back(there), here)


def shards():
    """DTensors, also of what is cut from a whole tensor, as the second of two ranks."""
    distributed.init_process_group("fake", rank=1, world_size=2)
    local = torch.zeros(4, 6).to(standin.NAME)
    shard = DTensor.from_local(local, DeviceMesh(standin.NAME, [0, 1]), [Shard(1)], run_check=False)
    for name in ("normal_", "orthogonal_", "sparse_", "zeros_", "eye_"):
        initialize, given = getattr(fastinit, name), FUNCTIONS[name]
        initialize(shard, **given, key=1)
        assert same_bits(back(local), initialize(torch.empty(4, 12), **given, key=1)[:, 6:]), name
    freed = torch.zeros(4, 6)
    shard = DTensor.from_local(freed, DeviceMesh("cpu", [0, 1]), [Shard(1)], run_check=False)
    freed.untyped_storage().resize_(8)
    for name in ("normal_", "sparse_", "zeros_"):
        with contextlib.suppress(ValueError):
            getattr(fastinit, name)(shard, **FUNCTIONS[name])
            raise AssertionError(f"{name} wrote a shard without memory")


def choices():
    assert fastinit.backends(standin.NAME)["native"] is None and "CUDA" in fastinit.backends(standin.NAME)["triton"]
    here = fastinit.normal_(torch.empty(50), key=1)
    for name in ("native", "reference"):
        with fastinit.backend(name):
            assert same_bits(back(fastinit.normal_(torch.empty(50, device=standin.NAME), key=1)), here)
    try:
        with fastinit.backend("triton"):
            fastinit.normal_(torch.empty(50, device=standin.NAME), key=1)
    except RuntimeError as error:
        assert standin.NAME in str(error)
    else:
        raise AssertionError("triton served")
    fastinit.warm_up(standin.NAME, [torch.float32], strided=True)
    facts = info.collect()
    assert facts["devices"] == {standin.NAME: fastinit.backends(standin.NAME)}
    words = torch.arange(9, dtype=torch.int32)
    values = recipe(LAWS["normal"], torch.float32)
    assert same_bits(back(module("native", standin.NAME).transform(values, words.to(standin.NAME))), cpu.transform(values, words))
    try:
        fastinit.normal_(torch.empty(5, device=standin.NAME, dtype=torch.float64))
    except TypeError as error:
        assert "float64" in str(error)
    assert not {"sort", "linalg_qr", "mul", "add"} & {name.partition(".")[0] for name in standin.CALLED}


if __name__ == "__main__":
    standin.register()
    for check in (every_function, every_box, blends, bounded, models, shards, choices):
        check()
        print(check.__name__)
