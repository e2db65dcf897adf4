"""How `accelerate` serves a call of torch's: which functions, on which tensors, by which of this package's."""

import functools
import inspect
import operator
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastinit._core import keys
from fastinit._core.check import DRAWN_DTYPES, PLAIN, depth_of_user, is_loaded, is_plain
from fastinit._core.laws import declaration_of, half_open
from fastinit._core.shard import is_dtensor
from fastinit._draws import Draws, aliases, is_parameter
from fastinit._fill import fill_
from fastinit._initializers import plain, structured, torch_names
from fastinit._initializers.scaling import shape_of
from fastinit._tally import BlockReport, Record, reported, warning_of
from fastinit._torch import FakeTensor, is_wrapped_by_functorch, without_torch_function
from fastinit._usual import Usual, fills_

Handler = Callable[["Block", Any, tuple[Any, ...], dict[str, Any]], Any]  # of a call: torch's function, its arguments


@dataclass(eq=False)
class Block:
    """One open block: the source of its keys, and the counts of its report."""

    owner: object  # the `accelerate` that opened it
    router: object  # of the thread that it serves
    draws: Draws  # of that thread
    seed: int | None
    path: tuple[str | int, ...]  # of its keys, before the number of the fill
    fills: int = 0
    is_open: bool = True
    served: dict[Callable[..., Tensor], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))  # calls, elements
    left: dict[tuple[Any, ...], Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key_of = None if self.seed is None else keys.of_names(self.seed, *self.path)

    def decides(self, arguments: dict[str, Any]) -> bool:
        """Whether its seed is to decide the values."""
        return self.seed is not None and arguments.get("generator") is None

    def fill(self, function: Callable[..., Tensor], arguments: dict[str, Any]) -> str | None:
        """None if this package took the call; if not, why: the tensor is then untouched."""
        if self.decides(arguments):
            arguments["key"] = self.key_of and self.key_of(self.fills)
        try:
            with without_torch_function():  # no mode is shown the fill's own operations: half of its time
                function(**arguments)
                size = arguments["tensor"].numel()
                if self.draws.holders:
                    self.draws.overwritten(arguments["tensor"])
        except (TypeError, ValueError) as error:
            return str(error)
        self.count(function, size)
        return None

    def fills_usual(self, service: "_Service", tensor: Any, generator: Any, *arguments: Any) -> bool:
        """Whether this package took the call by the short way; if not, nothing has happened, and `fill` says why."""
        if type(tensor) not in PLAIN:
            return False
        key = self.key_of(self.fills) if self.key_of and generator is None else None
        try:
            with without_torch_function():
                if tensor.is_inference() and not torch.is_inference_mode_enabled():
                    return False
                size = fills_(service.usual, tensor, generator, key, *arguments)  # type: ignore[arg-type]
                if size and self.draws.holders:
                    self.draws.overwritten(tensor)
        except (TypeError, ValueError):
            return False
        if size:
            self.count(service.function, size)
        return size > 0

    def count(self, function: Callable[..., Tensor], size: int) -> None:
        """Count a call that this package took."""
        self.fills += 1
        tally = self.served[function]
        tally[0] += 1
        tally[1] += size

    def leave(self, function: str, tensor: Any, reason: str, is_undecided: bool = False) -> Record:
        """Count a call that this package did not take."""
        with without_torch_function():
            kind = (function, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), reason, is_undecided)
            record = self.left.setdefault(kind, Record(*kind))
            record.calls, record.elements = record.calls + 1, record.elements + tensor.numel()
        return record

    @property
    def report(self) -> BlockReport:
        """What it has done so far."""
        calls, elements = Counter[str](), Counter[str]()
        for function, (count, size) in list(self.served.items()):
            calls[function.__name__] += count
            elements[function.__name__] += size
        return reported(self.seed, calls, elements, self._records())

    def close(self) -> str | None:
        """Say which parameters hold what its seed was to decide and did not."""
        said = warning_of(self._records())
        self.is_open = False
        return said

    def _records(self) -> list[Record]:
        records = list(self.left.values())
        if self.is_open:  # what parameters hold afterwards is not its doing
            self.draws.name_parameters(records)
        return records


