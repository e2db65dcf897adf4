"""Look for faults of the C library by sanitizers and a fuzzer: `python -m proof.faults`, half an hour; `--quick`, two minutes.

It builds csrc with the flags of setup.py and clang's or gcc's sanitizers, runs proof/stress.cpp under AddressSanitizer with
UndefinedBehaviorSanitizer, without --quick also under ThreadSanitizer, then clang's libFuzzer over proof/fuzz_plan.cpp, from the
inputs in proof/corpus.txt, and without --quick the same target, blindly, on the twin of the CUDA library
(tests/emulation/twin.py). Where there is no clang, gcc builds the fuzzer as a program that mutates the inputs blindly. Exit
status 1 on any fault.

proof/corpus.txt has the fewest inputs that reach every branch that was ever reached, a line each, in base 64; --keep makes it
anew of itself and what was found.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import setuptools

from fastinit._commands import files

ROOT = pathlib.Path(__file__).parents[1]
CORPUS = ROOT / "proof" / "corpus.txt"
ADDRESS = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
THREAD = ("-fsanitize=thread",)
COVERAGE = ("-fprofile-instr-generate", "-fcoverage-mapping")
LEAST = ("-O1", "-g1", "-fno-omit-frame-pointer")  # in place of setup.py's -O3: with sanitizers that compiles for minutes
# clang 14 compiles the AVX2 loops for 84 s with this check, for 24 without it; the scalar loops, written once with them, have it
SLOW = ("-fno-sanitize=pointer-overflow",)
WRAPPED = ("-Wl,--wrap=pthread_create",)  # a program's, that refuses threads
LONGEST = 1024  # bytes of an input
BLIND = 2000  # inputs a minute of the program without libFuzzer
Report = dict[str, Any]


class Compiler(NamedTuple):
    path: str
    is_clang: bool


class Fault(Exception):
    """A program that ended otherwise than well, and what it said."""


def compiler() -> Compiler | None:
    """clang where it has its fuzzer, else gcc."""
    for name in ("clang++", *(f"clang++-{version}" for version in range(30, 11, -1))):
        if (path := shutil.which(name)) and has_fuzzer(path):
            return Compiler(path, True)
    path = shutil.which("g++") or shutil.which("c++")
    return Compiler(path, False) if path else None


def has_fuzzer(path: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "target.cpp")
        source.write_text('extern "C" int LLVMFuzzerTestOneInput(const unsigned char *, unsigned long) { return 0; }\n')
        command = [path, "-fsanitize=fuzzer,address", str(source), "-o", str(source.with_suffix(""))]
        return subprocess.run(command, capture_output=True).returncode == 0


def build_recipe(root: pathlib.Path = ROOT) -> tuple[list[str], dict[str, list[str]]]:
    """setup.py's flags for all files, and each file's own."""
    with mock.patch.object(setuptools, "setup"):
        names = runpy.run_path(str(root / "setup.py"))
    return names["FLAGS"], names["sources"]()


def run(*command: str | os.PathLike[str], **options: Any) -> str:
    """What the program printed. Raises Fault where it ended with another status than 0, or did not end."""
    name = pathlib.Path(command[0]).name
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    except subprocess.TimeoutExpired as error:
        raise Fault(f"{name} did not end in {error.timeout} s") from error
    if done.returncode:
        raise Fault(f"{name} ended with status {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


class Build:
    """csrc and the programs of proof/ under some flags, in a folder of their own."""

    def __init__(self, tool: Compiler, flags: Iterable[str], folder: pathlib.Path, root: pathlib.Path = ROOT) -> None:
        self.tool, self.flags, self.folder, self.root = tool, tuple(flags), folder, root
        self.common, self.sources = build_recipe(root)
        folder.mkdir(parents=True, exist_ok=True)

    def compile(self, source: str, own: Iterable[str] = ()) -> pathlib.Path:
        made = self.folder / f"{pathlib.Path(source).stem}.o"
        less = SLOW if self.tool.is_clang and self.flags[:2] == ADDRESS and "-mfma" in own else ()
        run(self.tool.path, *self.common, *LEAST, *self.flags, *less, *own, "-c", self.root / source, "-o", made)
        return made

    def library(self, pool: ThreadPoolExecutor) -> list[pathlib.Path]:
        return list(pool.map(self.compile, self.sources, self.sources.values()))

    def link(self, objects: list[pathlib.Path], name: str, *own: str) -> pathlib.Path:
        run(self.tool.path, *self.flags, *objects, "-pthread", *own, "-o", self.folder / name)
        return self.folder / name

    def stress(self, library: list[pathlib.Path]) -> pathlib.Path:
        return self.link([self.compile("proof/stress.cpp"), *library], "stress", *WRAPPED)

    def fuzzer(self, library: list[pathlib.Path], guided: bool) -> pathlib.Path:
        """The fuzz target with libFuzzer, or as a program of its own."""
        target = self.compile("proof/fuzz_plan.cpp", ["-DPROOF_LIBFUZZER"] if guided else [])
        return self.link([target, *library], "fuzz_plan", *(["-fsanitize=fuzzer"] if guided else []))

    def twin(self, library: list[pathlib.Path]) -> pathlib.Path:
        """The fuzz target on the twin of the CUDA library; the CPU's is there too, as the harness's measure."""
        others = [f"-Dfastinit_{name}=twin_{name}" for name in ("abi", "message")]
        include = ["-I", str(self.root / "tests" / "emulation" / "cuda_twin")]
        twin = self.compile("csrc/cuda/cuda.cu", ["-O0", *include, *others, "-x", "c++"])  # optimized, it compiles for minutes
        return self.link([self.compile("proof/fuzz_plan.cpp", ["-DPROOF_TWIN"]), twin, *library], "fuzz_twin")


def stress(program: pathlib.Path, *arguments: str) -> Report:
    """Run it; with fixed addresses, as ThreadSanitizer fails where a kernel randomizes them by many bits."""
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    began = time.monotonic()
    said = run(*fixed, program, *arguments, timeout=3600)
    fills, elements, sets = map(int, re.findall(r"(\d+) fills of (\d+) elements in (\d+) instruction sets", said)[0])
    return {"fills": fills, "elements": elements, "instruction_sets": sets, "seconds": round(time.monotonic() - began)}


# --- the fuzzer ---------------------------------------------------------------------------------------------------------------


def seeds(folder: pathlib.Path) -> list[pathlib.Path]:
    """The inputs of proof/corpus.txt as files in a new folder."""
    folder.mkdir(parents=True)
    paths = []
    for number, line in enumerate(CORPUS.read_text().split()):
        paths.append(folder / f"{number:04}")
        paths[-1].write_bytes(base64.b64decode(line))
    return paths


def keep(program: pathlib.Path, folders: Iterable[pathlib.Path], kept: pathlib.Path) -> None:
    """Write proof/corpus.txt: the fewest inputs of the folders that reach all branches which those reach together."""
    kept.mkdir()
    run(program, "-merge=1", "-use_counters=0", f"-max_len={LONGEST}", "-rss_limit_mb=4096", kept, *folders)
    inputs = sorted((path.read_bytes() for path in kept.iterdir()), key=lambda content: (len(content), content))
    CORPUS.write_text("".join(f"{base64.b64encode(content).decode()}\n" for content in inputs))


def fuzz(program: pathlib.Path, folders: list[pathlib.Path], minutes: float, jobs: int) -> Report:
    """libFuzzer in `jobs` processes on one corpus, the first of the folders, for `minutes` of processor time together."""
    seconds = max(1, round(60 * minutes / jobs))
    artifacts = f"-artifact_prefix={tempfile.gettempdir()}/fastinit-"  # a fault's input stays there
    limits = [f"-max_len={LONGEST}", "-len_control=0", "-timeout=60", "-rss_limit_mb=4096", artifacts]
    timed = (f"-max_total_time={seconds}", "-print_final_stats=1")
    with ThreadPoolExecutor(jobs) as pool:
        said = list(pool.map(lambda job: run(program, *folders, *limits, *timed, f"-seed={job + 1}"), range(jobs)))
    executions = sum(int(re.findall(r"number_of_executed_units: (\d+)", text)[0]) for text in said)
    merged = run(program, *folders, *limits, "-runs=0")
    edges, features = map(int, re.findall(r"cov: (\d+) ft: (\d+)", merged)[-1])
    inputs = len(list(folders[0].iterdir()))
    return {"minutes": minutes, "executions": executions, "edges": edges, "features": features, "corpus": inputs}


def fuzz_blindly(program: pathlib.Path, inputs: list[pathlib.Path], minutes: float) -> Report:
    """The same target without coverage's guidance: these inputs, and others of a fixed seed."""
    said = run(program, str(round(BLIND * minutes)), "1", *inputs)
    return {"minutes": minutes, "executions": int(re.findall(r"(\d+) inputs:", said)[-1])}  # behind what a sanitizer says


