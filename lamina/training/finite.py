"""Where numbers stopped being finite: the step, and the first layer."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.errors import StateError
from lamina.core.state import Array
from lamina.layers.base import watching
from lamina.training.callback import Logs
from lamina.training.runs import ArrayRun
from lamina.training.step import Step, copied

_ADVICE = (
    "Lower the learning rate, clip gradients (clipnorm=1.0), or look at the data of that step; then train in another "
    "folder, or go on from this checkpoint with  lm.Checkpoint(folder, accept_changes=True)."
)


class NotFinite(Exception):  # noqa: N818 - never seen by a user
    """A loss, or a weight, is not a finite number.

    Args:
        name: which.
        value: what it is.
    """

    def __init__(self, name: str, value: float) -> None:
        self.what = f"the {name}" if name == "loss" else repr(name)
        super().__init__(f"{self.what} is {value}")

    def error(self, folder: Path, place: tuple[int, int] | None, where: str = "") -> StateError:
        """The error that a user sees.

        Args:
            folder: of the checkpoint.
            place: the checkpoint's epoch and step.
            where: what is known of the step.
        """
        since = "" if place is None else f" after epoch {place[0] + 1}, step {place[1]}, where the last checkpoint is"
        return StateError(f"training stopped: {self}{where or since}. {folder} holds the last finite state.\n{_ADVICE}")


def bad_loss(logs: Logs) -> tuple[str, float] | None:
    """The first loss in ``logs`` that is not finite, with its name."""
    for name, value in logs.items():
        training = name == "loss" or (name.endswith("_loss") and not name.startswith("val_"))
        if training and not math.isfinite(value):
            return name, value
    return None


def bad_weight(model: Any) -> NotFinite | None:
    """The first trainable variable that is not finite."""
    for path, variable in model.named_variables(trainable=True).items():
        if not _finite(variable.stored):
            return NotFinite(path, math.nan)
    return None


class Watch:
    """Notes in which step a loss stopped being finite, where training cannot go back to look for it.

    A step's loss is looked at when the next step has been started, so that nothing waits for it.

    Args:
        run: the run.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self._pending: tuple[int, int, Logs] | None = None
        self._found: tuple[int, int] | None = None

    def look(self, epoch: int, done: int) -> None:
        """Look at the step before, and keep what the one that is running logs.

        Raises:
            NotFinite: if the loss of the step before was not finite.
        """
        if bad := self._bad():
            raise NotFinite(*bad)
        driver = self.run.drivers[next(reversed(self.run.drivers))]
        self._pending = epoch, done, copied(driver.logs[0])

    def where(self) -> str:
        """The step, as :meth:`NotFinite.error` takes it; empty if no loss was seen that is not finite."""
        self._bad()
        return "" if self._found is None else f" in step {self._found[1]} of epoch {self._found[0] + 1}"

    def _bad(self) -> tuple[str, float] | None:
        if self._pending is None:
            return None
        epoch, done, logs = self._pending
        bad = bad_loss({name: float(value) for name, value in jax.device_get(logs).items()})
        if bad and self._found is None:
            self._found = epoch, done
        return bad


class Finder:
    """Looks at every dispatch of a run, and at every step of the one that went wrong.

    Args:
        model: what is trained.
        run: its run.
        steps: steps in an epoch, as given to :meth:`Run.epoch`.
        folder: the checkpoint's folder.
        place: the checkpoint's epoch and step.
    """

    def __init__(self, model: Any, run: Any, steps: int | None, folder: Path, place: tuple[int, int] | None) -> None:
        self.model, self.run, self.steps, self.folder, self.place = model, run, steps, folder, place

    def keep(self, done: int) -> None:
        """Keep the state as it is after ``done`` steps of the epoch."""
        self.values = copied({path: v.stored for path, v in self.model.named_variables().items()})
        self.logs = [(driver, copied(driver.logs), driver.steps) for driver in self.run.drivers.values()]
        self.done = done

    def _back(self) -> None:
        variables = self.model.named_variables()
        for path, value in copied(self.values).items():
            variables[path].stored = value
        self.run.reset_logs()
        for driver, logs, steps in self.logs:
            driver.logs, driver.steps = copied(logs), steps

    def look(self, epoch: int, done: int) -> None:
        """Look at the state after ``done`` steps of an epoch.

        Raises:
            StateError: naming step and layer, if it is not finite.
        """
        failure = self._failure()
        if failure is None:
            self.keep(done)
            return
        if done - self.done > 1 and isinstance(self.run, ArrayRun):
            self._back()
            self.run.chunk = 1
            for done in self.run.epoch(epoch, self.steps, False, self.done):
                if found := self._failure():
                    failure = found
                    break
                self.keep(done)
        step, batch = self.run.last_batch()
        where = first_place(step, self.values, batch, failure)
        raise failure.error(
            self.folder, self.place, f" in step {done} of epoch {epoch + 1}, and appeared first in {where}"
        )

    def _failure(self) -> NotFinite | None:
        if bad := bad_loss(self.run.logs()):
            return NotFinite(*bad)
        return bad_weight(self.model)


def first_place(step: Step, values: dict[str, Array], batch: Any, failure: NotFinite) -> str:
    """Where in a step numbers stop being finite.

    Args:
        step: the step.
        values: its variables before it.
        batch: its batch.
        failure: what was not finite after it.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if not _finite(leaf):
            return f"the batch itself ({jax.tree_util.keystr(path) or 'x'})"
    for name, variable in step.variables.items():
        if variable.trainable and not _finite(values[name]):
            return f"the weights {name!r}"
    names: list[str] = []
    bad: set[int] = set()

    def listener(path: str, outputs: Any) -> None:
        index = len(names)
        names.append(path)
        finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in _floats(outputs)] or [True]))
        jax.debug.callback(lambda ok: None if ok else bad.add(index), finite)

    token = watching.set(listener)
    try:
        run: Callable[..., Any] = jax.jit(lambda changing, constant, batch: step(changing, constant, batch))
        changing = {path: values[path] for path in step.changing}
        jax.block_until_ready(run(changing, {path: values[path] for path in step.constant}, batch))
        jax.effects_barrier()
    finally:
        watching.reset(token)
    if bad:
        return f"layer {names[min(bad)]!r}"
    return "the loss itself" if "loss" in failure.what else "the gradients"


def _floats(tree: Any) -> list[Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]


def _finite(array: Any) -> bool:
    return not jnp.issubdtype(jnp.result_type(array), jnp.inexact) or bool(jnp.isfinite(array).all())
