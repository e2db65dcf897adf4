"""`fastinit bench --models`: its arguments, its measuring, its report; and that every contender draws from the law it names."""

import json
import sys

import pytest
import torch
from torch import nn

import fastinit
from fastinit import _cli
from fastinit._commands import console, footprint, models, zoo
from fastinit._commands.footprint import CONTENDERS, Job
from fastinit._commands.zoo import MODELS, Fill

MB = 1_000_000
PLAIN = "torch-gpt2"  # of torch's own modules: needs no library


def usable(name):
    reason = models.reason_against(MODELS[name].package)
    return pytest.param(name, marks=pytest.mark.skipif(reason is not None, reason=str(reason)))


EVERY = [usable(name) for name in MODELS]


def without(monkeypatch, *missing):
    monkeypatch.setattr(console, "installed", lambda name: name not in missing)


def parsed(*arguments):
    return _cli.parser().parse_args(["bench", *arguments])


def test_models_is_a_flag_or_a_list():
    assert parsed().models is None
    assert parsed("--models").models == []
    args = parsed("--models", "vit-b,llama-1b", "--quick", "--json", "file", "--devices", "cpu")
    assert (args.models, args.quick, args.json, args.devices) == (["vit-b", "llama-1b"], True, "file", ["cpu"])


def test_all_models_that_need_a_library_are_measured_unless_some_are_named():
    names, devices = models.asked(parsed("--models"))
    assert set(MODELS) - set(names) == {PLAIN} and "cpu" in devices
    assert models.asked(parsed("--models", PLAIN, "--devices", "cpu")) == ([PLAIN], ["cpu"])


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--models", "gpt3"], ["'gpt3'", "gpt2-1.5b", "timm-resnet50"]),
        (["--models", "--devices", "tpu"], ["'tpu'", "cpu"]),
        (["--models", "--dtypes", "float32"], ["--dtypes", "--models"]),
        (["--devices", "cpu"], ["--devices", "--models"]),
    ],
)
def test_wrong_arguments_are_named(capsys, arguments, texts):
    assert _cli.main(["bench", *arguments]) == 2
    message = capsys.readouterr().err
    assert all(text in message for text in texts)


def test_without_both_libraries_nothing_is_measured(monkeypatch, capsys):
    without(monkeypatch, "transformers", "timm")
    assert _cli.main(["bench", "--models"]) == 2
    message = capsys.readouterr().err
    assert "missing packages: transformers, timm" in message and "pip install 'fastinit-torch[bench]'" in message


@pytest.mark.parametrize("missing", ["transformers", "timm"])
def test_models_of_a_missing_library_are_skipped(monkeypatch, missing):
    without(monkeypatch, missing)
    monkeypatch.setattr(models, "unusable", lambda package: None)
    found, skipped = models.sorted_out(list(MODELS))
    assert set(found) == {name for name, model in MODELS.items() if model.package != missing}
    assert {row["model"] for row in skipped} == set(MODELS) - set(found)
    assert all(row["reason"] == f"{missing} is not installed" for row in skipped)


