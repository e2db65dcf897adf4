"""Errors that say what is wrong: backends and instruction sets of the environment, memory that is not there or cannot be had."""

import itertools
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fastinit
from fastinit._backends import choose, cpu
from fastinit._commands import info
from fastinit._model import materialize

GIVEN = {
    "constant_": {"val": 0.5},
    "sparse_": {"sparsity": 0.5},
    "variance_scaling_": {"scale": 1.0},
    "blend_": {"initializer": fastinit.normal_},
}
OTHERS = ("initialize_", "perturb_", "__version__")
FUNCTIONS = [name for name in fastinit.__all__ if name.endswith("_") and name not in OTHERS]
NOT_HERE = next(name for name, reason in cpu.isas().items() if reason)


def shape_of(name):
    return (4, 4, 3) if name == "dirac_" else (8, 6)


def poisoned():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7.0)
    return model


def is_untouched(model):
    return all(bool((parameter == 7).all()) for parameter in model.parameters())


@pytest.fixture
def environment(monkeypatch):
    """Sets variables as if the process began with them."""
    forget = (choose.automatic_choice, cpu.unavailable, choose.say_slow)

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for function in forget:
            function.cache_clear()

    for name in ("FASTINIT_BACKEND", "FASTINIT_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    yield set_variables
    monkeypatch.undo()
    set_variables()


SCHEME = fastinit.keras_like.override({"0.weight": fastinit.orthogonal_})  # which is called before the batch


@pytest.mark.parametrize(
    "name, value, kind, words",
    [
        ("FASTINIT_BACKEND", "foo", ValueError, "'foo'.*'native', 'triton', 'reference'"),
        ("FASTINIT_CPU_ISA", "sse2", ValueError, "'sse2'.*'scalar'"),
        ("FASTINIT_CPU_ISA", NOT_HERE, RuntimeError, f"{NOT_HERE}.*can be used here .*'scalar'"),
    ],
)
def test_a_wrong_variable_of_the_environment_is_named_before_anything_is_written(environment, name, value, kind, words):
    environment(**{name: value})
    tensor, model = torch.full((5,), 7.0), poisoned()

    def in_accelerate():
        with fastinit.accelerate(seed=0):
            nn.init.normal_(tensor)

    calls = (lambda: fastinit.normal_(tensor), lambda: fastinit.initialize_(model, SCHEME, seed=0), in_accelerate)
    for call in calls:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert type(caught.value) is kind and name in str(caught.value) and "initialization failed" not in str(caught.value)
    assert (tensor == 7).all() and is_untouched(model)
    facts = info.collect()
    assert name in facts["backend"] and facts["backends"]["reference"] is None and facts["library"]
    if name == "FASTINIT_CPU_ISA":
        assert name in facts["backends"]["native"] and facts["isa"] is None and facts["isas"]["scalar"] is None
        with fastinit.backend("reference"):
            fastinit.normal_(tensor)
        assert not (tensor == 7).any()


def test_plain_torch_in_the_librarys_place_is_said_once(environment, monkeypatch):
    monkeypatch.setattr(cpu, "library_or_reason", lambda: "it has ABI 2")
    environment()
    with pytest.warns(RuntimeWarning, match="it has ABI 2.*times slower") as caught:
        for device in ("cpu", "cpu:0"):
            fastinit.normal_(torch.empty(5, device=device))
    assert len([w for w in caught if w.category is RuntimeWarning]) == 1
    environment(FASTINIT_BACKEND="reference")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastinit.normal_(torch.empty(5))
    environment(FASTINIT_BACKEND="", FASTINIT_CPU_ISA="scalar")
    with pytest.raises(RuntimeError, match=r"FASTINIT_CPU_ISA.*it has ABI 2"):
        fastinit.normal_(torch.empty(5))


def resized(tensor, elements, view=None):
    """The tensor, or its view, after its storage was given so many elements."""
    tensor.untyped_storage().resize_(elements * tensor.itemsize)
    return tensor if view is None else view


def spread(shape, memory):
    """A view of every second element."""
    return memory.as_strided(shape, [2 * step for step in torch.empty(shape, device="meta").stride()])


def without_memory(shape, dtype):
    """Tensors whose memory is not there, or a part of it."""
    count = torch.Size(shape).numel()
    for held in (0, 1, count - 1):
        yield resized(torch.empty(shape, dtype=dtype), held)
    yield nn.Parameter(resized(torch.empty(shape, dtype=dtype), count - 1), requires_grad=False)
    whole, gaps = torch.empty(count + 5, dtype=dtype), torch.empty(2 * count - 1, dtype=dtype)
    yield resized(whole, count, whole[5:].view(shape))
    yield resized(gaps, 2 * count - 2, spread(shape, gaps))
    with torch.inference_mode():
        made = torch.empty(shape, dtype=dtype)
    yield resized(made, 1)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_memory_that_is_not_there_is_named_by_every_function(backend):
    with fastinit.backend(backend):
        for name in FUNCTIONS:
            dtype = torch.int64 if name == "bits_" else torch.float32
            for tensor in without_memory(shape_of(name), dtype):
                with pytest.raises(ValueError, match=r"memory is not there.*shape"):
                    getattr(fastinit, name)(tensor, **GIVEN.get(name, {}), key=1)


def test_what_lies_at_the_very_end_of_its_memory_is_filled():
    for shape in ((8, 6), (3,), ()):
        count = torch.Size(shape).numel()
        gaps = spread(shape, torch.empty(2 * count - 1))
        for tensor in (torch.empty(shape), torch.empty(count + 5)[5:].view(shape), gaps):
            assert torch.equal(fastinit.normal_(tensor, key=1), fastinit.normal_(torch.empty(shape), key=1))
    fastinit.normal_(torch.empty(5)[2:2])
    fastinit.zeros_(resized(torch.empty(5), 0)[:0])


def test_a_model_whose_memory_is_not_there_is_untouched_and_the_parameter_named():
    for number, scheme in itertools.product((0, 1), (SCHEME, fastinit.Scheme({"*": nn.init.uniform_}))):
        model = poisoned()
        freed = model[number].weight
        size = freed.untyped_storage().nbytes()
        freed.untyped_storage().resize_(8)
        with pytest.raises(ValueError, match=rf"^{number}\.weight: .*memory is not there.*nothing was written"):
            fastinit.initialize_(model, scheme, seed=0)
        freed.untyped_storage().resize_(size)
        nn.init.constant_(freed, 7.0)
        assert is_untouched(model)


def huge():
    model = nn.ParameterDict(
        {"small": nn.Parameter(torch.full((3,), 7.0)), "huge": nn.Parameter(torch.empty(1 << 50, device="meta"))}
    )
    return model, fastinit.Scheme({"*": fastinit.normal_})


def test_a_parameter_for_which_there_is_no_memory_is_named(monkeypatch):
    model, scheme = huge()
    with pytest.raises(RuntimeError, match=r"^huge: .*alloc.*nothing was written"):
        fastinit.initialize_(model, scheme, seed=0, device="cpu")
    for kind in (torch.OutOfMemoryError, MemoryError):

        def raising(*args, kind=kind, **kwargs):
            raise kind("out of memory")

        monkeypatch.setattr(materialize.torch, "empty_strided", raising)
        with pytest.raises(kind, match=r"^huge: out of memory \(nothing was written\)") as caught:
            fastinit.initialize_(model, scheme, seed=0, device="cpu")
        assert type(caught.value) is kind
        monkeypatch.undo()
    assert (model["small"] == 7).all() and model["huge"].is_meta


def test_a_gradient_for_which_there_is_no_memory_is_named(monkeypatch):
    def raising(*args, **kwargs):
        raise torch.OutOfMemoryError("out of memory")

    slot = SimpleNamespace(name="0.weight", buffer=False, parametrized=False, tensor=nn.Parameter(torch.empty(3)))
    slot.tensor.grad = torch.empty(3)
    monkeypatch.setattr(torch.Tensor, "to", raising)
    with pytest.raises(torch.OutOfMemoryError, match=r"^0\.weight: its gradient cannot be moved: out of memory"):
        materialize.install([(slot, torch.empty(3))])


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError, OSError])
def test_an_initializer_that_fails_is_named_and_lack_of_memory_keeps_its_type(kind):
    def fails(tensor):
        raise kind("too much")

    model = poisoned()
    expected = RuntimeError if kind is OSError else kind
    with pytest.raises(
        expected, match=r"failed at 1\.weight: too much\. Written, perhaps in part: 0\.weight, 1\.weight\.$"
    ) as caught:
        fastinit.initialize_(model, SCHEME.override({"1.weight": fails}), seed=0)
    assert type(caught.value) is expected and isinstance(caught.value.__cause__, kind)
    assert (model[0].bias == 7).all() and not (model[0].weight == 7).any()
