"""Initializers of the user's: called as they are, once a parameter; independent of other threads; known to have written."""

import functools
import threading
import types

import numpy
import pytest
import torch
from torch import nn

import fastinit
from fastinit._schemes.calling import fill_with

KEY = fastinit.key(3, "weight")


def seeded(draw, key=KEY):
    """What a drawing gives after torch.manual_seed."""
    state = torch.get_rng_state()
    torch.manual_seed(key)
    try:
        return draw()
    finally:
        torch.set_rng_state(state)


# --- wrappers -----------------------------------------------------------------------------------------------------------------


def halved(function, calls):
    @functools.wraps(function)
    def wrapper(tensor, **arguments):
        calls.append(arguments)
        function(tensor, **arguments)
        return tensor.data.mul_(0.5)

    return wrapper


def keyless(function, calls):
    @functools.wraps(function)
    def wrapper(tensor):
        calls.append({})
        return function(tensor).mul_(0.5)

    return wrapper


class Halved:
    def __init__(self, function, calls):
        functools.update_wrapper(self, function)
        self.calls = calls

    def __call__(self, tensor, key=None):
        self.calls.append({"key": key})
        fastinit.normal_(tensor, key=key).mul_(0.5)


@pytest.mark.parametrize("wrap", [halved, keyless, Halved])
def test_a_wrapper_does_its_own_work_once_a_parameter(wrap):
    """functools.wraps copies the attributes of what it wraps; a key is given to a wrapper that takes one, and to no other."""
    calls = []
    model = nn.Sequential(*[nn.Linear(64, 64, bias=False) for _ in range(3)])
    scheme = fastinit.keras_like.override({nn.Linear: {"weight": wrap(fastinit.normal_, calls)}})
    fastinit.initialize_(model, scheme, seed=0)
    assert len(calls) == 3
    for number, layer in enumerate(model):
        key = fastinit.key(0, f"{number}.weight")
        if wrap is keyless:
            key = seeded(lambda: torch.empty((), dtype=torch.int64).random_(-(2**63), None).item() % 2**64, key)
        else:
            assert calls[number] == {"key": key}
        assert torch.equal(layer.weight, fastinit.normal_(torch.empty(64, 64), key=key) * 0.5)


def test_a_copy_of_a_function_is_another_one():
    copied = types.FunctionType(fastinit.ones_.__code__, fastinit.ones_.__globals__, "copied", None, fastinit.ones_.__closure__)
    copied.__dict__.update(fastinit.zeros_.__dict__)
    copied.__kwdefaults__ = {"generator": None, "key": None}
    layer = nn.Linear(2, 2, bias=False)
    fastinit.initialize_(layer, fastinit.Scheme({"weight": copied}), seed=0)
    assert layer.weight.tolist() == [[1, 1], [1, 1]]


# --- what they draw -----------------------------------------------------------------------------------------------------------