def test_a_library_that_cannot_be_imported_says_why(monkeypatch, tmp_path, capsys):
    (tmp_path / "built_for_another_torch.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    assert zoo.unusable("torch") is None
    reason = zoo.unusable("built_for_another_torch")
    start = "built_for_another_torch cannot be imported: RuntimeError: operator torchvision::nms does not exist. Install the"
    assert reason.startswith(start)
    monkeypatch.setattr(models, "reason_against", lambda package: reason)
    monkeypatch.setattr(console, "installed", lambda name: True)
    assert _cli.main(["bench", "--models"]) == 2
    assert "operator torchvision::nms does not exist" in capsys.readouterr().err


def test_rich_is_asked_of_the_same_extra(monkeypatch, capsys):
    without(monkeypatch, "rich")
    assert _cli.main(["bench", "--models", PLAIN]) == 2
    assert "missing packages: rich" in (message := capsys.readouterr().err) and "fastinit-torch[bench]" in message


def test_contenders_take_turns():
    jobs = models.build_jobs(["a", "b"], ["cpu"], models.FULL)
    assert len(jobs) == 2 * len(CONTENDERS) * models.FULL.rounds
    firsts = [job.contender for job in jobs if job.model == "b"][:: len(CONTENDERS)]
    assert firsts[:3] == list(CONTENDERS)
    assert not any(job.small for job in jobs) and all(job.small for job in models.build_jobs(["a"], ["cpu"], models.QUICK))


needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")


@needs_linux
def test_the_peak_counts_what_was_freed_and_nothing_from_before():
    torch.ones(50 * MB)

    def call():
        torch.ones(25 * MB)  # 100 MB, freed at once; the kernel counts resident pages in batches
        return nn.Linear(1, 1)

    _, result = footprint.footprint(call, "cpu")
    assert 99 * MB <= result["peak_bytes"] < 110 * MB and result["seconds"] > 0


def test_an_unknown_peak_is_none(monkeypatch):
    monkeypatch.setattr(footprint, "resident", lambda field: None)
    assert footprint.footprint(lambda: nn.Linear(1, 1), "cpu")[1]["peak_bytes"] is None


def test_sizes_count_shared_weights_once():
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.BatchNorm1d(10), nn.Linear(10, 10, bias=False))
    model[2].weight = model[0].weight
    assert footprint.size(model) == 4 * (100 + 4 * 10) + 8


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_weight_that_was_left_out_is_found(value):
    model = nn.Linear(4, 4)
    footprint.check(model, "cpu")
    model.weight.data.fill_(value)
    with pytest.raises(RuntimeError, match="weight is not initialised"):
        footprint.check(model, "cpu")


def test_a_weight_without_memory_is_found():
    with pytest.raises(RuntimeError, match="weight is on meta"):
        footprint.check(nn.Linear(4, 4, device="meta"), "cpu")


def test_a_slow_peer_makes_the_first_calls_only(monkeypatch):
    fills = [Fill(lambda: None, 3 * MB) for _ in range(20)]
    monkeypatch.setattr(footprint, "passed", lambda fills, device: footprint.elements_of(fills) / MB)  # a million a second
    chosen, expected = footprint.affordable(fills, Job(PLAIN, "cpu", True, peer_seconds=10.0))
    assert chosen == fills[:4] and expected == pytest.approx(12)
    assert footprint.affordable(fills, Job(PLAIN, "cpu", True, peer_seconds=60.5))[0] == fills


def test_a_part_is_compared_by_elements_a_second():
    result = footprint.compared({"ours": [1.0, 2.0, 2.0], "peer": [5.0, 5.0, 5.0]}, 1000, 100)
    assert result["times_peer"]["p50"] == pytest.approx(25) and result["peer"]["elements"] == 100
    assert result["ours"] == {"elements": 1000, "rounds": 3, "seconds": {"p20": pytest.approx(1.4), "p50": 2.0, "p80": 2.0}}


def test_builds_on_a_gpu_share_the_process():
    jobs = []

    def measure(job):
        jobs.append(job)
        return {"seconds": 1.0}

    job = Job(PLAIN, "cuda", False, "initialize_")
    assert models.result_of(job, models.FULL, measure) == {"seconds": 1.0} and jobs == [job]
    assert "test_bench_models" in models.result_of(job._replace(device="cpu"), models.FULL, measure)["error"], "the CPU's do not"
    assert jobs == [job]


@pytest.mark.full
def test_a_process_of_its_own_measures():
    apart = models.QUICK._replace(apart=True)
    result = models.result_of(Job(PLAIN, "cpu", True, "initialize_"), apart)
    assert result["seconds"] > 0 and result["model_bytes"] == 4 * result["parameters"] > 0
    assert "unknown" in models.result_of(Job("unknown", "cpu", True, "initialize_"), apart)["error"]


