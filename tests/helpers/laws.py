"""One distribution of each kind and shape of table, and how tests fill with them."""

import math

import torch

from fastinit._backends import reference
from fastinit._backends.choose import choose
from fastinit._core import laws, recipes
from fastinit._core.plan import Plan, whole

INTEGERS = reference.INTEGERS
KEY = 0x0123456789ABCDEF
LAWS = {
    "uniform": laws.uniform(-0.3, 0.3),
    "uniform from 0": laws.uniform(0.0, 1.0),
    "uniform to -1": laws.uniform(-3.0, -1.0),
    "uniform across 0": laws.uniform(-0.1, 0.3),
    "normal": laws.normal(0.1, 0.02),
    "2 sigmas": laws.truncated_normal(0.0, 1.0, -2.0, 2.0),
    "3 sigmas": laws.truncated_normal(0.0, 0.7, -2.1, 2.1),
    "small asymmetric": laws.truncated_normal(0.0, 1.0, -0.1, 0.2),
    "half-normal": laws.truncated_normal(0.0, 1.0, 0.0, math.inf),
    "far tail": laws.truncated_normal(0.0, 1.0, 8.0, 9.0),
    "fmod": laws.fmod_normal(0.5, 0.1, 0.4, 0.6),
}


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    integer = INTEGERS[a.itemsize]
    return torch.equal(a.contiguous().view(integer), b.contiguous().view(integer))


def filled(backend, law, dtype, count, box=None, key=KEY):
    out = torch.full((count,), -1.0).to(dtype)
    backend.fill([Plan(out, recipes.recipe(law, dtype), key, box or whole(out))])
    return out


def fill_part_(out, law, box, key=KEY):
    """The part of a whole tensor that the box names, by the backend that serves."""
    choose(out.device).fill([Plan(out, recipes.recipe(law, out.dtype), key, box)])
    return out
