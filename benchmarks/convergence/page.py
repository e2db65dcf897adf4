"""The page: the tables of docs/porting.md and the figures in docs/figures, made from the committed results.

``python -m benchmarks.convergence --output benchmarks/results/convergence.jsonl`` completes these.
"""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks import readme_tables
from benchmarks.convergence import figures, results, summary

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "convergence.jsonl"
FIGURES, PAGE = ROOT / "docs" / "figures", ROOT / "docs" / "porting.md"


def run(check: bool) -> int:
    """Rewrite the page and its figures; or only say whether the page is up to date, with exit status 1 if it is not."""
    before = PAGE.read_text()
    after = filled(before, RESULTS)
    if check:
        print(f"{PAGE.name} is " + ("up to date" if before == after else "out of date: python -m benchmarks.convergence --page"))
        return int(before != after)
    figures.draw_all(results.read(RESULTS), FIGURES)
    PAGE.write_text(after)
    return 0


def filled(page: str, path: pathlib.Path) -> str:
    """Return the page with the tables of a results file between their markers."""
    found = results.read(path)
    sections = {f"study-{table.__name__.replace('_', '-')}": table_text(table(found)) for table in summary.TABLES}
    sections["study-machine"] = machine_text(results.header(path), len(found))
    for name, text in sections.items():
        page = readme_tables.replaced(page, readme_tables.markers(name), text)
    return page


def table_text(table: summary.Table) -> str:
    return f"{table.title}:\n\n{readme_tables.table(table.columns, table.rows)}"


def machine_text(about: dict[str, Any], count: int) -> str:
    versions = ", ".join(f"{name} {about[name]}" for name in ("torch", *results.LIBRARIES))
    machine = f"{about['cpu']}, {about['cores']} cores; {versions}, Python {about['python']}"
    return f"{summary.budget()} {count:,} runs; {machine}; {about['date']}{readme_tables.commit_text(about)}."
