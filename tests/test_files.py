"""Files of results: what cannot be written is refused before the work, what is damaged in a line; `bench --models` runs this
package and no other."""

import importlib
import json
import os
import shutil
import sys

import pytest

from benchmarks import chart, cuts, gpu, readme_tables, sweep
from benchmarks.convergence import command, results
from fastinit import _cli
from fastinit._commands import apart, bench, console, demo, files, models
from fastinit._commands.footprint import Job
from proof import battery, calls, faults


def started(*args, **options):
    raise AssertionError("the work has begun")


PLAIN = "torch-gpt2"
COMMANDS = {
    "bench": (bench, "_measure", ["bench", "--quick", "--json"]),
    "bench --models": (models, "result_of", ["bench", "--models", PLAIN, "--quick", "--json"]),
    "bench --noise": (models, "result_of", ["bench", "--noise", "--quick", "--json"]),
    "demo": (demo, "_transformer", ["demo", "--output"]),
}
PROGRAMS = {
    "gpu": (gpu, "all_parts", ["--dry-run", "--output"]),
    "cuts": (cuts, "measured", ["--json"]),
    "calls": (calls, "explore", ["--json"]),
    "battery": (battery, "jobs", ["--quick", "--json"]),
    "faults": (faults, "compiler", ["--json"]),
    "accuracy": ("proof.accuracy.count", "walked", ["--json"]),
    "probabilities": ("proof.accuracy.count", "walked", ["--probabilities"]),
    "machine code": ("benchmarks.machine_code", "counted", ["--output"]),
    "CUDA code": ("benchmarks.cuda_code", "targets", ["--output"]),
}


def needs(*packages):
    if missing := [name for name in packages if not console.installed(name)]:
        pytest.skip(f"not installed: {', '.join(missing)}")


DRAWING = ("rich", "matplotlib", "sklearn")


def said_in_a_line(capsys, path):
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and str(path) in message and "cannot be written: " in message, message


@pytest.fixture(params=["no folder", "a folder", "a file for a folder"])
def unwritable(request, tmp_path):
    (tmp_path / "file").write_text("")
    found = {"no folder": tmp_path / "none" / "x.png", "a folder": tmp_path, "a file for a folder": tmp_path / "file" / "x.png"}
    return found[request.param]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_refuse_what_they_could_not_write_before_the_work(name, unwritable, monkeypatch, capsys):
    module, work, arguments = COMMANDS[name]
    needs(*DRAWING[: 3 if name == "demo" else 1])
    monkeypatch.setattr(module, work, started)
    assert _cli.main([*arguments, str(unwritable)]) == 2
    said_in_a_line(capsys, unwritable)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_refuse_what_they_could_not_write_before_the_work(name, tmp_path, monkeypatch, capsys):
    module, work, arguments = PROGRAMS[name]
    if isinstance(module, str):
        pytest.importorskip("scipy" if "accuracy" in module else "triton", exc_type=ImportError)
        module = importlib.import_module(module)
    main = importlib.import_module("proof.accuracy.command").main if "accuracy" in module.__name__ else module.main
    monkeypatch.setattr(module, work, started)
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "x.json"
    monkeypatch.setattr(sys, "argv", ["program", *arguments, str(path)])
    assert files.status_of("program", main) == 2
    said_in_a_line(capsys, path)


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_left_where_the_work_fails(name, tmp_path, monkeypatch):
    module, work, arguments = COMMANDS[name]
    needs(*DRAWING[: 3 if name == "demo" else 1])
    monkeypatch.setattr(module, work, started)
    with pytest.raises(AssertionError, match="has begun"):
        _cli.main([*arguments, str(tmp_path / "x.png")])
    assert not list(tmp_path.iterdir())
    with pytest.raises(AssertionError, match="has begun"), files.writing(tmp_path / "new") as path:
        path.write_text("a part")
        started()
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").write_text("kept")
    files.check_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "kept"


def test_a_figure_of_an_unknown_format_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    needs(*DRAWING)
    monkeypatch.setattr(demo, "_transformer", started)
    assert _cli.main(["demo", "--output", str(tmp_path / "x.doc")]) == 2
    assert "x.doc cannot be written: figures end in one of" in capsys.readouterr().err


# --- damaged files ------------------------------------------------------------------------------------------------------------


def other(value):
    """The same structure with other types at its leaves."""
    if isinstance(value, dict):
        return {key: other(part) for key, part in value.items()}
    return [other(part) for part in value] if isinstance(value, list) else {"type": str(type(value))}


