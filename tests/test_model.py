"""initialize_: keys by name, one batch, ties, meta models, refusals, failures, and the report."""

import copy
import json
from functools import partial

import pytest
import torch
from helpers.laws import same_bits
from helpers.models import Network, bits, on_meta, poisoned
from helpers.quick import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations

import fastinit
from fastinit._backends import cpu
from fastinit._core.check import FLOAT_DTYPES


def equal(first, second):
    return first.keys() == second.keys() and all(same_bits(first[name], second[name]) for name in first)


# --- names and keys -----------------------------------------------------------------------------------------------------------


def test_a_parameter_has_the_values_of_the_key_of_its_name():
    model = poisoned(Network())
    report = fastinit.initialize_(model, seed=5)
    expected = fastinit.glorot_uniform_(torch.empty(12, 4, 3), key=fastinit.key(5, "convolution.weight"))
    assert same_bits(model.convolution.weight.detach(), expected)
    expected = fastinit.orthogonal_(torch.empty(48, 12), key=fastinit.key(5, "lstm.weight_hh_l0"))
    assert same_bits(model.lstm.weight_hh_l0.detach(), expected)
    expected = fastinit.uniform_(torch.empty(30, 12), -0.05, 0.05, key=fastinit.key(5, "embedding.weight"))
    expected[2] = 0
    assert same_bits(model.embedding.weight.detach(), expected)
    assert model.lstm.bias_ih_l0.detach().view(4, 12).mean(1).tolist() == [0, 1, 0, 0]
    assert model.norm.running_var.tolist() == [1] * 12 and model.norm.num_batches_tracked == 0
    assert not any((tensor == 7).any() for tensor in model.state_dict().values())
    assert report["convolution.weight"].key == fastinit.key(5, "convolution.weight")


def test_values_depend_neither_on_order_nor_on_other_parameters():
    model = Network()
    fastinit.initialize_(model, seed=1)
    other = nn.Module()
    for name in ("attention", "embedding", "head", "norm", "lstm", "convolution"):
        other.add_module(name, copy.deepcopy(getattr(model, name)))
    other.head.weight = other.embedding.weight
    other.extra = nn.Linear(5, 5)
    fastinit.initialize_(poisoned(other), seed=1)
    expected, found = bits(model), bits(other)
    assert all(same_bits(expected[name], found[name]) for name in expected if name != "head.weight")
    fastinit.initialize_(poisoned(other.lstm), seed=1, prefix="lstm.")
    assert equal(bits(other.lstm), bits(model.lstm))
    report = fastinit.initialize_(other.lstm, seed=1, prefix="module.lstm")
    assert equal(bits(other.lstm), bits(model.lstm)) and report.entries[0].name == "lstm.weight_ih_l0"
    fastinit.initialize_(other.lstm, seed=2, prefix="lstm")
    assert not same_bits(other.lstm.weight_ih_l0.detach(), model.lstm.weight_ih_l0.detach())


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda model: nn.Sequential(checkpoint_wrapper(model))])
def test_names_are_those_without_wrappers(wrap):
    model = Network()
    expected = fastinit.initialize_(model, seed=1)
    values = bits(model)
    wrapped = wrap(poisoned(model))
    report = fastinit.initialize_(wrapped, seed=1, prefix="m" if isinstance(wrapped, nn.Sequential) else "")
    if isinstance(wrapped, nn.Sequential):
        assert report.entries[0].name == "m.0.convolution.weight"
    else:
        assert report == expected and equal(bits(model), values)


def test_two_parameters_of_one_canonical_name_are_refused():
    model = nn.Module()
    model.weight = nn.Parameter(torch.full((2,), 7.0))
    model.module = nn.LayerNorm(2)
    with pytest.raises(ValueError, match="weight: two parameters have this name"):
        fastinit.initialize_(model, seed=0, strict=False)
    assert (model.weight == 7).all()


