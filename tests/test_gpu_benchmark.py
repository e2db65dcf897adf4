"""The command for a GPU machine, as far as it can be tried without one: it says so, and a dry run takes every part."""

import importlib.util
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

import fastinit
from benchmarks import gpu, gpu_tables, gpu_times, gpu_tools, gpu_tuning, helps
from fastinit import _cli
from fastinit._commands import models
from fastinit._core import laws
from fastinit._core.plan import Plan, whole
from fastinit._core.recipes import recipe

pytestmark = pytest.mark.full

ROOT = pathlib.Path(__file__).parents[1]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=600, env={**os.environ, "TRITON_INTERPRET": "1"}
    )


@without_gpu
def test_without_a_gpu_nothing_is_measured():
    done = run()
    assert done.returncode == 2 and "there is no GPU here" in done.stderr
    done = run("times", "time")
    assert done.returncode == 2 and "there is no 'time', only bits, tests, times, " in done.stderr


@without_gpu
def test_a_dry_run_takes_every_part(tmp_path):
    """And the page and the README show what it found. One test, as a run takes most of a minute."""
    if fastinit.backends()["triton"] is not None:
        pytest.skip(f"triton: {fastinit.backends()['triton']}")
    path = tmp_path / "gpu-dry.json"
    done = run("--dry-run", "--output", str(path))
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    report = json.loads(path.read_text())
    check_parts(report)
    if importlib.util.find_spec("rich"):
        built = json.loads((tmp_path / "models-dry.json").read_text())
        assert [row["model"] for row in built["models"]] == ["torch-gpt2"]
    check_page(gpu_tables.text(report))
    check_readme(helps.text(tmp_path))


def served():
    in_tree = (ROOT / "fastinit" / "libfastinit.so").is_file()  # which is where this program runs from
    return {"triton", "native"} if in_tree else {"triton"}


def check_parts(report):
    by = served()
    assert list(report) == list(gpu.PARTS)
    assert all(part["machine"]["gpu"] == "none: a dry run" for part in report.values())
    verdicts = report["bits"]["verdicts"]
    assert {name.split(":")[0] for name in verdicts} == by and set(verdicts.values()) == {"ok"}
    times = report["times"]
    works = {(row["work"], row["dtype"], row["elements"]) for row in times["rows"]}
    assert len(works) == 5 * 2 * 2 + 3 * 3 and {row["backend"] for row in times["rows"]} == by
    assert all(row["seconds"]["p50"] > 0 for row in times["rows"] + times["lists"] + times["noise"])
    assert {row["dtype"] for row in times["rows"] if "peer" not in row} == {"float8_e4m3fn", "float8_e5m2"}
    assert {first["backend"] for first in times["first_calls"]} == by and all(first["cold"] > 0 for first in times["first_calls"])
    noise = {(row["dtype"], row["seeds"], row["backend"]) for row in times["noise"]}
    assert noise == {(dtype, seeds, name) for dtype in ("float32", "bfloat16") for seeds in (1, 2) for name in by}
    assert {row["model"] for row in times["lists"]} == {"ResNet-50", "GPT-2 small"}


def check_page(text):
    by = len(served())
    assert text.startswith("none: a dry run, driver None")
    for head, lines in ((gpu_tables.FILLS, by * (10 + 9)), (gpu_tables.LISTS, by * 4), (gpu_tables.NOISE, by * 4)):
        table = text.split(f"| {' | '.join(head)} |\n")[1].split("\n\n")[0]
        assert table.count("\n") == lines, head[0]
    assert text.count(": missed |") > 0 and f"Bits: {by} of {by} without a fault." in re.sub(", commit [^:]*", "", text)
    assert "native" not in text, "CUDA's library is called so"
    assert text.count("in bfloat16") == by and "tensors, by Triton: not counted" in text


