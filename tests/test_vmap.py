"""torch.func: vmap's randomness decides whether examples get different values, the same, or torch's error."""

import pytest
import torch
from torch.func import grad, vmap

import fastinit

FUNCTIONS = {
    "uniform_": fastinit.uniform_,
    "normal_": fastinit.normal_,
    "truncated_normal_": fastinit.truncated_normal_,
    "he_normal_": fastinit.he_normal_,
    "orthogonal_": fastinit.orthogonal_,
    "sparse_": lambda w, **source: fastinit.sparse_(w, 0.4, **source),
    "bfloat16": lambda w, **source: w.copy_(fastinit.normal_(w.to(torch.bfloat16), **source)),
}


def member(name, **source):
    def function(x):
        w = x.clone()
        FUNCTIONS[name](w, **source)
        return w

    return function


def distinct(batch):
    """How many different examples there are; a factorization of several matrices at once may round as it likes."""
    found = []
    for example in batch:
        if not any(torch.allclose(example, other, atol=1e-5) for other in found):
            found.append(example)
    return len(found)


def same(name, one, other):
    return torch.allclose(one, other, atol=1e-5) if name == "orthogonal_" else torch.equal(one, other)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_randomness_decides(name):
    function, x = member(name), torch.zeros(3, 5, 6)
    assert distinct(vmap(function, randomness="different")(x)) == 3
    equal = vmap(function, randomness="same")(x)
    assert distinct(equal) == 1 and equal.std() > 0
    with pytest.raises(RuntimeError, match="randomness error mode"):
        vmap(function)(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_are_those_of_draws_one_after_the_other(name):
    """From torch's default generator and from one that is given, as without vmap."""
    x = torch.zeros(3, 5, 6)
    torch.manual_seed(5)
    expected = torch.stack([member(name)(each) for each in x])
    torch.manual_seed(5)
    assert same(name, vmap(member(name), randomness="different")(x), expected)
    torch.manual_seed(5)
    assert same(name, vmap(member(name), randomness="same")(x), expected[:1].expand(3, 5, 6))
    generator = torch.Generator().manual_seed(5)
    assert same(name, vmap(member(name, generator=generator), randomness="different")(x), expected)


@pytest.mark.parametrize("randomness", ["error", "same", "different"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_key_is_no_draw(name, randomness):
    found = vmap(member(name, key=7), randomness=randomness)(torch.zeros(2, 5, 6))
    assert same(name, found, member(name, key=7)(torch.zeros(5, 6)).expand(2, 5, 6))


@pytest.mark.parametrize("outer, inner, expected", [("different", "different", 6), ("same", "different", 3), ("same", "same", 1)])
def test_nested(outer, inner, expected):
    for dims in (0, 1):
        nested = vmap(vmap(member("normal_"), in_dims=dims, randomness=inner), randomness=outer)
        shape = (2, 3, 4) if dims == 0 else (2, 4, 3)
        assert distinct(nested(torch.zeros(shape)).reshape(6, 4)) == expected


@pytest.mark.parametrize("name", ["normal_", "orthogonal_", "sparse_"])
def test_a_tensor_of_no_example_is_filled_as_torch_would(name):
    def function(x):
        w = torch.empty(5, 5)
        FUNCTIONS[name](w)
        return w * x

    assert distinct(vmap(function, randomness="same")(torch.ones(3))) == 1
    for randomness in ("different", "error"):
        with pytest.raises(RuntimeError, match="vmap: "):
            vmap(function, randomness=randomness)(torch.ones(3))


def test_gradients_of_members():
    """An ensemble that is initialized inside of grad inside of vmap."""

    def loss(x):
        return (x * member("normal_")(x.detach())).sum()

    torch.manual_seed(1)
    found = vmap(grad(loss), randomness="different")(torch.ones(3, 5))
    torch.manual_seed(1)
    assert torch.equal(found, torch.stack([fastinit.normal_(torch.empty(5)) for _ in range(3)]))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("randomness", ["different", "same", "error"])
def test_vmap_in_a_graph_is_refused_or_left(batched, randomness):
    """A graph draws by an operator, which does not know its examples: equal values in silence would be worse. Where Dynamo leaves
    its graph for it, as those of torch 2.7 and 2.15 do, all is as without one."""

    def function(x):
        w = x.clone() if batched else torch.zeros(4)
        fastinit.normal_(w)
        return w * x

    def found(run):
        torch.manual_seed(5)
        try:
            return run(torch.ones(3, 4)).tolist()
        except RuntimeError as error:
            return str(error)

    eager = vmap(function, randomness=randomness)
    compiled = found(torch.compile(lambda x: eager(x), backend="eager"))
    assert "vmap cannot draw inside a compiled graph" in compiled or compiled == found(eager)
