"""Epochs over arrays and over streams: which steps are run on which examples, and what they logged."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.data.batches import ArrayData, StreamData
from lamina.layers.host import Prepared
from lamina.training.callback import Logs
from lamina.training.checks import check_batch
from lamina.training.drivers import Driver
from lamina.training.examples import Examples
from lamina.training.step import Step, shapes_of


class Run:
    """The drivers that a run has needed so far, the one used last standing last."""

    #: what gives the batch of the step that was run last
    _last: Any = None

    def __init__(self, model: Any) -> None:
        self.model = model
        self.drivers: dict[Step, Driver] = {}
        self._made_for: dict[Step, tuple[str, Any]] = {}

    def _driver(self, kind: str, example: Any) -> Driver:
        """The driver for such batches, with what is trainable now."""
        step = self.model.step(kind, example)
        driver = self.drivers.pop(step, None) or self._make(step, example)
        self.drivers[step] = driver
        self._made_for[step] = (kind, example)
        return driver

    def _make(self, step: Step, example: Any) -> Driver:
        return Driver(step)

    def reset_logs(self) -> None:
        """Forget what was logged."""
        for driver in self.drivers.values():
            driver.reset_logs()

    def logs(self) -> Logs:
        """What was logged since the epoch began: metrics by their last result, everything else by its mean."""
        parts = [(driver.results(), driver.steps) for driver in self.drivers.values() if driver.steps]
        metrics = self.model.metric_names() if any(mean for (_, mean), _ in parts) else set()
        total = sum(steps for _, steps in parts)
        logs: Logs = {}
        for (last, mean), steps in parts:
            for name in last:
                logs[name] = (
                    last[name]
                    if name in metrics or name not in mean
                    else logs.get(name, 0.0) + mean[name] * steps / total
                )
        return logs

    def last_batch(self) -> tuple[Step, Any]:
        """The step that was run last, and its batch."""
        return next(reversed(self.drivers)), self._last()

    # -- for checkpoints -------------------------------------------------------------------------------------------

    def state(self) -> list[dict[str, Any]]:
        """What each driver logged in this epoch, and the batches that it is for."""
        found = []
        for step, driver in self.drivers.items():
            if driver.steps:
                kind, example = self._made_for[step]
                last, total = driver.logs
                found.append(
                    {"kind": kind, "example": _written(example), "steps": driver.steps, "last": last, "total": total}
                )
        return found

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Take up what :meth:`state` gave; makes the drivers, and with them every variable that they use."""
        self.reset_logs()
        for found in state:
            driver = self._driver(found["kind"], _read(found["example"]))
            logs = {name: jnp.asarray(value) for name, value in found["last"].items()}
            driver.logs = (logs, {name: jnp.asarray(value) for name, value in found["total"].items()})
            driver.steps = found["steps"]


