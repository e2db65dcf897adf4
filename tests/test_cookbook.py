"""The recipes of docs/cookbook.md, run as the page has them: what they draw has the laws of the authors' own code, and the rest
its values.

Where a library is no package of the extras (nanoGPT, nanochat, torchtitan), a small model of its names stands for it.
"""

import pathlib
import re
import sys
import types

import pytest
import torch
from helpers import cookbook, real

import fastinit

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "cookbook.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
PREFACE = PAGE.split("\n## ")[0]
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 96}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = {**SIZES, **TOKENS, "num_key_value_heads": 2}
T5 = {"d_model": 64, "d_kv": 8, "d_ff": 96, "num_layers": 2, "num_heads": 4, "vocab_size": 96}
CONFIGS = {  # section -> class of transformers, arguments of its configuration
    "GPT-2 of transformers": ("GPT2", {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 96, "n_positions": 32, **TOKENS}),
    "Llama": ("Llama", DECODER),
    "Mixtral": ("Mixtral", {**DECODER, "num_local_experts": 4}),
    "BERT": ("Bert", {**SIZES, "max_position_embeddings": 32}),
    "T5": ("T5", T5),
    "ViT of transformers": ("ViT", {**SIZES, "image_size": 32, "patch_size": 8, "num_labels": 8}),
    "Mamba": ("Mamba", {**SIZES, "state_size": 8}),
}
PLACES = {  # section -> the module that the recipe imports, its name there, the small model
    "nanoGPT": ("model", "GPT", cookbook.GPT),
    "nanochat": ("nanochat.gpt", "GPT", cookbook.Chat),
    "torchtitan's Llama 3": ("torchtitan.models.llama3", "Transformer", cookbook.Titan),
}
LEFT_BY_NONE = {"Mamba": ["*.dt_proj.*"]}  # random in the constructor, whose values are kept


def code(section):
    return "\n".join(re.findall(r"^```python\n(.*?)^```", section, re.M | re.S))


def stand_in(monkeypatch, path, name, kind):
    """Let `from path import name` give a small model."""
    for end in range(1, path.count(".") + 2):
        part = ".".join(path.split(".")[:end])
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    setattr(sys.modules[path], name, kind)


@pytest.fixture
def cook(monkeypatch):
    """A function that runs a section, and gives the names that it leaves behind; `make` builds its model on the CPU."""

    def cooked(title):
        names, build = {}, []
        exec(code(PREFACE), names)
        whole = names["build"]
        names["build"] = lambda make, scheme: (build.extend((make, scheme)), whole(make, scheme))[1]
        if title in PLACES:
            stand_in(monkeypatch, *PLACES[title])
            names["config"] = cookbook.GPTConfig()
        elif title in CONFIGS:
            name, sizes = CONFIGS[title]
            names["config"] = getattr(real.library("transformers"), f"{name}Config")(**sizes)
        else:
            create = real.library("timm").create_model
            sizes = {"img_size": 32, "depth": 3, "embed_dim": 64, "num_heads": 4, "num_classes": 8}
            monkeypatch.setattr("timm.create_model", lambda name: create(name, **sizes))
        exec(code(SECTIONS[title]), names)
        names["make"], names["scheme"] = build
        return names

    return cooked


def authors(make):
    """The model as its authors initialize it."""
    torch.manual_seed(0)
    model = make()
    if isinstance(model, (cookbook.Chat, cookbook.Titan)):
        model.init_weights()
    return model


def check_law(name, ours, theirs):
    """Five standard errors of mean, spread and shape, which tell a normal from a uniform."""
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, name
    a, b = ours.detach().double().flatten(), theirs.detach().double().flatten()
    if b.min() == b.max():
        assert torch.equal(a, b), name
        return
    error, std = 5 / len(a) ** 0.5, float(b.std())
    assert abs(float(a.std()) / std - 1) < error, f"{name}: {float(a.std())}, not {std}"
    assert abs(float(a.mean() - b.mean())) < 1.5 * error * std, name
    shapes = [float((x - x.mean()).abs().mean() / x.std()) for x in (a, b)]
    assert abs(shapes[0] - shapes[1]) < error, f"{name}: {shapes}"


@pytest.mark.extra
@pytest.mark.parametrize("title", [title for title in SECTIONS if title != "Any model, as it is"])
def test_recipes(title, cook):
    names = cook(title)
    model, report, theirs = names["model"], names["report"], authors(names["make"])
    assert not report.missed and not report.unused, str(report)
    for (name, ours), other in zip(model.named_parameters(), theirs.parameters(), strict=True):
        check_law(name, ours, other)
    for (name, ours), other in zip(model.named_buffers(), theirs.buffers(), strict=True):
        assert ours.device.type == "cpu" and torch.equal(ours, other), name
    again = names["build"](names["make"], names["scheme"])[0]
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.extra
@pytest.mark.parametrize("title", [title for title in SECTIONS if title != "Any model, as it is"])
def test_the_check_of_the_page(title, cook):
    names = cook(title)
    if title in LEFT_BY_NONE:
        fastinit.audit(names["make"], names["scheme"], check=True, allow=LEFT_BY_NONE[title])
    else:
        names["check"](names["make"], names["scheme"])


def test_the_check_of_the_page_finds_what_is_changed(cook):
    names = cook("nanoGPT")
    with pytest.raises(AssertionError, match=r"ln_f\.weight: constant in the constructor, and changed"):
        names["check"](names["make"], fastinit.Scheme({torch.nn.Module: {"*": fastinit.zeros_}}))


def test_any_model_as_it_is(capsys):
    names = {"make": lambda: cookbook.GPT(cookbook.GPTConfig())}
    exec(code(PREFACE) + code(SECTIONS["Any model, as it is"]), names)
    assert names["block"].report.left == () and "normal_" in capsys.readouterr().out
    theirs = authors(names["make"])
    for (name, ours), other in zip(names["model"].named_parameters(), theirs.parameters(), strict=True):
        check_law(name, ours, other)


def test_every_recipe_is_tested():
    assert {*SECTIONS} == {"Any model, as it is", "ViT of timm", *CONFIGS, *PLACES}