@settings(max_examples=examples(25))
@given(st.data())
def test_the_same_bits_in_any_order_dtype_threads_and_company(data):
    layers = {
        "linear": lambda: nn.Linear(33, 7),
        "conv": lambda: nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last),
        "norm": lambda: nn.LayerNorm(9),
        "embedding": lambda: nn.Embedding(11, 5),
        "deep": lambda: nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 300))),
    }
    names = data.draw(st.permutations(sorted(layers)))[: data.draw(st.integers(1, 5))]
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]))
    seed, threads = data.draw(st.integers(-(2**70), 2**70)), data.draw(st.integers(1, 4))
    scheme = fastinit.gpt2_like(3)
    whole = nn.ModuleDict({name: make() for name, make in sorted(layers.items())}).to(dtype)
    fastinit.initialize_(whole, scheme, seed=seed)
    part = poisoned(nn.ModuleDict({name: layers[name]() for name in names})).to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fastinit.initialize_(part, scheme, seed=seed)
    finally:
        torch.set_num_threads(before)
    expected, found = bits(whole), bits(part)
    assert all(same_bits(found[name], expected[name]) for name in found)
    if dtype in (torch.bfloat16, torch.float16):  # normals have no bounds: rounding is all there is
        wide = nn.ModuleDict({name: layers[name]() for name in names})
        fastinit.initialize_(wide, scheme, seed=seed)
        assert equal(bits(wide.to(dtype)), found)


def test_twice_is_once_and_torch_s_generator_is_not_used():
    model = Network()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    fastinit.initialize_(model, seed=3)
    first = bits(model)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    fastinit.initialize_(poisoned(model), seed=3)
    assert equal(bits(model), first)


# --- batches ------------------------------------------------------------------------------------------------------------------


def test_one_call_of_the_backend_fills_all_laws_and_constants(monkeypatch):
    model = nn.Sequential(nn.Linear(9, 9), nn.BatchNorm1d(9), nn.Conv1d(3, 3, 3), nn.LayerNorm(9)).bfloat16()
    model.append(nn.Linear(4, 4))
    calls = []
    fill = cpu.fill
    monkeypatch.setattr(cpu, "fill", lambda plans: (calls.append(len(plans)), fill(plans)))
    fastinit.initialize_(poisoned(model), seed=0)
    assert calls == [12]
    assert not any((tensor == 7).any() for tensor in model.state_dict().values())


@pytest.mark.one_of_each
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1 / 3, 1e-30, 65504.0, -0.0, float("inf"), float("nan"), 2])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_batched_constants_have_the_bits_of_fill(value, dtype):
    if abs(value) > torch.finfo(dtype).max and (value < float("inf") or dtype is torch.float8_e4m3fn):
        value = torch.finfo(dtype).max
    model = nn.Module()
    model.weight = nn.Parameter(torch.full((37,), 7.0).to(dtype))
    fastinit.initialize_(model, fastinit.Scheme({nn.Module: {"weight": partial(fastinit.constant_, val=value)}}), seed=0)
    assert same_bits(model.weight.detach(), torch.empty(37, dtype=dtype).fill_(value))


def test_initializers_of_one_s_own_get_the_key_or_a_seeded_generator():
    def with_key(tensor, *, key=None):
        keys.append(key)
        return fastinit.normal_(tensor, key=key)

    keys = []
    scheme = fastinit.Scheme(
        {
            "0.weight": with_key,
            "1.weight": lambda tensor: tensor.copy_(torch.randn(tensor.shape)),
            "2.weight": lambda tensor: fastinit.normal_(tensor),
            "3.weight": partial(fastinit.normal_, key=9),
            "4.weight": partial(fastinit.normal_, generator=torch.Generator().manual_seed(4)),
            "*.bias": None,
        }
    )
    model = poisoned(nn.Sequential(*(nn.Linear(5, 6) for _ in range(5))))
    state = torch.get_rng_state()
    fastinit.initialize_(model, scheme, seed=0)
    assert torch.equal(torch.get_rng_state(), state) and keys == [fastinit.key(0, "0.weight")]
    first = bits(model)
    assert same_bits(first["3.weight"], fastinit.normal_(torch.empty(6, 5), key=9))
    assert same_bits(first["4.weight"], fastinit.normal_(torch.empty(6, 5), generator=torch.Generator().manual_seed(4)))
    torch.manual_seed(fastinit.key(0, "1.weight"))
    assert same_bits(first["1.weight"], torch.randn(6, 5))
    torch.randn(3)
    fastinit.initialize_(model, scheme, seed=0)
    second = bits(model)
    assert not same_bits(second.pop("4.weight"), first.pop("4.weight"))  # its generator's next draw
    assert equal(first, second)


