"""A device that is not here: one of torch's PrivateUse1 key, whose memory is the CPU's, and which, like MPS, has no float64.

It has the operations that it is given below, and no others: what fills its tensors may ask for no more.
"""

import collections

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
COPIED = []  # elements of each copy from the CPU, in order
CALLED = collections.Counter()  # operations by name
_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_memory = {}  # by address
_library = torch.library.Library("aten", "IMPL")
# Operations that a kernel for the CPU does as it is, since they touch no memory; and those that are done on the CPU's memory.
_OF_SHAPES = ("as_strided", "view", "set_.source_Storage_storage_offset")
_OF_VALUES = ("fill_.Scalar", "zero_", "masked_fill_.Scalar", "isnan", "any", "_local_scalar_dense")


def _made(size, stride, dtype):
    if dtype is torch.float64:
        raise TypeError(f"Cannot convert a {NAME} Tensor to float64 dtype as the {NAME} framework doesn't support float64.")
    elements = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if 0 not in size else 0
    memory = torch.zeros(max(elements * dtype.itemsize, 1), dtype=torch.uint8)
    _memory[memory.data_ptr()] = memory
    storage = torch._C._construct_storage_from_data_pointer(memory.data_ptr(), torch.device(NAME, 0), elements * dtype.itemsize)
    return torch._C._acc.create_empty_tensor((0,), dtype).set_(storage, 0, size, stride)


def on_cpu(tensor):
    """The CPU's view of a tensor's memory."""
    memory = _memory[tensor.untyped_storage().data_ptr()][: tensor.untyped_storage().nbytes()]
    return memory.view(tensor.dtype).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def _kernel(name):
    def register(function):
        def counted(*args, **kwargs):
            CALLED[name] += 1
            return function(*args, **kwargs)

        _library.impl(name, counted, "PrivateUse1")
        return function

    return register


def _overload(name):
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _of_values(operation):
    def run(*args, **kwargs):
        given = [on_cpu(arg) if isinstance(arg, torch.Tensor) and arg.device.type == NAME else arg for arg in args]
        result = operation(*given, **kwargs)
        if not isinstance(result, torch.Tensor):
            return result
        if result.data_ptr() == given[0].data_ptr():
            return args[0]
        out = _made(result.shape, result.stride(), result.dtype)
        on_cpu(out).copy_(result)
        return out

    return run


def register():
    _setup_privateuseone_for_python_backend(NAME)
    for name in _OF_SHAPES:
        operation = _overload(name)
        _kernel(name)(lambda *args, _run=operation, **kwargs: _run.redispatch(_CPU, *args, **kwargs))
    for name in _OF_VALUES:
        _kernel(name)(_of_values(_overload(name)))

    @_kernel("empty.memory_format")
    def empty(size, dtype=None, **options):
        return empty_strided(size, torch.empty(size, device="meta").stride(), dtype)

    @_kernel("empty_strided")
    def empty_strided(size, stride, dtype=None, **options):
        return _made(size, stride, dtype or torch.get_default_dtype())

    @_kernel("_copy_from")
    def copy_from(source, target, non_blocking=False):
        if source.device.type == "cpu":
            COPIED.append(source.numel())
            if source.dtype != target.dtype:
                raise TypeError("the device rounds by its own rules")
        ends = [on_cpu(tensor) if tensor.device.type == NAME else tensor for tensor in (source, target)]
        ends[1].copy_(ends[0])
        return target
