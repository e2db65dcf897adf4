"""A model on one device: a scheme of its own, one seed, one call."""

from functools import partial

from torch import nn

import fastinit

model = nn.TransformerEncoder(nn.TransformerEncoderLayer(256, 4, 1024), num_layers=4, enable_nested_tensor=False)
scheme = fastinit.truncated_like(std=0.02, cutoff=2.0).override(
    {
        "*.linear2.weight": partial(fastinit.truncated_normal_, std=0.02 / 8**0.5),  # by full name: into the residual stream
        nn.MultiheadAttention: {"in_proj_weight": fastinit.glorot_uniform_},  # by module type
    }
)
report = fastinit.initialize_(model, scheme, seed=0)
print(report)  # every parameter: shape, dtype, initializer, key
