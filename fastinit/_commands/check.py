"""`fastinit check`: does this installation keep its promises on this machine? Bitwise, in about a minute at most.

The reference backend is the oracle of values and plain integer arithmetic that of words; every other backend, in every
instruction set that the processor has, must give the same bits, and touch nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch

import fastinit
from fastinit._backends import cpu, reference
from fastinit._backends.choose import module
from fastinit._commands import console, samples
from fastinit._commands.info import accelerators
from fastinit._commands.measure import torch_threads
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.laws import Law
from fastinit._core.plan import Blending, Plan, is_staged, whole
from fastinit._core.recipes import Recipe, real_of, recipe, words_recipe
from fastinit._core.rounding import INTEGERS

_CPU = torch.device("cpu")
_WORD_DTYPES = (torch.int32, torch.int64)
_CANARY = 0xA5  # what memory holds before a fill
SWEPT = 1 << 19  # words for each law, dtype and backend
THREADED = (1 << 20) + 13  # elements: enough for every thread to get some
_SHOWN = 5  # faults a check prints


class Filler(NamedTuple):
    """A backend, in one instruction set where it has several, on a device; `transform` takes and gives CPU tensors."""

    name: str
    fill: Callable[[list[Plan]], None]
    transform: Callable[[Recipe, torch.Tensor], torch.Tensor]
    forced: Callable[[], AbstractContextManager[object]] = nullcontext
    device: torch.device = _CPU
    blend: Callable[[list[Blending]], None] = reference.blend


def run(args: argparse.Namespace) -> int:
    fillers, absent = find_fillers()
    console.say(f"fastinit {fastinit.__version__}, stream version {fastinit.STREAM_VERSION}, torch {torch.__version__}")
    console.say(f"checking {', '.join(filler.name for filler in fillers)}")
    for name, reason in absent.items():
        console.say(f"not checked: {name}: {reason}", indent=4)
    faults = 0
    for title, check in _CHECKS.items():
        print(f"  {title} ... ", end="", flush=True)
        if len(fillers) == 1 and check in _COMPARISONS:
            print("skipped: there is one backend alone")
            continue
        began = time.perf_counter()
        found = list(_guarded(check, fillers))
        print(f"{f'FAULTS: {len(found)}' if found else 'ok'} ({time.perf_counter() - began:.1f} s)")
        for fault in found[:_SHOWN]:
            console.say(f"    FAULT {fault}", indent=6)
        faults += len(found)
    console.say(f"{faults} faults: do not trust fills on this machine; please report the lines above." if faults else "no faults")
    return 1 if faults else 0


def _guarded(check: Callable[[list[Filler]], Iterator[str]], fillers: list[Filler]) -> Iterator[str]:
    """The faults of a check; a failure of whatever kind inside a backend is one."""
    try:
        yield from check(fillers)
    except Exception as error:
        yield f"{type(error).__name__}: {error}"


def find_fillers() -> tuple[list[Filler], dict[str, str]]:
    """What can be checked here, the oracle first; and what cannot, with the reason."""
    found, absent = [Filler("reference", reference.fill, reference.transform)], {}
    reasons = fastinit.backends()
    if reasons["native"]:
        absent["native"] = reasons["native"]
    else:
        for isa, reason in cpu.isas().items():
            if reason:
                absent[f"native ({isa})"] = reason.removeprefix(f"{isa}: ")
            else:
                forced = partial(cpu.forced_isa, isa)
                found.append(Filler(f"native ({isa})", cpu.fill, partial(_transform_by, "native", _CPU), forced, _CPU, cpu.blend))
    devices = accelerators()
    for device in map(torch.device, devices):
        for name, reason in fastinit.backends(device).items():
            title = f"{name} ({device})"
            if reason:
                absent[title] = reason
            elif is_staged(device.type) and name != "triton":
                absent[title] = "it is the CPU's, whose values are copied"
            else:
                backend, transform = module(name, device.type), partial(_transform_by, name, device)
                found.append(Filler(title, backend.fill, transform, device=device, blend=backend.blend))
    if not devices:
        absent["on GPUs"] = "there is none here"
    return found, absent


def _transform_by(name: str, device: torch.device, values: Recipe, words: torch.Tensor) -> torch.Tensor:
    """A backend's map on its device. All but the reference take words in integers of their size."""
    fitting = words if name == "reference" or values.dtype.itemsize == 8 else words.to(torch.int32)
    return module(name, device.type).transform(values, fitting.to(device)).cpu()


