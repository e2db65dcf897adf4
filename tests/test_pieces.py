"""Large fills go in pieces: between them Ctrl-C is heard, and memory for copies is bounded. The cut changes no value."""

import itertools
import signal

import pytest
import torch
from helpers.laws import LAWS, same_bits
from torch import nn

import fastinit
from fastinit._backends import cpu
from fastinit._core.plan import Box, Plan, batches
from fastinit._core.recipes import recipe

SHAPE = (5, 3, 7, 4)
LAYOUTS = {
    "contiguous": lambda memory: memory[: 5 * 3 * 7 * 4].view(SHAPE),
    "transposed": lambda memory: memory[: 5 * 3 * 7 * 4].view(4, 7, 3, 5).permute(3, 2, 1, 0),
    "gaps": lambda memory: memory[: 10 * 3 * 7 * 8].view(10, 3, 7, 8)[::2, :, :, 1::2],
    "odd start": lambda memory: memory[3 : 3 + 5 * 3 * 7 * 4].view(SHAPE),
}
BOXES = [Box(0, 1, 420, 420), Box(5, 1, 420, 420), Box(2, 5, 84, 100), Box(9, 15, 28, 28), Box(4, 105, 4, 12)]


def plan_of(layout, box, dtype=torch.float32):
    memory = torch.full((2000,), -7.0).to(dtype)
    return Plan(LAYOUTS[layout](memory), recipe(LAWS["uniform"], dtype), 3, box), memory


@pytest.mark.parametrize("most", [1, 4, 6, 28, 100, 419, 420])
def test_the_cut_changes_no_value_and_writes_nothing_else(most):
    for layout, box in itertools.product(LAYOUTS, BOXES):
        plan, memory = plan_of(layout, box)
        whole, expected = plan_of(layout, box)
        cpu.fill([whole])
        for together in batches([plan], most):
            assert 0 < sum(part.out.numel() for part in together) <= most
            assert all(part.out.numel() == part.box.rows * part.box.cols for part in together)
            cpu.fill(together)
        assert torch.equal(memory, expected), (layout, box)


def test_plans_stay_in_order_and_go_together():
    sizes = (3, 5, 1, 30, 2, 0, 9)
    plans = [Plan(torch.empty(n), recipe(LAWS["uniform"], torch.float32), 0, Box(0, 1, n, n)) for n in sizes]
    lists = [[part.out.numel() for part in together] for together in batches(plans, 10)]
    assert lists == [[3, 5, 1], [10], [10], [10], [2, 0], [9]]
    assert list(batches(plans[:3], 10)) == [plans[:3]]  # as they are


class Interrupting:
    """The library, with Ctrl-C during one of its calls; Python raises KeyboardInterrupt when that one has returned."""

    def __init__(self, library, at):
        self.library, self.at, self.elements = library, at, []

    def fastinit_fill(self, raw, count, threads, isa):
        status = self.library.fastinit_fill(raw, count, threads, isa)
        self.elements.append(getattr(count, "value", count))
        if len(self.elements) == self.at:
            signal.raise_signal(signal.SIGINT)
        return status


@pytest.fixture
def interrupting(monkeypatch):
    def make(at):
        library = Interrupting(cpu.library(), at)
        monkeypatch.setattr(cpu, "library", lambda: library)
        monkeypatch.setattr(cpu, "_fill_unchecked", lambda: library.fastinit_fill)
        monkeypatch.setattr(cpu, "AT_ONCE", 1000)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        return library

    return make


def test_ctrl_c_is_heard_between_pieces(interrupting):
    expected = fastinit.normal_(torch.empty(5500), key=1)
    library = interrupting(at=3)
    tensor = torch.full((5500,), -7.0)
    with pytest.raises(KeyboardInterrupt):
        fastinit.normal_(tensor, key=1)
    assert library.elements == [1, 1, 1]
    assert same_bits(tensor[:3000], expected[:3000]) and (tensor[3000:] == -7).all()
    library.at = 0
    assert same_bits(fastinit.normal_(nn.Parameter(tensor), key=1).detach(), expected) and len(library.elements) == 9


def test_ctrl_c_is_heard_while_a_model_is_filled(interrupting):
    model = nn.ParameterList(nn.Parameter(torch.full((600,), -7.0)) for _ in range(5))
    library = interrupting(at=2)
    with pytest.raises(KeyboardInterrupt):
        fastinit.initialize_(model, fastinit.Scheme({"*": fastinit.normal_}), seed=0)
    assert len(library.elements) == 2 and (model[4] == -7).all() and not (model[1] == -7).any()


def test_small_fills_and_models_take_one_call(interrupting):
    library = interrupting(at=0)
    fastinit.normal_(torch.empty(1000))
    fastinit.initialize_(nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9)), seed=0)
    assert library.elements == [1, 4]
