"""Which tensors share elements: decided by the elements, not by the bytes between the first and the last."""

import itertools
import math
import random

import pytest
import torch
from torch import nn

import fastinit
from fastinit._core.memory import PartlyShared, holders_of, overlaps_itself

NORMAL = fastinit.Scheme({"*": fastinit.normal_})


def addresses(tensor):
    """The byte addresses of a tensor's elements, one by one."""
    size, strides = tensor.element_size(), tensor.stride()
    for index in itertools.product(*map(range, tensor.shape)):
        first = (tensor.storage_offset() + sum(i * s for i, s in zip(index, strides, strict=True))) * size
        yield tuple(range(first, first + size))


def random_view(rng, storage, most=4):
    axes = rng.randint(0, 3)
    shape = [rng.randint(0 if rng.random() < 0.05 else 1, most) for _ in range(axes)]
    return storage.as_strided(shape, [rng.randint(0, 12) for _ in shape], rng.randint(0, 20))


def test_overlap_is_decided_by_elements():
    """Against a list of all addresses, for random shapes and strides."""
    rng, storage, found = random.Random(0), torch.empty(200), set()
    for _ in range(4000):
        view = random_view(rng, storage)
        listed = list(addresses(view))
        assert overlaps_itself(view) == (len(set(listed)) < len(listed)), (view.shape, view.stride())
        found.add((overlaps_itself(view), sorted(view.stride()) == list(view.stride())))
    assert len(found) == 4
    assert overlaps_itself(torch.empty(1).expand(2**40)) and not overlaps_itself(torch.empty(2**20, 3)[:, ::2])


def test_interleaved_strides_can_be_filled():
    """Addresses 0, 2, 4 and 3, 5, 7 do not meet."""
    out = torch.zeros(8)
    fastinit.ones_(out.as_strided((2, 3), (3, 2)))
    assert out.tolist() == [1, 0, 1, 1, 1, 1, 0, 1]
    with pytest.raises(ValueError, match="share memory"):
        fastinit.ones_(out.as_strided((2, 3), (2, 2)))


def test_holders_are_decided_by_elements():
    """Against sets of addresses, for random views of one storage, in two dtypes."""
    rng, kinds = random.Random(1), set()
    storage = torch.zeros(200)
    for _ in range(4000):
        views = [random_view(rng, rng.choice((storage, storage.view(torch.int16)))) for _ in range(3)]
        views = [view for view in views if not overlaps_itself(view)]
        sets = [{byte for element in addresses(view) for byte in element} for view in views]
        try:
            holders = holders_of(views)
        except PartlyShared as error:
            one, other = (sets[number] for number in error.args)
            assert one & other and not (one <= other or other <= one)
            kinds.add("partly")
            continue
        assert not any(sets[one] & sets[other] for one, other in itertools.combinations(set(holders), 2))
        for own, holder in zip(sets, holders, strict=True):
            assert own <= sets[holder] and holders[holder] == holder
            held = [n for n, other in enumerate(sets) if own <= other and not any(other < larger for larger in sets)]
            assert holder == held[0] or not own
        kinds.add("tied" if holders != sorted(set(holders)) else "apart")
    assert kinds == {"partly", "tied", "apart"}


def test_columns_between_columns():
    """Their bytes nest, their elements do not: both are filled, as if they were alone."""
    matrix = torch.full((10, 3), math.nan)
    model = nn.Module()
    model.a, model.b = nn.Parameter(matrix[:, :2]), nn.Parameter(matrix[2:8, 2])
    report = fastinit.initialize_(model, NORMAL, seed=0)
    assert report.filled == ["a", "b"] and matrix.isnan().sum() == 4
    assert torch.equal(model.b, fastinit.normal_(torch.empty(6), key=fastinit.key(0, "b")))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_blocks_of_columns(device):
    """Query, key and value as columns of one matrix have the values of three matrices."""
    matrix = torch.zeros(8, 12, device=device)
    model = nn.Module()
    model.q, model.k, model.v = (nn.Parameter(matrix[:, i : i + 4]) for i in (0, 4, 8))
    report = fastinit.initialize_(model, NORMAL, seed=0, device="cpu")
    assert report.filled == ["q", "k", "v"]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, fastinit.normal_(torch.empty(8, 4), key=fastinit.key(0, name)))


def test_a_part_of_a_block_is_tied_to_it_and_a_common_column_is_refused():
    matrix = torch.zeros(8, 12)
    model = nn.Module()
    model.part, model.q, model.k = nn.Parameter(matrix[1:3, 4:6]), nn.Parameter(matrix[:, :4]), nn.Parameter(matrix[:, 4:8])
    assert fastinit.initialize_(model, NORMAL, seed=0)["part"].source == "k"
    model.v = nn.Parameter(matrix[:, 7:12])
    before = matrix.clone()
    with pytest.raises(ValueError, match=r"\bv and k share a part|\bk and v share a part"):
        fastinit.initialize_(model, NORMAL, seed=1)
    assert torch.equal(matrix, before)