def _known_answers(fillers: list[Filler]) -> Iterator[str]:
    """Philox in plain integers against Random123's vectors; then the words of every filler against plain integers."""
    for counter, halves, words in samples.KNOWN_ANSWERS:
        if samples.philox(counter, halves) != words:
            yield f"plain integers: Philox of {counter} with key {halves} is not {words}"
    for filler in fillers:
        for key in samples.KEYS:
            for start in (0, 2**32 - 5, 2**34 - 6):
                indices = range(start, start + 23)
                wanted = {torch.int32: [samples.word(key, i) for i in indices]}
                wanted[torch.int64] = [samples.word(key, i) << 32 | samples.word(key, i, 1) for i in indices]
                yield from _wrong_words(filler, key, start, wanted)


def _wrong_words(filler: Filler, key: int, start: int, wanted: dict[torch.dtype, list[int]]) -> Iterator[str]:
    for dtype, expected in wanted.items():
        out, bits = torch.zeros(len(expected), dtype=dtype, device=filler.device), dtype.itemsize * 8
        with filler.forced():
            filler.fill([Plan(out, words_recipe(dtype), key, whole(out)._replace(start=start))])
        for offset, (got, right) in enumerate(zip(out.tolist(), expected, strict=True)):
            if got % (1 << bits) != right:
                yield f"{filler.name}: word {start + offset} of key {key:#x} is {got % (1 << bits):#x}, not {right:#x}"
                break


def _same_fills(fillers: list[Filler]) -> Iterator[str]:
    """Every law and dtype, in every layout: the bits of the oracle, and no byte beside them."""
    for number, (title, dtype, values) in enumerate(_recipes()):
        for place, layout in samples.LAYOUTS.items():
            key = fastinit.key(number, place)
            expected = _filled(fillers[0], values, key, layout)
            for filler in fillers[1:]:
                memory = _filled(filler, values, key, layout)
                if not torch.equal(raw(memory), raw(expected)):
                    yield f"{filler.name}: {title}, {dtype}, {place}: {_difference(memory, expected)}"


def _same_blends(fillers: list[Filler]) -> Iterator[str]:
    """Every law onto every dtype, onto any bits in memory: the bits of the oracle, and no byte beside them."""
    for number, (title, sample) in enumerate(samples.SAMPLES.items()):
        for dtype in FLOAT_DTYPES:
            for place, layout in list(samples.LAYOUTS.items())[number % 3 :: 3]:
                expected = _blended(fillers[0], sample.law, dtype, layout, number)
                for filler in fillers[1:]:
                    memory = _blended(filler, sample.law, dtype, layout, number)
                    if not torch.equal(raw(memory), raw(expected)):
                        yield f"{filler.name}: {title}, onto {dtype}, {place}: {_difference(memory, expected)}"


def _blended(filler: Filler, law: Law, dtype: torch.dtype, layout: samples.Layout, number: int) -> torch.Tensor:
    size, real = layout.elements * dtype.itemsize, real_of(dtype)
    stirred = torch.arange(size, dtype=torch.int64) * 0x9E3779B9 % 251  # infinite and NaN among them
    memory = stirred.to(torch.uint8).to(filler.device).view(dtype)
    out = layout.view(memory)
    keys = tuple(fastinit.key(number, n) for n in range(1 + number % 3))
    with filler.forced():
        add, keep = (0.75, -3.0, 2.0**-20)[: len(keys)], (1.0, 0.625, 0.0)[number % 3]
        filler.blend([Blending(out, recipe(law, real), keys, layout.box(out), add, keep, out)])
    return memory.cpu()


def _recipes() -> Iterator[tuple[str, torch.dtype, Recipe]]:
    """Every law in every dtype, and the raw words."""
    for title, sample in samples.SAMPLES.items():
        for dtype in FLOAT_DTYPES:
            yield title, dtype, recipe(sample.law, dtype)
    for dtype in _WORD_DTYPES:
        yield "words", dtype, words_recipe(dtype)


