"""csrc/fastinit.h and Python say the same: fields, enums, versions, table shapes. Each is written once in either language."""

import ctypes
import pathlib
import re
import shutil
import subprocess

import pytest
import torch
from helpers.hostile import raw

from fastinit._backends import abi, cpu
from fastinit._core import recipes, tables

CSRC = pathlib.Path(__file__).parents[1] / "csrc"
HEADER = re.sub(r"/\*.*?\*/", "", (CSRC / "fastinit.h").read_text(), flags=re.S)
STRUCTURES = {"recipe": abi.RawRecipe, "plan": abi.RawPlan, "blending": abi.RawBlending}
C_TYPES = {
    "fastinit_plan": abi.RawPlan,
    "double": ctypes.c_double,
    "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64,
    "int32_t": ctypes.c_int32,
}


def fields(text: str) -> list[tuple[str, type]]:
    """Name and ctypes' type of the fields that C declares, one a statement."""
    found = []
    for declared in filter(None, (part.strip() for part in text.split(";"))):
        kind, pointer, name, entries = re.fullmatch(r"(?:const )?(\w+) (\*?)(\w+)(?:\[(\d+)\])?", declared).groups()
        one = ctypes.c_void_p if pointer else C_TYPES[kind]
        found.append((name, one * int(entries) if entries else one))
    return found


def constants(real: str, word: str) -> str:
    """What FASTINIT_CONSTANTS(real, word) declares."""
    body = re.search(r"#define FASTINIT_CONSTANTS\(REAL, WORD\)((?:.*\\\n)*.*)", HEADER)[1].replace("\\\n", "\n")
    return re.sub(r"\s+", " ", re.sub(r"\bREAL\b", real, re.sub(r"\bWORD\b", word, body)))


def structure(name: str) -> list[tuple[str, type]]:
    body = re.search(rf"typedef struct fastinit_{name} \{{(.*?)\}} fastinit_{name};", HEADER, re.S)[1]
    body = re.sub(r"FASTINIT_CONSTANTS\((\w+), (\w+)\)", lambda called: constants(*called.groups()), body)
    return fields(re.sub(r"\s+", " ", body))


def enum(name: str) -> dict[str, int]:
    """Lower-case names without the prefix, by number; as C counts them."""
    body = re.search(rf"enum fastinit_{name} \{{(.*?)\}}", HEADER, re.S)[1]
    numbers, number = {}, 0
    for entry in filter(None, (part.strip() for part in body.split(","))):
        label, given = re.fullmatch(r"FASTINIT_(\w+)(?: = (\d+))?", entry).groups()
        number = int(given) if given else number
        numbers[label.lower()] = number
        number += 1
    return numbers


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_have_the_same_fields_in_the_same_order(name):
    assert structure(name) == STRUCTURES[name]._fields_


def test_a_recipe_begins_with_the_constants_in_their_order():
    names = [name for name, _ in structure("recipe")]
    assert tuple(names[: len(recipes.Constants._fields)]) == recipes.Constants._fields
    assert re.search(r"FASTINIT_CONSTANTS\(R, \S+ Thread<R>::I\)", (CSRC / "cuda" / "thread.h").read_text())


def test_plans_are_packed_as_their_structure():
    assert abi.FIELDS.size == ctypes.sizeof(abi.RawPlan)
    values = list(range(1, 1 + len(abi.RawPlan._fields_)))
    plan = abi.RawPlan.from_buffer_copy(abi.FIELDS.pack(*values))
    assert [getattr(plan, name) for name, _ in abi.RawPlan._fields_] == values


def test_blendings_are_packed_as_their_structure():
    """The fields of a plan, then those behind it."""
    assert abi.FIELDS.size + abi.BLENDING.size == ctypes.sizeof(abi.RawBlending)
    values = list(range(1, len(abi.RawBlending._fields_)))
    plan = abi.FIELDS.pack(*range(101, 101 + len(abi.RawPlan._fields_)))
    blending = abi.RawBlending.from_buffer_copy(plan + abi.BLENDING.pack(*values))
    assert [getattr(blending, name) for name, _ in abi.RawBlending._fields_[1:]] == values
    assert blending.to.out == 101 and blending.to.dims == 100 + len(abi.RawPlan._fields_)


