"""Devices that no backend serves: filled on the CPU with the same bits, copied in pieces. A stand-in plays the device."""

import pathlib

import pytest
from helpers import running

SCRIPT = pathlib.Path(__file__).parent / "helpers" / "devices.py"


@pytest.mark.full
def test_a_device_without_a_backend_gets_the_same_bits():
    """Every function, dtype, layout, box, DTensor and model; the script says what it has checked."""
    done = running.run(str(SCRIPT)).split()
    assert done == ["every_function", "every_box", "blends", "bounded", "models", "shards", "choices"]
