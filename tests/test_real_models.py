"""Schemes are safe on code that nobody here wrote: on models of transformers and timm, and on small ones of every kind, each
ready scheme keeps what the constructor sets, and draws what it draws; or strict names the parameter.

FASTINIT_TEST_LIBRARIES=1 says that both libraries are here: a model that cannot be built then fails, not skips.
"""

import re
from collections import Counter, defaultdict

import pytest
from helpers import kinds, real

import fastinit

SCHEMES = {
    "keras_like": fastinit.keras_like,
    "torch_like": fastinit.torch_like,
    "gpt2_like": fastinit.gpt2_like(2),
    "truncated_like": fastinit.truncated_like(),
    "llama_like": fastinit.llama_like(),
    "vit_like": fastinit.vit_like(),
    "t5_like": fastinit.t5_like(d_model=32, d_kv=8),
    "mup_like": None,  # is told the output's name
}


def audited(build, name):
    """The audit of a scheme; muP's output is the last matrix, which a user's rule by full name may change."""
    if name != "mup_like":
        return fastinit.audit(build, SCHEMES[name])
    matrices = [name for name, tensor in build().named_parameters() if name.endswith("weight") and tensor.ndim > 1]
    return fastinit.audit(build, fastinit.mup_like(width=32, base_width=16, output=matrices[-1]), allow=matrices[-1:])


def unsaid(found):
    """What was changed, as nothing is that strict refuses; and what was left and is not told: by its name, or where the first of
    a class and name stand, by their number."""
    text = found.refused or ""
    more = Counter()
    counted = r"^  [\w.]*?(\w+),.* and (\d+) more \(parameters of \d+ modules (\w+),"
    for attribute, number, module in re.findall(counted, text, re.M):
        more[module, attribute] += int(number)
    unnamed = defaultdict(list)
    for name in found.left:
        named = re.sub(r"parametrizations\.(\w+)\.original\d$", r"\1", name)
        if not re.search(rf"(?<![\w.]){re.escape(named)}(?![\w.])", text):
            unnamed[found[name].module, name.rpartition(".")[2]].append(name)
    changed = [name for name in found.changed if not found[name].allowed]
    return [*changed, *(name for kind, names in unnamed.items() if len(names) > more[kind] for name in names)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.__name__)
def test_small_models_of_every_kind(kind, scheme):
    found = audited(kind, scheme)
    assert unsaid(found) == [], str(found)


OF_FAMILIES = ("llama_like", "vit_like", "t5_like", "mup_like")  # which share what they know with gpt2_like
PAIRS = [
    (name, scheme)
    for number, name in enumerate(real.MODELS)
    for scheme in SCHEMES
    if number % 3 == 0 or scheme not in OF_FAMILIES  # of 90 classes 30
]


@pytest.mark.full
@pytest.mark.parametrize(("name", "scheme"), PAIRS)
def test_real_models(name, scheme):
    owner, make = real.MODELS[name]
    real.library(owner)
    found = audited(lambda: make(name), scheme)
    assert len(found.drawn) >= 5
    assert unsaid(found) == [], str(found)