def _filled(filler: Filler, values: Recipe, key: int, layout: samples.Layout) -> torch.Tensor:
    size = layout.elements * values.dtype.itemsize
    memory = torch.full((size,), _CANARY, dtype=torch.uint8, device=filler.device).view(values.dtype)
    view = layout.view(memory)
    with filler.forced():
        filler.fill([Plan(view, values, key, layout.box(view))])
    return memory.cpu()


def raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(INTEGERS[tensor.itemsize])


def _difference(got: torch.Tensor, expected: torch.Tensor) -> str:
    """The first of the differing elements, in memory order, as bits."""
    a, b, mask = raw(got), raw(expected), (1 << 8 * got.itemsize) - 1
    at = (a != b).nonzero().flatten()
    first = int(at[0])
    return f"{len(at)} of {len(a)} differ, the first at {first}: {int(a[first]) & mask:#x}, not {int(b[first]) & mask:#x}"


def _same_transforms(fillers: list[Filler]) -> Iterator[str]:
    """Words to values, over a sweep that includes the ends and the cells' borders."""
    for title, dtype, values in _recipes():
        words = samples.swept_words(64 if values.real is torch.float64 else 32, SWEPT)
        expected = fillers[0].transform(values, words)
        for filler in fillers[1:]:
            with filler.forced():
                got = filler.transform(values, words)
            if not torch.equal(raw(got), raw(expected)):
                yield f"{filler.name}: {title}, {dtype}, swept words: {_difference(got, expected)}"


def _exact_bounds(fillers: list[Filler]) -> Iterator[str]:
    """Nothing outside [a, b], the outermost values reached, and word -> ~word negates symmetric values exactly."""
    for title, sample in samples.SAMPLES.items():
        for dtype in FLOAT_DTYPES:
            values = recipe(sample.law, dtype)
            words = samples.swept_words(64 if values.real is torch.float64 else 32, SWEPT)
            for filler in fillers:
                with filler.forced():
                    got = filler.transform(values, words)
                for fault in _faults_of(sample, got):
                    yield f"{filler.name}: {title}, {dtype}: {fault}"


def _faults_of(sample: samples.Sample, got: torch.Tensor) -> Iterator[str]:
    values = got.double()
    name, parameters = sample.law
    if name != "normal":
        a, b = parameters[-2:]
        least, greatest = values.min().item(), values.max().item()
        if not (a <= least and greatest <= b):
            yield f"values in [{least!r}, {greatest!r}] leave the bounds [{a}, {b}]"
        if sample.reaches and _next_beyond(got[values.argmax()]) <= b:
            yield f"the greatest value is {greatest!r}, though a greater one lies within {b}"
    if not values.isfinite().all():
        yield "not all values are finite"
    first, complement = values.chunk(2)
    if sample.symmetric and not torch.equal(first, -complement):
        yield "a word and its complement do not give opposite values"


def _next_beyond(value: torch.Tensor) -> float:
    """The dtype's next value away from 0: floats are sign and magnitude."""
    return (raw(value) + 1).view(value.dtype).item()


def _thread_counts(fillers: list[Filler]) -> Iterator[str]:
    """One thread, two, three and five: the same bits."""
    values = recipe(samples.SAMPLES["truncated normal at 2 sigmas"].law, torch.bfloat16)
    for filler in (filler for filler in fillers[1:] if filler.device == _CPU):
        results = {}
        for threads in (1, 2, 3, 5):
            out = torch.zeros(THREADED, dtype=torch.bfloat16)
            with torch_threads(threads), filler.forced():
                filler.fill([Plan(out, values, 7, whole(out))])
            results[threads] = out
        for threads, out in results.items():
            if not torch.equal(raw(out), raw(results[1])):
                yield f"{filler.name}: {threads} threads instead of one: {_difference(out, results[1])}"


_CHECKS: dict[str, Callable[[list[Filler]], Iterator[str]]] = {
    "known answers of Philox": _known_answers,
    "all backends give the same fills": _same_fills,
    "all backends blend noise into tensors alike": _same_blends,
    "all backends map words to the same values": _same_transforms,
    "exact bounds and exact symmetry": _exact_bounds,
    "any number of threads gives the same fill": _thread_counts,
}
_COMPARISONS = (_same_fills, _same_blends, _same_transforms, _thread_counts)  # of the oracle with the others
