"""NVIDIA's machine code as text: functions, loops, instructions. NOPs are left out."""

from __future__ import annotations

import functools
import importlib.util
import pathlib
import re
import shutil
import subprocess

Line = tuple[int, str]  # address, instruction


@functools.cache
def tool() -> str | None:
    """cuobjdump: Triton brings it, CUDA's toolkit may have it."""
    triton = importlib.util.find_spec("triton")
    places = (triton.submodule_search_locations if triton else None) or []
    brought = (shutil.which("cuobjdump", path=str(pathlib.Path(place) / "backends" / "nvidia" / "bin")) for place in places)
    return next(filter(None, [*brought, shutil.which("cuobjdump")]), None)


def told(*arguments: str) -> str:
    """What cuobjdump prints."""
    found = tool()
    assert found, "cuobjdump is not here: it comes with Triton and with CUDA's toolkit"
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=True).stdout


@functools.lru_cache(maxsize=2)  # disassembling takes seconds
def functions(path: str | pathlib.Path, *options: str) -> dict[str, list[Line]]:
    """Every function's instructions by its (mangled) name; options such as `-arch sm_90`."""
    parts = re.split(r"^\s*Function : ", told(*options, "--dump-sass", str(path)), flags=re.M)[1:]
    return {part.split("\n", 1)[0].strip(): instructions(part) for part in parts}


def instructions(text: str) -> list[Line]:
    found = re.findall(r"^\s+/\*([0-9a-f]{4,5})\*/\s+(.*?);", text, re.M)
    return [(int(at, 16), line) for at, line in found if opcode(line) != "NOP"]


def opcode(text: str) -> str:
    return re.sub(r"^@!?U?P\w+\s+", "", text).split()[0]


def loops(lines: list[Line]) -> list[list[str]]:
    """The stretches that a branch jumps back over, without those that hold another."""
    return [inner for inner, _ in nests(lines)]


def nests(lines: list[Line]) -> list[tuple[list[str], list[str]]]:
    """Such stretches, each with the next larger one around it, itself where there is none."""
    spans = []
    for at, text in lines:
        target = re.search(r"0x([0-9a-f]+)", text) if opcode(text).startswith("BRA") else None
        if target and int(target[1], 16) < at:
            spans.append((int(target[1], 16), at))
    innermost = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    around = [min((o for o in spans if o[0] < s[0] and s[1] < o[1]), key=lambda o: o[1] - o[0], default=s) for s in innermost]

    def within(span: tuple[int, int]) -> list[str]:
        return [text for at, text in lines if span[0] <= at <= span[1]]

    return [(within(inner), within(outer)) for inner, outer in zip(innermost, around, strict=True)]


def count(lines: list[str], *prefixes: str) -> int:
    """How many have an operation that begins with one of these."""
    return sum(opcode(text).startswith(prefixes) for text in lines)


def store_bits(text: str) -> int:
    return next((int(part) for part in opcode(text).split(".") if part in ("64", "128")), 32)
