"""Other kernels beside those that are, on a GPU: the part `tuning` of `python -m benchmarks.gpu`.

A variant of CUDA's library is the sources with a constant or a line exchanged, compiled for this GPU; one of Triton's is another
number of warps or elements a program. All fill the same tensors in turns; each must give the bits of the kernels that are.
What a variant was expected to do, before it ran on any GPU, stands beside it.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks.gpu_times import Pace, ratio, seconds
from benchmarks.gpu_tools import COUNTED, ROOT, all_ran, verdict
from fastinit._backends import abi, cuda
from fastinit._backends.choose import module
from fastinit._commands.check import raw
from fastinit._core.plan import Plan, whole
from fastinit._core.recipes import recipe
from fastinit._torch import current_cuda_stream

SOURCES = ("csrc", "fastinit", "setup.py", "pyproject.toml", "README.md", "LICENSE", "fastinit_command.py")
AS_IT_IS = "as it is"
KERNEL, LAUNCH, PHILOX = "csrc/cuda/kernel.h", "csrc/cuda/launch.h", "csrc/philox.h"
STORE = "((uint4 *)(out + i * STEP))[j] = pieces[j];"
GRID = "if (work < *grid) *grid = (int)work;"
TEN = "ROUNDS = 10;"
GUARD = "if (i == 0 || i * THREADS < left)"
NEVER = "if (pieces[j].x == 0x7fa00001u && pieces[j].y == 0x7fa00001u)"  # as good as never


class Variant(NamedTuple):
    """Texts to exchange, in one file each, and what is expected of the times; an ablation leaves out a part of the work."""

    expected: str
    edits: tuple[tuple[str, str, str], ...] = ()
    is_ablation: bool = False


def stored(how: str) -> tuple[tuple[str, str, str], ...]:
    return ((KERNEL, STORE, f"{how}((uint4 *)(out + i * STEP) + j, pieces[j]);"),)


def blocks(threads: int, at_once: int) -> tuple[tuple[str, str, str], ...]:
    edits = (KERNEL, "THREADS = 256;", f"THREADS = {threads};"), (KERNEL, "BLOCKS_AT_ONCE = 3;", f"BLOCKS_AT_ONCE = {at_once};")
    return tuple(edit for edit in edits if edit[1] != edit[2])


def a_turn(elements: int) -> tuple[tuple[str, str, str], ...]:
    """At least one vector, which holds 16 elements of 1 byte."""
    vectors = f"{elements} / VECTOR<DTYPE> > 0 ? {elements} / VECTOR<DTYPE> : 1"
    return ((KERNEL, "IS_WIDE<DTYPE> ? 1 : 16 / VECTOR<DTYPE>;", f"IS_WIDE<DTYPE> ? 1 : {vectors};"),)


# Instructions are those of fill_one on sm_90, by CUDA 13.0; no variant was timed when these were written.
VARIANTS = {
    AS_IT_IS: Variant(""),
    "stores that are evicted first": Variant("no change: the same instructions, and nothing reads the cache", stored("__stcs")),
    "stores that write through": Variant("no change or slower: the same instructions", stored("__stwt")),
    "128 threads, 6 blocks": Variant("no change: the same instructions and as many warps", blocks(128, 6)),
    "512 threads, 1 block": Variant("slower: 16 warps a multiprocessor instead of 24", blocks(512, 1)),
    "4 blocks of 64 registers": Variant("faster where warps wait for look-ups: 32 warps instead of 24", blocks(256, 4)),
    "2 blocks of 128 registers": Variant("slower: 16 warps a multiprocessor instead of 24", blocks(256, 2)),
    "8 elements a turn": Variant("1 per cent slower: 32.3 instructions instead of 31.9 (2 sigmas, bfloat16)", a_turn(8)),
    "32 elements a turn": Variant("no change: 31.8 instructions instead of 31.9; lists of 2-byte dtypes spill", a_turn(32)),
    "as many blocks as tiles": Variant("slower: each block loads the table anew", ((LAUNCH, GRID, "*grid = (int)work;"),)),
    "twice the resident blocks": Variant(
        "no change: a shorter tail, tables loaded twice", ((LAUNCH, GRID, f"*grid *= 2; {GRID}"),)
    ),
    "3 rounds of Philox": Variant(
        "not the contract's words: what is left when they cost little", ((PHILOX, TEN, "ROUNDS = 3;"),), True
    ),
    "no stores": Variant("nothing is filled: what is left when memory costs nothing", ((KERNEL, GUARD, NEVER),), True),
}
# Of Triton: warps, and elements a program and turn of 4-byte arithmetic.
TRITON: dict[str, tuple[int, int]] = {
    AS_IT_IS: (4, 4096),
    "8 warps": (8, 4096),
    "2,048 elements": (4, 2048),
    "8 warps, 8,192 elements": (8, 8192),
}
EXPECTED = {
    "8 warps": "no change: 16 elements a thread instead of 32",
    "2,048 elements": "slower: the loop's own instructions count twice",
    "8 warps, 8,192 elements": "no change: as many elements a thread",
}


def edited(folder: pathlib.Path, variant: Variant) -> pathlib.Path:
    """A source tree with the variant's texts; a text that is not there once is a ValueError."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for name, before, after in variant.edits:
        text = (folder / name).read_text()
        if text.count(before) != 1:
            raise ValueError(f"{name} must hold this once: {before}")
        (folder / name).write_text(text.replace(before, after))
    return folder


