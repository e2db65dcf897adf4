"""Docstrings of the public names: complete, run as they stand, and read by documentation tools without a warning."""

import builtins
import doctest
import functools
import importlib
import inspect
import logging
import pathlib
import re

import pytest
import torch
from torch import nn

import fastinit

ROOT = pathlib.Path(fastinit.__file__).parent
SECTIONS = re.compile(r"^(Args|Attributes|Returns|Raises|Reference|Examples):$", re.M)
# What is this package's own has no source to name.
WITHOUT_REFERENCE = {"backend", "backends", "warm_up", *(f"laws.{name}" for name in fastinit.laws.__all__)}
IMPERATIVES = {"Add", "Fill", "Make", "Derive", "Compute", "Compile", "Force", "Tell", "Declare", "Return"}
NOT_DOCUMENTED_HERE = {"laws", "shard", "keras_like", "torch_like", "STREAM_VERSION", "__version__"}  # modules and values


def public():
    """Name -> function or class, of the package and of its public modules."""
    found = {name: getattr(fastinit, name) for name in fastinit.__all__ if name not in NOT_DOCUMENTED_HERE}
    for module in (fastinit.laws, fastinit.shard):
        found |= {f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name) for name in module.__all__}
    return found


def methods():
    """Name -> function, of what the public classes define themselves."""
    classes = (fastinit.Scheme, type(fastinit.initialize_(nn.Identity(), seed=0)))  # in order, for xdist
    return {
        f"{kind.__name__}.{name}": value
        for kind in classes
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and (not name.startswith("_") or name in ("__call__", "__getitem__"))
    }


def sections(documented):
    """Heading -> text, of a docstring; its first paragraphs are under ""."""
    parts = SECTIONS.split(inspect.getdoc(documented))
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def entries(text):
    """The names of a section's entries, and what is said of each."""
    return dict(re.findall(r"^    (\*?\w+): (\S.*)$", text, re.M))


def parameters(documented):
    found = inspect.signature(documented).parameters.values()
    return ["*" * (one.kind is one.VAR_POSITIONAL) + one.name for one in found if one.name != "self"]


@pytest.mark.parametrize("name", [name for name in public() if name != "laws.Law"])
def test_a_public_name_is_documented_whole(name):
    documented = public()[name]
    found = sections(documented)
    assert list(entries(found["Args"])) == parameters(documented)
    raised = entries(found["Raises"])
    assert raised and all(issubclass(getattr(builtins, kind), Exception) for kind in raised)
    assert ("Reference" in found) != (name in WITHOUT_REFERENCE)
    assert ">>> " in found["Examples"]
    if not inspect.isclass(documented):
        assert found[""].split()[0] in IMPERATIVES
        assert ("Returns" in found) != (inspect.signature(documented).return_annotation in (None, "None"))
    first, *rest = found[""].splitlines()
    assert first.endswith((".", ":")) and (not rest or not rest[0])


@pytest.mark.parametrize("name", methods())
def test_a_public_method_is_documented(name):
    documented = methods()[name]
    found = sections(documented)
    assert found[""].split()[0] in IMPERATIVES and "Returns" in found
    assert list(entries(found["Args"])) == parameters(documented)


def test_the_fields_of_public_classes_are_documented():
    report = fastinit.initialize_(nn.Linear(1, 1), seed=0)
    for kind, fields in (
        (type(report), ("seed", "entries", "unused")),
        (type(report["weight"]), report["weight"]._fields),
        (fastinit.laws.Law, fastinit.laws.Law._fields),
    ):
        assert tuple(entries(sections(kind)["Attributes"])) == fields


def test_help_is_short():
    """No default of a parameter prints as more than a few words, such as a whole scheme."""
    for name, documented in {**public(), **methods()}.items():
        for parameter in inspect.signature(documented).parameters.values():
            assert parameter.default is parameter.empty or len(repr(parameter.default)) <= 40, name
    assert repr(fastinit.keras_like) == "fastinit.keras_like" and repr(fastinit.torch_like) == "fastinit.torch_like"
    assert "Linear" in str(fastinit.keras_like) and repr(fastinit.keras_like.override({})).startswith("Scheme({")


def modules():
    """All modules of the package that can be imported everywhere."""
    files = [ROOT / "laws.py", ROOT / "_accelerate.py", ROOT / "_fill.py", ROOT / "_blend.py", ROOT / "_backends" / "choose.py"]
    for room in ("_core", "_initializers", "_model", "_schemes"):
        files += sorted((ROOT / room).glob("*.py"))
    return [".".join(file.relative_to(ROOT.parent).with_suffix("").parts) for file in files if file.stem != "__init__"]


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    shown = {"fastinit": fastinit, "torch": torch, "nn": nn, "partial": functools.partial}
    for name in ("fastinit", *modules()):
        module = importlib.import_module(name)
        for test in finder.find(module, name, globs={**vars(module), **shown}):
            if test.examples:
                yield test


def test_every_public_name_has_an_example_that_is_run():
    shown = {test.name.rpartition(".")[2] for test in examples()}
    assert {name.rpartition(".")[2] for name in public()} <= shown


@pytest.mark.parametrize("test", list(examples()), ids=lambda test: test.name)
def test_an_example_does_what_it_shows(test):
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed, tried = runner.run(test, out=said.append)
    assert tried and not failed, "".join(said)


@pytest.mark.full
def test_documentation_tools_read_every_docstring(caplog):
    griffe = pytest.importorskip("griffe")
    with caplog.at_level(logging.DEBUG):
        package = griffe.load("fastinit", search_paths=[ROOT.parent], docstring_parser="google", allow_inspection=False)
        read = list(parsed(package))
    assert len(read) > 300 and "admonition" in {section.kind.value for found in read for section in found}
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not warnings, "\n".join(warnings)


def parsed(documented):
    """The sections of every docstring under an object."""
    if documented.is_alias:
        return
    if documented.docstring:
        yield documented.docstring.parsed
    for member in documented.members.values():
        yield from parsed(member)
