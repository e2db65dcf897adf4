"""What adding noise and taking it away leaves: ``python -m benchmarks.noise_drift`` prints the table of docs/guide/noise.md.

Weights N(0, 0.02), 2^16 of them; a round adds the noise of a key of its own and takes it away by the same key.
"""

import torch

import fastinit

COUNT, STD = 1 << 16, 0.02
HEAD = ("dtype", "sigma", "rounds", "elements changed, %", "change, % of the weights' size")


def rows():
    for dtype in (torch.float32, torch.bfloat16):
        for sigma in (1e-3, 1e-2):
            begun = fastinit.normal_(torch.empty(COUNT, dtype=dtype), std=STD, key=1)
            weights, size = begun.clone(), begun.double().square().mean().sqrt()
            for number in range(1, 101):
                for add in (sigma, -sigma):
                    fastinit.blend_(weights, fastinit.normal_, key=fastinit.key(2, number), add=add)
                if number in (1, 10, 100):
                    changed = (weights != begun).double().mean().item()
                    drift = (weights.double() - begun.double()).square().mean().sqrt().item() / size.item()
                    name = str(dtype).removeprefix("torch.")
                    yield name, f"{sigma:g}", str(number), f"{100 * changed:.3g}", f"{100 * drift:.2g}"


def text():
    lines = ["| " + " | ".join(HEAD) + " |", "| --- | ---: | ---: | ---: | ---: |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows())])


if __name__ == "__main__":
    print(text())
