"""One road for every blend, noise onto what a tensor holds: parts -> members -> blendings -> backend -> written.

With `_fill.py`, from which it has the parts and the last step, the only caller of backends. The arithmetic is the second half of
the value contract (docstring of recipes.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastinit._backends.choose import choose
from fastinit._core import keys, shard
from fastinit._core.check import FLOAT_DTYPES, check_tensor, finite, is_plain, whole_shape
from fastinit._core.laws import Initializer, Law, law_of, name_of_call
from fastinit._core.memory import check_memory, shared_part
from fastinit._core.plan import Blending, Box, whole
from fastinit._core.recipes import coefficient, real_of, recipe
from fastinit._fill import written
from fastinit._torch import FakeTensor, is_wrapped_by_functorch, local_tensor_of, recording_modes
