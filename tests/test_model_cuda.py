"""Public functions and whole models on a GPU: the bits of the CPU, from meta, sharded, compiled, and inside `accelerate`.

Skipped where there is none.
"""

import functools
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
from fastinit._core.check import FLOAT_DTYPES

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
DEVICE = torch.device("cuda", 0)
BIG_KEY = 2**64 - 3  # its signed form is negative


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


# --- public functions ----------------------------------------------------------------------------------------------------------

FUNCTIONS = ("truncated_normal_", "trunc_normal_", "uniform_", "normal_", "glorot_uniform_", "he_normal_", "kaiming_uniform_")
FUNCTIONS += ("zeros_", "ones_", "eye_", "sparse_")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_bits_of_the_cpu(name):
    """By whatever serves, in every dtype and in both orders of memory."""
    given = {"sparsity": 0.3} if name == "sparse_" else {}
    function = functools.partial(getattr(fastinit, name), **given, key=BIG_KEY)
    for dtype in FLOAT_DTYPES:
        expected = function(torch.zeros(70, 130, dtype=dtype))
        version = (out := torch.zeros(70, 130, dtype=dtype, device=DEVICE))._version
        assert function(out) is out and out._version > version
        assert same_bits(out.cpu(), expected), dtype
        assert same_bits(function(torch.zeros(130, 70, dtype=dtype, device=DEVICE).t()).cpu(), expected), dtype


def test_orthogonal_is_so():
    weight = fastinit.orthogonal_(torch.empty(40, 90, device=DEVICE), key=5)
    torch.testing.assert_close(weight @ weight.t(), torch.eye(40, device=DEVICE), rtol=0, atol=1e-5)
    torch.testing.assert_close(weight.cpu(), fastinit.orthogonal_(torch.empty(40, 90), key=5), rtol=0, atol=1e-5)


def test_torch_s_seed_decides_on_the_gpu_too():
    def drawn(device):
        torch.manual_seed(3)
        return [fastinit.he_normal_(torch.empty(9, 30, device=device)).cpu() for _ in range(2)]

    (first, second), on_cpu = drawn(DEVICE), drawn("cpu")
    assert same_bits(first, on_cpu[0]) and same_bits(second, on_cpu[1]) and not torch.equal(first, second)


def test_a_generator_of_the_gpu():
    """Its seed and offset decide, and it moves on by as much as any small fill of torch's."""

    def drawn(generator):
        return fastinit.normal_(torch.empty(1000, device=DEVICE), generator=generator)

    generator = torch.Generator(DEVICE).manual_seed(11)
    first, second = drawn(generator), drawn(generator)
    assert not torch.equal(first, second)
    again = torch.Generator(DEVICE).manual_seed(11)
    assert same_bits(drawn(again), first) and same_bits(drawn(again), second)
    torch.rand(3, device=DEVICE, generator=again)
    assert not torch.equal(drawn(again), drawn(generator)), "torch's own draws move it too"
    for device in ("cpu", "meta"):
        with pytest.raises(ValueError, match="generator"):
            fastinit.normal_(torch.empty(3, device=device), generator=generator)


def test_noise_has_the_bits_of_the_cpu():
    def noisy(device, dtype):
        model = Network().to(dtype).to(device)
        fastinit.initialize_(model, seed=1)
        fastinit.perturb_(model, fastinit.normal_, seed=[1, 2, 3], add=[0.5, -0.25, 0.125])
        return {name: tensor for name, tensor in bits(model).items() if "weight_hh" not in name}

    for dtype in (torch.float32, torch.bfloat16):
        found, expected = noisy(DEVICE, dtype), noisy("cpu", dtype)
        assert all(same_bits(found[name].cpu(), tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_fills(backend):
    def step(tensor, other):
        fastinit.truncated_normal_(tensor, key=BIG_KEY)
        return fastinit.glorot_uniform_(other, key=6).mul_(2.0)

    torch._dynamo.reset()
    found, expected = ([torch.zeros(30, 60, device=device) for _ in range(2)] for device in (DEVICE, "cpu"))
    torch.compile(step, fullgraph=True, backend=backend)(*found)
    step(*expected)
    assert all(same_bits(a.cpu(), b) for a, b in zip(found, expected, strict=True))


def test_warm_up_readies_a_capture():
    fastinit.warm_up(DEVICE, FLOAT_DTYPES, strided=True)
    out = torch.zeros(5000, device=DEVICE)
    if torch.cuda.is_available():
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            fastinit.normal_(out, key=2)
        graph.replay()
    else:
        fastinit.normal_(out, key=2)
    assert same_bits(out.cpu(), fastinit.normal_(torch.empty(5000), key=2))


def test_a_fill_does_not_wait():
    """A fill neither waits for the device nor asks it anything: what is queued before it may still run."""
    out = torch.zeros(1 << 20, device=DEVICE)
    fastinit.uniform_(out)
    torch.cuda.synchronize(DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(1_000_000)
        fastinit.uniform_(out)
        fastinit.truncated_normal_(out, std=0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