DAMAGE = {
    "empty": lambda text: b"",
    "cut off": lambda text: text[: len(text) // 2],
    "no text": lambda text: b"\xff\xfe\x00" + text,
    "another object": lambda text: b"{}",
    "a list": lambda text: b"[1]",
    "wrong types": lambda text: json.dumps(other(json.loads(text))).encode(),
}


def names_each_damaged_file(folder, use, names="*.json"):
    for path in sorted(folder.glob(names)):
        whole = path.read_bytes()
        for damage in DAMAGE.values():
            path.write_bytes(damage(whole))
            with pytest.raises(files.Refused, match=rf"^\S*{path.name} is damaged.*") as refused:
                use()
            assert "\n" not in str(refused.value)
        path.write_bytes(whole)


def test_damaged_files_of_measurements_are_named(tmp_path, monkeypatch, capsys):
    for name in ("benchmarks/results", "proof/results"):
        shutil.copytree(readme_tables.ROOT / name, tmp_path / name)
    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path / "benchmarks/results")
    monkeypatch.setattr(readme_tables, "ACCURACY", tmp_path / "proof/results/accuracy.json")
    names_each_damaged_file(readme_tables.RESULTS, lambda: readme_tables.main(["--check"]))
    readme_tables.ACCURACY.unlink()
    assert files.status_of("tables", lambda: readme_tables.main(["--check"])) == 2
    assert capsys.readouterr().err.endswith("accuracy.json cannot be read: No such file or directory.\n")


def test_a_chart_of_damaged_models_is_not_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(chart, "ROOT", tmp_path)
    monkeypatch.setitem(chart.FIGURES, "cpu", tmp_path / "models.png")
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    shutil.copy(readme_tables.ROOT / "benchmarks/results/models-avx2-2-cores.json", results)
    names_each_damaged_file(results, chart.main)
    assert not (tmp_path / "models.png").exists()


def test_a_damaged_sweep_is_named(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    path = shutil.copy(readme_tables.ROOT / "benchmarks/results/sweep-avx2-2-cores.json", tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep", "--draw", path, "--figure", str(tmp_path / "figure.svg")])
    names_each_damaged_file(tmp_path, sweep.main)


def test_damaged_files_of_proofs_are_named(tmp_path, monkeypatch):
    pytest.importorskip("scipy")
    page = importlib.import_module("proof.accuracy.page")
    shutil.copytree(page.FOLDER, tmp_path / "results")
    monkeypatch.setattr(page, "FOLDER", tmp_path / "results")
    text = page.PAGE.read_text()
    names_each_damaged_file(page.FOLDER, lambda: page.filled(text))


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"sessions": 1, "runs": []}', '{"sessions": [], "runs": [{}]}'])
def test_a_damaged_file_of_a_battery_is_named(text, tmp_path):
    path = tmp_path / "battery.json"
    path.write_text(text)
    with pytest.raises(files.Refused, match=r"battery\.json is damaged"):
        battery.Battery("program", None, path)


@pytest.mark.parametrize("line", ["{", "[1]", '{"loss": 1}', "7"])
def test_a_damaged_file_of_the_study_is_named(line, tmp_path, capsys):
    path = tmp_path / "study.jsonl"
    path.write_text(json.dumps({"stream": 1}) + f"\n{line}\n")
    with pytest.raises(files.Refused, match=r"study\.jsonl is damaged"):
        results.read(path)
    needs(*DRAWING, "scipy", "sktime", "keras")
    assert command.main(["--slice", "--against", str(path), "--output", str(tmp_path / "new.jsonl")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "study.jsonl is damaged" in message


# --- a process of its own -----------------------------------------------------------------------------------------------------


def test_nothing_of_the_current_directory_is_run(tmp_path, monkeypatch):
    """Neither by its own right nor as an empty entry of PYTHONPATH; a package in another place, which is not on the path, is."""
    package, trap = tmp_path / "elsewhere" / "fastinit", tmp_path / "here"
    (package / "_commands").mkdir(parents=True)
    shutil.copy(apart.__file__, package / "_commands" / "apart.py")
    (package / "__init__.py").touch()
    (package / "_commands" / "footprint.py").write_text("import json, sys\ndef main(): print(json.dumps([__file__, sys.path]))")
    (package / "_commands" / "json.py").write_text("raise SystemExit('a file beside it was taken for a module')")
    for name in ("fastinit", "json"):
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text(f"raise SystemExit('{name} of the current directory')")
    monkeypatch.chdir(trap)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(tmp_path), ""]))
    monkeypatch.setattr(apart, "__file__", str(package / "_commands" / "apart.py"))
    file, path = models.result_of(Job(PLAIN, "cpu", True), models.FULL)
    assert file == str(package / "_commands" / "footprint.py") and str(tmp_path) in path and str(trap) not in path
