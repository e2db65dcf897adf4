"""`fastinit study`: does the initializer decide whether the network that fastinit began with converges?"""

from __future__ import annotations

import argparse
import pathlib
import sys

from fastinit.commands import console


def run(args: argparse.Namespace) -> int:
    console.require("rich", "matplotlib", "sklearn", "sktime", "keras", extra="study")
    from fastinit.study import pool, results, runs

    path = pathlib.Path(args.output)
    wanted = runs.study()
    try:
        results.start(path)
        left = len(results.missing(path, wanted))
        print(f"{len(wanted) - left} of {len(wanted)} runs are in {path}", file=sys.stderr)
        for _ in console.progress(pool.train_all(wanted, path), "training", total=left):
            pass
    except results.Mismatch as error:
        print(f"fastinit study: {error}", file=sys.stderr)
        return 2
    return 0
