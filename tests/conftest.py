"""Fixtures of several files; what a quick run leaves out (pyproject.toml names the markers).

FASTINIT_TEST_BACKENDS (names, comma-separated) lists the backends that must be there: where one is not, tests fail, not skip.
"""

import importlib
import os
import pathlib
import signal
import sys

import pytest
import torch
from helpers import quick
from hypothesis import HealthCheck, settings
from torch import nn

from fastinit._backends.choose import ORDER, backends, module
from fastinit._torch import is_summoned

if not torch.cuda.is_available():  # Triton's kernels run on CPU tensors then, interpreted; set before their module is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as scripts start what runs in their background: no test would hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.pop("COLUMNS", None)  # of a worker of pytest-xdist: how long the lines of commands may be

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # benchmarks; at the end, lest the source tree hide the installed package

ACCELERATE = importlib.import_module("fastinit._accelerate")  # the package's attribute of this name is the class
SERVING = importlib.import_module("fastinit._serving")

if os.environ.get("FASTINIT_TEST_ALL") == "1":  # every package of the extra test-all is here: one that is not fails, not skips
    SKIPPED = pytest.importorskip
    OTHERS = {"timm"}  # of the extra bench
    pytest.importorskip = lambda name, *rest: SKIPPED(name, *rest) if name in OTHERS else importlib.import_module(name)

REQUIRED = [name for name in os.environ.get("FASTINIT_TEST_BACKENDS", "").split(",") if name]

# No deadline and no check of speed in either: a busy machine is no fault.
settings.register_profile("full", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("full"), max_examples=10, derandomize=True, database=None)


def pytest_configure(config):
    settings.load_profile("quick" if config.option.markexpr == quick.QUICK else "full")


def pytest_ignore_collect(collection_path, config):
    if config.option.markexpr == quick.QUICK and collection_path.name.startswith("test_") and quick.is_full(collection_path):
        return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in quick.left_to_full(items):
        item.add_marker(pytest.mark.full)
    for item in items:
        if hasattr(item, "callspec") and item.callspec.params.get("backend") == "triton":
            item.add_marker(pytest.mark.extra)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """A test that leaves autograd switched off fails: those after it, in whatever order, would find it so."""
    try:
        return (yield)
    finally:
        left_on, _ = torch.is_grad_enabled(), torch.set_grad_enabled(True)
        assert left_on, "autograd is off after this test"


@pytest.fixture(params=ORDER)
def backend(request):
    """Every backend's module in turn; the test is skipped, with the reason, where one cannot fill CPU tensors."""
    reason = backends()[request.param]
    if reason and request.param in REQUIRED:
        pytest.fail(f"{request.param} must be tested here: {reason}")
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    return module(request.param)


@pytest.fixture
def fills(monkeypatch):
    """The names of this package's functions that served in `accelerate`, in order."""
    names, block = [], ACCELERATE.Block
    count = block.count

    def counted(block, function, size):
        names.append(function.__name__)
        count(block, function, size)

    monkeypatch.setattr(block, "count", counted)
    return names


@pytest.fixture
def nothing_of_accelerate_stays():
    before = {name: value for name, value in vars(nn.init).items() if callable(value)}
    yield
    assert {name: value for name, value in vars(nn.init).items() if callable(value)} == before
    assert not ACCELERATE.opened and not ACCELERATE.placed and not ACCELERATE.thread.busy and not len(SERVING.aliases)
    assert not ACCELERATE.blocks.get() and not is_summoned(ACCELERATE.thread.router)
    assert not ACCELERATE.thread.router.holders and not nn.modules.module._global_parameter_registration_hooks
