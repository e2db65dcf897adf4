"""The rules of the house, which ARCHITECTURE.md names: who may import whom, where private names live, how long things are."""

import ast
import collections
import functools
import pathlib
import re
import statistics

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "fastinit"
FILES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.glob("**/*.py"))}
PUBLIC = {"__init__.py", "laws.py", "shard.py", "__main__.py"}
TRITON = {f"_backends/triton{part}.py" for part in ("", "_kernels", "_values", "_blend", "_blend_kernels")}
# room -> the rooms that it may import from: data flows one way
MAY_IMPORT = {
    "_torch": set(),
    "_text": set(),
    "_core": {"_core", "_torch"},
    "_backends": {"_backends", "_core", "_torch"},
    "_fill": {"_backends", "_core", "_torch"},
    "_blend": {"_fill", "_backends", "_core", "_torch"},
    "_usual": {"_fill", "_backends", "_core", "_torch"},
    "_initializers": {"_initializers", "_usual", "_fill", "_core", "_torch"},
    "_schemes": {"_schemes", "_initializers", "_core", "_torch", "_text"},
    "_model": {"_model", "_schemes", "_initializers", "_blend", "_fill", "_core", "_torch", "_text"},
    "_tally": {"_text"},
    "_draws": {"_tally", "_torch"},
    "_serving": {"_draws", "_tally", "_initializers", "_usual", "_fill", "_core", "_torch"},
    "_accelerate": {"_serving", "_draws", "_tally", "_fill", "_core", "_torch"},
}
if not PACKAGE.is_dir():
    pytest.skip("the source tree is not here", allow_module_level=True)


def room(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


@functools.cache
def imports(text: str) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("name", [name for name in FILES if room(name) in MAY_IMPORT])
def test_data_flows_one_way(name):
    rooms = {module.split(".")[1] for module in imports(FILES[name]) if module.startswith("fastinit.")}
    assert rooms <= MAY_IMPORT[room(name)]


def test_one_file_alone_has_each_foreign_thing():
    def users(module):
        library = {name: imports(text) for name, text in FILES.items() if room(name) != "_commands"}
        return {name for name, found in library.items() if any(f"{m}.".startswith(f"{module}.") for m in found)}

    assert users("ctypes") == {"_backends/abi.py", "_core/memory.py"}, "to call C; to read a few bytes"
    assert users("triton") == TRITON
    choosers = {name for name in users("fastinit._backends") if room(name) != "_backends"}
    assert choosers == {"_fill.py", "_usual.py", "_blend.py", "__init__.py"}, (
        "roads call backends; __init__ has the names of the choice"
    )


def test_private_names_of_torch_are_in_one_file():
    private = re.compile(r"\btorch(\.\w+)*\._\w+|\bfrom torch\S* import [^\n]*\b_[a-z]\w*")
    attributes = re.compile(r"\._(base|buffers|modules|parameters|local_tensor|cdata|forward_pre_hooks|spec)\b")
    for name, text in FILES.items():
        code = re.sub(r"torch\.__(version|future)__|torch\.version", "", text)
        if name != "_torch.py":
            assert not private.search(code) and not attributes.search(code), name


def test_sizes():
    lengths = {}
    for name, text in FILES.items():
        assert text.count("\n") <= 350, f"{name} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0] if ast.get_docstring(node) else None
                docstring = first.end_lineno - first.lineno + 1 if first else 0
                lengths[f"{name}: {node.name}"] = node.end_lineno - node.lineno + 1 - docstring
    assert [name for name, length in lengths.items() if length > 40] == []
    assert statistics.median(lengths.values()) < 8


def names_at_the_top(text: str) -> dict[str, ast.stmt]:
    """What a module defines at its top level."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def test_a_name_with_an_underscore_is_its_files_own():
    """No other file of the package, nor a test, imports it or reads it from the module."""
    own = {name: {n for n in names_at_the_top(text) if re.match(r"_[A-Za-z]", n)} for name, text in FILES.items()}
    read = collections.defaultdict(set)  # what is read from something of a module's name
    for path in [*PACKAGE.glob("**/*.py"), *(ROOT / "tests").glob("**/*.py")]:
        for owner, attribute in re.findall(r"\b(\w+)\.(_\w+)", path.read_text()):
            read[owner].add(attribute)
    for name in FILES:
        module = f"fastinit.{name.removesuffix('.py').replace('/', '.')}"
        for other in (text for n, text in FILES.items() if n != name):
            assert not {f"{module}.{private}" for private in own[name]} & imports(other)
        leaf = name.rpartition("/")[2].removesuffix(".py")
        assert not own[name] & read[leaf], name


def words_of(path: pathlib.Path) -> set[str]:
    return set(re.findall(r"\w+", path.read_text()))


def test_what_serves_its_own_file_alone_has_an_underscore():
    """Names without one are used by another file: of the package, the tests, the proof, the benchmarks."""
    folders = ("fastinit", "tests", "proof", "benchmarks")
    elsewhere = {path: words_of(path) for folder in folders for path in (ROOT / folder).glob("**/*.py")}
    shown = {
        f"_schemes/{file}.py" for file in ("keras_rules", "torch_rules", "ready", "families", "padding")
    }  # whose names a scheme prints
    types = {"Backend", "BackendName"}  # of public signatures
    for name, text in FILES.items():
        if name in PUBLIC | shown | TRITON | {"_torch.py"}:
            continue
        words = set().union(*(found for path, found in elsewhere.items() if path != PACKAGE / name))
        found = [n for n in names_at_the_top(text) if not n.startswith("_") and n not in words | types]
        assert found == [], name
