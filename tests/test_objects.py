"""initialize_ keeps the parameters that optimizers, hooks and ties hold: what gets new memory stays the object that it was."""

import contextlib
import os
import weakref

import pytest
import torch
import torch.distributed as dist
from helpers.laws import same_bits
from helpers.models import Network, on_meta
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import fastinit
from fastinit._model import materialize, planner, tasks
from fastinit._model.slots import Slot


@contextlib.contextmanager
def conversion(way):
    """One of torch.__future__'s ways of Module.to, inside a `with` block: "swap", "overwrite" or None."""
    put = {"swap": torch.__future__.set_swap_module_params_on_conversion}
    put = put.get(way, torch.__future__.set_overwrite_module_params_on_conversion)
    put(way is not None)
    try:
        yield
    finally:
        put(False)


@pytest.fixture
def all_move(monkeypatch):
    """As if every tensor had to change its device: the second device of a machine that has one."""
    for module in (tasks, planner):
        monkeypatch.setattr(module, "moves", lambda slot, place: True)


def layers():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def step_changes(model, optimizer):
    before = model(torch.ones(2, 6))
    before.sum().backward()
    optimizer.step()
    return not torch.equal(model(torch.ones(2, 6)), before)


def held(model):
    return list(model.parameters())


def same_objects(model, before):
    return [new is old for new, old in zip(model.parameters(), before, strict=True)]


# --- identity -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [None, "swap"])
def test_an_optimizer_made_on_meta_trains_what_was_materialised(way):
    model = on_meta(layers)
    before, optimizer = held(model), torch.optim.SGD(model.parameters(), lr=0.5)
    with conversion(way):
        fastinit.initialize_(model, seed=0, device="cpu")
    assert all(same_objects(model, before)) and all(type(p) is nn.Parameter and p.is_leaf for p in before)
    expected = layers()
    fastinit.initialize_(expected, seed=0)
    assert all(map(same_bits, held(expected), before))
    assert step_changes(model, optimizer)


@pytest.mark.parametrize("make", [layers, lambda: on_meta(layers)])
def test_parameters_are_overwritten_where_torch_overwrites_them(make, all_move):
    model = make()
    before = held(model)
    with conversion("overwrite"):
        fastinit.initialize_(model, seed=0, device="cpu")
    assert not any(same_objects(model, before)) and not any(p.is_meta for p in model.parameters())


@pytest.mark.parametrize("way", [None, "swap"])
def test_what_moves_stays_the_same_object_and_takes_its_gradient_along(way, all_move):
    model = layers()
    before, addresses = held(model), [p.data_ptr() for p in model.parameters()]
    for parameter in before[:2]:
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with conversion(way):
        fastinit.initialize_(model, seed=0, device="cpu")
    assert all(same_objects(model, before)) and all(p.data_ptr() != old for p, old in zip(before, addresses, strict=True))
    assert (before[0].grad == 3).all() and before[3].grad is None
    optimizer.zero_grad()
    assert step_changes(model, optimizer)


def test_what_is_loaded_moves_and_keeps_its_values(all_move):
    model = layers()
    model[0].weight._is_hf_initialized = True
    values, address = model[0].weight.detach().clone(), model[0].weight.data_ptr()
    report = fastinit.initialize_(model, seed=0, device="cpu")
    assert report.loaded == ["0.weight"] and torch.equal(model[0].weight, values) and model[0].weight.data_ptr() != address


def test_a_gradient_on_meta_is_dropped():
    model = on_meta(layers)
    model[0].weight.grad = torch.zeros_like(model[0].weight)
    fastinit.initialize_(model, seed=0, device="cpu")
    assert model[0].weight.grad is None


@pytest.mark.parametrize("way", [None, "swap"])
def test_ties_and_attributes_stay_and_weights_of_recurrent_layers(way):
    model = on_meta(Network)
    tied, frozen = model.head.weight, model.convolution.weight.requires_grad_(False)
    tied.tag = frozen.tag = "kept"
    model.norm._buffers["running_mean"] = model.norm.bias  # one object, as a parameter and as a buffer
    before = held(model)
    with conversion(way):
        named = fastinit.keras_like.override({"convolution.weight": fastinit.glorot_uniform_})  # else a frozen one is left
        fastinit.initialize_(model, named, seed=4, device="cpu")
    assert all(same_objects(model, before))
    model.lstm(torch.ones(2, 12))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.lstm.parameters())
    assert model.head.weight is model.embedding.weight is tied and tied.tag == frozen.tag == "kept"
    assert model.convolution.weight is frozen and not frozen.requires_grad and tied.requires_grad
    assert model.norm.running_mean is model.norm.bias and not model.norm.bias.is_meta
    expected = Network()
    fastinit.initialize_(expected, seed=4)
    assert all(map(same_bits, held(expected), held(model)))