def test_layouts_versions_and_empty_parameters():
    plain, last = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    fastinit.initialize_(plain, seed=0)
    version = last.weight._version
    fastinit.initialize_(last, seed=0)
    assert same_bits(plain.weight.detach(), last.weight.detach()) and last.weight._version > version
    assert last.weight.requires_grad and last.weight.grad_fn is None and not last.weight.is_contiguous()
    fastinit.initialize_(nn.Linear(0, 3), seed=0)
    assert len(fastinit.initialize_(nn.Sequential(nn.ReLU()), seed=0).entries) == 0
    with torch.inference_mode():
        fastinit.initialize_(nn.Linear(3, 3), seed=0)


def test_a_view_that_is_negated_when_it_is_read():
    model = nn.Linear(5, 4, bias=False)
    model.weight = nn.Parameter(torch.full((4, 5), 7.0 + 7.0j).conj().imag)
    assert model.weight.is_neg()
    fastinit.initialize_(model, fastinit.gpt2_like(1), seed=0)
    expected = fastinit.normal_(torch.empty(4, 5), std=0.02, key=fastinit.key(0, "weight"))
    assert same_bits(model.weight.detach().resolve_neg(), expected)


# --- ties ---------------------------------------------------------------------------------------------------------------------


def shared(weight):
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    model[1].weight = weight(model[0].weight)
    return model


@pytest.mark.parametrize("weight", [lambda w: w, lambda w: nn.Parameter(w.data), lambda w: nn.Parameter(w.data.t())])
def test_tied_weights_are_filled_once_under_the_first_name(weight):
    model = poisoned(shared(weight))
    report = fastinit.initialize_(model, seed=0)
    alone = nn.Sequential(nn.Linear(6, 6, bias=False))
    fastinit.initialize_(alone, seed=0)
    assert same_bits(model[0].weight.detach(), alone[0].weight.detach())
    assert report.filled == ["0.weight"] and report.tied == ["1.weight"] and report["1.weight"].source == "0.weight"


def test_a_part_goes_with_the_whole_and_overlaps_are_refused():
    memory = torch.full((100,), 7.0)
    model = nn.ParameterList([memory[10:20], memory[5:50], memory[60:]])
    report = fastinit.initialize_(model, fastinit.Scheme({nn.ParameterList: {"*": fastinit.normal_}}), seed=0)
    assert report["0"].source == "1" and report.filled == ["1", "2"]
    assert same_bits(memory[5:50], fastinit.normal_(torch.empty(45), key=fastinit.key(0, "1")))
    model = nn.ParameterList([memory.fill_(7)[10:20], memory[15:50]])
    with pytest.raises(ValueError, match="1 and 0 share a part"):
        fastinit.initialize_(model, fastinit.Scheme({nn.ParameterList: {"*": fastinit.normal_}}), seed=0)
    assert (memory == 7).all()


def test_of_tied_parameters_the_first_rule_counts():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.full((6, 6), 7.0))
            self.head = nn.Linear(6, 6, bias=False)
            self.head.weight = self.table

    model = Own()
    report = fastinit.initialize_(model, seed=0)
    assert report["table"].initializer == "glorot_uniform_" and report["table"].key == fastinit.key(0, "table")


# --- what no rule covers ------------------------------------------------------------------------------------------------------


class Scaled(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)
        self.gamma = nn.Parameter(torch.full((3,), 7.0))
        self.offset = nn.Parameter(torch.full((3,), 7.0))


def test_strict_names_all_that_is_missed_before_anything_is_written():
    model = poisoned(nn.Sequential(nn.Linear(3, 3), Scaled(), nn.ParameterList([torch.zeros(2)])))
    before = bits(model)
    with pytest.raises(ValueError) as error:
        fastinit.initialize_(model, seed=0)
    for part in ("1.gamma (parameter of Scaled, float32", "1.offset", "2.0", "override"):
        assert part in str(error.value)
    assert "1.weight" not in str(error.value) and equal(bits(model), before)
    report = fastinit.initialize_(model, seed=0, strict=False)
    assert report.missed == ["1.gamma", "1.offset", "2.0"]
    assert (model[1].gamma == 7).all() and not (model[0].weight == 7).any()
    scheme = fastinit.keras_like.override({Scaled: {"gamma": fastinit.ones_, "offset": None}, nn.ParameterList: None})
    report = fastinit.initialize_(model, scheme, seed=0)
    assert report.left == ["1.offset", "2.0"] and (model[1].gamma == 1).all() and not report.missed


