"""A model on one device: a scheme of its own, one seed, one call."""

from functools import partial

from torch import nn

import fastinit

layer = nn.TransformerEncoderLayer(256, 4, 1024)
model = nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False)
scheme = fastinit.truncated_like(std=0.02, cutoff=2.0).override(
    {
        # by full name: what ends in the residual stream
        "*.linear2.weight": partial(fastinit.truncated_normal_, std=0.02 / 8**0.5),
        # by module type
        nn.MultiheadAttention: {"in_proj_weight": fastinit.glorot_uniform_},
    }
)
report = fastinit.initialize_(model, scheme, seed=0)
print(report)  # every parameter: shape, dtype, initializer, key
