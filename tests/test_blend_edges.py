"""Torch's edges of blend_: autograd, views, modes, graphs, transforms, processes; and which sources may be read."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from helpers.blends import any_bits
from helpers.laws import same_bits
from helpers.quick import some
from test_flush_mode import SCALES, flushing, forget
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import fastinit

KEYS = {"key": [2**64 - 3, 5], "add": [0.5, -0.25], "keep": 0.75}


def blend(tensor, **given):
    return fastinit.blend_(tensor, fastinit.normal_, **{**KEYS, **given})


def old(*shape, dtype=torch.float32, seed=3):
    return torch.linspace(-2, 2, torch.Size(shape).numel(), dtype=torch.float64).add(seed).view(shape).to(dtype)


EXPECTED = blend(old(6, 4))


# --- autograd and memory --------------------------------------------------------------------------------------------------------


def test_leaves_and_their_versions():
    leaf = nn.Parameter(old(6, 4))
    version = leaf._version
    assert blend(leaf) is leaf and same_bits(leaf.detach(), EXPECTED)
    assert leaf._version > version and leaf.requires_grad and leaf.is_leaf and leaf.grad_fn is None


def test_what_was_saved_for_backward_is_known_to_have_changed():
    leaf = nn.Parameter(old(6, 4))
    loss = (leaf * leaf).sum()
    blend(leaf)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    inner = leaf * 1.0
    assert blend(inner) is inner and same_bits(inner.detach(), blend(leaf.detach().clone()))


@pytest.mark.parametrize("entered", [False, True])
def test_inference_tensors(entered):
    with torch.inference_mode():
        tensor = old(6, 4)
    with torch.inference_mode(entered):
        blend(tensor)
    assert tensor.is_inference() and same_bits(tensor.clone(), EXPECTED)


VIEWS = {
    "transposed": lambda m: m.as_strided((6, 4), (1, 6)),
    "every other": lambda m: m.as_strided((6, 4), (8, 2), 1),
    "with gaps": lambda m: m.as_strided((6, 4), (1, 10), 3),
    "negated": lambda m: torch.view_as_complex(m.view(24, 2)).conj().imag.view(6, 4),
    "of a leaf": lambda m: m[:24].view(6, 4).requires_grad_(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_get_the_same_values(name):
    """What lies between their elements stays."""
    memory = torch.full((48,), 7.0)
    view = VIEWS[name](memory)
    with torch.no_grad():
        view.copy_(old(6, 4))
    between = memory.clone()
    version = view._version
    assert blend(view) is view and view._version > version
    assert same_bits(view.detach().resolve_neg(), EXPECTED)
    with torch.no_grad():
        view.copy_(old(6, 4))
    assert torch.equal(memory.detach(), between.detach())


def test_negated_views_of_themselves_and_of_others():
    pair, other = (torch.zeros(6, 4, dtype=torch.complex64).conj().imag for _ in range(2))
    assert pair.is_neg()
    pair.copy_(old(6, 4))
    other.copy_(old(6, 4, seed=1))
    assert same_bits(blend(torch.zeros(6, 4), source=pair), EXPECTED) and same_bits(pair.resolve_neg(), old(6, 4))
    assert same_bits(blend(pair, source=pair).resolve_neg(), EXPECTED)
    assert same_bits(blend(pair, source=other).resolve_neg(), blend(old(6, 4, seed=1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_channels_last_has_the_logical_order(dtype):
    tensor = old(2, 3, 4, 5, dtype=dtype)
    expected, memory = blend(tensor.clone()), tensor.to(memory_format=torch.channels_last)
    assert same_bits(blend(memory), expected) and memory.stride() != expected.stride()
    assert same_bits(blend(tensor.clone(), source=tensor.to(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), ()])
def test_no_elements_and_no_axes(shape):
    tensor = old(*shape)
    version = tensor._version
    assert blend(tensor) is tensor and tensor._version > version
    assert blend(old(*shape), source=old(*shape)).shape == shape
    if not shape:
        assert same_bits(tensor, blend(old(1))[0]) and tensor.item() != old().item()


def test_meta_and_fakes_are_checked_and_left():
    tensor = torch.empty(6, 4, device="meta")
    assert blend(tensor) is tensor and blend(tensor, source=torch.empty(6, 4, device="meta")) is tensor
    with FakeTensorMode():
        fake = torch.empty(6, 4)
        assert blend(fake) is fake and blend(fake, source=torch.empty(6, 4)) is fake
        for each in (tensor, fake):
            for bad in ({"add": [1.0]}, {"keep": float("nan")}, {"key": [1, -1]}):
                with pytest.raises(ValueError):
                    blend(each, **bad)
    assert type(fake).__name__ == "FakeTensor"


# --- sources --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_source_is_read_and_left(dtype):
    """In any strides, repeated ones too; the tensor's own values count for nothing."""
    values = old(6, 4, dtype=dtype)
    expected = blend(values.clone())
    for source in (values.clone(), values.t().contiguous().t(), nn.Parameter(values.clone()), torch.cat([values] * 2, 1)[:, 4:]):
        kept = source.detach().clone()
        for out in (torch.full((6, 4), float("nan"), dtype=dtype), torch.zeros(4, 6, dtype=dtype).t()):
            assert same_bits(blend(out, source=source), expected)
        assert same_bits(source.detach(), kept)
    row = old(1, 4, dtype=dtype)
    assert same_bits(blend(torch.zeros(6, 4, dtype=dtype), source=row.expand(6, 4)), blend(row.repeat(6, 1)))


