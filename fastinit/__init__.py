"""fastinit: PyTorch weight initializers that are exact, fast, and the same bits everywhere.

Every initializer writes its tensor in place and returns it; the values are a pure function of (key, index in the whole
tensor, law, dtype). `fastinit.keras_like` gives a whole model Keras's defaults: ``model.apply(keras_like)``;
`fastinit.initialize_` fills a model of any size, on any devices, in one call.
"""

from typing import Any

from fastinit import laws, shard
from fastinit._accelerate import accelerate
from fastinit._backends.choose import backend, backends
from fastinit._blend import blend_
from fastinit._core.keys import key
from fastinit._core.recipes import STREAM_VERSION
from fastinit._fill import warm_up
from fastinit._initializers.constants import constant_, forget_gate_bias_, ones_, zeros_
from fastinit._initializers.glorot import glorot_normal_, glorot_uniform_
from fastinit._initializers.he_lecun import he_normal_, he_uniform_, lecun_normal_, lecun_uniform_
from fastinit._initializers.layouts import in_layout
from fastinit._initializers.old_names import OLD_NAMES
from fastinit._initializers.plain import bits_, normal_, trunc_normal_, truncated_normal_, uniform_
from fastinit._initializers.structured import dirac_, eye_, orthogonal_, sparse_
from fastinit._initializers.torch_names import (
    calculate_gain,
    kaiming_normal_,
    kaiming_uniform_,
    xavier_normal_,
    xavier_uniform_,
)
from fastinit._initializers.variance_scaling import variance_scaling_
from fastinit._model.audit import audit
from fastinit._model.constructed import from_constructor
from fastinit._model.initialize import initialize_
from fastinit._model.perturb import perturb_
from fastinit._schemes.depth import by_depth
from fastinit._schemes.families import llama_like, mup_like, t5_like, vit_like
from fastinit._schemes.ready import gpt2_like, keras_like, torch_like, truncated_like
from fastinit._schemes.scheme import Scheme

__version__ = "0.1.0"

__all__ = [
    "STREAM_VERSION",
    "Scheme",
    "__version__",
    "accelerate",
    "audit",
    "backend",
    "backends",
    "bits_",
    "blend_",
    "by_depth",
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "forget_gate_bias_",
    "from_constructor",
    "glorot_normal_",
    "glorot_uniform_",
    "gpt2_like",
    "he_normal_",
    "he_uniform_",
    "in_layout",
    "initialize_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "keras_like",
    "key",
    "laws",
    "lecun_normal_",
    "lecun_uniform_",
    "llama_like",
    "mup_like",
    "normal_",
    "ones_",
    "orthogonal_",
    "perturb_",
    "shard",
    "sparse_",
    "t5_like",
    "torch_like",
    "trunc_normal_",
    "truncated_like",
    "truncated_normal_",
    "uniform_",
    "variance_scaling_",
    "vit_like",
    "warm_up",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def __getattr__(name: str) -> Any:
    """Return what code written for torch.nn.init may ask for besides: its deprecated names, and two private helpers."""
    if name in OLD_NAMES:
        return OLD_NAMES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
