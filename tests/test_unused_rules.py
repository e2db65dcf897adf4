"""Rules that match nothing are named; names match as they are written before they match as patterns."""

from functools import partial

import pytest
import torch
from torch import nn

import fastinit


def model():
    made = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3)))
    made.scales = nn.ParameterDict({"a[0]": nn.Parameter(torch.zeros(3)), "b*": nn.Parameter(torch.zeros(3))})
    return made


def by_the_module(module):
    return {"weight": fastinit.ones_, "bais": fastinit.ones_}


UNUSED = {
    "*.wieght": ({"*.wieght": fastinit.ones_}, r"'\*\.wieght'"),
    "full": ({"0.wieght": fastinit.ones_, "0.bias": None}, r"'0.wieght' \(there is '0.weight'\)"),
    "left": ({"2.weight": None}, "'2.weight'"),
    "bracket": ({"scales.a[1]": fastinit.ones_}, r"'scales.a\[1\]'"),
    "attribute": ({nn.Linear: {"wieght": fastinit.ones_}}, r"Linear: 'wieght' \(there is 'weight'\)"),
    "pattern": ({nn.Linear: {"wieght*": fastinit.ones_}}, r"Linear: 'wieght\*'"),
    "buffer": ({nn.BatchNorm1d: {"runing_mean": None}}, r"BatchNorm1d: 'runing_mean' \(there is 'running_mean'\)"),
    "below": ({nn.Sequential: {"1.0.wieght": fastinit.ones_}}, "Sequential: '1.0.wieght'"),
    "callable": ({nn.Linear: by_the_module}, r"Linear: 'bais' \(there is 'bias'\)"),
    "type": ({nn.LSTM: {"weight_ih_l0": fastinit.ones_}}, "LSTM: the model has none"),
    "type left": ({nn.LSTM: None}, "LSTM: the model has none"),
}
USED = [
    {"*.weight": fastinit.ones_, "1.0.weight": None, "0.*": fastinit.zeros_},
    {nn.Linear: {"bias": fastinit.ones_}, nn.Module: {"weight": fastinit.ones_}, nn.Sequential: {"1.0.weight": None}},
    {nn.Linear: {"weight": fastinit.ones_, "*": None}, nn.BatchNorm1d: None},
    {"1.0.bias": fastinit.ones_},  # which is None: the layer has none, the rule is right
    {nn.BatchNorm1d: {"running_*": None}, nn.Sequential: {"*": None}},
    {"scales.a[0]": None, "scales.b*": None, "1.1.num_batches_tracked": None},
]
BASE = fastinit.keras_like.override({nn.ParameterDict: {"*": fastinit.zeros_}})


@pytest.mark.parametrize("name", UNUSED)
def test_a_rule_that_matches_nothing(name):
    """An error where strict, and nothing is written; else in the report, in print and in JSON."""
    rules, message = UNUSED[name]
    scheme, made = BASE.override(rules), model()
    before = [parameter.clone() for parameter in made.parameters()]
    with pytest.raises(ValueError, match=rf"match nothing in the model, and nothing was written:\n  {message}"):
        fastinit.initialize_(made, scheme, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))
    report = fastinit.initialize_(made, scheme, seed=0, strict=False)
    assert len(report.unused) == 1 and f"matches nothing: {report.unused[0]}" in str(report)
    assert report.unused[0].split(" (")[0] in report.json().replace("\\\\", "\\")
    report = fastinit.initialize_(nn.Sequential(made), scheme, seed=0, prefix="part")
    assert report.unused, "a part of a model does not know which rules another part uses"


@pytest.mark.parametrize("rules", USED, ids=range(len(USED)))
def test_rules_that_match(rules):
    assert fastinit.initialize_(model(), BASE.override(rules), seed=0).unused == ()


def test_rules_for_many_models_may_match_nothing():
    """Those by type of a scheme, and those of the schemes that come with the package; but not a full name."""
    scheme = fastinit.Scheme({nn.Module: {"*": fastinit.ones_, "gamma": fastinit.zeros_}, nn.LSTM: {"weight": fastinit.ones_}})
    ready = (fastinit.keras_like, fastinit.torch_like, fastinit.truncated_like(), fastinit.gpt2_like(2), scheme)
    unused = [fastinit.initialize_(nn.Linear(3, 3), each, seed=0).unused for each in ready]
    assert unused == [(), (), (), (), ("Module: 'gamma'",)], "what may not be there in a model is named in the report alone"
    for scheme in (fastinit.Scheme({"*": fastinit.ones_, "wieght": fastinit.zeros_}), fastinit.gpt2_like(2, residual=["wieght"])):
        with pytest.raises(ValueError, match="'wieght'"):
            fastinit.initialize_(nn.Linear(3, 3), scheme, seed=0)


def test_a_rule_that_a_later_one_replaces_need_not_match():
    scheme = BASE.override({nn.Linear: {"wieght": fastinit.ones_}, "0.weight": fastinit.ones_})
    replaced = scheme.override({nn.Linear: None, "0.*": fastinit.zeros_})
    report = fastinit.initialize_(model(), replaced, seed=0, strict=False)
    assert report.unused == () and report["0.weight"].initializer == "zeros_"


def test_names_match_literally():
    made = model()
    report = fastinit.initialize_(made, BASE.override({"scales.a[0]": fastinit.ones_, "scales.b*": fastinit.ones_}), seed=0)
    assert (made.scales["a[0]"] == 1).all() and (made.scales["b*"] == 1).all()
    assert report["scales.a[0]"].initializer == "ones_"
    made.register_buffer("table*", torch.zeros(2))
    fastinit.initialize_(made, BASE.override({"table*": fastinit.ones_}), seed=0)
    assert (getattr(made, "table*") == 1).all()


# --- one key for several parameters -------------------------------------------------------------------------------------------


def test_a_key_that_fills_several_parameters_is_warned_about():
    layers = nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])
    for initializer in (fastinit.normal_, fastinit.orthogonal_, lambda t, key: fastinit.normal_(t, key=key)):
        rules = {nn.Linear: {"weight": partial(initializer, key=5)}}
        with pytest.warns(UserWarning, match=r"key=5\) gives 0\.weight, 1\.weight, 2\.weight equal values") as caught:
            fastinit.initialize_(layers, fastinit.keras_like.override(rules), seed=0)
        assert caught[0].filename == __file__
        assert torch.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize(
    "rules",
    [
        {"0.weight": partial(fastinit.normal_, key=5)},
        {"0.weight": partial(fastinit.normal_, key=5), "1.weight": partial(fastinit.normal_, key=6)},
        {nn.Linear: {"weight": partial(fastinit.ones_, key=5)}},
        {nn.Linear: {"weight": fastinit.normal_}},
    ],
)
def test_keys_that_fill_one_parameter_are_not(rules, recwarn):
    fastinit.initialize_(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), fastinit.keras_like.override(rules), seed=0)
    assert not recwarn.list
