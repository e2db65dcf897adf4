"""Models of many small parameters: what is found once for all of them, what is made when it is read. Nothing is timed."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from helpers.models import bits
from torch import nn

import fastinit
from fastinit import _fill
from fastinit._backends import cpu
from fastinit._model import planner
from fastinit._schemes import norms, scheme


def many(count=50):
    return nn.ModuleList([nn.Linear(4, 4) for _ in range(count)])


@pytest.fixture
def counted(monkeypatch):
    """Counts of calls, by the function's name."""
    counts = {}

    def count(owner, name):
        function = getattr(owner, name)

        def counting(*args, **kwargs):
            counts[name] = counts.get(name, 0) + 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(planner, "law_of")
    count(planner, "recipe")
    count(cpu, "fill")
    count(scheme, "ModuleRules")
    return counts


def test_laws_and_rules_are_found_once_for_a_type_and_the_backend_is_called_once(counted):
    few, lots = many(2), many(200)
    fastinit.initialize_(few, seed=0)
    once = dict(counted)
    counted.clear()
    fastinit.initialize_(lots, seed=0)
    assert counted == once == {"law_of": 2, "recipe": 2, "fill": 1, "ModuleRules": 2}


def test_rules_that_take_the_module_are_asked_for_each_of_them():
    asked = []

    def rule(module):
        asked.append(module)
        return {"weight": fastinit.zeros_ if module.bias is None else fastinit.ones_, "bias": fastinit.zeros_}

    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2, bias=False)] * 2 + [nn.Linear(2, 2)])
    fastinit.initialize_(model, fastinit.Scheme({nn.Linear: rule}), seed=0)
    assert {id(module) for module in asked} == {id(module) for module in model}
    assert [float(layer.weight.detach().mean()) for layer in model] == [1.0, 0.0, 1.0, 0.0, 1.0]


def test_what_is_found_once_is_that_of_each_type_name_shape_and_dtype():
    """Neighbors that differ in one of these do not get each other's law."""

    class Narrow(nn.Linear):
        pass

    layers = [nn.Linear(8, 8), Narrow(8, 8), nn.Linear(8, 8).double(), nn.Linear(8, 16), nn.Linear(8, 8)]
    given = {nn.Linear: {"weight": fastinit.glorot_uniform_, "bias": fastinit.zeros_}, Narrow: {"weight": fastinit.normal_}}
    report = fastinit.initialize_(nn.ModuleList(layers), fastinit.Scheme(given), seed=3)
    for number, layer in enumerate(layers):
        name = f"{number}.weight"
        alone = torch.empty_like(layer.weight.detach())
        function = fastinit.normal_ if isinstance(layer, Narrow) else fastinit.glorot_uniform_
        assert torch.equal(function(alone, key=fastinit.key(3, name)), layer.weight)
        assert report[name].initializer == function.__name__ and report[name].shape == tuple(layer.weight.shape)


@pytest.mark.parametrize("change", ["view", "strided", "offset", "marked", "frozen", "negative", "negated", "shared", "subclass"])
def test_a_parameter_that_is_not_like_the_others_is_treated_as_what_it_is(change):
    model = many(3)
    model[1].weight = nn.Parameter(odd := torch.full((4, 4), 7.0))
    if change == "view":
        model[1].weight = nn.Parameter(torch.full((2, 16), 7.0)[1].view(4, 4))
    elif change == "strided":
        model[1].weight = nn.Parameter(torch.full((4, 4), 7.0).t())
    elif change == "offset":
        model[1].weight = nn.Parameter(torch.full((17,), 7.0)[1:].view(4, 4))
    elif change == "marked":
        model[1].weight._is_hf_initialized = True
    elif change == "frozen":
        model[1].weight.requires_grad_(False)
    elif change == "negative":
        model[1].weight = nn.Parameter(torch.complex(torch.zeros(4, 4), torch.full((4, 4), -7.0)).conj().imag)
        assert model[1].weight.is_neg()
    elif change == "negated":  # as it lies in memory it looks like any other
        model[1].weight = nn.Parameter(torch._neg_view(torch.full((4, 4), -7.0)))
        assert model[1].weight.is_neg() and model[1].weight.is_contiguous()
    elif change == "shared":
        model[1].weight = model[0].weight
    elif change == "subclass":
        model[1].weight = type("Own", (nn.Parameter,), {})(odd)
    report = fastinit.initialize_(model, seed=0, overwrite_constants=True)
    expected = many(3)
    fastinit.initialize_(expected, seed=0)
    state = {"marked": "left", "frozen": "frozen", "shared": "tied"}.get(change, "filled")
    assert report["1.weight"].state == state
    if state == "filled":
        assert torch.equal(model[1].weight, expected[1].weight)
    else:
        assert torch.equal(model[1].weight, model[0].weight if change == "shared" else torch.full((4, 4), 7.0))
    assert torch.equal(model[2].weight, expected[2].weight)


