"""The generated tables of the pages, and the chart: made from the committed results, and up to date."""

import importlib.util
import json
import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "readme_tables.py"
RATIO = {"p20": 0.4, "p50": 0.5, "p80": 123.4}
ROW = {
    "work": "uniform",
    "dtype": "float32",
    "elements": 1 << 26,
    "threads": 2,
    "isa": None,
    "elements_per_s": 1.5e9,
    "gb_per_s": 6.0,
    "of_fill": RATIO,
    "peer": {"name": "nn.init.uniform_", "elements": 1 << 20},
    "times_peer": RATIO,
}
MACHINE = {"cpu": "A CPU", "cores": 4, "threads": 2, "isa": "avx2", "backend": "native", "torch": "2.13.0", "python": "3.11.7"}
MACHINE |= {"date": "2026-01-02", "commit": "0123456789abcdef0123456789abcdef01234567-dirty"}


@pytest.fixture
def tables():
    specification = importlib.util.spec_from_file_location("readme_tables", SCRIPT)
    found = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(found)
    return found


def test_a_report_states_machine_spread_and_a_smaller_peer(tables):
    small = {**ROW, "elements": 1024, "times_peer": {"p20": 0.7, "p50": 0.8, "p80": 12.34}}
    text = tables.report_text({"machine": MACHINE, "rows": [small, ROW, {**ROW, "dtype": "float16"}]})
    assert text.startswith("A CPU, 4 cores, 2 threads, AVX2; torch 2.13.0, Python 3.11.7; 2026-01-02, commit 0123456789ab-dirty.")
    ratio, peer, at_1024 = "0.50 (0.40 to 123)", "`nn.init.uniform_` on 2^20", "0.80 (0.70 to 12.3)"
    assert text.splitlines()[-1] == f"| uniform | float32 | 1.5 | 6 | {ratio} | {ratio} | {peer} | {at_1024} |"
    assert len(text.splitlines()) == 5, "one table of one row: the other dtypes stay in the results file"


def test_a_report_without_peers_and_with_every_way_of_filling(tables):
    bare = {key: value for key, value in ROW.items() if key not in ("peer", "times_peer")}
    ways = [bare, {**bare, "threads": 1, "elements_per_s": 1e9}, {**bare, "isa": "scalar", "elements_per_s": 2e8}]
    alone = {**bare, "work": "normal"}  # measured in one way only: no line in the second table
    lines = tables.report_text({"machine": MACHINE, "rows": [*ways, alone]}).splitlines()
    assert lines[4] == "| uniform | float32 | 1.5 | 6 | 0.50 (0.40 to 123) |  | torch has none |  |"
    assert lines[-3] == "| G elements/s |  | all threads | 1 thread | scalar |"
    assert lines[-1] == "| uniform | float32 | 1.5 | 1 | 0.2 |"


def test_only_what_stands_between_the_markers_changes(tables):
    for markers in map(tables.markers, (*tables.readme_sections(), *tables.performance_sections(), *tables.gpu_sections())):
        begin, end = markers
        assert tables.replaced(f"a\n{begin}\nold\n{end}\nb\n", markers, "new") == f"a\n{begin}\nnew\n{end}\nb\n"
        with pytest.raises(ValueError, match="put them back"):
            tables.replaced("a", markers, "new")


def test_cuts_have_a_line_for_bounds_dtype_and_threads(tables):
    def entry(seconds):
        return {"seconds": {"p50": seconds}, "of_fill": {"p50": 0.02 / seconds}, "times": {**RATIO, "p50": seconds / 0.05}}

    ours, theirs, older = map(entry, (0.05, 0.2, 0.4))
    row = {"case": "torch's defaults", "a": -2.0, "b": 2.0, "dtype": "float32", "threads": 1, "elements": 1 << 26}
    row["contenders"] = {"fastinit": ours, "nn.init": theirs, "erfinv": older, "fill_": ours}
    lines = tables.cuts_text({"machine": MACHINE, "rows": [row]}).splitlines()
    assert lines[0] == "A CPU, 4 cores, AVX2; torch 2.13.0; 2026-01-02, commit 0123456789ab-dirty. 2^26 elements."
    assert lines[4:] == ["| torch's defaults: -2 and 2 | float32 | 1 | 50 | 0.4 | 4.00 (0.40 to 123) | 8.00 (0.40 to 123) |"]


def test_what_nobody_has_measured_is_said(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.section(tables.found("cuts"), tables.cuts_text) == "Not measured yet."
    sections = tables.readme_sections()
    assert sections["chart"] == "Not measured yet."
    assert sections["helps"].count("Not measured yet.") == sections["helps"].count("\n|") - 1


def test_the_readme_quotes_the_worst_errors(tables):
    laws = {law: {"errors": {"worst": n + 0.123}} for n, law in enumerate(tables.SUMMARY_ERRORS)}
    assert tables.accuracy_text({"laws": laws}).endswith("| 0.12 | 1.12 | 2.12 | 3.12 |")


def test_a_page_that_is_out_of_date_is_told_and_rewritten(tables, capsys, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    pages = {"README.md": tables.readme_sections(), "docs/performance.md": tables.performance_sections()}
    pages["docs/gpus.md"] = tables.gpu_sections()
    for page, sections in pages.items():
        (tmp_path / page).write_text("\n".join("\n".join(tables.markers(name)) for name in sections))
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.main(["--check"]) == 1 and capsys.readouterr().out.count("out of date") == 3
    assert tables.main([]) == 0 == tables.main(["--check"])
    assert pages["README.md"]["helps"] in (tmp_path / "README.md").read_text()


def test_a_chart_of_other_results_is_told(tables, capsys, tmp_path, monkeypatch):
    name = tables.chart.sources(tables.RESULTS)["cpu"]
    report = json.loads(name.read_text())
    report["models"][1]["contenders"]["accelerate"]["seconds"]["p50"] *= 1.01
    (tmp_path / name.name).write_text(json.dumps(report))
    monkeypatch.setattr(tables.chart, "sources", lambda folder: {"cpu": tmp_path / name.name})
    assert tables.main(["--check"]) == 1
    assert "docs/figures/models.png is out of date: python -m benchmarks.chart" in capsys.readouterr().out


SAID = {"README.md": "They have not been run or timed on one yet"}  # while there are no results of a GPU
SAID |= dict.fromkeys(("docs/gpus.md", "docs/performance.md"), "No fill has been timed on a GPU")


@pytest.mark.parametrize("page", SAID)
def test_pages_say_that_no_gpu_has_run_it_until_one_has(tables, page):
    measured = bool(tables.found("gpu"))
    assert (SAID[page] in (tables.ROOT / page).read_text()) != measured


def test_the_pages_are_up_to_date(tables, capsys):
    assert tables.main(["--check"]) == 0, capsys.readouterr().out
