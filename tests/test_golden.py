"""The bits are frozen: every backend gives the hashes on file."""

import json

import pytest
import torch
from golden import FILE, cases, digest

from fastinit import STREAM_VERSION
from fastinit.backends import backends as all_backends
from fastinit.backends import module

GOLDEN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", [name for name, reason in all_backends(torch.device("cpu")).items() if reason is None])
def test_hashes(name):
    assert GOLDEN["stream_version"] == STREAM_VERSION
    chosen = list(cases())[:: 2 if name == "triton" else 1]  # interpreted: of three places, every law and dtype sees one at least
    found = {case: digest(module(name), *rest) for case, *rest in chosen}
    changed = [case for case in found if found[case] != GOLDEN["hashes"].get(case)]
    assert not changed and len(list(cases())) == len(GOLDEN["hashes"]), changed[:5]
