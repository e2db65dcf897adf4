"""How the commands meet a shell: Ctrl-C, standard output and pipes, narrow terminals, completion, arguments that are wrong."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import fastinit
import fastinit_command
from fastinit import _cli, _text
from fastinit._backends import cpu
from fastinit._commands import bench, check, console, demo, files, models, noise

QUICK = ["bench", "--quick", "--functions", "normal", "--dtypes", "float32", "--sizes", "64"]
WORK = {  # a command, and where its work begins
    "check": (["check"], check, "find_fillers"),
    "bench": (QUICK, bench, "_measure"),
    "bench --models": (["bench", "--models", "gpt2-124m", "--quick"], models, "result_of"),
    "bench --noise": (["bench", "--noise", "--quick"], models, "result_of"),
    "demo": (["demo", "--quick"], demo, "_transformer"),
    "audit": (["audit", f"{__name__}:build"], fastinit, "audit"),
}


def build():
    return nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))


@pytest.fixture
def one_subject(monkeypatch):
    """Noise onto one tensor: seconds less."""
    monkeypatch.setattr(noise, "SUBJECTS", {"2^20": 1 << 20})


def program(*arguments, **options):
    command = [sys.executable, "-u", "-m", "fastinit", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


# --- Ctrl-C -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORK)
def test_ctrl_c_is_a_line_and_status_130(name, monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    arguments, module, work = WORK[name]
    monkeypatch.setattr(console, "require", lambda *modules, extra="": None)
    monkeypatch.setattr(module, work, interrupted)
    monkeypatch.setattr(models, "sorted_out", lambda names: (names, []))
    if name == "demo":
        pytest.importorskip("matplotlib")
    assert _cli.main(arguments) == 130
    said = capsys.readouterr()
    assert said.err == f"fastinit {arguments[0]}: interrupted\n" and "Traceback" not in said.out


def test_a_signal_ends_a_check():
    """In the middle of the work, which has said what it checks."""
    running = program("check")
    assert "fastinit" in running.stdout.readline() and "checking" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130 and said.endswith("fastinit check: interrupted\n") and "Traceback" not in said


def test_ctrl_c_is_heard_while_torch_is_imported(tmp_path):
    """By the console script, whose first import is the package's: here one that never ends."""
    (tmp_path / "fastinit").mkdir()
    (tmp_path / "fastinit" / "__init__.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(600)\n")
    path = os.pathsep.join([str(tmp_path), str(pathlib.Path(fastinit_command.__file__).parent)])
    command, pipes = [sys.executable, "-m", "fastinit_command_door"], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    (tmp_path / "fastinit_command_door.py").write_text("import fastinit_command\nraise SystemExit(fastinit_command.main())\n")
    running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, text=True, **pipes)
    assert running.stdout.readline() == "importing\n"
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, said) == (130, "fastinit: interrupted\n")


def test_the_console_script_runs_the_command_line(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["fastinit", "info"])
    assert fastinit_command.main() == 0 and fastinit.__version__ in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.full
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_signal_ends_the_processes_that_build_models(tmp_path):
    pytest.importorskip("rich")
    arguments = ["bench", "--models", "torch-gpt2", "--devices", "cpu", "--json", str(tmp_path / "results.json")]
    running = program(*arguments, start_new_session=True)
    while len(of_session(running.pid)) < 2:
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130 and said.endswith("fastinit bench: interrupted\n") and "Traceback" not in said
    for _ in range(6000):  # one that was killed takes its time to end on a busy machine
        if of_session(running.pid):
            time.sleep(0.01)
    assert not of_session(running.pid) and not list(tmp_path.iterdir())


def of_session(number):
    """The processes of a session that have not ended."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            found += [path] if int(session) == number and state != "Z" else []
    return found


def test_programs_of_the_source_end_likewise(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert files.status_of("python -m proof.calls", interrupted) == 130
    assert capsys.readouterr().err == "python -m proof.calls: interrupted\n"


# --- standard output ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bench", "bench --models", "bench --noise", "audit"])
def test_results_alone_on_standard_output(name, monkeypatch, capsys, one_subject):
    arguments, _, _ = WORK[name]
    if name != "audit":
        pytest.importorskip("rich")
    if name == "bench --models":
        monkeypatch.setattr(models, "sorted_out", lambda names: (names, []))
        monkeypatch.setattr(models, "result_of", lambda job, pace: {"error": "not built"})
    assert _cli.main([*arguments, "--json", "-"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["entries"] if name == "audit" else report["machine"]["torch"] == torch.__version__
    expected = {
        "bench": "Medians of paired",
        "bench --models": "Building a model",
        "bench --noise": "noise onto",
        "audit": "clean",
    }
    assert expected[name] in said.err
    print("afterwards")
    assert capsys.readouterr().out == "afterwards\n", "standard output is itself again"


def test_what_reads_the_output_may_leave(capfd):
    running = program(*QUICK, "--json", "-")
    running.stdout.close()
    said = running.stderr.read()
    assert running.wait(timeout=120) == 141 and "Traceback" not in said and "Error" not in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_full_is_said():
    command = [sys.executable, "-m", "fastinit", "info"]
    with open("/dev/full", "w") as disk:
        done = subprocess.run(command, stdout=disk, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.endswith("fastinit info: [Errno 28] No space left on device\n")


# --- narrow terminals ---------------------------------------------------------------------------------------------------------


HEAD, ROWS = ("function", "dtype", "of fill"), [["truncated_normal", "bfloat16", "0.13"], ["normal", "float32", "0.24"]]
LIST = """\
truncated_normal
  dtype     bfloat16
  of fill   0.13
