"""torch.compile, fake tensors and opcheck: a compiled fill holds the bits of the eager one, or a fresh draw."""

import pytest
import torch
from helpers.quick import some
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import fastinit

SCALED = [f"{who}_{law}_" for who in ("glorot", "he", "lecun", "xavier", "kaiming") for law in ("uniform", "normal")]
RANDOM = ["uniform_", "normal_", "truncated_normal_", "trunc_normal_", "variance_scaling_", *SCALED]
CONSTANT = ["zeros_", "ones_", "eye_"]
FEW = {"uniform_", "truncated_normal_", "zeros_", "orthogonal_"}  # of quick runs
BIG_KEY = 2**64 - 3  # its signed form is negative


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()


def compiled(function, backend="aot_eager"):
    return torch.compile(function, fullgraph=True, backend=backend)


@pytest.mark.parametrize("name", some([*RANDOM, *CONSTANT, "orthogonal_"], FEW))
def test_a_key_gives_the_bits_of_eager(name):
    function = getattr(fastinit, name)

    def step(tensor):
        return function(tensor, key=BIG_KEY)

    tensor = torch.full((6, 4), 7.0)
    out = compiled(step)(tensor)
    assert torch.equal(tensor, function(torch.empty(6, 4), key=BIG_KEY))
    assert torch.equal(out, tensor)


@pytest.mark.parametrize("backend", some(["aot_eager", "inductor"], ["aot_eager"]))
def test_complex_tensors(backend):
    if backend == "inductor" and torch.__version__ < "2.8":
        pytest.skip("the inductor of torch 2.7 fails on every write to a complex input, of mul_ too")

    def step(a, b):
        fastinit.normal_(a, key=BIG_KEY)
        fastinit.uniform_(b.t())
        return a

    tensors, expected = ([torch.zeros(6, 4, dtype=torch.complex64) for _ in range(2)] for _ in range(2))
    for run, filled in ((compiled(step, backend), tensors), (step, expected)):
        torch.manual_seed(4)
        assert torch.equal(run(*filled), filled[0])
    assert all(torch.equal(a, b) for a, b in zip(tensors, expected, strict=True)) and expected[1].all()


@pytest.mark.parametrize("backend", some(["aot_eager", "inductor"], ["aot_eager"]))
def test_structured_and_strided(backend):
    def step(a, b, c):
        fastinit.sparse_(a, 0.3, key=5)
        fastinit.truncated_normal_(b.t(), std=0.5, method="fmod", key=6)
        fastinit.dirac_(c, 2)
        return a + 0

    tensors = [torch.zeros(6, 4), torch.zeros(6, 4), torch.zeros(4, 2, 3)]
    compiled(step, backend)(*tensors)
    expected = [torch.zeros(6, 4), torch.zeros(6, 4), torch.zeros(4, 2, 3)]
    step(*expected)
    assert all(torch.equal(a, b) for a, b in zip(tensors, expected, strict=True))


@pytest.mark.parametrize("backend", some(["aot_eager", "inductor"], ["aot_eager"]))
def test_without_a_key_every_call_and_every_tensor_is_fresh(backend):
    def step(a, b):
        fastinit.uniform_(a)
        fastinit.uniform_(b)
        fastinit.uniform_(c := torch.zeros(100))
        return c, fastinit.uniform_(torch.zeros(100))

    run, seen = compiled(step, backend), []
    for _ in range(3):
        a, b = torch.zeros(100), torch.zeros(100)
        seen += [a, b, *run(a, b)]
    assert len({tuple(t.tolist()) for t in seen}) == len(seen) == 12
    assert all(0.2 < t.mean() < 0.8 and t.unique().numel() > 95 for t in seen)


@pytest.mark.parametrize("name", some([*RANDOM, "orthogonal_"], FEW))
def test_without_a_key_nothing_is_baked_in(name):
    function = getattr(fastinit, name)
    run = compiled(lambda tensor: function(tensor))
    first, second = run(torch.zeros(6, 4)).clone(), run(torch.zeros(6, 4)).clone()
    assert not torch.equal(first, second)