def test_views_stay_objects_and_views_of_the_new_memory():
    model = on_meta(lambda: nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(3))))
    view = model[1].weight = model[2].weight = nn.Parameter(model[0].weight.data.t())
    view.tag = "kept"
    fastinit.initialize_(model, seed=0, device="cpu")
    assert model[1].weight is model[2].weight is view and view.tag == "kept"
    assert view.data_ptr() == model[0].weight.data_ptr() and same_bits(view.detach(), model[0].weight.detach().t())


@pytest.mark.parametrize("way", [None, "swap", "overwrite"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_subclass_of_parameters_keeps_its_class(way, device):
    class Own(nn.Parameter):
        pass

    module = nn.Linear(2, 2, device=device)
    old = module.weight = Own(module.weight.data)
    with conversion(way):
        new = materialize.fresh(old, torch.device("cpu"))
        assert type(new) is nn.Parameter  # what backends fill
        new.data.fill_(7)
        materialize.install([(Slot("weight", module, "weight", old, None), new)])
    assert type(module.weight) is Own and (module.weight == 7).all()
    assert (module.weight is old) == (way != "overwrite")


def test_fake_models_that_move_arrive():
    with FakeTensorMode():
        model = layers()
        fastinit.initialize_(model, seed=0, device="cuda")
    assert model[0].weight.device.type == "cuda" and isinstance(model[0].weight, nn.Parameter)


# --- hooks --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [None, "swap"])
@pytest.mark.parametrize("make", [layers, lambda: on_meta(layers)])
def test_hooks_of_parameters_run_and_can_be_removed(make, way, all_move):
    model, ran = make(), []
    weight = model[0].weight
    handles = [
        weight.register_hook(lambda grad: ran.append("hook")),
        weight.register_post_accumulate_grad_hook(lambda parameter: ran.append(parameter)),
    ]
    with conversion(way):
        fastinit.initialize_(model, seed=0, device="cpu")
    model(torch.ones(1, 6)).sum().backward()
    assert ran[0] == "hook" and ran[1] is weight and len(ran) == 2
    for handle in handles:
        handle.remove()
    model(torch.ones(1, 6)).sum().backward()
    assert len(ran) == 2


# --- what cannot be swapped ---------------------------------------------------------------------------------------------------


def weakly_held(model):
    return weakref.ref(model[2].weight)


def graph_of(model):
    return model(torch.ones(1, 6, device="meta"))


def part_of(model):
    return model[2].weight[0]


@pytest.mark.parametrize("hold", [weakly_held, graph_of, part_of])
def test_what_is_held_is_replaced_as_torch_would_or_refused_where_torch_fails(hold):
    model = on_meta(layers)
    before, holds = held(model), hold(model)
    with conversion("swap"), pytest.raises(ValueError, match=r"(?s)^2\.weight: it must stay.*nothing was written"):
        fastinit.initialize_(model, seed=0, device="cpu")
    assert all(same_objects(model, before)) and all(p.is_meta for p in before)
    report = fastinit.initialize_(model, seed=0, device="cpu")
    assert len(report.filled) == 4 and not any(p.is_meta for p in model.parameters())
    assert before[2].is_meta and model[2].weight is not before[2] and model[0].weight is before[0]
    del holds


def test_a_view_that_is_held_is_refused_where_torch_fails():
    model = on_meta(lambda: nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(3))))
    model[2].weight = nn.Parameter(model[0].weight.data.t())
    before, holds = held(model), weakly_held(model)
    with conversion("swap"), pytest.raises(ValueError, match=r"2\.weight shares memory with 0\.weight: it must stay"):
        fastinit.initialize_(model, seed=0, device="cpu")
    assert all(same_objects(model, before)) and all(p.is_meta for p in before) and holds() is before[2]


def test_a_node_that_accumulates_gradients_is_no_hindrance():
    model = on_meta(layers)
    before = held(model)
    node = torch.autograd.graph.get_gradient_edge(model[0].weight).node
    with conversion("swap"):
        fastinit.initialize_(model, seed=0, device="cpu")
    assert all(same_objects(model, before)) and node is not None


# --- FSDP2 --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mesh():
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("way", [None, "swap", "overwrite"])
def test_an_optimizer_made_before_a_sharded_model_had_memory_trains_it(mesh, way):
    model = on_meta(layers)
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    before, optimizer = held(model), torch.optim.SGD(model.parameters(), lr=0.5)
    with conversion(way):
        fastinit.initialize_(model, seed=0, device="cpu")
        assert all(same_objects(model, before))
        assert step_changes(model, optimizer)


def test_a_shard_that_is_held_is_refused(mesh):
    model = on_meta(layers)
    fully_shard(model, mesh=mesh)
    holds = weakly_held(model)
    with pytest.raises(ValueError, match=r"^2\.weight: it must stay the same object"):
        fastinit.initialize_(model, seed=0, device="cpu")
    assert all(p.is_meta for p in model.parameters()) and holds() is not None