def test_integer_parameters_are_missed():
    model = nn.Linear(3, 3)
    model.weight = nn.Parameter(torch.full((3, 3), 7, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"weight \(parameter of Linear, int8"):
        fastinit.initialize_(model, seed=0)
    assert fastinit.initialize_(model, seed=0, strict=False).missed == ["weight"] and (model.weight == 7).all()


def test_bad_arguments_of_an_initializer_name_the_parameter():
    model = poisoned(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    normal, uniform = fastinit.normal_, fastinit.uniform_
    for initializer in (partial(normal, std=-1.0), partial(uniform, a=1.0, b=0.0), partial(normal, mean="a")):
        with pytest.raises((TypeError, ValueError), match=r"^1\.weight: .*Received.*nothing was written"):
            fastinit.initialize_(model, fastinit.keras_like.override({"1.weight": initializer}), seed=0)
    with pytest.raises(ValueError, match=r"^0\.bias: fans need at least two"):
        fastinit.initialize_(model, fastinit.keras_like.override({"*.bias": fastinit.glorot_uniform_}), seed=0)
    with pytest.raises(TypeError, match=r"^0\.weight: .*unexpected keyword"):
        fastinit.initialize_(model, fastinit.keras_like.override({"*.weight": partial(fastinit.normal_, sigma=2)}), seed=0)
    with pytest.raises(ValueError, match=r"^1\.bias: orthogonal_ needs at least two"):
        fastinit.initialize_(model, fastinit.keras_like.override({"1.bias": fastinit.orthogonal_}), seed=0)
    table = nn.Embedding(4, 3, padding_idx=0)
    with pytest.raises(ValueError, match=r"^weight: std must not be negative"):
        fastinit.initialize_(table, fastinit.keras_like.override({"weight": partial(normal, std=-1.0)}), seed=0)
    model[1].weight = nn.Parameter(torch.full((1, 3), 7.0).expand(3, 3))
    with pytest.raises(ValueError, match=r"^1\.weight: elements of the tensor share memory"):
        fastinit.initialize_(model, seed=0)
    assert all((tensor == 7).all() for tensor in model.parameters())


def test_wrong_arguments():
    model = nn.Linear(2, 2)
    for arguments, kind in (
        ({"model": torch.zeros(3)}, TypeError),
        ({"scheme": fastinit.normal_}, TypeError),
        ({"seed": 0.5}, TypeError),
        ({"prefix": None}, TypeError),
        ({"device": "meta"}, ValueError),
        ({"reset_buffers": 3}, TypeError),
    ):
        with pytest.raises(kind, match="Received"):
            fastinit.initialize_(**{"model": model, "seed": 0, **arguments})
    with pytest.raises(TypeError, match="seed"):
        fastinit.initialize_(model)


# --- meta ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_meta_model_is_materialised_with_the_same_bits(dtype):
    expected = Network().to(dtype)
    scheme = fastinit.keras_like.override({"convolution.weight": fastinit.glorot_uniform_})  # which is frozen
    report = fastinit.initialize_(expected, scheme, seed=4)
    model = on_meta(lambda: Network().to(dtype))
    model.convolution.weight.requires_grad_(False)
    model.convolution.weight.tag = "kept"
    assert fastinit.initialize_(model, scheme, seed=4, device="cpu") == report
    assert equal(bits(model), bits(expected)) and model.head.weight is model.embedding.weight
    assert isinstance(model.head.weight, nn.Parameter) and model.convolution.weight.tag == "kept"
    assert not model.convolution.weight.requires_grad and model.head.weight.requires_grad
    model.convolution(torch.zeros(1, 4, 9, dtype=dtype)).sum().backward()


def test_only_what_is_on_meta_gets_new_memory():
    model = nn.Sequential(nn.Linear(3, 3), on_meta(lambda: nn.Linear(3, 3)))
    kept, address = model[0].weight, model[0].weight.data_ptr()
    fastinit.initialize_(model, seed=0, device="cpu")
    assert model[0].weight is kept and kept.data_ptr() == address and not model[1].weight.is_meta


def test_tied_views_on_meta_are_views_of_the_new_memory():
    model = on_meta(lambda: shared(lambda w: nn.Parameter(w.data.t())))
    fastinit.initialize_(model, seed=0, device="cpu")
    assert model[1].weight.data_ptr() == model[0].weight.data_ptr() and torch.equal(model[1].weight, model[0].weight.t())


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("frequencies", self.computed(), persistent=False)
        self.register_buffer("mask", torch.ones(4, 4).tril().bool())

    def computed(self):
        return 1.0 / 10000 ** (torch.arange(0, 4, 2, device="cpu" if hasattr(self, "frequencies") else None) / 4)


def test_buffers_that_nobody_can_compute_are_named_and_those_a_callback_knows_are_set():
    model = on_meta(Rotary)
    with pytest.raises(ValueError) as error:
        fastinit.initialize_(model, seed=0, device="cpu")
    assert all(name in str(error.value) for name in ("frequencies (buffer of Rotary", "mask", "reset_buffers"))
    assert model.linear.weight.is_meta
    asked = []

    def reset(module, name):
        asked.append((module, name))
        return module.computed().double() if name == "frequencies" else None

    with pytest.raises(ValueError, match="mask") as error:
        fastinit.initialize_(model, seed=0, device="cpu", reset_buffers=reset)
    assert "frequencies" not in str(error.value) and asked == [(model, "frequencies"), (model, "mask")]
    report = fastinit.initialize_(model, seed=0, device="cpu", reset_buffers=lambda module, name: getattr(Rotary(), name))
    assert torch.equal(model.frequencies, Rotary().frequencies) and torch.equal(model.mask, Rotary().mask)
    assert report["mask"].initializer == "reset_buffers" and "frequencies" in model._non_persistent_buffers_set
    for values, message in ((torch.zeros(3), "shape"), ("zeros", "tensor or None"), (torch.zeros(2, device="meta"), "on meta")):
        with pytest.raises((TypeError, ValueError), match=message):
            fastinit.initialize_(on_meta(Rotary), seed=0, device="cpu", reset_buffers=lambda *_, values=values: values)


def test_running_statistics_start_anew_under_any_scheme():
    scheme = fastinit.Scheme({nn.BatchNorm1d: {"weight": fastinit.ones_, "bias": fastinit.zeros_}})
    for model in (poisoned(nn.BatchNorm1d(3)), on_meta(lambda: nn.BatchNorm1d(3))):
        fastinit.initialize_(model, scheme, seed=0, device="cpu")
        assert model.running_mean.tolist() == [0] * 3 and model.running_var.tolist() == [1] * 3
        assert model.num_batches_tracked == 0


def test_meta_needs_a_device_and_rules():
    with pytest.raises(ValueError, match=r"(?s)weight \(parameter of Linear.*bias"):
        fastinit.initialize_(on_meta(lambda: nn.Linear(2, 2)), seed=0)
    for scheme in (fastinit.Scheme({}), fastinit.Scheme({nn.Linear: None})):
        with pytest.raises(ValueError, match="nobody knows"):
            fastinit.initialize_(on_meta(lambda: nn.Linear(2, 2)), scheme, seed=0, device="cpu", strict=False)


def test_fake_models_stay_fake():
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.LSTM(3, 3))
        report = fastinit.initialize_(model, seed=0)
    assert len(report.filled) == 8 and isinstance(model[0].weight.data, FakeTensor)


# --- refusals and failures ----------------------------------------------------------------------------------------------------


class Subclass(nn.Parameter):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return super().__torch_function__(function, types, args, kwargs or {})


def odd_models():
    lazy = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))
    yield lazy, r"1 \(LazyLinear\): its parameters have no shapes"
    spectral = parametrizations.spectral_norm(nn.Linear(2, 2))
    yield nn.Sequential(nn.Linear(2, 2), spectral), r"1 \(ParametrizedLinear\).*_SpectralNorm"
    hooked = torch.nn.utils.spectral_norm(nn.Linear(2, 2))
    yield nn.Sequential(nn.Linear(2, 2), hooked), r"1 \(Linear\): SpectralNorm's hook"
    converted = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    converted[1].weight = Subclass(torch.zeros(2, 2))
    yield converted, r"1\.weight: Subclass is no plain tensor"
    quantised = nn.Sequential(nn.Linear(2, 2), nn.Module())
    quantised[1].__class__ = type("Linear", (nn.Module,), {"__module__": "torch.ao.nn.quantized.modules.linear"})
    yield quantised, r"1 \(Linear\): its weights are quantized"


