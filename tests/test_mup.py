"""mup_like: the coordinate check. After a few steps of Adam, activations do not grow with width; in the standard parametrization
they do."""

import math

import pytest
import torch
from torch import nn

import fastinit

BASE, CLASSES, WIDTHS = 32, 16, (32, 96, 288)
RATE, STEPS = 0.01, 4


class Network(nn.Module):
    """Token embeddings, two hidden layers and an output."""

    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(24, width)
        self.hidden = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.output = nn.Linear(width, CLASSES)

    def forward(self, tokens):
        seen = [self.embedding(tokens)]
        for layer in self.hidden:
            seen.append(layer(torch.relu(seen[-1])))
        return [*seen, self.output(torch.relu(seen[-1]))]


def scheme_of(width, base):
    """At its base width it is the standard parametrization: variances by the fans, one learning rate."""
    return fastinit.mup_like(width, base, output="output.weight", std=math.sqrt(2 / base)).override(
        {nn.Embedding: {"weight": fastinit.normal_}}
    )


def sizes_after_training(width, base, seed):
    """The mean absolute coordinate of each activation, with learning rates by width."""
    model = Network(width)
    fastinit.initialize_(model, scheme_of(width, base), seed=seed, overwrite_constants=True)
    wide = [model.hidden[0].weight, model.hidden[1].weight, model.output.weight]
    rest = [parameter for parameter in model.parameters() if all(parameter is not each for each in wide)]
    groups = [{"params": wide, "lr": RATE * base / width}, {"params": rest, "lr": RATE}]
    optimizer = torch.optim.Adam(groups)
    chance = torch.Generator().manual_seed(seed)
    tokens, targets = torch.randint(24, (64,), generator=chance), torch.randint(CLASSES, (64,), generator=chance)
    before = [each.detach() for each in model(tokens)]
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens)[-1], targets).backward()
        optimizer.step()
    after = [each.detach() for each in model(tokens)]
    return torch.tensor([float((b - a).abs().mean()) for a, b in zip(before, after, strict=True)])


def slopes(mup):
    """How the changes of activations grow with width: the exponents of a power law through the widths."""
    sizes = torch.stack(
        [
            torch.stack([sizes_after_training(width, BASE if mup else width, seed) for seed in range(2)]).mean(0)
            for width in WIDTHS
        ]
    )
    logs = torch.tensor([math.log(width) for width in WIDTHS])
    logs = logs - logs.mean()
    return (logs[:, None] * sizes.log()).sum(0) / (logs**2).sum()


def test_activations_do_not_grow_with_width():
    standard, mup = slopes(mup=False), slopes(mup=True)
    assert bool((standard[1:] > 0.4).all()), f"the check sees nothing: {standard}"
    assert bool((mup.abs() < 0.15).all()), f"{mup}"


def test_the_stds_are_those_of_the_table():
    """Hidden ones go with the root of the width, outputs with the width, inputs and embeddings stand still; zero biases."""
    for width in (32, 128):
        model = Network(width)
        scheme = fastinit.mup_like(width, BASE, output=["output.weight"], input="hidden.0.*t", std=0.03)
        report = fastinit.initialize_(model, scheme, seed=0, overwrite_constants=True)
        stds = {"embedding": 0.03, "hidden.0": 0.03, "hidden.1": 0.03 * math.sqrt(32 / width), "output": 0.03 * 32 / width}
        for name, std in stds.items():
            assert report[f"{name}.weight"].initializer == f"normal_(std={std})"
            assert model.get_submodule(name).weight.std().item() == pytest.approx(std, rel=0.15)
        assert report["hidden.1.bias"].initializer == "zeros_"
