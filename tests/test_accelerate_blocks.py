"""Blocks of `accelerate` that do not close as they opened; what is captured in one; what can be decorated."""

import asyncio
import contextvars
import copy
import dataclasses
import functools
import gc
import inspect
import io
import pickle
import threading
import types

import pytest
import torch
from helpers.serving import CALLS, CAPTURED, MODULE, call, expected, own, parameter
from torch import nn
from torch.overrides import TorchFunctionMode

from fastinit._accelerate import accelerate
from fastinit._torch import is_summoned

pytestmark = pytest.mark.usefixtures("nothing_of_accelerate_stays")
REPLACED = ["xavier_uniform_", "xavier_normal_", "kaiming_normal_", "orthogonal_", "sparse_", "_no_grad_trunc_normal_"]


def place_of():
    """Which (seed, n) two fills took, one of a routed function and one of a replaced one; None, if torch drew."""
    first, second = nn.init.normal_(parameter(), 0.5, 2.0), nn.init.xavier_normal_(parameter(), 2.0)
    for seed in range(1, 5):
        for n in range(8):
            if torch.equal(first, expected("normal_", seed, n)):
                assert torch.equal(second, expected("xavier_normal_", seed, n + 1))
                return seed, n
    for seed in range(1, 5):
        assert not any(torch.equal(second, expected("xavier_normal_", seed, n)) for n in range(9))
    return None


def in_thread(function):
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


def block(seed):
    with accelerate(seed=seed):
        while True:
            yield place_of()


# --- blocks -------------------------------------------------------------------------------------------------------------------


def test_the_innermost_open_block_decides_in_whatever_order_they_close():
    first, second, third = block(1), block(2), block(3)
    assert [next(first), next(second), next(third)] == [(1, 0), (2, 0), (3, 0)]
    second.close()
    assert place_of() == (3, 2)
    third.close()
    assert place_of() == (1, 2)
    first.close()
    assert place_of() is None


def test_one_object_closes_its_latest_block_first():
    one, other = accelerate(seed=1), accelerate(seed=2)
    one.__enter__(), other.__enter__(), one.__enter__()
    assert place_of() == (1, 0)
    one.__exit__(None, None, None)
    assert place_of() == (2, 0)
    other.__exit__(None, None, None)
    assert place_of() == (1, 0)
    one.__exit__(None, None, None)
    assert place_of() is None
    with pytest.raises(RuntimeError, match="not open"):
        one.__exit__(None, None, None)


def test_closing_in_another_thread_and_opening_there():
    one, other = accelerate(seed=1), accelerate(seed=2)
    one.__enter__()
    assert in_thread(lambda: (other.__enter__(), place_of())[1]) == (2, 0)
    in_thread(lambda: one.__exit__(None, None, None))
    assert place_of() is None
    other.__exit__(None, None, None)  # of a thread that is gone
    assert in_thread(place_of) is None and not MODULE.opened
    with one:
        assert place_of() == (1, 0)
    assert not is_summoned(MODULE.thread.router)


def test_a_thread_s_own_block_is_closed_by_it():
    """Though another thread has opened one of the same object since."""
    one, opened, closed = accelerate(seed=1), threading.Event(), threading.Event()

    def work():
        with one:
            opened.set()
            closed.wait(10)
            places.append(place_of())

    places, thread = [], threading.Thread(target=work)
    with one:
        thread.start()
        opened.wait(10)
        places.append(place_of())
    places.append(place_of())
    closed.set()
    thread.join()
    assert places == [(1, 0), None, (1, 0)]


def test_an_abandoned_generator_closes_its_block():
    cycle = [block(1)]
    cycle.append(cycle)
    next(cycle[0])
    with accelerate(seed=2):
        del cycle
        gc.collect()
        assert place_of() == (2, 0)