@pytest.mark.parametrize("number", range(5))
def test_odd_modules_are_refused_by_name(number):
    model, message = list(odd_models())[number]
    with torch.no_grad():
        model[0].weight.fill_(7)
    with pytest.raises(ValueError, match=message):
        fastinit.initialize_(model, seed=0)
    assert (model[0].weight == 7).all()


def test_modules_that_cannot_be_initialised_may_be_left():
    class Spectral(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(2, 2), parametrizations.spectral_norm(Spectral(2, 2)), nn.LazyConv1d(3, 3))
    before = bits(model[1])
    report = fastinit.initialize_(model, fastinit.keras_like.override({Spectral: None, nn.LazyConv1d: None}), seed=0)
    assert report.filled == ["0.weight", "0.bias"] and "1.parametrizations.weight.original" in report.left
    assert equal(before, bits(model[1])) and model[2].has_uninitialized_params()


def test_the_real_quantised_linear_is_refused():
    torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
    from torch.ao.nn.quantized import Linear

    with pytest.raises(ValueError, match="quantized and packed"):
        fastinit.initialize_(nn.Sequential(Linear(3, 3)), seed=0)


def test_weights_under_weight_norm_are_set_through_its_inverse():
    plain = nn.Sequential(nn.Linear(5, 4))
    fastinit.initialize_(plain, seed=0)
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 4)))
    report = fastinit.initialize_(model, seed=0)
    torch.testing.assert_close(model[0].weight, plain[0].weight, rtol=1e-6, atol=0)
    assert report.filled == ["0.bias", "0.weight"] and report["0.weight"].key == fastinit.key(0, "0.weight")
    model[0](torch.ones(5)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    shared = nn.Sequential(model[0], model[0])
    assert fastinit.initialize_(shared, seed=0).filled == ["0.bias", "0.weight"]
    meta = on_meta(lambda: parametrizations.weight_norm(nn.Linear(5, 4)))
    with pytest.raises(ValueError, match="parametrized, on meta"):
        fastinit.initialize_(meta, seed=0, device="cpu")


def test_a_failing_initializer_is_reported_with_what_was_written():
    def fails(tensor):
        raise OSError("no such file")

    scheme = fastinit.keras_like.override({"2.weight": fails, "0.weight": fastinit.orthogonal_})
    model = poisoned(nn.Sequential(*(nn.Linear(3, 3) for _ in range(4))))
    with pytest.raises(RuntimeError, match=r"no such file.*in part: 0\.weight, 2\.weight\.$"):
        fastinit.initialize_(model, scheme, seed=0)
    written = {name for name, tensor in model.state_dict().items() if not (tensor == 7).all()}
    assert written == {"0.weight"}
    meta = on_meta(lambda: nn.Sequential(*(nn.Linear(3, 3) for _ in range(4))))
    with pytest.raises(RuntimeError, match="The model is as it was"):
        fastinit.initialize_(meta, scheme, seed=0, device="cpu")
    assert all(parameter.is_meta for parameter in meta.parameters())


def test_a_batch_that_a_backend_refuses_is_reported(monkeypatch):
    def refuses(plans):
        raise RuntimeError("the native library refused a plan")

    monkeypatch.setattr(cpu, "fill", refuses)
    model = poisoned(nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(RuntimeError, match=r"refused a plan.*in part: 0\.weight, 0\.bias\.$"):
        fastinit.initialize_(model, seed=0)
    meta = on_meta(lambda: nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="The model is as it was"):
        fastinit.initialize_(meta, seed=0, device="cpu")
    assert meta.weight.is_meta


# --- report -------------------------------------------------------------------------------------------------------------------


def test_the_report_prints_and_is_json():
    model = Network()
    model.extra = nn.Parameter(torch.zeros(()))
    report = fastinit.initialize_(model, seed=0, strict=False)
    lines = str(report).splitlines()
    assert lines[0].split() == ["name", "shape", "dtype", "state", "by"]
    key = fastinit.key(0, "convolution.weight")
    row = next(line for line in lines if line.startswith("convolution.weight"))
    assert row.split() == ["convolution.weight", "12x4x3", "float32", "filled", "glorot_uniform_,", "key", f"{key:016x}"]
    assert any(line.split() == ["head.weight", "30x12", "float32", "tied", "as", "embedding.weight"] for line in lines)
    assert any("row 2 zero" in line for line in lines) and lines[-1] == f"seed 0: {len(report.filled)} filled, 1 tied, 1 missed"
    data = json.loads(report.json())
    assert data["seed"] == 0 and len(data["entries"]) == len(report.entries)
    entry = next(entry for entry in data["entries"] if entry["name"] == "convolution.weight")
    assert int(entry["key"], 16) == key and entry["shape"] == [12, 4, 3] and entry["state"] == "filled"
    assert report["norm.running_mean"].kind == "buffer" and report["norm.running_mean"].key is None
    with pytest.raises(KeyError):
        report["nothing"]
    names = {name for name, _ in [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]}
    assert {entry.name for entry in report.entries} == names
