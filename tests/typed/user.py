"""A user's file, for type checkers alone: nothing runs it.

Lines that a checker must refuse end in a comment that ignores the error. Where it refuses nothing there, it says that the comment
is not used, and the test fails.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import fastinit

weight = torch.empty(4, 3)
model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())

# --- initializers -----------------------------------------------------------------------------------------------------------

assert_type(fastinit.truncated_normal_(weight, std=0.02, method="fmod", key=fastinit.key(0, "layer", 1)), Tensor)
assert_type(fastinit.variance_scaling_(tensor=weight, mode="fan_avg", distribution="uniform"), Tensor)
assert_type(fastinit.kaiming_normal_(weight, nonlinearity="relu", mode="fan_out"), Tensor)
assert_type(fastinit.orthogonal_(tensor=weight, gain=2, generator=torch.Generator()), Tensor)
assert_type(fastinit.key(0, "layer", 1), int)
fastinit.truncated_normal_(weight, method="exakt")  # type: ignore[arg-type]
fastinit.variance_scaling_(weight, mode="fan")  # type: ignore[arg-type]
fastinit.variance_scaling_(weight, distribution="gauss")  # type: ignore[arg-type]
fastinit.kaiming_uniform_(weight, mode="fan_avg")  # type: ignore[arg-type]
fastinit.kaiming_uniform_(weight, nonlinearity="swish")  # type: ignore[arg-type]
fastinit.orthogonal_(weight, gian=2.0)  # type: ignore[call-arg]
fastinit.glorot_uniform_(weight, key="0")  # type: ignore[arg-type]
fastinit.bits_(torch.empty(4, dtype=torch.int32))  # type: ignore[call-arg]

# --- schemes ----------------------------------------------------------------------------------------------------------------


def by_settings(module: nn.Conv2d) -> dict[str, Callable[[Tensor], object]]:
    return {"weight": partial(fastinit.normal_, std=0.1 / module.groups)}


assert_type(model.apply(fastinit.keras_like), nn.Sequential)
assert_type(fastinit.keras_like, fastinit.Scheme)
assert_type(fastinit.gpt2_like(12, residual=["*.up.weight"]), fastinit.Scheme)
scheme = fastinit.Scheme({nn.Linear: {"weight": partial(fastinit.normal_, std=0.02), "bias": None}, nn.LSTM: None})
assert_type(scheme.override({nn.Conv2d: by_settings, "*.gain": fastinit.ones_, "*.bias": None}), fastinit.Scheme)
assert_type(scheme.initializers(model), dict[str, Callable[[Tensor], Any]])
scheme.override({nn.Linear: {"weight": 0.02}})  # type: ignore[dict-item]
fastinit.Scheme({nn.Linear: "glorot"})  # type: ignore[dict-item]
fastinit.Scheme([nn.Linear])  # type: ignore[arg-type]

# --- models -----------------------------------------------------------------------------------------------------------------


def rotary(module: nn.Module, name: str) -> Tensor | None:
    return torch.ones(3) if name == "inv_freq" else None


report = fastinit.initialize_(model, scheme, seed=0, device="cpu", reset_buffers=rotary)
assert_type(report.filled, list[str])
assert_type(report["0.weight"].key, int | tuple[int, ...] | None)
assert_type(report.json(indent=None), str)
for entry in report.entries:
    assert_type(entry.shape, tuple[int, ...])
    assert_type(entry.initializer, str | None)
    assert_type(entry.state, Literal["filled", "tied", "left", "frozen", "kept", "missed"])
    assert_type(entry.kind, Literal["parameter", "buffer", "plain attribute"])
fastinit.initialize_(model, scheme, seed=0, reset_buffers=fastinit.from_constructor(lambda: nn.Linear(2, 2)))
fastinit.from_constructor(nn.Linear(2, 2))
fastinit.from_constructor(lambda: None)  # type: ignore[arg-type, return-value]
fastinit.initialize_(model)  # type: ignore[call-arg]
fastinit.initialize_(model, "keras_like", seed=0)  # type: ignore[arg-type]
fastinit.initialize_(model, seed=0, reset_buffers=lambda module: None)  # type: ignore[arg-type, misc]
report.names("forgotten")  # type: ignore[arg-type]

# --- noise ------------------------------------------------------------------------------------------------------------------


def whole(name: str, tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    return ((8, *tensor.shape[1:]), (4, *[0] * (tensor.ndim - 1))) if name == "0.weight" else None


assert_type(fastinit.blend_(weight, fastinit.normal_, key=1, add=0.5, keep=0.9, source=weight.clone()), Tensor)
fastinit.blend_(weight, partial(fastinit.glorot_uniform_, gain=2.0), key=[1, 2], add=(0.5, -0.5))
assert_type(fastinit.perturb_(model, fastinit.keras_like, seed=range(3), add=[0.1, 0.2, 0.3], where=whole).filled, list[str])
fastinit.perturb_(model, fastinit.normal_, seed=0, add=1, source=dict(model.named_parameters()))
fastinit.blend_(weight, fastinit.normal_)  # type: ignore[call-arg]
fastinit.blend_(weight, "normal_", key=1)  # type: ignore[arg-type]
fastinit.perturb_(model, fastinit.normal_, seed=0)  # type: ignore[call-arg]
fastinit.perturb_(model, fastinit.normal_, seed=0.5, add=1.0)  # type: ignore[arg-type]

# --- blocks -----------------------------------------------------------------------------------------------------------------


@fastinit.accelerate(seed=0)
def build(width: int, *, depth: int = 2) -> nn.Linear:
    return nn.Linear(width, depth)


assert_type(build(3, depth=4), nn.Linear)
build("3")  # type: ignore[arg-type]
build(3, width=4)  # type: ignore[misc]
with fastinit.accelerate() as block:
    assert_type(block, fastinit.accelerate)
with fastinit.backend("triton"):
    pass
fastinit.backend("cuda")  # type: ignore[arg-type]
assert_type(fastinit.backends(torch.device("cpu")), dict[str, str | None])

# --- laws and shards --------------------------------------------------------------------------------------------------------


def scaled_law(shape: torch.Size, dtype: torch.dtype, depth: int) -> fastinit.laws.Law:
    return fastinit.laws.normal(0.0, 0.02 / depth**0.5)


@fastinit.laws.declares(scaled_law)
def scaled_(tensor: Tensor, depth: int, *, key: int | None = None) -> Tensor:
    return fastinit.normal_(tensor, std=0.02 / depth**0.5, key=key)


assert_type(scaled_(weight, 4, key=0), Tensor)
scaled_(weight, deep=4)  # type: ignore[call-arg]
assert_type(fastinit.shard.indices((4, 4), (2,), [], (0,)), list[list[range]])