@pytest.mark.parametrize("place", [None, "cpu"])
@pytest.mark.parametrize("first", [0, 4])
def test_memory_that_is_gone_is_named_among_many(first, place):
    model = many(3)
    model[1].weight = nn.Parameter(torch.zeros(20)[first:][:16].view(4, 4))
    model[1].weight.untyped_storage().resize_(64 if first else 0)  # in the former case as large as the elements are
    with pytest.raises(ValueError, match=r"1\.weight: .*memory is not there"):
        fastinit.initialize_(model, seed=0, device=place)


def test_elements_that_share_memory_are_named_among_many():
    model = many(3)
    model[1].weight = nn.Parameter(torch.zeros(16).as_strided((4, 4), (1, 1)))
    with pytest.raises(ValueError, match=r"1\.weight: elements of the tensor share memory"):
        fastinit.initialize_(model, seed=0, overwrite_constants=True)


def test_wrappers_and_buffers_among_many_keep_their_names():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.module = nn.Linear(4, 4), nn.Linear(4, 4)

    report = fastinit.initialize_(Odd(), seed=0)
    assert report.filled == ["head.weight", "head.bias", "weight", "bias"]
    layers = many(3)
    layers[1].register_buffer("scale", nn.Parameter(torch.zeros(4)))
    scheme = fastinit.Scheme({nn.Linear: {"weight": fastinit.normal_, "bias": fastinit.zeros_, "scale": fastinit.ones_}})
    report = fastinit.initialize_(layers, scheme, seed=0)
    assert report["1.scale"].kind == "buffer" and layers[1].scale.tolist() == [1.0] * 4 and len(report.filled) == 7


def test_what_lies_in_a_module_that_is_left_is_left_also_among_many():
    class Odd(nn.LazyLinear):
        def __init__(self):
            super().__init__(4)
            self.inner = nn.Linear(4, 4)

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), Odd())
    report = fastinit.initialize_(model, fastinit.keras_like.override({Odd: None}), seed=0)
    assert report.filled == ["0.weight", "0.bias", "1.weight", "1.bias"] and report.left == ["2.inner.weight", "2.inner.bias"]


def test_complex_parameters_among_many():
    model = many(3)
    model[1].weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.complex64))
    fastinit.initialize_(model, fastinit.Scheme({nn.Linear: {"weight": fastinit.normal_, "bias": fastinit.ones_}}), seed=0)
    expected = fastinit.normal_(torch.empty(4, 4, dtype=torch.complex64), key=fastinit.key(0, "1.weight"))
    assert torch.equal(model[1].weight, expected) and all(layer.bias.tolist() == [1.0] * 4 for layer in model)


def test_what_is_partitioned_is_named_among_many():
    model = many(3)
    model[2].weight.ds_id, model[2].weight.ds_shape = 3, model[2].weight.shape
    model[2].weight.data = torch.empty(0)
    with pytest.raises(ValueError, match=r"2\.weight: DeepSpeed's ZeRO-3 has partitioned it"):
        fastinit.initialize_(model, seed=0)


def test_entries_are_made_when_they_are_read_and_hold_no_model():
    model = many(2)
    alive = weakref.ref(model[0].weight)
    report = fastinit.initialize_(model, seed=0)
    assert "entries" not in vars(report)
    same = copy.deepcopy(report), pickle.loads(pickle.dumps(report))
    model.half()  # the report is of what was filled
    assert report.entries is report.entries and "entries" in vars(report) and {e.dtype for e in report.entries} == {"float32"}
    assert [report, report] == [*same] and hash(report) == hash(same[0]) and report != fastinit.initialize_(many(2), seed=1)
    assert repr(report).startswith("Report(seed=0, entries=(Entry(name='0.weight', shape=(4, 4)")
    assert type(report.entries[0].shape) is tuple
    with pytest.raises(AttributeError, match="'Report' object has no attribute 'entry'"):
        report.entry  # noqa: B018
    del model
    assert alive() is None


