"""Writes the README's speed section from the committed results: ``python -m benchmarks.readme_tables [--check]``.

A results file is what ``fastinit bench --json benchmarks/results/NAME.json`` writes; each becomes a table.
"""

import argparse
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
SHOWN = ("float32", "bfloat16")  # the others are in the results file
LARGE, SMALL = 1 << 26, 1 << 10
FILLS = ("function", "dtype", "G elements/s", "GB/s", "of `fill_`", "times `nn.init`", "peer", "times `nn.init` at 1,024")
HOW = ("all threads", "1 thread", "scalar", "neon", "avx2", "avx512")


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
    """A line about the machine; its large fills, each beside the small one; and these by one thread, and in each ISA."""
    about = report["machine"]
    commit = f", commit {about['commit'][:12]}{'-dirty' * about['commit'].endswith('-dirty')}" if about["commit"] else ""
    machine = (
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} threads, {(about['isa'] or 'no native library').upper()}; "
        f"torch {about['torch']}, Python {about['python']}; {about['date']}{commit}."
    )
    rows = {(row["work"], row["dtype"], row["elements"], how(row, about["threads"])): row for row in report["rows"]}
    works = [key for key in rows if key[1] in SHOWN and key[2:] == (LARGE, HOW[0])]
    fills = [fill_cells(rows[key], rows.get((*key[:2], SMALL, HOW[0]))) for key in works]
    columns = [by for by in HOW if any(by == key[-1] for key in rows)]
    speeds = {key: [rows[(*key[:3], by)] for by in columns if (*key[:3], by) in rows] for key in works}
    speeds = [[*key[:2], *map(rate, found)] for key, found in speeds.items() if len(found) == len(columns) > 1]
    tables = [table(FILLS, fills), *([table(("G elements/s", "", *columns), speeds)] if speeds else [])]
    return "\n\n".join([machine, *tables])


def how(row, threads):
    """By what a row was filled: an instruction set that was forced, one thread, or all there is."""
    return row["isa"] or (HOW[1] if row["threads"] == 1 < threads else HOW[0])


def table(head, lines):
    """Markdown, with figures on the right."""
    rule = ["---:" if text[:1].isdigit() else "---" for text in (lines or [head])[0]]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def fill_cells(row, small):
    """Medians of a large fill; its ratios with their 20th and 80th percentiles; the small fill's."""
    peer = row.get("peer")
    return (
        row["work"],
        row["dtype"],
        rate(row),
        f"{row['gb_per_s']:.3g}",
        spread(row["of_fill"]),
        spread(row["times_peer"]) if peer else "",
        peer_text(peer, row["elements"]) if peer else "torch has none",
        spread(small["times_peer"]) if small and peer else "",
    )


def rate(row):
    return f"{row['elements_per_s'] / 1e9:.3g}"


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