class Foreign(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("foreign", [Foreign, lambda: torch.device("cpu")], ids=["mode", "device"])
def test_a_foreign_mode_above_the_block_stays(foreign):
    mine, mode = accelerate(seed=1), foreign()
    mine.__enter__()
    mode.__enter__()
    before = torch.overrides._get_current_function_mode_stack()
    with accelerate(seed=2):
        assert place_of() == (2, 0)
    assert place_of() == (1, 0)
    mine.__exit__(None, None, None)
    after = torch.overrides._get_current_function_mode_stack()
    assert len(after) == len(before) - 1 and all(each in before for each in after)
    assert place_of() is None
    mode.__exit__(None, None, None)
    assert torch.overrides._get_current_function_mode_stack() == []


class Closing(torch.autograd.Function):
    """Closes a block in the backward pass, where torch has put the mode aside that it shows `Tensor.backward`."""

    @staticmethod
    def forward(ctx, x, mine):
        ctx.mine = mine
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        ctx.mine.__exit__(None, None, None)
        return grad, None


def test_closing_inside_a_call_that_a_mode_is_shown():
    mine = accelerate(seed=1)
    mine.__enter__()
    Closing.apply(torch.ones(2, requires_grad=True), mine).sum().backward()
    assert place_of() is None
    with accelerate(seed=2):
        assert place_of() == (2, 0)


# --- contexts -----------------------------------------------------------------------------------------------------------------


def test_asyncio_tasks_have_their_own_blocks():
    async def work(seed, turns):
        with accelerate(seed=seed):
            places = []
            for _ in range(turns):
                places.append(place_of())
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        return [*places, place_of()]

    async def main():
        return await asyncio.gather(work(1, 3), work(2, 1), work(3, 2), no_block())

    async def no_block():
        await asyncio.sleep(0)
        return place_of()

    one, two, three, none = asyncio.run(main())
    assert one == [(1, 0), (1, 2), (1, 4), None] and two == [(2, 0), None] and three == [(3, 0), (3, 2), None] and none is None


def test_what_starts_in_a_block_is_served_while_it_is_open():
    async def late(gate):
        first = place_of()
        await gate.wait()
        return first, place_of()

    async def main():
        gate = asyncio.Event()
        with accelerate(seed=1):
            task = asyncio.create_task(late(gate))
            await asyncio.sleep(0)
            elsewhere = await asyncio.to_thread(place_of)
            here = place_of()
        gate.set()
        return await task, here, elsewhere

    assert asyncio.run(main()) == (((1, 0), None), (1, 2), None)  # other threads keep torch

    with accelerate(seed=1):
        context = contextvars.copy_context()
        assert context.run(place_of) == (1, 0) and in_thread(lambda: context.run(place_of)) is None
    assert context.run(place_of) is None


# --- what is captured ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Holder:
    function: object
    partial: object
    table: dict


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.fn = nn.Parameter(torch.zeros(3, 3)), nn.init.xavier_uniform_


def nested():
    with accelerate(seed=1), accelerate(seed=2):
        return [getattr(nn.init, name) for name in REPLACED]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_captured_functions_are_pickled_as_torch_s(protocol):
    taken = nested()
    again = pickle.loads(pickle.dumps(taken, protocol))
    assert all(function is getattr(nn.init, name) for name, function in zip(REPLACED, again, strict=True))
    with accelerate():
        holder = Holder(nn.init.xavier_normal_, functools.partial(nn.init.sparse_, sparsity=0.5), {nn.init.orthogonal_: 1})
        inside = pickle.loads(pickle.dumps(holder, protocol))
        assert inside.function is nn.init.xavier_normal_
    for one in (pickle.loads(pickle.dumps(holder, protocol)), copy.deepcopy(holder)):
        assert one.function is nn.init.xavier_normal_ and one.partial.func is nn.init.sparse_
        assert one.table == {nn.init.orthogonal_: 1} == holder.table and one.partial.keywords == {"sparsity": 0.5}


def test_no_name_of_this_package_is_pickled():
    with accelerate(seed=0):
        model, functions = Model(), [getattr(nn.init, name) for name in REPLACED]
    assert b"fastinit" not in pickle.dumps(functions) and b"fastinit" not in pickle.dumps(functions, 0)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=False).fn is nn.init.xavier_uniform_ is copy.deepcopy(model).fn


