"""The command line: what it prints and returns; above all, that `check` catches a backend that is wrong in one bit."""

import ast
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch

import fastinit
from fastinit import _cli
from fastinit._backends import cpu, cuda, reference
from fastinit._commands import bench, check, console, gpt2, samples
from fastinit._initializers.scaling import TRUNCATED_STD


@pytest.fixture
def small_check(monkeypatch):
    """Fewer laws, layouts and words: a second instead of half a minute."""
    monkeypatch.setattr(check, "SWEPT", 1 << 12)
    monkeypatch.setattr(check, "THREADED", 1 << 13)
    laws = ("uniform on [-0.1, 0.1]", "truncated normal at 2 sigmas", "fmod normal at 2 sigmas")
    monkeypatch.setattr(samples, "SAMPLES", {name: samples.SAMPLES[name] for name in laws})
    places = ("1027 elements, not aligned", "from element 2^34 - 7, where the counter carries", "transposed", "rows with gaps")
    monkeypatch.setattr(samples, "LAYOUTS", {name: samples.LAYOUTS[name] for name in places})


@pytest.fixture
def beside(monkeypatch, small_check):
    """Makes `check` compare the reference with a backend of the given functions."""

    def install(fill=reference.fill, transform=reference.transform, blend=reference.blend):
        broken = check.Filler("broken", fill, transform, blend=blend)
        fillers = [check.Filler("reference", reference.fill, reference.transform), broken]
        monkeypatch.setattr(check, "find_fillers", lambda: (fillers, {}))

    return install


def without(monkeypatch, *missing):
    monkeypatch.setattr(console, "installed", lambda name: name not in missing)


def test_info_says_what_serves(capsys):
    assert _cli.main(["info"]) == 0
    printed = capsys.readouterr().out
    assert fastinit.__version__ in printed and torch.__version__ in printed
    for name, reason in fastinit.backends().items():
        assert name in printed and (reason or "") in printed
    library = cuda.library_or_reason()
    assert ("nvcc" in printed) if isinstance(library, str) else ("libfastinit_cuda.so" in printed)


