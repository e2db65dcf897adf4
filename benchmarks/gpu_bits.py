"""What `fastinit check` does not cover on a GPU: sizes beyond 2^31, lists, shards, blends, streams and graphs.

`python -m benchmarks.gpu` runs each group in a process of its own: what one breaks on the device, the others do not see. By hand:
`python -m benchmarks.gpu_bits BACKEND DEVICE HUGE GROUP ...`, with the elements of the largest tensor.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from fastinit._backends import reference
from fastinit._backends.choose import module
from fastinit._commands.check import raw
from fastinit._core.check import FLOAT_DTYPES
from fastinit._core.laws import normal, truncated_normal, uniform
from fastinit._core.plan import Blending, Box, Plan, whole
from fastinit._core.recipes import real_of, recipe

LAW = truncated_normal(0.0, 1.0, -2.0, 2.0)
HALF_NORMAL = truncated_normal(0.0, 1.0, 0.0, math.inf)
LAWS = {"uniform": uniform(-1.0, 1.0), "2 sigmas": LAW, "normal": normal(0.0, 1.0), "half-normal": HALF_NORMAL}
OTHER = {"native": "triton", "triton": "native"}
SHAPES = [(7,), (10, 130), (333,), (64, 3, 7, 7), (64,), (32, 100), (8192,)]


def large(name: str, device: torch.device, elements: int) -> Tensor:
    """The bits of one large fill."""
    out = torch.empty(elements, dtype=torch.bfloat16, device=device)
    module(name, device.type).fill([Plan(out, recipe(LAW, out.dtype), 5, whole(out))])
    return raw(out)


def expected(plan: Plan) -> Tensor:
    """What the reference fills the plan's tensor with, on the CPU."""
    out = torch.empty(plan.out.shape, dtype=plan.out.dtype, device="cpu")
    reference.fill([plan._replace(out=out)])
    return out


def differs(plan: Plan) -> bool:
    return not torch.equal(raw(plan.out.cpu()), raw(expected(plan)))


