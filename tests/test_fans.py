"""Fans against torch's own, and the overrides."""

import pytest
import torch

from fastinit._core import fans


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 7), (6, 3, 5, 2), (2, 3, 4, 5, 6), (0, 5), (5, 0, 3)])
def test_fans_equal_torch(shape):
    assert fans.fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


def test_batch_dims_are_no_part_of_the_fans():
    assert fans.fans((8, 3, 5), batch_dims=1) == (5, 3)
    assert fans.fans((8, 2, 3, 5, 7), batch_dims=2) == (35, 21)


def test_fans_stay_exact_past_2_to_the_53():
    assert fans.fans((2**31 + 1, 2**31 + 3, 5)) == ((2**31 + 3) * 5, (2**31 + 1) * 5)


def test_overrides_replace_what_the_mode_needs_and_no_more():
    assert fans.resolve((7,), 0, 3, None, "fan_in")[0] == 3
    assert fans.resolve((7,), 0, None, 4, "fan_out")[1] == 4
    assert fans.resolve((7,), 0, 3, 4, "fan_avg") == (3, 4)
    assert fans.resolve((6, 5), 0, 3, None, "fan_avg") == (3, 6)
    assert fans.resolve((6, 5), 0, None, 3, "fan_avg") == (5, 3)
    with pytest.raises(ValueError, match=r"shape=\(7,\).*fan_in= and fan_out="):
        fans.resolve((7,), 0, 3, None, "fan_avg")


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_an_override_must_be_positive(bad):
    with pytest.raises(ValueError, match=f"fan_in={bad}"):
        fans.resolve((6, 5), 0, bad, None, "fan_in")


@pytest.mark.parametrize(("shape", "batch_dims"), [((), 0), ((5,), 0), ((4, 5), 1), ((4, 5, 6), 2)])
def test_too_few_dimensions(shape, batch_dims):
    with pytest.raises(ValueError, match="at least two dimensions") as error:
        fans.fans(shape, batch_dims)
    assert str(tuple(shape)) in str(error.value) and "fan_in=" in str(error.value)


def test_batch_dims_are_checked():
    with pytest.raises(ValueError, match="batch_dims=-1"):
        fans.fans((4, 5, 6), -1)
    for bad in (True, 1.0, "1"):
        with pytest.raises(TypeError, match=f"batch_dims={bad!r}"):
            fans.fans((4, 5, 6), bad)
