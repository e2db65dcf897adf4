"""The fuzz target and the stress of proof/ on the scalar loops, built by gcc with sanitizers, see no fault, and see those put in.

The loops of other instruction sets, clang's guided fuzzer and half an hour of it: `python -m proof.faults`.
"""

import pathlib
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from proof import faults

GCC = faults.Compiler(shutil.which("g++") or "", False)
pytestmark = [pytest.mark.full, pytest.mark.skipif(not GCC.path, reason="needs g++")]
INPUTS = 3000
LIBRARY = ENTRY, LOOPS = ("csrc/cpu/cpu.cpp", "csrc/cpu/scalar.cpp")  # all that there is, without the macros of the other files
FUZZ, STRESS = "proof/fuzz_plan.cpp", "proof/stress.cpp"
WANTED = {"address": (faults.ADDRESS, (*LIBRARY, FUZZ, STRESS)), "thread": (faults.THREAD, (*LIBRARY, STRESS))}


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Of the library and the programs, under each kind of sanitizer."""
    folder = tmp_path_factory.mktemp("faults")
    builds = {name: faults.Build(GCC, flags, folder / name) for name, (flags, _) in WANTED.items()}
    with ThreadPoolExecutor() as pool:
        jobs = [(name, source, pool.submit(builds[name].compile, source)) for name in WANTED for source in WANTED[name][1]]
        return {(name, source): job.result() for name, source, job in jobs}


def fuzz(objects, folder, changed=()) -> str:
    """What the fuzz target says, linked with the library's objects or those that replace them."""
    made = [objects["address", FUZZ], *(changed or (objects["address", source] for source in LIBRARY))]
    program = faults.Build(GCC, faults.ADDRESS, folder).link(made, "fuzz_plan")
    return faults.run(program, str(INPUTS), "1", *faults.seeds(folder / "seeds"), timeout=100)


def stress(objects, folder, name, check, changed=()) -> faults.Report:
    made = [objects[name, STRESS], *(changed or (objects[name, source] for source in LIBRARY))]
    return faults.stress(faults.Build(GCC, WANTED[name][0], folder).link(made, "stress", *faults.WRAPPED), "quick", check)


def test_hostile_plans(objects, tmp_path):
    said = fuzz(objects, tmp_path)
    found = [int(re.findall(rf"(\d+) {word}", said)[0]) for word in ("filled", "mapped", "blended", "refused")]
    assert min(found) > INPUTS / 20, said


def test_the_kept_inputs_are_small_and_differ(tmp_path):
    inputs = [path.read_bytes() for path in faults.seeds(tmp_path / "seeds")]
    assert len(set(inputs)) == len(inputs) > 100 and max(map(len, inputs)) <= faults.LONGEST


@pytest.mark.parametrize("check", ["lengths", "boxes", "layouts", "words", "blends"])
def test_every_loop(objects, tmp_path, check):
    assert stress(objects, tmp_path, "address", check)["instruction_sets"] == 1


def test_threads_and_many_callers(objects, tmp_path):
    assert stress(objects, tmp_path, "thread", "callers")["fills"] == 64
    assert stress(objects, tmp_path, "thread", "large blends")["fills"] == 2


# --- that faults are seen -----------------------------------------------------------------------------------------------------


SEEN = "FAULT|AddressSanitizer|runtime error"


class Fault(NamedTuple):
    """A file of csrc, what it has, what it gets in its place, and what is said of that."""

    file: str
    old: str
    new: str
    said: str = SEEN


