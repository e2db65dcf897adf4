"""Losses: with the page's lines, torch's values are Keras's, and where the page warns they are not."""

import inspect
from functools import partial

import numpy as np
import pytest
import torch
from helpers.guide import QUIET, ROWS, aligned, array, assert_same, keras, losses, normal
from torch import nn

pytestmark = [pytest.mark.full, QUIET]

PROBABILITIES = torch.tensor(normal(6, 5)).softmax(-1).numpy()
LABELS, LOGITS = np.array([0, 3, 1, 4, 2, 0]), normal(6, 5, seed=1)
BINARY = np.eye(5, dtype="float32")[LABELS]
WEIGHTS = np.array([1, 2, 3, 0.5, 4], "float32")
COUNTS = np.floor(np.abs(normal(6, 5, seed=3)) * 4)
SPARSE = partial(losses.SparseCategoricalCrossentropy, from_logits=True)
CATEGORICAL = "CategoricalCrossentropy, SparseCategoricalCrossentropy"
# row, Keras's loss, y_true, y_pred, the names of torch's line
LOSSES = [
    (CATEGORICAL, losses.CategoricalCrossentropy(), BINARY, PROBABILITIES, {"logits": np.log(PROBABILITIES), "target": LABELS}),
    (CATEGORICAL, SPARSE(), LABELS, LOGITS, {"logits": LOGITS, "target": BINARY}),
    ("Classes of a sequence", SPARSE(), LABELS.reshape(2, 3), LOGITS.reshape(2, 3, 5), {}),
    ("Ignored class", SPARSE(ignore_class=0), LABELS, LOGITS, {}),
    ("BinaryCrossentropy", losses.BinaryCrossentropy(from_logits=True), BINARY, LOGITS, {}),
    ("BinaryCrossentropy: label smoothing", losses.BinaryCrossentropy(True, 0.2), BINARY, LOGITS, {"a": 0.2}),
    ("MeanSquaredError", losses.MeanSquaredError(), BINARY, LOGITS, {}),
    ("MeanAbsoluteError", losses.MeanAbsoluteError(), BINARY, LOGITS, {}),
    ("Shapes (N, 1) and (N,)", losses.MeanSquaredError(), LOGITS[:, 0], LOGITS[:, 1:2], {}),
    ("Huber", losses.Huber(), BINARY, LOGITS * 2, {}),
    ("KLDivergence", losses.KLDivergence(), PROBABILITIES, PROBABILITIES[::-1].copy(), {}),
    ("Poisson", losses.Poisson(), COUNTS, PROBABILITIES, {}),
    ("CosineSimilarity", losses.CosineSimilarity(), BINARY, LOGITS, {}),
    ("Hinge", losses.Hinge(), BINARY, LOGITS, {}),
]


@pytest.mark.parametrize("row, loss, y_true, y_pred, names", LOSSES, ids=[case[0] for case in LOSSES])
def test_losses(row, loss, y_true, y_pred, names):
    given = {"x": y_pred, "logits": y_pred, "target": y_true} | names
    mine = aligned(row, **{name: torch.as_tensor(value) for name, value in given.items()})
    if isinstance(mine, nn.Module):
        mine = mine(torch.tensor(y_pred), torch.as_tensor(y_true))
    assert_same(loss(y_true, y_pred), mine, atol=1e-5)


def test_losses_weighted_and_smoothed():
    z, target, weight = torch.tensor(LOGITS), torch.tensor(LABELS), torch.tensor(WEIGHTS)
    theirs = SPARSE()(LABELS, LOGITS, sample_weight=WEIGHTS[LABELS])
    assert_same(theirs, aligned("class_weight, sample_weight", logits=z, target=target, weight=weight), 1e-5)
    assert abs(nn.CrossEntropyLoss(weight=weight)(z, target) * weight[target].mean() - float(theirs)) < 1e-5
    assert "label_smoothing" not in inspect.signature(losses.SparseCategoricalCrossentropy).parameters
    theirs = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)(BINARY, LOGITS)
    assert_same(theirs, aligned("Label smoothing")(z, target), 1e-5)
    assert_same(nn.CrossEntropyLoss()(z, target), nn.CrossEntropyLoss()(z, torch.tensor(BINARY)))


def test_ctc_loss():
    x, target = normal(2, 9, 5), np.array([[1, 2, 0], [3, 1, 2]])
    lengths = {"lengths": torch.tensor([9, 9]), "target_lengths": torch.tensor([2, 3])}
    assert_same(losses.CTC()(target, x), aligned("CTC", x=torch.tensor(x), target=torch.tensor(target), **lengths), 1e-5)


def test_what_the_losses_do_otherwise():
    """The traps: the cut of probabilities and its gradient, Softmax applied twice, the broadcast, means of other things."""
    z = torch.tensor([[30.0, 0.0, 0.0]], requires_grad=True)
    losses.SparseCategoricalCrossentropy()(np.array([1]), z.softmax(-1)).backward()
    assert not z.grad.any()
    nn.CrossEntropyLoss()(z, torch.tensor([1])).backward()
    assert abs(z.grad[0, 1] + 1) < 1e-4
    worst = float(losses.BinaryCrossentropy()(np.array([[1.0]]), np.array([[0.0]])))
    for row in (CATEGORICAL, "BinaryCrossentropy"):
        assert "cut to [1e-7, 1 - 1e-7]" in ROWS[row]["Keras 3"] and keras.config.epsilon() == 1e-7
    assert f"a loss of {worst:.1f} at most" in ROWS["BinaryCrossentropy"]["Keras 3"]
    assert f"{nn.BCELoss()(torch.zeros(1), torch.ones(1)):.0f} at most" in ROWS["BinaryCrossentropy"]["torch"]
    z, target = torch.tensor(LOGITS), torch.tensor(LABELS)
    assert abs(nn.CrossEntropyLoss()(z.softmax(-1), target) - nn.CrossEntropyLoss()(z, target)) > 0.1
    with pytest.warns(UserWarning, match="broadcasting"):
        assert nn.MSELoss(reduction="none")(z[:, :1], z[:, 1]).shape == (6, 6)
    p, q = torch.tensor(PROBABILITIES), torch.tensor(PROBABILITIES[::-1].copy())
    with pytest.warns(UserWarning, match="batchmean"):
        assert_same(nn.KLDivLoss(reduction="batchmean")(q.log(), p), 5 * nn.KLDivLoss()(q.log(), p))
    assert_same(nn.HuberLoss(delta=0.5)(z, q), 0.5 * nn.SmoothL1Loss(beta=0.5)(z, q))
    cosine = nn.CosineEmbeddingLoss()(z, q, torch.ones(6))
    assert_same(cosine - 1, torch.tensor(float(losses.CosineSimilarity()(array(q), LOGITS))))