@dataclass(frozen=True)
class _Service:
    """How one of torch's functions is served: a handler of its calls."""

    function: Callable[..., Tensor]  # of this package
    parameters: dict[str, str]  # the names in torch's signature, in order -> the names in this package's
    positional: int  # how many of them may be passed by position
    method: bool = False  # of Tensor: for parameters alone, and not where autograd would record the write
    usual: Usual | None = None  # its short way
    forms: dict[Any, Any] = field(default_factory=dict)  # of calls: how their arguments are picked for it

    def _form(self, count: int, *names: str) -> tuple[Any, ...]:
        """How to pick tensor, generator and what the law depends on of a call's values and the defaults; empty: not usual."""
        assert self.usual is not None
        given = [*list(self.parameters)[:count], *names]
        if count > self.positional or "tensor" not in given or len(set(given)) < len(given) or not {*given} <= {*self.parameters}:
            return ()
        wanted = ["tensor", "generator", *list(inspect.signature(self.usual.law).parameters)[2:]]
        defaults = {p.name: p.default for p in inspect.signature(self.function).parameters.values()}
        rest = [name for name in wanted if name not in given]
        places = [*given, *rest]
        return operator.itemgetter(*map(places.index, wanted)), tuple(defaults[name] for name in rest)

    def __call__(self, block: Block, torch_function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.usual is not None:
            form = (len(args), *kwargs) if kwargs else len(args)
            if (picked := self.forms.get(form)) is None:
                picked = self.forms[form] = self._form(len(args), *kwargs)
            if picked:
                pick, defaults = picked
                given = (*args, *kwargs.values(), *defaults) if kwargs else args + defaults
                if block.fills_usual(self, *pick(given)):
                    return args[0] if args else kwargs["tensor"]
        arguments = self._arguments(args, kwargs)
        tensor: Any = arguments.get("tensor")
        if self.method and not (is_parameter(tensor) and not (tensor.requires_grad and torch.is_grad_enabled())):
            return _drawn(block, torch_function, args, kwargs, self._name(torch_function))
        if isinstance(tensor, Tensor) and is_loaded(tensor):
            block.leave(self._name(torch_function), tensor, _LOADED)
            return tensor
        refusal = _affair_of_torch(tensor)
        if refusal is None or (is_dtensor(tensor) and block.decides(arguments)):  # only by a seed do all ranks get one key
            refusal = block.fill(self.function, arguments)
        if refusal is None:
            return tensor
        filled = torch_function(*args, **kwargs)
        if isinstance(filled, Tensor):
            block.leave(self._name(torch_function), filled, refusal)
        if block.decides(kwargs | arguments) and _has_values(filled):
            warnings.warn(_told(self._name(torch_function), filled, refusal), UserWarning, stacklevel=depth_of_user())
        return filled

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by this package's names; empty where torch's signature does not allow the call."""
        given = dict(zip(self.parameters, args[: self.positional], strict=False))
        if len(args) > self.positional or not kwargs.keys() <= self.parameters.keys() - given.keys():
            return {}
        return {self.parameters[name]: value for name, value in (given | kwargs).items()}

    def _name(self, torch_function: Callable[..., Any]) -> str:
        module = "torch.Tensor" if self.method else getattr(torch_function, "__module__", "torch.nn.init")
        return f"{module}.{self.function.__name__}"


def _told(name: str, filled: Tensor, refusal: str) -> str:
    return (
        f"{name} itself filled a {filled.dtype} tensor of shape {tuple(filled.shape)}: its values "
        f"are torch's, and the seed of the block of fastinit.accelerate did not decide them. The reason: {refusal}"
    )


def _affair_of_torch(tensor: Any) -> str | None:
    """Why a tensor is not this package's to fill. Subclasses have their own ways, and errors, with random functions; so have
    torch.func, which may forbid them, and tensors of the inference mode outside of it."""
    if not isinstance(tensor, Tensor):
        return "the arguments of the call were not understood."
    if not is_plain(tensor):
        return f"a {type(tensor).__name__} has its own way with random functions."
    if not _has_values(tensor):
        return "it has no values."
    if is_wrapped_by_functorch(tensor):
        return "torch.func has wrapped it."
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return "it is a tensor of the inference mode."
    return None


def _has_values(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and not (tensor.is_meta or isinstance(tensor, FakeTensor)) and tensor.numel() > 0


def _alias(block: Block, torch_function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Remember an alias of a parameter: `parameter.data` is a plain tensor, which does not lead back to its parameter."""
    alias = torch_function(*args, **kwargs)
    if args and is_parameter(args[0]):
        aliases[id(alias)] = alias
    return alias


def _drawn(block: Block, torch_function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    """Let torch draw, and note it."""
    result = torch_function(*args, **kwargs)
    if _has_values(result):
        given = kwargs.get("generator") is not None
        reason = "a generator was given." if given else _NO_METHOD if is_parameter(result) else _NO_PARAMETER
        block.draws.drew(result, block.leave(name, result, reason, block.decides(kwargs)))
    return result


def _drawing(owner: Any, name: str) -> Handler:
    return functools.partial(_drawn, name=f"torch.{name}" if owner is torch else f"torch.Tensor.{name}")


def routed(function: Callable[..., Any]) -> _Service | None:
    """The service of a function of torch.nn.init. A mode is shown what the attribute is now, which others may have replaced
    (transformers does)."""
    for name, service in ROUTED.items():
        if getattr(torch.nn.init, name, None) is function:
            return service
    return None


def places() -> list[tuple[dict[str, Any], str, str, _Service]]:
    """What is replaced: its dictionary, its name, the module where a pickle finds it. Names of torch.nn.init, also what torch
    shows to modes, which takes as long as a small fill; those that transformers has taken from there; and the truncated normal
    that timm has written out. Both where they are in use."""
    found = [(vars(torch.nn.init), name, "torch.nn.init", service) for name, service in {**ROUTED, **UNROUTED}.items()]
    taken = getattr(sys.modules.get("transformers.initialization"), "TORCH_INIT_FUNCTIONS", {})
    found += [(taken, name, "torch.nn.init", service) for _, name, _, service in found if name in taken]
    timm = sys.modules.get("timm.layers.weight_init")
    if timm is not None and _parameters_of(timm, _TIMM) == list(_TRUNCATED.parameters):
        found.append((vars(timm), _TIMM, timm.__name__, _TRUNCATED))
    return found


def _opened(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function without the upper bound, which torch's uniforms never reach."""
    declared = declaration_of(function)
    assert declared is not None

    @functools.wraps(function)
    def half_open_(tensor: Tensor, *, generator: Any = None, key: int | None = None, **given: Any) -> Tensor:
        law = declared(shape_of(tensor), tensor.dtype, given)
        if law is None:
            return function(tensor, generator=generator, key=key, **given)
        return fill_(tensor, half_open(law), generator, key, DRAWN_DTYPES)

    return half_open_


def service_of(function: Callable[..., Tensor], usual: Usual | None = None) -> _Service:
    """The signatures of torch.nn.init are this package's, less the keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    return _Service(function, dict(zip(names, names, strict=True)), len(names), usual=usual)


def trunc_normal_place() -> str:
    """The private function that captured references of trunc_normal_ call too, where torch has it as it was."""
    place = "_no_grad_trunc_normal_"
    as_it_was = _parameters_of(torch.nn.init, place) == list(service_of(plain.trunc_normal_).parameters)
    return place if as_it_was else "trunc_normal_"


def _parameters_of(module: ModuleType, name: str) -> list[str]:
    """The names in a function's signature; none, if there is no such function."""
    try:
        return list(inspect.signature(getattr(module, name, None)).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []


ROUTED = {
    "uniform_": service_of(_opened(plain.uniform_), plain.UNIFORM.half_open()),
    "normal_": service_of(plain.normal_, plain.NORMAL),
    "kaiming_uniform_": service_of(_opened(torch_names.kaiming_uniform_), torch_names.KAIMING_UNIFORM.half_open()),
}
UNROUTED = {
    trunc_normal_place(): service_of(plain.trunc_normal_, plain.TRUNCATED),
    "xavier_uniform_": service_of(_opened(torch_names.xavier_uniform_), torch_names.XAVIER_UNIFORM.half_open()),
    "xavier_normal_": service_of(torch_names.xavier_normal_, torch_names.XAVIER_NORMAL),
    "kaiming_normal_": service_of(torch_names.kaiming_normal_, torch_names.KAIMING_NORMAL),
    "orthogonal_": service_of(structured.orthogonal_),
    "sparse_": service_of(structured.sparse_),
}
_TIMM = "_trunc_normal_"
_TRUNCATED = _Service(plain.trunc_normal_, {name: name for name in ("tensor", "mean", "std", "a", "b")}, 5)
_NORMAL = {"self": "tensor", "mean": "mean", "std": "std", "generator": "generator"}
_UNIFORM = {"self": "tensor", "from": "a", "to": "b", "generator": "generator"}
_LOADED = "transformers has marked it as loaded: it stays as it is."
_NO_PARAMETER = "it filled a tensor that is no parameter."
_NO_METHOD = "this package does not serve this method."
_DRAWING: dict[Any, str] = {
    torch: "rand randn randint randperm normal bernoulli multinomial poisson binomial rand_like randn_like randint_like",
    Tensor: "bernoulli multinomial bernoulli_ cauchy_ exponential_ geometric_ log_normal_ random_",
}
HANDLERS: dict[Any, Handler] = {
    Tensor.normal_: _Service(plain.normal_, _NORMAL, 3, method=True),
    Tensor.uniform_: _Service(_opened(plain.uniform_), _UNIFORM, 3, method=True),
    Tensor.data.__get__: _alias,  # type: ignore[attr-defined]
    Tensor.detach: _alias,
    **{getattr(owner, name): _drawing(owner, name) for owner, names in _DRAWING.items() for name in names.split()},
}
