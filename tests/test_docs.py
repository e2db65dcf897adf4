"""The pages: links and paths in backticks lead somewhere, `python -m` names modules, the API page has every public name, and the
blocks of code run: those of the guide and the first page here, of others in tests of their own.
"""

import importlib.util
import pathlib
import re
import sys
import types

import pytest

import fastinit

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
IN_THE_SITE = [ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]  # by docs/theme/hooks.py
PAGES = [ROOT / "README.md", *IN_THE_SITE, *sorted(DOCS.rglob("*.md"))]
GENERATED = r"<!-- ([a-z0-9-]+):begin -->.*?<!-- \1:end -->"  # of results, which name files as they were
FOLDERS = "fastinit|csrc|tests|benchmarks|proof|examples|docs|release"
PATH = rf"(?<![\w/.-])(?:{FOLDERS})/[\w*./-]*[\w*/]|(?<![\w/.-])[\w-]+\.(?:md|toml|yml|py)\b(?!/)"
TOOLS = {"build", "cibuildwheel"}  # of a release, which no test imports
BLOCK = r"^```(\w*)\n(.*?)^```"
ELSEWHERE = {"guide/noise.md": "test_noise_page.py", "cookbook.md": "test_cookbook.py", "porting.md": "test_guide_page.py"}
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page):
    return re.sub(GENERATED, "", page.read_text(), flags=re.DOTALL)


def slug(heading):
    """The anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def anchors(page):
    prose = re.sub(BLOCK, "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)}


def codes(page):
    """What stands in backticks, and the lines of shell in blocks."""
    text = text_of(page)
    blocks = re.findall(BLOCK, text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", re.sub(BLOCK, "", text, flags=re.DOTALL | re.MULTILINE))
    return [*inline, *(code for language, code in blocks if language == "sh")]


def paths(page):
    """All that are named, except those with a NAME to fill in."""
    named = {path for code in codes(page) for path in re.findall(PATH, code)}
    return sorted(path for path in named if "NAME" not in path)


def exists(path, page):
    """From the root; a name without a folder may also stand beside the page, or anywhere in the package."""
    if "/" not in path:
        return any(ROOT.glob(path)) or any(page.parent.glob(path)) or any(ROOT.glob(f"fastinit/**/{path}"))
    return any(ROOT.glob(path.rstrip("/")))


@by_name
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        found = page.parent / target if target else page
        assert found.exists(), link
        assert not anchor or anchor in anchors(found), link
        if page != ROOT / "README.md":
            assert found.resolve().is_relative_to(DOCS) or found.resolve() in IN_THE_SITE, f"the site has no {link}"


@by_name
def test_paths_exist(page):
    assert not [path for path in paths(page) if not exists(path, page)]


@by_name
def test_modules_exist(page):
    named = {module for code in codes(page) for module in re.findall(r"python -m ([\w.]+)", code)} - TOOLS
    assert not [module for module in named if importlib.util.find_spec(module) is None]


@by_name
def test_extras_exist(page):
    section = re.search(r"^\[project.optional-dependencies\]$(.*?)^\[", (ROOT / "pyproject.toml").read_text(), re.M | re.S)[1]
    extras = set(re.findall(r"^([\w-]+) = ", section, re.M))
    named = {extra for code in codes(page) for extra in re.findall(r"'\.\[([\w-]+)\]'", code)}
    assert named <= extras


def test_what_these_tests_look_for_is_there():
    """A change of the pages' form must not leave the tests without work."""
    assert len(paths(ROOT / "ARCHITECTURE.md")) > 60 and len(paths(ROOT / "CONTRIBUTING.md")) > 30
    assert "csrc/fastinit.h" in paths(ROOT / "ARCHITECTURE.md") and not exists("csrc/absent.h", ROOT / "README.md")
    assert not exists("absent.md", ROOT / "README.md")


def test_the_api_page_has_every_public_name():
    shown = set(re.findall(r"^::: ([\w.]+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    modules = {"fastinit": fastinit, "fastinit.laws": fastinit.laws, "fastinit.shard": fastinit.shard}
    public = {f"{name}.{public}" for name, module in modules.items() for public in module.__all__}
    assert public - shown <= {"fastinit.laws", "fastinit.shard", "fastinit.__version__"}
    assert {name for name in shown if "._" not in name} <= public


def python_of(page):
    """A page's blocks of Python."""
    return [code for language, code in re.findall(BLOCK, page.read_text(), re.DOTALL | re.MULTILINE) if language == "python"]


def names_left_by(page, is_run=lambda code: True):
    """What a page leaves behind whose blocks are run one after the other, as a reader would."""
    module = types.ModuleType("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "page", module)  # which some releases of torch.compile import
        for number, code in enumerate(python_of(page)):
            if is_run(code):
                exec(compile(code, f"{page.name}, block {number}", "exec"), vars(module))
    return vars(module)


def is_plain(code):
    """Whether a block needs neither a process group, as examples/fsdp2.py does, nor a library of the extras."""
    return "init_process_group" not in code and "import transformers" not in code


RUN_HERE = [page for page in sorted(DOCS.rglob("*.md")) if page.relative_to(DOCS).as_posix() not in ELSEWHERE and python_of(page)]


@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page):
    names_left_by(page, is_plain)


@pytest.mark.extra
def test_the_block_with_transformers_runs():
    pytest.importorskip("transformers")
    report = names_left_by(DOCS / "guide" / "accelerate.md")["block"].report
    assert report.left == () and "normal_" in {served.function for served in report.served}


def test_every_block_of_the_pages_is_run():
    assert {page.stem for page in RUN_HERE} >= {"index", "tensors", "models", "meta", "sharding", "accelerate"}
    assert all((ROOT / "tests" / name).exists() and python_of(DOCS / page) for page, name in ELSEWHERE.items())
    left = {page.stem: len([code for code in python_of(page) if not is_plain(code)]) for page in RUN_HERE}
    assert {name: count for name, count in left.items() if count} == {"sharding": 1, "accelerate": 1}, "test_examples, and above"


def test_the_first_calls_of_the_pages():
    names = names_left_by(DOCS / "guide" / "tensors.md")
    assert names["experts"].std().item() == pytest.approx(1024**-0.5, rel=1e-3), "the fan of one expert"
    assert names["weight"].abs().max().item() <= (6 / 1024) ** 0.5, "filled last by he_uniform_"
    assert names_left_by(DOCS / "index.md")["report"].filled == ["0.weight", "0.bias", "2.weight", "2.bias"]
