"""The network behind the fully connected family: several small ones side by side, as one.

Each leaves out other rows, which tell when to stop training and how sure the answers may be.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lamina.data.tables import TableEncoder, TableSchema
from lamina.families.base import share
from lamina.initializers import VarianceScaling
from lamina.layers import (
    Activation,
    Dropout,
    EinsumDense,
    Embedding,
    FillMissing,
    Flatten,
    GlobalAveragePooling1D,
    Input,
    Normalization,
    RepeatVector,
    Rescaling,
    StringLookup,
    concatenate,
)
from lamina.models.model import Model

#: categories with at most this many values are one-hot; more get an embedding
ONE_HOT_UP_TO = 16


def network(
    schema: TableSchema,
    features: Mapping[str, np.ndarray],
    outputs: int,
    activation: str = "linear",
    hidden: Sequence[int] = (128, 64),
    dropout: float = 0.1,
    members: int = 8,
) -> Model:
    """Several networks for a table, side by side, with the preprocessing inside.

    Args:
        schema: what the columns mean.
        features: the training rows, as :meth:`TableEncoder.encode` gives them: means, variances and vocabularies are
            taken from them.
        outputs: how many numbers each network gives.
        activation: what they are put through: ``"softmax"``, ``"sigmoid"`` or ``"linear"``.
        hidden: the widths of the hidden layers.
        dropout: the share of each hidden layer that is dropped in training.
        members: how many networks.

    Returns:
        A model from a dictionary like ``features`` to ``(batch, members, outputs)``.
    """
    inputs, parts = {}, []
    encoder = TableEncoder(schema)
    if encoder.number_names:
        numbers = features[encoder.numbers_key].astype("float64")
        present = np.isfinite(numbers)
        count = np.maximum(present.sum(0), 1)
        mean = np.where(present, numbers, 0).sum(0) / count
        variance = (np.where(present, numbers - mean, 0) ** 2).sum(0) / count
        x = inputs[encoder.numbers_key] = Input((numbers.shape[1],), name=encoder.numbers_key)
        scaled = Normalization(mean=mean, variance=np.where(variance > 0, variance, 1.0))(x)
        parts.append(FillMissing(indicate=not present.all())(scaled))
    for name in encoder.category_names:
        x = inputs[name] = Input((1,), dtype="string", name=name)
        vocabulary = np.unique(features[name]).tolist()
        if len(vocabulary) <= ONE_HOT_UP_TO:
            parts.append(StringLookup(vocabulary=vocabulary, output_mode="one_hot")(x))
        else:
            width = min(16, round(1.6 * len(vocabulary) ** 0.5))
            parts.append(Flatten()(Embedding(len(vocabulary) + 1, width)(StringLookup(vocabulary=vocabulary)(x))))

    def side_by_side(units: int, scale: float) -> EinsumDense:
        return EinsumDense(
            "bmi,mio->bmo",
            output_shape=(members, units),
            bias_axes="mo",
            kernel_initializer=VarianceScaling(scale, "fan_in", input_axes=[1], output_axes=[2]),
        )

    x = h = RepeatVector(members)(concatenate(parts) if len(parts) > 1 else parts[0])
    for units in hidden:
        h = Dropout(dropout)(Activation("relu")(side_by_side(units, 2.0)(h)))
    h = concatenate([x, h])  # what is linear in the inputs need not be learnt by the hidden layers
    return Model(inputs, Activation(activation)(side_by_side(outputs, 0.1)(h)))


def averaged(members: Model, mean: Any = 0.0, scale: Any = 1.0) -> Model:
    """The model whose answer is the average of the members', times ``scale`` plus ``mean``."""
    x = GlobalAveragePooling1D()(members.output)
    return Model(members.input, x if np.all(scale == 1.0) and np.all(mean == 0.0) else Rescaling(scale, mean)(x))


def left_out(rows: int, members: int, fraction: float, seed: int, classes: np.ndarray | None) -> np.ndarray:
    """Which rows each member does not learn from, ``(rows, members)``: a part of its own, with every class's share.

    They stop training early and calibrate probabilities, and no row is lost to the whole. The only row of a class is
    learnt from by all.
    """
    share("validation_fraction", fraction)
    if rows < 20:
        return np.zeros((rows, members), bool)
    rng = np.random.Generator(np.random.Philox(key=seed))
    place = np.empty(rows)  # evenly from 0 to 1 within every class, so that every stretch has every class's share
    for members_of_class in (
        [np.arange(rows)] if classes is None else [np.flatnonzero(classes == c) for c in set(classes)]
    ):
        place[rng.permutation(members_of_class)] = (np.arange(len(members_of_class)) + rng.random()) / len(
            members_of_class
        )
    unseen = (place[:, None] - fraction * np.arange(members)) % 1 < fraction
    if classes is not None:
        unseen[np.bincount(classes)[classes] == 1] = False
    return unseen


def calibrate(members: Model, features: dict[str, np.ndarray], y: np.ndarray, unseen: np.ndarray) -> None:
    """Divide the scores by the temperature that makes the probabilities of what was not learnt largest."""
    p = members.predict(features).astype("float64").clip(1e-12, 1 - 1e-12)
    scores = np.log(p) - np.log1p(-p) if y.ndim == 2 or p.shape[-1] == 1 else np.log(p)
    target = y.reshape(len(y), 1, -1) if y.ndim == 2 or p.shape[-1] == 1 else y[:, None, None] == np.arange(p.shape[-1])

    def loss(temperature: float) -> float:
        z = scores / temperature
        if p.shape[-1] > 1 and y.ndim == 1:
            losses = np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1) - (z * target).sum(-1)
        else:
            losses = (np.logaddexp(0, z) - z * target).sum(-1)
        return float(losses[unseen].mean())

    temperature = min(np.geomspace(0.25, 4, 81), key=loss)
    head = next(layer for layer in reversed(members.layers) if isinstance(layer, EinsumDense))
    head.set_weights([weight / temperature for weight in head.get_weights()])
