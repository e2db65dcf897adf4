"""What a block of `accelerate` says of itself: served, left to torch and why, and which parameters hold what torch drew."""

import asyncio
import json
import threading
import warnings

import pytest
import torch
from helpers.serving import CALLS, CAPTURED, MODULE, expected, parameter
from torch import nn
from torch._subclasses import FakeTensorMode

from fastinit._accelerate import accelerate

pytestmark = pytest.mark.usefixtures("nothing_of_accelerate_stays")


class Made(nn.Module):
    """A module whose constructor is given: `make(self)` sets its `w`."""

    def __init__(self, make):
        super().__init__()
        made = make(self)
        if made is not None:
            self.w = made


def lefts(block):
    return [(left.function, left.shape, left.calls) for left in block.report.left]


# --- counts -------------------------------------------------------------------------------------------------------------------


def test_what_was_served_by_function():
    with accelerate(seed=0) as block:
        nn.Linear(8, 4)
        nn.Linear(8, 4)
        parameter(3, 5).data.normal_()
        first = block.report
        nn.init.orthogonal_(parameter(4, 4))
    assert first.served == (("kaiming_uniform_", 2, 64), ("uniform_", 2, 8), ("normal_", 1, 15))
    assert block.report.served == (*first.served, ("orthogonal_", 1, 16)) and block.report.left == () == first.left


def test_the_report_is_of_the_block_that_this_with_opened():
    maker = accelerate(seed=0)
    with pytest.raises(RuntimeError, match="as block"):
        _ = maker.report
    with maker as outer:
        nn.Linear(8, 4)
        with maker as inner:
            nn.Embedding(3, 2)
        nn.Linear(8, 4)
        assert maker.report == inner.report
    nn.init.normal_(parameter())
    assert [each.calls for each in outer.report.served] == [2, 2]
    assert [each.function for each in inner.report.served] == ["normal_"]
    third = outer.__enter__()  # what `with` gives opens, closes and decorates too
    third.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="not open"):
        outer.__exit__(None, None, None)
    assert torch.equal(outer(lambda: nn.Embedding(12, 8).weight)(), expected("normal_", 0, 0, mean=0.0))


def test_reports_of_threads_and_tasks_are_their_own():
    maker, reports = accelerate(), {}
    both = threading.Barrier(2, timeout=10)

    def work(n):
        with maker as block:
            made = []
            both.wait()
            for _ in range(n):
                nn.Embedding(3, 2)
                made.append(Made(lambda _: nn.Parameter(torch.randn(n))))
            both.wait()
        reports[n] = block.report

    async def task(n):
        with maker as block:
            for _ in range(n):
                await asyncio.sleep(0)
                nn.Embedding(3, 2)
        return block.report.served[0].calls

    async def tasks():
        return await asyncio.gather(task(2), task(5))

    threads = [threading.Thread(target=work, args=(n,)) for n in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: (report.served[0].calls, report.left[0].calls) for n, report in reports.items()} == {2: (2, 2), 3: (3, 3)}
    assert all(report.left[0].shape == (n,) and report.parameters == ["Made.w"] for n, report in reports.items())
    assert asyncio.run(tasks()) == [2, 5]


def test_columns_and_json():
    with accelerate(seed=3) as block, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.Linear(8, 4)
        made = Made(lambda _: nn.Parameter(torch.randn(2, 3) * 0.02))
        torch.rand(())
    text, data = str(block.report), json.loads(block.report.json())
    assert text.splitlines()[-1] == "seed 3: 2 calls served, 2 left"
    assert "torch.randn" in text and "2x3" in text and "Now in Made.w." in text and "scalar" in text and made.w is not None
    assert data["seed"] == 3 and data["served"][0] == {"function": "kaiming_uniform_", "calls": 1, "elements": 32}
    assert data["left"][0]["parameters"] == ["Made.w"] and data["left"][1]["shape"] == []
    assert "\n" not in block.report.json(indent=None)


