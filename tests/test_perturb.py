"""`perturb_`: the noise of initialize_'s keys on whole models, in one call; ties, shards, padding, snapshots, refusals."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import fastinit
from fastinit._backends import cpu

NORMAL = fastinit.normal_


class Net(nn.Module):
    """Tied embeddings with a padding row, a frozen table, batch norm's buffers, attention."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=4, dtype=dtype)
        self.attention = nn.MultiheadAttention(6, 2, dtype=dtype)
        self.norm = nn.BatchNorm1d(6, dtype=dtype)
        self.table = nn.Parameter(torch.ones(3, dtype=dtype), requires_grad=False)
        self.head = nn.Linear(6, 11, bias=False, dtype=dtype)
        self.head.weight = self.embedding.weight


def snapshot(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(*(each[name].flatten().view(torch.uint8) for each in (a, b))) for name in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("seed", [3, [3, -1, 1 << 80]])
def test_each_parameter_gets_the_noise_of_its_key(dtype, seed):
    torch.manual_seed(0)
    model = Net(dtype)
    expected = snapshot(model)
    seeds = seed if isinstance(seed, list) else [seed]
    add = [0.5, -0.25, 0.125][: len(seeds)]
    for name in dict(model.named_parameters()):
        if name != "table":
            drawn = [fastinit.key(each, name) for each in seeds]
            fastinit.blend_(expected[name], partial(NORMAL, std=0.1), key=drawn, add=add, keep=0.75)
    expected["embedding.weight"][4] = model.embedding.weight.detach()[4] * 0.75
    expected["head.weight"] = expected["embedding.weight"]
    given = {"seed": seed, "add": add if isinstance(seed, list) else add[0]}
    versions = [parameter._version for parameter in model.parameters()]
    report = fastinit.perturb_(model, partial(NORMAL, std=0.1), keep=0.75, **given)
    assert same(snapshot(model), expected)
    assert [p._version > v for p, v in zip(model.parameters(), versions, strict=True)] == [
        name != "table" for name, _ in model.named_parameters()
    ]
    keys = tuple(fastinit.key(each, "attention.in_proj_weight") for each in seeds)
    assert report["attention.in_proj_weight"].key == (keys if len(keys) > 1 else keys[0])
    assert report.seed == (tuple(seeds) if len(seeds) > 1 else seeds[0])
    assert report.tied == ["head.weight"] and report.frozen == ["table"] and not report.missed
    assert report["embedding.weight"].initializer == "normal_(std=0.1), row 4 zero"
    assert set(report.left) == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


def test_the_noise_is_what_initialize_fills():
    """A rule that initialize_ knows, on zeros: keep 0 needs no values, and a zero may have another sign."""
    scheme = fastinit.keras_like.override({nn.MultiheadAttention: {"out_proj.bias": fastinit.ones_}})
    filled, blended = Net(), Net()
    filled.table.requires_grad_(True)
    scheme = scheme.override({"table": fastinit.uniform_})
    fastinit.initialize_(filled, scheme, seed=7, overwrite_constants=True)
    for parameter in blended.parameters():
        parameter.data.fill_(float("nan"))
    blended.table.data.zero_()
    report = fastinit.perturb_(blended, scheme, seed=7, add=1.0, keep=0.0)
    assert report["table"].state == "filled" and not blended.table.requires_grad, "its full name asks for it"
    for (name, new), old in zip(blended.named_parameters(), filled.parameters(), strict=True):
        assert torch.equal(new, old), name


def test_one_call_of_the_backend(monkeypatch):
    calls = []
    monkeypatch.setattr(cpu, "blend", lambda blendings: calls.append(len(blendings)))
    with fastinit.backend("native"):
        fastinit.perturb_(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), NORMAL, seed=0, add=1.0)
    assert calls == [4]