DRAWS = {
    "normal_": lambda t: t.normal_(1.0, 2.0),
    "data": lambda t: t.data.uniform_(-1, 1),
    "rows": lambda t: [row.exponential_() for row in t],
    "randn": lambda t: t.copy_(torch.randn(t.shape)),
    "rand": lambda t: t.copy_(torch.rand(t.shape, dtype=t.dtype)),
    "randn_like": lambda t: t.copy_(torch.randn_like(t) + torch.rand_like(t)),
    "randn_like, keywords": lambda t: t.copy_(torch.randn_like(t, dtype=torch.float64, memory_format=torch.preserve_format)),
    "randint": lambda t: t.copy_(torch.randint(5, t.shape) + torch.randint(-3, 5, t.shape)),
    "randint_like": lambda t: t.copy_(torch.randint_like(t, 5) + torch.randint_like(t, -3, 5)),
    "randperm": lambda t: t.copy_(torch.randperm(t.numel()).view(t.shape)),
    "normal": lambda t: t.copy_(torch.normal(0.0, 1.0, t.shape) + torch.normal(t, torch.ones_like(t))),
    "bernoulli": lambda t: t.copy_(torch.bernoulli(torch.full_like(t, 0.5))),
    "multinomial": lambda t: t.copy_(torch.multinomial(torch.ones(9), t.numel(), replacement=True).view(t.shape)),
    "dropout": lambda t: t.copy_(nn.functional.dropout(torch.ones_like(t), 0.5)),
    "gamma": lambda t: t.copy_(torch.distributions.Gamma(1.0, 1.0).sample(t.shape)),
    "default": lambda t: t.normal_(generator=torch.default_generator),
    "trunc_normal_": nn.init.trunc_normal_,
    "orthogonal_": nn.init.orthogonal_,
    "sparse_": lambda t: nn.init.sparse_(t, 0.5),
    "kaiming_uniform_": nn.init.kaiming_uniform_,
    "fastinit": lambda t: fastinit.normal_(t).add_(fastinit.sparse_(torch.empty_like(t), 0.5)).add_(torch.rand(1)),
    "fastinit.orthogonal_": lambda t: fastinit.orthogonal_(t).mul_(2.0),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_a_seeded_generator_which_is_not_touched(name):
    expected, found = torch.zeros(6, 7), torch.zeros(6, 7)
    with torch.no_grad():
        seeded(lambda: DRAWS[name](expected))
        state = torch.get_rng_state()
        fill_with(DRAWS[name], found, KEY)
    assert torch.equal(found, expected) and torch.equal(torch.get_rng_state(), state) and found.std() > 0


def test_a_generator_of_the_initializers_own_is_used():
    generator, out = torch.Generator().manual_seed(5), torch.empty(9)
    fill_with(lambda t: t.normal_(generator=generator), out, KEY)
    assert torch.equal(out, torch.empty(9).normal_(generator=torch.Generator().manual_seed(5)))


def test_an_operation_without_a_choice_of_generator_is_named():
    with pytest.raises(RuntimeError, match="native_dropout"):
        fill_with(lambda t: t.copy_(torch.native_dropout(torch.ones(4), 0.5, True)[0]), torch.empty(4), KEY)


def test_models_in_several_threads_are_those_of_one():
    """And a thread that draws meanwhile sees neither a seeded generator nor fewer numbers of its own."""

    def rows(tensor):
        for row in tensor:
            row.normal_()

    scheme = fastinit.Scheme({nn.Linear: {"weight": rows, "bias": fastinit.zeros_}})
    models = [nn.Sequential(*[nn.Linear(32, 32) for _ in range(12)]) for _ in range(5)]
    alone = models.pop()
    fastinit.initialize_(alone, scheme, seed=0)
    torch.manual_seed(1)
    expected = torch.rand(4000).tolist()
    torch.manual_seed(1)
    drawn, done = [], threading.Event()

    def bystander():
        while not done.is_set() and len(drawn) < 4000:
            drawn.append(torch.rand(1).item())

    threads = [threading.Thread(target=fastinit.initialize_, args=(m, scheme), kwargs={"seed": 0}) for m in models]
    watcher = threading.Thread(target=bystander)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert all(torch.equal(p, q) for model in models for p, q in zip(model.parameters(), alone.parameters(), strict=True))
    assert drawn and drawn == expected[: len(drawn)]


def test_one_that_declares_no_law_and_takes_no_key_draws_by_the_key_too():
    """A declaration that returns None says that the initializer must be called, not that it draws from nothing."""

    @fastinit.laws.declares(lambda shape, dtype: None)
    def declared(tensor):
        return nn.init.normal_(tensor)

    state, found = torch.get_rng_state(), torch.empty(5)
    fill_with(declared, found, KEY)
    assert torch.equal(found, seeded(lambda: torch.empty(5).normal_())) and torch.equal(torch.get_rng_state(), state)


# --- whether they write -------------------------------------------------------------------------------------------------------

SILENT = {
    "returned": lambda t: torch.randn_like(t),
    "of the data": lambda t: t.data * 2,
    "a copy": lambda t: t.clone().normal_(),
    "a detached copy": lambda t: t.detach().cpu().double().normal_(),
    "numpy": lambda t: numpy.random.rand(*t.detach().numpy().shape),
    "keyed": lambda t, key: fastinit.normal_(torch.empty_like(t), key=key),
    "none": lambda t: None,
}
WRITING = {
    "zeros over zeros": lambda t: t.zero_(),
    "data": lambda t: t.data.zero_(),
    "detached": lambda t: t.detach().fill_(0),
    "a view": lambda t: t.view(-1)[:].copy_(torch.zeros(t.numel())),
    "out": lambda t: torch.zeros(t.shape, out=t.data),
    "foreach": lambda t: torch._foreach_zero_([t.data]),
    "numpy": lambda t: t.data.numpy().fill(0),
    "numpy, by what is there": lambda t: numpy.multiply(t.data.numpy(), 0.5, out=t.data.numpy()),
    "keyed": lambda t, key: t.data.zero_(),
    "partial": functools.partial(lambda t, value: t.data.fill_(value), value=0.0),
}


@pytest.mark.parametrize("apply", [False, True])
@pytest.mark.parametrize("name", SILENT)
def test_one_that_writes_nothing_is_named(name, apply):
    """On memory and from meta, in both ways to use a scheme; also below a padding row."""
    if apply and name == "keyed":
        pytest.skip("apply gives no keys")
    for layer, weight in ((nn.Linear(3, 3), "weight"), (nn.Embedding(4, 3, padding_idx=1), "weight")):
        scheme = fastinit.Scheme({type(layer): {weight: SILENT[name], "*": fastinit.ones_}})
        before = layer.weight.clone()
        with pytest.raises((ValueError, RuntimeError), match="has not written its tensor, of shape") as error:
            layer.apply(scheme) if apply else fastinit.initialize_(nn.Sequential(layer), scheme, seed=0)
        assert apply or "0.weight" in str(error.value)
        assert torch.equal(layer.weight, before)
        if not apply:
            with pytest.raises(RuntimeError, match="has not written"):
                fastinit.initialize_(layer.to("meta"), scheme, seed=0, device="cpu")


def test_one_that_fills_by_this_package_is_called_once():
    """Backends write by pointers, which no operation of torch's shows: the version of the tensor does."""
    calls = []
    fill_with(lambda t: calls.append(fastinit.normal_(t)), torch.empty(5), KEY)
    assert len(calls) == 1


@pytest.mark.parametrize("name", WRITING)
def test_one_that_writes_what_was_there_is_not(name):
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.zero_()
    scheme = fastinit.Scheme({nn.Linear: {"weight": WRITING[name], "*": fastinit.ones_}})
    fastinit.initialize_(layer, scheme, seed=0)
    assert (layer.weight == 0).all() and (layer.bias == 1).all()
    if "key" not in name:
        layer.apply(scheme)


@pytest.mark.parametrize("attribute, initializer", [("weight", lambda t: t[1:].fill_(1)), ("bias", lambda t: t.mul_(0.5))])
def test_one_that_leaves_new_memory_unwritten_is_named(attribute, initializer):
    """Raw memory would pass for weights. Where there are values, it may go by them."""
    scheme = fastinit.Scheme({nn.Linear: {attribute: initializer, "*": fastinit.ones_}})
    with pytest.raises(RuntimeError, match=f"has not written all elements of {attribute}"):
        fastinit.initialize_(nn.Linear(3, 3, device="meta"), scheme, seed=0, device="cpu")
    layer = nn.Linear(3, 3)
    before = getattr(layer, attribute).clone()
    fastinit.initialize_(layer, scheme, seed=0)
    changed = torch.cat([before[:1], torch.ones(2, 3)]) if attribute == "weight" else before * 0.5
    assert torch.equal(getattr(layer, attribute), changed)
