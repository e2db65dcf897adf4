"""Small models of the kinds of parameters that public models have beside matrices: what must stay, and what is random."""

import math

import torch
from torch import nn

WIDTH = 16


def _parameter(*shape, value=1.0):
    return nn.Parameter(torch.full(shape, value))


class Gains(nn.Module):
    """Norms and gains of every shape, and gains that are used as 1 + weight."""

    def __init__(self):
        super().__init__()
        for name, value in (("ScaledRMSNorm", 1.0), ("OneMoreRMSNorm", 0.0), ("LayerNorm2d", 1.0), ("Rescale", 1.0)):
            norm = type(name, (nn.Module,), {})()
            norm.weight = _parameter(WIDTH, value=value)
            self.add_module(name.lower(), norm)
        self.channels, self.filters, self.heads = (_parameter(*s) for s in ((1, WIDTH, 1, 1), (WIDTH, 1, 1, 1), (4, 1, 1)))
        self.scale, self.temperature = _parameter(WIDTH, value=1e-6), nn.Parameter(torch.tensor(math.log(10)))
        self.linear = nn.Linear(WIDTH, WIDTH)


class Recurrences(nn.Module):
    """Decays, steps and mixtures: tables that are computed."""

    def __init__(self):
        super().__init__()
        self.A_log = nn.Parameter(torch.arange(1.0, 9).log().repeat(WIDTH, 1))
        self.D, self.time_first = _parameter(WIDTH), _parameter(WIDTH, value=math.log(0.3))
        self.time_decay = nn.Parameter(torch.linspace(-6, -1, WIDTH))
        self.time_mix_k = nn.Parameter(torch.linspace(0, 1, WIDTH).view(1, 1, WIDTH))
        self.proj = nn.Linear(WIDTH, WIDTH, bias=False)


class Identities(nn.Module):
    """What begins as the identity, or as nothing: Dirac kernels, last gains of 0, gates, zero convolutions and heads."""

    def __init__(self):
        super().__init__()
        self.mix, self.last = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.out, self.head, self.square = nn.Conv2d(4, 4, 3), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.dirac_(self.mix.weight)
        nn.init.eye_(self.square.weight)
        for tensor in (self.last.weight, self.out.weight, self.out.bias, self.head.weight, self.head.bias):
            nn.init.zeros_(tensor)
        self.gate, self.body = (
            nn.Parameter(torch.zeros(1)),
            nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)),
        )


class Frozen(nn.Module):
    """Tables and whole parts that are not trained."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Embedding(12, WIDTH)
        angle = torch.arange(12)[:, None] / 10000 ** (torch.arange(WIDTH // 2) / (WIDTH // 2))
        with torch.no_grad():
            self.positions.weight.copy_(torch.cat([angle.sin(), angle.cos()], 1)).requires_grad_(False)
        self.pos_embed = nn.Parameter(torch.eye(12, WIDTH)[None], requires_grad=False)
        self.backbone, self.head = nn.Conv2d(3, 8, 3).requires_grad_(False), nn.Linear(WIDTH, WIDTH)


class Tokens(nn.Module):
    """Class tokens and tables of positions, drawn or zero."""

    def __init__(self):
        super().__init__()
        self.cls_token, self.pos_embed = (nn.Parameter(torch.randn(1, n, WIDTH) * 0.02) for n in (1, 9))
        self.mask_token, self.relative_position_bias_table = (nn.Parameter(torch.zeros(*s)) for s in ((1, 1, WIDTH), (9, 4)))
        self.class_embedding, self.level_embed = nn.Parameter(torch.randn(WIDTH)), nn.Parameter(torch.randn(3, WIDTH))
        self.fc = nn.Linear(WIDTH, WIDTH)


class Stacks(nn.Module):
    """Weights of [in, out], stacks of experts in both layouts, packed projections."""

    def __init__(self):
        super().__init__()
        self.inout = type("InOut", (nn.Module,), {})()
        self.inout.weight, self.inout.bias = nn.Parameter(torch.randn(WIDTH, 3 * WIDTH) * 0.02), _parameter(3 * WIDTH, value=0.0)
        self.experts = type("SomeExperts", (nn.Module,), {})()
        self.experts.gate_up_proj = nn.Parameter(torch.randn(4, 2 * WIDTH, WIDTH) * 0.02)
        self.experts.down_proj = nn.Parameter(torch.randn(4, WIDTH, WIDTH) * 0.02)
        self.experts.gate_up_proj_bias, self.router = _parameter(4, WIDTH, value=0.0), nn.Parameter(torch.randn(4, WIDTH))
        self.attention, self.normed = (
            nn.MultiheadAttention(WIDTH, 4),
            nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)),
        )


KINDS = (Gains, Recurrences, Identities, Frozen, Tokens, Stacks)
