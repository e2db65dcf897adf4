"""Makes tests/data/golden.json: hashes of fills, which freeze the bits. `python tests/golden.py` writes it anew.

Only a release that raises STREAM_VERSION may change the file's present entries.
"""

import hashlib
import json
import pathlib

import torch
from laws import INTEGERS, LAWS

from fastinit import distributions
from fastinit.backends import reference
from fastinit.plan import Box, Plan

FILE = pathlib.Path(__file__).parent / "data" / "golden.json"
PLACES = [(0, 0, 4099), (0xFFFFFFFFFFFFFFFF, 2**34 - 5, 4099), (0x0123456789ABCDEF, 2**62 + 3, 257)]  # key, start, count


def cases():
    """(name, recipe, key, start, count) of every golden fill."""
    for law_name, law in LAWS.items():
        for dtype in distributions.FLOAT_DTYPES:
            for key, start, count in PLACES:
                name = f"{law_name} | {str(dtype).removeprefix('torch.')} | key {key:#x} start {start} count {count}"
                yield name, distributions.recipe(law, dtype), key, start, count
    for dtype in (torch.int32, torch.int64):
        for key, start, count in PLACES:
            name = f"words | {str(dtype).removeprefix('torch.')} | key {key:#x} start {start} count {count}"
            yield name, distributions.words_recipe(dtype), key, start, count


def digest(backend, recipe, key, start, count, device="cpu") -> str:
    """BLAKE2b of the little-endian bytes."""
    out = torch.zeros(count, dtype=recipe.dtype, device=device)
    backend.fill([Plan(out, recipe, key, Box(start, 1, count, count))])
    out = out.cpu()
    return hashlib.blake2b(bytes(out.view(INTEGERS[out.itemsize]).view(torch.uint8).tolist()), digest_size=8).hexdigest()


if __name__ == "__main__":
    hashes = {name: digest(reference, *rest) for name, *rest in cases()}
    content = {"stream_version": distributions.STREAM_VERSION, "hashes": hashes}
    FILE.write_text(json.dumps(content, indent=1) + "\n")
