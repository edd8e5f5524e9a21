"""Fully connected networks for tables: numbers, categories, dates and missing values in; classes or numbers out.

Several small networks are trained side by side, as one, and their answers are averaged: on tables, that is worth more
than one network of the same size (Gorishniy et al., 2024, https://arxiv.org/abs/2410.24210, and the literature on
ensembles before it).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from lamina.core.errors import ConfigError, DataError
from lamina.data.tables import Column, TableEncoder, TableSchema
from lamina.families.base import Family, whole
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
from lamina.losses import BinaryCrossentropy, MeanSquaredError, SparseCategoricalCrossentropy
from lamina.models.model import Model
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay

#: categories with at most this many values are one-hot; more get an embedding
ONE_HOT_UP_TO = 16
#: each member's loss is over the rows that it learns from
REDUCTION = "mean_with_sample_weight"


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


class _FCNN(Family):
    """What classification and regression share: reading tables, and training."""

    _kept: ClassVar[tuple[str, ...]] = ("schema_",)

    hidden: Sequence[int]
    members: int
    dropout: float
    weight_decay: float
    learning_rate: float
    epochs: int | None
    batch_size: int | None
    warm_start: bool

    #: what the columns of a data frame mean; ``None`` after training on an array
    schema_: dict[str, Any] | None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _features(self, X: Any, reset: bool = False) -> dict[str, np.ndarray]:
        """Rows as the network's inputs; with ``reset``, what the columns mean is found out first."""
        if _is_table(X) if reset else self.schema_ is not None:
            validate_data(self, X, reset=reset, skip_check_array=True)
            if reset:
                self.schema_ = TableSchema.infer(X, name="X").to_dict()
            names = [column["name"] for column in (self.schema_ or {})["columns"]]
            table = X if _is_table(X) else dict(zip(names, np.asarray(X, object).T, strict=True))
            features = TableEncoder(self._schema()).encode(table, "X")
            return {name: array[:, None] if array.ndim == 1 else array for name, array in features.items()}
        X = validate_data(
            self, X, reset=reset, dtype="float64", ensure_all_finite="allow-nan", ensure_min_samples=2 if reset else 1
        )
        if reset:
            self.schema_ = None
        largest = float(np.finfo("float32").max)
        if np.nanmax(np.abs(X), initial=0.0) > largest:
            raise DataError(f"X holds {np.nanmax(np.abs(X))}, which is infinity in single precision.\nDivide it first.")
        return {"numbers": X.astype("float32")}

    def _schema(self) -> TableSchema:
        if self.schema_ is not None:
            return TableSchema.from_dict(self.schema_)
        return TableSchema(tuple(Column(f"x{i}", "number", "float") for i in range(self.n_features_in_)))

    def _fit(
        self,
        features: dict[str, np.ndarray],
        y: np.ndarray,
        *,
        outputs: int,
        activation: str,
        loss: Any,
        metrics: list[str],
        classes: np.ndarray | None = None,
        class_weight: np.ndarray | None = None,
        mean: Any = 0.0,
        scale: Any = 1.0,
    ) -> tuple[Model, np.ndarray]:
        """Train on targets of shape ``(rows, ...)``; gives the members, and which rows each of them did not learn from."""
        rows, members = len(y), whole("members", self.members)
        hidden = [whole("hidden", units) for units in self.hidden]
        with self._seeded() as seed:
            unseen = _unseen(rows, members, self.validation_fraction, seed, classes)
            weight = np.ones(rows) if class_weight is None or classes is None else class_weight[classes]
            if self.warm_start and "model_" in vars(self):
                model = self._members()
            else:
                model = network(self._schema(), features, outputs, activation, hidden, self.dropout, members)
            batch = whole("batch_size", self.batch_size or int(np.clip(2 ** round(np.log2(max(rows / 40, 1))), 8, 256)))
            epochs = whole("epochs", self.epochs or int(np.clip(400_000 / rows, 15, 100)))
            targets = np.repeat(y[:, None], members, axis=1)
            schedule = CosineDecay(self.learning_rate, epochs * -(-rows // batch))
            self._train(
                model,
                features,
                targets,
                (features, targets, weight[:, None] * unseen) if unseen.any() else None,
                sample_weight=weight[:, None] * ~unseen,
                loss=loss,
                weighted_metrics=metrics,
                optimizer=AdamW(schedule, weight_decay=self.weight_decay),
                epochs=epochs,
                batch_size=batch,
            )
            self.model_ = averaged(model, mean, scale)
        return model, unseen

    def _members(self) -> Model:
        """The network before the average: what was trained."""
        pooled = next(layer for layer in self.model.layers if isinstance(layer, GlobalAveragePooling1D))
        return Model(self.model.input, pooled.input)


class FCNNClassifier(ClassifierMixin, _FCNN):
    """Classes, or several labels at once, from a table.

    Args:
        hidden: the widths of the hidden layers.
        members: how many networks are trained side by side and averaged.
        dropout: the share of each hidden layer that is dropped in training.
        weight_decay: how strongly weights are drawn to zero.
        learning_rate: the largest step; it falls to nothing along a cosine.
        class_weight: how much each class counts: class -> factor, or ``"balanced"`` for equal shares.
        calibrate: whether probabilities are made to fit how often they come true on the validation part (Guo et al.,
            2017, https://arxiv.org/abs/1706.04599).
        epochs: passes over the data; by their number if ``None``.
        batch_size: rows in a step; by their number if ``None``.
        validation_fraction: the share of rows, another one for each member, that it does not learn from: they tell when
            to stop, and calibrate. None of fewer than 20 rows.
        patience: epochs without getting better before stopping; a third of all if ``None``, 0 never to stop.
        verbose: 0 for silence, 1 for a bar, 2 for a line an epoch, ``"auto"`` for a bar in a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on from where the last one ended.

    ``fit(X, y)`` takes an array of numbers or a pandas or polars data frame of numbers, texts, dates and truth values. NaN,
    null and unknown categories are allowed; constant columns are left out or do nothing. ``y``: a class for each row, or
    rows of zeros and ones for several labels at once.

    >>> X = np.array([[0.0], [0.2], [0.9], [1.0]])
    >>> FCNNClassifier(random_state=0).fit(X, ["low", "low", "high", "high"]).predict([[0.1], [0.8]]).tolist()
    ['low', 'high']
    """

    _kept: ClassVar[tuple[str, ...]] = ("schema_", "classes_", "multilabel_")

    def __init__(
        self,
        hidden: Sequence[int] = (128, 64),
        members: int = 8,
        dropout: float = 0.1,
        weight_decay: float = 1e-3,
        learning_rate: float = 3e-3,
        class_weight: Mapping[Any, float] | str | None = None,
        calibrate: bool = True,
        epochs: int | None = None,
        batch_size: int | None = None,
        validation_fraction: float = 0.125,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.hidden, self.members, self.dropout = hidden, members, dropout
        self.weight_decay, self.learning_rate = weight_decay, learning_rate
        self.class_weight, self.calibrate = class_weight, calibrate
        self.epochs, self.batch_size = epochs, batch_size
        self.validation_fraction, self.patience = validation_fraction, patience
        self.verbose, self.random_state, self.warm_start = verbose, random_state, warm_start

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from a table.

        Args:
            X: ``(rows, columns)``, an array or a data frame.
            y: ``(rows,)`` classes, or ``(rows, labels)`` zeros and ones.

        Raises:
            DataError: if there is but one class, or the table cannot be read.
        """
        features = self._features(X, reset=True)
        targets = self._targets(y, next(iter(features.values())))
        labels = len(self.classes_)
        width = labels if self.multilabel_ or labels > 2 else 1
        softmax = not self.multilabel_ and labels > 2
        model, unseen = self._fit(
            features,
            targets if softmax else targets.reshape(len(targets), width).astype("float32"),
            outputs=width,
            activation="softmax" if softmax else "sigmoid",
            loss=(SparseCategoricalCrossentropy if softmax else BinaryCrossentropy)(reduction=REDUCTION),
            metrics=["sparse_categorical_accuracy" if softmax else "binary_accuracy"],
            classes=None if self.multilabel_ else targets,
            class_weight=self._class_weight(targets),
        )
        if self.calibrate and unseen.sum() >= 30 and self.class_weight is None:
            _calibrate(model, features, targets, unseen)
        return self

    def _targets(self, y: Any, features: np.ndarray) -> np.ndarray:
        _require(self, y)
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
        check_consistent_length(features, y)
        check_classification_targets(y)
        self.multilabel_ = type_of_target(y) == "multilabel-indicator"
        if self.multilabel_:
            self.classes_ = np.arange(y.shape[1])
            return y.astype("int32")
        if type_of_target(y) == "multiclass-multioutput":
            raise ConfigError(
                "several targets at once are rows of zeros and ones; fit one classifier for each otherwise."
            )
        self.classes_, targets = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                f"every row has the class {self.classes_.tolist()[0]!r}; a classifier needs at least two classes."
            )
        return targets.astype("int32")

    def _class_weight(self, targets: np.ndarray) -> np.ndarray | None:
        if self.class_weight is None:
            return None
        if self.multilabel_:
            raise ConfigError("class_weight is for one class a row, not for several labels at once.")
        weights: np.ndarray = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[targets])
        return weights

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class ``(rows, classes)``, in the order of ``classes_``; or of each label."""
        self.model  # noqa: B018 - for its error
        p = self._forward(self._features(X)).astype("float64")
        if self.multilabel_:
            return p
        p = np.hstack([1 - p, p]) if len(self.classes_) == 2 else p
        return p / p.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row ``(rows,)``; or zeros and ones ``(rows, labels)``."""
        p = self.predict_proba(X)
        return (p > 0.5).astype(int) if self.multilabel_ else self.classes_[p.argmax(axis=1)]


class FCNNRegressor(RegressorMixin, _FCNN):
    """Numbers, one or several for each row, from a table.

    Args:
        hidden: the widths of the hidden layers.
        members: how many networks are trained side by side and averaged.
        dropout: the share of each hidden layer that is dropped in training.
        weight_decay: how strongly weights are drawn to zero.
        learning_rate: the largest step; it falls to nothing along a cosine.
        epochs: see :class:`FCNNClassifier`, as for the arguments below.
        batch_size: likewise.
        validation_fraction: likewise.
        patience: likewise.
        verbose: likewise.
        random_state: likewise.
        warm_start: likewise.

    The targets are scaled to mean 0 and variance 1 for training; ``history_`` is in these units.

    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> model = FCNNRegressor(random_state=0).fit(X, 100 + 5 * X[:, 0])
    >>> bool(abs(model.predict([[0.5]])[0] - 102.5) < 1)
    True
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128, 64),
        members: int = 8,
        dropout: float = 0.1,
        weight_decay: float = 1e-3,
        learning_rate: float = 3e-3,
        epochs: int | None = None,
        batch_size: int | None = None,
        validation_fraction: float = 0.125,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.hidden, self.members, self.dropout = hidden, members, dropout
        self.weight_decay, self.learning_rate = weight_decay, learning_rate
        self.epochs, self.batch_size = epochs, batch_size
        self.validation_fraction, self.patience = validation_fraction, patience
        self.verbose, self.random_state, self.warm_start = verbose, random_state, warm_start

    _kept: ClassVar[tuple[str, ...]] = ("schema_", "single_")

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from a table.

        Args:
            X: ``(rows, columns)``, an array or a data frame.
            y: ``(rows,)`` or ``(rows, targets)`` numbers.

        Raises:
            DataError: if the table cannot be read.
        """
        features = self._features(X, reset=True)
        _require(self, y)
        y = check_array(y, ensure_2d=False, dtype="float64", input_name="y")
        check_consistent_length(next(iter(features.values())), y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self.single_ = y.ndim == 1
        y = y.reshape(len(y), -1)
        mean, spread = y.mean(0), y.std(0)
        spread = np.where(spread > 0, spread, 1.0)
        self._fit(
            features,
            ((y - mean) / spread).astype("float32"),
            outputs=y.shape[1],
            activation="linear",
            loss=MeanSquaredError(reduction=REDUCTION),
            metrics=["mean_absolute_error"],
            mean=mean.tolist(),
            scale=spread.tolist(),
        )
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The number, ``(rows,)``, or numbers, ``(rows, targets)``, for each row."""
        self.model  # noqa: B018 - for its error
        found = self._forward(self._features(X)).astype("float64")
        return found[:, 0] if self.single_ else found


def _unseen(rows: int, members: int, fraction: float, seed: int, classes: np.ndarray | None) -> np.ndarray:
    """Which rows each member does not learn from, ``(rows, members)``: a part of its own, with every class's share.

    They stop training early and calibrate probabilities, and no row is lost to the whole.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"validation_fraction is a number from 0 to less than 1; received {fraction!r}")
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
    return (place[:, None] - fraction * np.arange(members)) % 1 < fraction


def _calibrate(members: Model, features: dict[str, np.ndarray], y: np.ndarray, unseen: np.ndarray) -> None:
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


def _is_table(X: Any) -> bool:
    return hasattr(X, "columns") and hasattr(X, "dtypes")


def _require(estimator: Family, y: Any) -> None:
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
