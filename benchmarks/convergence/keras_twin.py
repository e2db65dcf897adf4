"""The same network in Keras itself, on its torch backend, trained by its own `fit`."""

from __future__ import annotations

import os
from typing import Any

import torch

from benchmarks.convergence.data import Sequences
from benchmarks.convergence.network import FILTERS, TORCH, UNITS, WIDTH
from benchmarks.convergence.starts import DENSE_STD
from benchmarks.convergence.training import BATCH, Curve

LOSSES = {"MAE": "mean_absolute_error", "MSE": "mean_squared_error"}


def train(seed: int, data: Sequences, loss: str, optimizer: str, epochs: int) -> Curve:
    """Train a new network; the seed decides over everything. optimizer: a Keras name, with Keras's defaults."""
    model = build(data, loss, optimizer, seed)
    (inputs, targets), held_out = (
        (part[0].mT.numpy(), torch.nn.functional.one_hot(part[1], data.classes).float().numpy())
        for part in (data.train, data.test)
    )
    history = model.fit(inputs, targets, batch_size=BATCH, epochs=epochs, validation_data=held_out, verbose=0).history
    correct = [round(share * len(held_out[0])) for share in history["val_accuracy"]]
    given = model.predict(held_out[0], verbose=0).argmax(1)
    return Curve(history["loss"], correct, data.classes - len(set(given.tolist())))


def build(data: Sequences, loss: str, optimizer: str, seed: int = 0) -> Any:
    """The compiled model, of new weights."""
    os.environ["KERAS_BACKEND"] = "torch"  # before keras is imported: this runs in a process of the study's own
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(seed)
    dense = keras.initializers.TruncatedNormal(stddev=DENSE_STD)
    model = keras.Sequential(
        [
            layers.Input((data.train[0].shape[2], data.train[0].shape[1])),
            layers.Conv1D(FILTERS, WIDTH, activation="relu"),
            layers.BatchNormalization(),
            layers.Bidirectional(layers.LSTM(UNITS)),
            layers.Dense(data.classes, kernel_initializer=dense),
            layers.Dropout(TORCH.dropout),
            layers.Softmax(),
        ]
    )
    model.compile(optimizer=optimizer, loss=LOSSES[loss], metrics=["accuracy"])
    return model