normal
  dtype     float32
  of fill   0.24"""


@pytest.mark.parametrize("rich", [True, False])
def test_a_table_that_is_too_wide_is_a_list(rich, monkeypatch, capsys):
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setattr(console, "installed", lambda name: False)
    monkeypatch.delenv("COLUMNS", raising=False)
    for told, is_list in (("60", False), ("30", True), ("", False), ("none", False)):
        monkeypatch.setenv("COLUMNS", told)
        console.table("A title of seven words and a number", HEAD, ROWS)
        printed = capsys.readouterr().out
        assert (LIST in printed) == is_list, told
        assert not told.isdecimal() or all(len(line) <= int(told) for line in printed.splitlines())


def test_lines_are_broken_at_spaces():
    assert _text.wrapped("a bc def\n  indented words here", 9, 4) == "a bc def\n  indented\n    words\n    here"
    assert _text.wrapped("/a/path/without/any/space and more", 10) == "/a/path/without/any/space\nand more"
    assert _text.wrapped("of any length", None) == "of any length"
    assert _text.wrapped("one\n\ntwo", 10) == "one\n\ntwo"


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize(
    "arguments", [["info"], QUICK, ["bench", "--noise", "--quick"], ["audit", f"{__name__}:build"]], ids=" ".join
)
def test_commands_fit_narrow_terminals(columns, arguments, monkeypatch, capsys, one_subject):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", str(columns))
    assert _cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5 and not [line for line in lines if len(line) > columns and len(line.split()) > 2], "but for paths"


def test_the_demo_says_no_number_twice_and_none_that_rounds_to_nothing(monkeypatch, capsys):
    tables = []
    monkeypatch.setattr(console, "table", lambda title, columns, rows: tables.append((columns, list(rows))))
    getattr(demo, WORK["demo"][2])(quick=True)
    for columns, rows in tables:
        assert len(set(columns)) == len(columns)
        assert not [cell for row in rows for cell in row if cell in ("0", "0M", "0.00M", "0.000")]
    assert "0M" not in capsys.readouterr().out and len(tables) == 2


# --- what is said -------------------------------------------------------------------------------------------------------------


def test_an_instruction_set_has_one_of_two_reasons():
    found = cpu.library_or_reason()
    if isinstance(found, str):
        pytest.skip(found)
    # FASTINIT_BAD_ISA and FASTINIT_NOT_BUILT
    unsupported, not_built = (found.fastinit_message(status).decode() for status in (7, 15))
    assert "not supported by this processor" in unsupported and "not built into this library" in not_built
    foreign = ["avx2", "avx512"] if cpu.isas()["neon"] is None else ["neon"]
    for name, reason in cpu.isas().items():
        expected = {None, f"{name}: {not_built}" if name in foreign else f"{name}: {unsupported}"}
        assert reason in expected and (name not in foreign or reason), name


@pytest.mark.parametrize("option", ["--functions", "--dtypes", "--models", "--devices"])
def test_an_empty_list_is_not_all(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        _cli.main(["bench", option, ","])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "name one at least" in said and said.count("\n") == 1, "without the usage"


@pytest.mark.parametrize("sizes, told", [("9^999999999", "from 1 to 2^40"), ("2^40", "larger than the memory")])
def test_sizes_beyond_the_machine(sizes, told, capsys):
    pytest.importorskip("rich")
    with contextlib.suppress(SystemExit):
        assert _cli.main(["bench", "--sizes", sizes]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1


def test_a_figure_without_an_ending_is_a_png(tmp_path, monkeypatch):
    for name in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(name)
    monkeypatch.setattr(demo, WORK["demo"][2], lambda quick: None)
    assert _cli.main(["demo", "--quick", "--output", str(tmp_path / "figure")]) == 0
    (found,) = tmp_path.iterdir()
    assert found.name == "figure" and found.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.extra
@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh", "fish"])
def test_completion(shell, capsys, tmp_path):
    pytest.importorskip("shtab")
    assert _cli.main(["completion", shell]) == 0
    script = tmp_path / "fastinit.sh"
    script.write_text(capsys.readouterr().out)
    assert "audit" in script.read_text() and ("functions" in script.read_text() or shell == "tcsh"), "shtab gives tcsh no more"
    if shell != "bash" or not shutil.which("bash"):
        return
    subprocess.run(["bash", "-n", script], check=True)
    for words, expected in (
        ("fastinit b", "bench"),
        ("fastinit bench --qu", "--quick"),
        (f"fastinit bench --json {tmp_path}/f", script),
    ):
        count = len(words.split()) - 1
        code = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={count}; _shtab_fastinit; echo ${{COMPREPLY[*]}}"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        assert str(expected) in done.stdout.split(), (words, done)


def test_completion_names_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(console, "installed", lambda name: False)
    assert _cli.main(["completion", "bash"]) == 2
    assert "pip install 'fastinit-torch[completion]'" in capsys.readouterr().err
