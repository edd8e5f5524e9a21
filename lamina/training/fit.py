"""``fit`` and ``evaluate``: the loops around the compiled step."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ConfigError, DataError
from lamina.data.batches import ArrayData, StreamData, pack, unpack
from lamina.training.callbacks import Callback, Logs, Recorder
from lamina.training.checks import check_batch
from lamina.training.drivers import Driver
from lamina.training.history import History
from lamina.training.progress import ProgressBar
from lamina.training.step import Step, shapes_of

#: seconds between two looks at the numbers on the device
LOOK_EVERY = 0.25


def fit(
    model: Any,
    data: ArrayData | StreamData,
    *,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: Sequence[Callback] | Callback | None = None,
    validate: Callable[[], Logs] | None = None,
    validation_freq: int | Sequence[int] = 1,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    driver: str | None = None,
) -> History:
    """Train ``model`` on ``data``; see :meth:`lamina.Model.fit`.

    Args:
        model: a trainable.
        data: the batches.
        epochs: the epoch to stop before.
        verbose: 0 for silence, 1 for a bar, 2 for a line an epoch, ``"auto"`` for 1.
        callbacks: what to run in between.
        validate: gives the logs of validation.
        validation_freq: after how many epochs to validate, or after which ones.
        initial_epoch: the epoch to begin with.
        steps_per_epoch: steps in an epoch, where it is not one pass over the data.
        driver: ``"scan"`` or ``"loop"``; by default as is faster.
    """
    _check_settings(epochs, initial_epoch, steps_per_epoch, validation_freq, verbose, driver)
    verbose = 1 if verbose == "auto" else int(verbose)
    steps = steps_per_epoch or data.steps
    history = History({"epochs": epochs, "steps": steps, "verbose": verbose, "validates": validate is not None})
    bar = ProgressBar(verbose, epochs, steps) if verbose else None
    given = listening(model, callbacks, history.params)
    everyone: list[Callback] = [*given, *listening(model, [Recorder(history), *([bar] if bar else [])], history.params)]
    model.stop_training, model.history = False, history
    each_step = [callback for callback in everyone if callback.wants_batches()]
    if isinstance(data, ArrayData):
        run: Any = _ArrayRun(model, data, "loop" if each_step else driver, steps_per_epoch)
    else:
        run = _StreamRun(model, data)
    _call(everyone, "on_train_begin")
    logs: Logs = {}
    try:
        for epoch in range(initial_epoch, epochs):
            model.reset_metrics()
            _call(everyone, "on_epoch_begin", epoch)
            _call(each_step, "on_train_batch_begin", 0)
            looked = time.perf_counter()
            done = 0
            for done in run.epoch(epoch, steps_per_epoch, bool(each_step)):
                if each_step:
                    logs = run.logs()
                    _call(each_step, "on_train_batch_end", done - 1, logs)
                    if done != steps:
                        _call(each_step, "on_train_batch_begin", done)
                if bar and bar.live and time.perf_counter() - looked > LOOK_EVERY:
                    bar.on_steps(done, run.logs())
                    looked = time.perf_counter()
                if model.stop_training:
                    break
            if not done:
                raise DataError(f"the data gave no batch in epoch {epoch + 1}; a generator that ended gives no more.")
            logs = run.logs()
            if validate is not None and _due(validation_freq, epoch):
                _call(everyone, "on_test_begin")
                found = validate()
                _call(everyone, "on_test_end", found)
                logs |= {f"val_{name}": value for name, value in found.items()}
            _call(everyone, "on_epoch_end", epoch, logs)
            if model.stop_training:
                break
    finally:
        if bar:
            bar.close()
    _call(everyone, "on_train_end", logs)
    return history


def listening(
    model: Any, callbacks: Sequence[Callback] | Callback | None, params: dict[str, Any] | None = None
) -> list[Callback]:
    """The callbacks, each told of the model and of the run.

    Raises:
        ConfigError: for something that is no callback.
    """
    found = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])
    for callback in found:
        if not isinstance(callback, Callback):
            raise ConfigError(f"a callback is an instance of lm.callbacks.Callback, not {callback!r}")
        callback.set_params(params or {})
        callback.set_model(model)
    return found


def _check_settings(
    epochs: Any, initial_epoch: Any, steps_per_epoch: Any, validation_freq: Any, verbose: Any, driver: Any
) -> None:
    whole = {"epochs": (epochs, 0), "initial_epoch": (initial_epoch, 0), "steps_per_epoch": (steps_per_epoch, 1)}
    if not isinstance(validation_freq, Sequence) or isinstance(validation_freq, str):
        whole["validation_freq"] = (validation_freq, 1)
    for name, (value, least) in whole.items():
        if value is None and name == "steps_per_epoch":
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ConfigError(f"fit expects {name} as a whole number of at least {least}; received {value!r}")
    if verbose not in ("auto", 0, 1, 2):
        raise ConfigError(f"verbose is 0, 1, 2 or 'auto'; received {verbose!r}")
    if driver not in (None, "scan", "loop"):
        raise ConfigError(f"driver is 'scan', 'loop' or None; received {driver!r}")


class _ArrayRun:
    """Epochs over arrays. A last batch that is smaller is padded, and its padding masked, where rows do not mix."""

    def __init__(self, model: Any, data: ArrayData, kind: str | None, steps: int | None) -> None:
        self.model, self.data = model, data
        self.batch = min(data.batch_size, data.size)
        self.rest = data.size % self.batch
        self.pads = bool(self.rest) and model.may_pad()
        device = jax.tree.map(jnp.asarray, data.tree)
        example = shapes_of(device, self.batch)
        if self.pads:
            example = (example, jax.ShapeDtypeStruct((self.batch,), jnp.float32))
        step = model.step("padded" if self.pads else "train", example)
        self.driver = Driver(step, device, kind, steps=steps or data.steps, batch=self.batch)
        self.device = device
        self.last: Driver | None = None
        self.seed = int(model.progress.seed.stored)
        self.position = 0

    def epoch(self, epoch: int, steps: int | None, one_by_one: bool) -> Iterator[int]:
        """Run one epoch; yields how many steps are done, after every dispatch."""
        self._start()
        if steps is None:
            yield from self._pass(self.data.order(self.seed, epoch), 0, self.data.steps, 0)
            return
        done = 0
        position = epoch * steps
        while done < steps:  # an epoch of its own length goes through the data as often as it takes
            number, start = divmod(position + done, self.data.steps)
            stop = min(self.data.steps, start + steps - done)
            yield from self._pass(self.data.order(self.seed, number), start, stop, done)
            done += stop - start

    def _start(self) -> None:
        self.driver.reset_logs()
        if self.last is not None:
            self.last.reset_logs()

    def _pass(self, order: np.ndarray, start: int, stop: int, done: int) -> Iterator[int]:
        batch, size = self.batch, self.data.size
        whole = self.data.steps if self.pads else size // batch
        padded = np.concatenate([order, np.zeros(whole * batch - size, "int32")]) if self.pads else order
        indices = padded[: whole * batch].reshape(whole, batch)
        rows = (np.arange(whole * batch) < size).astype("float32").reshape(whole, batch) if self.pads else None
        chunk = self.driver.chunk
        for first in range(start, min(stop, whole), chunk):
            last = min(first + chunk, stop, whole)
            self.driver.run(indices[first:last], None if rows is None else rows[first:last])
            yield done + last - start
        if (
            stop > whole
        ):  # rows mix (batch normalization, a train_step of one's own): the rest is a batch of its own size
            self._run_rest(order[whole * batch :])
            yield done + stop - start

    def _run_rest(self, index: np.ndarray) -> None:
        if self.last is None:
            step = self.model.step("train", shapes_of(self.device, len(index)))
            self.last = Driver(step, self.device, "loop")
        self.last.run(index[None])

    def logs(self) -> Logs:
        """What was logged since the epoch began."""
        return _merged(self.model, [self.driver, *([self.last] if self.last else [])])


class _StreamRun:
    """Epochs over batches from elsewhere; each shape of batch has its own program."""

    def __init__(self, model: Any, data: StreamData) -> None:
        self.model, self.data = model, data
        self.drivers: dict[Step, Driver] = {}

    def epoch(self, epoch: int, steps: int | None, one_by_one: bool) -> Iterator[int]:
        """Run one epoch; yields how many steps are done, after each."""
        for driver in self.drivers.values():
            driver.reset_logs()
        for done, batch in enumerate(self.data.epoch(epoch), start=1):
            self.run(batch)
            yield done
            if steps is not None and done >= steps:
                return

    def run(self, batch: Any, kind: str = "train") -> None:
        """One step on ``batch``."""
        if not self.drivers:
            check_batch(self.model, batch)
        batch = jax.tree.map(jnp.asarray, self.model.prepare_batch(batch))
        step = self.model.step(kind, shapes_of(batch))
        driver = self.drivers.get(step)
        if driver is None:
            driver = self.drivers[step] = Driver(step)
        driver.run_batch(batch)

    def logs(self) -> Logs:
        """What was logged since the epoch began."""
        return _merged(self.model, list(self.drivers.values()))


def _merged(model: Any, drivers: list[Driver]) -> Logs:
    """The logs of several drivers: metrics by their last result, everything else by its mean over the steps."""
    parts = [(driver.results(), driver.steps) for driver in drivers if driver.steps]
    metrics = model.metric_names() if any(mean for (_, mean), _ in parts) else set()
    total = sum(steps for _, steps in parts)
    logs: Logs = {}
    for (last, mean), steps in parts:
        for name in last:
            logs[name] = (
                last[name] if name in metrics or name not in mean else logs.get(name, 0.0) + mean[name] * steps / total
            )
    return logs


def evaluate(model: Any, data: ArrayData | StreamData, steps: int | None = None) -> Logs:
    """The logs of ``model.test_step`` over ``data``.

    Args:
        model: a trainable.
        data: the batches.
        steps: how many batches to take; all by default.
    """
    model.reset_metrics()
    if isinstance(data, StreamData):
        run = _StreamRun(model, data)
        for done, batch in enumerate(data.epoch(0), start=1):
            run.run(batch, "test")
            if steps is not None and done >= steps:
                break
        if not run.drivers:
            raise DataError("the data gave no batch to evaluate on.")
        return run.logs()
    size = data.size if steps is None else min(data.size, steps * data.batch_size)
    batch = min(data.batch_size, size)
    device = jax.tree.map(jnp.asarray, data.tree)
    whole, rest = divmod(size, batch)
    pads = bool(rest) and model.may_pad(testing=True)
    example = shapes_of(device, batch)
    drivers = []
    if whole or pads:
        weighted = (example, jax.ShapeDtypeStruct((batch,), jnp.float32)) if pads else example
        count = whole + bool(pads)
        driver = Driver(model.step("padded_test" if pads else "test", weighted), device, steps=count, batch=batch)
        drivers.append(driver)
        indices = np.minimum(np.arange(count * batch, dtype="int32"), size - 1).reshape(count, batch)
        rows = (np.arange(count * batch) < size).astype("float32").reshape(count, batch) if pads else None
        for first in range(0, count, driver.chunk):
            part = slice(first, first + driver.chunk)
            driver.run(indices[part], None if rows is None else rows[part])
    if rest and not pads:
        last = Driver(model.step("test", shapes_of(device, rest)), device, "loop")
        last.run(np.arange(whole * batch, size, dtype="int32")[None])
        drivers.append(last)
    return _merged(model, drivers)


def with_class_weight(batch: Any, class_weight: Mapping[int, float] | None) -> Any:
    """``batch`` with the weight of each example's class multiplied into its sample weight.

    Raises:
        ConfigError: if the targets are not one array of classes, or the weights are not given by class.
    """
    if class_weight is None:
        return batch
    if not isinstance(class_weight, Mapping) or not all(isinstance(key, int | np.integer) for key in class_weight):
        raise ConfigError(
            f"class_weight is a dictionary class -> weight, with classes as whole numbers; received {class_weight!r}.\n"
            "Write:  class_weight={0: 1.0, 1: 5.0}"
        )
    x, y, weight = unpack(batch)
    if y is None or isinstance(y, dict | list):
        raise ConfigError("class_weight is for models with one output; pass sample_weight instead.")
    y = np.asarray(y)
    classes = np.argmax(y, -1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(len(y), -1)[:, 0].astype(int)
    of_class = np.asarray([class_weight.get(int(c), 1.0) for c in classes], "float32")
    return pack(x, y, of_class if weight is None else np.asarray(weight, "float32") * of_class)


def split_validation(data: ArrayData, fraction: float) -> tuple[ArrayData, ArrayData]:
    """The data without, and with only, the last ``fraction`` of the examples.

    Raises:
        ConfigError: if either part would be empty.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"validation_split is a fraction between 0 and 1; received {fraction!r}")
    cut = int(data.size * (1 - fraction))
    if not 0 < cut < data.size:
        raise ConfigError(f"validation_split={fraction} of {data.size} examples leaves one part empty.")
    first, rest = data.take(slice(0, cut)), data.take(slice(cut, None))
    return (
        ArrayData(first, cut, data.batch_size, data.shuffle),
        ArrayData(rest, data.size - cut, data.batch_size),
    )


def _due(freq: int | Sequence[int], epoch: int) -> bool:
    return (epoch + 1) % freq == 0 if isinstance(freq, int) else epoch + 1 in freq


def _call(callbacks: Sequence[Callback], name: str, *args: Any) -> None:
    for callback in callbacks:
        getattr(callback, name)(*args)
