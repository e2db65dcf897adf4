"""The benchmark of cuts: all contenders draw the law between the bounds, what is compared, its report. No time is asserted."""

import json
import math
from statistics import NormalDist

import pytest
import torch

from benchmarks import cuts
from benchmarks.cuts import CASES, CONTENDERS, FILL, OURS, STD

N = 1 << 16


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != FILL])
def test_contenders_draw_the_normal_between_the_bounds(name, case):
    """Kolmogorov's distance to its distribution function, which a right one exceeds once in a million draws; each draw is new."""
    a, b = CASES[case]
    torch.manual_seed(0)
    first, second = (CONTENDERS[name](torch.empty(N), 0.0, STD, a, b) for _ in range(2))
    assert a <= first.min() and first.max() <= b and not torch.equal(first, second)
    low, high = (0.5 * (1 + math.erf(bound / STD / math.sqrt(2))) for bound in (a, b))
    below = (torch.special.ndtr(first.double().sort().values / STD) - low) / (high - low)
    steps = torch.arange(N + 1, dtype=torch.float64) / N
    distance = torch.maximum(below - steps[:-1], steps[1:] - below).max().item()
    assert distance <= math.sqrt(math.log(2e6) / 2 / N)


def test_bounds_that_are_not_symmetric_about_the_mean():
    """The median within six standard errors of the law's."""
    torch.manual_seed(0)
    values = cuts.inverse_error_function_(torch.empty(N), 1.0, 0.5, 0.5, 2.0)
    normal, inside = NormalDist(1.0, 0.5), NormalDist().cdf(2) - NormalDist().cdf(-1)
    median = normal.inv_cdf(NormalDist().cdf(-1) + inside / 2)
    assert values.min() >= 0.5 and values.max() <= 2.0
    assert abs(values.median().item() - median) <= 6 * inside / (2 * normal.pdf(median) * math.sqrt(N))


def test_rows_compare_with_fastinit_and_with_fill(monkeypatch):
    taken = {OURS: [1.0, 2.0, 4.0], "nn.init": [4.0, 4.0, 4.0], "erfinv": [8.0, 8.0, 8.0], FILL: [0.5, 0.5, 0.5]}
    monkeypatch.setattr(cuts, "paired", lambda calls, rounds: {name: taken[name][:rounds] for name in calls})
    row = cuts.measured("two sigmas", "bfloat16", 1, cuts.Pace(64, 3))
    assert (row["a"], row["b"], row["std"], row["threads"], row["elements"], row["rounds"]) == (-0.04, 0.04, 0.02, 1, 64, 3)
    assert {name: entry["times"]["p50"] for name, entry in row["contenders"].items()} == {
        OURS: 1.0,
        "nn.init": 2.0,
        "erfinv": 4.0,
        FILL: 0.25,
    }
    assert row["contenders"][OURS]["of_fill"]["p50"] == 0.25 and row["contenders"]["erfinv"]["of_fill"]["p50"] == 0.0625


def test_the_command_reports_every_pair_of_bounds_and_dtype(tmp_path, monkeypatch, capsys):
    file = tmp_path / "cuts.json"
    monkeypatch.setattr(cuts, "QUICK", cuts.Pace(1 << 10, 2))
    monkeypatch.setattr("sys.argv", ["cuts", "--quick", "--json", str(file)])
    cuts.main()
    report = json.loads(file.read_text())
    assert {"cpu", "cores", "threads", "isa", "torch", "date", "commit"} <= set(report["machine"])
    counts = sorted({1, torch.get_num_threads()}, reverse=True)
    plan = [(c, d, n) for c in CASES for d in ("float32", "bfloat16") for n in counts]
    assert [(row["case"], row["dtype"], row["threads"]) for row in report["rows"]] == plan
    for row in report["rows"]:
        assert list(row["contenders"]) == list(CONTENDERS) and row["contenders"][OURS]["times"]["p50"] == 1
        assert all(0 < entry["seconds"]["p20"] <= entry["seconds"]["p80"] for entry in row["contenders"].values())
    assert "torch's defaults" in capsys.readouterr().out
