"""Writes the README's speed section from the committed results: ``python -m benchmarks.readme_tables [--check]``.

A results file is what ``fastinit bench --json benchmarks/results/NAME.json`` writes; each becomes a table.
"""

import argparse
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
HEAD = ("function", "dtype", "elements", "with", "G elements/s", "GB/s", "of `fill_`", "times `nn.init`", "peer")


def main(argv=None):
    """Rewrites README.md; with --check only says whether it is up to date (exit status 1 if not)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if the README is out of date")
    args = parser.parse_args(argv)
    readme = ROOT / "README.md"
    before = readme.read_text()
    after = replaced(before, section(sorted((ROOT / "benchmarks" / "results").glob("*.json"))))
    if args.check:
        print("README.md is up to date" if before == after else "README.md is out of date: python -m benchmarks.readme_tables")
        return int(before != after)
    readme.write_text(after)
    return 0


def replaced(text, generated):
    """The text with what stands between the markers exchanged."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md must hold the lines {BEGIN} and {END}, in this order: put them back.")
    return f"{head}{BEGIN}\n{generated}\n{END}{tail}"


def section(paths):
    reports = [json.loads(path.read_text()) for path in paths]
    return "\n\n".join(map(report_text, reports)) or "Not measured yet."


def report_text(report):
    """A line about the machine, and the table."""
    about = report["machine"]
    commit = f", commit {about['commit'][:12]}{'-dirty' * about['commit'].endswith('-dirty')}" if about["commit"] else ""
    machine = (
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} threads, {(about['isa'] or 'no native library').upper()}; "
        f"torch {about['torch']}, Python {about['python']}; {about['date']}{commit}."
    )
    lines = [HEAD, ("---", "---", *["---:"] * 6, "---"), *map(cells, report["rows"])]
    return "\n".join([machine, "", *(f"| {' | '.join(line)} |" for line in lines)])


def cells(row):
    """One measured row: medians; the ratios with their 20th and 80th percentiles."""
    peer = row.get("peer")
    return (
        row["work"],
        row["dtype"],
        power(row["elements"]),
        row["isa"] or ("1 thread" if row["threads"] == 1 else f"{row['threads']} threads"),
        f"{row['elements_per_s'] / 1e9:.3g}",
        f"{row['gb_per_s']:.3g}",
        spread(row["of_fill"]),
        spread(row["times_peer"]) if peer else "",
        peer_text(peer, row["elements"]) if peer else "none measured" if row["isa"] else "torch has none",
    )


def spread(ratio):
    return f"{significant(ratio['p50'])} ({significant(ratio['p20'])} to {significant(ratio['p80'])})"


def significant(x):
    """Two digits after the point below 10, none from 100 on."""
    return f"{x:.2f}" if x < 10 else f"{x:.1f}" if x < 100 else f"{x:,.0f}"


def peer_text(peer, elements):
    smaller = "" if peer["elements"] == elements else f" on {power(peer['elements'])}"
    return f"`{peer['name']}`{smaller}"


def power(elements):
    exponent = elements.bit_length() - 1
    return f"2^{exponent}" if elements == 1 << exponent and exponent > 10 else f"{elements:,}"


if __name__ == "__main__":
    sys.exit(main())
