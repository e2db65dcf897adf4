"""The scripts in examples/ run and show what they say; pages of the guide show three of them."""

import pathlib
import re

import pytest
from helpers.quick import some
from helpers.running import run, torchrun

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
WITHOUT_SKLEARN = "import runpy, sys; sys.modules['sklearn'] = None; runpy.run_path(sys.argv[1])"


@pytest.mark.full
def test_plain():
    out = run(str(EXAMPLES / "plain.py"))
    assert re.search(r"layers\.3\.linear2\.weight +256x1024 +float32 +filled +truncated_normal_\(std=0\.00707", out)
    assert re.search(r"in_proj_weight +768x256 +float32 +filled +glorot_uniform_, key [0-9a-f]{16}", out)
    assert "seed 0: 48 filled" in out


@pytest.mark.full
def test_meta():
    assert re.search(r"on c\w+: 50 filled, 1 tied", run(str(EXAMPLES / "meta.py")))


@pytest.mark.full
def test_fsdp2():
    assert "24 parameters on 2 ranks: the bits of one device" in torchrun(2, EXAMPLES / "fsdp2.py")


@pytest.mark.full
@pytest.mark.parametrize("data", some(["handwritten digits", "made-up shapes"], ["made-up shapes"]))
def test_keras_port(data):
    """It is filled as Keras does and learns, on scikit-learn's digits or on data that it makes."""
    if data == "handwritten digits":
        pytest.importorskip("sklearn")
    out = run(*(["-c", WITHOUT_SKLEARN] if data == "made-up shapes" else []), str(EXAMPLES / "keras_port.py"))
    assert re.search(r"dense\.weight +10x64 +float32 +filled +truncated_normal_\(std=0\.05\)", out)
    assert "forget bias of the LSTM: 1 to 1" in out and "seed 0: 17 filled" in out
    before, after, right = map(float, re.search(data + r", 171 steps: loss from (\S+) to (\S+), (\d+)%", out).groups())
    assert 2 < before < 3 and after < before / 2 and right > 50


@pytest.mark.parametrize(("name", "page"), [("plain", "models"), ("meta", "meta"), ("fsdp2", "sharding")])
def test_the_guide_shows_these_scripts(name, page):
    code = (EXAMPLES / f"{name}.py").read_text().split('"""\n', 1)[1].strip()
    assert f"```python\n{code}\n```" in (EXAMPLES.parent / "docs" / "guide" / f"{page}.md").read_text()
