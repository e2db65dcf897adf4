"""from_constructor: buffers, parameters that no rule fills, and plain attributes take what a construction on the CPU writes."""

import contextlib
import random
import threading
from collections import namedtuple
from functools import partial

import numpy as np
import pytest
import torch
from helpers.laws import same_bits
from helpers.meshes import rank_of, split_by_torch
from helpers.models import on_meta, poisoned
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import fully_shard

import fastinit
from fastinit._torch import without_torch_function

normal_ = partial(fastinit.normal_, std=0.02)
SCHEME = fastinit.Scheme({kind: {"weight*": normal_, "bias*": fastinit.zeros_} for kind in (nn.Linear, nn.Embedding, nn.LSTM)})
Pair = namedtuple("Pair", "one other")


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.up, self.gate = nn.Linear(n, n), nn.Linear(n, n + 1)
        nn.init.constant_(self.gate.weight, 0.25)
        self.token = nn.Parameter(torch.randn(1, n))
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, n + 1)).repeat(2, 1))
        self.register_buffer("frequencies", 1e4 ** (torch.arange(n) / -n), persistent=False)
        self.register_buffer("angles", torch.polar(torch.ones(2), self.frequencies[:2]).view(1, 2))


class Model(nn.Module):
    """A little of each that public models have."""

    def __init__(self, n=6, layers=2):
        super().__init__()
        self.layers = nn.ModuleList(Block(n) for _ in range(layers))
        self.lstm, self.table = nn.LSTM(n, n), nn.Embedding(5, n + 2)
        self.table.weight.requires_grad_(False)
        self.scale = nn.Parameter(torch.full((n,), 1e-5))
        self.register_buffer("mask", torch.ones(n, n).tril().bool())
        self.register_buffer("index", torch.arange(n).unsqueeze(1) - torch.arange(n))
        self.count, self.steps = torch.full((3,), 7.0), [torch.arange(3), (torch.ones(2), "word", [torch.zeros(())])]
        self.cache, self.pair = {"k": torch.eye(2), 3: None}, Pair(torch.tensor([2]), None)
        self.none = torch.zeros(0, 3)
        self.steps.append(self.steps)
        self.same, self.turned, self.weights = self.index, self.scale.data[:2], [layer.up.weight for layer in self.layers]


def everything(model):
    plain = {"count": model.count, "0": model.steps[0], "1": model.steps[1][0], "2": model.steps[1][2][0], "k": model.cache["k"]}
    plain |= {"one": model.pair.one, "same": model.same, "turned": model.turned} | dict(enumerate(model.weights))
    return {**dict(model.named_parameters()), **dict(model.named_buffers()), **plain}


def cast(model, dtype):
    return (
        model
        if dtype is torch.float32
        else model._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
    )


def equal(one, other):
    return one.keys() == other.keys() and all(same_bits(one[name].detach(), other[name].detach()) for name in one)


