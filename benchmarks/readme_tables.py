"""Write the tables of README.md, docs/performance.md and docs/gpus.md: ``python -m benchmarks.readme_tables [--check]``.

They come from the committed results. In benchmarks/results, cpu-NAME.json is what ``fastinit bench --json`` writes,
models-NAME.json what ``fastinit bench --models --json`` does, noise-NAME.json what ``fastinit bench --noise --json`` does,
cuts-NAME.json what ``python -m benchmarks.cuts --json`` does, sweep-NAME.json what ``python -m benchmarks.sweep --output`` does,
gpu-NAME.json what ``python -m benchmarks.gpu`` does, machine-code.json what ``python -m benchmarks.machine_code --output`` does,
cuda-code.json what ``python -m benchmarks.cuda_code --output`` does. proof/results/accuracy.json is what
``python -m proof.accuracy`` writes. The chart is drawn by ``python -m benchmarks.chart``; --check looks at it too.
"""

import argparse
import pathlib
import sys

from benchmarks import chart, gpu_tables, helps
from benchmarks.markdown import commit_text, place, power, spread, table
from fastinit._commands import files

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS, ACCURACY = ROOT / "benchmarks" / "results", ROOT / "proof" / "results" / "accuracy.json"
SHOWN = ("float32", "bfloat16")  # the others are in the results file
LARGE, SMALL = 1 << 26, 1 << 10
FILLS = ("function", "dtype", "G elements/s", "GB/s", "of `fill_`", "times `nn.init`", "peer", "times `nn.init` at 1,024")
BUILDS = ("model", "M parameters", "on", "by", "seconds", "times the constructor", "peak beyond the model, MB")
MODEL_FILLS = ("model", "M elements", "on", "law", "seconds", "G elements/s", "times `nn.init`")
NOISE = ("noise onto", "dtype", "members", "ms", "G elements/s", "GB/s", "times `randn`", "times generators")
NOISE += ("peak, MB", "`randn`'s", "generators'")
HOW = ("all threads", "1 thread", "scalar", "neon", "avx2", "avx512")
CUTS = ("bounds at std 0.02", "dtype", "threads", "ms", "of `fill_`", "times `nn.init`", "times torch before 2.12")
# Of the README.
SUMMARY_ERRORS = ("truncated normal at 2 sigmas", "normal", "uniform on +-1", "uniform from 0 to 1")


def main(argv=None):
    """Rewrite the pages; with --check only say whether they and the chart are up to date (exit status 1 if not)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if a page is out of date")
    args = parser.parse_args(argv)
    status = 0
    pages = {"docs/performance.md": performance_sections(), "docs/gpus.md": gpu_sections(), "README.md": readme_sections()}
    for page, sections in pages.items():
        before = after = (ROOT / page).read_text()
        for name, text in sections.items():
            after = replaced(after, markers(name), text)
        if args.check:
            print(f"{page} is up to date" if before == after else f"{page} is out of date: python -m benchmarks.readme_tables")
            status |= before != after
        else:
            (ROOT / page).write_text(after)
    return int(status or (args.check and not drawn_anew()))


def drawn_anew():
    """Whether the charts show the results; says so. Only ``python -m benchmarks.chart`` draws them: that needs matplotlib."""
    all_current = True
    for device, path in chart.sources(RESULTS).items():
        figure = chart.FIGURES[device]
        with files.reading(path):
            current = chart.carried(figure) == chart.fingerprint(files.read_json(path), device)
        told = "is up to date" if current else "is out of date: python -m benchmarks.chart"
        print(f"docs/figures/{figure.name} {told}")
        all_current &= current
    return all_current


def readme_sections():
    """The charts with their captions and the short tables, by the names of their markers."""
    return {
        "chart": charts_text(),
        "helps": helps.text(RESULTS),
        "accuracy": section([ACCURACY], accuracy_text),
    }


def performance_sections():
    """The long tables, by the names of their markers."""
    return {
        "speed": section(found("cpu"), report_text),
        "cuts": section(found("cuts"), cuts_text),
        "models": section(found("models"), models_text),
        "noise": section(found("noise"), noise_text),
    }


def gpu_sections():
    """Those of the page about GPUs."""
    return {
        "gpu": section(found("gpu"), gpu_tables.text),
        "code": section([RESULTS / "cuda-code.json", RESULTS / "machine-code.json"], code_text),
    }


def found(kind):
    """The results files of a kind."""
    return sorted(RESULTS.glob(f"{kind}-*.json"))


def markers(name):
    """The lines between which a section of a page is generated."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def replaced(text, markers, generated):
    """The text with what stands between the markers exchanged."""
    begin, end = markers
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"The page must hold the lines {begin} and {end}, in this order: put them back.")
    return f"{head}{begin}\n{generated}\n{end}{tail}"