@pytest.mark.parametrize("enabled", [True, False])
def test_the_search_for_cycles_is_on_or_off_as_it_was(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        seen = []
        watch = {"weight": lambda tensor: (seen.append(gc.isenabled()), tensor.fill_(1.0)), "bias": None}
        fastinit.initialize_(many(1), fastinit.Scheme({nn.Linear: watch}), seed=0)
        assert seen and not any(seen) and gc.isenabled() is enabled
        with pytest.raises(ValueError, match="no rule"):
            fastinit.initialize_(many(1), fastinit.Scheme({}), seed=0)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_a_small_bias_with_two_equal_values_is_no_constant():
    """Of four drawn values of 16 bits two are equal now and then."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 300))
    with torch.no_grad():
        model[0].bias[1] = model[0].bias[0]
    fastinit.initialize_(model.bfloat16(), fastinit.gpt2_like(3), seed=0)
    assert not model[0].bias.any()


@pytest.mark.parametrize("hooked", [False, True])
def test_what_leaves_meta_is_the_object_it_was_with_its_attributes_and_hooks(hooked):
    with torch.device("meta"):
        model = many(2)
    parameter, calls = model[0].weight, []
    if hooked:
        parameter.register_hook(calls.append)
        parameter.note = "kept"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    fastinit.initialize_(model, seed=0, device="cpu")
    expected = many(2)
    fastinit.initialize_(expected, seed=0)
    assert model[0].weight is parameter and type(parameter) is nn.Parameter and parameter.requires_grad
    assert all(torch.equal(values, bits(expected)[name]) for name, values in bits(model).items())
    assert parameter.is_contiguous() and parameter.device.type == "cpu"
    assert getattr(parameter, "note", None) == ("kept" if hooked else None)
    model[0](torch.ones(1, 4)).sum().backward()
    before = parameter.detach().clone()
    optimizer.step()
    assert not torch.equal(before, parameter) and len(calls) == hooked


def test_modules_of_torch_are_not_asked_by_rules_for_others(monkeypatch):
    def never(module):
        raise AssertionError(f"{type(module).__name__} was looked at")

    monkeypatch.setattr(norms, "is_norm", never)
    fastinit.initialize_(many(2), seed=0)
    fastinit.initialize_(many(2), fastinit.gpt2_like(2), seed=0)


@pytest.mark.parametrize("name", ["uniform_", "normal_", "kaiming_uniform_"])
def test_a_small_tensor_that_is_negated_when_read_is_no_usual_one(name):
    function, tensor = getattr(fastinit, name), torch._neg_view(torch.zeros(4, 4))
    assert tensor.is_neg() and tensor.is_contiguous()
    assert torch.equal(function(tensor, key=1), function(torch.empty(4, 4), key=1))


def test_a_bound_that_is_a_tensor_is_read_anew():
    """What is kept by a function's arguments is not kept by those that may change."""
    bound, tensor = torch.tensor(1.0), torch.empty(64)
    assert fastinit.uniform_(tensor, b=bound, key=1).max() > 0.5
    bound.fill_(0.25)
    assert fastinit.uniform_(tensor, b=bound, key=1).max() <= 0.25


WITHOUT_PLACES = {
    "sparse": (lambda: torch.eye(4).to_sparse(), "a tensor of layout torch.sparse_coo"),
    "compressed": (lambda: torch.eye(4).to_sparse_csr(), "a tensor of layout torch.sparse_csr"),
    "nested": (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "a nested tensor"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("place", [None, "cpu"])
@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("kind", WITHOUT_PLACES)
def test_parameters_without_places_for_their_elements_are_named(kind, number, place):
    make, told = WITHOUT_PLACES[kind]
    model = many(3)
    model[number].weight = nn.Parameter(make())
    before = bits(model[1])
    with pytest.raises(ValueError, match=rf"nothing was written:\n  {number}\.weight: {told}"):
        fastinit.initialize_(model, seed=0, device=place)
    assert all(torch.equal(values, before[name]) for name, values in bits(model[1]).items())
    with pytest.raises(ValueError, match=rf"{number}\.weight: {told}"):
        fastinit.perturb_(model, fastinit.normal_, seed=0, add=0.1)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("kind", WITHOUT_PLACES)
def test_a_rule_none_leaves_what_cannot_be_filled(kind):
    class Odd(nn.Module):
        def __init__(self, *, buffer):
            super().__init__()
            self.weight = nn.Parameter(WITHOUT_PLACES[kind][0]())
            if buffer:
                self.register_buffer("table", WITHOUT_PLACES[kind][0]())

    model = nn.Sequential(many(2), Odd(buffer=False), Odd(buffer=True), Odd(buffer=False))
    report = fastinit.initialize_(model, fastinit.keras_like.override({Odd: None}), seed=0)
    assert report.filled == [f"0.{number}.{name}" for number in range(2) for name in ("weight", "bias")] and not report.missed


def test_a_failed_fill_names_what_it_may_have_written(monkeypatch):
    def fail(plans):
        raise RuntimeError("out of order")

    with torch.device("meta"):
        absent = many(1)
    monkeypatch.setattr(cpu, "fill", fail)
    with pytest.raises(RuntimeError, match=r"failed: out of order\. Written, perhaps in part: 0\.weight, 0\.bias\.$"):
        fastinit.initialize_(many(1), seed=0)
    with pytest.raises(RuntimeError, match=r"failed: out of order\. The model is as it was\.$"):
        fastinit.initialize_(absent, seed=0, device="cpu")
    assert absent[0].weight.is_meta


def test_a_backend_that_cannot_serve_is_told_before_anything_is_written(monkeypatch):
    def refuse(device):
        raise RuntimeError(f"none serves {device}")

    monkeypatch.setattr(_fill, "choose", refuse)
    with torch.device("meta"):
        absent = many(1)
    for model, place in ((many(1), None), (many(1), "cpu"), (absent, "cpu")):
        with pytest.raises(RuntimeError, match=r"^none serves cpu$"):
            fastinit.initialize_(model, seed=0, device=place)
    assert absent[0].weight.is_meta


def test_what_is_where_it_goes_stays_where_it_is():
    model, expected = many(2), many(2)
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    report = fastinit.initialize_(model, seed=0, device="cpu")
    assert report == fastinit.initialize_(expected, seed=0)
    assert addresses == [parameter.data_ptr() for parameter in model.parameters()]
    assert all(torch.equal(values, bits(expected)[name]) for name, values in bits(model).items())


def test_autograd_learns_of_every_write():
    model = many(2)
    product = (model[1].weight * model[1].weight).sum()
    fastinit.initialize_(model, seed=0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


@pytest.mark.parametrize("size", [4, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int32, torch.complex64])
def test_constants_of_any_size_are_torchs(size, dtype):
    ours, theirs = torch.full((size,), 3, dtype=dtype), torch.full((size,), 3, dtype=dtype)
    calls = [("zeros_", ()), ("ones_", ()), *(("constant_", (value,)) for value in (0.0, -0.0, 0.1, 1, True, -2.5, 0, -0.0, 0.0))]
    for name, arguments in calls:
        if dtype is torch.int32 and arguments and isinstance(arguments[0], float):
            continue
        assert getattr(fastinit, name)(ours, *arguments) is ours
        getattr(nn.init, name)(theirs, *arguments)
        whole, other = (torch.view_as_real(x) if x.is_complex() else x for x in (ours, theirs))
        assert torch.equal(whole, other) and torch.equal(torch.signbit(whole), torch.signbit(other)), (name, arguments)


def test_constants_are_written_where_torch_writes_and_draw_nothing():
    state = torch.get_rng_state()
    parameter = nn.Parameter(torch.full((4,), 7.0))
    square = (parameter * parameter).sum()
    fastinit.zeros_(parameter)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.backward()
    parameter._is_hf_initialized = True
    with pytest.warns(UserWarning, match="left as it is"):
        fastinit.ones_(parameter)
    assert not parameter.any() and torch.equal(state, torch.get_rng_state())
    with torch.inference_mode():
        held = torch.full((4,), 7.0)
    assert fastinit.constant_(held, 0.5).tolist() == [0.5] * 4
    with pytest.raises(ValueError, match="within the range"):
        fastinit.constant_(torch.empty(2, dtype=torch.float16), 1e6)
    with pytest.raises(TypeError, match="key"):
        fastinit.zeros_(torch.empty(2), key="one")
