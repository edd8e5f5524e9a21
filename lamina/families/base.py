"""What the six families have in common: a Lamina model behind scikit-learn's interface.

scikit-learn itself takes 0.7 seconds and 100 MB to import. The estimators that it has a type for, as classifiers, derive from
its classes too; those that only write, draw, forecast or restore do without, and it is imported when it is used with them.

An estimator's settings are the arguments of its ``__init__``; ``fit`` makes ``model_``, an ordinary Lamina model with the
preprocessing inside, and whatever else prediction needs. ``save`` writes all of it into one model file.
"""

import contextlib
import inspect
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import numpy as np

from lamina import families
from lamina.core.config import config
from lamina.core.errors import ConfigError, DataError, FileError, nearest, shown
from lamina.families.settings import check_fitted, decode, encode
from lamina.models.model import Model
from lamina.saving import load_model, read_description
from lamina.training.callback import Callback
from lamina.training.callbacks import EarlyStopping
from lamina.training.checkpoint import Checkpoint

#: name -> class, for reading model files
_FAMILIES: dict[str, type["Family"]] = {}


class Family:
    """The base of all ready-made estimators.

    A subclass has the arguments ``learning_rate``, ``validation_fraction``, ``patience``, ``verbose``, ``random_state``
    and ``warm_start`` among others, and ``fit``, which calls :meth:`_train`. With ``warm_start`` the network and what it
    was fitted to (columns, classes, scales, tokens) stay; arguments that say how to build them are not read again.

    Attributes:
        model_: the trained network, after ``fit``.
        history_: the logs of training, one list for each number.
        n_iter_: how many epochs were run.
    """

    #: the attributes made by ``fit`` that prediction needs beside the model
    _kept: ClassVar[tuple[str, ...]] = ()
    #: the settings that name a folder to read: they are not kept in files
    _folders: ClassVar[tuple[str, ...]] = ()

    # read in _train; every subclass has them as arguments
    learning_rate: float
    validation_fraction: float
    patience: int | None
    verbose: int | str
    random_state: int | None

    #: what the data were, as far as the estimator itself need not know; kept in its file
    source_: dict[str, Any]
    #: callbacks that somebody else wants to hear from training, and where its state is kept; see :meth:`watch`
    _watching: tuple[Callback, ...] = ()
    _checkpoint: str | Path | Checkpoint | None = None

    model_: Any
    history_: dict[str, list[float]]
    n_iter_: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
            _FAMILIES[cls.__name__] = cls

    # -- what scikit-learn asks of an estimator ------------------------------------------------------------------------

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return sorted(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of ``__init__``, by name.

        Args:
            deep: is there for scikit-learn; no argument is an estimator.
        """
        return {name: getattr(self, name) for name in self._get_param_names()}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of ``__init__``.

        Raises:
            ConfigError: for one that there is not.
        """
        known = self._get_param_names()
        for name in params:
            if name not in known:
                raise ConfigError(f"Invalid parameter {name!r} for {type(self).__name__}. {nearest(name, known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        usual = inspect.signature(type(self)).parameters
        changed = {name: value for name, value in self.get_params().items() if repr(value) != repr(usual[name].default)}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def _repr_html_(self) -> str:
        from sklearn.utils import estimator_html_repr

        return estimator_html_repr(self)

    def __sklearn_tags__(self) -> Any:
        from sklearn.base import BaseEstimator

        return BaseEstimator.__sklearn_tags__(self)

    # -- training ------------------------------------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The trained network: an ordinary Lamina model, to look at or go on with by hand."""
        check_is_fitted(self)
        return self.model_

    def watch(self, *callbacks: Callback, checkpoint: str | Path | Checkpoint | None = None) -> Self:
        """Let ``callbacks`` hear from the next ``fit`` (or ``pretrain``), and keep its state in a folder.

        Args:
            callbacks: what to run in between.
            checkpoint: a folder, or a :class:`lamina.Checkpoint`: the same program goes on there after it was stopped or
                killed, and ends with the same network (see :meth:`lamina.Model.fit`). Every training has its own.
        """
        self._watching, self._checkpoint = callbacks, checkpoint
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
        patience = max(5, epochs // 3) if self.patience is None else whole("patience", self.patience, 0)
        verbose = _verbosity(self.verbose)
        above_zero("learning_rate", self.learning_rate)
        model.compile(optimizer, loss, metrics=list(metrics), weighted_metrics=list(weighted_metrics) or None)
        callbacks = [*callbacks, *self._watching]
        checkpoint, self._watching, self._checkpoint = self._checkpoint, (), None
        if validation is not None and patience:
            callbacks.append(EarlyStopping(monitor, patience=patience, restore_best_weights=True))
        history = model.fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_data=validation,
            class_weight=class_weight,
            sample_weight=sample_weight,
            checkpoint=checkpoint,
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
        check_is_fitted(self)
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
        check_is_fitted(self)
        self.model_.task = {
            "estimator": type(self).__name__,
            "parameters": encode(self.get_params(deep=False) | dict.fromkeys(self._folders)),
            "fitted": encode({name: getattr(self, name) for name in self._all_kept() if hasattr(self, name)}),
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
        name = task.get("estimator")
        name = name if isinstance(name, str) else ""
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
            parameters, fitted = decode(task["parameters"]), decode(task["fitted"])
            for name in found._folders:
                if parameters.get(name) is not None:
                    raise ConfigError(f"{name} is {shown(parameters[name])}; a file cannot name a folder to read")
            estimator: Any = found(**parameters)
            for name, value in fitted.items():
                check_fitted(name, value, found._all_kept())
                setattr(estimator, name, value)
        except Exception as error:  # a stranger's settings can be wrong in more ways than can be listed
            what = str(error).partition("\n")[0][:200]
            raise FileError(f"{filepath}: the settings of this {found.__name__} cannot be read ({what}).") from error
        estimator.model_ = model
        return estimator

    @classmethod
    def _all_kept(cls) -> tuple[str, ...]:
        return (*cls._kept, "source_", "n_features_in_", "feature_names_in_", "history_", "n_iter_")

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a worker process gets networks as the bytes of their model files.
        state = dict(self.__dict__)
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
        self.__dict__.update(state)


class _ModelFile(bytes):
    """The content of a model file."""


def check_is_fitted(estimator: Any, attribute: str = "model_") -> None:
    """Refuse an estimator without an attribute that ``fit`` makes, as :func:`sklearn.utils.validation.check_is_fitted`.

    Raises:
        NotFittedError: scikit-learn's.
    """
    if not hasattr(estimator, attribute):
        from sklearn.exceptions import NotFittedError

        raise NotFittedError(f"This {type(estimator).__name__} is not fitted yet.\nWrite:  .fit(...)  before.")


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
    share("validation_fraction", fraction)
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


def wholes(name: str, values: Any, least: int = 1) -> list[int]:
    """``values`` as whole numbers of at least ``least``.

    Raises:
        ConfigError: naming the argument, if they are none.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} is several whole numbers; received {values!r}.\nWrite:  {name}=({values!r},)")
    return [whole(f"every number in {name}", value, least) for value in values]


def above_zero(name: str, value: Any) -> None:
    """Refuse what is not a number above 0.

    Raises:
        ConfigError: naming the argument.
    """
    if not _is_number(value) or not 0 < value < np.inf:
        raise ConfigError(f"{name} is a number above 0; received {value!r}")


def share(name: str, value: Any) -> None:
    """Refuse what is not a number from 0 to less than 1.

    Raises:
        ConfigError: naming the argument.
    """
    if not _is_number(value) or not 0 <= value < 1:
        raise ConfigError(f"{name} is a number from 0 to less than 1; received {value!r}")


def checked_table(estimator: Any, X: Any, hint: str, **options: Any) -> Any:
    """A table of numbers as scikit-learn checks it (:func:`sklearn.utils.validation.validate_data`).

    Args:
        estimator: whose table it is.
        X: the table.
        hint: what to do about a text among the numbers.
        options: for scikit-learn.

    Raises:
        DataError: for a text among the numbers, by its row and column.
        ValueError: scikit-learn's own, for everything else.
    """
    from sklearn.utils.validation import validate_data

    try:
        return validate_data(estimator, X, **options)
    except ValueError as error:
        if "could not convert" not in str(error):
            raise
        refuse_text(X, "X", hint)
        raise


def refuse_text(x: Any, name: str, hint: str) -> None:
    """An error that names the first entry that cannot be read as a number, if there is one.

    Raises:
        DataError: with its row and column; the first row of a data frame is 1, as in messages about tables.
    """
    columns = list(x.columns) if hasattr(x, "columns") else None
    for place, value in np.ndenumerate(np.asarray(x, object)):
        try:
            float(value)
        except (TypeError, ValueError):
            at = ", ".join(map(str, place))
            where = f"{name}[{at}]" if columns is None else f"{name}, column {columns[place[1]]!r}, row {place[0] + 1}"
            raise DataError(f"{where}: expected a number: {str(value)[:60]!r}.\n{hint}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


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
    if isinstance(verbose, str) or verbose not in (0, 1, 2):
        raise ConfigError(f'verbose is 0, 1, 2 or "auto"; received {verbose!r}')
    return int(verbose)