def section(paths, text_of):
    texts = []
    for path in paths:
        with files.reading(path):
            texts.append(text_of(files.read_json(path)))
    return "\n\n".join(texts) or "Not measured yet."


def charts_text():
    """The charts, and where they were measured."""
    texts = []
    for device, path in chart.sources(RESULTS).items():
        with files.reading(path):
            texts.append(chart_text(files.read_json(path), device))
    return "\n\n".join(texts) or "Not measured yet."


def chart_text(report, device):
    on = "" if device == "cpu" else " on a GPU"
    named = ", ".join(label for panel in chart.shown(report, device)["panels"] for label, _ in panel)
    alternative = (
        f"Bars: seconds until {named} are initialized{on}: by the constructor, inside accelerate, by initialize_ from meta"
    )
    contenders = next(row["contenders"] for row in report["models"] if row["device"] == device)
    apart = ", each a process of its own" if device == "cpu" else ""
    how = f"Medians of {contenders['initialize_']['runs']} runs{apart}; of times, medians of the runs' ratios"
    measured = f"{how}: {machine_and_libraries(report['machine'])}"
    return f"![{alternative}](docs/figures/{chart.FIGURES[device].name})\n\n{measured}"


def accuracy_text(results):
    """The worst float32 error of a few laws."""
    worst = [f"{results['laws'][law]['errors']['worst']:.2f}" for law in SUMMARY_ERRORS]
    said = "Worst error over all 2^32 words against the float64 quantile, in units in the last place of float32"
    return f"{said} (`python -m proof.accuracy`):\n\n{table(SUMMARY_ERRORS, [worst])}"


def report_text(report):
    """A line about the machine; its large fills, each beside the small one; and these by one thread, and in each ISA."""
    about = report["machine"]
    machine = (
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} threads, {(about['isa'] or 'no native library').upper()}; "
        f"torch {about['torch']}, Python {about['python']}; {about['date']}{commit_text(about)}."
    )
    rows = {(row["work"], row["dtype"], row["elements"], how(row, about["threads"])): row for row in report["rows"]}
    works = [key for key in rows if key[1] in SHOWN and key[2:] == (LARGE, HOW[0])]
    fills = [fill_cells(rows[key], rows.get((*key[:2], SMALL, HOW[0]))) for key in works]
    columns = [by for by in HOW if any(by == key[-1] for key in rows)]
    speeds = {key: [rows[(*key[:3], by)] for by in columns if (*key[:3], by) in rows] for key in works}
    speeds = [[*key[:2], *map(rate, found)] for key, found in speeds.items() if len(found) == len(columns) > 1]
    tables = [table(FILLS, fills), *([table(("G elements/s", "", *columns), speeds)] if speeds else [])]
    return "\n\n".join([machine, *tables])


def models_text(report):
    """A line about the machine and the libraries; building models, a line for each way; filling their memory."""
    builds = [
        build_cells(row, by, entry) for row in report["models"] for by, entry in row["contenders"].items() if "error" not in entry
    ]
    fills = [model_fill_cells(row) for row in report["fills"] if "error" not in row]
    return "\n\n".join([machine_and_libraries(report["machine"]), table(BUILDS, builds), table(MODEL_FILLS, fills)])


