"""Modules that are in several places of a model: walked once, under their first names; rules by their other names count."""

from functools import partial

import pytest
import torch
from torch import nn

import fastinit

ONES, FIVES = fastinit.ones_, partial(fastinit.constant_, val=5.0)


class Stack(nn.Module):
    def __init__(self, embed_tokens):
        super().__init__()
        self.embed_tokens, self.block = embed_tokens, nn.Linear(3, 3)


class Seq2Seq(nn.Module):
    """As T5 is made: one embedding, which both stacks hold too."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(5, 3)
        self.encoder, self.decoder = Stack(self.shared), Stack(self.shared)


def value(model):
    return model.shared.weight[0, 0].item()


def test_a_module_is_visited_once_and_reported_once():
    """Not once a path, of which there are 2^12. (The search for unused rules asks a rule too.)"""
    called = []

    def rule(module):
        called.append(module)
        return {"weight": ONES, "bias": ONES}

    model = nn.Linear(2, 2)
    for _ in range(12):
        inner, model = model, nn.Module()
        model.left = model.right = inner
    report = fastinit.initialize_(model, fastinit.Scheme({nn.Linear: rule}), seed=0)
    first = ".".join(["left"] * 12)
    assert len(called) <= 2 and report.filled == [f"{first}.weight", f"{first}.bias"] and not report.tied
    names = [name for name, _ in Seq2Seq().named_parameters()]
    assert [entry.name for entry in fastinit.initialize_(Seq2Seq(), seed=0).entries] == names


@pytest.mark.parametrize("scheme", [fastinit.keras_like, fastinit.Scheme({nn.Module: None})])
def test_a_module_that_contains_itself_is_named(scheme):
    model = nn.Module()
    model.w, model.a = nn.Parameter(torch.full((2,), 7.0)), Stack(nn.LazyLinear(3))
    model.a.b = model.a
    with pytest.raises(ValueError, match=r"^a\.b is the model's 'a' itself, and nothing was written"):
        fastinit.initialize_(model, scheme, seed=0)
    del model.a.b
    model.a.block.back = model
    with pytest.raises(ValueError, match=r"^a\.block\.back is the model itself"):
        fastinit.initialize_(model, scheme, seed=0)
    assert (model.w == 7).all()


def test_more_levels_than_python_has():
    model = nn.Linear(2, 2)
    for _ in range(2000):
        model = nn.Sequential(model)
    assert len(fastinit.initialize_(model, seed=0).filled) == 2


@pytest.mark.parametrize("name", ["shared", "encoder.embed_tokens", "decoder.embed_tokens"])
def test_a_rule_by_any_full_name_decides(name):
    rules = {f"{name}.weight": FIVES}
    for wrapped in (Seq2Seq(), nn.DataParallel(Seq2Seq())):
        report = fastinit.initialize_(wrapped, fastinit.keras_like.override(rules), seed=0)
        assert value(getattr(wrapped, "module", wrapped)) == 5 and report.unused == ()
    model, rules = nn.ModuleList([Seq2Seq()]), {f"1.{name}.weight": FIVES}
    model.append(model[0])
    report = fastinit.initialize_(model, fastinit.keras_like.override({"0.shared.*": ONES} | rules), seed=0)
    assert value(model[1]) == 5 and report["0.shared.weight"], "the later rule decides, whichever names they use"
    fastinit.initialize_(model, fastinit.keras_like.override(rules | {"0.shared.*": ONES}), seed=0)
    assert value(model[1]) == 1
    fastinit.initialize_(model[0], fastinit.keras_like.override({f"part.{name}.weight": FIVES}), seed=0, prefix="part")
    assert value(model[0]) == 5


def test_patterns_match_first_names_alone():
    scheme = fastinit.keras_like.override({"encoder.embed_tokens.*": FIVES})
    with pytest.raises(ValueError, match=r"'encoder\.embed_tokens\.\*' \(of a shared module.*'shared\.\*'\)"):
        fastinit.initialize_(Seq2Seq(), scheme, seed=0)


def test_a_rule_by_type_reaches_through_later_paths():
    """In whole models, and where a scheme is applied to the module that has the rule."""
    model, scheme = Seq2Seq(), fastinit.keras_like.override({Stack: {"embed_tokens.weight": FIVES}})
    assert fastinit.initialize_(model, scheme, seed=0).unused == () and value(model) == 5
    with pytest.raises(ValueError, match=r"Stack: 'embed_tokens\.wieght'"):
        fastinit.initialize_(model, fastinit.keras_like.override({Stack: {"embed_tokens.wieght": FIVES}}), seed=0)
    rules = {"decoder.embed_tokens.weight": ONES, "encoder.nothing.weight": ONES}
    scheme = fastinit.Scheme({Seq2Seq: rules})
    assert list(scheme.initializers(model)) == ["decoder.embed_tokens.weight"] and value(scheme(model)) == 1
    scheme = fastinit.Scheme({Seq2Seq: {"shared.weight": FIVES} | rules})
    fastinit.initialize_(model, scheme.override({nn.Linear: None}), seed=0)
    assert value(model) == value(scheme(Seq2Seq())) == 5, "its first name goes before the others"


def test_a_shared_module_below_one_that_is_left():
    """Whichever comes first decides, as of tied parameters; and each name is there once."""
    layer, lazy = nn.Linear(2, 2), nn.LazyLinear(3)
    lazy.inner = nn.Sequential(layer)
    left, filled = nn.Sequential(lazy, layer), nn.Sequential(layer, lazy)
    scheme = fastinit.keras_like.override({nn.LazyLinear: None})
    assert fastinit.initialize_(left, scheme, seed=0).left == ["0.inner.0.weight", "0.inner.0.bias"]
    assert fastinit.initialize_(filled, scheme, seed=0).filled == ["0.weight", "0.bias"]
