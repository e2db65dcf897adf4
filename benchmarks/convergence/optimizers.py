"""The optimizers of the study: torch's, with torch's constants and with Keras's, and Keras's own to the letter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor


class KerasOptimizer(torch.optim.Optimizer):
    """An optimizer by Keras's formula: `move` changes one parameter, given as many averages of zero at first."""

    def __init__(self, parameters: Iterable[Any], move: Callable[..., None], averages: int, **constants: Any) -> None:
        super().__init__(parameters, constants)
        self.move, self.averages = move, averages

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            constants = {name: value for name, value in group.items() if name != "params"}
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(step=0, averages=[torch.zeros_like(parameter) for _ in range(self.averages)])
                state["step"] += 1
                self.move(parameter, parameter.grad, *state["averages"], step=state["step"], **constants)


def rmsprop(parameter: Tensor, gradient: Tensor, square: Tensor, step: int, lr: float, rho: float, eps: float) -> None:
    """Epsilon inside the root: g / sqrt(v + eps), where torch has g / (sqrt(v) + eps)."""
    square.lerp_(gradient * gradient, 1 - rho)
    parameter.addcmul_(gradient, (square + eps).rsqrt(), value=-lr)


def adam(
    parameter: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: int, lr: float, betas: Sequence[float], eps: float
) -> None:
    """Epsilon beside the root of the uncorrected average, where torch has it beside the corrected: greater in the first steps."""
    first, second = betas
    mean.lerp_(gradient, 1 - first)
    square.lerp_(gradient * gradient, 1 - second)
    parameter.addcdiv_(mean, square.sqrt() + eps, value=-lr * (1 - second**step) ** 0.5 / (1 - first**step))


OPTIMIZERS: dict[str, Callable[[Iterable[Any]], torch.optim.Optimizer]] = {
    "RMSprop, torch's constants": torch.optim.RMSprop,  # lr 0.01, alpha 0.99, eps 1e-8
    "RMSprop, Keras's constants": partial(torch.optim.RMSprop, lr=1e-3, alpha=0.9, eps=1e-7),
    "Adam": torch.optim.Adam,  # lr 0.001 in both; eps 1e-8
    "Keras's RMSprop": partial(KerasOptimizer, move=rmsprop, averages=1, lr=1e-3, rho=0.9, eps=1e-7),
    "Keras's Adam": partial(KerasOptimizer, move=adam, averages=2, lr=1e-3, betas=(0.9, 0.999), eps=1e-7),
}
COMPARED = tuple(OPTIMIZERS)[:3]
