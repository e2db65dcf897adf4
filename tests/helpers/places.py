"""Where tests fill on GPUs: boxes, memory layouts; and what must come out."""

import torch
from helpers.laws import KEY, LAWS, same_bits

from fastinit._backends import reference
from fastinit._core import laws
from fastinit._core.plan import Box, Plan, whole
from fastinit._core.recipes import recipe, words_recipe

WORDS = (torch.int32, torch.uint32, torch.int64, torch.uint64)
BLOCKED = [Box(8, 7, 16, 40), Box(0, 64, 4, 12), Box(2**34 + 4, 3, 1000, 1004), Box(4, 4, 8, 0), Box(0, 300, 20, 100)]
UNBLOCKED = [Box(11, 7, 13, 40), Box(3, 64, 1, 3), Box(8, 5, 6, 8), Box(8, 5, 8, 9), Box(2**33, 4, 8, 2**31 + 9)]
VIEWS = {
    "transposed": lambda t: t.t(),
    "strided": lambda t: t[::3, 1::2],
    "column": lambda t: t[:, 5],
    "channels last": lambda t: t.reshape(8, 5, 5, -1).permute(0, 3, 1, 2),
    "gaps": lambda t: t.as_strided((3, 2, 4, 5), (1000, 100, 3, 20)),
    "six axes": lambda t: t.as_strided((2, 2, 2, 2, 2, 3), (3000, 1000, 300, 100, 3, 20)),
    "unaligned": lambda t: t.reshape(-1)[1:4000],
    "scalar": lambda t: t.reshape(-1)[3:4].reshape(()),
}


def constants(law, dtype):
    return recipe(law, dtype) if dtype.is_floating_point else words_recipe(dtype)


def expected(plan: Plan) -> torch.Tensor:
    out = torch.empty(plan.out.shape, dtype=plan.out.dtype)
    reference.fill([plan._replace(out=out)])
    return out


def swept(bits: int) -> torch.Tensor:
    """Words from end to end, and those beside 0 and the ends."""
    step = 2**bits // 3000
    words = [-(2 ** (bits - 1)) + i * step for i in range(3000)] + [0, -1, 1, -2, 2 ** (bits - 1) - 1]
    return torch.tensor(words).to(torch.int64 if bits == 64 else torch.int32)


def check_given_words(backend, dtype: torch.dtype, device: torch.device) -> None:
    """Every law's values of swept words, beside the reference's."""
    words = swept(64 if dtype is torch.float64 else 32)
    for law in LAWS.values():
        values = recipe(law, dtype)
        assert same_bits(backend.transform(values, words.to(device)).cpu(), reference.transform(values, words.long()))


def check(backend, *plans: Plan) -> None:
    """Fills the list, and compares each tensor with the reference on the CPU."""
    backend.fill(list(plans))
    for plan in plans:
        assert same_bits(plan.out.cpu(), expected(plan)), (plan.recipe.kind, plan.out.dtype, plan.out.shape, plan.box)


def check_constants(backend, dtype: torch.dtype, device: torch.device, lengths=(3, 4500)) -> None:
    """Batched among random fills: the bits of fill_."""
    for value in (0.0, -1 / 3, float(torch.finfo(dtype).max)):
        outs = [torch.full((n,), 7.0).to(dtype).to(device) for n in lengths]
        backend.fill([Plan(out, recipe(laws.constant(value), dtype), KEY, whole(out)) for out in outs])
        assert all(same_bits(out.cpu(), torch.empty(len(out), dtype=dtype).fill_(value)) for out in outs), value


def check_streams_and_graphs(backend, plan: Plan, *before: Plan) -> None:
    """On a stream of its own; captured, behind other fills, and replayed: the same values, as keys are captured too."""
    with torch.cuda.stream(torch.cuda.Stream()):
        check(backend, plan)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        backend.fill([*before, plan])
        backend.fill([plan._replace(key=1), plan])
    for _ in range(2):
        plan.out.zero_()
        graph.replay()
        assert same_bits(plan.out.cpu(), expected(plan))
