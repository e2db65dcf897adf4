"""What needs several processes, on 2 and 4 ranks of gloo; and the README's workflows, which are the scripts that run here."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from helpers.quick import some

TESTS = pathlib.Path(__file__).parent
WORKFLOWS = TESTS.parent / "examples"


def run(*command):
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # whose own name no machine need be able to resolve
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    return done.stdout


def torchrun(ranks, script):
    return run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), str(script))


@pytest.mark.parametrize("ranks", some([2, 4], [2]))
def test_shards_on_every_rank_are_those_of_the_whole(ranks):
    assert f"battery passed on {ranks} ranks" in torchrun(ranks, TESTS / "helpers" / "rank_battery.py")


@pytest.mark.full
def test_workflow_plain():
    out = run(str(WORKFLOWS / "plain.py"))
    assert re.search(r"layers\.3\.linear2\.weight +256x1024 +float32 +filled +truncated_normal_\(std=0\.00707", out)
    assert re.search(r"in_proj_weight +768x256 +float32 +filled +glorot_uniform_, key [0-9a-f]{16}", out)
    assert "seed 0: 48 filled" in out


@pytest.mark.full
def test_workflow_meta():
    assert re.search(r"on c\w+: 50 filled, 1 tied", run(str(WORKFLOWS / "meta.py")))


@pytest.mark.full
@pytest.mark.parametrize("ranks", [2, 4])
def test_workflow_fsdp2(ranks):
    assert f"24 parameters on {ranks} ranks: the bits of one device" in torchrun(ranks, WORKFLOWS / "fsdp2.py")


@pytest.mark.parametrize("name", ["plain", "meta", "fsdp2"])
def test_the_readme_shows_these_scripts(name):
    readme = TESTS.parent / "README.md"
    code = (WORKFLOWS / f"{name}.py").read_text().split('"""\n', 1)[1].strip()
    assert f"```python\n{code}\n```" in readme.read_text()
