"""`audit`: what a constructor draws is drawn, what it sets is kept, and all else is named; and its command."""

import functools
import importlib
import json
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

import fastinit
from fastinit import _cli
from fastinit._model.audit_report import Audit, Statistics

FULL = functools.partial(fastinit.constant_, val=0.5)


class Kinds(nn.Module):
    """A parameter of each kind."""

    def __init__(self, width=4):
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.gate = nn.Parameter(torch.full((width,), 1e-5))
        self.table = nn.Parameter(torch.linspace(-1, 1, width))
        self.token = nn.Parameter(torch.randn(1, width))
        self.positions = nn.Embedding(3, width)
        nn.init.eye_(self.positions.weight).requires_grad_(False)
        self.unwritten = nn.Parameter(torch.empty(width))
        self.zero = nn.BatchNorm1d(width)
        nn.init.zeros_(self.zero.weight)


KEPT = {"gate": None, "table": None, "token": None, "unwritten": None}


@pytest.fixture
def found():
    """What an audit finds under a scheme whose every fault is known."""
    rules = {Kinds: KEPT | {"table": fastinit.zeros_}, nn.Embedding: {"weight": None}, nn.BatchNorm1d: {"weight": fastinit.ones_}}
    return fastinit.audit(Kinds, fastinit.torch_like.override(rules))


def test_every_state(found):
    states = {entry.name: entry.state for entry in found.entries}
    assert states == {
        **{"gate": "kept", "table": "changed", "token": "left", "unwritten": "left"},
        **{"linear.weight": "drawn", "linear.bias": "drawn", "norm.weight": "kept", "norm.bias": "kept"},
        **{"positions.weight": "frozen", "zero.weight": "changed", "zero.bias": "kept"},
    }
    assert not found.clean and found.refused is None
    assert (found.changed, found.left) == (["table", "zero.weight"], ["token", "unwritten"])
    assert (found.drawn, found.kept) == (["linear.weight", "linear.bias"], ["gate", "norm.weight", "norm.bias", "zero.bias"])


def test_values_before_and_after(found):
    table, zero, gate = found["table"], found["zero.weight"], found["gate"]
    assert table.before == pytest.approx((0.0, np.linspace(-1, 1, 4).std(), -1.0, 1.0)) and table.after == (0.0, 0.0, 0.0, 0.0)
    assert (zero.before.mean, zero.after.mean, zero.module, zero.initializer) == (0.0, 1.0, "BatchNorm1d", "ones_")
    assert (
        gate.before == gate.after
        and isinstance(gate.before, Statistics)
        and gate.before.least == pytest.approx(1e-5)
        and gate.shape == (4,)
    )
    with pytest.raises(KeyError, match="gate2"):
        found["gate2"]


def test_statistics_of_many_elements():
    """They are taken in pieces."""
    values = torch.rand((1 << 20) + 7, generator=torch.Generator().manual_seed(0))
    build = lambda: nn.ParameterList([nn.Parameter(values.clone())])  # noqa: E731
    entry = fastinit.audit(build, fastinit.Scheme({"0": None}))["0"]
    assert entry.state == "kept"
    exact = values.numpy().astype(np.float64)
    assert entry.before == pytest.approx((exact.mean(), exact.std(), exact.min(), exact.max()), rel=1e-12)


def test_print_names_all_that_is_wrong_and_groups_the_rest():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.scale = nn.Linear(2, 2), nn.Parameter(torch.ones(2))

    scheme = fastinit.keras_like.override({Layer: {"scale": fastinit.zeros_}})
    found = fastinit.audit(lambda: nn.Sequential(*(Layer() for _ in range(12))), scheme)
    text = str(found)
    assert all(f"  {number}.scale: constant in the constructor, and changed" in text for number in range(12))
    assert "*.linear.weight (12)" in text and "*.linear.bias (12)" in text and "7.linear" not in text
    assert "24 drawn, 12 changed" in text and text.endswith("not clean")
    assert "(1 -> 0)" in text
    allowed = str(fastinit.audit(lambda: nn.Sequential(Layer(), Layer()), scheme, allow=["*.scale"]))
    assert "0.scale" in allowed and "1.scale" in allowed and "*.scale" not in allowed


def test_json_has_all_of_it(found):
    read = json.loads(found.json())
    assert read["clean"] is False and read["refused"] is None and read["seed"] == 0 and "Kinds" in read["scheme"]
    entries = {entry["name"]: entry for entry in read["entries"]}
    assert list(entries) == [entry.name for entry in found.entries]
    assert entries["zero.weight"]["before"] == {"mean": 0.0, "std": 0.0, "least": 0.0, "greatest": 0.0}
    assert entries["unwritten"]["before"]["mean"] is None, "JSON has no NaN"
    assert "\n" not in found.json(indent=None)


