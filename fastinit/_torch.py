"""Every private name of torch that this package uses: where a release of torch moves one, this file alone changes."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction as without_torch_function
from torch._C import _is_tracing as is_tracing
from torch._C import _len_torch_dispatch_stack as dispatch_modes
from torch._C import _len_torch_function_stack as function_modes
from torch._C._functorch import is_functorch_wrapped_tensor as is_wrapped_by_functorch
from torch._ops import _len_torch_dispatch_stack_pre_dispatch as modes_before_dispatch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

__all__ = [
    "INIT_HELPERS",
    "FakeTensor",
    "WatchingMode",
    "base_of",
    "can_set_data",
    "can_swap",
    "children_of",
    "current_cuda_stream",
    "dismiss",
    "dispatch_modes",  # how many modes see every operation: of make_fx, FakeTensorMode, CommDebugMode
    "function_modes",  # how many modes see every function
    "is_default_generator",
    "is_strided_shard",
    "is_summoned",
    "is_tracing",  # torch.jit.trace
    "is_transformers_loading",
    "is_wrapped_by_functorch",
    "is_written",
    "leaf",
    "local_tensor_of",
    "own_buffers",
    "own_parameters",
    "pre_hooks_of",
    "recording_modes",
    "storage_number",
    "storage_numbers",
    "swap",
    "swap_bare",
    "untraced",
    "without_dispatch_modes",
    "without_own_references",
    "without_torch_function",
    "written",
    "written_of",
]


_NOTHING = nullcontext()
# What libraries take from torch.nn.init although it is private.
INIT_HELPERS: dict[str, Callable[..., Any]] = {
    name: getattr(nn.init, name) for name in ("_calculate_fan_in_and_fan_out", "_calculate_correct_fan") if hasattr(nn.init, name)
}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _one_by_one(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        torch.autograd.graph.increment_version(tensor)


# torch.autograd.graph.increment_version for each of many, in a third of its time, where this torch's C++ takes several.
_increment_version: Callable[[Sequence[Tensor]], None] = torch._C._increment_version
try:
    _increment_version([])
except (TypeError, RuntimeError):
    _increment_version = _one_by_one


def written(*tensors: Tensor) -> None:
    """Tell autograd that tensors were written; those of inference keep no version."""
    try:
        _increment_version(tensors)
    except RuntimeError:
        _increment_version([tensor for tensor in tensors if not tensor.is_inference()])


class _Watching(threading.local):
    depth = 0


_watching = _Watching()


class WatchingMode(TorchDispatchMode):
    """A mode that sees operations and does them: tensors are what they are, unlike under a mode that fakes or records."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first one in a process imports torch._dynamo, for seconds

    def __enter__(self) -> Any:
        _watching.depth += 1
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        _watching.depth -= 1
        super().__exit__(*error)  # type: ignore[no-untyped-call]


def recording_modes() -> bool:
    """Whether a mode that sees operations is not one that only watches."""
    return dispatch_modes() > _watching.depth


def is_summoned(mode: TorchFunctionMode) -> bool:
    """Whether a mode is on this thread's stack of those that see functions."""
    return any(each is mode for each in _get_current_function_mode_stack())


def dismiss(mode: TorchFunctionMode) -> None:
    """Take a mode off the stack, wherever it lies: its own __exit__ would take the one on top."""
    others = [each for each in _get_current_function_mode_stack() if each is not mode]
    for _ in _get_current_function_mode_stack():
        _pop_mode()
    for each in others:
        _push_mode(each)


def without_dispatch_modes() -> AbstractContextManager[object]:
    """A block in which no mode sees operations. To look for modes takes a tenth of the time of switching them off."""
    return _disable_current_modes() if dispatch_modes() or modes_before_dispatch() else _NOTHING


def untraced(function: _Function) -> _Function:
    """A function that Dynamo runs as it is, also inside of an operator. torch._dynamo is not imported where nobody has."""
    return torch.compiler.disable(function) if "torch._dynamo" in sys.modules else function


def current_cuda_stream(index: int) -> int:
    """The address of torch's current stream on a CUDA device: a third of the time of torch.cuda.current_stream."""
    return int(torch._C._cuda_getCurrentRawStream(index))


def is_transformers_loading() -> bool:
    """Whether transformers initializes a model: functions of its own, which leave what is loaded, then stand in for torch's."""
    return torch.nn.init.normal_.__module__ == "transformers.initialization"


def is_written(tensor: Tensor) -> bool:
    """Whether a tensor's memory was written in place since it was made: by a constructor, say, and not after `to_empty`."""
    return bool(written_of([tensor]))