class ArrayRun(Run):
    """Epochs over arrays. A last batch that is smaller is padded, and its padding masked, where rows do not mix."""

    def __init__(self, model: Any, data: ArrayData, kind: str | None, steps: int | None) -> None:
        super().__init__(model)
        self.data, self.kind, self.steps = data, kind, steps or data.steps
        self.batch = min(data.batch_size, data.size)
        self.pads = bool(data.size % self.batch) and model.may_pad()
        self.examples = Examples(data.tree)
        #: steps in a dispatch, where that is not for the driver to choose
        self.chunk: int | None = None
        self._main()

    def _main(self) -> Driver:
        example = self.examples.shapes(self.batch)
        if self.pads:
            example = (example, jax.ShapeDtypeStruct((self.batch,), jnp.float32))
        return self._driver("padded" if self.pads else "train", example)

    def _make(self, step: Step, example: Any) -> Driver:
        if len(jax.tree.leaves(example)[0].shape) and jax.tree.leaves(example)[0].shape[0] != self.batch:
            return Driver(step, self.examples, "loop")  # the rest of an epoch
        even = self.data.steps % self.steps == 0 and (self.pads or self.data.size % self.batch == 0)
        return Driver(step, self.examples, self.kind, steps=self.steps, batch=self.batch, even=even)

    def epoch(self, epoch: int, steps: int | None, one_by_one: bool = False, done: int = 0) -> Iterator[int]:
        """Run one epoch; yields how many steps are done, after every dispatch.

        Args:
            epoch: which one.
            steps: how many steps it has; one pass over the data by default.
            one_by_one: whether somebody may freeze or free layers after a step.
            done: how many steps were run before.
        """
        if not done:
            self.reset_logs()
        seed = int(self.model.progress.seed.stored)
        if steps is None:
            yield from self._pass(self.data.order(seed, epoch), done, self.data.steps, done, one_by_one)
            return
        position = epoch * steps
        while done < steps:  # an epoch of its own length goes through the data as often as it takes
            number, start = divmod(position + done, self.data.steps)
            stop = min(self.data.steps, start + steps - done)
            yield from self._pass(self.data.order(seed, number), start, stop, done, one_by_one)
            done += stop - start

    def _pass(self, order: np.ndarray, start: int, stop: int, done: int, one_by_one: bool) -> Iterator[int]:
        if start >= stop:
            return
        batch, size = self.batch, self.data.size
        whole = self.data.steps if self.pads else size // batch
        padded = np.concatenate([order, np.zeros(whole * batch - size, "int32")]) if self.pads else order
        indices = padded[: whole * batch].reshape(whole, batch)
        rows = (np.arange(whole * batch) < size).astype("float32").reshape(whole, batch) if self.pads else None
        driver = self._main()
        first = start
        while first < min(stop, whole):
            last = min(first + (self.chunk or driver.chunk), stop, whole)
            self._note(indices[last - 1], None if rows is None else rows[last - 1])
            driver.run(indices[first:last], None if rows is None else rows[first:last])
            first = last
            yield done + last - start
            if one_by_one:
                driver = self._main()
        if stop > whole and start <= whole:
            # rows mix (batch normalization, a train_step of one's own): the rest is a batch of its own size
            index = order[whole * batch :]
            self._note(index, None)
            self._driver("train", self.examples.shapes(len(index))).run(index[None])
            yield done + stop - start

    def _note(self, index: np.ndarray, rows: np.ndarray | None) -> None:
        examples = (
            self.examples
        )  # not the run itself: in a circle with it, the data would stay until the next collection
        self._last = lambda: examples.at(index) if rows is None else (examples.at(index), rows)


class StreamRun(Run):
    """Epochs over batches from elsewhere; each shape of batch has its own program."""

    def __init__(self, model: Any, data: StreamData) -> None:
        super().__init__(model)
        self.data = data
        self._checked = False

    def epoch(self, epoch: int, steps: int | None, one_by_one: bool = False, done: int = 0) -> Iterator[int]:
        """Run one epoch; yields how many steps are done, after each. See :meth:`ArrayRun.epoch`."""
        if not done:
            self.reset_logs()
        for count, batch in enumerate(self.data.epoch(epoch, steps), start=done + 1):
            self.run(batch)
            yield count

    def run(self, batch: Any, kind: str = "train") -> None:
        """One step on ``batch``."""
        if not self._checked:
            check_batch(self.model, batch)
            self._checked = True
        batch = jax.tree.map(jnp.asarray, self.model.prepare_batch(batch))
        self._last = lambda: batch
        self._driver(kind, shapes_of(batch)).run_batch(batch)


def _written(example: Any) -> Any:
    """The shapes and dtypes of a batch in plain values: each array's as a text."""
    if isinstance(example, Prepared):
        return {"prepared": [_written(item) for item in example]}
    if isinstance(example, dict):
        return {"names": {name: _written(item) for name, item in example.items()}}
    if isinstance(example, list | tuple):
        return type(example)(_written(item) for item in example)
    return None if example is None else f"{example.dtype} {list(example.shape)}"


def _read(written: Any) -> Any:
    """The opposite of :func:`_written`."""
    if isinstance(written, dict):
        if "prepared" in written:
            return Prepared(_read(item) for item in written["prepared"])
        return {name: _read(item) for name, item in written["names"].items()}
    if isinstance(written, list | tuple):
        return type(written)(_read(item) for item in written)
    if written is None:
        return None
    dtype, shape = written.split(" ", 1)
    return jax.ShapeDtypeStruct(tuple(int(n) for n in shape.strip("[]").split(",") if n.strip()), jnp.dtype(dtype))
