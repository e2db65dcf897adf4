"""Optimizers, weight decay, clipping and schedules: with the page's lines, torch's weights move as Keras's."""

import math
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.guide import (
    QUIET,
    ROWS,
    TEXT,
    KerasAdam,
    KerasRMSprop,
    aligned,
    array,
    assert_same,
    filled,
    keras,
    normal,
    optimizers,
)
from torch import nn

pytestmark = [pytest.mark.full, QUIET]

# The largest difference of the weights as a share of the largest move. Muon's iteration in bfloat16 is of another precision.
OPTIMIZERS = dict.fromkeys(("SGD", "RMSprop", "Adam", "Adagrad", "Adadelta", "Adamax", "Nadam", "Adafactor"), 1e-4)
OPTIMIZERS |= {"Muon": 0.02, "Adagrad": 3e-7}  # the 1e-7 in Adagrad's accumulator is 5e-7 of a step


def line(row, n=0, **names):
    """The row's n-th line as a function of the parameters."""
    return lambda params: aligned(row, n, params=params, matrices=params, **names)


def differs(theirs, make, scale, start=0.0):
    """Run both optimizers on the same gradients from the same weights; the largest difference as a share of the largest move."""
    weights = start + start * normal(5, 4, seed=9)
    variable, parameter = keras.Variable(weights), nn.Parameter(torch.tensor(weights))
    theirs.build([variable])
    mine = make([parameter])
    for step in range(12):
        gradient = scale * (1 + np.abs(normal(5, 4, seed=step))) * np.sign(normal(5, 4, seed=step + 50))
        theirs.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        parameter.grad = torch.tensor(gradient)
        mine.step()
    return np.abs(array(variable) - parameter.detach().numpy()).max() / np.abs(array(variable) - weights).max()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5])
@pytest.mark.parametrize("row", OPTIMIZERS)
def test_optimizers(row, scale):
    assert differs(getattr(optimizers, row)(), line(row), scale) < OPTIMIZERS[row]


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_of_sgd(nesterov):
    options = {"momentum": 0.9, "nesterov": nesterov}
    assert differs(optimizers.SGD(**options), lambda p: torch.optim.SGD(p, lr=0.01, **options), 1.0) < 1e-5

    def falling(params, **options):
        optimizer = torch.optim.SGD(params, lr=0.01, **options)
        optimizer.register_step_post_hook(lambda *_: optimizer.param_groups[0].update(lr=optimizer.param_groups[0]["lr"] / 2))
        return optimizer

    rates = optimizers.schedules.ExponentialDecay(0.01, 1, 0.5)
    assert differs(optimizers.SGD(rates, **options), partial(falling, **options), 1.0) > 0.1  # Keras's old steps keep their size
    assert differs(optimizers.SGD(rates), falling, 1.0) < 1e-5


def test_epsilon_of_adafactor():
    """torch's default also bounds the mean of a matrix's v: with gradients of 1e-5 it is another optimizer."""
    assert f"under {math.sqrt(torch.finfo(torch.float32).eps):.0e} feel".replace("e-0", "e-") in ROWS["Adafactor"]["torch"]
    assert differs(optimizers.Adafactor(), lambda p: torch.optim.Adafactor(p, lr=1e-3), 1e-5) > 0.05
    assert differs(optimizers.Adafactor(), lambda p: torch.optim.Adafactor(p, lr=1e-3), 1e-2) < 1e-4


def test_adamw_decays_as_it_should():
    for scale in (1.0, 1e-5):
        assert differs(optimizers.AdamW(learning_rate=0.5), lambda p: KerasAdam(p, 0.5, weight_decay=0.004), scale, 1.0) > 0.01
        assert differs(optimizers.AdamW(), line("AdamW"), scale, start=1.0) < 2e-4
    assert differs(optimizers.AdamW(), line("AdamW", 1), 1e-5, start=1.0) > 0.05  # in the first steps