def line_coverage(tool: Compiler, folders: list[pathlib.Path], folder: pathlib.Path, pool: ThreadPoolExecutor) -> Report:
    """Lines of csrc that the folders' inputs run, as llvm-cov counts them; nothing where it is not installed."""
    suffix = "".join(re.findall(r"-\d+$", tool.path))
    merge, show = (shutil.which(f"{name}{suffix}") or shutil.which(name) for name in ("llvm-profdata", "llvm-cov"))
    if not (merge and show):
        return {}
    build = Build(tool, COVERAGE, folder)
    objects = build.library(pool)
    program, raw = build.fuzzer(objects, guided=False), folder / "run.profraw"
    inputs = [*(path.name for path in folders[0].iterdir()), *(path for each in folders[1:] for path in each.iterdir())]
    run(program, "0", "0", *inputs, cwd=folders[0], env={**os.environ, "LLVM_PROFILE_FILE": str(raw)})
    run(merge, "merge", raw, "-o", raw.with_suffix(".profdata"))
    told = run(show, "export", "-summary-only", f"-instr-profile={raw.with_suffix('.profdata')}", program)
    files = {pathlib.Path(entry["filename"]): entry["summary"]["lines"] for entry in json.loads(told)["data"][0]["files"]}
    found = {path.relative_to(ROOT / "csrc"): line for path, line in files.items() if path.is_relative_to(ROOT / "csrc")}
    return {path.as_posix(): [line["covered"], line["count"]] for path, line in found.items()}