def machine_and_libraries(about):
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items() if version)
    gpu = f", {about['gpu']}" if about["gpu"] else ""
    return f"{place(about)}{gpu}; torch {about['torch']}, {libraries}; {about['date']}{commit_text(about)}."


def build_cells(row, by, entry):
    peak = entry["peak_bytes"]
    beyond = f"{max(0, round((peak['p50'] - entry['model_bytes']) / 1e6)):,}" if peak else ""
    seconds, times = f"{entry['seconds']['p50']:.3g}", "" if by == "nn.init" else spread(entry["times"])
    name = "its constructor" if by == "nn.init" else f"`{by}`"
    return (row["model"], f"{entry['parameters'] / 1e6:,.0f}", row["device"], name, seconds, times, beyond)


def model_fill_cells(row):
    ours, part = row["ours"], "" if row["peer"]["elements"] == row["ours"]["elements"] else "*"
    seconds = ours["seconds"]["p50"]
    where = (row["model"], f"{ours['elements'] / 1e6:,.0f}", row["device"], row["law"])
    return (*where, f"{seconds:.3g}", f"{ours['elements'] / seconds / 1e9:.3g}", f"{spread(row['times_peer'])}{part}")


def noise_text(report):
    """A line about the machine; a line for each subject, dtype and number of members."""
    about = report["machine"]
    machine = f"{place(about)}; torch {about['torch']}; {about['date']}{commit_text(about)}."
    return f"{machine}\n\n{table(NOISE, [noise_cells(row) for row in report['rows'] if 'error' not in row])}"


def noise_cells(row):
    ours, peers = row["fastinit"], [row[name] for name in ("randn", "generators")]
    where = (row["subject"], row["dtype"], str(row["members"]), f"{ours['seconds']['p50'] * 1e3:.3g}")
    peaks = ["" if each["peak_bytes"] is None else f"{each['peak_bytes'] / 1e6:,.1f}" for each in (ours, *peers)]
    return (*where, rate(row), f"{row['gb_per_s']:.3g}", *(spread(peer["times"]) for peer in peers), *peaks)


def cuts_text(report):
    """A line about the machine; a line for each pair of bounds, dtype and number of threads."""
    about = report["machine"]
    machine = f"{place(about)}; torch {about['torch']}; {about['date']}{commit_text(about)}."
    elements = ", ".join(dict.fromkeys(power(row["elements"]) for row in report["rows"]))
    return f"{machine} {elements} elements.\n\n{table(CUTS, [cut_cells(row) for row in report['rows']])}"


def cut_cells(row):
    ours, *peers = (row["contenders"][name] for name in ("fastinit", "nn.init", "erfinv"))
    where = (f"{row['case']}: {row['a']:g} and {row['b']:g}", row["dtype"], f"{row['threads']}")
    figures = f"{ours['seconds']['p50'] * 1e3:.3g}", f"{ours['of_fill']['p50']:.2g}"
    return (*where, *figures, *(spread(peer["times"]) for peer in peers))


def code_text(report):
    """Instructions an element, float32 / bfloat16, of the laws by target."""
    counts = {(row["law"], row["target"], row["dtype"]): row["an_element"] for row in report["rows"]}
    laws, targets = (list(dict.fromkeys(key[i] for key in counts)) for i in (0, 1))
    lines = [[law, *(" / ".join(f"{counts[law, target, dtype]:.1f}" for dtype in SHOWN) for target in targets)] for law in laws]
    return table([f"{report['compiler']}: float32 / bfloat16", *targets], lines)


def how(row, threads):
    """By what a row was filled: an instruction set that was forced, one thread, or all there is."""
    return row["isa"] or (HOW[1] if row["threads"] == 1 < threads else HOW[0])


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


def peer_text(peer, elements):
    smaller = "" if peer["elements"] == elements else f" on {power(peer['elements'])}"
    return f"`{peer['name']}`{smaller}"


if __name__ == "__main__":
    sys.exit(files.status_of("python -m benchmarks.readme_tables", main))