def test_check_raises_what_print_says():
    own = {**KEPT, "token": fastinit.normal_, "unwritten": fastinit.zeros_}
    scheme = fastinit.keras_like.override({Kinds: own, nn.BatchNorm1d: {"weight": fastinit.ones_}})
    with pytest.raises(
        AssertionError, match=r"(?s)zero.weight: constant in the constructor, and changed .*\(0 -> 1\).*not clean"
    ):
        fastinit.audit(Kinds, scheme, check=True)
    right = scheme.override({"zero.weight": fastinit.zeros_, "positions.weight": None})
    assert fastinit.audit(Kinds, right, check=True).clean


def test_allowed_is_shown_and_clean(found):
    scheme = fastinit.keras_like.override({nn.BatchNorm1d: {"weight": FULL}, Kinds: KEPT, "positions.weight": None})
    allowed = fastinit.audit(Kinds, scheme, allow=["zero.*", "token", "unwritten"], check=True)
    assert allowed.clean and allowed.changed == ["zero.weight"] and allowed["token"].allowed and not allowed["gate"].allowed
    assert "changed, allowed" in str(allowed) and str(allowed).endswith("\nclean")
    with pytest.raises(AssertionError, match=r"zero\.weight"):
        fastinit.audit(Kinds, scheme, allow=["token", "unwritten", "zero"], check=True)


def test_a_default_of_torchs_own_type_is_no_fault():
    """keras_like has 0 for nn.PReLU, which torch makes with 0.25; another value is the model's choice."""
    found = fastinit.audit(nn.PReLU, fastinit.keras_like)
    assert found["weight"].state == "default" and found.clean
    assert fastinit.audit(lambda: nn.PReLU(init=0.1), fastinit.Scheme({nn.PReLU: {"weight": FULL}})).changed == ["weight"]
    norms = fastinit.audit(lambda: nn.LayerNorm(3), fastinit.Scheme({nn.LayerNorm: {"*": FULL}}))
    assert {entry.state for entry in norms.entries} == {"default"}


def test_frozen_ones_are_expected_to_stay_unless_nobody_wrote_them():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.drawn, self.unwritten = nn.Linear(3, 3), nn.Parameter(torch.empty(3))
            self.requires_grad_(False)

    left = fastinit.audit(Frozen, fastinit.Scheme({nn.Module: {"*": None}}))
    assert left.frozen == ["drawn.weight", "drawn.bias"] and left.left == ["unwritten"] and not left.clean
    named = fastinit.Scheme({"*.weight": fastinit.normal_, "*.bias": None, "unwritten": fastinit.zeros_})
    assert fastinit.audit(Frozen, named, check=True).drawn == ["unwritten", "drawn.weight"]


def test_what_strict_refuses_is_kept_in_words():
    found = fastinit.audit(Kinds, fastinit.keras_like)
    assert all(name in found.refused for name in ("gate", "table", "token", "unwritten"))
    assert found["gate"].state == "kept" and {"token", "unwritten"} <= set(found.left) and found.refused in str(found)
    assert json.loads(found.json())["refused"] == found.refused


def test_tied_ones_come_once_and_parametrized_ones_have_an_initializer():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embedding.weight
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))

    found = fastinit.audit(Tied, fastinit.keras_like.override({nn.Linear: {"weight": fastinit.orthogonal_}}))
    assert found["embedding.weight"].initializer == "uniform_(a=-0.05, b=0.05)" and "head.weight" not in str(found)
    original = found["normed.parametrizations.weight.original1"]
    assert original.state == "drawn" and original.initializer == "orthogonal_"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.float64])
def test_any_dtype(dtype):
    class Any(nn.Module):
        def __init__(self):
            super().__init__()
            self.constant = nn.Parameter(torch.ones(2, 2).to(dtype))
            self.drawn = nn.Parameter(torch.randn(2, 2).to(dtype))
            self.nothing = nn.Parameter(torch.empty(0, dtype=dtype))
            self.whole = nn.Parameter(torch.arange(3), requires_grad=False)

    found = fastinit.audit(
        Any, fastinit.Scheme({Any: {"drawn": fastinit.zeros_, "constant": None, "nothing": None, "whole": None}})
    )
    states = {entry.name: entry.state for entry in found.entries}
    assert states == {"constant": "kept", "drawn": "drawn", "nothing": "kept", "whole": "frozen"}


def test_one_seed_one_audit_and_every_generator_is_put_back():
    class Drawing(nn.Module):
        def __init__(self):
            super().__init__()
            self.python, self.numpy = nn.Parameter(torch.tensor([random.random()])), nn.Parameter(torch.tensor(np.random.rand(2)))
            self.torch, self.linear = nn.Parameter(torch.rand(2)), nn.Linear(2, 2)

    scheme = fastinit.Scheme({Drawing: {"*": None}, nn.Linear: {"*": fastinit.normal_}})
    before = random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.get_deterministic_debug_mode()
    one, two, other = (fastinit.audit(Drawing, scheme, seed=seed) for seed in (2**70, 2**70, 1))
    after = random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.get_deterministic_debug_mode()
    assert one.left == ["python", "numpy", "torch"] and one.json() == two.json()
    assert one["linear.weight"].after != other["linear.weight"].after and one["torch"].before != other["torch"].before
    assert before[0] == after[0] and before[3] == after[3] == 0
    assert torch.equal(before[2], after[2]) and np.array_equal(before[1][1], after[1][1]) and before[1][2:] == after[1][2:]


