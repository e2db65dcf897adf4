"""Weights in other layouts: the law, or the orthogonality, of each matrix in them is that of the unpacked nn.Linear."""

import math
import pickle
from functools import partial

import pytest
import torch
from torch import nn

import fastinit
from fastinit._core.laws import law_of

NAMED = [
    *("glorot_uniform_", "glorot_normal_", "he_uniform_", "he_normal_", "lecun_uniform_", "lecun_normal_", "variance_scaling_"),
    *("xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"),
]
OUT, IN = 6, 10
LAYOUTS = {  # layout -> sizes, the shape that holds matrices of [6, 10], and how each is taken out of it
    "in out": ({}, (10, 6), lambda w: [w.T]),
    "expert out in": ({}, (4, 6, 10), lambda w: [*w]),
    "expert in out": ({}, (4, 10, 6), lambda w: [each.T for each in w]),
    "(3 out) in": ({}, (18, 10), lambda w: [*w.chunk(3)]),
    "(out 2) in": ({}, (12, 10), lambda w: [w[::2], w[1::2]]),
    "in (3 out)": ({}, (10, 18), lambda w: [each.T for each in w.chunk(3, dim=1)]),
    "expert in (out 2)": ({}, (4, 10, 12), lambda w: [each[:, i::2].T for each in w for i in (0, 1)]),
    "(heads 3 out) in": ({"heads": 2}, (36, 10), lambda w: [*w.chunk(6)]),
    " layer (q out)  (expert in) ": ({"q": 2, "expert": 5}, (3, 12, 50), lambda w: [b for a in w for b in matrices(a)]),
}