LEFT = {
    "refused": (lambda: nn.init.uniform_(torch.ones(4, 4).as_strided((3, 4), (2, 1))), "torch.nn.init.uniform_", "share memory"),
    "no values": (
        lambda: nn.init.orthogonal_(nn.Parameter(torch.empty(3, 4, device="meta"))),
        "torch.nn.init.orthogonal_",
        "no v",
    ),
    "randn": (lambda: torch.randn(3, 4), "torch.randn", "no parameter"),
    "rand_like": (lambda: torch.rand_like(torch.empty(3, 4)), "torch.rand_like", "no parameter"),
    "normal": (lambda: torch.normal(0.0, 1.0, (3, 4)), "torch.normal", "no parameter"),
    "method": (lambda: torch.empty(3, 4).normal_(), "torch.Tensor.normal_", "no parameter"),
    "exponential": (lambda: parameter(3, 4).data.exponential_(), "torch.Tensor.exponential_", "this method"),
    "generator": (lambda: torch.randn(3, 4, generator=torch.Generator()), "torch.randn", "generator"),
}


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("case", LEFT)
def test_what_was_left_and_why(case, seed):
    make, function, reason = LEFT[case]
    with accelerate(seed=seed) as block, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = make()
        make()
    (left,) = block.report.left
    assert left[:3] == (function, (3, 4), "float32") and reason in left.reason and left.calls == 2 and left.elements == 24
    assert tensor.shape == (3, 4) and block.report.served == ()


def test_what_is_loaded_is_counted_apart_and_errors_are_not():
    loaded = parameter()
    loaded._is_hf_initialized = True
    with accelerate(seed=0) as block:
        nn.init.xavier_normal_(loaded)
        with pytest.raises(ValueError):
            nn.init.xavier_normal_(parameter(3))
    assert [(left.function, left.shape) for left in block.report.left] == [("torch.nn.init.xavier_normal_", (12, 8))]
    assert "loaded" in block.report.left[0].reason


# --- parameters that hold what torch drew -----------------------------------------------------------------------------------


def written(write):
    def make(module):
        module.w = nn.Parameter(torch.zeros(3, 4))
        with torch.no_grad():
            write(module.w)

    return make


def by_captured_orthogonal(module):
    module.w = CAPTURED["orthogonal_"](nn.Parameter(torch.empty(3, 4)))


HELD = {
    "itself": lambda _: nn.Parameter(torch.randn(3, 4)),
    "scaled": lambda _: nn.Parameter(torch.randn(3, 4) * 0.02),
    "computed": lambda _: nn.Parameter(torch.stack([2.0 * torch.rand(4).sub_(0.5) for _ in range(3)]).exp().clone()),
    "out of a tuple": lambda _: nn.Parameter(torch.linalg.qr(torch.randn(4, 3))[0].T),
    "method": lambda _: nn.Parameter(torch.empty(3, 4).normal_(0, 0.02)),
    "part of a tensor": lambda _: nn.Parameter(torch.zeros(3, 4).index_copy_(0, torch.tensor([1]), torch.rand(1, 4))),
    "set": written(lambda w: setattr(w, "data", torch.randn(3, 4))),
    "copied": written(lambda w: w.copy_(torch.randn(3, 4))),
    "copied to data": written(lambda w: w.data.copy_(torch.randn(3, 4))),
    "in part": written(lambda w: w[1].copy_(torch.randn(4))),
    "overwritten in part": lambda _: (p := nn.Parameter(torch.randn(3, 4)), p.data[0].normal_(), p.data[1].zero_())[0],
    "by an index": written(lambda w: w.__setitem__((0, 1), torch.rand(()))),
    "by a whole slice": written(lambda w: w.__setitem__(slice(None), torch.rand(()))),
    "added": written(lambda w: w.add_(torch.rand(3, 4))),
    "added at once": written(lambda w: torch._foreach_add_([w], [torch.rand(3, 4)])),
    "as out": written(lambda w: torch.mul(torch.rand(3, 4), 2, out=w)),
    "log_normal_": written(lambda w: w.log_normal_()),
    "captured orthogonal_": by_captured_orthogonal,
    "moved": lambda module: written(lambda w: w.copy_(torch.rand(3, 4)))(module) or (module.double() and None),
}
NOT_HELD = {
    "noise apart": lambda _: (torch.randn(3), nn.Parameter(torch.zeros(3, 4)))[1],
    "its shape": lambda _: nn.Parameter(torch.zeros_like(torch.randn(3, 4))),
    "filled after it": lambda _: nn.init.normal_(nn.Parameter(torch.randn(3, 4))),
    "filled through data": lambda _: (p := nn.Parameter(torch.randn(3, 4)), p.data.uniform_())[0],
    "zeroed after it": lambda _: nn.init.zeros_(nn.Parameter(torch.randn(3, 4))),
    "copied over": written(lambda w: w.copy_(torch.randn(3, 4)).copy_(torch.ones(3, 4))),
    "set over": written(lambda w: w.copy_(torch.randn(3, 4)).__setitem__(..., 1.0)),
    "replaced": written(lambda w: (w.copy_(torch.randn(3, 4)), setattr(w, "data", torch.ones(3, 4)))),
    "gradient": written(lambda w: setattr(w, "grad", torch.randn(3, 4))),
    "gone": lambda _: (nn.Parameter(torch.randn(3, 4)), None)[1],
}


