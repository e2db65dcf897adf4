"""The results file: a line of JSON about the versions, then one for every run, so that what is done survives an interruption."""

from __future__ import annotations

import importlib.metadata
import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any

import fastinit
from benchmarks.convergence import data
from benchmarks.convergence.runs import Run
from benchmarks.convergence.training import Curve
from fastinit._commands import files, measure

LIBRARIES = ("keras", "numpy", "scikit-learn", "sktime")
DECISIVE = ("stream", "torch", *LIBRARIES, "python", "cpu")  # for the numbers


class Mismatch(files.Refused):
    """A results file is of other versions than those installed, or no results file at all; says which."""


def about() -> dict[str, Any]:
    """The machine and the versions; what the numbers depend on is DECISIVE."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {**measure.machine(), "stream": fastinit.STREAM_VERSION, **versions}


def start(path: pathlib.Path) -> None:
    """Begin a file; or, where there is one, make sure that it can be continued, and drop a line cut off by a crash.

    Raises:
        Mismatch: it holds the results of other versions or of another processor, or is none.
    """
    now = about()
    if not path.exists():
        path.write_text(line(now))
        return
    different = differences(header(path), now)
    if different:
        raise Mismatch(f"{path} holds the results of other versions ({'; '.join(different)}): name another file.")
    text = path.read_text()
    if not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1])


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Where two files' numbers may differ for another reason than the code."""
    return [f"{name} {there.get(name)} there, {here[name]} here" for name in DECISIVE if there.get(name) != here[name]]


def header(path: pathlib.Path) -> dict[str, Any]:
    with path.open() as file:
        try:
            found = json.loads(file.readline())
        except ValueError:
            found = None
    if not isinstance(found, dict) or "stream" not in found:
        raise Mismatch(f"{path} is no results file of this study: name another.")
    return found


def append(path: pathlib.Path, done: Iterable[tuple[Run, Curve]], seconds: float) -> None:
    """Add runs that were trained together. seconds: of one of them."""
    with path.open("a") as file:
        for run, curve in done:
            shown = {"seconds": round(seconds, 2), "mean_loss": [significant(loss) for loss in curve.loss]}
            file.write(line({**run._asdict(), **shown, "correct": curve.correct, "given_up": curve.given_up}))


def read(path: pathlib.Path) -> dict[Run, Curve]:
    """The curves of a results file, of the runs that the study has."""
    with files.reading(path), path.open() as file:
        file.readline()
        lines = [json.loads(text) for text in file if text.endswith("\n")]
        return {Run(**{name: entry[name] for name in Run._fields}): curve(entry) for entry in lines}


def curve(entry: dict[str, Any]) -> Curve:
    return Curve(entry["mean_loss"], entry["correct"], entry["given_up"])


def significant(value: float, digits: int = 5) -> float | None:
    """A loss as it is written; None where it is no number: JSON has no word for these."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"


def missing(path: pathlib.Path, wanted: Iterable[Run]) -> list[Run]:
    """The runs that the file does not have yet."""
    done = read(path)
    return [run for run in wanted if run not in done]


def disagreements(path: pathlib.Path, reference: pathlib.Path, wanted: Iterable[Run]) -> list[str]:
    """Where two files say different things about the same runs: a line each.

    Of the same versions on the same processor every number must be equal. Else rounding differs, which training makes
    large: the first epoch's mean loss must agree to 5 %, and the final accuracy to 5 % of the held-out sequences.
    """
    exactly = not differences(header(reference), header(path))
    found, expected = read(path), read(reference)
    different = [run for run in wanted if not agree(run, found[run], expected[run], exactly)]
    return [f"{run}: {found[run]} against {expected[run]}" for run in different]


def agree(run: Run, one: Curve, other: Curve, exactly: bool) -> bool:
    if exactly:
        return one == other
    losses, right = (one.loss[0], other.loss[0]), abs(one.correct[-1] - other.correct[-1])
    alike = losses[0] == losses[1] if None in losses else math.isclose(*losses, rel_tol=0.05)
    return alike and right <= 0.05 * len(data.load(run.data).test[1])