def test_sizes_and_offsets_are_the_compiler_s(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("needs a C compiler")
    asked, expected = [], []
    for name, made in STRUCTURES.items():
        asked += [f"sizeof(fastinit_{name})", *(f"offsetof(fastinit_{name}, {field})" for field, _ in made._fields_)]
        expected += [ctypes.sizeof(made), *(getattr(made, field).offset for field, _ in made._fields_)]
    lines = "".join(f'  printf("%zu ", {size});\n' for size in asked)
    source = tmp_path / "sizes.c"
    source.write_text(f'#include <stddef.h>\n#include <stdio.h>\n#include "fastinit.h"\nint main(void) {{\n{lines}}}\n')
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{CSRC}"]
    subprocess.run([compiler, *flags, str(source), "-o", str(tmp_path / "sizes")], check=True)
    told = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True).stdout
    assert [int(number) for number in told.split()] == expected


def test_enums_have_the_same_numbers():
    kinds = {name: getattr(recipes, name.upper()) for name in enum("kind") if name != "kinds"}
    assert enum("kind") == kinds | {"kinds": len(kinds)}
    assert enum("isa") == {"best": 0, **cpu.ISAS, "isas": 1 + len(cpu.ISAS)}
    unsigned = {str(dtype).removeprefix("torch."): number for dtype, number in abi.DTYPES.items()}
    signed = {name: unsigned.pop(name) for name in ("int32", "int64")}
    assert enum("dtype") == unsigned | {"dtypes": len(unsigned)}
    assert signed == {name: unsigned["u" + name] for name in signed}


STATUSES = """ok null_pointer bad_kind bad_dtype bad_box bad_layout bad_table bad_isa bad_count misaligned too_large bad_device
old_driver bad_number too_many not_built"""


def test_statuses_keep_their_numbers_and_have_messages():
    """Users see them in errors."""
    names = STATUSES.split()
    assert enum("status") == dict(zip(names, range(16), strict=True)) | {"statuses": 16, "cuda_errors": 1000}
    messages = re.search(r"MESSAGES\[FASTINIT_STATUSES\] = \{(.*?)\};", (CSRC / "plan.h").read_text(), re.S)[1]
    assert len(re.findall(r'"[^"]+",\n', messages)) == len(names)


def test_the_version_is_one():
    assert int(re.search(r"#define FASTINIT_ABI (\d+)", HEADER)[1]) == abi.ABI


def test_table_shapes_are_declared_alike():
    declared = re.findall(r"constexpr Shape (\w+) = \{(\d+), (\d+)\};", (CSRC / "variant.h").read_text())
    shapes = {name: (int(cells), int(terms)) for name, cells, terms in declared}
    assert shapes == {name: getattr(tables, name)[:2] for name in ("SMALL", "LARGE", "DOUBLE")}


@pytest.mark.parametrize("dtype, accepted", [(torch.float32, (tables.SMALL, tables.LARGE)), (torch.float64, (tables.DOUBLE,))])
def test_the_library_accepts_the_shapes_of_tables(dtype, accepted):
    if isinstance(cpu.library_or_reason(), str):
        pytest.skip(cpu.library_or_reason())
    plan, taken = raw(dtype=abi.DTYPES[dtype]), []
    recipe = abi.RawRecipe.from_address(plan.recipe)
    for recipe.cells in range(1, 300):
        for recipe.terms in range(1, 20):
            if cpu.library().fastinit_transform(ctypes.byref(plan), None, 0, 1, 0) == 0:
                taken.append((recipe.cells, recipe.terms))
    assert taken == [shape[:2] for shape in accepted]
