"""Where `accelerate` serves, and that no trace of it stays: threads, nested blocks, other people's patches, the decorator."""

import contextlib
import math
import threading

import pytest
import torch
from helpers.serving import CALLS, CAPTURED, MODULE, SERVING, WHOLE, call, expected, own, parameter
from torch import nn

import fastinit
from fastinit._accelerate import accelerate

pytestmark = pytest.mark.usefixtures("nothing_of_accelerate_stays")


def test_other_threads_keep_torch():
    result = []

    def build():
        return [getattr(nn.init, name)(torch.empty(12, 8), **CALLS[name]) for name in CALLS]

    theirs = own(build)
    with accelerate(seed=0):
        thread = threading.Thread(target=lambda: result.append(own(build)))
        thread.start()
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(result[0][0], theirs[0], strict=True)) and result[0][2] == theirs[2]


def test_blocks_of_two_threads_overlap():
    """The first to open is the first to close; the other is still served, with its own seed."""
    opened, closed, result = threading.Event(), threading.Event(), []

    def work():
        with accelerate(seed=8):
            opened.set()
            closed.wait(10)
            result.extend(getattr(nn.init, name)(parameter(), **CALLS[name]) for name in CALLS)

    thread = threading.Thread(target=work)
    with accelerate(seed=7):
        thread.start()
        opened.wait(10)
        ours = nn.init.xavier_normal_(parameter(), 2.0)
    assert len(MODULE.opened) == 1 and nn.init.xavier_normal_ is not CAPTURED["xavier_normal_"]
    closed.set()
    thread.join()
    assert torch.equal(ours, expected("xavier_normal_", 7, 0))
    assert len(result) == len(CALLS)
    for n, (name, tensor) in enumerate(zip(CALLS, result, strict=True)):
        assert torch.equal(tensor, expected(name, 8, n))


def test_undone_after_an_exception():
    with pytest.raises(KeyError), accelerate(), accelerate():
        raise KeyError
    assert all(getattr(nn.init, name) is CAPTURED[name] for name in CALLS)


def test_nested_blocks_each_count_their_own():
    tensors = [parameter() for _ in range(5)]
    outer = accelerate(seed=1)
    with outer:
        nn.init.xavier_normal_(tensors[0], 2.0)
        with accelerate(seed=2):
            nn.init.xavier_normal_(tensors[1], 2.0)
            nn.init.kaiming_uniform_(tensors[2], **CALLS["kaiming_uniform_"])
            with pytest.raises(RuntimeError, match="leaf Variable"):
                tensors[2].normal_()
        with outer:
            nn.init.xavier_normal_(tensors[3], 2.0)
        nn.init.xavier_normal_(tensors[4], 2.0)
    for tensor, place in zip(tensors, [(1, 0), (2, 0), None, (1, 0), (1, 1)], strict=True):
        assert torch.equal(tensor, expected("xavier_normal_", *place) if place else expected("kaiming_uniform_", 2, 1))


@contextlib.contextmanager
def patch(name):
    """As transformers does it: a function in the place of torch's that calls the one it found."""
    found = getattr(nn.init, name)
    setattr(nn.init, name, lambda tensor, *args, **options: found(tensor, *args, **options))
    try:
        yield getattr(nn.init, name)
    finally:
        setattr(nn.init, name, found)


@pytest.mark.parametrize("name", CALLS)
def test_patches_of_others_inside_and_around_a_block(name):
    tensors = [parameter() for _ in range(4)]
    with accelerate(seed=5), patch(name) as patched:
        getattr(nn.init, name)(tensors[0], **CALLS[name])
        if name in WHOLE:
            CAPTURED[name](tensors[1], **CALLS[name])
        assert getattr(nn.init, name) is patched
    with patch(name) as patched:
        with accelerate(seed=5):
            getattr(nn.init, name)(tensors[2], **CALLS[name])
            if name in WHOLE:
                patched(tensors[3], **CALLS[name])
        assert getattr(nn.init, name) is patched
    for tensor, n in zip(tensors, (0, 1, 0, 1), strict=True):
        assert torch.equal(tensor, expected(name, 5, n)) or (n == 1 and name not in WHOLE)


@pytest.mark.parametrize("name", ["xavier_uniform_", "orthogonal_"])
def test_a_patch_that_outlives_its_block_is_not_undone(name):
    """It holds the stand-in for good, which is torch's function when no block is open, and no circle when one is."""
    with contextlib.ExitStack() as stack:
        with accelerate(seed=5):
            patched = stack.enter_context(patch(name))
        assert getattr(nn.init, name) is patched
        theirs = own(call(CAPTURED[name], name))[0]
        assert torch.equal(own(call(patched, name))[0], theirs)
        with accelerate(seed=5):
            ours = getattr(nn.init, name)(parameter(), **CALLS[name])
        assert torch.equal(ours, expected(name, 5, 0)) and getattr(nn.init, name) is patched
    assert getattr(nn.init, name) is not CAPTURED[name]  # what the patch had found: harmless, and undone here
    assert torch.equal(own(call(getattr(nn.init, name), name))[0], theirs)
    setattr(nn.init, name, CAPTURED[name])


