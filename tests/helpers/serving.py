"""Calls of torch.nn.init that `accelerate` serves, and what must come out."""

import importlib
import warnings

import torch
from torch import nn

import fastinit

MODULE = importlib.import_module("fastinit._accelerate")  # the attribute of the package may be the function
SERVING = importlib.import_module("fastinit._serving")
CALLS = {
    "uniform_": {"a": -1.0, "b": 2.0},
    "normal_": {"mean": 0.5, "std": 2.0},
    "trunc_normal_": {"std": 0.02, "a": -0.03, "b": 0.01},
    "xavier_uniform_": {"gain": 2.0},
    "xavier_normal_": {"gain": 2.0},
    "kaiming_uniform_": {"a": 0.5, "mode": "fan_out"},
    "kaiming_normal_": {"a": 0.5, "mode": "fan_out"},
    "orthogonal_": {"gain": 2.0},
    "sparse_": {"sparsity": 0.3, "std": 0.5},
}
CAPTURED = {name: getattr(nn.init, name) for name in CALLS}
WHOLE = sorted(set(CALLS) - {"orthogonal_", "sparse_"})  # served through captured references too


def parameter(*shape, **options):
    return nn.Parameter(torch.full(shape or (12, 8), 7.0, **options))


def expected(name, seed, n, shape=(12, 8), **options):
    return getattr(fastinit, name)(torch.empty(shape), **(options or CALLS[name]), key=fastinit.key(seed, n))


def own(make, seed=0):
    """What torch itself gives, or raises, and warns of, and the state of its generator after it."""
    torch.manual_seed(seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = make()
        except Exception as error:
            result = (type(error), str(error))
    return result, [str(warning.message) for warning in caught], torch.get_rng_state().tolist()


def call(function, name):
    return lambda: function(parameter(), **CALLS[name])
