"""What fills on a device need, made ready before the first of them."""

from collections.abc import Sequence

import torch

from fastinit._backends.choose import choose
from fastinit._core import laws
from fastinit._core.check import FLOAT_DTYPES, check_dtype
from fastinit._core.plan import Plan, whole
from fastinit._core.recipes import recipe


def warm_up(
    device: str | torch.device, dtypes: Sequence[torch.dtype] = (torch.float32, torch.bfloat16), *, strided: bool = False
) -> None:
    """Compile and load ahead what fills on a device need, so that the first of a program or of a CUDA graph takes no longer.

    It covers uniform, normal and truncated normal initializers of any parameters, symmetric about their mean. The compiled code
    is kept on disk (by Triton, in ~/.triton/cache): the second process finds it there. A backend without a compiler loads its
    library, no more.

    Args:
        device: the device of the tensors to come, such as "cuda".
        dtypes: their dtypes, of floats; complex tensors are filled as their parts.
        strided: whether also for tensors that are not contiguous, not aligned to 16 bytes or shards cut at odd places.

    Raises:
        TypeError: a dtype cannot be filled.
        RuntimeError: there is no such device, or a forced backend cannot serve it.

    Examples:
        >>> fastinit.warm_up("cpu", [torch.float32])
    """
    symmetric = (laws.uniform(-1.0, 1.0), laws.normal(0.0, 1.0), laws.truncated_normal(0.0, 1.0, -2.0, 2.0))
    for dtype in dtypes:
        out = torch.empty(2, 32, dtype=dtype, device=device)
        check_dtype(dtype, FLOAT_DTYPES)
        if out.is_meta:
            continue  # holds no values: there is nothing to make ready
        backend = choose(out.device)
        for law in (*symmetric, laws.uniform(0.0, 1.0)):
            plan = Plan(out, recipe(law, dtype), 0, whole(out))
            backend.fill([plan])
            backend.fill([plan, plan])
            if strided:
                backend.fill([plan._replace(out=out.t())])