def each_other(name: str, device: torch.device, elements: int) -> Iterator[str]:
    """Every element of a large fill, beside the other backend's."""
    if not torch.equal(large(name, device, elements // 8), large(OTHER[name], device, elements // 8)):
        yield f"{name}: {elements // 8} elements differ from {OTHER[name]}'s"


def beyond_32_bits(name: str, device: torch.device, elements: int) -> Iterator[str]:
    got, span = large(name, device, elements).view(torch.bfloat16), min(4099, elements)
    for start in sorted({0, elements // 2, min(2**31 - 99, elements - span), elements - span}):
        piece = got[start : start + span]
        if differs(Plan(piece, recipe(LAW, piece.dtype), 5, Box(start, 1, span, span))):
            yield f"{name}: {elements} elements differ from the reference from element {start} on"


def lists(name: str, device: torch.device) -> Iterator[str]:
    """Several laws and dtypes in one call, aligned and not."""
    plans, few = [], device.type == "cpu"  # a dry run: Triton is interpreted
    cases = itertools.product(FLOAT_DTYPES[:2] if few else FLOAT_DTYPES, SHAPES[1:2] if few else SHAPES, LAWS.values())
    for key, (dtype, shape, law) in enumerate(cases):
        out, n = torch.zeros(shape, dtype=dtype, device=device), math.prod(shape)
        odd = torch.zeros(shape, dtype=dtype, device=device)
        odd = odd.t() if odd.ndim == 2 else odd[1:]
        plans.append(Plan(out, recipe(law, dtype), key, Box(4 * key, 1, n, n)))
        plans.append(Plan(odd, recipe(law, dtype), key, whole(odd)))
    module(name, device.type).fill(plans)
    for plan in plans:
        if differs(plan):
            yield f"{name}: a list of plans: {tuple(plan.out.shape)}, strides {plan.out.stride()}, {plan.out.dtype} differs"


def shards(name: str, device: torch.device) -> Iterator[str]:
    """Shards of a matrix, by rows and by columns, even and uneven: each must hold the elements of the whole."""
    few = device.type == "cpu"  # a dry run
    rows, cols = (20, 48) if few else (1000, 2064)
    cuts = ((0, 3), (1, 2)) if few else ((0, 7), (0, 8), (1, 2), (1, 3), (1, 5))
    for dtype in (torch.float32, torch.bfloat16, torch.float64)[: 2 if few else 3]:
        values, matrix = recipe(LAW, dtype), torch.empty(rows, cols, dtype=dtype, device=device)
        module(name, device.type).fill([Plan(matrix, values, 9, whole(matrix))])
        for axis, parts in cuts:
            begin = 0
            for part in matrix.tensor_split(parts, axis):
                out, (height, width) = torch.empty(part.shape, dtype=dtype, device=device), part.shape
                box = Box(begin * cols, 1, out.numel(), out.numel()) if axis == 0 else Box(begin, height, width, cols)
                module(name, device.type).fill([Plan(out, values, 9, box)])
                if not torch.equal(raw(out), raw(part)):
                    yield f"{name}: a shard of {tuple(part.shape)} from {begin} on along axis {axis} in {dtype} differs"
                begin += part.shape[axis]


def blends(name: str, device: torch.device) -> Iterator[str]:
    """One list onto any bits, NaN among them, of every law and dtype: aligned and not, in place and from another tensor."""
    given, few = [], device.type == "cpu"  # a dry run: Triton is interpreted
    laws = [LAW, HALF_NORMAL] if few else list(LAWS.values())
    cases = itertools.product(FLOAT_DTYPES[:2] if few else FLOAT_DTYPES, SHAPES[1:2] if few else SHAPES, laws)
    counts, keeps = (1, 2) if few else (1, 2, 40, 300), (1.0, 0.625, 0.0, -2.0)
    for number, (dtype, shape, law) in enumerate(cases):
        whole_one, odd = (any_bits(shape, dtype, device, 2 * number + i) for i in range(2))
        for i, out in enumerate((whole_one, odd.t() if odd.ndim == 2 else odd[1:])):
            source = out if number % 3 else any_bits(out.shape, dtype, device, 7)
            count, n = counts[(number + i) % len(counts)], out.numel()
            keys, add = tuple(range(number, number + count)), tuple(0.75 * (-1) ** m for m in range(count))
            values, box = recipe(law, real_of(dtype)), Box(4 * number, 1, n, n)
            given.append(Blending(out, values, keys, box, add, keeps[number % len(keeps)], source))
    expected = [blended(each) for each in given]
    module(name, device.type).blend(given)
    for each, right in zip(given, expected, strict=True):
        if not torch.equal(raw(each.out.cpu()), raw(right)):
            what = f"{tuple(each.out.shape)}, strides {each.out.stride()}, {each.out.dtype}, {len(each.keys)} keys"
            yield f"{name}: a list of blends: {what} differs"


def any_bits(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    made = torch.randint(0, 256, (math.prod(shape) * dtype.itemsize,), dtype=torch.uint8, generator=generator)
    return made.view(dtype).view(shape).to(device)


def blended(given: Blending) -> Tensor:
    """What the reference makes of a copy, on the CPU."""
    out = given.out.cpu().clone()
    source = out if given.source is given.out else given.source.cpu()
    reference.blend([given._replace(out=out, source=source)])
    return out


def large_blends(name: str, device: torch.device, elements: int) -> Iterator[str]:
    """Onto more than 2^31 elements."""
    out, span = torch.empty(elements, dtype=torch.bfloat16, device=device).fill_(0.5), min(4099, elements)
    one = Blending(out, recipe(LAW, torch.float32), (5, 6), whole(out), (1.0, -0.5), 0.75, out)
    module(name, device.type).blend([one])
    for start in sorted({0, elements // 2, min(2**31 - 99, elements - span), elements - span}):
        before = torch.full((span,), 0.5, dtype=out.dtype)
        right = blended(one._replace(out=before, source=before, box=Box(start, 1, span, span)))
        if not torch.equal(raw(out[start : start + span].cpu()), raw(right)):
            yield f"{name}: a blend onto {elements} elements differs from the reference from element {start} on"


def captured_blends(name: str, device: torch.device) -> Iterator[str]:
    """A blend that is captured and replayed twice adds twice. Triton's are not captured."""
    if name == "triton":
        return
    out, other = torch.zeros(5001, device=device), torch.zeros(77, dtype=torch.bfloat16, device=device)
    given = [Blending(each, recipe(LAW, torch.float32), (5, 6), whole(each), (1.0, -0.5), 0.75, each) for each in (out, other)]
    expected = [blended(each._replace(out=first, source=first)) for each in given for first in [blended(each)]]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(name, device.type).blend(given)
    for _ in range(2):
        graph.replay()
    for each, right in zip(given, expected, strict=True):
        if not torch.equal(each.out.cpu(), right):
            yield f"{name}: a captured blend onto {each.out.dtype} replays another sum"


def streams_and_graphs(name: str, device: torch.device) -> Iterator[str]:
    """A fill on a stream of its own, behind work that takes a while; fills that are captured and replayed."""
    fill, out = module(name, device.type).fill, torch.zeros(1 << 20, device=device)
    plan = Plan(out, recipe(LAW, out.dtype), 11, whole(out))
    right = expected(plan)
    with torch.cuda.stream(torch.cuda.Stream(device)):
        torch.cuda._sleep(10_000_000)
        out.fill_(1.0)
        fill([plan])
        got = out.cpu()
    if not torch.equal(got, right):
        yield f"{name}: a fill on a stream of its own is not in the stream's order"
    torch.cuda.synchronize(device)
    graph, other = torch.cuda.CUDAGraph(), torch.zeros_like(out)
    with torch.cuda.graph(graph):
        fill([plan._replace(key=1)])
        fill([plan, plan._replace(out=other)])
    for _ in range(2):
        out.zero_()
        graph.replay()
        if not (torch.equal(out.cpu(), right) and torch.equal(other.cpu(), right)):
            yield f"{name}: a captured fill replays other values"


def small(name: str, device: torch.device) -> Iterator[str]:
    """Run every kernel, on little memory."""
    yield from lists(name, device)
    yield from blends(name, device)
    for (title, law), dtype in itertools.product(LAWS.items(), FLOAT_DTYPES):
        for n, box in ((9001, None), (1000, Box(3, 100, 10, 77)), (3 * 2048, Box(8, 3, 2048, 10_000))):
            out = torch.zeros(n, dtype=dtype, device=device)
            plan = Plan(out, recipe(law, dtype), 3, box or whole(out))
            module(name, device.type).fill([plan])
            if differs(plan):
                yield f"{name}: {title} in {dtype}, box {plan.box}"
    words = torch.arange(-5000, 5000, dtype=torch.int32, device=device)
    for law in LAWS.values():
        values = recipe(law, torch.bfloat16)
        got, right = module(name, device.type).transform(values, words).cpu(), reference.transform(values, words.cpu().long())
        if not torch.equal(raw(got), raw(right)):
            yield f"{name}: given words"


def groups(name: str, device: torch.device, huge: int) -> dict[str, Callable[[], Iterator[str]]]:
    """What a backend is checked for, by names."""
    found: dict[str, Callable[[], Iterator[str]]] = {
        "every-kernel": partial(small, name, device),
        "beyond-32-bits": partial(beyond_32_bits, name, device, huge),
        "shards": partial(shards, name, device),
        "large-blends": partial(large_blends, name, device, huge),
    }
    if device.type == "cuda":
        found["streams"] = partial(streams_and_graphs, name, device)
        found["captured-blends"] = partial(captured_blends, name, device)
    return found | {"each-other": partial(each_other, name, device, huge)}


def main() -> int:
    name, device, huge, *chosen = sys.argv[1:]
    known = groups(name, torch.device(device), int(huge))
    found = [f"{group}: {fault}" for group in chosen for fault in known[group]()]
    print(*found, f"{len(found)} faults", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
