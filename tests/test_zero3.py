"""DeepSpeed's ZeRO-3 leaves parameters without elements: they are refused, not reported as filled; gathered ones are filled."""

import importlib.util
import pathlib

import pytest
import torch
from helpers.running import torchrun
from torch import nn

import fastinit


def partitioned(parameter):
    """A parameter as deepspeed.zero.Init leaves it, without the library."""
    parameter.ds_id, parameter.ds_shape, whole = 3, parameter.shape, parameter.data
    parameter.data = torch.empty(0)
    return whole


MEND = r"ds_shape=\(6, 4\).*Gather first: with deepspeed\.zero\.GatheredParameters"


FILLS = [
    fastinit.normal_,
    fastinit.glorot_uniform_,
    lambda weight: fastinit.glorot_uniform_(weight, fan_in=4, fan_out=6),
    fastinit.kaiming_normal_,
    fastinit.zeros_,
    fastinit.orthogonal_,
    fastinit.eye_,
    lambda weight: fastinit.sparse_(weight, 0.5),
]


@pytest.mark.parametrize("fill", [*FILLS, fastinit.dirac_])
def test_functions_refuse_what_is_partitioned_before_they_draw(fill):
    weight = nn.Parameter(torch.zeros(6, 4))
    partitioned(weight)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=MEND):
        fill(weight)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("fill", FILLS)
def test_what_transformers_has_loaded_stays_although_it_is_partitioned(fill):
    """It calls initializers on all weights, and has gathered only those that were missing."""
    weight = nn.Parameter(torch.zeros(6, 4))
    partitioned(weight)
    weight._is_hf_initialized = True
    assert fill(weight) is weight


def test_models_are_refused_by_name_and_filled_once_gathered():
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    wholes = [partitioned(parameter) for parameter in model.parameters()]
    with pytest.raises(ValueError, match=rf"(?s)0\.weight: .*{MEND}.*1\.bias: "):
        fastinit.initialize_(model, seed=0)
    with pytest.raises(ValueError, match=MEND):
        model.apply(fastinit.keras_like)
    for parameter, whole in zip(model.parameters(), wholes, strict=True):
        parameter.data = whole
    assert len(fastinit.initialize_(model, seed=0).filled) == 4


def test_what_has_no_elements_anywhere_is_filled_as_ever():
    weight = nn.Parameter(torch.zeros(0))
    weight.ds_id, weight.ds_shape = 0, torch.Size([0])
    assert fastinit.normal_(weight) is weight and fastinit.zeros_(weight) is weight


@pytest.mark.full
@pytest.mark.extra
def test_the_real_library_gathers_what_one_device_would_have():
    if importlib.util.find_spec("deepspeed") is None:  # its import would set up this process; it is in no extra
        pytest.skip("deepspeed is not installed")
    assert "zero3 passed on 2 ranks" in torchrun(2, pathlib.Path(__file__).parent / "helpers" / "zero3.py")
