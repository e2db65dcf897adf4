"""Padding rows of embeddings: zero under whatever name, in stacked tables, and refused where there is no such row."""

import pytest
import torch
from torch import nn

import fastinit

NORMAL = {nn.Embedding: {"weight": fastinit.normal_}}


class Stacked(nn.Embedding):
    """Several tables, one row of each for padding."""

    def __init__(self, tables, rows, width, padding_idx):
        super().__init__(rows, width, padding_idx=padding_idx)
        self.weight = nn.Parameter(torch.full((tables, rows, width), 7.0))


class Tied(nn.Module):
    def __init__(self, padding_idx):
        super().__init__()
        self.head = nn.Linear(6, 10, bias=False)
        self.table = nn.Embedding(10, 6, padding_idx=padding_idx)
        self.table.weight = self.head.weight


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_table_that_is_tied_under_another_name_first(device):
    """The law is the embedding's, the name and key are the first one's, and the row is zero."""
    with torch.device(device):
        model = Tied(3)
    report = fastinit.initialize_(model, seed=0, device="cpu")
    expected = fastinit.uniform_(torch.empty(10, 6), -0.05, 0.05, key=fastinit.key(0, "head.weight"))
    expected[3] = 0
    assert torch.equal(model.head.weight, expected) and model.table.weight is model.head.weight
    assert report["head.weight"].initializer == "uniform_(a=-0.05, b=0.05), row 3 zero"
    assert report["table.weight"].source == "head.weight"


def test_a_rule_for_a_full_name_decides_and_the_row_is_zero_all_the_same():
    model = Tied(3)
    fastinit.initialize_(model, fastinit.keras_like.override({"head.weight": fastinit.ones_}), seed=0)
    assert model.head.weight.sum(dim=1).tolist() == [6, 6, 6, 0, 6, 6, 6, 6, 6, 6]


def test_without_a_padding_row_the_first_rule_decides():
    model = Tied(None)
    assert fastinit.initialize_(model, seed=0)["head.weight"].initializer == "glorot_uniform_"


def test_two_tables_with_rows_of_their_own():
    model = Tied(3)
    model.other = nn.Embedding(10, 6, padding_idx=5)
    model.other.weight = model.head.weight
    fastinit.initialize_(model, seed=0)
    assert (model.head.weight == 0).all(dim=1).nonzero()[:, 0].tolist() == [3, 5]


def test_a_table_inside_another_parameter_is_refused():
    model = nn.Module()
    model.whole = nn.Parameter(torch.zeros(20, 6))
    model.table = nn.Embedding(10, 6, padding_idx=1, _weight=model.whole.data[:10])
    with pytest.raises(ValueError, match=r"table\.weight has a padding row, and is a part of whole"):
        fastinit.initialize_(model, fastinit.Scheme({"*": fastinit.normal_}), seed=0)


@pytest.mark.parametrize("apply", [False, True])
@pytest.mark.parametrize("row", [1, -1])
def test_stacked_tables(apply, row):
    """The row is one of each table, not a table."""
    layer = Stacked(4, 5, 3, padding_idx=row)
    layer.apply(fastinit.Scheme(NORMAL)) if apply else fastinit.initialize_(layer, fastinit.Scheme(NORMAL), seed=0)
    assert (layer.weight == 0).all(dim=-1).nonzero().tolist() == [[table, row % 5] for table in range(4)]
    if not apply:
        assert (layer.weight[:, 0] == fastinit.normal_(torch.empty(4, 5, 3), key=fastinit.key(0, "weight"))[:, 0]).all()


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("row", [5, -6, 99])
@pytest.mark.parametrize("apply", [False, True])
def test_a_row_that_is_not_there(kind, row, apply):
    """As in a vocabulary that was cut later: nothing is written."""
    layer = kind(100, 3)
    layer.weight, layer.padding_idx = nn.Parameter(torch.full((5, 3), 7.0)), row
    model = nn.Sequential(layer)
    with pytest.raises(ValueError, match=rf"padding_idx={row} does not lie among the rows of a weight of shape \(5, 3\)"):
        model.apply(fastinit.keras_like) if apply else fastinit.initialize_(model, seed=0)
    assert (layer.weight == 7).all()


def test_a_row_counted_from_the_end():
    layer = nn.Embedding(5, 3)
    layer.padding_idx = -2
    fastinit.initialize_(layer, seed=0)
    assert (layer.weight == 0).all(dim=1).tolist() == [False, False, False, True, False]