class Counted:
    """A build, and what of each model that it made is on meta."""

    def __init__(self, make):
        self.make, self.on_meta = make, []

    def __call__(self):
        model = self.make()
        with without_torch_function():  # which would show that this asks
            self.on_meta.append({name for name, tensor in model.named_parameters() if tensor.is_meta})
        return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_call_on_meta_gives_what_a_construction_gives(dtype):
    expected, model, build = cast(Model(), dtype), on_meta(lambda: cast(Model(), dtype)), Counted(Model)
    scheme = SCHEME.override({"layers.*.gate.weight": None, "table.weight": None})
    with torch.device("meta"):
        report = fastinit.initialize_(model, scheme, seed=3, device="cpu", reset_buffers=fastinit.from_constructor(build))
    assert len(build.on_meta) == 1 and "layers.0.up.weight" in build.on_meta[0] and "lstm.weight_hh_l0" in build.on_meta[0]
    found, whole = everything(model), everything(expected)
    assert not any(tensor.is_meta for tensor in found.values())
    assert [tensor.dtype for tensor in found.values()] == [tensor.dtype for tensor in whole.values()]
    drawn = {name for name in found if report_says(report, name, "normal_(std=0.02)", "zeros_") or name in (0, 1)}
    chance = {f"layers.{i}.token" for i in range(2)} | {"table.weight"}
    assert all(same_bits(found[name].detach(), whole[name].detach()) for name in found.keys() - drawn - chance)
    assert all(found[name].any() for name in chance) and len(drawn) == 12
    assert model.weights[1] is model.layers[1].up.weight and model.same is model.index
    turned = [] if dtype is torch.float32 else ["turned"]  # whom `to` has parted
    assert turned or model.turned.data_ptr() == model.scale.data_ptr()
    assert model.steps[2] is model.steps
    assert isinstance(model.pair, Pair) and model.steps[1][1] == "word" and model.none.shape == (0, 3) and not model.none.is_meta
    names = [entry.name for entry in report.entries if entry.kind == "plain attribute"]
    assert names == ["count", "steps[0]", "steps[1][0]", "steps[1][2][0]", "cache['k']", "pair[0]", "none", *turned]
    assert not report.missed and report["scale"].state == "filled" and report["scale"].initializer == "as constructed"
    again = poisoned(cast(Model(), dtype))
    plain = {name: tensor for name, tensor in everything(again).items() if name in ("count", "k")}
    real = fastinit.initialize_(again, scheme, seed=3, reset_buffers=fastinit.from_constructor(Model))
    kept = {
        name for name, _ in again.named_parameters() if name in ("table.weight", "layers.0.gate.weight", "layers.1.gate.weight")
    }
    assert set(real.left) == kept and all((again.get_parameter(name) == 7).all() for name in kept)
    assert all(everything(again)[name] is tensor for name, tensor in plain.items())
    names = [*dict(again.named_parameters()), *dict(again.named_buffers())]
    assert all(same_bits(again.state_dict()[name], found[name]) for name in again.state_dict() if name not in kept)
    assert len(names) == len(report.entries) - 7 - len(turned)


def report_says(report, name, *by):
    return any(entry.name == name and entry.initializer in by for entry in report.entries)


# --- a light build, and a whole one -------------------------------------------------------------------------------------------


class Derived(nn.Module):
    def __init__(self, derive):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        nn.init.constant_(self.linear.weight, 0.5)
        self.register_buffer("table", torch.ones(3))
        derive(self)
        self.token = nn.Parameter(torch.randn(3))


def replaced(model):
    model.table = model.linear.weight[1].detach() + 1


def asked(model):
    model.table.fill_(float(model.linear.weight.std()))


def mixed(model):
    model.table.mul_(model.linear.weight[1])  # in torch no error: the table keeps what it had


def suppressed(model):
    with contextlib.suppress(RuntimeError):
        model.table.copy_(model.table + model.linear.weight[1])


def seeded(model):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        nn.init.normal_(model.linear.weight)
        model.table.normal_()


@pytest.mark.parametrize("derive", [replaced, asked, mixed, suppressed, seeded])
def test_what_depends_on_matrices_is_built_with_them(derive):
    build, model = Counted(partial(Derived, derive)), on_meta(partial(Derived, lambda model: None))
    fastinit.initialize_(model, SCHEME, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(build))
    assert build.on_meta[-1] == set() and 1 <= len(build.on_meta) <= 2
    assert same_bits(model.table, Derived(derive).table)
    light, build = on_meta(light_build), Counted(light_build)
    fastinit.initialize_(light, SCHEME, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(build))
    assert build.on_meta == [{"linear.weight"}]
    assert same_bits(model.token.detach(), light.token.detach()), "a draw does not depend on which build it is of"


def light_build():
    return Derived(lambda model: None)


def test_the_hook_is_this_build_s_and_this_thread_s():
    seen = []

    def build():
        thread = threading.Thread(target=lambda: seen.append(nn.Linear(2, 2).weight.is_meta))
        thread.start()
        thread.join()
        seen.append(nn.Linear(2, 2).weight.is_meta)
        return Model()

    fastinit.initialize_(on_meta(Model), SCHEME, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(build))
    assert seen == [False, True] and not nn.Linear(2, 2).weight.is_meta


