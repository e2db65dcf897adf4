"""Schemes are safe on code that nobody here wrote: on models of transformers and timm, and on small ones of every kind, each ready
scheme keeps what the constructor sets, and draws what it draws; or strict names the parameter.

FASTINIT_TEST_LIBRARIES=1 says that both libraries are here: a model that cannot be built then fails, not skips.
"""

import importlib
import os
import re

import pytest
from helpers import kinds, real

import fastinit

pytestmark = pytest.mark.full

SCHEMES = {
    "keras_like": fastinit.keras_like,
    "torch_like": fastinit.torch_like,
    "gpt2_like": fastinit.gpt2_like(2),
    "truncated_like": fastinit.truncated_like(),
}


def told(found):
    """How often strict names each parameter, by full names, or by its class and name and a count."""
    text = found.refused or ""
    lines = re.findall(r"^  (\w+)\.(\w+) \((?:(\d+) of )?.*", text, re.M)
    counts = {(module, attribute): int(count or 1) for module, attribute, count in lines}
    return text, counts


def unsaid(found):
    """The parameters that were changed or left, and that strict does not name."""
    text, counts = told(found)
    unnamed = []
    for name in [*found.changed, *found.left]:
        named = re.sub(r"parametrizations\.(\w+)\.original\d$", r"\1", name)
        if not re.search(rf"(?<![\w.]){re.escape(named)}(?![\w.])", text):
            unnamed.append(name)
    groups = {}
    for name in unnamed:
        groups.setdefault((found[name].module, name.rpartition(".")[2]), []).append(name)
    # strict names the first of a kind, and counts them all
    return [name for kind, names in groups.items() if counts.get(kind, 0) <= len(names) for name in names]


@pytest.fixture(params=SCHEMES)
def scheme(request):
    return SCHEMES[request.param]


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.__name__)
def test_small_models_of_every_kind(kind, scheme):
    found = fastinit.audit(kind, scheme)
    assert unsaid(found) == [], str(found)


def library(name):
    """Skip, or fail, without the library."""
    if os.environ.get("FASTINIT_TEST_LIBRARIES") == "1":
        return real.import_timm() if name == "timm" else importlib.import_module(name)
    try:
        return real.import_timm() if name == "timm" else importlib.import_module(name)
    except Exception as error:  # a library that was built for another torch fails in many ways
        pytest.skip(f"{name} cannot be imported: {error}")


@pytest.mark.parametrize("name", real.MODELS)
def test_real_models(name, scheme):
    owner, make = real.MODELS[name]
    library(owner)
    found = fastinit.audit(lambda: make(name), scheme)
    assert len(found.drawn) > len(found.entries) / 4
    assert unsaid(found) == [], str(found)
