"""A fill takes no memory beside its tensor: the peak of a process that fills 1 GB."""

import subprocess
import sys

import pytest
import torch

from fastinit._backends.choose import backends as all_backends

CODE = """
import resource, sys, torch, fastinit
scale = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
tensor = torch.empty({shape}){view}
with fastinit.backend("{backend}"):
    fastinit.truncated_normal_(torch.empty(100_000), key=1)
    before = peak()
    fastinit.truncated_normal_(tensor, key=1)
print(peak() - before - tensor.nbytes)
"""


@pytest.mark.parametrize(
    "backend, shape, view",
    [
        pytest.param("native", "(1 << 28,)", "", marks=pytest.mark.full),
        ("native", "(1 << 12, 1 << 15)", ".t()"),
        pytest.param("reference", "(1 << 25,)", "", marks=pytest.mark.full),
        pytest.param("reference", "(1 << 11, 1 << 12)", ".t()", marks=pytest.mark.full),
    ],
)
def test_peak_memory(backend, shape, view):
    reason = all_backends(torch.device("cpu"))[backend]
    if reason:
        pytest.skip(reason)
    code = CODE.format(shape=shape, view=view, backend=backend)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd="/")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) <= 64 << 20, f"{int(result.stdout) / 2**20:.0f} MB beside the tensor"


BLEND = """
import resource, sys, torch, fastinit
scale = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
tensor = torch.zeros(1 << 13, 1 << 13).fill_(1.0)  # every page is there
for way in (tensor, tensor.t()[:, 1:]):
    fastinit.blend_(way[:64], fastinit.normal_, key=[1, 2], add=[1.0, 1.0])
    before = peak()
    fastinit.blend_(way, fastinit.normal_, key=[1, 2], add=[1.0, 1.0])
    print(peak() - before)
"""


def test_a_blend_takes_no_memory():
    """2^26 floats, dense and strided: less than a megabyte, which is the stacks of its threads."""
    if all_backends(torch.device("cpu"))["native"]:
        pytest.skip("the native backend cannot be used here")
    result = subprocess.run([sys.executable, "-c", BLEND], capture_output=True, text=True, timeout=300, cwd="/")
    assert result.returncode == 0, result.stderr
    assert all(int(line) < 1 << 20 for line in result.stdout.split()), f"{result.stdout} bytes beside the tensor"


MODEL = """
import resource, sys, torch, fastinit
from torch import nn
scale = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
make = lambda width, depth: nn.Sequential(nn.Embedding(50000, width), *(nn.Linear(width, 4 * width) for _ in range(depth)))
scheme = fastinit.truncated_like()
fastinit.initialize_(make(8, 2), scheme, seed=0)
if {meta}:
    with torch.device("meta"):
        model = make(1024, 8)
else:
    model = make(1024, 8)
before = peak()
fastinit.initialize_(model, scheme, seed=0, device="cpu")
size = sum(parameter.nbytes for parameter in model.parameters())
assert size > 1 << 28
print(peak() - before - size * {meta})
"""


@pytest.mark.full
@pytest.mark.parametrize("meta", [0, 1])
def test_peak_memory_of_a_model(meta):
    """In place, and materialised from meta: the model and nothing else."""
    result = subprocess.run([sys.executable, "-c", MODEL.format(meta=meta)], capture_output=True, text=True, timeout=300, cwd="/")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) <= 64 << 20, f"{int(result.stdout) / 2**20:.0f} MB beside the model"


ORTHOGONAL = """
import resource, sys, torch, fastinit
from torch import nn
scale = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
{fill}(torch.empty(300, 200))
tensor = torch.zeros({shape}) + 1
before = peak()
{fill}(tensor)
print((peak() - before) / tensor.nbytes)
"""


@pytest.mark.parametrize("shape", ["(1800, 1200)", pytest.param("(1200, 1800)", marks=pytest.mark.full)])
def test_an_orthogonal_matrix_takes_no_more_than_torch_s(shape):
    """Beside the tensor: the Gaussian, what the factorization takes, and no copy of its result."""
    times = []
    for fill in ("fastinit.orthogonal_", "nn.init.orthogonal_"):
        code = ORTHOGONAL.format(fill=fill, shape=shape)
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd="/")
        assert result.returncode == 0, result.stderr
        times.append(float(result.stdout))
    assert times[0] <= times[1] + 0.2, f"{times[0]:.2f} times the tensor, torch's {times[1]:.2f}"
