"""What transformers has marked as loaded (`_is_hf_initialized`) is left as it is, by every function; and the report says so."""

import pytest
import torch
from torch import nn

import fastinit

OTHERS = ("initialize_", "__version__", "blend_", "perturb_")  # the last two add to what is loaded
FUNCTIONS = [name for name in fastinit.__all__ if name.endswith("_") and name not in OTHERS]
NEEDED = {"constant_": {"val": 1.0}, "sparse_": {"sparsity": 0.5}, "bits_": {"key": 3}}


def call(name, tensor):
    return getattr(fastinit, name)(tensor, **NEEDED.get(name, {}))


def marked(tensor):
    tensor._is_hf_initialized = True
    return tensor


SAID = "a tensor that transformers has marked as loaded is left as it is"


@pytest.mark.filterwarnings(f"ignore:{SAID}")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_leaves_what_is_loaded(name):
    """And views of it; no key is drawn for it, and what cannot be filled is refused all the same."""
    shape = (8, 4, 4) if name == "dirac_" else (8, 4)
    dtype = torch.int32 if name == "bits_" else torch.float32
    weight, state = marked(torch.full(shape, 3, dtype=dtype)), torch.get_rng_state()
    assert call(name, weight) is weight
    call(name, weight[4:])
    assert (weight == 3).all() and weight._version == 0 and torch.equal(torch.get_rng_state(), state)
    with pytest.raises(TypeError):
        call(name, marked(torch.full(shape, 3, dtype=torch.uint8).view(torch.bits8)))
    weight._is_hf_initialized = False
    call(name, weight)
    assert (weight != 3).any()


@pytest.mark.parametrize(
    "module", [nn.LSTM(2, 2), nn.MultiheadAttention(4, 2), nn.Embedding(4, 4, padding_idx=1), nn.BatchNorm1d(3)]
)
def test_a_scheme_leaves_what_is_loaded(module):
    """Also the rows of padding, the forget gates and the counters, which are no functions of their own."""
    tensors = [*module.parameters(), *module.buffers()]
    for tensor in tensors:
        with torch.no_grad():
            marked(tensor).fill_(3)
    module.apply(fastinit.keras_like)
    assert all((tensor == 3).all() for tensor in tensors)
    report = fastinit.initialize_(module, seed=0)
    assert all((tensor == 3).all() for tensor in tensors) and report.filled == []
    assert report.loaded == report.left == [entry.name for entry in report.entries]
    report = fastinit.initialize_(module, seed=0, overwrite_loaded=True)
    assert report.loaded == [] and not any((tensor == 3).all() for tensor in tensors)
    assert all(tensor._is_hf_initialized for tensor in tensors)


def test_the_report_says_what_was_left():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    marked(model[0].weight)
    model[1].weight = model[0].weight
    before = model[0].weight.clone()
    report = fastinit.initialize_(model, seed=0)
    assert torch.equal(model[0].weight, before)
    assert report.loaded == report.left == ["0.weight", "1.weight"] and report.filled == ["0.bias", "1.bias"]
    assert str(report).splitlines()[1].split() == ["0.weight", "3x3", "float32", "left", "loaded"]
    assert '"loaded": true' in report.json() and "2 filled, 2 left" in str(report)


def test_a_function_says_that_it_leaves_what_is_loaded():
    """Who wants a new head for a loaded model must not get the old one in silence."""
    weight = marked(torch.zeros(3, 3))
    for act in (lambda: fastinit.normal_(weight), lambda: fastinit.orthogonal_(weight), lambda: fastinit.zeros_(weight)):
        with pytest.warns(UserWarning, match=SAID) as caught:
            act()
        assert caught[0].filename == __file__


@pytest.mark.filterwarnings(f"ignore:{SAID}")
def test_initializers_of_ones_own_are_not_called_for_what_is_loaded():
    layer, calls = nn.Linear(3, 3), []

    def mine(tensor):
        calls.append(tensor)
        nn.init.normal_(tensor)

    marked(layer.weight)
    scheme = fastinit.Scheme({nn.Linear: {"*": mine}})
    layer.apply(scheme)
    fastinit.initialize_(layer, scheme, seed=0)
    assert all(tensor is layer.bias for tensor in calls) and len(calls) == 2
    fastinit.initialize_(
        layer, scheme.override({nn.Linear: {"weight": lambda t: fastinit.ones_(t)}}), seed=0, overwrite_loaded=True
    )
    assert (layer.weight == 1).all()


def test_what_is_loaded_stays_beside_what_comes_from_meta():
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].register_parameter("late", nn.Parameter(torch.empty(2, device="meta")))
    marked(model[0].weight)
    before = model[0].weight.clone()
    scheme = fastinit.keras_like.override({"0.late": fastinit.ones_})
    fastinit.initialize_(model, scheme, seed=0, device="cpu")
    assert torch.equal(model[0].weight, before) and model[0].late.tolist() == [1, 1]