@pytest.mark.parametrize("case", HELD)
def test_parameters_that_hold_a_draw_are_named_and_warned_of(case):
    with pytest.warns(UserWarning, match="torch drew the values") as caught, accelerate(seed=0) as block:
        model = Made(HELD[case])
    (text,) = [str(each.message) for each in caught]
    assert caught[0].filename == __file__ and "did not decide" in text and block.report.parameters[0] in text
    assert block.report.parameters in (["Made.w"], ["a parameter of shape (3, 4)"]) and model.w is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with accelerate() as block:  # torch.manual_seed is to decide, and does
            model = Made(HELD[case])
    assert block.report.parameters


@pytest.mark.parametrize("case", NOT_HELD)
def test_parameters_that_hold_none_are_not(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with accelerate(seed=0) as block:
            model = Made(NOT_HELD[case])
    assert block.report.parameters == [] and block.report.left and model is not None


def test_a_generator_decides_and_no_warning_is():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with accelerate(seed=0) as block:
            model = Made(lambda _: nn.Parameter(torch.randn(3, 4, generator=torch.Generator())))
    assert block.report.parameters == ["Made.w"] and model is not None


def test_a_decorated_function_warns_and_an_exception_does_not():
    build = accelerate(seed=0)(lambda: Made(HELD["scaled"]))
    with pytest.warns(UserWarning, match=r"Made\.w: torch drew") as caught:
        build()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError), accelerate(seed=0):
            kept = Made(HELD["scaled"])
            raise KeyError(kept)


def test_parameters_of_another_thread_are_not_named():
    with accelerate() as block:
        noise = torch.randn(3, 4)
        thread = threading.Thread(target=lambda: Made(lambda _: nn.Parameter(noise)))
        thread.start()
        thread.join()
    assert block.report.parameters == [] and len(block.report.left) == 1


def test_nothing_is_followed_without_a_draw_and_nothing_is_kept():
    """No hook of torch, no storage: neither before a draw, nor of tensors that are gone, nor after the block."""
    hooks = nn.modules.module._global_parameter_registration_hooks
    with accelerate() as block:
        nn.Linear(3, 3)
        draws = MODULE.thread.router.draws
        assert not hooks and not draws.holders
        for _ in range(1000):
            torch.randn(2) * 3
        assert hooks and len(draws.holders) < 200
        for _ in range(64):
            torch.empty(3) * 2
        assert not draws.holders  # and nothing is followed now
    assert not hooks and not draws.holders and lefts(block) == [("torch.randn", (2,), 1000)]


def test_tensors_of_all_kinds_can_be_followed():
    """Those without a storage of their own, and what traces calls, raise nothing and warn of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        with accelerate(seed=0) as block:
            noise = torch.randn(4, 3)
            torch.func.vmap(lambda x: torch.randn_like(x) + 2 * x, randomness="different")(noise)
            torch.func.grad(lambda x: (x * x).sum())(noise)
            assert (noise.to_sparse() * 2).is_sparse
            torch.jit.trace(lambda x: 2 * x, noise)
            with torch.inference_mode():
                assert (noise * 2).is_inference()
            with FakeTensorMode():
                torch.randn(3) + 1
            layer = nn.Linear(3, 3)
            layer(noise).sum().backward()
            torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9).step()
    assert block.report.parameters == [] and [left.function for left in block.report.left] == ["torch.randn", "torch.randn_like"]


def test_a_block_that_another_thread_closes_leaves_no_hook():
    one = accelerate()
    one.__enter__()
    torch.randn(3)
    thread = threading.Thread(target=lambda: one.__exit__(None, None, None))
    thread.start()
    thread.join()
    assert not nn.modules.module._global_parameter_registration_hooks
    with accelerate():  # its router leaves this thread
        pass


def test_the_values_of_what_is_left_are_torch_s():
    def make():
        torch.manual_seed(1)
        return [torch.randn(3), torch.empty(3).exponential_(), torch.bernoulli(torch.full((9,), 0.5)), torch.randperm(5)]

    theirs = make()
    with accelerate(seed=0):
        ours = make()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_calls_of_all_functions_are_counted_once():
    with accelerate(seed=0) as block:
        for name, options in CALLS.items():
            getattr(nn.init, name)(parameter(), **options)
    assert {each.function: (each.calls, each.elements) for each in block.report.served} == dict.fromkeys(CALLS, (1, 96))
    assert block.report.left == ()
