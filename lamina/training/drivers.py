"""The two ways to run a step many times: ``scan``, many steps in one dispatch, and ``loop``, one dispatch each.

Both run the same pure step over the same batches and give the same numbers. Logs are added up on the device, and the
host looks at them only when it wants to show them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lamina import native
from lamina.core.loops import looping
from lamina.kernels.gather import gather_rows
from lamina.training.step import State, Step, copied


class Costs(NamedTuple):
    """What steps cost on a kind of device."""

    #: a step with fewer floating-point operations is not many times longer than the dispatch that starts it
    scan_below: float
    #: seconds that a step takes whatever it computes
    step_seconds: float
    #: floating-point operations a second beyond that
    speed: float


CPU, ACCELERATOR = Costs(3e9, 1.5e-5, 1e11), Costs(1e11, 1e-4, 1e13)
#: a CPU without native kernels: XLA's own convolutions are slow inside loops
PORTABLE = Costs(3e7, 1.5e-5, 2e10)
#: seconds that one dispatch of a scan should take, by the estimate above
DISPATCH_SECONDS = 0.1

#: bytes of examples that one dispatch of a scan may gather
DISPATCH_BYTES = 1 << 26

#: the last value and the sum of everything logged: ``(last, total)``
Logs = tuple[dict[str, Any], dict[str, Any]]


class Driver:
    """Runs a step over batches, and holds the state between them.

    Args:
        step: the pure step.
        data: the arrays that batches are gathered from by index; ``None`` where batches are handed over.
        kind: ``"scan"`` or ``"loop"``; chosen by the cost of a step if not given.
        steps: how many steps are run in a row, as a rule: those of an epoch.
        batch: how many examples a step takes.

    Attributes:
        chunk: how many steps one dispatch holds.
    """

    def __init__(
        self, step: Step, data: Any = None, kind: str | None = None, *, steps: int = 1, batch: int = 1
    ) -> None:
        self.step = step
        self.data = None if data is None else jax.tree.map(jnp.asarray, data)
        self.costs = costs = _costs(self.data)
        self.kind = kind or ("scan" if data is not None and step.flops < costs.scan_below else "loop")
        self.chunk = 1
        if self.kind == "scan":
            by_time = DISPATCH_SECONDS / (costs.step_seconds + step.flops / costs.speed)
            by_size = DISPATCH_BYTES / (batch * sum(a.nbytes / len(a) for a in jax.tree.leaves(self.data)))
            by_size = math.inf if costs is CPU else by_size
            dispatches = math.ceil(steps / max(min(by_time, by_size), 1))
            self.chunk = math.ceil(steps / dispatches)  # all of a length, or the last one would be mostly padding
        self.changing: State = {}
        self.constant: State = {}
        self.logs: Logs = _zeros(step)
        self.steps = 0

    def reset_logs(self) -> None:
        """Forget what was logged."""
        self.logs, self.steps = _zeros(self.step), 0

    def results(self) -> tuple[dict[str, float], dict[str, float]]:
        """The last value and the mean of everything logged since the reset. Waits for the device."""
        last, total = jax.device_get(self.logs)
        return (
            {name: float(last[name]) for name in self.step.names},
            {name: float(total[name]) / max(self.steps, 1) for name in self.step.names if name in total},
        )

    def run(self, indices: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Run steps on the examples at ``indices``.

        Args:
            indices: shape ``(steps, batch)``, with no more steps than :attr:`chunk`.
            rows: which of them count, of the same shape; ``None`` if all do.
        """
        count = len(indices)
        if self.kind == "scan":
            missing = [(0, self.chunk - count), (0, 0)]
            at = (np.pad(indices, missing), None if rows is None else np.pad(rows, missing))
            program = self._program("scan", functools.partial(_many, in_steps=self.costs is CPU))
            self._advance(program, self.data, at, np.int32(count))
        else:
            for i in range(count):
                at = (indices[i], None if rows is None else rows[i])
                self._advance(self._program("gathered", _gathered), self.data, at)
        self.steps += count

    def run_batch(self, batch: Any) -> None:
        """Run one step on a batch that is handed over."""
        self._advance(self._program("batch", _once), batch)
        self.steps += 1

    def _refresh(self) -> None:
        # Takes up what was assigned to variables from outside, by a callback for one: as copies, as a step gives the
        # memory of its state away.
        held = {path: self.step.variables[path].stored for path in self.step.changing}
        new = {path: value for path, value in held.items() if value is not self.changing.get(path)}
        # NumPy's copies take an eighth of the time.
        self.changing |= copied(new) if self.costs is ACCELERATOR else {path: np.array(v) for path, v in new.items()}
        self.constant = {path: self.step.variables[path].stored for path in self.step.constant}

    def _advance(self, program: Callable[..., Any], *data: Any) -> None:
        if self.costs is not ACCELERATOR:
            # Steps that wait for their turn take as much memory as those that run, and a CPU gains nothing by them.
            jax.block_until_ready(self.changing)
        self._refresh()
        self.changing, self.logs = program((self.changing, self.logs), self.constant, *data)
        self.step.commit(self.changing)

    def _program(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        if name not in self.step.programs:
            self.step.programs[name] = jax.jit(functools.partial(make, self.step), donate_argnums=0)
        return self.step.programs[name]


def _costs(data: Any) -> Costs:
    """What steps cost on the device that holds the data, or that computes where batches are handed over."""
    held = {device.platform for leaf in jax.tree.leaves(data) for device in leaf.devices()} or {jax.default_backend()}
    if held == {"cpu"}:
        return CPU if native.load()[1] else PORTABLE
    return ACCELERATOR


def batch_at(data: Any, index: Any, rows: Any) -> Any:
    """The batch at ``index``; with ``rows``, a pair of the batch and which of its rows count."""
    leaves, structure = jax.tree.flatten(data)
    batch = jax.tree.unflatten(structure, gather_rows(index, leaves))
    return batch if rows is None else (batch, rows)


def _once(step: Step, carry: tuple[State, Logs], constant: State, batch: Any) -> tuple[State, Logs]:
    return _finished(step, _advanced(step, carry, constant, batch), constant)


def _advanced(step: Step, carry: tuple[State, Logs], constant: State, batch: Any) -> tuple[State, Logs]:
    changing, (last, total) = carry
    changing, logged = step(changing, constant, batch)
    if step.finish is not None:
        return changing, (last, total)
    last = {name: jnp.asarray(value) for name, value in logged.items()}
    return changing, (last, {name: total[name] + jnp.asarray(last[name], "float32") for name in total})


def _finished(step: Step, carry: tuple[State, Logs], constant: State) -> tuple[State, Logs]:
    if step.finish is None:
        return carry
    changing, (_, total) = carry
    return changing, (step.logs(changing, constant), total)


def _gathered(step: Step, carry: tuple[State, Logs], constant: State, data: Any, at: Any) -> tuple[State, Logs]:
    return _once(step, carry, constant, batch_at(data, *at))


def _many(
    step: Step, carry: tuple[State, Logs], constant: State, data: Any, at: Any, count: Any, *, in_steps: bool
) -> tuple[State, Logs]:
    # A loop whose length is an argument, so that one program serves every number of steps. Batches are gathered in each step
    # where that costs nothing of its own, and all at once elsewhere.
    batches = None if in_steps else _batches_at(data, *at)

    def body(i: Any, carry: tuple[State, Logs]) -> tuple[State, Logs]:
        here = jax.tree.map(lambda a: a[i], at if in_steps else batches)
        return _advanced(step, carry, constant, batch_at(data, *here) if in_steps else here)

    with looping():
        carry = jax.lax.fori_loop(0, count, body, carry)
    return _finished(step, carry, constant)


def _batches_at(data: Any, indices: Any, rows: Any) -> Any:
    batches = jax.tree.map(lambda a: a[indices], data)
    return batches if rows is None else (batches, rows)


def _zeros(step: Step) -> Logs:
    return (
        {name: np.zeros((), value.dtype) for name, value in step.results.items()},
        {name: np.zeros((), "float32") for name in step.results if step.finish is None},
    )
