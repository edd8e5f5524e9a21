"""``fit`` and ``evaluate``: the loops around the compiled step."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ConfigError, DataError
from lamina.data.batches import ArrayData, StreamData, pack, unpack
from lamina.training.callback import Callback, Logs
from lamina.training.callbacks import Recorder
from lamina.training.checkpoint import Checkpoint
from lamina.training.drivers import Driver
from lamina.training.examples import Examples
from lamina.training.finite import NotFinite
from lamina.training.history import History
from lamina.training.progress import ProgressBar
from lamina.training.runs import ArrayRun, Run, StreamRun
from lamina.training.session import Session, Start

#: seconds between two looks at the numbers on the device
LOOK_EVERY = 0.25


def fit(
    model: Any,
    data: ArrayData | StreamData,
    *,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: Sequence[Callback] | Callback | None = None,
    validation: ArrayData | StreamData | None = None,
    validation_steps: int | None = None,
    validation_freq: int | Sequence[int] = 1,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    driver: str | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
) -> History:
    """Train ``model`` on ``data``; see :meth:`lamina.Model.fit`.

    Args:
        model: a trainable.
        data: the batches.
        epochs: the epoch to stop before.
        verbose: 0 for silence, 1 for a bar, 2 for a line an epoch, ``"auto"`` for 1.
        callbacks: what to run in between.
        validation: the batches to validate on.
        validation_steps: how many of them to take; all by default.
        validation_freq: after how many epochs to validate, or after which ones.
        initial_epoch: the epoch to begin with.
        steps_per_epoch: steps in an epoch, where it is not one pass over the data.
        driver: ``"scan"`` or ``"loop"``; by default as is faster.
        checkpoint: where to keep the state of training, and go on from it.
    """
    _check_settings(epochs, initial_epoch, steps_per_epoch, validation_freq, verbose, driver)
    verbose = 1 if verbose == "auto" else int(verbose)
    steps = steps_per_epoch or data.steps
    history = History({"epochs": epochs, "steps": steps, "verbose": verbose, "validates": validation is not None})
    bar = ProgressBar(verbose, epochs, steps) if verbose else None
    params = dict(history.params)
    given = listening(model, callbacks, params)
    own = listening(model, [Recorder(history), *([bar] if bar else [])], params)
    each_step = any(callback.wants_batches() for callback in [*given, *own])
    model.stop_training, model.history = False, history
    session = None
    if checkpoint is not None:
        settings = {
            "epochs": epochs,
            "initial_epoch": initial_epoch,
            "steps_per_epoch": steps_per_epoch,
            "validation_steps": validation_steps,
            "validation_freq": validation_freq,
            "driver": "loop" if each_step else driver,
        }
        session = Session(Checkpoint.get(checkpoint), model, data, validation, given, settings)
    with session or contextlib.nullcontext():
        if isinstance(data, ArrayData):
            run: Run = ArrayRun(model, data, "loop" if each_step else driver, steps_per_epoch)
        else:
            run = StreamRun(model, data)
        loop = _Loop(model, run, given, own, bar, session, validation, validation_steps, validation_freq)
        start = Start(initial_epoch)
        if session:
            params["resumed"] = session.resumed
            if session.prepare(run, history):
                session.begin(initial_epoch)
                return history
        _call([*given, *own], "on_train_begin")
        try:
            if session:
                start = session.begin(initial_epoch)
            while True:
                try:
                    logs = loop.run(start, epochs, steps, steps_per_epoch)
                    if session:
                        session.after_epochs()
                    break
                except NotFinite as failure:
                    assert session is not None
                    start = session.find(failure)
        finally:
            if bar:
                bar.close()
        _call([*given, *own], "on_train_end", logs)
        if getattr(model, "optimizer", None) is not None:
            model.optimizer.finalize_variable_values(model.trainable_weights)
        if session:
            session.finish(epochs, logs)
    return history


class _Loop:
    """The epochs, from wherever they begin."""

    def __init__(
        self,
        model: Any,
        run: Any,
        given: list[Callback],
        own: list[Callback],
        bar: ProgressBar | None,
        session: Session | None,
        validation: ArrayData | StreamData | None,
        validation_steps: int | None,
        validation_freq: int | Sequence[int],
    ) -> None:
        self.model, self.batches, self.given, self.own, self.bar, self.session = model, run, given, own, bar, session
        self.validation, self.validation_steps, self.validation_freq = validation, validation_steps, validation_freq
        self.everyone = [*given, *own]
        self.each_step = [callback for callback in self.everyone if callback.wants_batches()]

    def run(self, start: Start, epochs: int, steps: int | None, steps_per_epoch: int | None) -> Logs:
        """Train; gives the last epoch's logs."""
        logs, session = dict(start.logs or {}), self.session
        for epoch in range(start.epoch, start.epoch if start.stopped else epochs):
            done = start.done if epoch == start.epoch else 0
            if not done:
                self.model.reset_metrics()
                _call(self.everyone, "on_epoch_begin", epoch)
                _call(self.each_step, "on_train_batch_begin", 0)
            else:
                _call(self.own, "on_epoch_begin", epoch)
            done = self._steps(epoch, done, steps, steps_per_epoch)
            if not done:
                raise DataError(f"the data gave no batch in epoch {epoch + 1}; a generator that ended gives no more.")
            logs = self.batches.logs()
            if self.validation is not None and _due(self.validation_freq, epoch):
                if session:
                    session.before_validation(epoch, done, logs)
                _call(self.everyone, "on_test_begin")
                found = evaluate(
                    self.model, self.validation, self.validation_steps, session.look if session else lambda: None
                )
                _call(self.everyone, "on_test_end", found)
                logs |= {f"val_{name}": value for name, value in found.items()}
            _call(self.everyone, "on_epoch_end", epoch, logs)
            if session:
                session.after_epoch(epoch, logs)
            if self.model.stop_training:
                break
        return logs

    def _steps(self, epoch: int, done: int, steps: int | None, steps_per_epoch: int | None) -> int:
        """The steps of one epoch of which ``done`` were run before; gives how many it has."""
        looked, bar, session = time.perf_counter(), self.bar, self.session
        if session:
            session.before_epoch(done)
        epoch_of_steps = self.batches.epoch(epoch, steps_per_epoch, bool(self.each_step), done)
        for done in epoch_of_steps:
            if self.each_step:
                logs = self.batches.logs()
                _call(self.each_step, "on_train_batch_end", done - 1, logs)
                if done != steps:
                    _call(self.each_step, "on_train_batch_begin", done)
            if bar and bar.live and time.perf_counter() - looked > LOOK_EVERY:
                bar.on_steps(done, self.batches.logs())
                looked = time.perf_counter()
            if self.model.stop_training:
                break
            if session:
                session.after_step(epoch, done)
        return done


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


