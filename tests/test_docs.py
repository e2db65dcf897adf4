"""The pages: links and paths in backticks lead somewhere, `python -m` names modules, the API page has every public name."""

import importlib.util
import pathlib
import re

import pytest

import fastinit

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
GENERATED = r"<!-- ([a-z0-9-]+):begin -->.*?<!-- \1:end -->"  # of results, which name files as they were
FOLDERS = "fastinit|csrc|tests|benchmarks|proof|examples|docs|release"
PATH = rf"(?<![\w/.-])(?:{FOLDERS})/[\w*./-]*[\w*/]|(?<![\w/.-])[\w-]+\.(?:md|toml|yml|py)\b(?!/)"
BLOCK = r"^```(\w*)\n(.*?)^```"
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


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
        assert page.parent != ROOT / "docs" or found.resolve().is_relative_to(ROOT / "docs"), f"mkdocs has no {link}"


@by_name
def test_paths_exist(page):
    assert not [path for path in paths(page) if not exists(path, page)]


@by_name
def test_modules_exist(page):
    named = {module for code in codes(page) for module in re.findall(r"python -m ([\w.]+)", code)}
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
    shown = set(re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    modules = {"fastinit": fastinit, "fastinit.laws": fastinit.laws, "fastinit.shard": fastinit.shard}
    public = {f"{name}.{public}" for name, module in modules.items() for public in module.__all__}
    assert public - shown <= {"fastinit.laws", "fastinit.shard", "fastinit.__version__"}
    assert {name for name in shown if "._" not in name} <= public


def block_of(page, words):
    """What a page's only block with these words leaves behind when it has run."""
    blocks = re.findall(BLOCK, (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    (code,) = (code for language, code in blocks if language == "python" and words in code)
    names = {}
    exec(code, names)
    return names


def test_the_first_calls_of_the_pages():
    report = block_of("docs/index.md", "fastinit.truncated_normal_(weight")["report"]
    assert report.filled == ["0.weight", "0.bias", "2.weight", "2.bias"]
