"""Random calls of every function that fills a tensor, good and bad: `python -m proof.calls`, ten minutes or as long as you like.

Each call must meet the contract, checked by plain integers and SciPy, or refuse: name what it was given, write nothing, draw
nothing. The calls and checks are those of tests/test_any_call.py, with seeds of their own: what is found there is found again
with `--seed`. Exit status 1 at a fault, which hypothesis has made as small as it could.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
import traceback
import warnings
from collections import Counter
from datetime import datetime, timezone
from functools import partial

import torch

import fastinit
from fastinit._commands import console, files
from fastinit._commands.measure import commit, torch_threads

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from helpers import call_blends  # noqa: E402
from helpers.call_checks import SPECS, explore  # noqa: E402

EXPLORERS = {**{name: partial(explore, name) for name in SPECS}, "blend_": call_blends.explore}

BATCH = 300  # calls of a function before the next one's turn


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    files.check_writable(args.json)
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in args.functions}
    faults, seed, began = [], args.seed, time.monotonic()
    with torch_threads(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of tensors that are strange
        while not faults and (seed == args.seed or time.monotonic() - began < 60 * args.minutes):
            for name in args.functions:
                try:
                    outcomes[name] += EXPLORERS[name](BATCH, seed)
                except BaseException as fault:
                    if isinstance(fault, KeyboardInterrupt):
                        raise
                    faults.append(f"{name}, with --seed {seed}: {fault}")
                    traceback.print_exception(fault)
            seed += 1
    kinds = ("accepted", "TypeError", "ValueError")
    rows = [[name, *(f"{found[kind]:,}" for kind in kinds)] for name, found in outcomes.items()]
    console.table("Random calls, by what came of them", ["function", *kinds], rows)
    print(f"{sum(found.total() for found in outcomes.values()):,} calls, {len(faults)} faults")
    if args.json:
        facts = {"date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), "commit": commit(), "fastinit": fastinit.__version__}
        facts |= {"torch": torch.__version__, "seeds": [args.seed, seed - 1], "minutes": round((time.monotonic() - began) / 60)}
        found = {name: dict(counter) for name, counter in outcomes.items()}
        files.write(args.json, json.dumps({**facts, "calls": found, "faults": faults}, indent=1) + "\n")
    return 1 if faults else 0


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m proof.calls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="begin no round of all functions later than that (10)")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each round takes the next (1)")
    parser.add_argument("--functions", default=",".join(EXPLORERS), help="of them, with commas; all")
    parser.add_argument("--json", type=pathlib.Path, help="write what came of the calls to this file")
    args = parser.parse_args(argv)
    args.functions = args.functions.split(",")
    for name in args.functions:
        if name not in EXPLORERS:
            parser.error(f"--functions: {name!r} is none of {', '.join(EXPLORERS)}.")
    return args


if __name__ == "__main__":
    sys.exit(files.status_of("python -m proof.calls", main))
