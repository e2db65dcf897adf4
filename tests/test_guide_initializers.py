"""Initial weights, initializers and truncated normals: values drawn by Keras, torch and fastinit against what the page says."""

import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from helpers.guide import QUIET, ROWS, TEXT, aligned, array, assert_same, codes, keras, layers
from scipy import integrate, stats
from torch import nn

import fastinit

pytestmark = [pytest.mark.full, QUIET]


def limit(tensor):
    return tensor.detach().abs().max().item()


def bound(row, column, **names):
    """The value of the a in a cell's U(a)."""
    text = ROWS[f"initial: {row}"][column].split("U(")[1]
    end = next(i for i in range(len(text)) if text[: i + 1].count(")") > text[: i + 1].count("("))
    return eval(re.sub(r"\bin\b", "fan_in", text[:end]), {"sqrt": math.sqrt} | names)


def test_initial_weights():
    """Largest values of Keras's, torch's and keras_like's weights against the limits that the page gives."""
    keras.utils.set_random_seed(0)  # torch's too
    near = partial(pytest.approx, rel=0.01)
    c, h, rnn = 100, 50, "LSTM, GRU, SimpleRNN: "
    names = {"fan_in": c, "out": c, "c": c, "h": h, "gates": 4, "positions": 9, "multiplier": 2}
    linear, attention, embedding = nn.Linear(c, c), nn.MultiheadAttention(c, 4), nn.Embedding(c, c)
    depthwise, lstm = nn.Conv2d(c, 2 * c, 3, groups=c), nn.LSTM(c, h)
    theirs = [layers.Dense(c), layers.DepthwiseConv2D(3, depth_multiplier=2), layers.Embedding(c, c), layers.LSTM(h)]
    for layer, shape in zip(theirs, ((1, c), (1, 5, 5, c), (1, c), (1, 7, c)), strict=True):
        layer.build(shape)
    theirs.append(layers.MultiHeadAttention(4, c // 4))
    theirs[-1].build((1, 7, c), (1, 7, c))
    query, output = theirs[-1].query_dense.kernel, theirs[-1].output_dense.kernel
    cases = {  # row: Keras's weight, torch's, and the torch module
        "Dense": (theirs[0].kernel, linear.weight, linear),
        "DepthwiseConv2D": (theirs[1].kernel, depthwise.weight, depthwise),
        rnn + "kernel": (theirs[3].cell.kernel, lstm.weight_ih_l0, lstm),
        "MultiHeadAttention: query, key, value": (query, attention.in_proj_weight, attention),
        "MultiHeadAttention: output": (output, attention.out_proj.weight, attention),
    }
    for row, (kernel, weight, _) in cases.items():
        ends = [bound(row, column, **names) for column in ("Keras 3", "torch")]
        assert [np.abs(array(kernel)).max(), limit(weight)] == near(ends), row
        if said := re.search(r"([\d.]+) of Keras's", ROWS[f"initial: {row}"]["torch"]):
            assert said[1] == f"{ends[1] / ends[0]:.3f}"
    assert np.abs(array(theirs[2].embeddings)).max() == near(bound("Embedding", "Keras 3"))
    assert f"std {1 / (bound('Embedding', 'Keras 3') / math.sqrt(3)):.1f} times" in ROWS["initial: Embedding"]["torch"]
    assert 0.98 < embedding.weight.std() < 1.02
    for row, name in (("recurrent kernel", "weight_hh_l0"), ("bias", "bias_ih_l0"), ("bias", "bias_hh_l0")):  # biases: 200 values
        assert limit(getattr(lstm, name)) == pytest.approx(bound(rnn + row, "torch", h=h), rel=0.1)
    cases |= {"Embedding": (theirs[2].embeddings, embedding.weight, embedding), "PReLU": (np.zeros(1), *[nn.PReLU()] * 2)}
    for row, (kernel, weight, module) in cases.items():
        module.apply(fastinit.keras_like)
        assert np.abs(array(kernel)).max() == near(limit(getattr(weight, "weight", weight))), row
        for n, line in enumerate(codes(ROWS[f"initial: {row}"]["to align"])):
            before = {name: limit(parameter) for name, parameter in module.named_parameters()}
            aligned(f"initial: {row}", n, module=module)
            assert {name: limit(parameter) for name, parameter in module.named_parameters()} == near(before), line
    assert lstm.bias_ih_l0.tolist() == [0.0] * h + [1.0] * h + [0.0] * 2 * h == array(theirs[3].cell.bias).tolist()
    assert not lstm.bias_hh_l0.any() and not linear.bias.any()
    rows = aligned("initial: " + rnn + "recurrent kernel", module=lstm)
    assert_same(np.eye(h, dtype="float32"), rows.T @ rows, 1e-5)


def test_initializers_have_keras_s_spread():
    keras.utils.set_random_seed(0)  # torch's too
    for row, cells in ROWS.items():
        if "fastinit" not in cells:
            continue
        w, said = torch.empty(120, 100), cells["what differs in `torch.nn.init`"]
        theirs = torch.tensor(array(eval(codes(cells["Keras 3"])[0], dict(vars(keras.initializers)))((100, 120))))
        eval(*codes(cells["fastinit"]), {"fastinit": fastinit, "w": w})
        assert w.std().item() == pytest.approx(theirs.std().item(), rel=0.02), row
        if not re.search("RandomNormal|Orthogonal", row):  # Keras's truncated normal, on torch, strays once in 233,000 values
            largest = theirs.abs().flatten().kthvalue(theirs.numel() - 5).values
            assert limit(w) == pytest.approx(largest.item(), rel=0.02), row
        for name, options in re.findall(r"^`(\w+_)(?:\(w(.*?)\))?`", said):
            eval(f"{name}(w{options})", vars(nn.init) | {"w": w})
            if "the same law" in said:
                assert w.std().item() == pytest.approx(theirs.std().item(), rel=0.02), row
            if "not truncated" in said:
                assert limit(w) > 3 * w.std(), row
    assert limit(nn.init.kaiming_uniform_(w, a=math.sqrt(5))) == pytest.approx(math.sqrt(1 / 100), rel=0.01)


def truncated(c):
    """The std and the density at 0 of N(0, 1) cut at c."""
    law = stats.truncnorm(-c, c)
    return law.std(), law.pdf(0)


def folded(c):
    """The same of fmod(N(0, 1), c), whose density is the sum of the normal's at |x| + k c."""
    density = lambda x: stats.norm.pdf(x + c * np.arange(40)).sum()  # noqa: E731
    return math.sqrt(2 * integrate.quad(lambda x: x * x * density(x), 0, c)[0]), density(0.0)


@pytest.mark.parametrize("row, c", [("1", 1.0), ("sqrt(2)", math.sqrt(2)), ("2", 2.0)])
def test_fmod_against_the_exact_law(row, c):
    (std, height), (folded_std, folded_height) = truncated(c), folded(c)
    numbers = [f"{value:.4f}" for value in (std, folded_std, height, folded_height)]
    assert list(ROWS[f"c: {row}"].values())[1:] == [*numbers, f"{folded_height / height:.3f}"]
    torch.manual_seed(0)
    n = 1_000_000
    for method, expected in (("exact", std), ("fmod", folded_std)):
        drawn = fastinit.truncated_normal_(torch.empty(n), 0.0, 0.02, -0.02 * c, 0.02 * c, method=method)
        assert drawn.std().item() / 0.02 == pytest.approx(expected, rel=5e-3)  # 7 standard errors
        assert limit(drawn) <= 0.02 * c * (1 + 1e-6)
    value, becomes = re.search(r"a value of (\S+) becomes (\S+)\. So", TEXT).groups()
    assert math.fmod(float(value), 2) == pytest.approx(float(becomes))
    assert torch.fmod(torch.randn(n), c).std().item() == pytest.approx(folded_std, rel=5e-3)


def test_four_conventions_of_the_truncated_normal():
    keras.utils.set_random_seed(0)
    rows = {row: cells for row, cells in ROWS.items() if "with fastinit" in cells}
    assert len(rows) == 4
    for row, cells in rows.items():
        (code, *_), (line,) = codes(cells["convention"]), codes(cells["with fastinit"])
        w = torch.empty(300, 400)
        value = eval(code, {"keras": keras, "nn": nn, "torch": torch, "w": w, "n": w.numel()})
        theirs = torch.tensor(array(value((400, 300)))) if callable(value) else value.clone()
        eval(line, {"fastinit": fastinit, "w": w})
        assert w.std().item() == pytest.approx(theirs.std().item(), rel=0.02), row
        said = cells["std of the values"].split("=")[-1]
        said = eval(re.sub(r"\bin\b", "400", said), {"sqrt": math.sqrt})
        assert theirs.std().item() == pytest.approx(said, rel=0.01), row
    assert f"{truncated(2)[0]:.4f} * 0.05 = {truncated(2)[0] * 0.05:.4f}" in TEXT
    assert f"{folded(2)[0]:.4f} * 0.02 = {folded(2)[0] * 0.02:.4f}" in TEXT
    assert f"at 2 sigmas, sigma = sqrt(2 / in) / {truncated(2)[0]:.8f}: corrected" in TEXT
    assert f"at the absolute bounds -2 and 2, {2 / 0.02:.0f} sigmas away" in TEXT and "| 0.0200 |" in TEXT
    assert limit(nn.init.trunc_normal_(torch.empty(10_000), std=0.02)) > 0.06
    *_, line = re.findall(r"`(nn\.init\.trunc_normal_\(.*?\))`", TEXT)
    assert limit(eval(line, {"nn": nn, "w": w})) == pytest.approx(2 * 0.02, rel=1e-3)
