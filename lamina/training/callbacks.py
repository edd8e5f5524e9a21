"""The callbacks that come with the library: code that runs between the steps and epochs of training."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core.errors import ConfigError, StateError
from lamina.saving import disk
from lamina.training.callback import Callback, Logs
from lamina.training.history import History


class LambdaCallback(Callback):
    """Functions as callbacks.

    Args:
        on_epoch_begin: called with ``(epoch, logs)``.
        on_epoch_end: called with ``(epoch, logs)``.
        on_train_begin: called with ``(logs)``.
        on_train_end: called with ``(logs)``.
        on_train_batch_begin: called with ``(batch, logs)``.
        on_train_batch_end: called with ``(batch, logs)``.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
    ) -> None:
        given = {name: fn for name, fn in locals().items() if name.startswith("on_") and fn is not None}
        for name, fn in given.items():
            setattr(self, name, fn)
        self._batches = bool({"on_train_batch_begin", "on_train_batch_end"} & set(given))

    def wants_batches(self) -> bool:
        return self._batches


class _Watcher(Callback):
    """A callback that follows one number and asks whether it got better."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ConfigError(f"mode is 'auto', 'min' or 'max'; received {mode!r}")
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.best: float | None = None

    @property
    def _upward(self) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_").lower()
        rising = ("acc", "auc", "precision", "recall", "f1", "fbeta", "r2", "iou", "cosine", "true_", "psnr", "ssim")
        return any(word in name for word in rising)

    def _value(self, logs: Logs | None) -> float | None:
        """What is watched; ``None`` in an epoch that is not validated."""
        logs = logs or {}
        if self.monitor not in logs:
            unvalidated = not any(name.startswith("val_") for name in logs)
            if self.monitor.startswith("val_") and unvalidated and self.params.get("validates"):
                return None
            hint = (
                "Pass validation_data= or validation_split= to fit."
                if self.monitor.startswith("val_") and unvalidated
                else f"There are: {', '.join(sorted(logs))}."
            )
            raise ConfigError(f"{type(self).__name__} watches {self.monitor!r}, which is not logged. {hint}")
        return logs[self.monitor]

    def _better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value - self.min_delta > self.best if self._upward else value + self.min_delta < self.best


class EarlyStopping(_Watcher):
    """Stop when a number has not got better for a while.

    Args:
        monitor: what to watch.
        min_delta: the least change that counts as better.
        patience: how many epochs without getting better to allow.
        verbose: 1 to say so when it stops.
        mode: ``"min"``, ``"max"``, or ``"auto"`` to go by the name.
        baseline: a value that has to be beaten.
        restore_best_weights: whether to end with the weights of the best epoch.
        start_from_epoch: how many epochs to wait before watching.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait, self.stopped_epoch, self.best_epoch = 0, 0, 0
        self.best = self.baseline
        self.best_weights: list[np.ndarray] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self._value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self._better(value):
            self.best, self.wait, self.best_epoch = value, 0, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch, self.model.stop_training = epoch, True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: stopped, {self.monitor} was best in epoch {self.best_epoch + 1}")
        if self.restore_best_weights and self.best_weights is not None:
            self.model.set_weights(self.best_weights)


class ReduceLROnPlateau(_Watcher):
    """Lower the learning rate when a number has stopped getting better.

    Args:
        monitor: what to watch.
        factor: what the learning rate is multiplied by, below 1.
        patience: how many epochs without getting better to allow.
        verbose: 1 to say so.
        mode: ``"min"``, ``"max"``, or ``"auto"``.
        min_delta: the least change that counts as better.
        cooldown: how many epochs to wait after lowering before watching again.
        min_lr: the learning rate is never lowered beyond this.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if factor >= 1:
            raise ConfigError(f"ReduceLROnPlateau multiplies the learning rate by a factor below 1; received {factor}")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait, self.cooling, self.best = 0, 0, None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        if logs is not None:
            logs["learning_rate"] = float(np.asarray(optimizer.learning_rate))
        value = self._value(logs)
        if value is None:
            return
        if self.cooling:
            self.cooling, self.wait = self.cooling - 1, 0
        if self._better(value):
            self.best, self.wait = value, 0
        elif not self.cooling:
            self.wait += 1
            old = float(np.asarray(optimizer.learning_rate))
            if self.wait >= self.patience and old > self.min_lr:
                new = max(old * self.factor, self.min_lr)
                optimizer.learning_rate = new
                self.cooling, self.wait = self.cooldown, 0
                if self.verbose:
                    print(f"Epoch {epoch + 1}: learning rate lowered to {new:.3g}")


class LearningRateScheduler(Callback):
    """Set the learning rate before each epoch.

    Args:
        schedule: a function ``(epoch, learning_rate) -> learning_rate`` or ``(epoch) -> learning_rate``.
        verbose: 1 to say so each time.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        now = float(np.asarray(self.model.optimizer.learning_rate))
        try:
            new = self.schedule(epoch, now)
        except TypeError:
            new = self.schedule(epoch)
        if not isinstance(new, float | int | np.floating):
            raise ConfigError(f"LearningRateScheduler's function returns a number; received {new!r}")
        self.model.optimizer.learning_rate = float(new)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {float(new):.3g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))


