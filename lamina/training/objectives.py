"""The loss and the metrics of a model with one output or several, as ``compile`` names them."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lamina import metrics as metrics_module
from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, LaminaError, ShapeError, nearest
from lamina.core.masks import get_mask
from lamina.core.module import Module
from lamina.core.state import Array
from lamina.losses import Loss
from lamina.losses.base import reduce_losses
from lamina.metrics import Mean, Metric


class Objective(Module):
    """What training minimizes and what it reports.

    Args:
        loss: a loss by name, class, instance or function; a list or dictionary of them for several outputs.
        metrics: likewise, or a list of metrics for one output.
        loss_weights: a weight for each output's loss.
        weighted_metrics: metrics that take sample weights into account.
        output_names: the names of the outputs, where the model knows them.
    """

    def __init__(
        self,
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        output_names: list[str] | None = None,
    ) -> None:
        self.loss, self.metrics, self.loss_weights = loss, metrics, loss_weights
        self.weighted_metrics, self.output_names = weighted_metrics, output_names
        self.losses = _map(_loss, loss)
        for given in (metrics, weighted_metrics):
            _check_metrics(given)
        self.mean_loss = Mean(name="loss")
        #: metric objects, each with the position of its output and whether it is weighted
        self.tracked: dict[str, Metric] = {}
        self._places: dict[str, tuple[int, bool]] = {}
        self._built = False

    def pairs(self, y: Any, y_pred: Any) -> Iterator[tuple[str | int, Any, Array]]:
        """Name (or position), targets and predictions of each output."""
        if isinstance(y_pred, Mapping):
            for name, prediction in y_pred.items():
                if not isinstance(y, Mapping):
                    raise ShapeError(
                        f"the model's outputs are a dictionary ({', '.join(map(str, y_pred))}); so y has to be one "
                        f"with the same names. Received {_kind(y)}."
                    )
                if name in y:
                    yield name, y[name], prediction
        elif isinstance(y_pred, list | tuple):
            names: list[Any] = self.output_names or list(range(len(y_pred)))
            if isinstance(y, Mapping):
                y = [y.get(name) for name in names]
            if not isinstance(y, list | tuple) or len(y) != len(y_pred):
                raise ShapeError(f"the model has {len(y_pred)} outputs; so y has to be a list of as many arrays.")
            for name, target, prediction in zip(names, y, y_pred, strict=True):
                if target is not None:
                    yield name, target, prediction
        else:
            name = self._names(y_pred)[0]
            if isinstance(y, Mapping):
                y = y.get(name)
            yield name, y[0] if isinstance(y, list) and len(y) == 1 else y, y_pred

    def check(self, y: Any, y_pred: Any) -> None:
        """Refuse settings that name, or number, other outputs than the model has.

        Raises:
            ConfigError: for a name that no output has, or as many of something as there are no outputs.
            ShapeError: for such a name in ``y``.
        """
        names, settings = self._names(y_pred), {"loss": self.losses, "loss_weights": self.loss_weights}
        for what, given in (settings | {"metrics": self.metrics, "weighted_metrics": self.weighted_metrics}).items():
            if isinstance(given, Mapping) and "class" not in given:
                _refuse_unknown(what, given, names, ConfigError)
            elif what in settings and isinstance(given, list | tuple) and len(given) != len(names):
                raise ConfigError(
                    f"{what} is a list of {len(given)}, and the model has {len(names)} output"
                    f"{'s' * (len(names) != 1)}; each output needs one."
                )
        if isinstance(y, Mapping):
            _refuse_unknown("y", y, names, ShapeError)

    def _names(self, y_pred: Any) -> list[str | int]:
        """The names of the outputs, or their positions."""
        if isinstance(y_pred, Mapping):
            return list(y_pred)
        several = isinstance(y_pred, list | tuple)
        return list(self.output_names or range(len(y_pred) if several else 1))

    def build(self, y: Any, y_pred: Any) -> None:
        """Make the metrics, some of which depend on the shapes of targets and predictions."""
        outputs = list(self.pairs(y, y_pred))
        for given, weighted in (self.metrics, False), (self.weighted_metrics, True):
            for place, (name, target, prediction) in enumerate(outputs):
                for identifier in _for_output(given, name, place, len(outputs)):
                    loss = _one(self.losses, name, place)
                    metric = metrics_module.for_outputs(
                        identifier, target.shape, target.dtype, prediction.shape, getattr(loss, "name", None)
                    )
                    key = metric.name if len(outputs) == 1 else f"{name}_{metric.name}"
                    if weighted and key in self.tracked:
                        key = key.removesuffix(metric.name) + f"weighted_{metric.name}"
                    while key in self.tracked:
                        key = f"{key}_1"
                    self.tracked[key], self._places[key] = metric, (place, weighted)
        if len(outputs) > 1:
            for place, (name, _, _) in enumerate(outputs):
                self.tracked[f"{name}_loss"], self._places[f"{name}_loss"] = Mean(name=f"{name}_loss"), (place, False)
        self._built = True

    def has_loss(self) -> bool:
        """Whether any output has a loss."""
        return any(loss is not None for loss in jax.tree.leaves(self.losses))

    def compute(self, y: Any, y_pred: Any, sample_weight: Any = None, rows: Any = None) -> Array:
        """The loss: each output's own, weighted and added up.

        Args:
            y: the targets.
            y_pred: the predictions.
            sample_weight: a weight for each example, or one such array for each output.
            rows: which rows of the batch count; all if ``None``.
        """
        return sum((loss for loss in self._each(y, y_pred, sample_weight, rows)), start=jnp.zeros(()))

    def _each(self, y: Any, y_pred: Any, sample_weight: Any, rows: Any) -> Iterator[Array]:
        outputs = list(self.pairs(y, y_pred))
        for place, (name, target, prediction) in enumerate(outputs):
            loss = _one(self.losses, name, place)
            if loss is None:
                continue
            if target is None:
                raise DataError(
                    "there are no targets to compare the predictions with: y is missing, and the model was compiled with "
                    "a loss.\nWrite:  model.fit(x, y)   or, to predict x itself,   model.fit(x, x)"
                )
            weight = _one(sample_weight, name, place)
            factor = _one(self.loss_weights, name, place)
            mask = None if rows is None else _spread(rows, prediction)
            value = loss(target, prediction, sample_weight=weight, mask=mask)
            value = jnp.mean(value) if jnp.ndim(value) else value
            tracker = self.tracked.get(f"{name}_loss")
            if isinstance(tracker, Mean) and len(outputs) > 1:
                tracker.update_state(jax.lax.stop_gradient(value), sample_weight=_count(prediction, rows))
            yield value if factor is None else value * factor

    def update_loss(self, loss: Any, y_pred: Any, rows: Any = None) -> None:
        """Take the loss of one batch into its mean."""
        leaves = jax.tree.leaves(y_pred)
        self.mean_loss.update_state(loss, sample_weight=_count(leaves[0], rows) if leaves else None)

    def update_metrics(self, y: Any, y_pred: Any, sample_weight: Any = None, rows: Any = None) -> None:
        """Take one batch into the metrics."""
        outputs = list(self.pairs(y, y_pred)) if y is not None else []
        if outputs and not self._built:
            self.build(y, y_pred)
        for key, metric in self.tracked.items():
            place, weighted = self._places[key]
            name, target, prediction = outputs[place]
            if key == f"{name}_loss":
                continue
            weight = _one(sample_weight, name, place) if weighted else None
            mask = get_mask(prediction)
            if mask is not None and mask.shape == prediction.shape[: mask.ndim]:
                weight = _times(weight, mask.astype("float32"))
            metric.update_state(target, prediction, sample_weight=_times(weight, rows))

    def results(self) -> dict[str, Any]:
        """The loss and every metric, by name."""
        return {"loss": self.mean_loss.result()} | self.metric_results()

    def metric_results(self) -> dict[str, Any]:
        """Every metric, by name."""
        found: dict[str, Any] = {}
        for key, metric in self.tracked.items():
            result = metric.result()
            if isinstance(result, Mapping):
                found |= result
            elif jnp.size(result) == 1:
                found[key] = jnp.reshape(result, ())
            elif jnp.ndim(result):
                found |= {f"{key}_{i}": value for i, value in enumerate(jnp.ravel(result))}
            else:
                found[key] = result
        return found

    def all_metrics(self) -> list[Metric]:
        """Every metric, the loss's mean first."""
        return [self.mean_loss, *self.tracked.values()]

    def reset(self) -> None:
        """Start every metric anew."""
        for metric in self.all_metrics():
            metric.reset_state()


