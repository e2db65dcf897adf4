"""What a call of a public function must do: meet the contract, or refuse, say what it was given and leave all as it was."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
import torch
from helpers import call_laws, calls, oracle
from helpers.call_laws import Expected
from helpers.calls import FANS, GAIN, OMITTED, RECTIFIER, SOURCE, WORDS, Arguments, Place, scales, shapes
from helpers.laws import INTEGERS
from hypothesis import strategies as st

import fastinit


class Spec(NamedTuple):
    """A function: how it is called, which arguments are bad, and the law of its values, or what else they must be."""

    parameters: dict[str, tuple[Any, st.SearchStrategy]]  # default (OMITTED: there is none), and values
    faults: Callable[[Arguments, tuple[int, ...]], list[Any]]
    shape: st.SearchStrategy
    law: Callable[[Arguments, tuple[int, ...]], Expected] | None = None
    check: Callable[[torch.Tensor, Arguments, torch.dtype], None] | None = None
    dtypes: tuple[torch.dtype, ...] = calls.FLOATS
    others: tuple[torch.dtype, ...] = ()  # that it takes too, and other tests check
    draws: bool = True
    served: Callable[[Arguments, torch.dtype], bool | None] = lambda x, dtype: True  # of a good call without a law


# --- what is no law -----------------------------------------------------------------------------------------------------------


def constant_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    return calls.bad(x, val=lambda val: isinstance(val, (int, float, complex)))


def constant_served(x: Arguments, dtype: torch.dtype) -> bool | None:
    if dtype is torch.bool:
        return True
    if isinstance(x["val"], complex):
        return dtype.is_complex
    if not (dtype.is_floating_point or dtype.is_complex):
        limits = torch.iinfo(dtype)
        return (isinstance(x["val"], int) or math.isfinite(x["val"])) and limits.min <= math.trunc(x["val"]) <= limits.max
    if abs(x["val"]) == math.inf:
        return dtype is not torch.float8_e4m3fn  # which has no infinity
    return not abs(x["val"]) > torch.finfo(dtype).max


def check_constant(values: torch.Tensor, x: Arguments, dtype: torch.dtype) -> None:
    if dtype is torch.bool or not (dtype.is_floating_point or dtype.is_complex):
        assert values.tolist() == torch.full(values.shape, bool(x["val"]) if dtype is torch.bool else int(x["val"])).tolist()
        return
    if x["val"] != x["val"]:
        assert bool(values.isnan().all())
        return
    if dtype.is_complex:
        assert torch.equal(values, torch.full(values.shape, complex(x["val"]), dtype=torch.complex128).to(dtype))
        return
    real = torch.float64 if dtype is torch.float64 else torch.float32
    assert same(values, torch.full(values.shape, float(x["val"]), dtype=real).to(dtype))


def gate_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    return constant_faults(x, shape) + [shape] * (not shape or shape[0] % 4 != 0)


def check_gates(values: torch.Tensor, x: Arguments, dtype: torch.dtype) -> None:
    """Zeros, but for the second quarter."""
    quarter = len(values) // 4
    check_constant(values[quarter : 2 * quarter], x, dtype)
    assert not bool(torch.cat([values[:quarter], values[2 * quarter :]]).to(torch.complex128).any())


def matrix_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    return [shape] if len(shape) != 2 else []


def check_eye(values: torch.Tensor, x: Arguments, dtype: torch.dtype) -> None:
    assert values.to(torch.complex128).tolist() == [
        [complex(i == j) for j in range(values.shape[1])] for i in range(values.shape[0])
    ]


def dirac_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    if not calls.is_count(x["groups"], 1):
        return [x["groups"], shape]
    return [shape] if len(shape) not in (3, 4, 5) or shape[0] % x["groups"] else []


def check_dirac(values: torch.Tensor, x: Arguments, dtype: torch.dtype) -> None:
    if values.numel():
        assert torch.equal(values.to(torch.complex128).real, torch.nn.init.dirac_(torch.ones(values.shape).double(), x["groups"]))


def orthogonal_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    leading = x["batch_dims"] if calls.is_count(x["batch_dims"], 0) else 0
    faults = calls.bad(x, gain=calls.is_finite, batch_dims=lambda n: calls.is_count(n, 0))
    return faults + [shape] * (len(shape) - leading < 2)


def orthogonal_served(x: Arguments, dtype: torch.dtype) -> bool | None:
    return True if abs(x["gain"]) <= torch.finfo(dtype).max else None


def check_orthogonal(values: torch.Tensor, x: Arguments, dtype: torch.dtype) -> None:
    """Rows or columns of length |gain|, at right angles; each element as exact as its dtype and the arithmetic allow."""
    assert bool(values.double().isfinite().all()), "not finite"
    matrix, gain = values.flatten(x["batch_dims"] + 1).double(), abs(float(x["gain"]))
    if matrix.numel() and 2.0**-4 < gain < 2.0**4:
        matrix = (matrix.mT if matrix.shape[-2] < matrix.shape[-1] else matrix) / gain
        long, short = matrix.shape[-2:]
        error = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps if dtype is not torch.float64 else 0.0)
        tiny = torch.finfo(dtype).smallest_normal / gain
        slack = 32 * long * error + 2 * long * tiny
        assert bool(((matrix.mT @ matrix - torch.eye(short).double()).abs() <= slack).all())


def sparse_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    fraction = calls.bad(x, sparsity=lambda s: calls.is_real(s) and 0 <= s <= 1)
    return fraction + calls.bad(x, std=calls.is_not_negative) + matrix_faults(x, shape)


def sparse_served(x: Arguments, dtype: torch.dtype) -> bool | None:
    return True if x["std"] * 40 <= torch.finfo(torch.float32).max else None


def check_sparse(values: torch.Tensor, x: Arguments, dtype: torch.dtype) -> None:
    """In each column as many zeros as promised; beside them the values of normal_."""
    normal = fastinit.normal_(torch.empty(values.shape, dtype=dtype), 0.0, x["std"], key=x["key"]).double()
    zero = values.double() == 0
    least = math.ceil(float(x["sparsity"]) * values.shape[0])
    count = zero.sum(0)
    assert bool((count >= least).all()) and bool((count <= least + (normal == 0).sum(0)).all())
    assert torch.equal(values.double()[~zero], normal[~zero])


def check_words(values: torch.Tensor, x: Arguments, dtype: torch.dtype) -> None:
    word, bits = (oracle.word64, 64) if dtype.itemsize == 8 else (oracle.word32, 32)
    got = [int(value) % 2**bits for value in values.flatten().tolist()]
    assert got == [word(int(x["key"]), i) for i in range(len(got))]


def mostly(least: int, most: int) -> st.SearchStrategy:
    return st.one_of(*[shapes(least, most)] * 6, shapes(0, 5))


ANY, MATRIX, WEIGHT, KERNEL = shapes(0, 5), mostly(2, 2), mostly(2, 5), mostly(3, 5)
INTERVAL = {"a": (0.0, calls.LOWER), "b": (1.0, calls.UPPER)}
NORMAL = {"mean": (0.0, calls.NUMBERS), "std": (1.0, scales(-8, 8))}
ABSOLUTE = {"a": (-2.0, calls.LOWER), "b": (2.0, calls.UPPER)}
MAYBE = {name: (None, st.one_of(st.none(), values)) for name, (_, values) in ABSOLUTE.items()}
METHOD = {"method": ("exact", calls.mostly(st.sampled_from(["exact", "exact", "fmod"]), calls.ODD_NAMES))}
SCALING = {
    "scale": (1.0, scales(-6, 6)),
    "mode": ("fan_in", calls.mostly(st.sampled_from(calls.MODES), calls.ODD_NAMES)),
    "distribution": ("truncated_normal", calls.mostly(st.sampled_from(calls.DISTRIBUTIONS), calls.ODD_NAMES)),
}
BATCH = {"batch_dims": FANS["batch_dims"]}
GATES = st.one_of(*[st.sampled_from([[4], [8], [4, 3], [0], [20]])] * 6, shapes(0, 3))
VALUE = {"val": (OMITTED, calls.mostly(st.floats(-400, 400), calls.ODD_NUMBERS))}
GROUPS = {"groups": (1, calls.mostly(st.integers(1, 3), [0, -1, 1.0, True, None, "1", 10**400]))}
SPARSITY = {"sparsity": (OMITTED, calls.mostly(st.floats(0, 1), calls.ODD_NUMBERS)), "std": (0.01, scales(-8, 8))}
EVERY = (*calls.FLOATS, *calls.WORDS, *calls.OTHERS)
NONE: Callable[[Arguments, tuple[int, ...]], list[Any]] = lambda x, shape: []  # noqa: E731


def keras_spec(scale: float, mode: str, distribution: str, faults: Any, parameters: Any) -> Spec:
    return Spec({**parameters, **FANS, **SOURCE}, faults, WEIGHT, call_laws.keras_law(scale, mode, distribution))


def torch_spec(law: call_laws.LawOf, faults: Any, parameters: Any) -> Spec:
    return Spec({**parameters, **FANS, **SOURCE}, faults, WEIGHT, law, others=calls.COMPLEX)


def plain_fan_faults(x: Arguments, shape: tuple[int, ...]) -> list[Any]:
    return calls.fan_faults(x, shape, "fan_in")


SPECS = {
    "uniform_": Spec({**INTERVAL, **SOURCE}, calls.uniform_faults, ANY, call_laws.uniform_law, others=calls.COMPLEX),
    "normal_": Spec({**NORMAL, **SOURCE}, calls.normal_faults, ANY, call_laws.normal_law, others=calls.COMPLEX),
    "truncated_normal_": Spec({**NORMAL, **MAYBE, **METHOD, **SOURCE}, calls.truncated_faults, ANY, call_laws.truncated_law),
    "trunc_normal_": Spec({**NORMAL, **ABSOLUTE, **SOURCE}, calls.cut_faults, ANY, call_laws.cut_law),
    "variance_scaling_": Spec({**SCALING, **FANS, **SOURCE}, calls.scaling_faults, WEIGHT, call_laws.scaling_law),
    "glorot_uniform_": keras_spec(1.0, "fan_avg", "uniform", calls.gain_faults, GAIN),
    "glorot_normal_": keras_spec(1.0, "fan_avg", "truncated_normal", calls.gain_faults, GAIN),
    "he_uniform_": keras_spec(2.0, "fan_in", "uniform", plain_fan_faults, {}),
    "he_normal_": keras_spec(2.0, "fan_in", "truncated_normal", plain_fan_faults, {}),
    "lecun_uniform_": keras_spec(1.0, "fan_in", "uniform", plain_fan_faults, {}),
    "lecun_normal_": keras_spec(1.0, "fan_in", "truncated_normal", plain_fan_faults, {}),
    "xavier_uniform_": torch_spec(call_laws.xavier_law("uniform"), calls.torch_gain_faults, GAIN),
    "xavier_normal_": torch_spec(call_laws.xavier_law("untruncated_normal"), calls.torch_gain_faults, GAIN),
    "kaiming_uniform_": torch_spec(call_laws.kaiming_law("uniform"), calls.rectifier_faults, RECTIFIER),
    "kaiming_normal_": torch_spec(call_laws.kaiming_law("untruncated_normal"), calls.rectifier_faults, RECTIFIER),
    "orthogonal_": Spec({**GAIN, **SOURCE, **BATCH}, orthogonal_faults, WEIGHT, None, check_orthogonal, served=orthogonal_served),
    "sparse_": Spec(
        {**SPARSITY, **SOURCE}, sparse_faults, MATRIX, None, check_sparse, served=sparse_served, others=calls.COMPLEX
    ),
    "zeros_": Spec(SOURCE, NONE, ANY, None, lambda v, x, dtype: check_constant(v, {"val": 0}, dtype), EVERY, draws=False),
    "ones_": Spec(SOURCE, NONE, ANY, None, lambda v, x, dtype: check_constant(v, {"val": 1}, dtype), EVERY, draws=False),
    "constant_": Spec(
        {**VALUE, **SOURCE}, constant_faults, ANY, None, check_constant, EVERY, draws=False, served=constant_served
    ),
    "forget_gate_bias_": Spec(
        {"val": (1.0, VALUE["val"][1]), **SOURCE},
        *(gate_faults, GATES, None, check_gates),
        others=calls.COMPLEX,
        draws=False,
        served=constant_served,
    ),
    "eye_": Spec(SOURCE, matrix_faults, MATRIX, None, check_eye, EVERY, draws=False),
    "dirac_": Spec({**GROUPS, **SOURCE}, dirac_faults, KERNEL, None, check_dirac, EVERY, draws=False),
    "bits_": Spec({"key": (OMITTED, SOURCE["key"][1])}, NONE, ANY, None, check_words, WORDS, draws=False),
}

# --- the call -----------------------------------------------------------------------------------------------------------------


@st.composite
def arguments_of(draw, spec: Spec) -> Arguments:
    parameters = spec.parameters.items()
    given = {name: draw(values) for name, (default, values) in parameters if default is OMITTED or draw(st.booleans())}
    if given.get("key") is not None and given.get("generator") is not None and draw(st.integers(0, 3)):
        del given["generator"]  # else most calls would be refused for having both
    return given


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.dtype.is_complex:
        return same(torch.view_as_real(a), torch.view_as_real(b))
    integer = INTEGERS[a.dtype.itemsize]
    return a.shape == b.shape and torch.equal(a.contiguous().view(integer), b.contiguous().view(integer))


def values_of(tensor: torch.Tensor) -> torch.Tensor:
    values, source = torch.empty(tensor.shape, dtype=tensor.dtype), tensor.detach().as_subclass(torch.Tensor)
    if tensor.is_complex():  # torch reads whole complex128 numbers of memory that is aligned alone
        torch.view_as_real(values).copy_(torch.view_as_real(source))
        return values
    return values.copy_(source)


def snapshot(place: Place, generator: Any) -> tuple[bytes, int | None, list[Any]]:
    """The memory, the version, and the state of torch's generator and of the one given."""
    version = None if place.tensor.is_inference() else place.tensor._version
    return bytes(place.buffer), version, [each.get_state().tolist() for each in generators(generator)]


