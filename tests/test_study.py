"""The study of convergence: its networks do what torch's and Keras's do, its runs are those of their seeds, its files survive."""

import math
import multiprocessing
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm, truncnorm
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras")
pytest.importorskip("matplotlib")
pytest.importorskip("rich")
pytest.importorskip("sklearn")
pytest.importorskip("sktime")

from sklearn.datasets import load_digits

from benchmarks.convergence import command, data, figures, optimizers, pool, results, runs, starts, summary, training
from benchmarks.convergence.ensemble import Ensemble
from benchmarks.convergence.network import KERAS, TORCH, Network
from fastinit._commands import console

pytestmark = pytest.mark.full


def networks(count, channels=8, classes=10):
    torch.manual_seed(0)
    return [Network(channels, classes) for _ in range(count)]


def batch_of(count, size=16, channels=8, classes=10, steps=8):
    sequences = torch.randn(count, size, channels, steps, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(classes, (count, size), generator=torch.Generator().manual_seed(2))
    return sequences, nn.functional.one_hot(labels, classes).float()


@pytest.mark.parametrize("name", optimizers.COMPARED)
def test_an_ensemble_trains_as_its_networks_alone(name):
    alone = networks(3)
    together = Ensemble(alone, TORCH._replace(dropout=0.0))
    sequences, targets = batch_of(3)
    optimizer = optimizers.OPTIMIZERS[name](together.parameters())
    singles = [optimizers.OPTIMIZERS[name](network.parameters()) for network in alone]
    for network in alone:
        network.dropout.p = 0.0
    for _ in range(4):
        optimizer.zero_grad()
        errors = (together(sequences, torch.ones_like(targets)) - targets).abs().mean((1, 2))
        errors.sum().backward()
        optimizer.step()
        for network, single, inputs, wanted, error in zip(alone, singles, sequences, targets, errors, strict=True):
            single.zero_grad()
            loss = nn.functional.l1_loss(network(inputs), wanted)
            loss.backward()
            single.step()
            assert loss.item() == pytest.approx(error.item(), abs=2e-5)
    with torch.no_grad():
        expected = torch.stack([network.eval()(inputs) for network, inputs in zip(alone, sequences, strict=True)])
        torch.testing.assert_close(together(sequences), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(together.var.squeeze(1), torch.stack([network.norm.running_var for network in alone]))


@pytest.mark.parametrize(("name", "ours"), runs.TWINS.items())
def test_the_port_to_the_letter_trains_as_keras(name, ours):
    from benchmarks.convergence import keras_twin

    sequences, targets = batch_of(1)
    model = keras_twin.build(data.Sequences(10, (sequences[0], None), None), "MAE", name)
    (network,) = networks(1)
    model.layers[4].rate = 0.0
    port = Ensemble([network], KERAS._replace(dropout=0.0))
    copy_weights(model, port)
    optimizer = optimizers.OPTIMIZERS[ours](p for p in port.parameters() if p.requires_grad)
    for _ in range(3):
        optimizer.zero_grad()
        error = (port(sequences, torch.ones_like(targets)) - targets).abs().mean()
        error.backward()
        optimizer.step()
        their_error, _ = model.train_on_batch(sequences[0].mT.numpy(), targets[0].numpy())
        assert float(their_error) == pytest.approx(error.item(), abs=1e-6)
    theirs = model.predict(sequences[0].mT.numpy(), verbose=0)
    torch.testing.assert_close(port(sequences)[0].detach(), torch.tensor(theirs), atol=1e-5, rtol=0)


def copy_weights(model, port):
    """Keras's weights into an ensemble of one: its matrices are [in, out] as well."""
    conv, norm, lstm, dense = (model.layers[number] for number in (0, 1, 2, 3))
    forward, backward = lstm.forward_layer.cell, lstm.backward_layer.cell

    def put(parameter, *values):
        parameter.data = torch.stack([torch.tensor(value.numpy()) for value in values]).view_as(parameter)

    kernel = torch.tensor(conv.kernel.numpy())  # [width, in, out]
    port.conv.data = kernel.transpose(0, 1).reshape(1, -1, kernel.shape[2]).contiguous()
    put(port.conv_bias, conv.bias)
    put(port.scale, norm.gamma)
    put(port.shift, norm.beta)
    put(port.lstm_input, forward.kernel, backward.kernel)
    put(port.lstm_hidden, forward.recurrent_kernel, backward.recurrent_kernel)
    put(port.lstm_bias, forward.bias, backward.bias)
    put(port.dense, dense.kernel)
    put(port.dense_bias, dense.bias)


def test_runs_are_named_once_and_trained_once():
    wanted = runs.study()
    assert len(set(wanted)) == len(wanted)
    batches = runs.batches(wanted)
    assert [run for batch in batches for run in batch] == wanted
    for batch in batches:
        assert len({run[:5] for run in batch}) == 1  # one network, data, loss and optimizer
        assert len(batch) <= (1 if batch[0].constants == runs.KERAS_ITSELF else runs.TOGETHER)


def test_what_the_study_must_hold():
    """Twenty starts, two losses, three optimizers, two tasks, ten seeds; the author's pairs on the hard task; Keras itself."""
    grid = [run for run in runs.study() if run.part == "grid"]
    counts = [len({run[field] for run in grid}) for field in (1, 2, 3, 5, 6)]
    assert counts == [2, 2, 3, 20, 10] and len(grid) == 2400
    assert {run.start for run in grid} == {"torch", "keras_like"} | {f"{m} {a} {b}" for m in ("fmod", "exact") for a, b in PAIRS}
    assert sum(run.constants == runs.KERAS_ITSELF for run in runs.study()) == 60


PAIRS = [(a, b) for a in ("1", "√2", "2") for b in ("1", "√2", "2")]


@pytest.mark.parametrize(("g1", "g2"), [("√2", "1"), ("2", "√2")])
@pytest.mark.parametrize("method", starts.METHODS)
def test_starts_by_pair(g1, g2, method):
    gain, cut = starts.GAINS[g1], starts.GAINS[g2]
    torch.manual_seed(3)
    network = Network(8, 10, 64, 512)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    starts.STARTS[starts.pair(g1, g2, method)](network)
    limit = gain * math.sqrt(6 / ((8 + 64) * 3))
    assert 0.98 * limit < network.conv.weight.abs().max() <= limit and network.conv.bias.abs().max() == 0
    weight = network.dense.weight.detach().double()
    law = truncnorm(-cut, cut).std() if method == "exact" else folded_std(cut)
    assert weight.abs().max() <= cut
    assert weight.std().item() == pytest.approx(law, rel=6 / math.sqrt(2 * weight.numel()))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"conv.weight", "conv.bias", "dense.weight"}


def folded_std(cut):
    """Of fmod(x, cut), x normal: by numerical integration of its square."""
    found, _ = quad(lambda x: math.fmod(x, cut) ** 2 * norm.pdf(x), 0, 12, points=[cut * k for k in range(1, 8)], limit=200)
    return math.sqrt(2 * found)


def test_keras_in_some_layers_alone():
    (network,) = networks(1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    starts.STARTS["torch's lstm"](network)
    changed = {name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"conv", "dense"}
    assert network.dense.weight.abs().max() <= 2 * starts.DENSE_STD < before["dense.weight"].abs().max()


def test_the_data():
    digits, pixels, vowels = map(data.load, ("digits", "pixels", "vowels"))
    shapes = [[part[0].shape for part in (each.train, each.test)] for each in (digits, pixels, vowels)]
    assert shapes == [[(1437, 8, 8), (360, 8, 8)], [(1437, 1, 64), (360, 1, 64)], [(270, 12, 29), (370, 12, 29)]]
    images = load_digits().images / 16
    assert any((images == digits.train[0][0].T.numpy()).all((1, 2)))  # at each time a row of the image
    assert torch.equal(pixels.train[0][0, 0], digits.train[0][0].T.flatten())  # row after row
    present = vowels.train[0].abs().sum(1) > 0
    assert (present[:, 1:] >= present[:, :-1]).all() and present[:, -1].all()  # zeros before the utterance, none after
    assert present.sum(1).min() == 7 and (vowels.test[0].abs().sum(1) > 0).sum(1).max() == 29
    assert vowels.train[1].bincount().tolist() == [30] * 9


def test_dropout_keeps_what_it_says(monkeypatch):
    """Nine logits in ten are kept in training, by another draw for each network, and all are where there is no dropout."""
    kept = []
    forward = Ensemble.forward
    monkeypatch.setattr(Ensemble, "forward", lambda self, x, keep=None: kept.append(keep) or forward(self, x, keep))
    for constants in (TORCH, TORCH._replace(dropout=0.0)):
        ensemble = Ensemble(networks(2), constants)
        training.train(ensemble, (0, 1), data.load("digits"), torch.abs, torch.optim.Adam(ensemble.parameters()), 1)
    some, all_ = (torch.cat(masks, 1) for masks in (kept[:45], kept[46:91]))  # 45 batches, and then an evaluation
    assert kept[45] is kept[91] is None and some.unique().tolist() == [0, 1] and all_.unique().tolist() == [1]
    assert abs(some.mean().item() - 0.9) < 5 * math.sqrt(0.09 / some.numel())
    assert not torch.equal(*some)


def run_of(seed=0, **fields):
    named = {"part": "grid", "data": "digits", "loss": "MAE", "optimizer": "Adam", "constants": "torch", "start": "torch"}
    return runs.Run(**{**named, **fields}, seed=seed)


def test_a_curve_depends_on_its_seed_and_on_nothing_beside_it():
    """Alone, and in the middle of others, in processes as the study has them."""
    one = run_of(3, optimizer="RMSprop, torch's constants")
    others = [one._replace(seed=seed, start=start) for seed in (1, 2) for start in ("keras_like", "fmod 2 1")]
    with pool.pinned(), ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        groups = ([one], [others[0], one], [*others[:2], one, *others[2:]])
        alone, second, among = processes.map(runs.trained, groups, (2, 2, 2))
    assert alone[0] == second[1] == among[2]
    assert len({tuple(curve.loss) for curve in among}) == 5


def curve_of(*accuracies, loss=0.1, given_up=0):
    return training.Curve([loss] * len(accuracies), [round(360 * share) for share in accuracies], given_up)


def begun(path, monkeypatch, **facts):
    monkeypatch.setattr(results, "about", lambda: {"stream": 1, "commit": "a", **dict.fromkeys(results.DECISIVE, "1"), **facts})
    results.start(path)


def test_results_go_on_where_they_end(tmp_path, monkeypatch):
    path = tmp_path / "study.jsonl"
    begun(path, monkeypatch)
    first, second = run_of(0), run_of(1, start="fmod √2 2")
    results.append(path, [(first, curve_of(0.5, 0.96))], 1.0)
    whole = path.read_text()
    results.append(path, [(second, curve_of(0.5, 0.96, loss=math.nan))], 1.0)
    assert results.read(path)[second].loss == [None, None]
    assert results.missing(path, [first, second, run_of(2)]) == [run_of(2)]
    path.write_text(path.read_text()[:-20])  # cut off in the middle of a line
    assert results.missing(path, [first, second]) == [second]
    begun(path, monkeypatch, commit="b")  # other code does not matter: the numbers are those of the versions
    assert path.read_text() == whole and results.read(path) == {first: curve_of(0.5, 0.96)}


@pytest.mark.parametrize("name", ["torch", "keras", "stream", "cpu"])
def test_results_of_other_versions_are_not_mixed(tmp_path, monkeypatch, name):
    path = tmp_path / "study.jsonl"
    begun(path, monkeypatch)
    before = path.read_text()
    with pytest.raises(results.Mismatch, match=f"{name} 1 there, 2 here"):
        begun(path, monkeypatch, **{name: "2"})
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["", "\n", "not JSON\n", "[1]\n", '{"a": 1}\n'])
def test_a_file_that_is_no_results_file_is_left_alone(tmp_path, capsys, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    assert command.main(["--output", str(path)]) == 2
    assert "no results file" in capsys.readouterr().err and path.read_text() == text


@pytest.mark.parametrize("option", [["--slice"], ["--page"], ["--check"]])
def test_missing_packages_are_named(monkeypatch, capsys, option):
    monkeypatch.setattr(console, "installed", lambda name: name not in ("sktime", "sklearn"))
    assert command.main(option) == 2
    message = capsys.readouterr().err
    assert "missing packages: scikit-learn, sktime" in message and "pip install -e '.[study]'" in message


@pytest.mark.parametrize(("arguments", "fault"), [(["--processes", "0"], "'0'"), (["--page", "--check"], "not allowed")])
def test_wrong_arguments(capsys, arguments, fault):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2 and fault in capsys.readouterr().err


def test_a_study_is_compared_with_another(tmp_path, monkeypatch, capsys):
    """The command of continuous integration, on a study of two runs."""
    wanted = [run_of(0), run_of(1)]
    monkeypatch.setattr(runs, "study", lambda: wanted)
    monkeypatch.setattr(runs, "slice_of", lambda all_runs: all_runs[:1])

    def train_all(left, path, processes):
        results.append(path, [(run, curve_of(0.9)) for run in left], 1)
        return left

    monkeypatch.setattr(pool, "train_all", train_all)
    one, other = tmp_path / "one", tmp_path / "other"
    begun(other, monkeypatch)
    assert command.main(["--slice", "--output", str(one), "--against", str(other)]) == 2
    assert "lacks 1 of the runs" in capsys.readouterr().err
    results.append(other, [(wanted[0], curve_of(0.9)), (wanted[1], curve_of(0.8))], 1)
    assert command.main(["--slice", "--output", str(one), "--against", str(other)]) == 0
    assert "0 of 1 runs differ" in capsys.readouterr().out and list(results.read(one)) == wanted[:1]
    monkeypatch.setattr(summary, "TABLES", [summary.outcomes])
    assert command.main(["--output", str(one), "--against", str(other)]) == 1
    assert "1 of 2 runs differ" in capsys.readouterr().out and list(results.read(one)) == wanted


def test_agreement(tmp_path, monkeypatch):
    one, other = tmp_path / "one", tmp_path / "other"
    curves = {"same": curve_of(0.5, 0.97), "close": curve_of(0.5, 0.95, loss=0.103), "far": curve_of(0.5, 0.91)}
    curves["off"] = curve_of(0.5, 0.97, loss=0.106)
    curves["diverged"] = curve_of(0.5, 0.97, loss=math.nan)
    wanted = [run_of(start=start) for start in curves]
    begun(one, monkeypatch)
    results.append(one, [(run, curves["same"]) for run in wanted], 1.0)
    begun(other, monkeypatch)
    results.append(other, zip(wanted, curves.values(), strict=True), 1.0)
    assert starts_in(results.disagreements(other, one, wanted)) == ["close", "far", "off", "diverged"]
    third = tmp_path / "third"
    begun(third, monkeypatch, cpu="another")
    results.append(third, zip(wanted, curves.values(), strict=True), 1.0)
    assert starts_in(results.disagreements(third, one, wanted)) == ["far", "off", "diverged"]


def starts_in(lines):
    return [text.split("start='")[1].split("'")[0] for text in lines]


def test_outcomes():
    found = {run_of(seed): curve_of(*([0.1] * seed), 0.95, 0.2) for seed in range(9)}
    found[run_of(9)] = curve_of(0.1, 0.94, given_up=2)
    told = summary.outcome(found, data="digits", start=["torch"])
    assert told.epochs == [1, 2, 3, 4, 5, 6, 7, 8, 9, math.inf] and told.given_up == [0] * 9 + [2]
    assert told.counts() == "9/10" and told.speed() == "5.5 (2 to 9)"  # the 2nd and the 9th of ten: 97.9 % confidence
    assert told.chance() == "9/10 (60 to 98 %)"  # Wilson's, 0.5958 to 0.9821
    assert summary.outcome(found, start="keras_like").epochs == []


def test_interrupted_it_keeps_what_is_done(tmp_path):
    """One process, two batches: Ctrl-C after the first ends the other, and leaves a file to go on from."""
    script = tmp_path / "interrupted.py"
    script.write_text(f"import sys\nsys.path.append({str(pathlib.Path(__file__).parents[1])!r})\n{INTERRUPTED}")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 130, done.stderr
    assert done.stdout.split() == ["1"] and len(results.missing(tmp_path / "study.jsonl", [SHORT, LONG])) == 1


SHORT = next(run for run in runs.study() if run.part == "grid" and run.data == "digits")
LONG = next(run for run in runs.study() if run.part == "hard")
INTERRUPTED = """
import pathlib, signal, sys
from benchmarks.convergence import pool, results, runs

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may have been told to ignore it
    path = pathlib.Path("study.jsonl")
    results.start(path)
    short = next(run for run in runs.study() if run.part == "grid" and run.data == "digits")
    wanted = [short, next(run for run in runs.study() if run.part == "hard")]
    try:
        for run in pool.train_all(wanted, path, processes=1):
            signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print(len(results.missing(path, wanted)))
        sys.exit(130)
"""


def test_figures_and_tables(tmp_path):
    """Of made-up results, complete: every run by one of two curves."""
    made = {}
    for number, run in enumerate(runs.study()):
        level = summary.THRESHOLD[run.data] + 0.01 if number % 3 else 0.3
        held_out, length = len(data.load(run.data).test[1]), runs.EPOCHS[run.data]
        right = [round(held_out * min(level, level * epoch / 10)) for epoch in range(1, length + 1)]
        made[run] = training.Curve([0.2 / (1 + epoch) for epoch in range(length)], right, int(not number % 3))
    files = figures.draw_all(made, tmp_path / "figures")
    assert len(files) == 5
    for file in files:
        assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and file.stat().st_size > 20_000
    tables = [table(made) for table in summary.TABLES]
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    pairs, grid = tables[0], tables[4]
    assert len(grid.rows) == 12 and len(pairs.rows) == 11
    for row in grid.rows:  # a third of the runs never gets there
        assert [int(cell.split("/")[1].split(";")[0]) for cell in row[3:]] == [10, 10, 90, 90]
        assert all("never" in cell or cell.startswith("10/10") or "; 10 (" in cell for cell in row[3:])


def test_the_page_is_up_to_date():
    root = pathlib.Path(__file__).parents[1]
    command = [sys.executable, "-m", "benchmarks.convergence", "--check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_committed_results_are_complete():
    path = pathlib.Path(__file__).parents[1] / "benchmarks" / "results" / "convergence.jsonl"
    assert results.missing(path, runs.study()) == []
    found = results.read(path)
    assert all(len(found[run].correct) == len(found[run].loss) == runs.EPOCHS[run.data] for run in runs.study())