class _Function:
    """A plain function ``(y_true, y_pred) -> losses`` as a loss; the mean over the rows that count."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Array:
        values = jnp.asarray(self.function(y, y_pred))
        return values if values.ndim == 0 else reduce_losses(values, sample_weight, mask, "sum_over_batch_size")


def _loss(identifier: Any) -> Any:
    if identifier is None:
        return None
    loss = registry.get("losses", identifier)
    if not callable(loss):
        raise ConfigError(f"a loss is a name, a lm.losses object or a function of (y_true, y_pred), not {identifier!r}")
    return loss if isinstance(loss, Loss) else _Function(loss)


def _check_metrics(given: Any) -> None:
    """Refuse a metric that is none; which one a name means is found when the shapes are known."""
    if isinstance(given, Mapping) and "class" not in given:
        given = list(given.values())
    if isinstance(given, list | tuple):
        for item in given:
            _check_metrics(item)
    elif given is not None:
        metrics_module.check(given)


def _refuse_unknown(what: str, given: Mapping[Any, Any], names: list[Any], error: type[LaminaError]) -> None:
    for name in given:
        if name not in names:
            raise error(
                f"{what} names an output {name!r}; the model's outputs are {', '.join(map(repr, names))}.\n"
                + (
                    nearest(str(name), map(str, names))
                    if isinstance(names[0], str)
                    else "A dictionary needs outputs with names:  lm.Model(inputs, {name: output, ...})"
                )
            )


def _map(fn: Any, tree: Any) -> Any:
    if isinstance(tree, Mapping) and "class" not in tree:
        return {name: fn(item) for name, item in tree.items()}
    return [fn(item) for item in tree] if isinstance(tree, list | tuple) else fn(tree)


def _one(tree: Any, name: str | int, place: int) -> Any:
    """What ``tree`` (one thing for all outputs, a list or a dictionary) says of one output."""
    if isinstance(tree, Mapping):
        return tree.get(name)
    if isinstance(tree, list | tuple):
        return tree[place] if place < len(tree) else None
    return tree


def _for_output(given: Any, name: str | int, place: int, outputs: int) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, Mapping) and "class" not in given:
        mine = given.get(name)
    elif isinstance(given, list | tuple) and outputs > 1:
        nested = len(given) == outputs
        mine = given[place] if nested else list(given)
    else:
        mine = given
    if mine is None:
        return []
    return list(mine) if isinstance(mine, list | tuple) else [mine]


def _count(prediction: Any, rows: Any) -> Any:
    return jnp.asarray(prediction.shape[0], "float32") if rows is None else jnp.sum(jnp.asarray(rows, "float32"))


def _times(weight: Any, rows: Any) -> Any:
    if weight is None or rows is None:
        return rows if weight is None else weight
    weight, rows = jnp.asarray(weight), jnp.asarray(rows)
    ndim = max(weight.ndim, rows.ndim)
    return _expand(weight, ndim) * _expand(rows, ndim)


def _expand(x: Array, ndim: int) -> Array:
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


def _spread(rows: Array, prediction: Array) -> Array:
    """``rows`` for each of a row's losses."""
    shape = prediction.shape[:-1] if prediction.ndim > 1 else prediction.shape
    return jnp.broadcast_to(_expand(rows, len(shape)), shape)


def _kind(value: Any) -> str:
    return f"an array of shape {value.shape}" if hasattr(value, "shape") else type(value).__name__
