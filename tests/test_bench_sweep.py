"""The sweep over sizes: what it measures of tiny tensors, what counts as a step back, its figure. No time is asserted."""

import json

import pytest

from benchmarks import sweep


def row(elements, seconds, law="uniform", threads=1):
    return {"law": law, "threads": threads, "elements": elements, "ours": {"p50": seconds}}


def test_every_law_thread_and_size_has_a_row_beside_its_peers():
    rows = sweep.swept(range(6, 8), [1, 2], rounds=2)
    places = [(row["law"], row["threads"], row["elements"]) for row in rows]
    assert places == [(law, threads, n) for law in sweep.LAWS for threads in (1, 2) for n in (64, 128)]
    for each in rows:
        assert each["peer_name"].startswith("nn.init.") and each["rounds"] == 2
        for name in ("ours", "fill", "peer", "of_fill", "times_peer"):
            assert 0 < each[name]["p20"] <= each[name]["p50"] <= each[name]["p80"]


def test_a_peer_that_takes_too_long_is_left_out(monkeypatch):
    monkeypatch.setitem(sweep.LARGEST_PEER, "truncated_normal", 64)
    small, large = (sweep.measured("truncated_normal", 1, n, 1) for n in (64, 128))
    assert "peer" in small and not {"peer", "times_peer", "peer_name"} & set(large)


def test_a_step_back_is_a_growth_beyond_the_aim_from_half_the_elements():
    rows = [row(64, 1.0), row(128, 2.0), row(256, 4.5), row(1024, 99.0), row(256, 1.0, threads=2)]
    assert sweep.steps_back(rows) == [("uniform", 1, 256, 2.25)]


def test_the_command_writes_results_and_a_figure_that_is_the_same_each_time(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    results, figure, again = (tmp_path / name for name in ("sweep.json", "sweep.svg", "again.svg"))
    monkeypatch.setattr(sweep, "ROUNDS", 2)
    monkeypatch.setattr("sys.argv", f"sweep --from 6 --to 7 --output {results} --figure {figure}".split())
    sweep.main()
    assert len(json.loads(results.read_text())["rows"]) >= 6
    monkeypatch.setattr("sys.argv", f"sweep --draw {results} --figure {again}".split())
    sweep.main()
    assert figure.read_bytes() == again.read_bytes() and b"<svg" in figure.read_bytes()