class ModelCheckpoint(_Watcher):
    """Save the model after each epoch, or after the best ones.

    Args:
        filepath: where to; ``{epoch}`` and logged names in braces are filled in, as ``"{epoch:02d}-{val_loss:.2f}"``.
        monitor: what to watch with ``save_best_only``.
        verbose: 1 to say so each time.
        save_best_only: whether to save only when ``monitor`` is better than ever.
        save_weights_only: whether to leave out architecture and compile settings.
        mode: ``"min"``, ``"max"``, or ``"auto"``.
        save_freq: ``"epoch"``, or a number of steps.
        initial_value_threshold: what has to be beaten first.
    """

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ConfigError(f"save_freq is 'epoch' or a number of steps; received {save_freq!r}")
        self.filepath, self.verbose, self.save_freq = str(filepath), verbose, save_freq
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.best = initial_value_threshold
        self._steps, self._epoch = 0, 0

    def wants_batches(self) -> bool:
        return self.save_freq != "epoch"

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._steps += 1
        if self.save_freq != "epoch" and self._steps % int(self.save_freq) == 0:
            self._save(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(logs)

    def _save(self, logs: Logs | None) -> None:
        if self.save_best_only:
            value = self._value(logs)
            if value is None or not self._better(value):
                return
            self.best = value
        try:
            path = self.filepath.format(epoch=self._epoch + 1, **(logs or {}))
        except KeyError as missing:
            raise ConfigError(f"ModelCheckpoint's filepath names {missing}, which is not logged") from None
        with disk.told(path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        if self.params.get("resumed"):
            disk.sweep(Path(path))
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose:
            print(f"Epoch {self._epoch + 1}: saved {path}")


class TerminateOnNaN(Callback):
    """Stop as soon as the loss is not a finite number.

    Args:
        raise_error: whether to raise a :class:`~lamina.StateError` instead of ending training in good order.
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            if self.raise_error:
                raise StateError(f"step {batch + 1}: the loss is {loss}")
            print(f"Step {batch + 1}: the loss is {loss}; training stops")
            self.model.stop_training = True


class CSVLogger(Callback):
    """Write each epoch's logs as a line of a CSV file.

    Args:
        filename: the file.
        separator: between the fields.
        append: whether to go on in a file that is there.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        self.filename, self.separator, self.append = Path(filename), separator, append

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._columns: list[str] = []
        if self.params.get("resumed"):
            return
        if self.append and self.filename.exists() and self.filename.stat().st_size:
            with self.filename.open(newline="") as file:
                self._columns = next(csv.reader(file, delimiter=self.separator))
        else:
            with disk.told(self.filename):
                self.filename.parent.mkdir(parents=True, exist_ok=True)
            disk.shorten(self.filename, 0)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.separator, lineterminator="\n")
        if not self._columns:
            self._columns = ["epoch", *logs]
            writer.writerow(self._columns)
        writer.writerow([epoch, *(logs.get(name, "") for name in self._columns[1:])])
        disk.append(self.filename, text.getvalue())

    def get_state(self) -> dict[str, Any]:
        return {"columns": self._columns, "length": disk.flush(self.filename)}

    def set_state(self, state: dict[str, Any]) -> None:
        self._columns = state["columns"]
        disk.shorten(self.filename, state["length"])


class Recorder(Callback):
    """Fills the :class:`History` that ``fit`` returns."""

    def __init__(self, history: History) -> None:
        self.history = history

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.history.append(epoch, dict(logs or {}))