def test_a_captured_function_passes_for_torch_s():
    for name, function in zip(REPLACED, nested(), strict=True):
        original = getattr(nn.init, name)
        assert function == original == function and hash(function) == hash(original) and function != nn.init.zeros_
        assert inspect.signature(function) == inspect.signature(original)
        assert inspect.getsource(function) == inspect.getsource(original)
        assert (function.__name__, function.__doc__, function.__module__) == (name, original.__doc__, "torch.nn.init")
        if name in CALLS:
            ours, theirs = own(call(function, name)), own(call(CAPTURED[name], name))
            assert torch.equal(ours[0], theirs[0]) and ours[2] == theirs[2]
    assert nested() == nested() and callable(function)


def test_as_an_attribute_of_a_class_it_is_a_method():
    class Weight:
        dim = ndimension = 2

    with accelerate(seed=1):
        Weight.fill_, Weight.keep = nn.init.xavier_normal_, staticmethod(nn.init.xavier_normal_)
        bound = Weight().fill_
    assert isinstance(bound, types.MethodType) and bound.__func__ is Weight.fill_ == nn.init.xavier_normal_
    assert torch.is_tensor(Weight().keep(parameter()))
    assert type(bound.__self__) is Weight


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_captured_block_is_one_of_its_own(make):
    with accelerate(seed=1) as one:
        other = make(one)
        with other:
            assert place_of() == (1, 0)
        assert place_of() == (1, 0)


# --- what is decorated --------------------------------------------------------------------------------------------------------


async def places(turns):
    found = []
    for _ in range(turns):
        found.append(place_of())
        await asyncio.sleep(0)
    return found


class Builder:
    async def __call__(self, turns):
        return await places(turns)

    async def method(self, turns):
        return await places(turns)


COROUTINES = {
    "function": places,
    "partial": functools.partial(places),
    "partial of a partial": functools.partial(functools.partial(places)),
    "method": Builder().method,
    "object": Builder(),
}
if hasattr(inspect, "markcoroutinefunction"):
    COROUTINES["marked"] = inspect.markcoroutinefunction(lambda turns: places(turns))


@pytest.mark.parametrize("kind", COROUTINES)
def test_coroutine_functions_are_served_while_they_run(kind):
    one, other = accelerate(seed=1)(COROUTINES[kind]), accelerate(seed=2)(places)
    assert inspect.iscoroutinefunction(one)

    async def main():
        return [*await asyncio.gather(one(3), one(1), other(2)), place_of()]

    assert asyncio.run(main()) == [[(1, 0), (1, 2), (1, 4)], [(1, 0)], [(2, 0), (2, 2)], None]


def test_two_calls_of_one_decorated_coroutine_in_one_context():
    """Driven by hand: each closes its own block, also the one that was opened first."""
    make = accelerate(seed=1)(places)
    first, second = make(1), make(2)
    first.send(None), second.send(None)
    with pytest.raises(StopIteration):
        first.send(None)
    assert place_of() == (1, 2)  # the block of the second, which is open
    second.close()
    assert place_of() is None


def generates():
    yield


async def generates_later():
    yield


class Generates:
    def __call__(self):
        yield


WRONG = {
    "generator": (generates, "in its body"),
    "partial": (functools.partial(generates), "in its body"),
    "asynchronous generator": (generates_later, "in its body"),
    "object": (Generates(), "in its body"),
    "class": (Model, "__init__"),
    "static method": (staticmethod(place_of), "@staticmethod above"),
    "class method": (classmethod(place_of), "@classmethod above"),
    "none": (None, "Decorate a function"),
    "tensor": (torch.ones(2), "Decorate a function"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_decorated_is_refused_at_once(case):
    wrong, mend = WRONG[case]
    with pytest.raises(TypeError, match=mend):
        accelerate(seed=1)(wrong)


def test_a_coroutine_from_a_plain_function_is_refused():
    with pytest.raises(TypeError, match="Decorate the `async def`"):
        accelerate(seed=1)(lambda: places(1))()
