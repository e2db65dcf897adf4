"""Lines of code by room, without blank lines, comments and docstrings, and the size of a wheel without CUDA's library.

``python -m benchmarks.lines`` fails above a budget. What a user installs is to stay small enough to be read and to be loaded: a
budget that is passed is raised by decision, here, not in silence: from 5,200 lines and 300,000 bytes for what names silent
faults (weights that are loaded, unwritten, shared; unused rules; flushed numbers); from 5,900 and 320,000 for torch's edges,
devices without a backend, errors that name what is wrong, and laws made in less time; from 6,650 and 345,000 for models of
other people's (what is known of a parameter, what a constructor has set, audits, layouts, schemes of families) and a report of
`accelerate`; from 8,650, 2,200 of C++ and 420,000 bytes for noise (a second kind of kernel in every backend, models perturbed
in one call); from 9,850 and 3,000 of C++ for what is small (short ways for small tensors and for models of many, threads that
no caller waits for where they come too late); from 10,430 for the command line (Ctrl-C, results on standard output, narrow
terminals, completion). The size is of the package that is installed.
"""

import ast
import importlib.metadata
import io
import pathlib
import re
import sys
import tokenize
import zipfile

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ("fastinit", "csrc", "benchmarks", "proof", "examples", "tests")
BUDGET = {"fastinit": 10560, "csrc": 3020}
WHEEL = 530_000  # bytes
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines_of_python(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for token in tokens if token.type not in SILENT for line in range(token.start[0], token.end[0] + 1)}
    return len(lines - docstrings(text))


def docstrings(text: str) -> set[int]:
    """The lines of strings that stand by themselves."""
    alone = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    texts = [node for node in alone if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {line for node in texts for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def lines_of_c(text: str) -> int:
    bare = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    return sum(bool(line.strip()) for line in bare.splitlines())


def lines_in(folder: pathlib.Path) -> int:
    python = sum(lines_of_python(path.read_text()) for path in folder.rglob("*.py"))
    return python + sum(lines_of_c(path.read_text()) for path in folder.rglob("*") if path.suffix in (".h", ".cpp", ".cu", ".c"))


def wheel_bytes() -> int | None:
    """An installation's files as an archive, without bytecode and CUDA's library; None: there is none, or an editable one."""
    found = importlib.metadata.distributions(name="fastinit-torch")  # an egg-info in the checkout is one without a RECORD
    files = [file for each in found if each.read_text("RECORD") for file in each.files or []]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in files:
            if file.suffix != ".pyc" and file.parts[0] != ".." and file.name != "libfastinit_cuda.so":
                wheel.write(file.locate(), str(file))
        whole = "fastinit/__init__.py" in wheel.namelist()
    return len(archive.getvalue()) if whole else None


def main() -> int:
    fault = 0
    for room in ROOMS:
        lines, most = lines_in(ROOT / room), BUDGET.get(room)
        fault |= most is not None and lines > most
        print(f"{room:12}{lines:8,}" + (f"  of {most:,}" if most else ""))
    size = wheel_bytes()
    fault |= size is not None and size > WHEEL
    print(f"{'wheel':12}" + ("not installed, so not looked at" if size is None else f"{size:8,}  of {WHEEL:,} bytes"))
    return fault


if __name__ == "__main__":
    sys.exit(main())
