"""Sums of noise against the laws they promise, through the public functions, at fixed keys. Limits: test_statistics.py's."""

import math
from functools import partial

import numpy
import pytest
import scipy.stats
import torch
from helpers.quick import some
from test_statistics import P, Z, correlation

import fastinit

N = 1 << 18
ADD = (0.5, -1.25, 2.0, 0.1)
WIDE = partial(fastinit.uniform_, a=-1.0, b=1.0)
KEYS = [fastinit.key(seed, "layer.weight") for seed in range(len(ADD))]


def sum_of(initializer, dtype=torch.float32, keys=KEYS, add=ADD, count=N, **arguments):
    """The sum alone: onto zeros."""
    return fastinit.blend_(torch.zeros(count, dtype=dtype), initializer, key=keys, add=add, **arguments)


def check_moments(values, exact):
    """Mean, variance, skewness and kurtosis, each in standard errors from the sample's higher moments."""
    mean, variance, skewness, kurtosis = (float(moment) for moment in exact)
    z = (values - mean) / math.sqrt(variance)
    for power, expected in ((1, 0.0), (2, 1.0), (3, skewness), (4, kurtosis + 3)):
        terms = z**power
        assert abs(terms.mean() - expected) < Z * terms.std() / math.sqrt(len(z)), power


def check_cells(values, cdf):
    """1,000 cells of equal probability."""
    counts = numpy.bincount(numpy.minimum((cdf(values) * 1000).astype(int), 999), minlength=1000)
    assert scipy.stats.chisquare(counts).pvalue > P


@pytest.mark.parametrize("keep", some([0.0, 0.75], [0.75]))
def test_normal_sums_are_normal(keep):
    """Onto what a number holds: the law is moved by keep times that."""
    values = fastinit.blend_(torch.full((N,), 3.0), fastinit.normal_, key=KEYS, add=ADD, keep=keep).double().numpy()
    exact = scipy.stats.norm(3.0 * keep, math.sqrt(sum(a * a for a in ADD)))
    assert scipy.stats.kstest(values, exact.cdf).pvalue > P
    check_moments(values, exact.stats("mvsk"))
    check_cells(values, exact.cdf)


def test_two_uniforms_are_a_trapezoid():
    """On [-1, 1] and [-0.25, 0.25]: its shoulders are at 0.75."""
    values = sum_of(WIDE, torch.float64, KEYS[:2], (1.0, -0.25)).numpy()
    exact = scipy.stats.trapezoid(0.2, 0.8, -1.25, 2.5)
    assert scipy.stats.kstest(values, exact.cdf).pvalue > P
    check_cells(values, exact.cdf)
    check_moments(values, exact.stats("mvsk"))


def test_many_uniforms_have_their_moments():
    """Twelve: cumulants add."""
    add = [0.5 + 0.25 * i for i in range(12)]
    values = sum_of(WIDE, keys=range(12), add=add).double().numpy()
    variance, fourth = sum(a**2 for a in add) / 3, -2 / 15 * sum(a**4 for a in add)
    check_moments(values, (0.0, variance, 0.0, fourth / variance**2))


@pytest.mark.parametrize("dtype", some([torch.bfloat16, torch.float16], [torch.bfloat16]), ids=str)
def test_no_bias_in_narrow_dtypes(dtype):
    """Small noise onto numbers of every size: rounding to nearest moves none of them on the average."""
    old = fastinit.normal_(torch.empty(N, dtype=dtype), key=1)
    change = fastinit.blend_(old.clone(), fastinit.normal_, key=KEYS[:2], add=(0.01, 0.01)).double() - old.double()
    noise = sum_of(fastinit.normal_, torch.float64, KEYS[:2], (0.01, 0.01))
    assert abs(float(change.mean())) < Z * float(change.std()) / math.sqrt(N)
    z = float((change * noise).mean() / (noise**2).mean() - 1) / float((change * noise).std() / (noise**2).mean()) * math.sqrt(N)
    assert abs(z) < Z, "the noise that arrives is not all of it"


def test_members_are_independent():
    """Each two alone, their squares, and a place beside; and in one sum: a sum and a difference have one variance, and nothing
    in common."""
    keys = [0, 1, 2, 1 << 32, 1 << 63, *KEYS[:2]]
    alone = [sum_of(fastinit.normal_, torch.float64, [key], [1.0], 1 << 16) for key in keys]
    for i, one in enumerate(alone):
        for j, other in enumerate(alone[:i]):
            for x, y in ((one, other), (one**2, other**2), (one[1:], other[:-1])):
                assert abs(correlation(x, y)) < Z, (keys[i], keys[j])
            total, difference = (sum_of(fastinit.normal_, torch.float64, [keys[i], keys[j]], [1.0, s], 1 << 16) for s in (1, -1))
            assert abs(correlation(total, difference)) < Z, (keys[i], keys[j])


def test_members_of_a_model_are_independent():
    """Parameters of one shape under one seed, and one parameter under two seeds, in the noise of perturb_."""
    model = torch.nn.Sequential(*(torch.nn.Linear(256, 256, bias=False, dtype=torch.float64) for _ in range(3)))
    noise = []
    for seed in (1, 2):
        for weight in model.parameters():
            torch.nn.init.zeros_(weight)
        fastinit.perturb_(model, fastinit.normal_, seed=seed, add=0.5)
        noise += [weight.detach().flatten().clone() for weight in model.parameters()]
    for i, one in enumerate(noise):
        assert abs(float(one.var()) / 0.25 - 1) < Z * math.sqrt(2 / len(one)) and abs(float(one.mean())) < Z * 0.5 / 256
        for other in noise[:i]:
            assert abs(correlation(one, other)) < Z


def test_the_spread_of_many_members():
    """The estimate of a gradient of as many members as an evolution strategy has: an element's variance is the sum of squares."""
    members, count = 256, 1 << 12
    add = [math.cos(member) for member in range(members)]
    values = sum_of(fastinit.normal_, keys=[fastinit.key(m) for m in range(members)], add=add, count=count).double()
    z = values / math.sqrt(sum(a * a for a in add))
    assert abs(float(z.mean())) < Z / math.sqrt(count) and abs(float(z.var()) - 1) < Z * math.sqrt(2 / count)
    assert scipy.stats.kstest(z.numpy(), scipy.stats.norm.cdf).pvalue > P
