"""Types, as a checker sees them: the package passes strictly, and so does a user's file that also asks for what is refused."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
pytestmark = pytest.mark.full


def told(module, *arguments):
    """What a checker says in the source tree, by the packages of this Python."""
    pytest.importorskip(module)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_mypy_is_content_with_the_package_and_with_a_users_file():
    done = told("mypy", "--strict", "fastinit", "tests/typed/user.py")
    assert done.returncode == 0, done.stdout


MISTAKES = [  # what the user's file has, what it gets in its place, and what mypy says of that
    ('mode="fan")  # type: ignore[arg-type]', 'mode="fan")', 'incompatible type "Literal'),
    ('mode="fan")  # type: ignore', 'mode="fan_in")  # type: ignore', "Unused"),
    ("model.apply(fastinit.keras_like)", 'model.apply("keras_like")', "incompatible type"),
    ("assert_type(build(3, depth=4), nn.Linear)", "assert_type(build(3, depth=4), nn.Module)", "assert-type"),
    ("seed=range(3), add=[0.1, 0.2, 0.3], where=whole)", 'seed=range(3), add=["0.1"], where=whole)', "list-item"),
]


def test_mypy_objects_to_a_users_mistakes(tmp_path):
    """The checks of the file above can fail. Each mistake is in a file of its own."""
    text = (ROOT / "tests" / "typed" / "user.py").read_text()
    for number, (before, after, _) in enumerate(MISTAKES):
        assert text.count(before) == 1
        (tmp_path / f"user_{number}.py").write_text(text.replace(before, after))
    done = told("mypy", "--strict", str(tmp_path))
    assert done.returncode == 1 and f"Found {len(MISTAKES)} errors in {len(MISTAKES)} files" in done.stdout, done.stdout
    for number, (_, _, error) in enumerate(MISTAKES):
        assert any(f"user_{number}.py" in line and error in line for line in done.stdout.splitlines()), done.stdout


def test_pyright_is_content_with_a_users_file():
    done = told("pyright", "tests/typed/user.py")
    assert done.returncode == 0, done.stdout


def test_pyright_knows_the_type_of_every_public_name():
    done = told("pyright", "--verifytypes", "fastinit", "--ignoreexternal")
    found = re.search(r"Type completeness score: ([\d.]+)%", done.stdout)
    assert found and float(found[1]) > 99, done.stdout + done.stderr
    assert re.search(r"Symbols exported by \"fastinit\": [4-9]\d", done.stdout), done.stdout
    assert "error" not in done.stdout, done.stdout