@pytest.mark.full
@pytest.mark.parametrize("name", EVERY)
def test_bench_reports_a_model(tmp_path, capsys, name):
    file = tmp_path / "results.json"
    assert _cli.main(["bench", "--models", name, "--quick", "--devices", "cpu", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert name in printed and "failed" not in printed and "skipped" not in printed
    report = json.loads(file.read_text())
    assert {"cpu", "cores", "threads", "torch", "date", "commit", "fastinit", "gpu", "libraries"} <= set(report["machine"])
    (row,) = report["models"]
    assert (row["model"], row["device"], list(row["contenders"])) == (name, "cpu", list(CONTENDERS))
    for entry in row["contenders"].values():
        assert 0 < entry["seconds"]["p20"] <= entry["seconds"]["p50"] <= entry["seconds"]["p80"] and entry["times"]["p50"] > 0
        assert entry["runs"] == 1 and entry["model_bytes"] >= 4 * entry["parameters"] > 0 and entry["law"]
    assert row["contenders"]["nn.init"]["times"]["p50"] == 1
    assert [fill["law"] for fill in report["fills"]] == [start.text for start in MODELS[name].fills]
    for fill in report["fills"]:
        assert fill["times_peer"]["p20"] <= fill["times_peer"]["p50"] and fill["ours"]["rounds"] == models.QUICK.fill_rounds


def test_a_contender_that_fails_is_reported_beside_the_others(monkeypatch, capsys, tmp_path):
    def refuse(model, small, device):
        raise ValueError("no rule for this")

    monkeypatch.setitem(CONTENDERS, "accelerate", refuse)
    file = tmp_path / "results.json"
    assert _cli.main(["bench", "--models", PLAIN, "--quick", "--devices", "cpu", "--json", str(file)]) == 0
    contenders = json.loads(file.read_text())["models"][0]["contenders"]
    assert contenders["accelerate"]["error"] == "ValueError: no rule for this" and contenders["initialize_"]["seconds"]
    assert f"failed: {PLAIN}: ValueError: no rule for this" in capsys.readouterr().out


def statistics(model):
    """Every floating-point parameter and buffer: elements, mean, std, greatest magnitude."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    values = {name: t.detach().double() for name, t in tensors.items() if t.is_floating_point()}
    return {name: (v.numel(), v.mean().item(), v.std(correction=0).item(), v.abs().max().item()) for name, v in values.items()}


def same_laws(one, other):
    """Means and standard deviations within six standard errors of their differences; constants exactly."""
    ours, theirs = statistics(one), statistics(other)
    assert ours.keys() == theirs.keys()
    for name, (n, mean, std, _) in ours.items():
        error = max(std, theirs[name][2]) * (2 / n) ** 0.5
        assert abs(mean - theirs[name][1]) <= 6 * error and abs(std - theirs[name][2]) <= 6 * error, name


@pytest.mark.parametrize("name", EVERY)
def test_accelerate_draws_from_the_constructors_law(name):
    torch.manual_seed(1)
    plain = CONTENDERS["nn.init"](MODELS[name], True, "cpu")
    torch.manual_seed(1)
    accelerated = CONTENDERS["accelerate"](MODELS[name], True, "cpu")
    same_laws(plain, accelerated)
    for (parameter, ours), theirs in zip(accelerated.named_parameters(), plain.parameters(), strict=True):
        assert ours.ndim < 2 or not torch.equal(ours, theirs), f"{parameter} was not served by fastinit"


@pytest.mark.parametrize("name", EVERY)
def test_initialize_draws_from_the_named_law(name):
    torch.manual_seed(2)
    model = MODELS[name]
    ours, plain = CONTENDERS["initialize_"](model, True, "cpu"), CONTENDERS["nn.init"](model, True, "cpu")
    footprint.check(ours, "cpu")
    if model.start.text == model.own_start:
        same_laws(ours, plain)
    elif model.start.text == zoo.TRUNCATED.text:
        found = statistics(ours).items()
        assert all(greatest <= zoo.SIGMAS * zoo.STD * (1 + 1e-6) for key, (n, _, _, greatest) in found if n > 1000), name
    else:
        raise AssertionError(f"{model.start.text} is not compared with anything")


@pytest.mark.parametrize(
    ("name", "start"), [(name, start) for name in MODELS for start in range(len(MODELS[name].fills))], ids=lambda x: str(x)
)
def test_the_peer_draws_from_the_schemes_law(name, start):
    reason = models.reason_against(MODELS[name].package)
    if reason:
        pytest.skip(reason)
    torch.manual_seed(3)
    ours, theirs = (footprint.materialised(MODELS[name], True, "cpu", start) for _ in range(2))
    chosen = MODELS[name].fills[start]
    with torch.no_grad():
        footprint.passed(chosen.peer(theirs), "cpu")
        chosen.finish(theirs)
    same_laws(ours, theirs)
    assert footprint.elements_of(chosen.peer(ours)) == sum(p.numel() for p in ours.parameters())
    fastinit.initialize_(theirs, chosen.scheme(theirs), seed=0, overwrite_constants=True)
    chosen.finish(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
