"""The optimizers of the study: torch's, with torch's constants and with Keras's, and Keras's own to the letter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor


class KerasOptimizer(torch.optim.Optimizer):
    """What Keras's optimizers have in common here: constants, and averages for every parameter."""

    averages = 1

    def __init__(self, parameters: Iterable[Any], **constants: Any) -> None:
        super().__init__(parameters, constants)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(step=0, averages=[torch.zeros_like(parameter) for _ in range(self.averages)])
                state["step"] += 1
                self.move(parameter, parameter.grad, *state["averages"], step=state["step"], **group)

    def move(self, parameter: Tensor, gradient: Tensor, *averages: Tensor, step: int, **constants: Any) -> None:
        raise NotImplementedError


class KerasRMSprop(KerasOptimizer):
    """Epsilon inside the root: g / sqrt(v + eps), where torch has g / (sqrt(v) + eps)."""

    def move(self, parameter, gradient, square, *, rho, lr, eps, **_):  # type: ignore[no-untyped-def, override]
        square.lerp_(gradient * gradient, 1 - rho)
        parameter.addcmul_(gradient, (square + eps).rsqrt(), value=-lr)


class KerasAdam(KerasOptimizer):
    """Epsilon beside the root of the uncorrected average, where torch has it beside the corrected: greater in the first steps."""

    averages = 2

    def move(self, parameter, gradient, mean, square, *, step, lr, betas, eps, **_):  # type: ignore[no-untyped-def, override]
        first, second = betas
        mean.lerp_(gradient, 1 - first)
        square.lerp_(gradient * gradient, 1 - second)
        rate = lr * (1 - second**step) ** 0.5 / (1 - first**step)
        parameter.addcdiv_(mean, square.sqrt() + eps, value=-rate)


OPTIMIZERS: dict[str, Callable[[Iterable[Any]], torch.optim.Optimizer]] = {
    "RMSprop, torch's constants": torch.optim.RMSprop,  # lr 0.01, alpha 0.99, eps 1e-8
    "RMSprop, Keras's constants": partial(torch.optim.RMSprop, lr=1e-3, alpha=0.9, eps=1e-7),
    "Adam": torch.optim.Adam,  # lr 0.001 in both; eps 1e-8
    "Keras's RMSprop": partial(KerasRMSprop, lr=1e-3, rho=0.9, eps=1e-7),
    "Keras's Adam": partial(KerasAdam, lr=1e-3, betas=(0.9, 0.999), eps=1e-7),
}
COMPARED = tuple(OPTIMIZERS)[:3]
