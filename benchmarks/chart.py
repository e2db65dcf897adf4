"""The README's charts, seconds until models are initialized, from the committed results: ``python -m benchmarks.chart``.

There is one for the CPU and, once that is measured, one for a GPU. A PNG carries a hash of what it shows;
``python -m benchmarks.readme_tables --check`` compares it with the results.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import struct
import sys
from typing import Any

from benchmarks.markdown import place
from fastinit._commands import files
from fastinit._commands.plots import BLUE, GREEN, VERMILION

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIGURES = {device: ROOT / "docs" / "figures" / f"{name}.png" for device, name in {"cpu": "models", "cuda": "models-gpu"}.items()}
KEYWORD = "fastinit-inputs"
# Of the CPU two panels, each with an axis of its own: seconds, and tenths of them. Of a GPU one for all.
PANELS = (
    {"gpt2-1.5b": "GPT-2 1.5B", "llama-1b": "Llama 1B"},
    {"gpt2-124m": "GPT-2 124M", "timm-vit-b16": "ViT-B/16", "timm-resnet50": "ResNet-50", "timm-mobilenetv3": "MobileNetV3"},
)
NAMES = {model: label for panel in PANELS for model, label in panel.items()}
WAYS = {
    "nn.init": ("the constructor, by torch.nn.init", VERMILION),
    "accelerate": ("the same inside fastinit.accelerate", GREEN),
    "initialize_": ("fastinit.initialize_ from meta", BLUE),
}
PLAIN = next(iter(WAYS))  # what the others are compared with
INK, BAR, DPI = "#1f2328", 0.27, 200  # 8.3 inches of 200 dots: twice the pixels of a README's width


def shown(report: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """All that a chart says: for each model and way the median of the seconds, and how many times as fast it is."""
    found = {row["model"]: row["contenders"] for row in report["models"] if row["device"] == device}
    grouped = PANELS if device == "cpu" else (NAMES,)
    panels = [[(label, bars(found[model])) for model, label in panel.items() if model in found] for panel in grouped]
    if not any(panels):
        raise LookupError("no model that is shown")
    where = place(report["machine"]) if device == "cpu" else report["machine"]["gpu"]
    return {"machine": f"{where}; torch {report['machine']['torch']}", "panels": [p for p in panels if p]}


def bars(contenders: dict[str, Any]) -> list[tuple[str, float, float]]:
    ways = [(way, contenders[way]) for way in WAYS if "error" not in contenders.get(way, {"error": ""})]
    return [(way, round(entry["seconds"]["p50"], 4), round(entry["times"]["p50"], 2)) for way, entry in ways]


def fingerprint(report: dict[str, Any], device: str = "cpu") -> str:
    return hashlib.sha256(json.dumps(shown(report, device)).encode()).hexdigest()


def carried(path: pathlib.Path) -> str | None:
    """The hash in a PNG: its text chunk of that keyword (PNG specification, 11.3.4.3); None if there is none, or no file."""
    data = path.read_bytes() if path.is_file() else b""
    at = 8  # after the signature
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        keyword, _, value = data[at + 8 : at + 8 + length].partition(b"\0")
        if (kind, keyword) == (b"tEXt", KEYWORD.encode()):
            return value.decode("latin-1")
        at += 12 + length  # length, kind, data, checksum
    return None


def drawn(report: dict[str, Any], device: str = "cpu") -> Any:
    """Bars on white, which reads on a dark page too, in letters that a phone still shows. The first group names the ways."""
    from fastinit._commands.plots import canvas

    what = shown(report, device)
    heights = [len(panel) for panel in what["panels"]]
    figure = canvas(8.3, 0.66 + 0.4 * len(heights) + 0.74 * sum(heights))
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08, hspace=0.05)
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, panel in zip(panels, what["panels"], strict=True):
        draw_panel(axes, panel, named=axes is figure.axes[0])
    figure.supxlabel(f"seconds; {what['machine']}", fontsize=11, color=INK)
    return figure


def draw_panel(axes: Any, panel: list[tuple[str, list[tuple[str, float, float]]]], named: bool) -> None:
    """A group of bars for each model, the first on top."""
    longest = max(seconds for _, group in panel for _, seconds, _ in group)
    pad = longest * 0.012
    for number, (_, group) in enumerate(panel):
        for turn, (way, seconds, times) in enumerate(group):
            at, (name, color) = number + (turn - (len(group) - 1) / 2) * BAR, WAYS[way]
            axes.barh(at, seconds, height=BAR * 0.92, color=color)
            said, naming = f"{seconds:#.3g} s" + f"  {times:.1f}×" * (way != PLAIN), named and number == 0
            outside = naming and way != PLAIN
            axes.text(seconds + pad, at, f"{said}  {name}" if outside else said, va="center", fontsize=12.5, color=INK)
            if naming and not outside:
                axes.text(pad, at, name, va="center", fontsize=12.5, color="white", weight="bold")
    axes.set_yticks(range(len(panel)), [label for label, _ in panel], fontsize=14, color=INK)
    axes.set(xlim=(0, longest * 1.13), ylim=(len(panel) - 0.5, -0.5))
    axes.tick_params(axis="x", labelsize=11, colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def save(report: dict[str, Any], path: pathlib.Path, device: str = "cpu") -> None:
    metadata = {KEYWORD: fingerprint(report, device), "Software": None}
    drawn(report, device).savefig(path, dpi=DPI, facecolor="white", metadata=metadata, pil_kwargs={"optimize": True})


def sources(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The results that the charts show: of each device the first file of models that were built on it, if there is one."""
    found: dict[str, pathlib.Path] = {}
    for path in sorted(folder.glob("models-*.json")):
        with files.reading(path):
            for device in dict.fromkeys(row["device"] for row in files.read_json(path)["models"]):
                found.setdefault(device, path)
    return {device: found[device] for device in FIGURES if device in found}


def main() -> None:
    for device, path in sources(ROOT / "benchmarks" / "results").items():
        with files.reading(path):
            report = files.read_json(path)
            shown(report, device)
        with files.writing(FIGURES[device]):
            save(report, FIGURES[device], device)


if __name__ == "__main__":
    sys.exit(files.status_of("python -m benchmarks.chart", main))
