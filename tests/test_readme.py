"""The README: short, its blocks run, its links and images are there, and its figures are those of the committed results."""

import pathlib
import re

import pytest
import torch

import fastinit
from benchmarks import readme_tables

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LONGEST = 150
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
GENERATED = re.compile(r"<!-- ([a-z-]+):begin -->\n(.*?)\n<!-- \1:end -->", re.DOTALL)
# A number that somebody must have measured: with "times", or with a unit of time, memory, speed or accuracy.
UNIT = r"(?:times|×|%|percent|[kKMGT]i?B|bytes|GB/s|[mnµu]?s|seconds?|minutes?|microseconds?|hours?|ulps?|elements/s)\b|×|%"
WORDS = "two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|fifty|sixty|eighty|(?:a )?hundred|(?:a )?thousand"
MEASURED = re.compile(rf"(?:\b[\d.,]*\d|\b(?:{WORDS}))[ -]?(?:{UNIT})|\b(?:twice|half as|thrice)\b", re.IGNORECASE)


def prose():
    """What is neither generated nor code."""
    return re.sub(r"`[^`\n]*`", "", BLOCK.sub("", GENERATED.sub("", README)))


def python_block():
    (code,) = (code for language, code in BLOCK.findall(README) if language == "python")
    return code


def test_it_is_short():
    assert README.count("\n") <= LONGEST


def test_the_two_commands():
    assert "pip install '.[demo]' && fastinit demo\npip install '.[test]' && pytest\n" in README


def test_the_calls_are_ten_and_do_what_their_comments_say():
    code = python_block()
    calls = [line for line in code.splitlines() if line and not line.startswith(("import ", "from ", " "))]
    assert len(calls) <= 10
    names = {}
    exec(code, names)
    weight, large = names["weight"], names["large"].weight
    assert weight.dtype is torch.bfloat16
    assert torch.equal(weight, fastinit.he_normal_(torch.empty_like(weight), key=fastinit.key(0, "layer.3.weight")))
    assert names["report"].filled == ["0.weight", "0.bias", "2.weight", "2.bias"]
    again = torch.nn.Linear(4096, 4096)
    fastinit.initialize_(again, fastinit.torch_like, seed=0)
    assert not large.is_meta and torch.equal(large, again.weight), "from meta it has the bits of a built model"
    with fastinit.accelerate(seed=0) as block:
        again.reset_parameters()
    assert torch.equal(names["other"].weight, again.weight) and block.report, "the seed decides"


def test_links_and_images_lead_somewhere():
    """In generated parts too. They are relative, in plain markdown: the package index is shown absolute ones."""
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    assert len(links) > 30 and any(link.endswith(".png") for link in links)
    assert not [link for link in links if re.match(r"\w+:|/|\.\.", link)]
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []
    assert not re.search(r"<(?!!--)\w", BLOCK.sub("", README)), "HTML"


def test_every_promise_names_its_proof():
    table = re.search(r"^\| promise \| held by \|\n\| --- \| --- \|\n((?:\|.*\|\n)+)", README, re.MULTILINE)[1]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()]
    assert len(rows) >= 8 and all("](" in proof for _, proof in rows)


def test_generated_parts_are_those_of_the_committed_results():
    assert dict(GENERATED.findall(README)) == readme_tables.readme_sections()


def test_no_measured_number_stands_outside_generated_parts():
    assert MEASURED.findall(prose()) == []


@pytest.mark.parametrize(
    "text", ["60 to 180 times as fast", "in 4.65 s", "takes 1,051 MB", "ten times", "3.6× as fast", "2.8 ulp", "twice"]
)
def test_what_counts_as_a_measured_number(text):
    assert MEASURED.search(text)


@pytest.mark.parametrize(
    "text", ["Python 3.10 or newer", "many times slower", "all 2^32 words", "GPT-2 small", "2 and 2", "bounds -2 and 2"]
)
def test_what_does_not(text):
    assert not MEASURED.search(text)