def evaluate(
    model: Any,
    data: ArrayData | StreamData,
    steps: int | None = None,
    look: Callable[[], None] = lambda: None,
) -> Logs:
    """The logs of ``model.test_step`` over ``data``.

    Args:
        model: a trainable.
        data: the batches.
        steps: how many batches to take; all by default.
        look: called in between.
    """
    model.reset_metrics()
    if isinstance(data, StreamData):
        stream = StreamRun(model, data)
        for batch in data.epoch(0, steps):
            stream.run(batch, "test")
            look()
        if not stream.drivers:
            raise DataError("the data gave no batch to evaluate on.")
        return stream.logs()
    size = data.size if steps is None else min(data.size, steps * data.batch_size)
    batch = min(data.batch_size, size)
    examples = Examples(data.tree)
    whole, rest = divmod(size, batch)
    pads = bool(rest) and model.may_pad(testing=True)
    example = examples.shapes(batch)
    run = Run(model)
    if whole or pads:
        weighted = (example, jax.ShapeDtypeStruct((batch,), jnp.float32)) if pads else example
        count = whole + bool(pads)
        step = model.step("padded_test" if pads else "test", weighted)
        driver = run.drivers[step] = Driver(step, examples, steps=count, batch=batch, even=True)
        indices = np.minimum(np.arange(count * batch, dtype="int32"), size - 1).reshape(count, batch)
        rows = (np.arange(count * batch) < size).astype("float32").reshape(count, batch) if pads else None
        for first in range(0, count, driver.chunk):
            part = slice(first, first + driver.chunk)
            driver.run(indices[part], None if rows is None else rows[part])
            look()
    if rest and not pads:
        step = model.step("test", examples.shapes(rest))
        run.drivers[step] = Driver(step, examples, "loop")
        run.drivers[step].run(np.arange(whole * batch, size, dtype="int32")[None])
    return run.logs()


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
