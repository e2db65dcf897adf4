"""The page: the tables of docs/accuracy.md and its figures in docs/figures, made from the files in proof/results.

``python -m proof.accuracy --peers --json proof/results/accuracy.json`` renews its own of these files.
"""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks import readme_tables
from fastinit._commands import files
from proof import verdict
from proof.accuracy import figures, report

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER, PAGE, FIGURES = ROOT / "proof" / "results", ROOT / "docs" / "accuracy.md", ROOT / "docs" / "figures"
LIBRARIES = {"torch": "PyTorch", "keras": "Keras", "jax": "JAX"}


def run(check: bool) -> int:
    """Rewrite the page and its figures; or only say whether the page is up to date, with exit status 1 if it is not."""
    before = PAGE.read_text()
    after = filled(before)
    if check:
        print(f"{PAGE.name} is " + ("up to date" if before == after else "out of date: python -m proof.accuracy --page"))
        return int(before != after)
    figures.draw_all(files.read_json(FOLDER / "accuracy.json"), FIGURES)
    PAGE.write_text(after)
    return 0


def filled(page: str) -> str:
    """Return the page with its tables between their markers."""
    with files.reading(path := FOLDER / "accuracy.json"):
        sections = accuracy_sections(files.read_json(path))
    for name, text_of in {"battery": battery_text, "faults": faults_text, "calls": calls_text}.items():
        sections[name] = readme_tables.section([FOLDER / f"{name}.json"], text_of)
    for name, text in sections.items():
        page = readme_tables.replaced(page, readme_tables.markers(name), text)
    return page


def accuracy_sections(found: dict[str, Any]) -> dict[str, str]:
    laws, others = found["laws"], found["peers"]
    tables = {
        "accuracy-float32": report.errors(laws),
        "accuracy-moments": report.moments(laws),
        "accuracy-narrow": report.narrow(laws),
        "accuracy-peers": report.peers(laws, others),
        "accuracy-narrow-peers": report.narrow_peers(laws, others),
    }
    sections = {name: readme_tables.table(table.columns, table.rows) for name, table in tables.items()}
    return sections | {"accuracy-machine": machine_text(found)}


def machine_text(found: dict[str, Any]) -> str:
    about = found["machine"]
    versions = ", ".join(f"{LIBRARIES[name]} {peer['version']}" for name, peer in found["peers"].items())
    place = f"{about['cpu']}, {about['cores']} cores, {about['isa'].upper()}; Python {about['python']}"
    minutes = sum(law["seconds"] for law in found["laws"].values()) / 60
    return f"{versions}; {place}; the walk took {minutes:.1f} minutes; {about['date']}{readme_tables.commit_text(about)}."


def battery_text(found: dict[str, Any]) -> str:
    """A line a stream, then what was weak or failed, and what made it."""
    runs = found["runs"]
    judged = verdict.judge(runs)
    _, columns, rows = verdict.table(runs, judged)
    last, minutes = found["sessions"][-1], sum(run["seconds"] for run in runs) / 60
    tools = f"dieharder {last['dieharder']}, torch {last['torch']}, {last['date']}{readme_tables.commit_text(last)}"
    listed = "\n".join(f"- {line}" for line in verdict.conclusions(runs, judged))
    return f"{readme_tables.table(columns, rows)}\n\n{listed}\n\n{minutes / 60:.1f} hours of one core; {tools}."


def faults_text(found: dict[str, Any]) -> str:
    """A line a program, and the lines of csrc that the fuzzer's inputs run."""
    steps = {name: step for name, step in found.items() if isinstance(step, dict) and name != "lines"}
    rows = [(name, ", ".join(f"{what.replace('_', ' ')}: {n:,}" for what, n in step.items())) for name, step in steps.items()]
    text = f"{readme_tables.table(('program', 'what it did'), rows)}\n\n{len(found['faults'])} faults; {found['compiler']}, "
    text += f"{found['date']}{readme_tables.commit_text(found)}."
    lines = ", ".join(f"`{name}` {run} of {total}" for name, (run, total) in found.get("lines", {}).items() if total > 1)
    return text + (f" Lines that the fuzzer's inputs run: {lines}." if lines else "")


def calls_text(found: dict[str, Any]) -> str:
    outcomes = {"accepted": "met the contract", "TypeError": "raised a TypeError", "ValueError": "raised a ValueError"}
    counts = {kind: sum(counter.get(kind, 0) for counter in found["calls"].values()) for kind in outcomes}
    text = ", ".join(f"{counts[kind]:,} {said}" for kind, said in outcomes.items())
    place = f"torch {found['torch']}, {found['date']}{readme_tables.commit_text(found)}"
    return f"{sum(counts.values()):,} calls: {text}; {len(found['faults'])} faults; {place}."
