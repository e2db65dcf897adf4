"""Forked children of a process in which torch has used several threads: these are gone there, and nothing waits for them."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
TESTS = pathlib.Path(__file__).parent

# What is done on tensors large enough that torch would share the work. `out` is the tensor whose bytes are compared.
CALLS = """
import contextlib, hashlib, os, signal, sys, threading, time, torch
from functools import partial
from torch import nn
BIG = 1 << 18
def inputs():  # of torch, which would hang in a child
    numbers, words = torch.arange(BIG).float(), torch.arange(-BIG, BIG, dtype=torch.int32)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(512, 1024))
    return numbers, words, normed, nn.Embedding(3, BIG, padding_idx=1), sharded_tensor(800, 300)
def started(fastinit, numbers=None, words=None, normed=None, embedding=None, dtensor=None):
    from fastinit._schemes import keras_rules
    ones = lambda *shape: torch.empty(*shape)
    def reference():
        with fastinit.backend("reference"): return fastinit.normal_(ones(BIG), key=1)
    def map_of_words():
        from fastinit._backends import reference
        from fastinit._core.recipes import recipe
        return reference.transform(recipe(fastinit.laws.normal(0.0, 1.0), torch.float32), words)
    def negated():
        pairs = torch.empty(BIG, dtype=torch.complex64)
        fastinit.normal_(pairs.conj().imag, key=1)
        return torch.view_as_real(pairs)[:, 1]
    def filled(model, part, **options):
        fastinit.initialize_(model, seed=0, **options)
        return dict(model.named_parameters(remove_duplicate=False))[part]
    def reset():
        with torch.device("meta"): model = nn.BatchNorm1d(4)
        model.register_buffer("table", torch.empty(BIG, device="meta"))
        fastinit.initialize_(model, seed=0, device="cpu", reset_buffers=lambda module, name: numbers)
        return model.table
    def weight_norm():
        fastinit.initialize_(normed, seed=0)
        return normed.parametrizations.weight.original1
    def accelerated():
        with fastinit.accelerate(seed=0): return nn.init.orthogonal_(ones(300, 200))
    def in_threads():
        made = [ones(300, 200) for _ in range(4)]
        threads = [threading.Thread(target=fastinit.orthogonal_, args=(each,), kwargs={"key": 1}) for each in made]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        return made[3]
    def sharded():
        fastinit.orthogonal_(dtensor, key=1)
        return dtensor._local_tensor
    return {
        "zeros_": lambda: fastinit.zeros_(ones(BIG)),
        "ones_": lambda: fastinit.ones_(ones(BIG)),
        "constant_": lambda: fastinit.constant_(ones(BIG), 0.3),
        "eye_": lambda: fastinit.eye_(ones(600, 500)),
        "dirac_": lambda: fastinit.dirac_(ones(200, 200, 9)),
        "sparse_": lambda: fastinit.sparse_(ones(600, 500), 0.3, key=1),
        "orthogonal_": lambda: fastinit.orthogonal_(ones(300, 200), key=1),
        "orthogonal_ in threads": in_threads,
        "orthogonal_ of a DTensor": sharded,
        "a negated view": negated,
        "the reference": reference,
        "a map of words": map_of_words,
        "accelerate": accelerated,
        "any dtype's zero": lambda: keras_rules.zero_(torch.empty(BIG, dtype=torch.int64)),
        "forget_gate_bias_": lambda: fastinit.forget_gate_bias_(ones(4 * BIG)),
        "padding": lambda: filled(embedding, "weight"),
        "GRU": lambda: filled(nn.GRU(20, 200), "weight_hh_l0"),
        "GRU by apply": lambda: nn.GRUCell(20, 200).apply(constant_matrices(fastinit)).weight_hh,
        "weight_norm": weight_norm,
        "reset_buffers": reset,
        "a random fill": lambda: fastinit.normal_(ones(BIG), key=1),
    }
def constant_matrices(fastinit):
    weight = {"weight_ih": partial(fastinit.orthogonal_, key=1), "weight_hh": partial(fastinit.orthogonal_, key=2)}
    return fastinit.keras_like.override({nn.GRUCell: weight})
def sharded_tensor(*shape):
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Shard, distribute_tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    return distribute_tensor(torch.zeros(shape), DeviceMesh("cpu", torch.arange(2)), [Shard(0)])
def digest(call):
    return hashlib.sha256(call().detach().numpy().tobytes()).hexdigest()
def use_threads():
    torch.set_num_threads(2)
    torch.ones(700, 700) @ torch.ones(700, 700), torch.ones(1 << 20) + 1
def in_child(call, expected):
    os._exit(0 if digest(call) == expected and torch.get_num_threads() == 2 else 1)
def outcomes(children):
    end = time.monotonic() + 60
    while children and time.monotonic() < end:
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                name = children.pop(pid)
                if status: print(name, "is wrong, or leaves another number of threads:", status)
        time.sleep(0.02)
    for pid, name in children.items():
        print(name, "hangs")
        os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)
"""

FORKED = """
import fastinit
calls = started(fastinit, *inputs())
torch.set_num_threads(1)
expected = {name: digest(call) for name, call in calls.items()}
use_threads()
children = {}
for name, call in calls.items():
    pid = os.fork()
    if pid == 0: in_child(call, expected[name])
    children[pid] = name
outcomes(children)
torch.ones(1 << 20) + 1
assert torch.get_num_threads() == 2
"""

# multiprocessing's children, which import the package themselves.
IMPORTED = """
import multiprocessing
def work(name):
    import fastinit
    print(name, digest(started(fastinit)[name]), torch.get_num_threads(), flush=True)
class Worker(multiprocessing.get_context(sys.argv[1]).Process):
    def run(self): work(self.name)
if __name__ == "__main__":
    use_threads()
    processes = [Worker(name=name, daemon=True) for name in ("orthogonal_", "sparse_", "ones_")]
    [process.start() for process in processes]
    for process in processes:
        process.join(40)
        if process.exitcode != 0: print(process.name, "hangs or fails:", process.exitcode)
        process.kill()
"""


def printed(code: str, *arguments: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, "-W", "ignore", "-c", CALLS + code, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        out, error = process.communicate(timeout=150)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, out + error
    return out.splitlines()


@pytest.mark.full
def test_children_of_a_fork_end_with_the_same_bits():
    assert printed(FORKED) == []


@pytest.mark.full
def test_a_child_that_imports_the_package_itself():
    """It cannot have seen the fork: multiprocessing tells."""
    lines = [line.split() for line in printed(IMPORTED, "fork")]
    assert sorted(line[0] for line in lines) == ["ones_", "orthogonal_", "sparse_"] and {line[-1] for line in lines} == {"2"}, (
        lines
    )