def test_added_and_taken_from_a_snapshot_it_never_drifts():
    model = Net(torch.bfloat16)
    before = snapshot(model)
    for seed in range(20):
        fastinit.perturb_(model, NORMAL, seed=seed, add=0.01, source=before)
    assert not same(snapshot(model), before)
    fastinit.perturb_(model, NORMAL, seed=19, add=0.0, source=before)
    assert same(snapshot(model), before)


def test_a_snapshot_may_have_the_names_of_a_wrapper_or_of_a_tied_one():
    model = nn.ModuleDict({"module": Net()})
    before = {name: tensor for name, tensor in snapshot(model).items() if name != "module.embedding.weight"}
    expected = copy.deepcopy(model)
    fastinit.perturb_(expected, NORMAL, seed=1, add=0.5)
    fastinit.perturb_(model, NORMAL, seed=9, add=9.0)
    fastinit.perturb_(model, NORMAL, seed=1, add=0.5, source=before)
    assert same({n: p.detach() for n, p in model.named_parameters()}, {n: p.detach() for n, p in expected.named_parameters()})


@pytest.mark.parametrize(
    "axes",
    [
        (4, 0),
        (range(2, 7), range(3, 9)),
        ([range(2, 4), range(8, 9)], 0),
        ([range(10, 12), range(0, 3)], [range(4, 6), range(0, 1)]),
        (11, [range(9, 10)]),
    ],
)
@pytest.mark.parametrize("padding", [None, 3])
def test_a_plain_tensor_is_the_shard_that_where_says(axes, padding):
    """Column-, row- and block-parallel weights of vLLM and Megatron, by the fans and indices of the whole."""
    whole = nn.Embedding(12, 10, padding_idx=padding)
    runs = [axis if isinstance(axis, list) else [axis] for axis in axes]
    rows, columns = (
        [n for run in axis for n in (run if isinstance(run, range) else range(run, size))]
        for axis, size in zip(runs, (12, 10), strict=True)
    )
    part = nn.Embedding(12, 10, padding_idx=padding)
    part.weight = nn.Parameter(whole.weight.detach()[rows][:, columns].clone())
    scheme = fastinit.Scheme({nn.Embedding: {"weight": fastinit.glorot_uniform_}})
    settings = {"seed": [1, 2], "add": [0.5, -1.0], "keep": 0.5}
    fastinit.perturb_(part, scheme, where=lambda name, tensor: ((12, 10), axes), **settings)
    fastinit.perturb_(whole, scheme, **settings)
    assert torch.equal(part.weight, whole.weight[rows][:, columns])


