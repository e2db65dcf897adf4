"""The README's bounds over all results, and its chart: what they take from a report, and what they refuse."""

import json

import pytest

from benchmarks import chart, cuts, helps, readme_tables
from fastinit._commands import files

MACHINE = {"cpu": "A CPU", "cores": 4, "threads": 4, "isa": "avx2", "torch": "2.13.0"}


def fill(law, elements, times, threads=4, **more):
    return {"law": law, "elements": elements, "threads": threads, "times_peer": {"p50": times}, **more}


def written(folder, name, **parts):
    (folder / name).write_text(json.dumps({"machine": MACHINE, **parts}))


def lines_of(folder):
    """The table's lines, by their first cell."""
    lines = helps.text(folder).split("\n\n")[0].splitlines()[2:]
    return {what: cells for what, *cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


def test_a_line_has_the_bounds_over_dtypes_laws_and_machines(tmp_path):
    wide = [fill("uniform", helps.LARGE, 12.34), fill("he_uniform", helps.LARGE, 9.87), fill("uniform", helps.LARGE, 2.0, 1)]
    narrow = [fill("uniform", helps.LARGE, 98.7), fill("uniform", helps.LARGE, 500.0, isa="avx2"), fill("uniform", 99, 777.0)]
    none = {"work": "uniform", "elements": helps.LARGE, "threads": 4}  # torch has none
    written(tmp_path, "sweep-a.json", rows=wide)
    written(tmp_path, "cpu-b.json", rows=[none, *({**row, "work": row.pop("law")} for row in narrow)])
    lines = lines_of(tmp_path)
    assert lines["uniform values: Glorot's, He's, any bounds"] == ["`nn.init`", "9.9 to 99", "2.0"]
    assert lines["normal values"] == ["`nn.init`", "Not measured yet.", ""]
    assert helps.text(tmp_path).endswith("A CPU, 4 cores, AVX2, torch 2.13.0.")


def test_small_fills_that_are_slower_are_called_so(tmp_path):
    small = [fill("normal", 64, 0.5), fill("uniform", 64, 0.25), fill("normal", 1024, 0.5), fill("normal", 1024, 2.0)]
    written(tmp_path, "sweep-a.json", rows=small)
    lines = lines_of(tmp_path)
    assert lines["uniform and normal values, 64 elements"][1] == "0.25 to 0.50: slower"
    assert lines["uniform and normal values, 1,024 elements"][1] == "0.50 to 2.0"


def test_cuts_beside_both_torches(tmp_path):
    def row(case, dtype, rejection, inverse, elements=helps.LARGE, threads=4):
        peers = {"nn.init": {"times": {"p50": rejection}}, "erfinv": {"times": {"p50": inverse}}}
        return {"case": case, "dtype": dtype, "elements": elements, "threads": threads, "contenders": peers}

    sigmas, defaults = cuts.CASES
    rows = [row(sigmas, "float32", 100.0, 8.0), row(sigmas, "bfloat16", 99.0, 50.0), row(defaults, "float32", 4.0, 6.0)]
    rows += [row(defaults, "bfloat16", 3.0, 40.0), row(defaults, "float32", 99.0, 99.0, elements=64)]
    rows += [row(defaults, "float32", 1.5, 2.0, threads=1), row(sigmas, "float32", 50.0, 2.5, threads=1)]
    written(tmp_path, "cuts-a.json", rows=rows)
    lines = lines_of(tmp_path)
    assert lines["normal values cut at two sigmas"][1] == "Not measured yet.", "nn.init's own time is that of cpu-NAME.json"
    assert lines["torch's default bounds, -2 and 2, at std 0.02: nothing is cut"] == [
        "`nn.init.trunc_normal_`",
        "3.0 to 4.0",
        "1.5",
    ]
    assert lines["either bounds, float32"] == ["the same of torch 2.11 and before", "6.0 to 8.0", "2.0 to 2.5"]
    assert lines["either bounds, bfloat16"][1] == "40 to 50"


def test_models_go_by_their_size_and_failures_do_not_count(tmp_path):
    def model(parameters, times, device="cpu"):
        way = {"parameters": parameters, "times": {"p50": times}}
        return {"device": device, "contenders": {"initialize_": way, "accelerate": {"error": "no"}}}

    rows = [model(60_000_000, 6.0), model(50_000_000, 5.0), model(49_999_999, 2.0), model(60_000_000, 99.0, "cuda")]
    written(tmp_path, "models-a.json", models=rows)
    lines = lines_of(tmp_path)
    assert lines["models of 50 million parameters or more, from meta"][1] == "5.0 to 6.0"
    assert lines["smaller models, from meta"][1] == "2.0"
    assert lines["all these models, built inside `accelerate`"][1] == "Not measured yet."


def test_a_file_of_other_results_is_refused(tmp_path):
    written(tmp_path, "sweep-a.json", rows=[fill("uniform", 99, 1.0)])
    with pytest.raises(files.Refused, match=r"sweep-a\.json is damaged.*no row that is shown"):
        helps.text(tmp_path)


# --- the chart ----------------------------------------------------------------------------------------------------------------


def test_the_chart_shows_the_medians_of_the_results():
    path = chart.sources(readme_tables.RESULTS)["cpu"]
    report = json.loads(path.read_text())
    rows = {row["model"]: row["contenders"] for row in report["models"]}
    shown = dict(group for panel in chart.shown(report)["panels"] for group in panel)
    labels = {label: model for panel in chart.PANELS for model, label in panel.items()}
    assert {"GPT-2 1.5B", "Llama 1B"} < set(shown) == set(labels)
    for label, bars in shown.items():
        assert [way for way, *_ in bars] == list(chart.WAYS)
        for way, seconds, times in bars:
            entry = rows[labels[label]][way]
            assert seconds == pytest.approx(entry["seconds"]["p50"], abs=1e-4)
            assert times == pytest.approx(entry["times"]["p50"], abs=1e-2)


def test_what_failed_or_is_on_another_device_is_not_shown():
    bar = {"seconds": {"p50": 2.0}, "times": {"p50": 1.0}}
    ways = {"nn.init": bar, "accelerate": {"error": "no"}}
    models = [{"model": "llama-1b", "device": "cpu", "contenders": ways}, {"model": "gpt2-1.5b", "device": "cuda"}]
    assert chart.shown({"machine": MACHINE, "models": models})["panels"] == [[("Llama 1B", [("nn.init", 2.0, 1.0)])]]
    with pytest.raises(LookupError, match="no model"):
        chart.shown({"machine": MACHINE, "models": models[1:]})


def test_the_committed_chart_carries_the_hash_of_the_committed_results():
    path = chart.sources(readme_tables.RESULTS)["cpu"]
    report = json.loads(path.read_text())
    assert chart.carried(chart.FIGURES["cpu"]) == chart.fingerprint(report)
    report["models"][0]["contenders"]["nn.init"]["seconds"]["p50"] += 1
    assert chart.carried(chart.FIGURES["cpu"]) != chart.fingerprint(report)


def test_a_figure_without_a_hash_or_no_figure(tmp_path):
    (tmp_path / "cut.png").write_bytes(chart.FIGURES["cpu"].read_bytes()[:40])
    assert chart.carried(tmp_path / "cut.png") is None is chart.carried(tmp_path / "absent.png")


def models_of(*devices):
    """A report of two models on each device, whose seconds tell the devices apart."""

    def row(model, seconds, device):
        ways = {way: {"seconds": {"p50": seconds}, "times": {"p50": 1.0}, "runs": 5, "parameters": 1} for way in chart.WAYS}
        return {"model": model, "device": device, "contenders": ways}

    sizes = {"gpt2-1.5b": 2.0, "timm-resnet50": 0.5}
    models = [row(model, number + size, device) for number, device in enumerate(devices) for model, size in sizes.items()]
    return {"machine": {**MACHINE, "gpu": "A GPU", "libraries": {}, "date": "2026-01-02", "commit": None}, "models": models}


def test_a_gpu_has_a_chart_of_its_own(tmp_path, monkeypatch):
    """From the first file of models that were built on one; all models in one panel."""
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    reports = {"models-a.json": models_of("cpu"), "models-b.json": models_of("cpu", "cuda"), "models-c.json": models_of("cuda")}
    for name, report in reports.items():
        (results / name).write_text(json.dumps(report))
    assert chart.sources(results) == {"cpu": results / "models-a.json", "cuda": results / "models-b.json"}
    both = reports["models-b.json"]
    assert [len(panel) for panel in chart.shown(both)["panels"]] == [1, 1]
    shown = chart.shown(both, "cuda")
    assert shown["machine"] == "A GPU; torch 2.13.0" and [len(panel) for panel in shown["panels"]] == [2]
    assert shown["panels"][0][0] == ("GPT-2 1.5B", [(way, 3.0, 1.0) for way in chart.WAYS])
    monkeypatch.setattr(readme_tables, "RESULTS", results)
    first, _, second, caption = readme_tables.charts_text().split("\n\n")
    assert first.endswith("(docs/figures/models.png)") and second.endswith("(docs/figures/models-gpu.png)")
    assert "GPT-2 1.5B, ResNet-50 are initialized on a GPU: " in second and "process of its own" not in caption
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(chart, "ROOT", tmp_path)
    for device, figure in chart.FIGURES.items():
        monkeypatch.setitem(chart.FIGURES, device, tmp_path / figure.name)
    chart.main()
    assert chart.carried(tmp_path / "models.png") == chart.fingerprint(reports["models-a.json"])
    assert chart.carried(tmp_path / "models-gpu.png") == chart.fingerprint(both, "cuda") != chart.fingerprint(both)


def test_a_gpu_that_was_checked_and_not_timed_is_not_shown(tmp_path):
    (tmp_path / "gpu-a.json").write_text(json.dumps({"bits": {"verdicts": {}}}))
    assert helps.GPU_HEAD[0] not in helps.text(tmp_path)
    (tmp_path / "models-b.json").write_text(json.dumps(models_of("cuda")))
    assert helps.text(tmp_path).count("| their constructors on the GPU | 1.0 |") == 2
    (tmp_path / "gpu-a.json").write_text("{}")
    with pytest.raises(files.Refused, match=r"gpu-a\.json is damaged"):
        helps.text(tmp_path)


def test_drawing_writes_the_hash(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(chart.FIGURES, "cpu", tmp_path / "models.png")
    chart.main()
    path = chart.sources(readme_tables.RESULTS)["cpu"]
    assert chart.carried(tmp_path / "models.png") == chart.fingerprint(json.loads(path.read_text()))
