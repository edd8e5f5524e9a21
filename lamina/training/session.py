"""What ``fit(checkpoint=...)`` keeps of a run, and how a run goes on from it."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from types import ModuleType
from typing import Any, Self

import jax
import numpy as np

from lamina.core.config import config
from lamina.core.errors import ConfigError, FileError, LaminaError
from lamina.core.module import Module
from lamina.data.batches import ArrayData, StreamData
from lamina.data.streams import Place
from lamina.layers.base import Layer
from lamina.optimizers import Optimizer
from lamina.saving.values import can_encode, decode, described, differences, encode
from lamina.training.callback import Callback, Logs
from lamina.training.checkpoint import ChangedProgramError, Checkpoint, Folder
from lamina.training.finite import Finder, NotFinite, Watch, bad_loss, bad_weight
from lamina.training.history import History
from lamina.training.program import arguments, describe
from lamina.training.runs import Run
from lamina.training.signals import Signals


@dataclass
class Start:
    """Where a run begins: the epoch, how many of its steps are done, the last logs, and whether a callback has stopped it."""

    epoch: int
    done: int = 0
    logs: Logs | None = None
    stopped: bool = False


class Session:
    """One ``fit`` in a checkpoint folder; a context in which signals are noted and nobody else uses the folder.

    Args:
        checkpoint: where, and how often.
        model: what is trained.
        data: what it is trained on.
        validation: what it is validated on.
        callbacks: those of the user.
        settings: the arguments of ``fit`` that shape training.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: Any,
        data: ArrayData | StreamData,
        validation: ArrayData | StreamData | None,
        callbacks: Sequence[Callback],
        settings: dict[str, Any],
    ) -> None:
        self.checkpoint, self.model, self.data, self.validation = checkpoint, model, data, validation
        self.callbacks, self.settings = callbacks, settings
        self.signals = Signals()
        self.finder: Finder | None = None
        self.watch: Watch | None = None
        #: epoch, steps, variables and place of the validation stream before the epoch is validated
        self._validating: tuple[int, int, dict[str, Any], Place | None] | None = None
        self._streams = {"data": data, "validation": validation}

    def __enter__(self) -> Self:
        self.folder = Folder(self.checkpoint)
        try:
            self._saved = self.folder.read()
        except BaseException:
            self.folder.close()
            raise
        self.signals.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.signals.__exit__(*error)
        self.folder.close()
        if self.signals.received and error[0] is None:  # it came when all was done
            raise SystemExit(128 + self.signals.received)

    @property
    def resumed(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self._saved is not None

    # -- beginning ---------------------------------------------------------------------------------------------------

    def prepare(self, run: Run, history: History) -> bool:
        """Compare the program with the checkpoint's; called before training begins, once the first step is made.

        Returns:
            Whether there is nothing left to train.

        Raises:
            ChangedProgramError: for another program, unless that was accepted.
        """
        self.run, self.history = run, history
        self.program = describe(self.model, self.data, self.validation, self.callbacks, self.settings)
        self._arguments = [described(arguments(callback)) for callback in self.callbacks]
        self._kept_rates: set[str] = set()
        self._before: list[dict[str, Any]] = [{} for _ in self.callbacks]
        for stream in self._streams.values():
            if isinstance(stream, StreamData):
                stream.follow()
        if not self._can_go_back:
            self.watch = Watch(run)
        if self._saved is None:
            return False
        description, _ = self._saved
        changed = differences(description["program"], self.program)
        if changed and not self.checkpoint.accept_changes:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise ChangedProgramError(
                f"the checkpoint in {self.folder.path} was made by another program ({'; '.join(changed[:3])}{more}): "
                "give every training a folder of its own, or remove that one to begin anew.\n"
                f"To go on with what is different:  checkpoint=lm.Checkpoint({str(self.folder.path)!r}, accept_changes=True)"
            )
        # a learning rate that the program has changed is not taken from the checkpoint
        then, now = (found["model"]["optimizers"] for found in (description["program"], self.program))
        self._kept_rates = {f"{path}/learning_rate" for path in now if _rate(then.get(path)) != _rate(now[path])}
        return bool(description["state"]["complete"]) and not changed

    def begin(self, first_epoch: int) -> Start:
        """Take up the checkpoint's state, or write the first one; called when callbacks know that training begins."""
        start = Start(first_epoch) if self._saved is None else self._restore(*self._saved)
        self._before = [dict(vars(callback)) for callback in self.callbacks]
        if self._saved is None:
            self._save(first_epoch, 0)
        self._saved = None
        return start

    def _restore(self, description: dict[str, Any], tensors: dict[str, np.ndarray]) -> Start:
        state = {name: decode(value, tensors) for name, value in description["state"].items()}
        config.draws = state["draws"]
        state["variables"] = {p: value for p, value in state["variables"].items() if p not in self._kept_rates}
        restore_model(self.model, self.run, state, str(self.folder.file))
        for name, stream in self._streams.items():
            if isinstance(stream, StreamData) and state[name] is not None:
                limit = self.settings["validation_steps" if name == "validation" else "steps_per_epoch"]
                stream.go_to(Place(**state[name]), limit)
        for callback, (name, kept) in zip(self.callbacks, state["callbacks"], strict=False):
            if type(callback).__name__ == name:
                callback.set_state(kept)
        self.history.epoch[:] = state["history"]["epoch"]
        self.history.history.clear()
        self.history.history.update(state["history"]["logs"])
        self.model.stop_training = state["stop"]
        return Start(state["epoch"], state["step"], state["logs"], state["stop"])

    # -- during training -----------------------------------------------------------------------------------------------

    def before_epoch(self, done: int) -> None:
        """Called before the first step of an epoch, or the first one after it was resumed."""
        if self.finder is not None:
            self.finder.keep(done)

    def after_step(self, epoch: int, done: int) -> None:
        """Called after every dispatch: saves if it is time, or a signal came."""
        if self.finder is not None:
            self.finder.look(epoch, done)
        if self.watch is not None:
            self.watch.look(epoch, done)
        if self.signals.received:
            self._leave(epoch, done)
        if self.folder.due(epoch_ended=False):
            self._save(epoch, done)

    def before_validation(self, epoch: int, done: int, logs: Logs) -> None:
        """Called before an epoch is validated, with its logs."""
        self._check(logs)
        # Steps of evaluation work on copies of what they change, so these arrays stay as they are.
        values = {path: variable.stored for path, variable in self.model.named_variables().items()}
        place = self.validation.place if isinstance(self.validation, StreamData) else None
        self._validating = (epoch, done, values, place)

    def look(self) -> None:
        """Called after every batch of validation: leaves if a signal came, as if validation had not begun."""
        if self.signals.received:
            assert self._validating is not None
            epoch, done, values, place = self._validating
            if isinstance(self.validation, StreamData):
                self.validation.place = place
            self._leave(epoch, done, values)

    def after_epoch(self, epoch: int, logs: Logs) -> None:
        """Called when an epoch, its validation and callbacks are done."""
        self._validating = None
        self._check(logs)
        if self.signals.received:
            self._leave(epoch + 1, 0, logs=logs)
        if self.folder.due(epoch_ended=True):
            self._save(epoch + 1, 0, logs=logs)

    def after_epochs(self) -> None:
        """Called after the last epoch, before callbacks know that training ended."""
        self.folder.wait()
        self.folder.raise_failure()
        if failure := bad_weight(self.model):
            raise failure

    def finish(self, epochs: int, logs: Logs) -> None:
        """Called when all is done."""
        try:
            self._save(epochs, 0, logs=logs, complete=True, wait=True)
        except NotFinite as failure:
            raise failure.error(self.folder.path, None) from None

    def find(self, failure: NotFinite) -> Start:
        """Go back to the last checkpoint and look at every step from there, to find where numbers stopped being finite.

        Raises:
            StateError: if the data cannot be gone through again, or it was already being looked for.
        """
        self.folder.wait()
        saved = self.folder.read()
        place = None if saved is None else (saved[0]["state"]["epoch"], saved[0]["state"]["step"])
        if self.finder is not None or saved is None or not self._can_go_back:
            where = self.watch.where() if self.watch is not None else ""
            raise failure.error(self.folder.path, place, where)
        print(f"{failure}: looking for the step, from the last checkpoint on", file=sys.stderr)
        try:
            start = self._restore(*saved)
        except LaminaError:
            raise failure.error(self.folder.path, place) from None
        self.finder = Finder(self.model, self.run, self.settings["steps_per_epoch"], self.folder.path, place)
        return start

    @property
    def _can_go_back(self) -> bool:
        streams = [stream for stream in self._streams.values() if isinstance(stream, StreamData)]
        return all(stream.can_go_back for stream in streams)

    def _check(self, logs: Logs) -> None:
        bad = bad_loss(logs)
        if bad:
            raise NotFinite(*bad)

    def _leave(self, epoch: int, done: int, values: Any = None, logs: Logs | None = None) -> None:
        signal = self.signals.received
        assert signal is not None
        self._save(epoch, done, values, logs, wait=True)
        steps = f", step {done}" if done else ""
        print(
            f"Stopped by {signal.name}, and saved in {self.folder.path} (epoch {epoch + 1}{steps}). "
            "Run the same program again to go on.",
            file=sys.stderr,
        )
        raise SystemExit(128 + signal)

    def _save(
        self,
        epoch: int,
        done: int,
        values: dict[str, Any] | None = None,
        logs: Logs | None = None,
        complete: bool = False,
        wait: bool = False,
    ) -> None:
        if done:
            self._check(self.run.logs())
        if values is None:
            values = {path: variable.stored for path, variable in self.model.named_variables().items()}
        jax.block_until_ready(values)  # that is training's time, not saving's

        def gather() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
            tensors: dict[str, np.ndarray] = {}
            state = self._state(epoch, done, values, logs, complete)
            encoded = {name: encode(value, name, tensors) for name, value in state.items()}
            return {"program": self.program, "state": encoded}, tensors

        trained = [f"variables/{path}" for path in self.model.named_variables(trainable=True)]

        def check(description: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
            for name in trained:
                if name in tensors and not np.isfinite(tensors[name]).all():
                    raise NotFinite(name.removeprefix("variables/"), float("nan"))

        self.folder.save(gather, check, wait)

    def _state(
        self, epoch: int, done: int, values: dict[str, Any], logs: Logs | None, complete: bool
    ) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "step": done,
            "complete": complete,
            "stop": bool(self.model.stop_training),
            "draws": config.draws,
            "logs": dict(logs or {}),
            "variables": values,
            "frozen": [path for path, module in _layers(self.model).items() if not module.trainable],
            "drivers": self.run.state(),
            "history": {"epoch": self.history.epoch, "logs": self.history.history},
            "callbacks": [(type(c).__name__, self._kept(c, i)) for i, c in enumerate(self.callbacks)],
            **{
                name: asdict(stream.place) if isinstance(stream, StreamData) and stream.place else None
                for name, stream in self._streams.items()
            },
        }

    def _kept(self, callback: Callback, index: int) -> dict[str, Any]:
        """The state of a callback: what it says itself, or what it keeps in its attributes."""
        given = callback.get_state()
        if given is not None:
            return given
        kept: dict[str, Any] = {}
        known = set(self.model.named_variables().values())
        for name, value in vars(callback).items():
            if name in ("model", "params"):
                continue
            if name in self._arguments[index] and described(value) == self._arguments[index][name]:
                continue
            if isinstance(value, Module):
                kept[name] = {path: v for path, v in value.named_variables().items() if v not in known}
            elif can_encode(value):
                kept[name] = value
            elif self._before[index].get(name) is not value or not (
                name in self._arguments[index] or callable(value) or isinstance(value, PurePath | ModuleType)
            ):
                raise ConfigError(
                    f"{type(callback).__name__} keeps a {type(value).__name__} in its attribute {name!r}, which a "
                    "checkpoint cannot hold.\nGive it  get_state(self)  and  set_state(self, state), which return and take "
                    "what shapes its future as plain values and arrays."
                )
        return kept


def restore_model(model: Any, run: Run, state: dict[str, Any], file: str) -> None:
    """Give the model its variables, frozen layers and logs of the epoch as they were.

    Args:
        model: the model.
        run: its run; makes the steps that the checkpoint's run had made, and with them their variables.
        state: the checkpoint's state.
        file: where it comes from, for messages.

    Raises:
        FileError: if the model has other variables.
    """
    for path, module in _layers(model).items():
        module._trainable = path not in state["frozen"]
    values: dict[str, np.ndarray] = state["variables"]
    run.restore(state["drivers"])
    if not state["step"]:
        run.reset_logs()
    left = set(values) - set(model.named_variables())
    if left:  # slots of variables that were trained before, and are frozen now
        for path, module in model.modules().items():
            if isinstance(module, Optimizer):
                mine = [name for name in left if name.startswith(f"{path}/slots/")]
                module.build(
                    {p: v for p, v in model.named_variables().items() if any(name.endswith(f"/{p}") for name in mine)}
                )
        model.adopt()
    variables = model.named_variables()
    for path, value in values.items():
        if path not in variables:
            raise FileError(f"{file} holds a variable {path!r}, which the model does not have.")
        variable = variables[path]
        have, want = (value.shape, value.dtype), (variable.shape, variable.stored.dtype)
        if have != want:
            raise FileError(f"{file}: {path!r} is {_said(have)}; the model's is {_said(want)}.")
    for path, value in values.items():
        variables[path].assign(value)


def _layers(model: Any) -> dict[str, Layer]:
    return {path: module for path, module in model.modules().items() if isinstance(module, Layer)}


def _rate(optimizer: Any) -> Any:
    return optimizer["config"].get("learning_rate") if optimizer else None


def _said(kind: tuple[Any, Any]) -> str:
    return f"of shape {kind[0]} and dtype {kind[1]}"