def test_epsilon_of_rmsprop():
    """The table of steps at a constant gradient, the first step, and how far torch's own class is."""
    for row in [row for row in ROWS if row.startswith("g: ")]:
        g = torch.tensor([float(row[3:])])
        moved = {}
        for column, make in {
            "Keras 3": KerasRMSprop,
            "torch, eps=1e-8": partial(torch.optim.RMSprop, lr=1e-3, alpha=0.9),
            "torch, eps=3.16e-4": partial(torch.optim.RMSprop, lr=1e-3, alpha=0.9, eps=3.16e-4),
        }.items():
            parameter = nn.Parameter(torch.zeros(1))
            optimizer, parameter.grad = make([parameter]), g
            for _ in range(120):
                parameter.data.zero_()
                optimizer.step()
            moved[column] = -parameter.item() / 1e-3
        for column, share in moved.items():
            assert ROWS[row][column] == f"{share:.4f}", column
    theirs, variable = optimizers.RMSprop(), keras.Variable([0.0])
    theirs.build([variable])
    theirs.apply([torch.ones(1)], [variable])
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    torch.optim.RMSprop([parameter]).step()
    steps = -array(variable)[0], -parameter.item()
    assert (
        f"{steps[0]:.4f} with Keras's defaults, and {steps[1]:.1f} with torch's, which is {steps[1] / steps[0]:.1f} times" in TEXT
    )
    scale, share = map(float, re.search(r"for gradients over (\S+), to (\S+) %", ROWS["RMSprop"]["to align"]).groups())
    near, far = (differs(optimizers.RMSprop(), line("RMSprop", 1), size) for size in (scale, scale / 10))
    assert near < share / 100 < far


def test_epsilon_of_adam():
    for t in (1, 10, 100, 1000):
        value = f"{1e-7 / math.sqrt(1 - 0.999**t):.2e}".replace("e-0", "e-")
        assert ROWS[f"step t: {t}"]["epsilon in torch's place"] == value
    assert differs(optimizers.Adam(), line("Adam", 1), 1e-5) > 0.01
    assert differs(optimizers.Adam(), line("Adam", 1), 1.0) < 1e-4
    for row in ("Adam", "AdamW"):  # where the first steps' epsilons end
        assert aligned(row, 1, params=[nn.Parameter(torch.zeros(1))]).defaults["eps"] == 1e-7
    assert differs(optimizers.Adam(amsgrad=True), lambda p: KerasAdam(p, amsgrad=True), 1e-4) < 1e-4


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_l2_regularizer_is_twice_the_weight_decay(kind):
    x = normal(8, 3)
    layer = filled(keras.layers.Dense(2, kernel_regularizer="l2"), None, 3)
    module = nn.Linear(3, 2)
    kernel, bias = map(array, layer.get_weights())
    module.weight.data.copy_(torch.tensor(kernel).T)
    module.bias.data.copy_(torch.tensor(bias))
    names = {"kernels": [module.weight], "others": [module.bias]}
    mine = aligned('kernel_regularizer="l2"', **names)
    if kind == "Adam":
        mine = KerasAdam([{"params": module.weight, "weight_decay": 0.02}, {"params": module.bias}], lr=0.01)
    theirs = getattr(optimizers, kind)(learning_rate=0.01)
    for _ in range(3):
        for w in layer.trainable_weights:
            w.value.grad = None
        (layer(x).square().mean() + sum(layer.losses)).backward()
        with torch.no_grad():
            theirs.apply([w.value.grad for w in layer.trainable_weights], layer.trainable_weights)
        mine.zero_grad()
        module(torch.tensor(x)).square().mean().backward()
        mine.step()
    assert_same(layer.kernel, module.weight.T)
    layer = filled(keras.layers.Dense(2, kernel_regularizer="l1"), None, 3)
    assert_same(layer.losses[0], aligned('kernel_regularizer="l1"', loss=0, kernels=[torch.tensor(array(layer.kernel))]))