@pytest.mark.parametrize("backend", some(["eager", "aot_eager", "inductor"], ["eager", "aot_eager"]))
def test_a_seed_gives_the_draws_of_eager(backend):
    """One draw a call, in the order of the program, and torch's own draws between them: on every backend."""

    def step(a, b):
        fastinit.normal_(a)
        nn.init.normal_(b)
        equal = torch.zeros(6, 4), torch.zeros(6, 4)
        for tensor in equal:
            fastinit.uniform_(tensor)
        return (
            *equal,
            fastinit.sparse_(torch.zeros(6, 4), 0.4),
            fastinit.orthogonal_(torch.zeros(4, 4)),
            fastinit.he_normal_(b + 1),
        )

    def seeded(function):
        torch.manual_seed(3)
        given = torch.zeros(6, 4), torch.zeros(6, 4)
        return [*given, *function(*given), torch.rand(2)]

    # Otherwise inductor may move draws, and draw torch's by another generator.
    as_eager = {"fallback_random": True, "reorder_for_locality": False, "reorder_for_peak_memory": False}
    options = {"options": as_eager} if backend == "inductor" else {}
    run, expected = torch.compile(step, fullgraph=True, backend=backend, **options), seeded(step)
    for _ in range(2):
        for number, (one, other) in enumerate(zip(seeded(run), expected, strict=True)):
            assert torch.equal(one, other), number
    assert len({tuple(tensor.flatten().tolist()) for tensor in expected}) == len(expected)


@pytest.mark.parametrize("backend", some(["eager", "inductor"], ["eager"]))
def test_a_generator_gives_the_draws_of_eager(backend):
    """Dynamo takes no generator into a graph: it breaks there, and the draw is the same."""

    def step(tensor, generator):
        fastinit.normal_(tensor, generator=generator)
        return fastinit.sparse_(torch.zeros(6, 4), 0.4, generator=generator) + tensor

    run = torch.compile(step, backend=backend)
    one, other = (function(torch.zeros(6, 4), torch.Generator().manual_seed(4)) for function in (run, step))
    assert torch.equal(one, other)


def test_a_recorded_draw_is_the_one_of_eager():
    torch.manual_seed(3)
    expected = fastinit.normal_(torch.zeros(5))
    graph = make_fx(lambda tensor: fastinit.normal_(tensor.clone()))(torch.zeros(5))
    for _ in range(2):
        torch.manual_seed(3)
        assert torch.equal(graph(torch.zeros(5)), expected)


def test_other_shapes_and_keys_recompile_to_the_right_values():
    def step(tensor, key):
        return fastinit.glorot_uniform_(tensor, key=key)

    run = compiled(step)
    for shape, key in (((6, 4), 1), ((5, 9), 2), ((8, 3), 2**63 + 1), ((2, 11), 4)):
        assert torch.equal(run(torch.zeros(shape), key), step(torch.zeros(shape), key)), (shape, key)


FLOAT_ARGUMENTS = {
    "uniform_": lambda fill, t, x: fill(t, -x, x, key=3),
    "normal_": lambda fill, t, x: fill(t, x, x, key=3),
    "truncated_normal_": lambda fill, t, x: fill(t, x, x, key=3),
    "trunc_normal_": lambda fill, t, x: fill(t, x, x, -x, x, key=3),
    "variance_scaling_": lambda fill, t, x: fill(t, x, key=3),
    **dict.fromkeys([f"{who}_{law}_" for who in ("glorot", "xavier", "kaiming") for law in ("uniform", "normal")],
                    lambda fill, t, x: fill(t, x, key=3)),
    **dict.fromkeys([f"{who}_{law}_" for who in ("he", "lecun") for law in ("uniform", "normal")],
                    lambda fill, t, x: fill(t, key=3, fan_in=x)),
    "orthogonal_": lambda fill, t, x: fill(t, x, key=3),
    "constant_": lambda fill, t, x: fill(t, x),
    "sparse_": lambda fill, t, x: fill(t, 0.25 / x, x, key=3),
}  # fmt: skip


@pytest.mark.parametrize("name", some(FLOAT_ARGUMENTS, ["truncated_normal_"]))
def test_dynamic_shapes_and_numbers(name):
    function, call = getattr(fastinit, name), FLOAT_ARGUMENTS[name]
    run = torch.compile(lambda tensor, x: call(function, tensor, x), fullgraph=True, dynamic=True, backend="aot_eager")
    for rows, x in ((5, 1.0), (6, 2.0), (9, 0.5)):
        assert torch.equal(run(torch.zeros(rows, 4), x), call(function, torch.zeros(rows, 4), x)), (rows, x)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_words(dtype):
    expected = fastinit.bits_(torch.zeros(9, dtype=dtype), key=BIG_KEY)
    assert torch.equal(compiled(lambda t: fastinit.bits_(t, key=BIG_KEY))(torch.zeros(9, dtype=dtype)), expected)
    torch.library.opcheck(torch.ops.fastinit.fill_, (torch.zeros(9, dtype=dtype), "words", [], -7, None))
    with FakeTensorMode():
        fake = torch.empty(9, dtype=dtype)
        assert fastinit.bits_(fake, key=3) is fake