@pytest.mark.full
def test_info_as_json_by_module():
    done = subprocess.run([sys.executable, "-m", "fastinit", "info", "--json"], capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert facts["version"] == fastinit.__version__ and facts["stream_version"] == fastinit.STREAM_VERSION
    assert facts["backends"]["reference"] is None and facts["threads"] >= 1
    assert {"torch", "python", "library", "cuda_library", "isa", "isas", "backend", "package"} <= set(facts)


@pytest.mark.full
def test_info_names_a_forced_backend_that_cannot_serve():
    environment = {**os.environ, "FASTINIT_BACKEND": "nonsense"}
    command = [sys.executable, "-m", "fastinit", "info"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "backend   none: unknown backend. Received: 'nonsense'" in done.stdout


def test_check_finds_no_fault(small_check, capsys):
    assert _cli.main(["check"]) == 0
    assert "no faults" in capsys.readouterr().out


def fails_with(capsys, *texts):
    assert _cli.main(["check"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "FAULT " in line]
    assert any(all(text in line for text in texts) for line in lines), lines


def test_check_catches_one_bit_of_a_fill(beside, capsys):
    def fill(plans):
        reference.fill(plans)
        if plans[0].recipe.dtype is torch.bfloat16 and plans[0].out.numel() == 1027:
            plans[0].out.view(torch.int16)[1000] ^= 1

    beside(fill=fill)
    fails_with(
        capsys, "broken", "truncated normal at 2 sigmas", "bfloat16", "1027 elements", "1 of 1031 differ, the first at 1003"
    )


def test_check_catches_a_write_beside_the_view(beside, capsys):
    def fill(plans):
        reference.fill(plans)
        out = plans[0].out
        if out.storage_offset() and not out.is_contiguous():
            torch.as_strided(out, (1,), (1,), out.storage_offset() - 1).zero_()

    beside(fill=fill)
    fails_with(capsys, "broken", "rows with gaps", "float16", "1 of 2000 differ, the first at 2: 0x0, not 0xa5a5")


def test_check_catches_one_bit_of_a_transform(beside, capsys):
    def transform(recipe, words):
        values = reference.transform(recipe, words)
        if recipe.dtype is torch.float8_e5m2:
            values.view(torch.uint8)[7] ^= 1
        return values

    beside(transform=transform)
    fails_with(capsys, "broken", "float8_e5m2", "swept words", "first at 7")


def test_check_catches_a_blend_that_forgets_a_member(beside, capsys):
    def blend(blendings):
        reference.blend([each._replace(keys=each.keys[:1], add=each.add[:1]) for each in blendings])

    beside(blend=blend)
    fails_with(capsys, "broken", "truncated normal at 2 sigmas, onto torch.float32")


@pytest.mark.parametrize(("change", "fault"), [(lambda v: v * 1.01, "leave the bounds"), (lambda v: v.abs(), "opposite values")])
def test_check_catches_wrong_values_without_an_oracle(monkeypatch, small_check, capsys, change, fault):
    def transform(recipe, words):
        return change(reference.transform(recipe, words).double()).to(recipe.dtype)

    monkeypatch.setattr(check, "find_fillers", lambda: ([check.Filler("broken", reference.fill, transform)], {}))
    fails_with(capsys, "broken", "uniform on [-0.1, 0.1]", "float32", fault)


def test_check_catches_a_bound_that_is_not_reached(monkeypatch, small_check, capsys):
    def transform(recipe, words):
        if recipe.table is not None or recipe.dtype is not torch.float32:
            return reference.transform(recipe, words)
        bounds = {"low": recipe.low * (1 - 2**-23), "high": recipe.high * (1 - 2**-23)}
        return reference.transform(dataclasses.replace(recipe, **bounds), words)

    monkeypatch.setattr(check, "find_fillers", lambda: ([check.Filler("broken", reference.fill, transform)], {}))
    fails_with(capsys, "broken", "uniform on [-0.1, 0.1]", "a greater one lies within")


def test_check_catches_wrong_words(monkeypatch, small_check, capsys):
    philox = reference.philox
    monkeypatch.setattr(reference, "philox", lambda block, key, stream: philox(block, key, stream) ^ (block >> 32 & 1)[:, None])
    fails_with(capsys, "reference: word 17179869184 of key 0x0")


def test_check_catches_a_fill_that_depends_on_the_threads(beside, capsys):
    def fill(plans):
        reference.fill(plans)
        if torch.get_num_threads() == 3:
            plans[0].out.view(-1)[-1] = 0

    beside(fill=fill)
    fails_with(capsys, "broken", "3 threads instead of one")


def test_check_reports_a_backend_that_raises(beside, capsys):
    def fill(plans):
        raise OSError("no such symbol")

    beside(fill=fill)
    fails_with(capsys, "OSError: no such symbol")


def test_check_covers_every_usable_backend(monkeypatch, small_check, capsys):
    if fastinit.backends()["native"] is not None:
        pytest.skip("the native backend cannot be used here")
    original = cpu.fill

    def fill(plans):
        original(plans)
        if cpu.isa() == "scalar" and plans[0].recipe.dtype is torch.float64:
            plans[0].out.view(torch.int64)[..., -1] ^= 1

    monkeypatch.setattr(cpu, "fill", fill)
    fails_with(capsys, "native (scalar)", "float64")


@pytest.mark.parametrize(
    ("command", "missing", "named", "extra"),
    [("bench", "rich", "rich", "demo"), ("demo", "sklearn", "scikit-learn", "demo")],
)
def test_missing_extra(monkeypatch, capsys, command, missing, named, extra):
    without(monkeypatch, missing)
    assert _cli.main([command]) == 2
    message = capsys.readouterr().err
    assert named in message and f"pip install 'fastinit-torch[{extra}]'" in message and command in message


@pytest.mark.parametrize("options", [[], ["--slice", "--processes", "many"], ["--against", "results.jsonl", "else"]])
def test_the_study_says_where_it_went(capsys, options):
    assert _cli.main(["study", *options]) == 2
    message = capsys.readouterr().err
    assert "pip install -e '.[study]' && python -m benchmarks.convergence" in message and "checkout" in message


@pytest.mark.parametrize("options", [["--full"], ["--full", "--peers", "--laws", "normal"], ["--json", "file", "--full"]])
def test_the_full_check_says_where_it_went(capsys, options):
    assert _cli.main(["check", *options]) == 2
    message = capsys.readouterr().err
    assert "pip install -e '.[test]' && python -m proof.accuracy" in message and "checkout" in message


@pytest.mark.parametrize("arguments", [["check", "--laws", "normal"], ["info", "study"], ["bench", "--full"]])
def test_other_unknown_arguments_are_errors(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        _cli.main(arguments)
    assert stopped.value.code == 2 and "unrecognized arguments" in capsys.readouterr().err


MODULES = sorted(pathlib.Path(fastinit.__file__).parent.rglob("*.py"))
# Where they are installed.
OPTIONAL = {"rich", "matplotlib", "sklearn", "triton", "transformers", "timm", "torchvision", "jax", "shtab"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_what_the_package_imports(path):
    """Torch, and where a command uses it one of a few: no SciPy, no Keras, nothing of the source tree beside the package."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    others = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"fastinit", "torch"}
    assert others <= OPTIONAL, others


def test_tables_and_progress_without_rich(monkeypatch, capsys):
    without(monkeypatch, "rich")
    console.table("title", ("name", "n"), [["a", "1"], ["bc", "23"]])
    assert capsys.readouterr().out == "title\nname   n\na      1\nbc    23\n\n"
    assert list(console.progress([1, 2], "label")) == [1, 2]


def test_bench_measures_and_writes_json(tmp_path, capsys):
    file = tmp_path / "results.json"
    options = ["--quick", "--functions", "truncated_normal,he_uniform", "--dtypes", "float32,float8_e4m3fn", "--sizes", "60,2^12"]
    assert _cli.main(["bench", *options, "--json", str(file)]) == 0
    assert "truncated_normal" in capsys.readouterr().out
    report = json.loads(file.read_text())
    assert {"cpu", "cores", "threads", "isa", "torch", "date", "commit", "fastinit"} <= set(report["machine"])
    plain = [row for row in report["rows"] if row["isa"] is None and row["threads"] == torch.get_num_threads()]
    assert {(row["work"], row["dtype"], row["elements"]) for row in plain} == {
        (work, dtype, n)
        for work in ("truncated_normal", "he_uniform")
        for dtype in ("float32", "float8_e4m3fn")
        for n in (60, 4096)
    }
    for row in report["rows"]:
        assert row["gb_per_s"] == pytest.approx(row["elements_per_s"] * (4 if row["dtype"] == "float32" else 1) / 1e9)
        assert row["elements_per_s"] == pytest.approx(row["elements"] / row["seconds"]["p50"])
        assert 0 < row["of_fill"]["p20"] <= row["of_fill"]["p50"] <= row["of_fill"]["p80"]
        assert ("peer" in row) == (row["dtype"] == "float32" and row["isa"] is None) == ("times_peer" in row)


def test_bench_measures_one_thread_and_every_instruction_set():
    args = _cli.parser().parse_args(["bench", "--functions", "truncated_normal", "--dtypes", "float32", "--sizes", "64,2^26"])
    rows = bench.rows(args, bench.FULL)
    assert rows[:2] == [bench.Row("truncated_normal", "float32", 64), bench.Row("truncated_normal", "float32", 2**26)]
    assert rows[2] == bench.Row("truncated_normal", "float32", 2**26, threads=1)
    assert [row.isa for row in rows[3:]] == bench.isas()
    assert {row.elements for row in bench.rows(args, bench.QUICK)} == {64, 2**20}


@pytest.mark.parametrize("option", ["functions", "dtypes"])
def test_bench_names_what_is_allowed(capsys, option):
    assert _cli.main(["bench", f"--{option}", "float33"]) == 2
    message = capsys.readouterr().err
    assert "'float33'" in message and ("bfloat16" in message or "glorot_uniform" in message)


@pytest.mark.parametrize("text", ["2^x", "0", ""])
def test_bench_refuses_bad_sizes(text, capsys):
    with pytest.raises(SystemExit) as stopped:
        _cli.main(["bench", "--sizes", text])
    assert stopped.value.code == 2 and repr(text) in capsys.readouterr().err


@pytest.mark.full
def test_demo_runs_and_draws(tmp_path, capsys):
    for name in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(name)
    file = tmp_path / "figure.png"
    assert _cli.main(["demo", "--quick", "--output", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "h.*.attn.in_proj" in printed and "keras_like" in printed and str(file) in printed.replace("\n", "")
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and file.stat().st_size > 20_000


def test_demo_names_a_missing_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(console, "installed", lambda name: True)
    assert _cli.main(["demo", "--output", str(tmp_path / "none" / "figure.png")]) == 2
    assert "none" in capsys.readouterr().err


def test_gpt2_is_gpt2_small():
    with torch.device("meta"):
        model = gpt2.GPT2()
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808  # the published number
    assert pytest.approx(TRUNCATED_STD, rel=1e-15) == gpt2.CUT_STD
    assert gpt2.std_of("h.3.linear2.weight", 12) == pytest.approx(0.02 / 24**0.5)


def test_gpt2_statistics():
    model = gpt2.allocated(layers=2, width=64, vocabulary=500, positions=64)
    gpt2.initialize(model, lambda name, weight, std: fastinit.truncated_normal_(weight, std=std, key=fastinit.key(0, name)))
    found = gpt2.statistics(model)["h.*.linear1"]
    values = torch.cat([layer.linear1.weight.detach().double().flatten() for layer in model.h])
    assert (found.tensors, found.elements) == (2, values.numel())
    assert found.std == pytest.approx(values.std(correction=0).item()) and found.mean == pytest.approx(values.mean().item())
    assert (found.least, found.greatest) == (values.min().item(), values.max().item()) and abs(found.mean_error) < 4
    assert (model.h[0].norm1.weight == 1).all() and (model.h[0].linear1.bias == 0).all()
