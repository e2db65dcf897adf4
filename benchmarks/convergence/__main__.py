"""The study of convergence, its results file, figures and page: ``python -m benchmarks.convergence [--page | --check]``.

It is ``fastinit study``, which goes on where the results file ends; then the figures in docs/figures and the tables of
docs/porting.md are made from that file.
"""

import argparse
import pathlib
import sys

from benchmarks import readme_tables
from benchmarks.convergence import results, summary
from fastinit import _cli

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "convergence.jsonl"
FIGURES, PAGE = ROOT / "docs" / "figures", ROOT / "docs" / "porting.md"


def main(argv=None):
    """Trains what the results lack, and rewrites the page; --check only says whether it is up to date (exit status 1 if not)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="train nothing: rewrite the page from the results")
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if the page is out of date")
    args = parser.parse_args(argv)
    if not (args.page or args.check):
        status = _cli.main(["study", "--output", str(RESULTS), "--figures", str(FIGURES)])
        if status:
            return status
    before = PAGE.read_text()
    after = filled(before, RESULTS)
    if args.check:
        print(f"{PAGE.name} is " + ("up to date" if before == after else "out of date: python -m benchmarks.convergence --page"))
        return int(before != after)
    PAGE.write_text(after)
    return 0


def filled(page, path):
    """The page with the tables of a results file between their markers."""
    found = results.read(path)
    sections = {f"study-{table.__name__.replace('_', '-')}": table_text(table(found)) for table in summary.TABLES}
    sections["study-machine"] = machine_text(results.header(path), len(found))
    for name, text in sections.items():
        page = readme_tables.replaced(page, readme_tables.markers(name), text)
    return page


def table_text(table):
    return f"{table.title}:\n\n{readme_tables.table(table.columns, table.rows)}"


def machine_text(about, count):
    versions = ", ".join(f"{name} {about[name]}" for name in ("torch", *results.LIBRARIES))
    machine = f"{about['cpu']}, {about['cores']} cores; {versions}, Python {about['python']}"
    return f"{summary.budget()} {count:,} runs; {machine}; {about['date']}{readme_tables.commit_text(about)}."


if __name__ == "__main__":
    sys.exit(main())