@contextlib.contextmanager
def compiled(architecture: str, names: list[str]) -> Iterator[tuple[dict[str, pathlib.Path], dict[str, str]]]:
    """Libraries of variants for one architecture, and why others were not built."""
    with tempfile.TemporaryDirectory() as place:
        folders = {name: edited(pathlib.Path(place) / str(number), VARIANTS[name]) for number, name in enumerate(names)}
        build = ["-q", "build_ext", "--inplace", "--build-temp"]
        commands = {name: [sys.executable, f"{at}/setup.py", *build, f"{at}/build"] for name, at in folders.items()}
        asked = {"FASTINIT_NATIVE": "0", "FASTINIT_CUDA": "1", "FASTINIT_CUDA_ARCHS": architecture}
        done = all_ran(commands, 420, places=folders, **asked)
        found = {name: folder / "fastinit" / cuda.library_path().name for name, folder in folders.items()}
        yield (
            {name: path for name, path in found.items() if done[name].status == 0 and path.is_file()},
            {name: verdict(done[name]) for name, path in found.items() if not path.is_file()},
        )


def filled_by(library: abi.Library, plan: Plan) -> None:
    raw_plan, kept = abi.packed([plan])
    index = plan.out.device.index
    status = library.fastinit_cuda_fill(raw_plan, 1, index, current_cuda_stream(index))
    if status:
        raise abi.refusal(library, status)
    del kept


def filled_by_triton(warps: int, tile: int, plan: Plan) -> None:
    triton = module("triton", "cuda")
    before = triton.OPTIONS["num_warps"], triton.TILE[plan.recipe.real]
    triton.OPTIONS["num_warps"], triton.TILE[plan.recipe.real] = warps, tile
    try:
        triton.fill([plan])
    finally:
        triton.OPTIONS["num_warps"], triton.TILE[plan.recipe.real] = before


def tuned(backends: list[str], device: torch.device, pace: Pace) -> dict[str, Any]:
    """Rows of every variant, work and dtype: of fill_'s rate, and how many times as fast as the kernel that is."""
    capability = "".join(map(str, torch.cuda.get_device_capability(device)))
    with compiled(capability, list(VARIANTS) if "native" in backends else []) as (paths, verdicts):
        ways: dict[str, dict[str, Callable[[Plan], None]]] = {"native": {}, "triton": {}}
        for name, path in paths.items():
            ways["native"][name] = partial(filled_by, abi.usable(abi.load(path, abi.CUDA)))
        if "triton" in backends:
            ways["triton"] = {name: partial(filled_by_triton, *numbers) for name, numbers in TRITON.items()}
        rows = []
        for what, (law, dtype) in COUNTED.items():
            for by, fills in ways.items():
                plans = [
                    Plan(out, recipe(law, dtype), 1, whole(out))
                    for out in (torch.empty(pace.sizes[-1], dtype=dtype, device=device) for _ in range(3))
                ]
                rows += compared(what, by, fills, plans, pace, device) if fills else []
    others = [row for row in rows if not (row["same_bits"] or row["ablation"])]
    verdicts |= {f"{row['backend']}, {row['variant']}, {row['what']}": "its bits differ" for row in others}
    return {"verdicts": verdicts, "rows": rows}


def compared(
    what: str, by: str, fills: dict[str, Callable[[Plan], None]], plans: list[Plan], pace: Pace, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Yield a row for each of one backend's ways, all in the same rounds."""
    right = bits_of(fills[AS_IT_IS], plans[0])
    calls = {name: partial(turned, fill, plans) for name, fill in fills.items()}
    spans = seconds({"fill": lambda number: plans[number % len(plans)].out.fill_(1.0), **calls}, pace.rounds, device)
    for name, fill in fills.items():
        ablation = by == "native" and VARIANTS[name].is_ablation
        row = {"what": what, "backend": by, "variant": name, "of_fill": ratio(spans["fill"], spans[name])}
        row |= {"times": ratio(spans[AS_IT_IS], spans[name]), "ablation": ablation}
        row["expected"] = VARIANTS[name].expected if by == "native" else EXPECTED.get(name, "")
        yield row | {"same_bits": torch.equal(bits_of(fill, plans[0]), right)}


def turned(fill: Callable[[Plan], None], plans: list[Plan], number: int) -> None:
    fill(plans[number % len(plans)])


def bits_of(fill: Callable[[Plan], None], plan: Plan) -> torch.Tensor:
    plan.out.fill_(1.0)
    fill(plan)
    return raw(plan.out).clone()
