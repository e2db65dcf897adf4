"""What a release is made of: the source distribution, the tags of wheels, metadata, and one version everywhere."""

import email
import os
import pathlib
import re
import runpy
import subprocess
import sys
import tarfile
import zipfile
from unittest import mock

import pytest

import fastinit

setuptools = pytest.importorskip("setuptools")

ROOT = pathlib.Path(__file__).parents[1]
URL = "https://example.org/fastinit"
PURE = {"FASTINIT_NATIVE": "0", "FASTINIT_CUDA": "0"}


def setup(folder, *commands, **environment):
    """setup.py with these commands, which leave nothing in the checkout."""
    merged = {**os.environ, "FASTINIT_URL": "", **environment}
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder), *commands]
    done = subprocess.run(command, cwd=ROOT, env=merged, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def metadata(folder, **environment):
    setup(folder, **PURE, **environment)
    return email.message_from_string((folder / "fastinit_torch.egg-info" / "PKG-INFO").read_text())


@pytest.mark.full
def test_the_source_distribution_is_whole(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("without a repository nothing says what belongs to the source")
    setup(tmp_path, "sdist", "--dist-dir", str(tmp_path), **PURE)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(tracked) > 300 and not set(tracked) - packed
    assert not [name for name in packed if name.endswith((".so", ".pyc"))]


def test_links_hold_on_an_index(tmp_path):
    told = metadata(tmp_path, FASTINIT_URL=f"{URL}/")
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", told.get_payload())
    assert len(links) > 10 and any(image for image, _ in links)
    pages = dict(line.split(", ") for line in told.get_all("Project-URL"))
    assert pages["Homepage"] == URL and pages["Issues"] == f"{URL}/issues"
    inside = [(image, link) for image, link in links if link.startswith(URL)]
    for image, link in [*inside, *(("", pages[name]) for name in ("Documentation", "Changelog"))]:
        root = f"{URL}/{'raw' if image else 'blob'}/v{fastinit.__version__}/"
        assert link.startswith(root) and (ROOT / link.removeprefix(root).partition("#")[0]).exists(), link
    assert not [link for _, link in links if not link.startswith(("https://", "#"))]


def test_without_an_address_nothing_is_made_up(tmp_path):
    told = metadata(tmp_path)
    assert told.get_all("Project-URL") is None and URL not in told.as_string()
    assert told.get_payload().strip() == (ROOT / "README.md").read_text().strip()


def test_the_metadata(tmp_path):
    told = metadata(tmp_path)
    assert (told["Name"], told["Version"], told["Author"]) == ("fastinit-torch", fastinit.__version__, "The fastinit developers")
    assert told["License-Expression"] == "MIT" and told["Requires-Python"] == ">=3.10"
    assert [need for need in told.get_all("Requires-Dist") if "extra ==" not in need] == ["torch>=2.7"]
    assert "Typing :: Typed" in told.get_all("Classifier")
    assert "Programming Language :: Python :: 3.10" in told.get_all("Classifier"), "the oldest that is served"


def test_a_wheel_without_libraries_is_for_every_platform(tmp_path):
    setup(tmp_path, "build", "-b", str(tmp_path / "build"), "bdist_wheel", "-d", str(tmp_path), **PURE)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"fastinit_torch-{fastinit.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert "Root-Is-Purelib: true" in archive.read(next(name for name in names if name.endswith("/WHEEL"))).decode()
    assert "fastinit/py.typed" in names and not [name for name in names if name.endswith(".so")]
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"fastinit", "fastinit_command.py", "fastinit_torch"}


PLATFORMS = [("linux-aarch64", {"neon"}), ("macosx-11.0-arm64", {"neon"}), ("linux-x86_64", {"avx2", "avx512"})]


@pytest.mark.parametrize("platform, vectors", PLATFORMS)
def test_what_is_compiled_is_for_the_wheel_s_platform(monkeypatch, platform, vectors):
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", platform)
    monkeypatch.chdir(ROOT)
    with mock.patch.object(setuptools, "setup"):
        names = runpy.run_path(str(ROOT / "setup.py"))
    assert names["processor"]() == platform.rpartition("-")[2]
    assert {pathlib.Path(path).stem for path in names["sources"]()} == {"cpu", "scalar"} | vectors


def test_an_old_setuptools_is_told_what_is_needed(tmp_path):
    (tmp_path / "setuptools").mkdir()
    (tmp_path / "setuptools" / "__init__.py").write_text('__version__ = "65.5.0"\n')
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "setuptools>=77" in done.stderr and "65.5.0" in done.stderr and "pip install -U" in done.stderr
    needed = [need for need in (ROOT / "pyproject.toml").read_text().splitlines() if "setuptools>=" in need]
    assert needed and all('"setuptools>=77"' in need for need in needed), "one version in both files"


def test_one_version_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (\d+\.\d+\.\d+) - (unreleased|\d{4}-\d\d-\d\d)$", changelog, re.M)
    assert versions[0][0] == fastinit.__version__
    assert f"\nversion: {fastinit.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d+) \|", changelog, re.M)
    assert [version for version, _ in rows] == [version for version, _ in versions], "each version says what it means for bits"
    assert int(rows[0][1]) == fastinit.STREAM_VERSION


def test_the_workflow_tries_the_oldest_of_all():
    workflow = (ROOT / ".github" / "workflows" / "wheels.yml").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    (torch,), (python,) = re.findall(r'"torch>=([\d.]+)"', project), re.findall(r'requires-python = ">=([\d.]+)"', project)
    assert f"torch: torch=={torch}.*" in workflow and f'python: ["{python}",' in workflow
    newest = max(re.findall(r'"Programming Language :: Python :: 3\.(\d+)"', project), key=int)
    assert f'"3.{newest}"]' in workflow, "the newest Python that the metadata names is tried"
