"""The machine's side of the Triton kernels, without the machine: their PTX, executed, gives the reference's bits."""

import os
import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_compiled_fills_have_the_bits_of_the_reference():
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(TESTS.parent)
    command = [sys.executable, str(TESTS / "ptx_fills.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "0 wrong" in done.stdout and done.stdout.count("True") == 2, done.stdout
