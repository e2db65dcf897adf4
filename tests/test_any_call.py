"""Any call of any public function: it meets the contract, or refuses, says what it was given and leaves all as it was.

Longer, with other seeds: `python -m proof.calls`.
"""

import hashlib
import types
from functools import partial

import pytest
import torch
from helpers import call_blends, calls
from helpers.call_checks import SPECS, explore
from helpers.quick import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit

EXAMPLES = examples(100)


@pytest.mark.parametrize("name", SPECS)
def test_any_call(name):
    outcomes = explore(name, EXAMPLES)
    accepted = outcomes.pop("accepted")
    assert min(accepted, outcomes.total()) > EXAMPLES // 20, "what is drawn asks little"


def test_any_blend():
    outcomes = call_blends.explore(3 * EXAMPLES)
    accepted = outcomes.pop("accepted")
    assert min(accepted, outcomes.total()) > 3 * EXAMPLES // 20, "what is drawn asks little"


def test_every_function_that_fills_a_tensor_is_called():
    functions = {name for name in fastinit.__all__ if isinstance(getattr(fastinit, name), types.FunctionType)}
    assert {name for name in functions if name.endswith("_")} - {"initialize_", "blend_", "perturb_"} == set(SPECS)


@pytest.mark.one_of_each
@pytest.mark.parametrize("strange", calls.STRANGE)
@pytest.mark.parametrize("name", SPECS)
def test_what_is_no_plain_tensor_is_refused(name, strange):
    """By a TypeError or a ValueError that says what it got."""
    needed = {"val": 1.0, "sparsity": 0.5} | ({"key": 1} if name == "bits_" else {})
    arguments = {key: value for key, value in needed.items() if key in SPECS[name].parameters}
    tensor, state = calls.STRANGE[strange](), torch.get_rng_state()
    with pytest.raises((TypeError, ValueError)):
        getattr(fastinit, name)(tensor, **arguments)
    assert torch.equal(state, torch.get_rng_state())


# --- what fills no single tensor ----------------------------------------------------------------------------------------------

INTEGERS = st.one_of(st.integers(), st.integers(-3, 3), st.sampled_from([2**64, -(2**63), 10**400]))
PARTS = st.one_of(st.text(), st.integers(), st.sampled_from(["", ".", "layer.0", "\N{SNOWMAN}", 7]))
NEITHER = [None, 1.0, True, b"a", (1,), torch.tensor(1), float("nan")]


@given(INTEGERS, st.lists(PARTS, max_size=4))
def test_any_key(seed, path):
    text, secret = ".".join(map(str, path)).encode(), (seed % 2**64).to_bytes(8, "little")
    digest = hashlib.blake2b(text, digest_size=8, key=secret).digest()
    assert fastinit.key(seed, *path) == int.from_bytes(digest, "little")


@given(st.lists(PARTS, max_size=3), st.sampled_from(NEITHER), st.integers(0, 3))
def test_any_bad_key(path, part, at):
    with pytest.raises(TypeError):
        fastinit.key(part, *path)
    with pytest.raises(TypeError):
        fastinit.key(1, *path[:at], part, *path[at:])


LAYERS = {
    "linear": lambda n: torch.nn.Linear(n, 3),
    "convolution": lambda n: torch.nn.Conv2d(2, n, 3),
    "recurrent": lambda n: torch.nn.LSTM(3, n),
    "embedding": lambda n: torch.nn.Embedding(n, 4),
    "norm": torch.nn.LayerNorm,
    "attention": lambda n: torch.nn.MultiheadAttention(2 * n, 2),
}
SCHEMES = {
    "keras_like": fastinit.keras_like,
    "torch_like": fastinit.torch_like,
    "gpt2_like": fastinit.gpt2_like(3),
    "truncated_like": fastinit.truncated_like(0.02, 3),
}
BAD = {
    "scheme": [None, "keras_like", torch.nn.init.zeros_, fastinit.gpt2_like],
    "seed": [None, 1.0, "0", True, [1]],
    "device": ["nowhere", 1.5, torch.float32],
    "prefix": [None, 3, b"model"],
    "reset_buffers": [3, "zeros"],
}