# --- the command --------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller stress, without ThreadSanitizer, and a minute of fuzzing")
    parser.add_argument("--minutes", type=float, help="of processor time to fuzz for (30)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once (all processors)")
    parser.add_argument("--corpus", type=pathlib.Path, help="a folder in which the fuzzer keeps its inputs")
    parser.add_argument("--keep", action="store_true", help="make proof/corpus.txt anew (clang)")
    parser.add_argument("--json", type=pathlib.Path, help="write the report to this file")
    arguments = parser.parse_args()
    files.check_writable(arguments.json)
    tool = compiler()
    if tool is None:
        print("there is no C++ compiler here", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        report = examine(tool, arguments, pathlib.Path(folder), pool)
    if arguments.json:
        files.write(arguments.json, json.dumps(report, indent=1) + "\n")
    return 1 if report["faults"] else 0


def examine(tool: Compiler, arguments: argparse.Namespace, folder: pathlib.Path, pool: ThreadPoolExecutor) -> Report:
    report: Report = {**place(tool), "faults": []}
    minutes = arguments.minutes or (arguments.jobs if arguments.quick else 30)
    corpus = (arguments.corpus or folder / "corpus").absolute()
    corpus.mkdir(parents=True, exist_ok=True)
    known = seeds(folder / "seeds")
    folders = [corpus, folder / "seeds"]
    coverage = ("-fsanitize=fuzzer-no-link",) if tool.is_clang else ()
    builds = {"address": Build(tool, ADDRESS + coverage, folder / "address")}
    if not arguments.quick:  # tests/test_faults.py has it for threads, which share nothing in the loops of an instruction set
        builds["thread"] = Build(tool, THREAD, folder / "thread")
    objects = {}
    for name, build in builds.items():
        objects[name] = build.library(pool)
        program = build.stress(objects[name])
        step(report, f"stress, {name}", partial(stress, program, *(["quick"] if arguments.quick else [])))
    target = builds["address"].fuzzer(objects["address"], guided=tool.is_clang)
    if tool.is_clang:
        step(report, "fuzz", lambda: fuzz(target, folders, minutes, arguments.jobs))
        step(report, "lines", lambda: line_coverage(tool, folders, folder / "lines", pool))
        if arguments.keep:
            keep(target, folders, folder / "kept")
    else:
        print("no clang with libFuzzer here: the inputs are mutated blindly")
        step(report, "fuzz", lambda: fuzz_blindly(target, known, minutes))
    if not arguments.quick:
        twin = Build(tool, ADDRESS, folder / "twin").twin(objects["address"])
        step(report, "fuzz, CUDA's twin", partial(fuzz_blindly, twin, known, minutes))
    print(f"{len(report['faults'])} faults")
    return report


def place(tool: Compiler) -> Report:
    version = run(tool.path, "--version").splitlines()[0]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {"date": datetime.date.today().isoformat(), "commit": commit or None, "compiler": version}


def step(report: Report, name: str, work: Any) -> None:
    """Do a part of the work, print its figures, and keep them or its fault."""
    print(f"{name} ... ", end="", flush=True)
    try:
        report[name] = work()
        print(", ".join(f"{key} {value}" for key, value in report[name].items()))
    except Fault as fault:
        report["faults"].append({"where": name, "said": str(fault)})
        print(f"FAULT\n{fault}")


if __name__ == "__main__":
    sys.exit(files.status_of("python -m proof.faults", main))