class Deliberate(nn.Module):
    """What a scheme by type would overwrite; `trunc_normal_` leaves its draws out on meta, a part and a draw are no constants."""

    def __init__(self):
        super().__init__()
        self.gate, self.zero, self.cut, self.part, self.drawn = (nn.Linear(4, 4) for _ in range(5))
        self.norm, self.last, self.table = nn.BatchNorm1d(4), nn.LayerNorm(4), nn.Embedding(3, 4)
        nn.init.constant_(self.gate.bias, -3.0)
        nn.init.zeros_(self.last.weight)
        for layer in (self.zero, self.cut, self.drawn):
            layer.weight.detach().zero_()
        nn.init.trunc_normal_(self.cut.weight)
        nn.init.normal_(self.drawn.weight)
        nn.init.zeros_(self.part.weight[1:].detach())


def test_what_a_constructor_sets_on_purpose_stays_on_meta_as_it_does_in_a_constructed_model():
    expected, model = Deliberate(), on_meta(Deliberate)
    build = Counted(Deliberate)
    whole = fastinit.initialize_(expected, seed=0, reset_buffers=fastinit.from_constructor(Deliberate))
    report = fastinit.initialize_(model, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(build))
    kept = [entry.name for entry in report.entries if entry.initializer == "as constructed"]
    assert kept == ["gate.bias", "zero.weight", "last.weight"] and len(build.on_meta) == 1
    assert report == whole and equal(dict(model.named_parameters()), dict(expected.named_parameters()))
    options = {"device": "cpu", "reset_buffers": fastinit.from_constructor(Deliberate), "overwrite_constants": True}
    model = on_meta(Deliberate)
    fastinit.initialize_(model, seed=0, **options)
    assert model.zero.weight.std() > 0.1 and (model.last.weight == 1).all() and not model.gate.bias.any()
    mine = fastinit.keras_like.override({"zero.weight": fastinit.ones_})
    model = on_meta(Deliberate)
    fastinit.initialize_(model, mine, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(Deliberate))
    assert (model.zero.weight == 1).all() and not model.last.weight.any()


# --- chance -------------------------------------------------------------------------------------------------------------------