def test_a_source_that_is_the_tensor():
    """Itself, a view of the same elements in the same places, a detached one; and with keep 0 none is read."""
    for source_of in (lambda t: t, lambda t: t.view(6, 4), lambda t: t.detach(), lambda t: t[:]):
        tensor = old(6, 4)
        assert same_bits(blend(tensor, source=source_of(tensor)), EXPECTED)
    tensor, noise = old(6, 4), blend(torch.zeros(6, 4), keep=0)
    assert same_bits(blend(tensor, source=torch.full((6, 4), float("nan")), keep=0), noise)


def bytes_of(tensor):
    return bytes(tensor.detach().reshape(-1).view(torch.uint8).tolist())


SHARED = {
    "a row further": lambda m: (m[:-1], m[1:]),
    "an element further": lambda m: (m.view(-1)[:-1], m.view(-1)[1:]),
    "other strides": lambda m: (m[:4], m[:4].t()),
    "reversed axes": lambda m: (m[:4].t(), m[:4]),
    "an element in common": lambda m: (m.view(-1)[:8], m.view(-1)[7:15]),
    "expanded from it": lambda m: (m, m[:1].expand(6, 4)),
}


@pytest.mark.parametrize("name", SHARED)
def test_sources_that_share_a_part_are_refused(name):
    memory = old(6, 4)
    tensor, source = SHARED[name](memory)
    before, version = bytes_of(memory), memory._version
    with pytest.raises(ValueError, match="source shares a part"):
        blend(tensor, source=source)
    assert bytes_of(memory) == before and memory._version == version
    interleaved = old(6, 8)
    blend(interleaved[:, ::2], source=interleaved[:, 1::2])


def test_a_shared_source_is_refused_in_a_graph():
    """There the tensors are known when it runs."""
    memory = old(6, 4)
    before = bytes_of(memory)
    graph = torch.compile(lambda a, b: blend(a, source=b), fullgraph=True, backend="eager")
    with torch.enable_grad(), pytest.raises(ValueError, match="source shares a part"):  # which a graph that fails leaves off
        graph(memory[:-1], memory[1:])
    assert bytes_of(memory) == before


