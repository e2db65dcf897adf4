"""Rules by depth: the number of a layer and of layers come from canonical names, or are refused with the mend."""

import math
import pickle
from functools import partial

import pytest
import torch
from torch import nn

import fastinit
from fastinit import by_depth


def scaled(index, layers):
    return partial(fastinit.normal_, mean=float(index), std=1 / layers)


def by_index(index):
    return partial(fastinit.normal_, std=0.02 / math.sqrt(2 * (index + 1)))


def block(d=4):
    return nn.ModuleDict({"up": nn.Linear(d, d), "subs": nn.ModuleList(nn.Linear(d, d) for _ in range(2))})


class Model(nn.Module):
    def __init__(self, layers=3):
        super().__init__()
        self.layers = nn.ModuleList(block() for _ in range(layers))
        self.head = nn.Linear(4, 4)


def made(report, name):
    return report[name].initializer


BASE = fastinit.Scheme({nn.Linear: {"weight": fastinit.zeros_, "bias": fastinit.zeros_}})


def test_the_index_and_the_number_of_the_outermost_list():
    report = fastinit.initialize_(Model(), BASE.override({"layers.*.weight": by_depth(scaled)}), seed=0)
    assert made(report, "layers.2.up.weight") == f"normal_(mean=2.0, std={1 / 3})"
    assert made(report, "layers.1.subs.0.weight") == f"normal_(mean=1.0, std={1 / 3})"
    assert made(report, "head.weight") == "zeros_" and made(report, "layers.1.up.bias") == "zeros_"
    model = Model()
    fastinit.initialize_(model, BASE.override({"layers.*.weight": by_depth(scaled)}), seed=5)
    alone = scaled(2, 3)(torch.empty(4, 4), key=fastinit.key(5, "layers.2.up.weight"))
    assert torch.equal(model.layers[2]["up"].weight, alone)


def test_another_list_and_a_rule_by_type():
    rule = {nn.ModuleDict: {"subs.*.weight": by_depth(scaled, within="subs"), "up.weight": by_depth(by_index)}}
    report = fastinit.initialize_(Model(), BASE.override(rule), seed=0)
    assert made(report, "layers.2.subs.1.weight") == "normal_(mean=1.0, std=0.5)"
    assert made(report, "layers.1.up.weight") == "normal_(std=0.01)"
    patterns = BASE.override({"layers.*.subs.*.weight": by_depth(scaled, within="*.subs")})
    assert made(fastinit.initialize_(Model(), patterns, seed=0), "layers.0.subs.1.weight") == "normal_(mean=1.0, std=0.5)"


def test_parts_of_a_model_and_wrappers():
    scheme = BASE.override({"*layers.*.weight": by_depth(scaled, layers=12)})
    report = fastinit.initialize_(block(), scheme, seed=0, prefix="model.layers.7")
    assert made(report, "model.layers.7.up.weight") == f"normal_(mean=7.0, std={1 / 12})"
    stage = Model()
    stage.layers = nn.ModuleDict({str(number): block() for number in (4, 5)})
    assert made(fastinit.initialize_(stage, scheme, seed=0), "layers.5.up.weight").startswith("normal_(mean=5.0")
    for part, prefix in ((stage, ""), (block(), "layers.7")):
        with pytest.raises(ValueError, match=r"number of layers.*layers\.\d.*Pass layers="):
            fastinit.initialize_(part, BASE.override({"layers.*.weight": by_depth(scaled)}), seed=0, prefix=prefix)
        one = BASE.override({"layers.*.weight": by_depth(by_index)})  # asks for no number of layers
        fastinit.initialize_(part, one, seed=0, prefix=prefix)
    with pytest.raises(ValueError, match="not below 3"):
        fastinit.initialize_(block(), BASE.override({"*.weight": by_depth(scaled, layers=3)}), seed=0, prefix="layers.7")
    wrapped = Model()
    wrapped.layers = torch.nn.DataParallel(wrapped.layers)
    report = fastinit.initialize_(wrapped, BASE.override({"layers.*.weight": by_depth(scaled)}), seed=0)
    assert made(report, "layers.2.up.weight") == f"normal_(mean=2.0, std={1 / 3})"


def test_none_leaves_and_a_padding_row_stays_zero():
    model = nn.Sequential(nn.Embedding(5, 3, padding_idx=1), nn.Embedding(5, 3))
    scheme = fastinit.Scheme({nn.Embedding: {"weight": by_depth(lambda index, layers: None if index else fastinit.ones_)}})
    report = fastinit.initialize_(model, scheme, seed=0)
    assert report.left == ["1.weight"] and model[0].weight.sum() == 12 and not model[0].weight[1].any()


def test_names_without_a_number_and_apply_are_refused_with_the_mend():
    model = Model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"'head.weight'.*rule of its own"):
        fastinit.initialize_(model, BASE.override({"*.weight": by_depth(scaled)}), seed=0)
    with pytest.raises(ValueError, match=r"list of the name 'blocks'.*'layers.0.up.weight'"):
        fastinit.initialize_(model, BASE.override({"layers.*.weight": by_depth(scaled, within="blocks")}), seed=0)
    with pytest.raises(TypeError, match="must make an initializer"):
        fastinit.initialize_(model, BASE.override({"layers.*.weight": by_depth(lambda index, layers: 0.02)}), seed=0)
    typed = fastinit.Scheme({nn.Linear: {"weight": fastinit.ones_, "bias": by_depth(scaled)}})  # weights come first
    for part in (model, model.head):
        with pytest.raises(ValueError, match=r"by_depth\(scaled\) needs the names.*initialize_"):
            part.apply(typed)
    with pytest.raises(ValueError, match="needs the names"):
        nn.Embedding(3, 2, padding_idx=0).apply(fastinit.Scheme({nn.Embedding: {"weight": by_depth(scaled)}}))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_wrong_arguments_reprs_and_pickles():
    for arguments, error in (((3,), TypeError), ((scaled, 1.0), TypeError)):
        with pytest.raises(error):
            by_depth(*arguments[:1], **({"layers": arguments[1]} if arguments[1:] else {}))
    for given, error in (({"layers": 0}, ValueError), ({"layers": True}, TypeError), ({"within": 3}, TypeError)):
        with pytest.raises(error):
            by_depth(scaled, **given)
    scheme = BASE.override({"layers.*.weight": by_depth(scaled, within="layers", layers=3)})
    assert "by_depth(scaled, within='layers', layers=3)" in repr(scheme)
    again = fastinit.initialize_(Model(), pickle.loads(pickle.dumps(scheme)), seed=0)
    assert made(again, "layers.2.up.weight") == f"normal_(mean=2.0, std={1 / 3})"
