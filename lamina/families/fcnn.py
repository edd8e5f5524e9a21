"""Fully connected networks for tables: numbers, categories, dates and missing values in; classes or numbers out.

Several small networks are trained side by side, as one, and their answers are averaged: on tables, that is worth more
than one network of the same size (Gorishniy et al., 2024, https://arxiv.org/abs/2410.24210, and the literature on
ensembles before it).
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.data.tables import Column, TableEncoder, TableSchema
from lamina.families.base import Family, checked_table, refuse_text, whole, wholes
from lamina.families.fcnn_network import averaged, calibrate, left_out, network
from lamina.families.labels import class_weights, encoded, refuse_missing
from lamina.layers import GlobalAveragePooling1D
from lamina.losses import BinaryCrossentropy, MeanSquaredError, SparseCategoricalCrossentropy
from lamina.models.model import Model
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay

#: each member's loss is over the rows that it learns from
REDUCTION = "mean_with_sample_weight"


class _FCNN(BaseEstimator, Family):
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
                schema = TableSchema.infer(X, name="X")
                for column in schema.columns:
                    if column.reason.startswith("all but "):  # a text among numbers
                        warnings.warn(
                            f"X, column {column.name!r}: {column.reason}. It is "
                            + ("left out." if column.kind == "dropped" else "taken for categories.")
                            + "\nTo have numbers, write None in place of the others.",
                            stacklevel=4,
                        )
                self.schema_ = schema.to_dict()
            names = [column["name"] for column in (self.schema_ or {})["columns"]]
            table = X if _is_table(X) else dict(zip(names, np.asarray(X, object).T, strict=True))
            features = TableEncoder(self._schema()).encode(table, "X")
            return {name: array[:, None] if array.ndim == 1 else array for name, array in features.items()}
        X = checked_table(
            self,
            X,
            "Write NaN for a number that is missing. Texts are taken for categories in a data frame."
            if reset
            else "The network was trained on an array of numbers. Write NaN for one that is missing.",
            reset=reset,
            dtype="float64",
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
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
        hidden = wholes("hidden", self.hidden)
        with self._seeded() as seed:
            unseen = left_out(rows, members, self.validation_fraction, seed, classes)
            weight = np.ones(rows) if class_weight is None or classes is None else class_weight[classes]
            if self._goes_on:
                model = self._members()
            else:
                model = network(self._schema(), features, outputs, activation, hidden, self.dropout, members)
            batch = int(np.clip(2 ** round(np.log2(max(rows / 40, 1))), 8, 256))
            batch = whole("batch_size", batch if self.batch_size is None else self.batch_size)
            epochs = whole("epochs", int(np.clip(400_000 / rows, 15, 100)) if self.epochs is None else self.epochs)
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

    @property
    def _goes_on(self) -> bool:
        return self.warm_start and "model_" in vars(self)

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
            2017, https://arxiv.org/abs/1706.04599). Not with ``class_weight``, whose probabilities are meant to differ.
        epochs: passes over the data; by their number if ``None``.
        batch_size: rows in a step; by their number if ``None``.
        validation_fraction: the share of rows, another one for each member, that it does not learn from: they tell when
            to stop, and calibrate. None of fewer than 20 rows.
        patience: epochs without getting better before stopping; a third of all if ``None``, 0 never to stop.
        verbose: 0 for silence, 1 for a bar, 2 for a line an epoch, ``"auto"`` for a bar in a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on from where the last one ended, with the columns, categories, classes and scales of
            then.

    ``fit(X, y)`` takes an array of numbers or a pandas or polars data frame of numbers, texts, dates and truth values. NaN,
    null and unknown categories are allowed. Columns without use are left out or do nothing: constant ones, row counters,
    identifiers, free text; of a data frame, ``schema_`` says which and why. A class with one row is learnt like the others,
    and never held back. ``y``: a class for each row, or rows of zeros and ones for several labels at once.

    >>> X = np.array([[0.0], [0.2], [0.9], [1.0]])
    >>> FCNNClassifier(random_state=0).fit(X, ["low", "low", "high", "high"]).predict([[0.1], [0.8]]).tolist()
    ['low', 'high']
    """

    _kept: ClassVar[tuple[str, ...]] = ("schema_", "classes_", "multilabel_")

    #: the classes, sorted, or the numbers of the labels; whether a row has several labels
    classes_: np.ndarray
    multilabel_: bool

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
            ConfigError: for a setting out of its range.

        Warns:
            UserWarning: of a column of a data frame with a few texts among numbers, which cannot be taken for numbers.
        """
        features = self._features(X, reset=not self._goes_on)
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
            calibrate(model, features, targets, unseen)
        return self

    def _targets(self, y: Any, features: np.ndarray) -> np.ndarray:
        _require(self, y)
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
        check_consistent_length(features, y)
        refuse_missing(y)
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ConfigError(
                "several targets at once are rows of zeros and ones.\n"
                "Write:  sklearn.multioutput.MultiOutputClassifier(FCNNClassifier())  for several classes a row"
            )
        several = kind == "multilabel-indicator"
        if self._goes_on and (several != self.multilabel_ or (several and y.shape[1] != len(self.classes_))):
            raise DataError("with warm_start, y has the form of before.\nWrite:  set_params(warm_start=False)")
        before = self.classes_ if self._goes_on else None
        self.multilabel_ = several
        if several:
            self.classes_ = np.arange(y.shape[1])
            return y.astype("int32")
        self.classes_, places = encoded(column_or_1d(y, warn=True), len(y), least=1, before=before)
        return places

    def _class_weight(self, targets: np.ndarray) -> np.ndarray | None:
        if self.multilabel_ and self.class_weight is not None:
            raise ConfigError("class_weight is for one class a row, not for several labels at once.")
        weights = None if self.multilabel_ else class_weights(self.class_weight, self.classes_, targets)
        return None if weights is None else np.array(list(weights.values()))

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

    _kept: ClassVar[tuple[str, ...]] = ("schema_", "single_", "mean_", "scale_")

    #: whether predictions have one axis; the mean and the deviation of each target, which the network ends with
    single_: bool
    mean_: np.ndarray
    scale_: np.ndarray

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from a table.

        Args:
            X: ``(rows, columns)``, an array or a data frame.
            y: ``(rows,)`` or ``(rows, targets)`` numbers.

        Raises:
            DataError: if the table cannot be read, or a target is no number.
            ShapeError: if there are other targets than before with ``warm_start``.
            ConfigError: for a setting out of its range.

        Warns:
            UserWarning: as in :meth:`FCNNClassifier.fit`.
        """
        features = self._features(X, reset=not self._goes_on)
        _require(self, y)
        try:
            y = check_array(y, ensure_2d=False, dtype="float64", input_name="y")
        except ValueError as error:
            if "could not convert" in str(error):
                refuse_text(y, "y", "For classes, write:  FCNNClassifier")
            raise
        check_consistent_length(next(iter(features.values())), y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        single = y.ndim == 1
        y = y.reshape(len(y), -1)
        if not self._goes_on:
            self.single_, self.mean_, spread = single, y.mean(0), y.std(0)
            self.scale_ = np.where(spread > 0, spread, 1.0)
        if y.shape[1] != len(self.mean_) or single != self.single_:
            raise ShapeError(
                f"with warm_start, y has {len(self.mean_)} targets a row as before; received {y.shape[1]}.\n"
                "Write:  set_params(warm_start=False)"
            )
        self._fit(
            features,
            ((y - self.mean_) / self.scale_).astype("float32"),
            outputs=y.shape[1],
            activation="linear",
            loss=MeanSquaredError(reduction=REDUCTION),
            metrics=["mean_absolute_error"],
            mean=self.mean_.tolist(),
            scale=self.scale_.tolist(),
        )
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The number, ``(rows,)``, or numbers, ``(rows, targets)``, for each row."""
        self.model  # noqa: B018 - for its error
        found = self._forward(self._features(X)).astype("float64")
        return found[:, 0] if self.single_ else found


def _is_table(X: Any) -> bool:
    return hasattr(X, "columns") and hasattr(X, "dtypes")


def _require(estimator: Family, y: Any) -> None:
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
