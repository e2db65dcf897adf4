"""Small models of the names, shapes and laws of code that is no package: nanoGPT, nanochat and torchtitan's Llama 3.

What their authors' `init_weights` do, in words of our own, to compare the recipes of docs/cookbook.md with. They compute nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn


def linear(inputs, outputs, bias=False):
    return nn.Linear(inputs, outputs, bias=bias)


# --- nanoGPT ------------------------------------------------------------------------------------------------------------------


@dataclass
class GPTConfig:
    block_size: int = 64
    vocab_size: int = 96
    n_layer: int = 3
    n_head: int = 2
    n_embd: int = 64
    dropout: float = 0.0
    bias: bool = True


class LayerNorm(nn.Module):
    """nanoGPT's own, whose bias may be None."""

    def __init__(self, width, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, n = config, config.n_embd
        blocks = [
            nn.ModuleDict(
                {
                    "ln_1": LayerNorm(n, config.bias),
                    "attn": nn.ModuleDict({"c_attn": linear(n, 3 * n, config.bias), "c_proj": linear(n, n, config.bias)}),
                    "ln_2": LayerNorm(n, config.bias),
                    "mlp": nn.ModuleDict({"c_fc": linear(n, 4 * n, config.bias), "c_proj": linear(4 * n, n, config.bias)}),
                }
            )
            for _ in range(config.n_layer)
        ]
        for block in blocks:  # where there is no flash attention
            mask = torch.tril(torch.ones(config.block_size, config.block_size))
            block["attn"].register_buffer("bias", mask.view(1, 1, config.block_size, config.block_size))
        parts = {"wte": nn.Embedding(config.vocab_size, n), "wpe": nn.Embedding(config.block_size, n)}
        self.transformer = nn.ModuleDict({**parts, "h": nn.ModuleList(blocks), "ln_f": LayerNorm(n, config.bias)})
        self.lm_head = linear(n, config.vocab_size)
        self.transformer.wte.weight = self.lm_head.weight
        self.init_weights()

    def init_weights(self):
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layer))


# --- nanochat -----------------------------------------------------------------------------------------------------------------


class Chat(nn.Module):
    """nanochat's GPT: no gains, no biases, rotary tables in buffers, embeddings in bfloat16."""

    def __init__(self, config):
        super().__init__()
        self.config, n = config, config.n_embd
        blocks = [
            nn.ModuleDict(
                {
                    "attn": nn.ModuleDict({name: linear(n, n) for name in ("c_q", "c_k", "c_v", "c_proj")}),
                    "mlp": nn.ModuleDict({"c_fc": linear(n, 4 * n), "c_proj": linear(4 * n, n)}),
                }
            )
            for _ in range(config.n_layer)
        ]
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(config.vocab_size, n), "h": nn.ModuleList(blocks)})
        self.lm_head = linear(n, config.vocab_size)
        for name, table in zip(("cos", "sin"), self.tables(), strict=True):
            self.register_buffer(name, table, persistent=False)
        self.transformer.wte.to(dtype=torch.bfloat16)

    def tables(self):
        device, width = self.transformer.wte.weight.device, self.config.n_embd // self.config.n_head
        frequencies = 10000 ** -(torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
        angles = torch.outer(torch.arange(10 * self.config.block_size, dtype=torch.float32, device=device), frequencies)
        return [table.bfloat16()[None, :, None, :] for table in (angles.cos(), angles.sin())]

    def init_weights(self):
        for module in self.modules():
            if isinstance(module, nn.Linear):
                outputs, inputs = module.weight.shape
                nn.init.normal_(module.weight, std=min(1.0, math.sqrt(outputs / inputs)) / math.sqrt(inputs))
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1.0)
        nn.init.zeros_(self.lm_head.weight)
        for block in self.transformer.h:
            nn.init.zeros_(block.mlp.c_proj.weight)
            nn.init.zeros_(block.attn.c_proj.weight)
        self.cos, self.sin = self.tables()


# --- torchtitan ---------------------------------------------------------------------------------------------------------------


class Titan(nn.Module):
    """torchtitan's Llama 3; its layers are a ModuleDict under their numbers."""

    def __init__(self, config):
        super().__init__()
        self.config, n = config, config.n_embd
        self.tok_embeddings = nn.Embedding(config.vocab_size, n)
        self.register_buffer("freqs_cis", self.table())
        layer = {
            "attention": lambda: nn.ModuleDict({name: linear(n, n) for name in ("wq", "wk", "wv", "wo")}),
            "feed_forward": lambda: nn.ModuleDict({"w1": linear(n, 3 * n), "w2": linear(3 * n, n), "w3": linear(n, 3 * n)}),
            "attention_norm": lambda: nn.RMSNorm(n),
            "ffn_norm": lambda: nn.RMSNorm(n),
        }
        numbers = range(config.n_layer)
        self.layers = nn.ModuleDict({str(i): nn.ModuleDict({name: make() for name, make in layer.items()}) for i in numbers})
        self.norm, self.output = nn.RMSNorm(n), linear(n, config.vocab_size)

    def table(self):
        width = self.config.n_embd // self.config.n_head
        frequencies = 500000 ** -(torch.arange(0, width, 2).float() / width)
        angles = torch.outer(torch.arange(self.config.block_size).float(), frequencies)
        return torch.polar(torch.ones_like(angles), angles)

    def init_weights(self):
        nn.init.normal_(self.tok_embeddings.weight)
        for index, layer in enumerate(self.layers.values()):
            std = 0.02 / math.sqrt(2 * (index + 1))
            stds = {"wq": 0.02, "wk": 0.02, "wv": 0.02, "w1": 0.02, "wo": std, "w2": std, "w3": std}
            for name, module in [*layer.attention.items(), *layer.feed_forward.items()]:
                nn.init.trunc_normal_(module.weight, std=stds[name])
        for module in self.modules():
            if isinstance(module, nn.RMSNorm):
                module.reset_parameters()
        std = self.config.n_embd**-0.5
        nn.init.trunc_normal_(self.output.weight, std=std, a=-3 * std, b=3 * std)
        with torch.device(self.freqs_cis.device):
            self.freqs_cis = self.table()
