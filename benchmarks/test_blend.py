"""Noise onto a tensor and a model by fastinit, and by randn and add_: ``pytest benchmarks --benchmark-only -k blend``.

One perturbation and the update of 32 members. The others loop over the members, the slow ones over a few of them. extra_info:
elements_per_s, of noise; ratio_to_randn, the time of ``torch.manual_seed``, randn and add_ in turns with the contender, over the
contender's, both for a member; peak_bytes beyond what noise is added to, by a process of its own. FASTINIT_BENCH_QUICK=1: trials.
"""

import os
import statistics
from functools import partial

import pytest
import torch

from fastinit._commands import models, noise
from fastinit._commands.measure import timed
from fastinit._commands.noise import CONTENDERS, MEMBERS, OURS, PEERS, SUBJECTS

QUICK = os.environ.get("FASTINIT_BENCH_QUICK", "") not in ("", "0")
ROUNDS, LOOP = (3, 2) if QUICK else (7, 4)  # members that a loop is timed on
PACE = noise.QUICK if QUICK else noise.FULL


@pytest.mark.parametrize("who", CONTENDERS)
@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_blend(benchmark, name, dtype, members, who):
    benchmark.group = f"noise onto {name} {dtype}, {members} members"
    subject, peer = noise.subject_of(name, dtype, QUICK), PEERS[0]
    counts = {contender: members if contender == OURS else min(members, LOOP) for contender in CONTENDERS}
    calls = {contender: partial(CONTENDERS[contender], subject, counts[contender]) for contender in {peer, who}}
    turns = []

    def setup():
        turns.append(timed(lambda _: calls[peer](), torch.empty(0)))

    benchmark.pedantic(calls[who], setup=setup, rounds=ROUNDS, warmup_rounds=1)
    peak = models.result_of(noise.Job(name, dtype, members, QUICK, who), PACE, noise.measure)
    owns = benchmark.stats.stats.data if benchmark.stats else turns  # no stats under --benchmark-disable
    pairs = zip(turns[-len(owns) :], owns, strict=True)  # the first turns were the warm-up's
    elements = sum(tensor.numel() for tensor in noise.tensors_of(subject))
    benchmark.extra_info.update(
        members=counts[who],
        elements_per_s=elements * counts[who] / statistics.median(owns),
        ratio_to_randn=statistics.median(other / counts[peer] / (own / counts[who]) for other, own in pairs),
        **peak,
    )