def test_generators_are_put_back_where_the_constructor_fails():
    before = random.getstate(), torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        fastinit.audit(lambda: 1 / 0)
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    assert torch.get_deterministic_debug_mode() == 0


MODEL = nn.Linear(2, 2)
WIDTHS = iter(range(3, 99))


def on_meta():
    with torch.device("meta"):
        return nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (MODEL, TypeError, "build must be a function that returns a new model. Received: Linear. Pass e.g. lambda"),
        (7, TypeError, "Received: int"),
        (lambda: 7, TypeError, "build must return a torch.nn.Module. Received: 7"),
        (lambda: MODEL, ValueError, "must make a new model each time. Both hold the same: weight, bias. Construct all"),
        (lambda: nn.Sequential(MODEL, nn.Linear(2, 2)), ValueError, "Both hold the same: 0.weight, 0.bias"),
        (lambda: nn.Linear(next(WIDTHS), 2), ValueError, "the same architecture each time. Parameters that differ: weight"),
        (on_meta, ValueError, "build must give parameters values. On meta: weight, bias. Build without torch.device"),
        (lambda: nn.LazyLinear(2), ValueError, "Run a forward pass first"),
    ],
    ids=["a model", "a number", "returns a number", "the same", "shares a part", "differs", "meta", "lazy"],
)
def test_what_cannot_be_audited(build, error, says):
    with pytest.raises(error) as raised:
        fastinit.audit(build)
    assert says in str(raised.value)


def test_wrong_arguments():
    with pytest.raises(TypeError, match=r"scheme must be a fastinit.Scheme. Received: \{\}"):
        fastinit.audit(Kinds, {})
    with pytest.raises(TypeError, match=r"allow must be a sequence of patterns. Received: 'gate'"):
        fastinit.audit(Kinds, allow="gate")
    with pytest.raises(TypeError, match="seed must be an int"):
        fastinit.audit(Kinds, seed="0")


# --- the command --------------------------------------------------------------------------------------------------------------

MODULE = """
import fastinit
from torch import nn
class Small(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.norm.weight)
kept = fastinit.keras_like.override({nn.LayerNorm: {"weight": None}})
changing = fastinit.keras_like.override({nn.LayerNorm: {"weight": fastinit.ones_}})
def made():
    return kept
def broken():
    raise ValueError("no such size")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A file in the current folder, which no path of Python's has."""
    (tmp_path / "audited.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("audited", None)


def test_the_command_tells_and_returns_1_where_it_is_not_clean(module, capsys, tmp_path):
    assert _cli.main(["audit", "audited:Small", "--json", "out.json", "--scheme", "audited:kept"]) == 0
    assert capsys.readouterr().out.endswith("\nclean\n")
    assert json.loads((tmp_path / "out.json").read_text())["clean"] is True
    assert _cli.main(["audit", "audited:Small", "--seed", "3", "--scheme", "audited:changing"]) == 1
    own = importlib.import_module("audited")
    found = fastinit.audit(own.Small, own.changing, seed=3)
    assert capsys.readouterr().out == f"{found}\n" and isinstance(found, Audit) and found.changed == ["norm.weight"]
    assert _cli.main(["audit", "audited:Small", "--scheme", "audited:changing", "--allow", "norm.*"]) == 0


@pytest.mark.parametrize("scheme", ["audited:kept", "audited:made"])
def test_the_command_takes_schemes_and_what_makes_them(module, scheme):
    assert _cli.main(["audit", "audited:Small", "--scheme", scheme]) == 0


def test_the_command_takes_a_ready_scheme_with_its_numbers(capsys):
    assert _cli.main(["audit", "torch.nn:Flatten", "--scheme", "gpt2_like(12, std=0.01)"]) == 0
    assert "no parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audited.Small"], "expected package.module:name. Received: 'audited.Small'"),
        (["audited:Smal"], "audited:Smal is not there: module 'audited' has no attribute 'Smal'"),
        (["no_such_module:Small"], "no_such_module:Small is not there: No module named 'no_such_module'"),
        (["audited:kept"], "audited:kept: build must be a function"),
        (["audited:broken"], "audited:broken: no such size"),
        (["audited:Small", "--scheme", "gpt2_like"], "--scheme gpt2_like: gpt2_like() missing 1 required"),
        (["audited:Small", "--scheme", "ones_"], "--scheme ones_: it is no scheme of this package. Pass one of keras_like"),
        (["audited:Small", "--scheme", "gpt2_like(x)"], "--scheme gpt2_like(x): "),
        (["audited:Small", "--scheme", "a b"], "--scheme a b: "),
        (["audited:Small", "--scheme", "audited:Small"], "is no fastinit.Scheme, but Small"),
        (["audited:Small", "--json", "no/such/folder.json"], "cannot be written"),
    ],
)
def test_the_command_says_what_is_wrong(module, capsys, arguments, says):
    assert _cli.main(["audit", *arguments]) == 2
    assert says in capsys.readouterr().err
