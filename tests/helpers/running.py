"""Scripts in processes of their own, on one rank or several."""

import os
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).parents[1]


def run(*command):
    """Return what Python printed; where it failed, fail with what it said."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))  # scripts may import helpers
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # no machine need be able to resolve its own name
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    return done.stdout


def torchrun(ranks, script):
    return run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), str(script))