def test_names_taken_inside_a_block_are_torch_after_it():
    with accelerate(seed=5):
        taken = {name: getattr(nn.init, name) for name in CALLS}
    for name, function in taken.items():
        ours, theirs = own(call(function, name)), own(call(CAPTURED[name], name))
        assert torch.equal(ours[0], theirs[0]) and ours[2] == theirs[2]
        assert function.__name__ == name and function.__doc__ == CAPTURED[name].__doc__


def test_without_the_private_function_of_torch(monkeypatch):
    assert SERVING.trunc_normal_place() == "_no_grad_trunc_normal_"
    for other in (None, len, lambda tensor, mean, std, a, b: tensor):
        monkeypatch.setattr(nn.init, "_no_grad_trunc_normal_", other)
        assert SERVING.trunc_normal_place() == "trunc_normal_"
    monkeypatch.undo()
    monkeypatch.setattr(SERVING, "UNROUTED", {"trunc_normal_": SERVING.service_of(fastinit.trunc_normal_)})
    tensor = parameter()
    with accelerate(seed=5):
        nn.init.trunc_normal_(tensor, **CALLS["trunc_normal_"])
    assert torch.equal(tensor, expected("trunc_normal_", 5, 0))


def test_decorator():
    @accelerate(seed=5)
    def build(*args, bias):
        """Builds."""
        return nn.Linear(*args, bias=bias).weight

    first, second = build(8, 12, bias=True), build(8, 12, bias=False)
    assert build.__doc__ == "Builds." and torch.equal(first, second)
    assert torch.equal(first, expected("kaiming_uniform_", 5, 0, a=math.sqrt(5)))
    torch.manual_seed(3)
    drawn = accelerate()(lambda: nn.Embedding(12, 8).weight)()
    torch.manual_seed(3)
    assert torch.equal(drawn, fastinit.normal_(torch.empty(12, 8)))


@pytest.mark.parametrize("seed", [1.0, "1", True, torch.tensor(1)])
def test_the_seed_is_an_int(seed):
    with pytest.raises(TypeError, match=r"seed must be an int\. Received: seed="):
        accelerate(seed)


def test_the_decorator_needs_parentheses():
    with pytest.raises(TypeError, match=r"Received: seed=<function .* write @accelerate\(\)"):

        @accelerate
        def build():
            pass


def test_compiled_code_keeps_torch(fills):
    def build(tensor):
        with torch.no_grad():
            return nn.init.xavier_uniform_(nn.init.normal_(tensor).clone())

    theirs = own(lambda: build(torch.empty(64, 64)))
    torch._dynamo.reset()
    with accelerate(seed=5):
        ours = own(lambda: torch.compile(build, backend="eager", fullgraph=True)(torch.empty(64, 64)))
    assert torch.equal(ours[0], theirs[0]) and ours[2] == theirs[2] and not fills


def test_compiled_code_calls_what_was_captured():
    """After the block, and in another one: torch's function, as it is where nothing is compiled."""
    with accelerate(seed=1):
        captured = nn.init.xavier_uniform_

    @torch.compile(backend="eager", fullgraph=True)
    def build(tensor):
        with torch.no_grad():
            return captured(tensor.clone())

    theirs = own(lambda: nn.init.xavier_uniform_(torch.empty(3, 3)))[0]
    assert torch.equal(own(lambda: build(torch.empty(3, 3)))[0], theirs)
    with accelerate(seed=1):
        assert torch.equal(own(lambda: build(torch.empty(3, 3)))[0], theirs)


def test_what_is_followed_is_not_in_graphs():
    """After a draw, `accelerate` looks at calls of torch; Dynamo sees nothing of that."""
    torch._dynamo.reset()
    build = torch.compile(lambda x: torch.randn_like(x) * 0 + x * 2, backend="eager", fullgraph=True)
    with accelerate(seed=5) as block:
        torch.randn(1)
        noise = torch.randn(3)
        assert torch.equal(build(torch.ones(3)), torch.full((3,), 2.0))
        assert torch.equal(build(noise), noise * 2)
    assert not block.report.served and {left.function for left in block.report.left} >= {"torch.randn"}


def test_functions_that_modes_are_shown_are_replaced_and_restored():
    """Taken before the block, or called while another mode looks on, they are served as well, with the same values."""

    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    before, seen, found = nn.init.normal_, [], []
    for way in ("by name", "taken before", "watched"):
        weight = nn.Parameter(torch.empty(4, 4))
        with fastinit.accelerate(seed=3), Watching() if way == "watched" else contextlib.nullcontext():
            (before if way == "taken before" else nn.init.normal_)(weight, std=0.5)
        found.append(weight.detach())
    assert nn.init.normal_ is before and before in seen
    assert all(torch.equal(each, fastinit.normal_(torch.empty(4, 4), std=0.5, key=fastinit.key(3, 0))) for each in found)