class Chance(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.other = nn.Linear(3, 3), nn.Linear(30, 40)
        self.token = nn.Parameter(torch.cat([torch.randn(3), torch.rand_like(torch.ones(3)), torch.randperm(3) / 3]))
        self.spectrum = nn.Parameter(torch.tensor([random.random(), np.random.rand()]))
        self.cut = nn.Parameter(torch.empty(40, 30))
        nn.init.trunc_normal_(self.other.weight)
        nn.init.trunc_normal_(self.cut)
        self.dropped = nn.Parameter(nn.functional.dropout(torch.ones(64)))
        self.last = nn.Parameter(torch.empty(5).exponential_())


def chance(seed=0, scheme=SCHEME, build=Chance):
    model = on_meta(Chance)
    states = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    fastinit.initialize_(model, scheme, seed=seed, device="cpu", reset_buffers=fastinit.from_constructor(build))
    assert states == (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())
    return {name: tensor for name, tensor in model.named_parameters() if "." not in name}


def test_what_nobody_names_depends_on_the_seed_alone():
    torch.manual_seed(1)
    one = chance()
    torch.manual_seed(2)
    for other in (chance(), chance(scheme=fastinit.Scheme({nn.Linear: {"weight": None, "bias": None}}))):
        assert equal(one, other)
    assert not any(torch.equal(one[name], tensor) for name, tensor in chance(seed=1).items())
    with torch.no_grad(), fastinit.accelerate(seed=0):
        assert equal(one, chance())


def test_blocks_around_do_not_serve_it_and_those_in_it_do(fills):
    with fastinit.accelerate(seed=0):
        chance(scheme=fastinit.Scheme({}))
        assert fills == []
        nn.Linear(2, 2)
        assert len(fills) == 2
        chance(scheme=fastinit.Scheme({}), build=fastinit.accelerate(seed=4)(lambda: Chance()))
        assert len(fills) > 2


# --- where the values go ------------------------------------------------------------------------------------------------------


class Table(nn.Module):
    def __init__(self, dtype=torch.float64, *shape):
        super().__init__()
        self.register_buffer("values", torch.full(shape, 1 + 2.0**-8 + 2.0**-40, dtype=dtype))


def test_values_are_rounded_once():
    model = on_meta(partial(Table, torch.bfloat16, 3))
    fastinit.initialize_(model, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(partial(Table, torch.float64, 3)))
    assert model.values.tolist() == [1 + 2.0**-7] * 3


def test_the_part_and_the_whole_are_found_by_names_without_wrappers():
    for build in (lambda: Block(6), Model):
        whole = Model()
        part = on_meta(lambda: nn.Sequential(checkpoint_wrapper(Block(6))))[0]
        fastinit.initialize_(
            part, SCHEME, seed=0, device="cpu", prefix="layers.1", reset_buffers=fastinit.from_constructor(build)
        )
        assert same_bits(part._checkpoint_wrapped_module.A_log.detach(), whole.layers[1].A_log.detach())
    wrapped = fastinit.from_constructor(lambda: nn.Sequential(checkpoint_wrapper(Block(6))))
    model = on_meta(lambda: nn.DataParallel(nn.Sequential(Block(6))))
    fastinit.initialize_(model, SCHEME, seed=0, device="cpu", reset_buffers=wrapped)
    assert same_bits(model.module[0].A_log.detach(), Block(6).A_log.detach())


def test_shards_take_their_part():
    rank = 3
    build = fastinit.from_constructor(lambda: Block(7))
    expected = on_meta(lambda: Block(7))
    fastinit.initialize_(expected, SCHEME, seed=2, device="cpu", reset_buffers=build)
    with rank_of((5,), rank) as mesh:
        model = on_meta(lambda: Block(7))
        fully_shard(model, mesh=mesh)
        fastinit.initialize_(model, SCHEME, seed=2, device="cpu", reset_buffers=build)
        for name, parameter in model.named_parameters():
            shard = split_by_torch(expected.get_parameter(name).detach(), (5,), parameter.placements, (rank,))
            assert same_bits(parameter.to_local().detach(), shard), name
        assert same_bits(model.frequencies, expected.frequencies)
        model = on_meta(Model)
        for layer in model.layers:
            fully_shard(layer, mesh=mesh)
        with pytest.raises(ValueError, match=r"weights\[0\]: a plain attribute that is a parameter there"):
            fastinit.initialize_(model, SCHEME, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(Model))
        assert model.scale.is_meta


def test_what_is_frozen_or_missed_in_real_memory_is_set_and_what_is_loaded_stays():
    model, frozen = poisoned(Model()), fastinit.Scheme({nn.Linear: {"*": fastinit.zeros_}})
    model.scale._is_hf_initialized = True
    report = fastinit.initialize_(model, frozen, seed=0, reset_buffers=fastinit.from_constructor(Model))
    assert (model.scale == 7).all() and report.loaded == ["scale"] and not (model.table.weight == 7).any()
    assert same_bits(model.layers[0].A_log.detach(), Model().layers[0].A_log.detach()) and same_bits(model.mask, Model().mask)


# --- errors -------------------------------------------------------------------------------------------------------------------


class Smaller(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.layers = nn.Parameter(torch.zeros(2)), nn.ModuleList([nn.Linear(2, 2)])
        self.register_buffer("mask", torch.zeros(6, 6))
        self.count = "three"


def fails():
    raise OSError("no such file")


@pytest.mark.parametrize(
    ("build", "kind", "words"),
    [
        (lambda: None, TypeError, r"must return a torch\.nn\.Module\. Received: None"),
        (fails, RuntimeError, r"build\(\) failed: no such file \(OSError\)"),
        (
            Smaller,
            ValueError,
            r"(?s)made a Smaller that does not fit the model, a Model.*scale: shape \(2,\) instead of \(6,\).*"
            r"mask: torch.float32 instead of torch.bool.*layers\.0\.token: there is none.*count: there is a str",
        ),
    ],
)
def test_a_wrong_build_is_an_error(build, kind, words):
    model = on_meta(Model)
    with pytest.raises(kind, match=words):
        fastinit.initialize_(model, SCHEME, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(build))
    assert all(tensor.is_meta for tensor in everything(model).values())


def test_what_is_no_build():
    for build in (None, 3, nn.Linear(2, 2)):
        with pytest.raises(TypeError, match=r"takes a function that builds the model\. Received"):
            fastinit.from_constructor(build)
    assert "Model" in repr(fastinit.from_constructor(Model))


# --- plain attributes ---------------------------------------------------------------------------------------------------------


def test_plain_attributes_are_named_asked_for_and_set():
    """Before anything is written; a rule None, and how to mend it all, are named too."""
    model, asked = on_meta(Model), []
    scheme = SCHEME.override({Block: {"*": fastinit.ones_}, Model: {"scale": None}})

    def known(module, name):
        asked.append(name)
        return torch.zeros(1) if name == "pair[0]" else None

    with pytest.raises(ValueError, match=r"steps\[1\]\[2\]\[0\] \(plain attribute of Model, float32, shape \(\)\)") as error:
        fastinit.initialize_(model, scheme, seed=0, device="cpu", reset_buffers=known)
    assert {"count", "cache['k']", "steps[0]", "mask"} < set(asked) and "pair" not in str(error.value)
    why = ("shape (6,)): its rule is None", "shape (5, 8)): it is frozen", "fastinit.from_constructor(lambda: ")
    assert all(words in str(error.value) for words in ("count (plain", "cache['k'] (plain", *why))
    assert "same" not in str(error.value) and "weights" not in str(error.value) and model.lstm.weight_ih_l0.is_meta
    whole = Model()
    names = {"steps[0]": whole.steps[0], "steps[1][0]": whole.steps[1][0], "steps[1][2][0]": whole.steps[1][2][0]}
    names |= {"cache['k']": model.cache["k"], "pair[0]": whole.pair.one}

    def given(module, name):
        return names[name] if name in names else getattr(whole, name, None) if module is model else getattr(whole.layers[0], name)

    scheme = scheme.override({Model: {"scale": fastinit.ones_}, "table.weight": fastinit.ones_})
    report = fastinit.initialize_(model, scheme, seed=0, device="cpu", reset_buffers=given)
    assert model.cache["k"].is_meta and "cache['k']" in report.left, "a callback may leave a plain attribute on meta"
    assert torch.equal(model.count, whole.count) and report["count"].initializer == "reset_buffers"
    assert model.same is model.index and torch.equal(model.index, whole.index) and model.weights[0] is model.layers[0].up.weight


def test_plain_attributes_of_models_with_memory_stay():
    model = nn.Linear(2, 2)
    model.placeholder = torch.empty(3, device="meta")
    fastinit.initialize_(model, seed=0)
    assert model.placeholder.is_meta


def test_a_plain_attribute_that_holds_parameters_is_named():
    def make():
        model = nn.Module()
        model.flat = torch.zeros(8)
        model.one, model.other = nn.Parameter(model.flat[:4]), nn.Parameter(model.flat[4:].view(2, 2))
        return model

    with pytest.raises(ValueError, match="one is a part of flat, a plain attribute"):
        fastinit.initialize_(
            on_meta(make),
            fastinit.Scheme({nn.Module: {"*": fastinit.ones_}}),
            seed=0,
            device="cpu",
            reset_buffers=lambda *_: None,
        )


def test_what_its_constructor_leaves_on_meta_stays_there():
    def make():
        model = nn.Linear(2, 2)
        model.probe = torch.empty(3, device="meta")
        return model

    model = on_meta(make)
    fastinit.initialize_(model, seed=0, device="cpu", reset_buffers=fastinit.from_constructor(make))
    assert model.probe.is_meta and not model.weight.is_meta
