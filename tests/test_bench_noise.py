"""`fastinit bench --noise`: its arguments, that all contenders do one thing, what is compared, its report."""

import json
import math

import pytest
import torch

from fastinit import _cli
from fastinit._commands import models, noise
from fastinit._commands.noise import CONTENDERS, OURS, PEERS, Job

MB = 1_000_000


@pytest.fixture
def small(monkeypatch):
    """A trial of a few elements."""
    monkeypatch.setattr(noise, "SUBJECTS", {"2^10": 1 << 10, "gpt2-124m": 0})
    monkeypatch.setattr(noise, "MEMBERS", (1, 3))
    monkeypatch.setattr(noise, "QUICK", noise.QUICK._replace(rounds=1, peer_seconds=0.001))


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--noise", "--functions", "normal"], ["--functions", "--noise"]),
        (["--noise", "--sizes", "8"], ["--sizes", "--noise"]),
        (["--noise", "--models"], ["--models", "--noise"]),
        (["--noise", "--devices", "cpu"], ["--devices", "--noise"]),
        (["--noise", "--dtypes", "float8_e5m2"], ["'float8_e5m2'", "bfloat16"]),
    ],
)
def test_wrong_arguments_are_named(capsys, arguments, texts):
    assert _cli.main(["bench", *arguments]) == 2
    message = capsys.readouterr().err
    assert all(text in message for text in texts)


@pytest.mark.parametrize("subject", noise.SUBJECTS)
@pytest.mark.parametrize("name", CONTENDERS)
def test_contenders_add_the_same_noise_to_every_parameter(name, subject):
    """Its mean and deviation within six standard errors; other values in each tensor; the same ones in a second run."""
    changes = []
    for _ in range(2):
        tensors = noise.tensors_of(built := noise.subject_of(subject, "float32", True))
        before = [tensor.double() for tensor in tensors]
        CONTENDERS[name](built, 3)
        changes.append([(t.double() - b) / 1e-3 for t, b in zip(tensors, before, strict=True)])
    for one, again in zip(*changes, strict=True):
        assert torch.equal(one, again)
        assert abs(one.mean()) <= 6 * (3 / one.numel()) ** 0.5
        assert abs(one.square().mean() / 3 - 1) <= 6 * (2 / one.numel()) ** 0.5
    assert len({tuple(one.flatten()[:8].tolist()) for one in changes[0]}) == len(changes[0]), "a pattern that repeats"


def test_a_part_of_a_loop_is_compared_by_members(monkeypatch):
    monkeypatch.setattr(noise, "timed", lambda call, tensor: 0.9)
    monkeypatch.setattr(noise, "paired", lambda calls, rounds: {name: [2.0 if name in PEERS else 1.0] * rounds for name in calls})
    result = noise.measure(Job("2^20", "bfloat16", 32, True, rounds=3, peer_seconds=4.0))
    assert [result[name]["members"] for name in CONTENDERS] == [32, 4, 4]
    assert [result[name]["times"]["p50"] for name in CONTENDERS] == [1.0, 16.0, 16.0], "2 s for 4 members, 1 s for 32"
    assert result["bytes"] == 2 * result["elements"]
    monkeypatch.setattr(noise, "timed", lambda call, tensor: 9.0)
    assert noise.measure(Job("2^20", "float32", 32, True, rounds=1))[PEERS[0]]["members"] == 1
    assert noise.measure(Job("2^20", "float32", 1, True, rounds=1))[PEERS[0]]["times"]["p50"] == 2


@pytest.mark.full
def test_peaks_of_processes_of_their_own():
    """The others make a tensor of noise; fastinit makes none."""
    peaks = [models.result_of(Job("2^24", "float32", 3, False, name), noise.FULL, noise.measure) for name in CONTENDERS]
    if any(peak.get("peak_bytes", 0) is None for peak in peaks):
        pytest.skip("peak memory is read from /proc")
    ours, *others = (peak["peak_bytes"] for peak in peaks)
    assert ours <= MB and all(64 * MB <= other <= 140 * MB for other in others)


@pytest.mark.full
def test_noise_is_reported(small, tmp_path, capsys):
    file = tmp_path / "results.json"
    assert _cli.main(["bench", "--noise", "--quick", "--dtypes", "float32", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "gpt2-124m" in printed and "x randn" in printed and "failed" not in printed
    report = json.loads(file.read_text())
    assert {"cpu", "cores", "threads", "isa", "torch", "date", "commit", "fastinit"} <= set(report["machine"])
    places = [(row["subject"], row["dtype"], row["members"]) for row in report["rows"]]
    assert places == [(subject, "float32", n) for subject in noise.SUBJECTS for n in noise.MEMBERS]
    for row in report["rows"]:
        seconds = row[OURS]["seconds"]["p50"]
        assert math.isclose(row["elements_per_s"], row["elements"] * row["members"] / seconds)
        assert math.isclose(row["gb_per_s"], 8 * row["elements"] / seconds / 1e9)
        assert row[OURS]["times"]["p50"] == 1 and all(row[name]["times"]["p50"] > 0 for name in PEERS)
        assert all("peak_bytes" in row[name] and row[name]["rounds"] == 1 for name in CONTENDERS)


@pytest.mark.full
def test_a_contender_that_fails_is_reported_beside_the_others(small, monkeypatch, capsys):
    def refuse(subject, members):
        if members > 1:
            raise MemoryError("no room for this")

    monkeypatch.setitem(CONTENDERS, "generators", refuse)
    monkeypatch.setattr(noise, "SUBJECTS", {"2^10": 1 << 10})
    assert _cli.main(["bench", "--noise", "--quick", "--dtypes", "float32"]) == 0
    printed = capsys.readouterr().out
    assert "failed: 2^10, float32, 3 members: MemoryError: no room for this" in printed and "1 members" not in printed
