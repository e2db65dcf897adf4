"""The files of the root as pages of the site, and links between these and the pages of docs/ as both places understand them."""

import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[2]
OF_THE_ROOT = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files, config):
    for name in OF_THE_ROOT:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """On a code host pages lie in docs/, and those of the root above it. In the site they lie side by side."""
    if page.file.src_uri in OF_THE_ROOT:
        return re.sub(r"\]\(docs/", "](", markdown)
    return re.sub(rf"\]\(\.\./((?:\.\./)*(?:{'|'.join(map(re.escape, OF_THE_ROOT))}))", r"](\1", markdown)