def test_a_scheme_inside_a_graph():
    layer = torch.nn.Linear(30, 40)

    def step(x):
        return fastinit.keras_like(layer)(x)

    run, x = compiled(step), torch.ones(30)
    torch.manual_seed(5)
    first, weight = run(x), layer.weight.detach().clone()
    assert torch.allclose(first, x @ weight.t()) and (layer.bias == 0).all()
    assert weight.abs().max() <= (6 / 70) ** 0.5 and not torch.equal(run(x), first)


def test_make_fx_records_the_fill():
    keyed = make_fx(lambda t: fastinit.glorot_normal_(t.clone(), key=BIG_KEY))(torch.zeros(6, 4))
    assert torch.equal(keyed(torch.zeros(6, 4)), fastinit.glorot_normal_(torch.zeros(6, 4), key=BIG_KEY))
    fresh = make_fx(lambda t: fastinit.sparse_(t.clone(), 0.5))(torch.zeros(6, 4))
    first, second = fresh(torch.zeros(6, 4)), fresh(torch.zeros(6, 4))
    assert not torch.equal(first, second) and ((first == 0).sum(0) == 3).all()


@pytest.mark.parametrize("strict", some([False, True], [True]))
def test_exported_programs_hold_the_fill(strict):
    class Noisy(torch.nn.Module):
        def forward(self, x):
            return x + fastinit.uniform_(torch.zeros(4), key=BIG_KEY)

    program = torch.export.export(Noisy(), (torch.zeros(4),), strict=strict).run_decompositions()
    assert torch.equal(program.module()(torch.zeros(4)), fastinit.uniform_(torch.zeros(4), key=BIG_KEY))


@pytest.mark.parametrize("transform", [torch.vmap, torch.func.functionalize, torch.func.jacrev])
def test_transforms_of_torch_func(transform):
    def step(x):
        return x * 0 + fastinit.normal_(x.clone(), key=BIG_KEY).detach()

    out = transform(step)(torch.ones(3, 4))
    expected = fastinit.normal_(torch.zeros(4 if transform is torch.vmap else (3, 4)), key=BIG_KEY)
    assert (out == (0 if transform is torch.func.jacrev else expected)).all(), "every example has the key's values"


def test_views_that_are_negated_when_read():
    view = torch.zeros(9, dtype=torch.complex64).conj().imag
    assert view.is_neg() and fastinit.uniform_(view, key=BIG_KEY) is view
    assert torch.equal(view, fastinit.uniform_(torch.zeros(9), key=BIG_KEY))


def test_errors_come_at_trace_time():
    tensor = torch.full((6, 4), 7.0)
    with pytest.raises(Exception, match="fan_sum"):
        compiled(lambda t: fastinit.variance_scaling_(t, 1.0, "fan_sum"))(tensor)
    assert (tensor == 7).all()


@pytest.mark.parametrize("name", [*RANDOM, *CONSTANT, "orthogonal_"])
def test_fake_tensors_stay_fake(name):
    function = getattr(fastinit, name)
    with FakeTensorMode():
        fake = torch.empty(6, 4)
        assert function(fake, key=3) is fake
        assert function(fake) is fake
        assert fastinit.sparse_(fake, 0.5) is fake
    assert type(fake).__name__ == "FakeTensor" and fake.shape == (6, 4)
    real = torch.zeros(6, 4)
    assert torch.equal(function(real, key=3), function(torch.zeros(6, 4), key=3))


def test_meta_models_take_a_scheme():
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.LSTM(5, 6), torch.nn.MultiheadAttention(8, 2))
    assert all(p.is_meta for p in model.apply(fastinit.keras_like).parameters())


@pytest.mark.one_of_each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("drawn", [None, torch.tensor([5])])
def test_opcheck(dtype, drawn):
    for kind, parameters in (
        ("uniform", [0.0, 1.0]),
        ("normal", [0.0, 1.0]),
        ("truncated_normal", [0.0, 1.0, -2.0, 2.0]),
    ):
        for tensor in (torch.zeros(6, 4, dtype=dtype), torch.zeros(4, 6, dtype=dtype).t(), torch.zeros(0, dtype=dtype)):
            torch.library.opcheck(torch.ops.fastinit.fill_, (tensor, kind, parameters, -7, drawn))


def test_a_drawn_key_goes_before_the_constant_one():
    expected = fastinit.uniform_(torch.zeros(50), key=2**64 - 5)
    for key, drawn in ((-5, None), (9, torch.tensor([-5]))):
        tensor = torch.zeros(50)
        torch.ops.fastinit.fill_(tensor, "uniform", [0.0, 1.0], key, drawn)
        assert torch.equal(tensor, expected)
