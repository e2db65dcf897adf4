"""Training: batches, order, validation and dtype are what the page says of Keras, and its lines do the same in torch."""

import numpy as np
import pytest
import torch
from helpers.guide import QUIET, aligned, array, keras, layers, losses, normal, optimizers
from torch import nn

pytestmark = [pytest.mark.full, QUIET]


def test_training_conventions():
    x, y, seen = normal(70, 2), normal(70, 1), []
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(1)(inputs))
    model.compile(optimizers.SGD(0.0), loss="mse")
    call = model.call

    def spy(batch, training=None, mask=None):
        seen.append((len(batch), bool(training), array(batch)[:, 0]))
        return call(batch, training=training)

    model.call = spy
    history = model.fit(x, y, epochs=2, verbose=0).history["loss"]
    trained = [batch for batch in seen if batch[1]]
    assert [batch[0] for batch in trained] == [32, 32, 6, 32, 32, 6]
    assert not np.array_equal(trained[0][2], trained[3][2]) and not np.array_equal(trained[0][2], x[:32, 0])
    assert abs(history[0] - float(losses.MeanSquaredError()(y, model.predict(x, verbose=0)))) < 1e-5  # a mean over samples
    seen.clear()
    model.fit(x, y, validation_split=0.2, verbose=0)
    held = np.concatenate([batch[2] for batch in seen if not batch[1]])
    subset = aligned("Validation", data=torch.utils.data.TensorDataset(torch.tensor(x)), held=14)
    np.testing.assert_array_equal(held, [item[0][0].item() for item in subset])
    loader = aligned("Batch", DataLoader=torch.utils.data.DataLoader, data=torch.utils.data.TensorDataset(torch.tensor(x)))
    assert [len(batch[0]) for batch in loader] == [32, 32, 6]
    assert isinstance(loader.sampler, torch.utils.data.RandomSampler)
    assert array(layers.Dense(1)(x.astype("float64"))).dtype == np.float32
    with pytest.raises(RuntimeError, match="dtype"):
        nn.Linear(2, 1)(torch.tensor(x.astype("float64")))
    nn.Linear(2, 1)(aligned("dtype", array=x.astype("float64")))
