"""Fully connected networks for tables: numbers, categories, dates and missing values in; classes or a number out."""

import numpy as np

from lamina.data.tables import TableEncoder, TableSchema
from lamina.layers import (
    Dense,
    Dropout,
    Embedding,
    FillMissing,
    Flatten,
    Input,
    Normalization,
    Rescaling,
    StringLookup,
    concatenate,
)
from lamina.models.head import head_for
from lamina.models.model import Model
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay

#: categories with at most this many values are one-hot; more get an embedding
ONE_HOT_UP_TO = 16


def network(
    schema: TableSchema,
    features: dict[str, np.ndarray],
    y: np.ndarray,
    hidden: tuple[int, ...] = (64, 64),
    dropout: float = 0.1,
) -> Model:
    """A network for a table, with its preprocessing inside.

    Args:
        schema: what the columns mean.
        features: the training rows, as :meth:`TableEncoder.encode` gives them: means, variances and vocabularies are
            taken from them.
        y: the training targets.
        hidden: the widths of the hidden layers.
        dropout: the share of each hidden layer that is dropped in training.

    Returns:
        The model; its inputs are a dictionary like ``features``.
    """
    encoder = TableEncoder(schema)
    inputs, parts = {}, []
    if encoder.number_names:
        numbers = features[encoder.numbers_key].astype("float64")
        mean, variance = np.nanmean(numbers, axis=0), np.nanvar(numbers, axis=0)
        x = inputs[encoder.numbers_key] = Input((numbers.shape[1],), name=encoder.numbers_key)
        scaled = Normalization(mean=mean, variance=np.where(variance > 0, variance, 1.0))(x)
        parts.append(FillMissing(indicate=bool(np.isnan(numbers).any()))(scaled))
    for name in encoder.category_names:
        x = inputs[name] = Input((1,), dtype="string", name=name)
        vocabulary = sorted(set(features[name].tolist()))
        if len(vocabulary) <= ONE_HOT_UP_TO:
            parts.append(StringLookup(vocabulary=vocabulary, output_mode="one_hot")(x))
        else:
            width = min(16, round(1.6 * len(vocabulary) ** 0.5))
            parts.append(Flatten()(Embedding(len(vocabulary) + 1, width)(StringLookup(vocabulary=vocabulary)(x))))
    h = concatenate(parts) if len(parts) > 1 else parts[0]
    for units in hidden:
        h = Dropout(dropout)(Dense(units, activation="relu")(h))
    head = head_for(np.arange(len(schema.class_names)) if schema.task == "classification" else y)
    h = head.layer(h)
    if schema.task == "regression":
        h = Rescaling(float(np.std(y)) or 1.0, float(np.mean(y)))(h)  # the network itself works near 0 and 1
    return Model(inputs, h)


def columns(features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``features`` with each category as a column of texts, ``(rows, 1)``, as the network's inputs want them."""
    return {name: array[:, None] if array.ndim == 1 else array for name, array in features.items()}


def epochs_for(rows: int) -> int:
    """How many epochs to allow: some thousand steps for small tables, fewer passes over large ones."""
    return int(np.clip(150_000 / rows, 10, 200))


def optimizer_for(steps: int) -> AdamW:
    """The optimizer for so many steps: a learning rate that falls to nothing along a cosine."""
    return AdamW(CosineDecay(3e-3, steps), weight_decay=1e-3)