def test_parametrized_weights_are_set_through_their_inverse():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    before = layer.weight.detach().clone()
    report = fastinit.perturb_(layer, NORMAL, seed=1, add=0.5)
    expected = fastinit.blend_(before.clone(), NORMAL, key=fastinit.key(1, "weight"), add=0.5)
    torch.testing.assert_close(layer.weight.detach(), expected)
    assert report.filled == ["bias", "weight"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_that_no_law_draws_is_made_whole(dtype):
    """Orthogonal matrices and forget biases of keras_like's LSTM; around a padding row; of a shard."""
    model = nn.LSTM(3, 4, dtype=dtype)
    before = snapshot(model)
    report = fastinit.perturb_(model, fastinit.keras_like, seed=[1, 2], add=[0.5, -0.25], keep=0.5)
    for name, old in before.items():
        sums = 0.5 * old.float()
        for seed, factor in ((1, 0.5), (2, -0.25)):
            noise, key = torch.empty(old.shape), fastinit.key(seed, name)
            made = nn.LSTM(3, 4) if "hh" not in name and "bias" not in name else None
            if made is not None:
                fastinit.glorot_uniform_(noise, key=key)
            elif name == "weight_hh_l0":
                fastinit.keras_like.initializers(nn.LSTM(3, 4))[name](noise, key=key)
            else:
                fastinit.keras_like.initializers(nn.LSTM(3, 4))[name](noise)
            sums += factor * noise
        torch.testing.assert_close(model.state_dict()[name].float(), sums.to(dtype).float())
    assert report["weight_hh_l0"].key == (fastinit.key(1, "weight_hh_l0"), fastinit.key(2, "weight_hh_l0"))


@pytest.mark.parametrize("initializer", [fastinit.orthogonal_, partial(fastinit.sparse_, sparsity=0.5), fastinit.eye_])
def test_noise_that_no_law_draws_of_shards_and_around_a_padding_row(initializer):
    whole, part = nn.Embedding(12, 10, padding_idx=3), nn.Embedding(12, 10, padding_idx=3)
    part.weight = nn.Parameter(torch.cat([whole.weight[8:10, 2:7], whole.weight[1:5, 2:7]]).detach())
    before = whole.weight.detach().clone()
    settings = {"seed": [1, 2], "add": [0.5, -1.0], "keep": 0.5}
    fastinit.perturb_(part, initializer, where=lambda name, tensor: ((12, 10), ([range(8, 10), range(1, 5)], 2)), **settings)
    fastinit.perturb_(whole, initializer, **settings)
    keys = [fastinit.key(seed, "weight") for seed in (1, 2)]
    expected = fastinit.blend_(before.clone(), initializer, key=keys, add=[0.5, -1.0], keep=0.5)
    made = [initializer(torch.empty(12, 10), key=key) for key in keys]
    torch.testing.assert_close(expected, 0.5 * before + 0.5 * made[0] - made[1])
    expected[3] = before[3] * 0.5
    assert torch.equal(whole.weight, expected)
    assert torch.equal(part.weight, torch.cat([expected[8:10, 2:7], expected[1:5, 2:7]]))


def test_memory_that_parameters_share_is_perturbed_once():
    model = nn.ParameterDict({"part": nn.Parameter(torch.zeros(2, 3)), "whole": nn.Parameter(torch.zeros(4, 3))})
    model["part"].data = model["whole"].data[1:3]
    report = fastinit.perturb_(model, NORMAL, seed=1, add=1.0)
    assert report.filled == ["whole"] and report.tied == ["part"]
    assert torch.equal(model["whole"], NORMAL(torch.empty(4, 3), key=fastinit.key(1, "whole")))


def test_weights_marked_as_loaded_are_perturbed():
    layer = nn.Linear(2, 2, bias=False)
    layer.weight._is_hf_initialized = True
    before = layer.weight.detach().clone()
    assert fastinit.perturb_(layer, NORMAL, seed=1, add=1.0).filled == ["weight"]
    assert not torch.equal(layer.weight, before)


def test_fakes_are_checked_and_left():
    with FakeTensorMode():
        model = nn.Linear(3, 2)
        assert fastinit.perturb_(model, NORMAL, seed=1, add=1.0).filled == ["weight", "bias"]


def test_all_frozen_warns():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.warns(UserWarning, match="nothing was perturbed"):
        assert fastinit.perturb_(model, NORMAL, seed=0, add=1.0).frozen == ["weight", "bias"]
    before = model.weight.clone()
    assert fastinit.perturb_(model, fastinit.Scheme({"*": NORMAL}), seed=0, add=1.0).filled == ["weight", "bias"]
    assert not torch.equal(model.weight, before) and not model.weight.requires_grad


def other(model, name):
    return {**snapshot(model), "attention.in_proj_bias": dict(model.named_parameters())[name].detach()}


REFUSED = {
    "no module": (lambda m: {"model": 3}, TypeError, "torch.nn.Module"),
    "no scheme": (lambda m: {"scheme": 3}, TypeError, "fastinit.Scheme, or an initializer"),
    "a class": (lambda m: {"scheme": nn.Linear}, TypeError, "fastinit.Scheme, or an initializer"),
    "a seed for two": (lambda m: {"add": [1.0, 2.0]}, TypeError, "two sequences of one length"),
    "two seeds for one": (lambda m: {"seed": [1, 2]}, TypeError, "two sequences of one length"),
    "lengths": (lambda m: {"seed": [1, 2], "add": [1.0]}, ValueError, "2 of seed, 1 of add"),
    "none": (lambda m: {"seed": [], "add": []}, ValueError, "one length, 1 or more"),
    "seed": (lambda m: {"seed": 1.5}, TypeError, "seed must be an int"),
    "one of the seeds": (lambda m: {"seed": [1, "x"], "add": [1.0, 1.0]}, TypeError, "seed must be an int"),
    "NaN": (lambda m: {"add": float("nan")}, ValueError, "add must not be NaN"),
    "infinite": (lambda m: {"seed": [1, 2], "add": [1.0, float("inf")]}, ValueError, r"add\[1\] must be finite"),
    "too large": (lambda m: {"add": 1e39}, ValueError, "embedding.weight: add leaves the range"),
    "keep": (lambda m: {"keep": float("inf")}, ValueError, "keep must be finite"),
    "no law": (lambda m: {"scheme": nn.init.normal_}, TypeError, "normal_ declares no law"),
    "a key": (lambda m: {"scheme": partial(NORMAL, key=1)}, ValueError, "must not carry a key"),
    "an argument": (lambda m: {"scheme": partial(NORMAL, std=-1.0)}, ValueError, "embedding.weight: std must not be negative"),
    "no rule": (lambda m: {"scheme": fastinit.Scheme({nn.Linear: {"*": NORMAL}})}, ValueError, "attention.in_proj_weight"),
    "unused": (lambda m: {"scheme": fastinit.keras_like.override({"nothing": NORMAL})}, ValueError, "nothing"),
    "source": (lambda m: {"source": [1]}, TypeError, "source must be a mapping"),
    "a name": (lambda m: {"source": {}}, ValueError, "embedding.weight: source has no values"),
    "no tensor": (lambda m: {"source": {**snapshot(m), "norm.weight": 1.0}}, TypeError, "norm.weight: source must be a"),
    "a shape": (lambda m: {"source": {**snapshot(m), "norm.weight": torch.ones(5)}}, ValueError, r"norm.weight: .*shape, \(6,\)"),
    "a dtype": (lambda m: {"source": {**snapshot(m), "norm.weight": torch.ones(6).double()}}, ValueError, "tensor's dtype"),
    "another's memory": (
        lambda m: {"source": {**snapshot(m), "norm.weight": m.norm.bias.detach()}},
        ValueError,
        "norm.weight: .*in the memory of another parameter",
    ),
    "where": (lambda m: {"where": lambda name, tensor: 3}, TypeError, "where must return None"),
    "where's shape": (lambda m: {"where": lambda name, tensor: ((5,), (0,))}, TypeError, "where must return None"),
    "where's indices": (
        lambda m: {"where": lambda name, tensor: (tensor.shape, [1] * tensor.ndim)},
        ValueError,
        "embedding.weight: where must name indices of the whole",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_named_and_nothing_is_written(name):
    given, error, words = REFUSED[name]
    model = Net()
    before = snapshot(model)
    arguments = {"model": model, "scheme": NORMAL, "seed": 1, "add": 1.0, **given(model)}
    with pytest.raises(error, match=words):
        fastinit.perturb_(arguments.pop("model"), arguments.pop("scheme"), **arguments)
    assert same(snapshot(model), before)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(2, 2, device="meta"), "weight, bias. Call initialize_ first"),
        (nn.Linear(2, 2, dtype=torch.complex64), "weight .Linear, complex64."),
        (nn.LazyLinear(3), "no shapes yet"),
    ],
)
def test_models_without_values_to_perturb_are_refused(model, words):
    with pytest.raises((TypeError, ValueError), match=words):
        fastinit.perturb_(model, NORMAL, seed=1, add=1.0)
