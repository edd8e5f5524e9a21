"""What the six families have in common: a Lamina model behind scikit-learn's interface.

An estimator's settings are the arguments of its ``__init__``; ``fit`` makes ``model_``, an ordinary Lamina model with the
preprocessing inside, and whatever else prediction needs. ``save`` writes all of it into one model file.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from lamina import families
from lamina.core.config import config
from lamina.core.errors import ConfigError, DataError, FileError
from lamina.models.model import Model
from lamina.saving import load_model, read_description
from lamina.training.callbacks import Callback, EarlyStopping

#: name -> class, for reading model files
_FAMILIES: dict[str, type["Family"]] = {}


class Family(BaseEstimator):
    """The base of all ready-made estimators.

    A subclass has the arguments ``validation_fraction``, ``patience``, ``verbose`` and ``random_state`` among others,
    and ``fit``, which calls :meth:`_train`.

    Attributes:
        model_: the trained network, after ``fit``.
        history_: the logs of training, one list for each number.
        n_iter_: how many epochs were run.
    """

    #: the attributes made by ``fit`` that prediction needs beside the model
    _kept: ClassVar[tuple[str, ...]] = ()

    # read in _train; every subclass has them as arguments
    validation_fraction: float
    patience: int | None
    verbose: int | str
    random_state: int | None

    #: what the data were, as far as the estimator itself need not know; kept in its file
    source_: dict[str, Any]
    #: callbacks that somebody else wants to hear from training; see :meth:`watch`
    _watching: tuple[Callback, ...] = ()

    model_: Any
    history_: dict[str, list[float]]
    n_iter_: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
            _FAMILIES[cls.__name__] = cls

    @property
    def model(self) -> Any:
        """The trained network: an ordinary Lamina model, to look at or go on with by hand."""
        check_is_fitted(self, "model_")
        return self.model_

    def watch(self, *callbacks: Callback) -> Self:
        """Let ``callbacks`` hear from the next ``fit``."""
        self._watching = callbacks
        return self

    def _train(
        self,
        model: Any,
        x: Any,
        y: Any = None,
        validation: Any = None,
        *,
        loss: Any = None,
        metrics: Sequence[Any] = (),
        weighted_metrics: Sequence[Any] = (),
        optimizer: Any = "adam",
        epochs: int,
        batch_size: int,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        callbacks: Sequence[Callback] = (),
        monitor: str = "val_loss",
    ) -> None:
        """Compile ``model`` and train it; it stops early where there are validation data, and ends with its best epoch."""
        model.compile(optimizer, loss, metrics=list(metrics), weighted_metrics=list(weighted_metrics) or None)
        callbacks = [*callbacks, *self._watching]
        self._watching = ()
        patience = max(5, epochs // 3) if self.patience is None else self.patience
        if validation is not None and patience:
            callbacks.append(EarlyStopping(monitor, patience=patience, restore_best_weights=True))
        history = model.fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=_verbosity(self.verbose),
            callbacks=callbacks,
            validation_data=validation,
            class_weight=class_weight,
            sample_weight=sample_weight,
        )
        self.model_, self.history_ = model, history.history
        self.n_iter_ = len(history.epoch)

    @contextlib.contextmanager
    def _seeded(self) -> Iterator[int]:
        """Lamina's random numbers follow ``random_state`` inside (``None``: the seed of the process); gives the seed."""
        state = self.random_state
        if isinstance(state, np.random.RandomState):
            state = int(state.randint(2**31))
        if state is not None and (isinstance(state, bool) or not isinstance(state, int | np.integer) or state < 0):
            raise ConfigError(f"random_state is a whole number from 0 or None; received {state!r}")
        before = config.seed, config.draws
        config.seed, config.draws = (config.seed if state is None else int(state) % 2**32), 0
        try:
            yield config.seed
        finally:
            config.seed, config.draws = before

    def _forward(self, x: Any, batch_size: int = 256, model: Any = None) -> Any:
        """What the model gives for ``x``, always in batches of one size: a row's result depends on that row alone.

        ``model`` may be a part of ``model_``, as an encoder.
        """
        check_is_fitted(self, "model_")
        size = len(jax.tree.leaves(x)[0])
        missing = -size % batch_size
        padded = jax.tree.map(lambda a: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]), x) if missing else x
        return jax.tree.map(lambda a: a[:size], (model or self.model_).predict(padded, batch_size=batch_size))

    # -- files ---------------------------------------------------------------------------------------------------------

    def save(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Write the estimator into one model file: settings, preprocessing, network, weights.

        Args:
            filepath: where to.
            overwrite: whether to replace a file that is there.

        Raises:
            FileError: if the file is there and may not be replaced, or cannot be written.
        """
        check_is_fitted(self, "model_")
        self.model_.task = {
            "estimator": type(self).__name__,
            "parameters": _encode(self.get_params(deep=False)),
            "fitted": _encode({name: getattr(self, name) for name in self._all_kept() if hasattr(self, name)}),
        }
        self.model_.save(filepath, overwrite)

    @classmethod
    def load(cls, filepath: str | Path) -> Self:
        """The estimator in a file that :meth:`save` wrote.

        Raises:
            FileError: if there is none, or one of another kind.
        """
        task = read_description(filepath).get("task")
        task = task if isinstance(task, dict) else {}
        name = str(task.get("estimator"))
        # importing the estimator registers what its network is made of
        found = _FAMILIES.get(name) or (getattr(families, name) if name in families.__all__ else None)
        if found is None:
            raise FileError(
                f"{filepath} holds a model, but not one of a family.\nWrite:  lm.load_model({str(filepath)!r})"
            )
        if not issubclass(found, cls):
            raise FileError(f"{filepath} holds a {found.__name__}.\nWrite:  {found.__name__}.load({str(filepath)!r})")
        model = load_model(filepath)
        try:
            estimator = found(**_decode(task["parameters"]))
            for name, value in _decode(task["fitted"]).items():
                if name not in found._all_kept():
                    raise KeyError(name)
                setattr(estimator, name, value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(f"{filepath}: the settings of this {found.__name__} cannot be read ({error}).") from None
        estimator.model_ = model
        return estimator

    @classmethod
    def _all_kept(cls) -> tuple[str, ...]:
        return (*cls._kept, "source_", "n_features_in_", "feature_names_in_", "history_", "n_iter_")

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a worker process gets networks as the bytes of their model files.
        state = dict(super().__getstate__())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            for name, value in state.items():
                if isinstance(value, Model):
                    value.save(path)
                    state[name] = _ModelFile(path.read_bytes())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            for name, value in state.items():
                if isinstance(value, _ModelFile):
                    path.write_bytes(value)
                    state[name] = load_model(path)
        super().__setstate__(state)


class _ModelFile(bytes):
    """The content of a model file."""


def load(filepath: str | Path) -> Family:
    """The estimator, of whichever family, in a file that its ``save`` wrote.

    Raises:
        FileError: if there is none in it.
    """
    return Family.load(filepath)


def held_out(size: int, fraction: float, seed: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the examples to train on and of those to watch over training.

    Args:
        size: how many examples there are.
        fraction: the share to hold out; nothing is held out of fewer than 20 examples.
        seed: decides which.
        classes: the class of each example, of which the same share is then held out.

    Raises:
        ConfigError: if the fraction is not from 0 to less than 1.

    >>> kept, watched = held_out(100, 0.1, seed=0)
    >>> len(kept), len(watched)
    (90, 10)
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"validation_fraction is a number from 0 to less than 1; received {fraction!r}")
    rng = np.random.Generator(np.random.Philox(key=seed))
    if not fraction or size < 20:
        return np.arange(size), np.arange(0)
    groups = [np.arange(size)] if classes is None else [np.flatnonzero(classes == c) for c in np.unique(classes)]
    watched = []
    for members in groups:
        members = rng.permutation(members)
        watched.append(members[: min(round(fraction * len(members)), len(members) - 1)])
    away = np.sort(np.concatenate(watched))
    return np.setdiff1d(np.arange(size), away), away


def whole(name: str, value: Any, least: int = 1) -> int:
    """``value`` as a whole number of at least ``least``.

    Raises:
        ConfigError: naming the argument, if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(f"{name} is a whole number of at least {least}; received {value!r}")
    return int(value)


def finite(name: str, x: np.ndarray) -> None:
    """Refuse NaN and infinity in numbers.

    Raises:
        DataError: naming where the first one is.
    """
    bad = ~np.isfinite(x)
    if bad.any():
        where = [int(i) for i in np.argwhere(bad)[0]]
        raise DataError(f"{name} holds {int(bad.sum())} values that are NaN or infinite; the first is {name}{where}.")


def _verbosity(verbose: int | str) -> int:
    if verbose == "auto":
        return int(sys.stdout is not None and sys.stdout.isatty())
    return int(verbose)


def _encode(value: Any) -> Any:
    """``value`` as JSON holds it; arrays and tuples are marked."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": "object" if value.dtype == object else value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {"pairs": [[_encode(key), _encode(item)] for key, item in value.items()]}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"a setting of type {type(value).__name__} cannot be written to a file: {value!r}")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        if value["dtype"] == "object":
            array = np.empty(len(value["array"]), object)
            array[:] = value["array"]
            return array
        return np.array(value["array"], value["dtype"])
    if "tuple" in value:
        return tuple(_decode(item) for item in value["tuple"])
    return {_decode(key): _decode(item) for key, item in value["pairs"]}