UNCHECKED = "({0} = (int64_t)({1}), false)"
FAULTS = {
    "an element behind a row of memory": Fault("cpu/cpu.cpp", "int64_t i = 0; i < n; i++)", "int64_t i = 0; i <= n; i++)"),
    "a row of other values": Fault("cpu/cpu.cpp", "from += n;", "from += 1;", "another value"),
    "a piece too short": Fault("cpu/cpu.cpp", "fill(plan, first, n, buffer)", "fill(plan, first, n - (n > 9), buffer)"),
    "a list filled while it is checked": Fault(
        "cpu/cpu.cpp",
        "return status ? status : check_place(plan, elements);",
        "if (status || check_place(plan, elements)) return status ? status : check_place(plan, elements);\n"
        "  if (*elements) fill_part(plan, scalar_kernel(*plan.recipe), 0, 1);\n"
        "  return FASTINIT_OK;",
        "wrote, and refused",
    ),
    "words that are null": Fault("cpu/cpu.cpp", "(!words || !plan->out)", "!plan->out"),
    "an output that is null": Fault("plan.h", "if (!plan.out || ", "if ("),
    "a table that is null": Fault("plan.h", "if (!recipe.table) return", "if (false) return"),
    "a recipe that is null": Fault("plan.h", "if (!recipe) return", "if (false) return"),
    "any top_bits": Fault("plan.h", "recipe.top_bits <= 16", "true"),
    "a box of any size": Fault(
        "plan.h",
        "__builtin_mul_overflow(plan.rows, plan.cols, elements)",
        UNCHECKED.format("*elements", "plan.rows * plan.cols"),
        "signed integer overflow",
    ),
    "a layout of any size": Fault(
        "plan.h",
        "__builtin_mul_overflow(product, plan.layout[d], &product)",
        UNCHECKED.format("product", "product * plan.layout[d]"),
        "signed integer overflow",
    ),
    "indices beyond 2^63": Fault(
        "plan.h", "__builtin_add_overflow(last, plan.start, &last)", UNCHECKED.format("last", "last + plan.start"), "overflow"
    ),
    "a source that is null": Fault("plan.h", "reads && (!blending.source || ", "reads && (false || "),
    "members that are null": Fault("plan.h", "(!blending.keys || !blending.add)", "false"),
    "coefficients of any type": Fault("plan.h", "(wide || (double)(float)x == x)", "true", "accepted"),
    "a source in another order": Fault(
        "cpu/cpu.cpp", "blending.source_strides, first, size)", "blending.to.layout, first, size)"
    ),
    "a row of the source twice": Fault("cpu/cpu.cpp", "from.advance_in_row(n);", "", "another value"),
    "a list blended while it is checked": Fault(
        "cpu/cpu.cpp",
        "{ return check_blending(blending, elements); }",
        "{\n"
        "  if (int32_t status = check_blending(blending, elements)) return status;\n"
        "  if (*elements) blend_part(blending, scalar_kernel(*blending.to.recipe), 0, 1);\n"
        "  return FASTINIT_OK;\n"
        "}",
        "wrote, and refused",
    ),
}
SUMS = {  # of csrc/cpu/blend.h
    "values onto another tile": ("count -= n, old += n * size,", "count -= n, old += size,", "another value"),
    "one key for all": ("blending.keys[m], blending.add", "blending.keys[0], blending.add", "another value"),
}
GROUP = ("n = count / GROUP * GROUP;", "n = (count + 1) / GROUP * GROUP;")  # a group for all but one of its elements
RACE = (
    ("std::atomic<int64_t> next{0};", "int64_t next = 0;"),
    ("next.fetch_add(piece, std::memory_order_relaxed)", "(next += piece) - piece"),
)


def broken(folder: pathlib.Path, flags, source: str, file: str, *changes: tuple[str, str]) -> pathlib.Path:
    """The object of a source, with a file of csrc changed."""
    root = folder / "root"
    shutil.copytree(faults.ROOT / "csrc", root / "csrc")
    shutil.copy(faults.ROOT / "setup.py", root)
    text = (root / "csrc" / file).read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"csrc/{file} has {old!r} {text.count(old)} times: choose another place to break"
        text = text.replace(old, new)
    (root / "csrc" / file).write_text(text)
    return faults.Build(GCC, flags, folder, root).compile(source)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_broken_checks_and_loops_are_seen(objects, tmp_path, fault):
    changed = broken(tmp_path, faults.ADDRESS, ENTRY, fault.file, (fault.old, fault.new))
    with pytest.raises(faults.Fault, match=fault.said):
        fuzz(objects, tmp_path, [changed, objects["address", LOOPS]])


def test_a_group_too_many_is_seen(objects, tmp_path):
    changed = broken(tmp_path, ["-fsanitize=address"], LOOPS, "cpu/kernel.h", GROUP)
    with pytest.raises(faults.Fault, match="heap-buffer-overflow"):
        fuzz(objects, tmp_path, [objects["address", ENTRY], changed])


@pytest.mark.parametrize("name", SUMS)
def test_broken_sums_are_seen(objects, tmp_path, name):
    old, new, said = SUMS[name]
    changed = broken(tmp_path, faults.ADDRESS, LOOPS, "cpu/blend.h", (old, new))
    with pytest.raises(faults.Fault, match=said):
        stress(objects, tmp_path, "address", "blends", [objects["address", ENTRY], changed])


def test_a_race_is_seen(objects, tmp_path):
    changed = broken(tmp_path, faults.THREAD, ENTRY, "cpu/cpu.cpp", *RACE)
    with pytest.raises(faults.Fault, match="data race"):
        stress(objects, tmp_path, "thread", "callers", [changed, objects["thread", LOOPS]])