@st.composite
def models(draw):
    parts = draw(st.lists(st.tuples(st.sampled_from(list(LAYERS)), st.integers(1, 5)), min_size=1, max_size=4))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
    return torch.nn.Sequential(*(LAYERS[name](n) for name, n in parts)).to(dtype)


@settings(max_examples=examples(40))
@given(models(), st.sampled_from(list(SCHEMES)), st.integers(-(2**65), 2**65), st.data())
def test_any_model(model, scheme, seed, data):
    """A bad argument leaves every byte; a good call gives each parameter what one key's rule gives it, whatever else is there."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    bad = data.draw(st.sampled_from(list(BAD)))
    arguments = {"scheme": SCHEMES[scheme], "seed": seed, bad: data.draw(st.sampled_from(BAD[bad]))}
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        fastinit.initialize_(model, **arguments)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    report = fastinit.initialize_(model, SCHEMES[scheme], seed=seed)
    assert torch.equal(state, torch.get_rng_state()) and {entry.name for entry in report.entries} >= set(before)
    for number, layer in enumerate(model):
        within = {name: value.clone() for name, value in layer.state_dict().items()}
        fastinit.initialize_(layer, SCHEMES[scheme], seed=seed, prefix=str(number))
        assert all(torch.equal(within[name], value) for name, value in layer.state_dict().items())


BAD_NOISE = {
    "scheme": [None, 3, "normal_", torch.nn.init.zeros_, fastinit.gpt2_like, partial(fastinit.normal_, key=1)],
    "seed": [None, 1.0, "0", True, [], [1], [1, None]],
    "add": [None, "x", float("nan"), float("inf"), [1.0], [1.0, 2.0], 10**400, 1j],
    "keep": [None, "x", float("nan"), -float("inf"), [1.0], 10**400],
    "source": [3, [], {}, {"weight": 1.0}],
    "where": [lambda name, tensor: 1, lambda name, tensor: ((1,), (0,))],
}


@settings(max_examples=examples(40))
@given(models(), st.integers(-(2**65), 2**65), st.data())
def test_any_noise(model, seed, data):
    """A bad argument leaves every byte; a good call's noise is taken by each parameter by its name, whatever else is there."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    good, bad = {"scheme": fastinit.normal_, "seed": seed, "add": 0.5}, data.draw(st.sampled_from(list(BAD_NOISE)))
    with pytest.raises((TypeError, ValueError)):
        fastinit.perturb_(model, **{**good, bad: data.draw(st.sampled_from(BAD_NOISE[bad]))})
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    report = fastinit.perturb_(model, **good)
    for entry in report.entries:
        old, new = before[entry.name], model.state_dict().get(entry.name)
        if entry.state == "filled" and entry.name in dict(model.named_parameters()):
            padding = [] if "embedding" not in entry.kind.lower() else [None]
            assert padding or torch.equal(new, fastinit.blend_(old, fastinit.normal_, key=entry.key, add=0.5))


@pytest.mark.parametrize("name", ["", "nativ", None, 3, b"native", ["native"]])
def test_any_bad_backend(name):
    with pytest.raises((TypeError, ValueError)), fastinit.backend(name):
        pass
    assert fastinit.uniform_(torch.empty(3), key=1).shape == (3,)


@pytest.mark.parametrize("device, dtypes", [("nowhere", ()), ("cpu", (torch.int8,)), ("cpu", (None,)), (1.5, (torch.float32,))])
def test_any_bad_warming(device, dtypes):
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        fastinit.warm_up(device, dtypes or (torch.float32,))


@pytest.mark.parametrize("seed", [1.0, "1", b"1", [1]])
def test_any_bad_acceleration(seed):
    state = torch.get_rng_state()
    with pytest.raises(TypeError), fastinit.accelerate(seed=seed):
        torch.nn.Linear(2, 2)
    assert torch.equal(state, torch.get_rng_state())