def check_readme(text):
    lines = text.split(f"| {' | '.join(helps.GPU_HEAD)} |\n")[1].split("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    fills = [line[2:] for line in cells if "constructors" not in line[1]]
    assert len(cells) == len(helps.GPU_LINES) == len(fills) + 2 and all(triton for _, triton in fills)
    assert {native == "Not measured yet." for native, _ in fills} == {"native" not in served()}
    assert all(line[2:] == ["Not measured yet.", ""] for line in cells if "constructors" in line[1])
    assert text.endswith(f"none: a dry run, torch {torch.__version__}.")
    assert helps.GPU_HEAD[0] not in helps.text(ROOT / "docs"), "where there are no results"


def test_times_of_which_nothing_was_measured_say_why():
    part = {"rows": [], "lists": [], "verdicts": {"rows": "failed: Traceback\nRuntimeError: no memory", "lists": "ok"}}
    assert gpu_tables.times(part) == "rows: RuntimeError: no memory"


def test_parts_that_failed_as_a_whole_say_why(monkeypatch, tmp_path):
    parts = {name: failing for name in ("times", "counters", "tuning")}
    _, report = started(monkeypatch, tmp_path, parts, *parts)
    for part in report.values():
        part["machine"] |= {"gpu": "A GPU", "driver": 1, "cuda": 2, "torch": 3, "triton": 4, "date": 5}
    text = gpu_tables.text(report)
    for name in parts:
        assert f"0 of 1 without a fault; {name}: RuntimeError: an illegal memory access." in text
    assert helps.GPU_HEAD[0] not in helps.text(tmp_path)


def test_launches_are_told_by_kernel():
    row = {"model": "GPT-2 small", "dtype": "float32", "tensors": 148, "backend": "native", "launches": {"fill_list": 1, "f": 2}}
    told = "GPT-2 small in float32, 148 tensors, by CUDA: 1 of fill_list, 2 of f"
    assert gpu_tables.launches_of(row) == told


# --- its parts -----------------------------------------------------------------------------------------------------------------


def started(monkeypatch, tmp_path, parts, *names):
    """The exit status and the report of a run whose parts are stand-ins."""
    monkeypatch.setattr(gpu, "PARTS", parts)
    output = tmp_path / "gpu-a.json"
    run_of = gpu.Run(["native"], torch.device("cpu"), gpu.DRY, output)
    status = gpu.all_parts(run_of, list(names or parts), {"commit": "a"}, to_the_end=bool(names))
    return status, json.loads(output.read_text())


def failing(run_of):
    raise RuntimeError("an illegal memory access")


def test_a_fault_ends_it_unless_parts_are_named(monkeypatch, tmp_path, capsys):
    parts = {"bits": lambda _: {"verdicts": {"lists": "exit status 1: 3 differ", "tool": "not run: absent"}}}
    parts |= {"crash": failing, "times": lambda _: {"rows": [1]}}
    assert started(monkeypatch, tmp_path, parts)[1].keys() == {"bits"}
    status, report = started(monkeypatch, tmp_path, parts, "bits", "crash", "times")
    assert status == 1 and report["times"]["rows"] == [1]
    assert "an illegal memory access" in report["crash"]["verdicts"]["crash"]
    told = capsys.readouterr()
    assert "FAULT lists: exit status 1: 3 differ" in told.err and "\ntool: not run: absent" in told.out


def test_what_was_timed_before_a_failure_is_kept(monkeypatch):
    def rows(*_):
        yield {"first": 1}
        raise RuntimeError("an illegal memory access")

    for name in ("rows", "lists", "initialized", "first_calls"):
        monkeypatch.setattr(gpu_times, name, rows if name == "rows" else lambda *_: iter([{"whole": 2}]))
    monkeypatch.setattr(gpu.gpu_noise, "rows", lambda *_: [{"noise": 3}])
    found = gpu.times(gpu.Run(["native"], torch.device("cpu"), gpu.DRY, pathlib.Path("unused")))
    assert found["rows"] == [{"first": 1}] and found["lists"] == [{"whole": 2}] and len(found["noise"]) == 2
    assert "illegal" in found["verdicts"].pop("rows") and set(found["verdicts"].values()) == {"ok"}


def test_the_models_are_asked_for_by_the_command_line(monkeypatch, tmp_path):
    """All of them on the GPU; what fails in the report is a fault."""
    row = {"model": "gpt2-124m", "contenders": {"accelerate": {"error": "out of memory"}, "initialize_": {}}}
    asked = []

    def ran(command, limit):
        asked.append(_cli.parser().parse_args(command[3:]))
        pathlib.Path(asked[0].json).write_text(json.dumps({"models": [row]}))
        return gpu_tools.Done(0, 1.0, "a table")

    monkeypatch.setattr(gpu_tools, "ran", ran)
    found = gpu.models(gpu.Run(["native"], torch.device("cuda", 0), gpu.FULL, tmp_path / "gpu-a.json"))
    assert models.asked(asked[0].__class__(**{**vars(asked[0]), "devices": None}))[0] == list(gpu.MODELS)
    assert asked[0].devices == ["cuda"] and asked[0].json == str(tmp_path / "models-a.json") and not asked[0].quick
    assert found["verdicts"] == {"bench --models": "ok", "gpt2-124m, accelerate": "failed: out of memory"}


def test_a_part_replaces_its_own_results_alone(monkeypatch, tmp_path):
    first = {"bits": lambda _: {"verdicts": {"a": "ok"}}, "times": lambda _: {"rows": [1]}}
    assert started(monkeypatch, tmp_path, first)[0] == 0
    _, report = started(monkeypatch, tmp_path, {**first, "times": lambda _: {"rows": [2]}}, "times")
    assert report["bits"]["verdicts"] == {"a": "ok"} and report["times"]["rows"] == [2]


def test_how_a_program_ends():
    def verdict(code, limit=60):
        return gpu_tools.verdict(gpu_tools.ran([sys.executable, "-c", code], limit))

    assert verdict("print(1)") == "ok"
    assert verdict("print('why'); raise SystemExit(3)") == "exit status 3: why\n"
    assert verdict("import os, time; os.fork(); time.sleep(600)", 1).startswith("out of time after 1 s: ")
    told = gpu_tools.all_ran({name: [sys.executable, "-c", f"print({name!r})"] for name in "abc"}, 60)
    assert {name: done.told for name, done in told.items()} == {"a": "a\n", "b": "b\n", "c": "c\n"}


def is_running(pid):
    """A zombie is not: it waits for whoever inherits it."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").is_file(), reason="asks /proc")
def test_ctrl_c_ends_what_was_started(tmp_path):
    child = "import pathlib, os, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    code = "import sys; from benchmarks import gpu_tools; child, *places = sys.argv[1:]\n"
    code += "gpu_tools.LEAST = 1\ngpu_tools.os.cpu_count = lambda: 4\n"
    code += "gpu_tools.all_ran({place: [sys.executable, '-c', child, place] for place in places}, 600)"
    places = [tmp_path / name for name in "abc"]  # two at once; the third is never started
    program = subprocess.Popen(
        [sys.executable, "-c", code, child, *map(str, places)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while not all(place.is_file() and place.read_text() for place in places[:2]):
        assert program.poll() is None
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in program.communicate(timeout=60)[1]
    started = [int(place.read_text()) for place in places[:2]]
    for _ in range(6000):  # one that was killed takes its time to end on a busy machine
        if any(map(is_running, started)):
            time.sleep(0.01)
    assert not any(map(is_running, started))
    assert not places[2].exists()


def test_what_a_check_finds_is_a_fault():
    """As on a GPU: a group in a process of its own."""
    found = gpu_tools.checked(["reference"], "cpu", 5000, ["beyond-32-bits", "shards"], apart=True)
    assert list(found) == ["check", "reference: beyond-32-bits", "reference: shards"]
    assert set(found.values()) == {"ok"}
    (told,) = gpu_tools.checked(["no-backend"], "cpu", 5000, ["shards"], apart=False).values()
    assert told.startswith("exit status 1: ") and "no-backend" in told


def test_a_hang_is_a_fault_and_a_slow_sanitizer_none(monkeypatch, capsys):
    ends = {"memcheck": (0, "ERROR SUMMARY: 0 errors"), "racecheck": (0, "killed"), "initcheck": (None, "")}
    monkeypatch.setattr(gpu_tools.shutil, "which", lambda name: name)
    ended = {f"native: {tool}": gpu_tools.Done(status, 540, told) for tool, (status, told) in ends.items()}
    monkeypatch.setattr(gpu_tools, "all_ran", lambda commands, limit, **_: {name: ended[name] for name in commands})
    found = gpu_tools.sanitized(["native"])
    assert [verdict.split(":")[0] for verdict in found.values()] == ["ok", "no summary of errors", "not run to its end"]
    assert gpu.faults({"verdicts": found}) == 1 and "FAULT native: racecheck" in capsys.readouterr().err
    assert gpu.faults({"verdicts": {"native: lists": gpu_tools.verdict(gpu_tools.Done(None, 540, ""))}}) == 1


def test_metrics_are_read_from_nsight_compute():
    lines = ["==PROF== Connected", '"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"']
    lines += ['"0","fill_one","SOL","Duration","us","1,234.5"', '"0","fill_one","SOL","A Metric","%","1"']
    lines += [
        '"1","fill_one","A rule","","",""',
        '"1","fill_one","Launch","Registers Per Thread","register/thread","80"',
        "==WARNING== a warning",
    ]
    assert gpu_tools.metrics("\n".join(lines)) == [
        {"Duration": "1,234.5 us", "A Metric": "1 %"},
        {"Registers Per Thread": "80 register/thread"},
    ]
    assert gpu_tools.metrics("no counters here") == []
    cells = gpu_tables.counter_cells("uniform float32", "native", {"Executed Instructions": f"{2**28 // 32 * 15:,} inst"})
    assert cells[-1] == "15.0"


def test_an_aim_is_told_beside_the_worst_and_the_bound():
    """132 multiprocessors of 2 GHz issue 33.8e12 instructions: at 31.9 an element 1.06e12 elements, of bfloat16 2.12 TB/s."""
    row = {"work": "truncated_normal", "dtype": "bfloat16", "backend": "native", "elements": 1 << 28, "of_fill": {"p50": 0.5}}
    row |= {"seconds": {"p50": 2.0**29 / 2e12}, "gb_per_s": 2000.0, "fill_gb_per_s": 4000.0}
    machine = {"multiprocessors": 132, "megahertz": "2000", "capability": "90"}
    text = gpu_tables.aims({"rows": [row], "lists": [], "machine": machine})
    assert "| bfloat16 truncated_normal: of `fill_` | at least 0.65 | 0.50: missed | 0.53 |" in text
    assert text.count("not measured") == len(gpu_tables.AIMS) - 1
    assert gpu_tables.bound(gpu_tables.AIMS[3], {"rows": [row], "machine": {**machine, "capability": "75"}}) is None


# --- other kernels -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", gpu_tuning.VARIANTS)
def test_a_variant_s_texts_are_there(name, tmp_path):
    variant = gpu_tuning.VARIANTS[name]
    folder = gpu_tuning.edited(tmp_path, variant)
    changed = {path for path, *_ in variant.edits}
    for path in (ROOT / "csrc").rglob("*.*"):
        text, copy = path.read_text(), (folder / path.relative_to(ROOT)).read_text()
        assert (text != copy) == (str(path.relative_to(ROOT)) in changed)
    assert bool(changed) == (name != gpu_tuning.AS_IT_IS)


def test_a_text_that_is_gone_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"kernel\.h must hold this once: no such text"):
        gpu_tuning.edited(tmp_path, gpu_tuning.Variant("", ((gpu_tuning.KERNEL, "no such text", ""),)))


def test_variants_are_compared_in_turns_and_by_their_bits():
    def plan():
        out = torch.empty(64)
        return Plan(out, recipe(laws.uniform(0.0, 1.0), out.dtype), 1, whole(out))

    fills = {gpu_tuning.AS_IT_IS: lambda p: p.out.fill_(2.0), "128 threads, 6 blocks": lambda p: p.out.fill_(3.0)}
    rows = list(gpu_tuning.compared("uniform", "native", fills, [plan(), plan()], gpu.DRY, torch.device("cpu")))
    assert [row["same_bits"] for row in rows] == [True, False] and rows[0]["times"]["p50"] == 1.0
    text = gpu_tables.tuning({"rows": rows})
    assert "no change: the same instructions and as many warps; its bits differ |" in text and text.count("\n") == 3


def test_the_models_have_their_sizes():
    """torchvision's ResNet-50 has 25,557,032 parameters, 53,120 of them in batch normalization; GPT-2 has 124,439,808."""
    resnet50, gpt2 = (sum(map(math.prod, shapes(gpu.FULL))) for shapes in (gpu_times.resnet50, gpu_times.gpt2_shapes))
    biases, layer_norms = 12 * (3 + 1 + 4 + 1) * 768, (12 * 2 + 1) * 2 * 768
    assert (resnet50, gpt2) == (25_557_032 - 53_120 - 1000, 124_439_808 - biases - layer_norms)