# --- graphs and transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", some(["eager", "aot_eager", "inductor"], ["aot_eager"]))
def test_compiled(backend):
    """A step that perturbs, uses and takes back; laws by partials; from a source; of strided tensors."""
    torch._dynamo.reset()

    def step(weight, x, source):
        blend(weight)
        y = x @ weight
        blend(weight.t(), key=3, add=-0.5, keep=1.0)
        fastinit.blend_(weight, partial(fastinit.uniform_, a=-2.0, b=1.0), key=7, source=source)
        return y, weight * 2

    runs = []
    for run in (step, torch.compile(step, fullgraph=True, backend=backend)):
        weight = old(6, 4)
        runs.append([*run(weight, old(5, 6), old(6, 4, seed=1)), weight])
    assert all(torch.allclose(a, b) for a, b in zip(*runs, strict=True)) and same_bits(runs[0][2], runs[1][2])


@pytest.mark.parametrize("backend", some(["eager", "aot_eager"], ["aot_eager"]))
def test_compiled_from_itself(backend):
    torch._dynamo.reset()
    tensor = old(6, 4)
    torch.compile(lambda t: blend(t, source=t), fullgraph=True, backend=backend)(tensor)
    assert same_bits(tensor, EXPECTED)


def test_compiled_noise_without_a_law_is_refused():
    torch._dynamo.reset()
    tensor = old(6, 4)
    with pytest.raises(Exception, match=r"no single law|class 'RuntimeError'"):  # what torch 2.7 says of it
        torch.compile(lambda t: fastinit.blend_(t, fastinit.orthogonal_, key=1), fullgraph=True, backend="eager")(tensor)
    assert same_bits(tensor, old(6, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_traced_and_checked_by_torch(dtype):
    values = old(6, 4, dtype=dtype)
    traced = make_fx(lambda t: blend(t.clone()))(values)
    assert same_bits(traced(values), blend(values.clone())) and "blend_" in traced.code
    for source in (None, values.clone()):
        for tensor in (values.clone(), values.clone().t()):
            given = tensor if source is None else source.view(tensor.shape)
            torch.library.opcheck(
                torch.ops.fastinit.blend_,
                (tensor, "normal", [0.0, 1.0], [-3, 5], [0.5, 0.25], 0.75, None if source is None else given),
            )


@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp", "functionalize"])
def test_transforms_are_refused_by_name(transform):
    x = old(3, 4)
    run = {
        "vmap": lambda f: torch.func.vmap(f)(x),
        "grad": lambda f: torch.func.grad(lambda t: f(t).sum())(x),
        "jvp": lambda f: torch.func.jvp(f, (x,), (x,)),
        "functionalize": lambda f: torch.func.functionalize(f)(x),
    }[transform]
    with pytest.raises(RuntimeError, match=r"blend_ does not work inside torch\.func"):
        run(lambda t: blend(t.clone()))
    with pytest.raises(RuntimeError, match=r"blend_ does not work inside torch\.func"):
        run(lambda t: blend(torch.zeros(3, 4), source=torch.zeros(3, 4) + t if transform != "vmap" else t.expand(3, 4)))


# --- modes, processes, backends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("dtype, scale", SCALES, ids=str)
def test_a_thread_that_flushes_gets_the_same_bits(name, dtype, scale):
    """Of what a tensor holds, of coefficients, of the law, each of which may be subnormal."""
    values, apart = (any_bits(1500, dtype, seed) for seed in (1, 2))
    tiny = 2.0**-1060 if dtype is torch.float64 else 2.0**-140
    calls = [
        {"key": [1, 2], "add": [scale, -3 * scale], "keep": 1.0},
        {"key": 3, "add": tiny, "keep": 2.0**-20},
        {"key": 3, "add": 1.0, "keep": tiny},
        {"key": 3, "add": scale, "keep": tiny, "source": apart},
        {"key": [3, 4], "add": [1.0, 0.0], "keep": 0.5, "initializer": partial(fastinit.normal_, std=3 * scale)},
    ]
    with fastinit.backend(name):
        for given in calls:
            given = {"initializer": fastinit.normal_, **given}
            forget()
            expected = fastinit.blend_(values.clone(), **given)
            forget()
            with flushing():
                assert same_bits(fastinit.blend_(values.clone(), **given), expected), given
            assert same_bits(fastinit.blend_(values.clone(), **given), expected), given


def test_the_library_takes_subnormal_coefficients_of_a_thread_that_flushes():
    """Whoever calls it; threads that it starts."""
    from helpers.blends import check_blends, onto

    from fastinit._backends import abi, cpu

    given = onto(1000, torch.float32)._replace(add=(2.0**-140, 1.0), keep=2.0**-130)
    raw, kept = abi.packed_blendings([given])
    expected = given._replace(out=given.out.clone())
    check_blends(cpu, expected._replace(source=expected.out))
    with flushing():
        status = cpu.library().fastinit_blend(raw, 1, 1, 0)
    assert status == 0 and same_bits(given.out, expected.out)
    del kept


def test_models_are_perturbed_alike_in_a_thread_that_flushes():
    made = []
    for mode in (False, True):
        model = nn.Linear(40, 30, dtype=torch.float64)
        for weight in model.parameters():
            nn.init.constant_(weight, 1.0)
        snapshot = {name: p.detach() * 3 for name, p in model.named_parameters()}
        torch.set_flush_denormal(mode)
        try:
            fastinit.perturb_(model, fastinit.normal_, seed=1, add=2.0**-1060, keep=2.0**-1060, source=snapshot)
        finally:
            torch.set_flush_denormal(False)
        made.append(model.weight.detach())
    assert same_bits(*made) and bool(made[0].any())


FORKED = """
import hashlib, os, sys, threading, torch, fastinit
torch.set_num_threads(2)
torch.ones(700, 700) @ torch.ones(700, 700), torch.ones(1 << 20) + 1
model = torch.nn.Linear(512, 1024)
def digests():
    found = []
    for name in ("native", "reference"):
        with fastinit.backend(name):
            for dtype, f in ((torch.float32, fastinit.normal_), (torch.bfloat16, fastinit.uniform_)):
                tensor = fastinit.blend_(fastinit.ones_(torch.empty(1 << 18, dtype=dtype)), f, key=[1, 2], add=[0.5, 1.0])
                found.append(hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).hexdigest())
    fastinit.blend_(square, fastinit.orthogonal_, key=3, keep=0)
    fastinit.perturb_(model, fastinit.normal_, seed=2, add=1.0, keep=0.0)
    return found + [hashlib.sha256(model.weight.detach().numpy().tobytes()).hexdigest()]
square = torch.empty(300, 200)
expected = digests()
pid = os.fork()
if pid == 0:
    os._exit(0 if digests() == expected else 1)
for _ in range(600):
    done, status = os.waitpid(pid, os.WNOHANG)
    if done: break
    threading.Event().wait(0.05)
else:
    os.kill(pid, 9)
    status = "hangs"
print(status)
"""


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_fork_blends():
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=120, cwd="/")
    assert (ended.returncode, ended.stdout.strip()) == (0, "0"), ended.stdout + ended.stderr


@pytest.mark.full
@pytest.mark.parametrize("name", ["reference", "native", "none"])
def test_the_environment_chooses_the_backend(name):
    code = "import torch, fastinit; print(fastinit.blend_(torch.ones(6), fastinit.normal_, key=1, add=0.5).sum().item())"
    environment = {**os.environ, "FASTINIT_BACKEND": name}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd="/")
    expected = fastinit.blend_(torch.ones(6), fastinit.normal_, key=1, add=0.5).sum().item()
    assert ended.stdout == ("" if name == "none" else f"{expected}\n")
    assert ("FASTINIT_BACKEND" in ended.stderr) == (name == "none")
