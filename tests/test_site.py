"""The pages as a site: built without a warning, whole, and with nothing that a reader's browser would load from elsewhere."""

import html.parser
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LOADED = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "prefetch", "manifest"}
ADDRESS = "https://example.org/fastinit"  # of no host: the name is reserved for examples
pytestmark = [pytest.mark.extra, pytest.mark.full]


class Page(html.parser.HTMLParser):
    """What a page of the site loads, where it leads, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.anchors, self.text = [], [], set(), path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.loads += [found[name] for name in ("src", "srcset", "data", "poster") if found.get(name)]
        if tag == "link" and LOADED & set((found.get("rel") or "").split()):
            self.loads.append(found["href"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}


@pytest.fixture(scope="module", params=["", ADDRESS], ids=["without an address", "with an address"])
def site(request, tmp_path_factory):
    """The folder, built with and without the address of the project."""
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("site")
    environment = {name: value for name, value in os.environ.items() if name != "FASTINIT_URL"}
    environment |= {"NO_MKDOCS_2_WARNING": "1"} | ({"FASTINIT_URL": request.param} if request.param else {})
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    return folder, pages, request.param


def is_elsewhere(link):
    return re.match(r"(\w+:)?//", link) is not None


def test_nothing_is_loaded_from_elsewhere(site):
    """Nor by what the theme's script adds on demand: diagrams, and numbers of stars at the code host."""
    folder, pages, _ = site
    for path, page in pages.items():
        assert page.loads and not [link for link in page.loads if is_elsewhere(link)], path.name
        assert 'class="mermaid"' not in page.text and 'data-md-component="source"' not in page.text, path.name
    styles = list(folder.rglob("*.css"))
    assert styles
    for path in styles:
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", path.read_text()), path.name


def test_the_search_needs_no_server(site):
    """Its index is a script, and the stand-in for a worker is this project's own."""
    folder, pages, _ = site
    assert (folder / "search" / "search_index.js").read_text().startswith("var __index = ")
    assert "assets/iframe-worker.js" in pages[folder / "index.html"].loads
    assert (folder / "assets" / "iframe-worker.js").is_file() and not list(folder.rglob("hooks.py"))


def test_links_and_files_are_there(site):
    _, pages, _ = site
    for path, page in pages.items():
        if path.name == "404.html":  # its links are absolute, as it is shown for any address
            continue
        for link in [*page.loads, *page.links]:
            target, _, anchor = link.partition("#")
            if is_elsewhere(link) or re.match(r"mailto:|data:", link):
                continue
            found = (path.parent / target.partition("?")[0]).resolve() if target else path
            found = found / "index.html" if found.is_dir() else found
            assert found.is_file(), f"{path.name}: {link}"
            assert not anchor or found not in pages or anchor in pages[found].anchors, f"{path.name}: {link}"


def test_every_page_is_there_and_the_files_of_the_root_are_pages(site):
    folder, _, _ = site
    sources = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    sources += [pathlib.Path(name) for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    assert not [source for source in sources if not (folder / source).with_suffix(".html").is_file()]


def test_the_address_is_shown_where_it_is_known(site):
    folder, pages, address = site
    shown = [link for link in pages[folder / "index.html"].links if is_elsewhere(link)]
    assert shown == [address] * len(shown) and bool(shown) == bool(address)
