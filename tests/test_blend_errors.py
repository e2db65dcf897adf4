"""Wrong input of blend_: every row of its Raises names the value and the mend, and the tensor keeps its bits and its version."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from test_errors import bits
from torch import nn

import fastinit

nan, inf = math.nan, math.inf
ARRAY = torch.zeros(4, 6)


def weight(dtype=torch.float32):
    return torch.full((4, 6), 7).to(dtype)


def refused(error, tensor, initializer=fastinit.normal_, **given):
    """The message of a call that must leave the tensor, and that takes no draw."""
    before, version, state = bits(tensor), tensor._version, torch.get_rng_state()
    with pytest.raises(error) as caught:
        fastinit.blend_(tensor, initializer, **{"key": 1, **given})
    assert torch.equal(bits(tensor), before) and tensor._version == version
    assert torch.equal(torch.get_rng_state(), state), "a refused call took a draw"
    return str(caught.value)


NUMBERS = {  # arguments, error, what the message must name
    "a key below 0": ({"key": -1}, ValueError, "key=-1"),
    "a key too large": ({"key": 2**64}, ValueError, f"key={2**64}"),
    "a key of the list": ({"key": [1, 2**64], "add": [1.0, 1.0]}, ValueError, f"key={2**64}"),
    "a key that is a float": ({"key": 1.0}, TypeError, "key=1.0"),
    "a key that is a bool": ({"key": True}, TypeError, "key=True"),
    "a key that is a word": ({"key": "7"}, TypeError, "'7'"),
    "no key": ({"key": None}, TypeError, "None"),
    "a bad key of a list": ({"key": [1, None], "add": [1.0, 1.0]}, TypeError, "None"),
    "no keys": ({"key": [], "add": []}, ValueError, "0 of key"),
    "more keys": ({"key": [1, 2, 3], "add": [1.0, 1.0]}, ValueError, "3 of key, 2 of add"),
    "fewer keys": ({"key": range(2), "add": [1.0] * 3}, ValueError, "2 of key, 3 of add"),
    "keys for one add": ({"key": [1, 2]}, TypeError, "add=1.0"),
    "a key for several": ({"add": [1.0, 2.0]}, TypeError, "add=[1.0, 2.0]"),
    "keys of an array for one": ({"key": np.arange(3)}, TypeError, "two sequences"),
    "add NaN": ({"add": nan}, ValueError, "add must not be NaN"),
    "add infinite": ({"add": inf}, ValueError, "add must be finite"),
    "add a word": ({"add": "much"}, TypeError, "'much'"),
    "add nothing": ({"add": None}, TypeError, "None"),
    "add complex": ({"add": 1j}, TypeError, "1j"),
    "one of several NaN": ({"key": [1, 2], "add": [1.0, nan]}, ValueError, "add[1]"),
    "one of several infinite": ({"key": [1, 2], "add": torch.tensor([-inf, 1.0])}, ValueError, "add[0]"),
    "one of several no number": ({"key": [1, 2], "add": [1.0, "x"]}, TypeError, "add[1]"),
    "add beyond float32": ({"add": 1e39}, ValueError, "1e+39"),
    "add far beyond": ({"add": 10**400}, ValueError, "add"),
    "keep NaN": ({"keep": nan}, ValueError, "keep"),
    "keep infinite": ({"keep": -inf}, ValueError, "-inf"),
    "keep beyond float32": ({"keep": 4e38}, ValueError, "4e+38"),
    "keep several": ({"keep": [1.0, 2.0]}, TypeError, "keep"),
    "keep nothing": ({"keep": None}, TypeError, "None"),
    "a source that is an array": ({"source": np.zeros((4, 6))}, TypeError, "ndarray"),
    "a source that is a number": ({"source": 1.0}, TypeError, "float"),
    "a source of another shape": ({"source": torch.zeros(6, 4)}, ValueError, "(6, 4)"),
    "a source that would be broadcast": ({"source": torch.zeros(6)}, ValueError, "(6,)"),
    "a source of another dtype": ({"source": ARRAY.double()}, ValueError, "torch.float64"),
    "a source on another device": ({"source": torch.zeros(4, 6, device="meta")}, ValueError, "meta"),
    "a source of another layout": ({"source": ARRAY.to_sparse()}, ValueError, "sparse"),
    "a source without memory": ({"source": None}, ValueError, "memory is not there"),
    "no function": ({"initializer": 3}, TypeError, "3"),
    "a module": ({"initializer": nn.Linear(2, 2)}, TypeError, "declares no law"),
    "torch's": ({"initializer": nn.init.normal_}, TypeError, "normal_"),
    "a lambda": ({"initializer": lambda t: t}, TypeError, "declares"),
    "words": ({"initializer": fastinit.bits_}, TypeError, "bits_"),
    "a partial with a key": ({"initializer": partial(fastinit.normal_, key=3)}, ValueError, "carry a key"),
    "a partial with a generator": (
        {"initializer": partial(fastinit.normal_, generator=torch.Generator())},
        ValueError,
        "carry a generator",
    ),
    "a law that cannot be": ({"initializer": partial(fastinit.normal_, std=-1.5)}, ValueError, "-1.5"),
    "an empty law": ({"initializer": partial(fastinit.uniform_, a=2.0, b=1.0)}, ValueError, "2.0"),
    "fans of nothing": ({"initializer": partial(fastinit.he_normal_, fan_in=0)}, ValueError, "fan_in=0"),
    "an argument that is none": ({"initializer": partial(fastinit.normal_, width=1)}, TypeError, "width"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_bad_arguments(name):
    given, error, named = NUMBERS[name]
    if name == "a source without memory":
        given = {"source": torch.zeros(4, 6)}
        given["source"].untyped_storage().resize_(8)
    assert named in refused(error, weight(), **given)
    if name not in ("add beyond float32", "keep beyond float32") and "source" not in given:  # a model on meta hides nothing
        with pytest.raises(error):
            fastinit.blend_(weight().to("meta"), **{"initializer": fastinit.normal_, "key": 1, **given})


def test_numbers_beyond_float32_are_float64_s():
    wide = fastinit.blend_(weight(torch.float64), fastinit.normal_, key=1, add=1e39, keep=1e40)
    assert bool(wide.isfinite().all()) and float(wide.abs().max()) > 1e40
    assert "1e+39" in refused(ValueError, weight(torch.bfloat16), add=1e39)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fnuz], ids=str)
def test_tensors_of_other_dtypes(dtype):
    message = refused(TypeError, weight(dtype) if not dtype.is_complex else torch.ones(4, 6, dtype=dtype))
    assert str(dtype) in message


@pytest.mark.parametrize("thing", [[1.0, 2.0], 3.0, None, np.zeros(3)], ids=repr)
def test_no_tensor_at_all(thing):
    with pytest.raises(TypeError, match=r"torch\.Tensor"):
        fastinit.blend_(thing, fastinit.normal_, key=1)


def test_elements_that_share_memory():
    assert "share memory" in refused(ValueError, weight()[:1].expand(4, 6))
    assert "share memory" in refused(ValueError, torch.full((9,), 7.0).as_strided((4, 3), (1, 2)))


def test_freed_memory():
    tensor = weight()
    tensor.untyped_storage().resize_(8)
    with pytest.raises(ValueError, match="memory is not there"):
        fastinit.blend_(tensor, fastinit.normal_, key=1)


@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, torch.Tensor.to_mkldnn], ids=["sparse", "mkldnn"])
def test_tensors_without_elements_in_memory(make):
    with pytest.raises((TypeError, ValueError)):
        fastinit.blend_(make(weight()), fastinit.normal_, key=1)


def test_fans_of_too_few_dimensions():
    assert "shape=(7,)" in refused(ValueError, torch.full((7,), 7.0), fastinit.glorot_uniform_)


def test_what_sequences_are_taken():
    """Of Python, of NumPy, of torch: the same bits."""
    expected = fastinit.blend_(weight(), fastinit.normal_, key=[1, 2], add=[0.5, -1.0])
    pairs = [((1, 2), (0.5, -1.0)), (np.array([1, 2]), np.array([0.5, -1.0])), (torch.tensor([1, 2]), torch.tensor([0.5, -1.0]))]
    pairs += [(range(1, 3), np.float32([0.5, -1])), (np.uint64([1, 2]), iter([0.5, -1.0]))]
    for key, add in pairs:
        assert torch.equal(fastinit.blend_(weight(), fastinit.normal_, key=key, add=add), expected)
    one = fastinit.blend_(weight(), fastinit.normal_, key=1, add=0.5)
    for key, add in ((np.int64(1), np.float32(0.5)), (np.uint8(1), torch.tensor(0.5)), ([1], [0.5])):
        assert torch.equal(fastinit.blend_(weight(), fastinit.normal_, key=key, add=add, keep=np.float64(1)), one)