def written_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Those of several tensors that were, in a third of the time."""
    if torch.compiler.is_compiling():
        return []
    try:
        return [tensor for tensor in tensors if tensor._version > 0]
    except RuntimeError:  # some are of inference, and keep no version
        return [tensor for tensor in tensors if not tensor.is_inference() and tensor._version > 0]


def base_of(tensor: Tensor) -> Tensor:
    """The tensor that a view is a view of; itself, if it is no view."""
    return tensor if tensor._base is None else tensor._base


def is_default_generator(generator: torch.Generator) -> bool:
    """Whether it is the generator that functions of its device take by default: each way to it may give another Python object."""
    defaults = [torch.default_generator, *getattr(torch.get_device_module(generator.device), "default_generators", ())]
    return any(generator._cdata == default._cdata for default in defaults)  # type: ignore[attr-defined]


def can_set_data(tensor: Tensor, new: Tensor) -> bool:
    """Whether a tensor gets another's memory by `.data`: one on meta cannot get a CPU's, a fake one would keep its device."""
    return bool(torch._has_compatible_shallow_copy_type(tensor, new)) and not isinstance(new, FakeTensor)


def can_swap(tensor: Any) -> bool:
    """Whether torch.utils.swap_tensors takes a tensor: nothing in C++ may hold it but its own node that accumulates gradients."""
    if weakref.getweakrefs(tensor):
        return False
    if tensor._use_count() == 2 and tensor.is_leaf and tensor.requires_grad:
        node = torch.autograd.graph.get_gradient_edge(tensor).node  # made only now, unless it was what held the tensor
        return node is not None and bool(tensor._use_count() == 2)
    return bool(tensor._use_count() == 1)


def swap_bare(tensor: Any, new: Any) -> bool:
    """Swap the memory of parameters that nothing in C++ holds, as of most, in a fifth of the time of `swap`. Attributes stay, a
    gradient goes. False: something may hold them; nothing is done."""
    held = tensor._use_count() > 1 or new._use_count() > 1
    if held or not type(tensor) is type(new) is nn.Parameter:
        return False
    if tensor._backward_hooks or tensor._post_accumulate_grad_hooks or weakref.getweakrefcount(tensor):
        return False
    torch._C._swap_tensor_impl(tensor, new)
    return True


def swap(tensor: Any, new: Any) -> None:
    """torch.utils.swap_tensors, which leaves the hooks' dictionaries where they are, and has C++ forget them."""
    hooks, later_hooks = tensor._backward_hooks, tensor._post_accumulate_grad_hooks
    torch.utils.swap_tensors(tensor, new)
    if hooks:
        tensor._backward_hooks = hooks
    if later_hooks:
        tensor._post_accumulate_grad_hooks = later_hooks


@contextmanager
def without_own_references(modules: set[nn.Module]) -> Iterator[None]:
    """Let weights of recurrent layers be swapped, as their own Module.to does: layers keep weak references to them."""
    layers: list[Any] = [module for module in modules if isinstance(module, nn.RNNBase)]
    for layer in layers:
        layer._flat_weight_refs = []
    try:
        yield
    finally:
        for layer in layers:
            layer._init_flat_weights()


def storage_number(tensor: Tensor) -> int:
    """A number that tensors of one storage share: on meta, storages have no address."""
    return int(tensor.untyped_storage()._cdata)


def storage_numbers(tensors: Iterable[Tensor]) -> list[int]:
    """The same of many, without a call for each."""
    return [tensor.untyped_storage()._cdata for tensor in tensors]


def local_tensor_of(tensor: Any) -> Tensor:
    """The local tensor of a DTensor, itself: to_local() would make a view that autograd records."""
    local: Tensor = tensor._local_tensor
    return local


def is_strided_shard(placement: object) -> TypeGuard[Any]:
    """Whether a placement is what FSDP2 makes of a dimension that tensor parallelism has split before."""
    from torch.distributed.tensor.placement_types import _StridedShard

    return isinstance(placement, _StridedShard)


def own_parameters(module: nn.Module) -> MutableMapping[str, Any]:
    """A module's own parameters by name, those that are None too."""
    return module._parameters


def own_buffers(module: nn.Module) -> MutableMapping[str, Any]:
    """A module's own buffers by name, those that are None too."""
    return module._buffers


def children_of(module: nn.Module) -> Mapping[str, nn.Module | None]:
    """A module's children by name: a child under two names comes twice, which named_children() hides."""
    return module._modules


def leaf(module: nn.Module) -> tuple[MutableMapping[str, Any], bool]:
    """A module's own parameters; and whether they are all it has: no buffers, no children, nothing that computes parameters."""
    return module._parameters, not (module._buffers or module._modules or module._forward_pre_hooks)


def pre_hooks_of(module: nn.Module) -> list[Any]:
    """What a module calls before its forward pass."""
    return list(module._forward_pre_hooks.values())
