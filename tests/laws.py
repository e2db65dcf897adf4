"""One distribution of each kind and shape of table, and how tests fill with them."""

import math

import torch

from fastinit import distributions
from fastinit.backends import reference
from fastinit.plan import Plan, whole

INTEGERS = reference.INTEGERS
KEY = 0x0123456789ABCDEF
LAWS = {
    "uniform": distributions.uniform(-0.3, 0.3),
    "uniform from 0": distributions.uniform(0.0, 1.0),
    "uniform to -1": distributions.uniform(-3.0, -1.0),
    "uniform across 0": distributions.uniform(-0.1, 0.3),
    "normal": distributions.normal(0.1, 0.02),
    "2 sigmas": distributions.truncated_normal(0.0, 1.0, -2.0, 2.0),
    "3 sigmas": distributions.truncated_normal(0.0, 0.7, -2.1, 2.1),
    "small asymmetric": distributions.truncated_normal(0.0, 1.0, -0.1, 0.2),
    "half-normal": distributions.truncated_normal(0.0, 1.0, 0.0, math.inf),
    "far tail": distributions.truncated_normal(0.0, 1.0, 8.0, 9.0),
    "fmod": distributions.fmod_normal(0.5, 0.1, 0.4, 0.6),
}


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    integer = INTEGERS[a.itemsize]
    return torch.equal(a.contiguous().view(integer), b.contiguous().view(integer))


def filled(backend, law, dtype, count, box=None, key=KEY):
    out = torch.full((count,), -1.0).to(dtype)
    backend.fill([Plan(out, distributions.recipe(law, dtype), key, box or whole(out))])
    return out
