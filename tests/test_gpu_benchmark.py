"""The command for a GPU machine, as far as it can be tried without one: it says so, and a dry run takes every step."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch

import fastinit

pytestmark = pytest.mark.full

ROOT = pathlib.Path(__file__).parents[1]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=600, env={**os.environ, "TRITON_INTERPRET": "1"}
    )


@without_gpu
def test_without_a_gpu_nothing_is_measured():
    done = run()
    assert done.returncode == 2 and "there is no GPU here" in done.stderr


@without_gpu
def test_a_dry_run_takes_every_step(tmp_path):
    if fastinit.backends()["triton"] is not None:
        pytest.skip(f"triton: {fastinit.backends()['triton']}")
    done = run("--dry-run", "--output", str(tmp_path / "gpu-dry.json"))
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "gpu-dry.json").read_text())
    works = {(row["work"], row["dtype"], row["elements"]) for row in report["rows"]}
    in_tree = (ROOT / "fastinit" / "libfastinit.so").is_file()  # which is where this program runs from
    served = {"triton", "native"} if in_tree else {"triton"}
    assert len(works) == 5 * 2 * 2 and {row["backend"] for row in report["rows"]} == served
    assert all(row["seconds"]["p50"] > 0 and row["times_peer"]["p50"] > 0 for row in report["rows"] + report["models"])
    assert set(report["first_call"]["triton"]) == {"import", "cold", "warm"}
    noise = {(row["dtype"], row["seeds"], row["backend"]) for row in report["noise"]}
    assert noise == {(dtype, seeds, name) for dtype in ("float32", "bfloat16") for seeds in (1, 2) for name in served}
    assert all(
        row["seconds"]["p50"] > 0 and row["times_randn"]["p50"] > 0 < row["times_seeded"]["p50"] for row in report["noise"]
    )
    assert {model["model"] for model in report["models"]} == {"ResNet-50", "GPT-2 small"}
    specification = importlib.util.spec_from_file_location("readme_tables", ROOT / "benchmarks" / "readme_tables.py")
    tables = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tables)
    lines = tables.gpu_text(report).splitlines()
    assert "a dry run" in lines[0] and sum(line.startswith("| ") for line in lines) == 2 * 2 + len(served) * (10 + 4)


def test_the_models_have_their_sizes():
    """torchvision's ResNet-50 has 25,557,032 parameters, 53,120 of them in batch normalization; GPT-2 has 124,439,808."""
    code = "import math; from benchmarks import gpu; makers = gpu.resnet50, gpu.gpt2_shapes\n"
    code += "print(*(sum(map(math.prod, shapes(gpu.FULL))) for shapes in makers))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    biases, layer_norms = 12 * (3 + 1 + 4 + 1) * 768, (12 * 2 + 1) * 2 * 768
    assert done.stdout.split() == [str(25_557_032 - 53_120 - 1000), str(124_439_808 - biases - layer_norms)], done.stderr