def test_decoupled_weight_decay():
    row = "Adam(weight_decay=w), Nadam"
    assert differs(optimizers.Nadam(weight_decay=0.1), line(row, w=0.1), 1.0, start=1.0) < 2e-4
    assert differs(optimizers.Nadam(weight_decay=0.1), line("Nadam"), 1.0, start=1.0) > 0.01
    momentum = partial(optimizers.SGD, momentum=0.9, weight_decay=0.1)

    def decaying(params):
        mine = torch.optim.SGD(params, lr=0.01, momentum=0.9)
        decay = torch.no_grad()(line("SGD(weight_decay=w) and the others", lr=0.01, w=0.1))
        mine.register_step_pre_hook(lambda *_: decay(params) and None)
        return mine

    assert differs(momentum(), decaying, 0.1, start=1.0) < 1e-4
    assert differs(momentum(), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1), 0.1, start=1.0) > 1e-3


@pytest.mark.parametrize("row", ["clipnorm=1.0", "global_clipnorm=1.0", "clipvalue=0.5"])
def test_clipping(row):
    gradients = [normal(4, 3), normal(5, seed=1) * 0.1]
    name, value = row.split("=")
    clipped = optimizers.SGD(**{name: float(value)})._clip_gradients([torch.tensor(g) for g in gradients])
    params = [nn.Parameter(torch.zeros(g.shape)) for g in gradients]
    for parameter, gradient in zip(params, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    aligned(row, params=params)
    assert not np.allclose(array(clipped[0]), gradients[0])
    for theirs, parameter in zip(clipped, params, strict=True):
        assert_same(theirs, parameter.grad)


def test_accumulated_gradients_are_averaged():
    theirs, variable = optimizers.SGD(1.0, gradient_accumulation_steps=2), keras.Variable([0.0])
    theirs.build([variable])
    for gradient in (1.0, 2.0):
        theirs.apply([torch.tensor([gradient])], [variable])
    assert array(variable)[0] == -1.5


@pytest.mark.parametrize("row", ["ExponentialDecay(lr, steps, rate)", "CosineDecay(lr, steps)"])
def test_schedules(row):
    arguments = (0.1, 6, 0.5) if "Exponential" in row else (0.1, 6)
    theirs = getattr(optimizers.schedules, row.split("(")[0])(*arguments)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = aligned(row, optimizer=optimizer, steps=6, rate=0.5)
    for t in range(10):
        assert abs(float(theirs(t)) - optimizer.param_groups[0]["lr"]) < 1e-7
        optimizer.step()
        scheduler.step()


def plateau(values):
    """The epochs in which Keras's callback, the page's scheduler and torch's default reduce the rate first."""
    model = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=1.0))
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", mode="min")
    callback.set_model(model)
    callback.on_train_begin()
    mine, usual = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(2))
    schedulers = aligned("ReduceLROnPlateau", optimizer=mine), torch.optim.lr_scheduler.ReduceLROnPlateau(usual)
    rates = []
    for epoch, loss in enumerate(values):
        callback.on_epoch_end(epoch, {"loss": loss})
        for scheduler in schedulers:
            scheduler.step(loss)
        rates.append((model.optimizer.learning_rate, mine.param_groups[0]["lr"], usual.param_groups[0]["lr"]))
    return [next((epoch for epoch, rate in enumerate(column) if rate < 1), None) for column in zip(*rates, strict=True)]


def test_plateau():
    reduced = plateau([5.0, 4.0] + [3.99995] * 20)
    assert reduced[0] == reduced[1]
    assert f"after {reduced[0] - 1} epochs" in ROWS["ReduceLROnPlateau"]["Keras 3"]
    assert f"after {reduced[2] - 1} epochs" in ROWS["ReduceLROnPlateau"]["torch"]
    assert plateau([40.0 - 2e-4 * epoch for epoch in range(15)]) == [None, None, 11]  # 2e-4 is over 1e-4, not over 1e-4 of 40