def matrices(whole):
    return [block for rows in whole.chunk(2) for block in rows.chunk(5, dim=1)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_law_is_that_of_each_linear(layout):
    sizes, shape, _ = LAYOUTS[layout]
    for name in NAMED:
        for arguments in ({}, {"mode": "fan_out"} if "kaiming" in name or "variance" in name else {}):
            function = partial(getattr(fastinit, name), **arguments)
            expected = law_of(function, torch.Size([OUT, IN]), torch.float32)
            assert law_of(fastinit.in_layout(function, layout, **sizes), torch.Size(shape), torch.float32) == expected
    linear = nn.Linear(IN, OUT)
    fastinit.initialize_(linear, fastinit.Scheme({nn.Linear: {"weight": fastinit.he_uniform_, "bias": None}}), seed=0)
    values = fastinit.in_layout(fastinit.he_uniform_, layout, **sizes)(torch.empty(shape), key=1)
    limit = math.sqrt(6 / IN)
    assert 0.8 * limit < values.abs().max() <= limit and linear.weight.abs().max() <= limit


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_matrix_is_orthogonal(layout, strided):
    sizes, shape, taken = LAYOUTS[layout]
    weight = torch.zeros(*shape, 2)[..., 1] if strided else torch.zeros(shape)
    assert fastinit.in_layout(partial(fastinit.orthogonal_, gain=3.0), layout, **sizes)(weight, key=2) is weight
    found = taken(weight)
    assert sum(matrix.numel() for matrix in found) == weight.numel()
    for matrix in found:
        assert matrix.shape == (OUT, IN) and torch.allclose(matrix @ matrix.T, 9.0 * torch.eye(OUT), atol=1e-4)


def test_kernels_and_their_groups():
    given = partial(fastinit.glorot_uniform_, groups=3)
    laid = fastinit.in_layout(given, "kernel kernel in out")
    shape = torch.Size([12, 2, 5, 3])
    assert law_of(laid, torch.Size([5, 3, 2, 12]), torch.float32) == law_of(given, shape, torch.float32)
    delta = fastinit.in_layout(fastinit.dirac_, "kernel in out")(torch.zeros(3, 2, 2))
    assert torch.equal(delta, nn.init.dirac_(torch.zeros(2, 2, 3)).permute(2, 1, 0))


def test_it_goes_into_the_batch_and_its_name_into_reports():
    laid = fastinit.in_layout(partial(fastinit.kaiming_uniform_, a=0.5), "(heads out) in", heads=3)
    scheme = fastinit.Scheme({nn.Linear: {"weight": laid, "bias": fastinit.zeros_}})
    name = "in_layout(kaiming_uniform_(a=0.5), '(heads out) in', heads=3)"
    assert name in repr(scheme) and name in str(scheme)
    for each in (scheme, pickle.loads(pickle.dumps(scheme))):
        model = nn.Linear(5, 12)
        report = fastinit.initialize_(model, each, seed=4)
        assert report["weight"].initializer == name
        assert torch.equal(model.weight, laid(torch.empty(12, 5), key=fastinit.key(4, "weight")))
    keyed = fastinit.in_layout(partial(fastinit.he_normal_, key=7), "in out")
    assert torch.equal(keyed(torch.empty(3, 4)), fastinit.in_layout(fastinit.he_normal_, "in out")(torch.empty(3, 4), key=7))
    report = fastinit.initialize_(nn.Linear(4, 4), fastinit.Scheme({nn.Linear: {"weight": keyed, "bias": None}}), seed=0)
    assert report["weight"].key == 7 and report["weight"].initializer == "in_layout(he_normal_(key=7), 'in out')"


def test_without_a_key_it_draws_as_the_initializer_does():
    for function in (fastinit.he_normal_, fastinit.orthogonal_):
        torch.manual_seed(3)
        one, after = fastinit.in_layout(function, "in out")(torch.empty(4, 4)), torch.get_rng_state()
        torch.manual_seed(3)
        other = function(torch.empty(4, 4))
        assert torch.equal(torch.get_rng_state(), after)
        assert torch.equal(one, other if function is fastinit.he_normal_ else other.T)
    state = torch.get_rng_state()
    fastinit.in_layout(fastinit.ones_, "expert in out")(torch.empty(2, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)


WRONG = {
    "out": "one 'in' and one 'out'",
    "q k v": "one 'in' and one 'out'",
    "(q k v) in": "one 'in' and one 'out'",
    "in in out": "no word twice",
    "expert expert in out": "no word twice",
    "(3 out in": "words in brackets",
    "in ((out))": "words in brackets",
    "in,out": "words in brackets",
    "(0 out) in": "one 'in' and one 'out'",
    "": "one 'in' and one 'out'",
}


@pytest.mark.parametrize("layout", WRONG)
def test_a_wrong_layout_is_refused_at_once(layout):
    with pytest.raises(ValueError, match=WRONG[layout]):
        fastinit.in_layout(fastinit.he_normal_, layout)


def test_what_does_not_fit_is_refused_before_a_byte_is_written():
    cases = [
        (fastinit.in_layout(fastinit.he_normal_, "expert in out"), "3 dimensions"),
        (fastinit.in_layout(fastinit.he_normal_, "(5 out) in"), "does not fit"),
        (fastinit.in_layout(fastinit.he_normal_, "(heads out) in"), "heads="),
        (fastinit.in_layout(fastinit.he_normal_, "(3 out) in", out=4), "does not fit"),
        (fastinit.in_layout(partial(fastinit.sparse_, sparsity=0.5), "(2 out) in"), "sparse_ fills one matrix"),
        (fastinit.in_layout(fastinit.eye_, "(2 out) in"), "eye_ fills one matrix"),
    ]
    for initializer, words in cases:
        model = nn.Linear(4, 6)
        before = model.weight.detach().clone()
        with pytest.raises(ValueError, match=words):
            initializer(model.weight, key=0)
        with pytest.raises(ValueError, match=words):
            fastinit.initialize_(model, fastinit.Scheme({nn.Linear: {"weight": initializer, "bias": None}}), seed=0)
        assert torch.equal(model.weight, before)
    for sizes, error in (({"heads": 0}, ValueError), ({"head": 2}, ValueError), ({"heads": 2.0}, TypeError)):
        with pytest.raises(error):
            fastinit.in_layout(fastinit.he_normal_, "(heads out) in", **sizes)
    for initializer, layout in ((nn.init.xavier_uniform_, "in out"), (fastinit.he_normal_, ["in", "out"])):
        with pytest.raises(TypeError):
            fastinit.in_layout(initializer, layout)
    with pytest.raises(ValueError, match="groups"):
        fastinit.in_layout(partial(fastinit.he_normal_, groups=5), "in out")(torch.empty(3, 4))


def test_what_is_loaded_and_what_requires_a_gradient():
    leaf = nn.Parameter(torch.zeros(4, 6))
    fastinit.in_layout(fastinit.orthogonal_, "in out")(leaf, key=0)
    assert leaf.is_leaf and leaf.grad_fn is None and bool(leaf.any()) and leaf._version > 0
    leaf = nn.Parameter(torch.zeros(4, 6))
    leaf._is_hf_initialized = True
    for function in (fastinit.he_normal_, fastinit.orthogonal_):
        with pytest.warns(UserWarning, match="loaded"):
            fastinit.in_layout(function, "in out")(leaf, key=0)
    assert not leaf.any()