def generators(given: Any) -> list[torch.Generator]:
    other = isinstance(given, torch.Generator) and given is not torch.default_generator
    return [torch.default_generator, given] if other else [torch.default_generator]


def next_draw(generator: torch.Generator) -> tuple[int, list[int]]:
    """What a CPU generator gives as a key, and its state after it; the one given stays where it is."""
    twin = torch.Generator()
    twin.set_state(generator.get_state())
    return int(torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=twin)) % 2**64, twin.get_state().tolist()


def is_named(message: str, values: list[Any]) -> bool:
    """Whether one of the values stands in the message, as it was given or as the double that an integer becomes."""
    doubles = [float(value) for value in values if isinstance(value, int) and calls.is_finite(value)]
    return any(str(value) in message or repr(value) in message for value in [*values, *doubles])


def is_extreme(x: Any) -> bool:
    """Whether a number alone may lead beyond the range of a type, whatever else is at fault."""
    return calls.is_finite(x) and not 1e-30 < abs(x) < 1e30


def has_number(message: str, numbers: list[Any]) -> bool:
    """Whether one of the numbers, or what rounding makes of it, is in the message. 0 and infinity tell nobody what was given."""
    written = [float(word) for word in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", message)]
    telling = [number for number in numbers if calls.is_finite(number) and number]
    return any(math.isclose(a, b, rel_tol=1e-12) for a in written for b in telling)


def check_call(name: str, place: Place, arguments: Arguments) -> str:
    """Calls, checks, and returns "accepted" or the error's name; anything that must not be raises."""
    spec, tensor = SPECS[name], place.tensor
    full = {key: default for key, (default, _) in spec.parameters.items()} | arguments
    full = {key: calls.plain(value) if key in calls.NUMBERS_BY_NAME else value for key, value in full.items()}
    own = spec.faults(full, tuple(tensor.shape))
    law, certain = (None, None) if own or place.faults else promised(spec, full, tensor)
    faults = own + place.faults + calls.source_faults(full, "generator" in full)
    generator = full.get("generator")
    before, (key, state) = snapshot(place, generator), next_draw(generators(generator)[-1])
    try:
        with torch.inference_mode(place.inference):
            returned = getattr(fastinit, name)(tensor, **arguments)
    except (TypeError, ValueError) as error:
        assert snapshot(place, generator) == before, f"refused, and not as it was: {error}"
        numbers = [] if certain else [*arguments.values(), *(law.numbers if law else ())]
        numbers = [number for number in numbers if is_extreme(number) or not own]
        named = faults if faults or law else list(arguments.values())
        if place.faults or (own and spec.served is constant_served):  # what is wrong with the law may be named instead
            named = [*faults, *arguments.values()]
        check_refusal(str(error), place, bool(faults) or not certain, named, numbers)
        return type(error).__name__
    assert not faults and certain is not False, f"a bad call was accepted: {faults or law}"
    assert returned is tensor
    keyed = full.get("key") is not None
    check_effects(place, before, snapshot(place, generator), None if keyed or not spec.draws or tensor.is_meta else state)
    if not tensor.is_meta:
        check_values(name, values_of(tensor), law, {**full, "key": int(full["key"]) if keyed else key})
    return "accepted"


def check_refusal(message: str, place: Place, expected: bool, faults: list[Any], numbers: list[Any]) -> None:
    """Nobody refuses a good call; and the message has the value that is at fault, or a number that it led to."""
    assert expected, f"a good call was refused: {message}"
    assert is_named(message, faults) or has_number(message, numbers), f"the message names nothing that was given: {message}"


def promised(spec: Spec, full: Arguments, tensor: torch.Tensor) -> tuple[Expected | None, bool | None]:
    """The law of a good call, and whether it must be served (True), refused (False), or may be, at the end of a range (None)."""
    try:
        law = spec.law(full, tuple(tensor.shape)) if spec.law else None
    except (OverflowError, ZeroDivisionError):
        return None, None  # a fan or a gain beyond doubles
    if law:
        return call_laws.settled(law), call_laws.can_be_had(law, tensor.dtype)
    return None, spec.served(full, tensor.dtype)


def check_effects(place: Place, before: tuple[Any, ...], after: tuple[Any, ...], drawn: list[int] | None) -> None:
    """One more version, no byte beside the tensor, and one draw where a key was needed."""
    assert place.tensor.is_inference() or after[1] > before[1], "the version stands still"
    old, new = (torch.tensor(list(state[0]), dtype=torch.uint8) for state in (before, after))
    assert torch.equal(old[~place.inside], new[~place.inside]), "a byte beside the tensor has changed"
    states = before[2] if drawn is None else [*before[2][:-1], drawn]
    assert after[2] == states or not place.tensor.numel(), "not one draw"


def check_values(name: str, values: torch.Tensor, law: Expected | None, full: Arguments) -> None:
    """The reference's in contiguous memory, the float32 ones rounded once, and those of the law."""
    spec, dtype, arguments = SPECS[name], values.dtype, {key: value for key, value in full.items() if key != "generator"}
    with fastinit.backend("reference"):
        straight = getattr(fastinit, name)(torch.full(values.shape, 7).to(dtype), **arguments)
    assert same(values, straight), "not the values of a contiguous tensor by the reference backend"
    if law:
        call_laws.check_law(law, values, full["key"])
        if dtype.itemsize < 4 and law.kind != "constant":
            call_laws.check_rounding(law, values, getattr(fastinit, name)(torch.empty(values.shape), **arguments))
    if spec.check:
        spec.check(values, full, dtype)


def explore(name: str, examples: int, seed: int | None = None) -> Counter[str]:
    """Makes so many calls of a function; returns how many were accepted, and refused by which error. Raises at a fault."""
    spec = SPECS[name]
    refused = tuple(dtype for dtype in EVERY if dtype not in (*spec.dtypes, *spec.others))

    def call(place: Place, arguments: Arguments) -> str:
        torch.manual_seed(0)
        return check_call(name, place, arguments)

    return counted(call, examples, seed, calls.places(spec.dtypes, refused, spec.shape), arguments_of(spec))


def counted(call: Callable[..., str], examples: int, seed: int | None, *given: Any) -> Counter[str]:
    """How often a call by so many examples of given strategies had each outcome. Without a seed they are always the same."""
    outcomes: Counter[str] = Counter()

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=seed is None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.tuples(*given))
    def count(arguments: tuple[Any, ...]) -> None:
        outcomes[call(*arguments)] += 1

    (count if seed is None else hypothesis.seed(seed)(count))()
    return outcomes
