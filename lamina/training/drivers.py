"""The two ways to run a step many times: ``scan``, many steps in one dispatch, and ``loop``, one dispatch each.

Both run the same pure step over the same batches and give the same numbers. Logs are added up on the device, and the
host looks at them only when it wants to show them.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lamina import native
from lamina.core.loops import looping
from lamina.training.examples import Examples, Layout
from lamina.training.step import State, Step, copied
from lamina.training.turns import LongProgram


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
        data: what batches are gathered from by index; ``None`` where batches are handed over.
        kind: ``"scan"`` or ``"loop"``; chosen by the cost of a step if not given.
        steps: how many steps are run in a row, as a rule: those of an epoch.
        batch: how many examples a step takes.
        even: whether there are always so many in a row.

    Attributes:
        chunk: how many steps one dispatch holds.
        whole: whether it runs all of them, as a rule: a GPU then need not be asked after each whether there is another.
    """

    def __init__(
        self,
        step: Step,
        data: Examples | None = None,
        kind: str | None = None,
        *,
        steps: int = 1,
        batch: int = 1,
        even: bool = False,
    ) -> None:
        self.step, self.data = step, data
        self.costs = costs = _costs(data)
        self.kind = kind or ("scan" if data is not None and step.flops < costs.scan_below else "loop")
        self.chunk, self.whole = 1, False
        if self.kind == "scan" and data is not None:
            by_time = DISPATCH_SECONDS / (costs.step_seconds + step.flops / costs.speed)
            by_size = math.inf if data.layout.hosted else DISPATCH_BYTES / (batch * data.row_bytes)
            dispatches = math.ceil(steps / max(min(by_time, by_size), 1))
            even = even and costs is ACCELERATOR
            if even:  # of a length that leaves no rest, if there is one near: then the program can know it
                dispatches = next((n for n in range(dispatches, 2 * dispatches) if steps % n == 0), dispatches)
            self.chunk = math.ceil(steps / dispatches)  # all of a length, or the last one would be mostly padding
            self.whole = even and steps % self.chunk == 0
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
        assert self.data is not None
        layout = self.data.layout
        if self.kind == "scan" and self.whole and count == self.chunk:
            self._advance(self._program("whole", _many, layout, count), self.data.arguments, (indices, rows))
        elif self.kind == "scan":
            at = (_filled(indices, self.chunk), None if rows is None else _filled(rows, self.chunk))
            self._advance(self._program("scan", _many, layout, None), self.data.arguments, at, np.int32(count))
        else:
            for i in range(count):
                at = (indices[i], None if rows is None else rows[i])
                self._advance(self._program("gathered", _gathered, layout), self.data.arguments, at)
        self.steps += count

    def run_batch(self, batch: Any) -> None:
        """Run one step on a batch that is handed over."""
        self._advance(self._program("batch", _once), batch)
        self.steps += 1

    def _refresh(self) -> tuple[State, State]:
        # Takes up what was assigned to variables from outside, by a callback for one, and returns it: as copies, as a step
        # gives the memory of its state away; and not as NumPy's, whose memory is not JAX's to give.
        changing = copied(self._assigned(self.step.changing, self.changing))
        constant = self._assigned(self.step.constant, self.constant)
        self.changing |= changing
        self.constant |= constant
        return changing, constant

    def _assigned(self, paths: Sequence[str], known: State) -> State:
        held = ((path, self.step.variables[path].stored) for path in paths)
        return {path: value for path, value in held if value is not known.get(path)}

    def _advance(self, program: Callable[..., Any], *data: Any) -> None:
        new = self._refresh()
        if self.costs is not ACCELERATOR:
            # Steps that wait for their turn take as much memory as those that run, and a CPU gains nothing by them. What one
            # program gives is there all at once.
            jax.block_until_ready((new, next(iter(self.changing.values()), None), data))
        self.changing, self.logs = program((self.changing, self.logs), self.constant, *data)
        self.step.commit(self.changing)

    def _program(self, name: str, make: Callable[..., Any], *settings: Any) -> Callable[..., Any]:
        key = (name, *settings)
        if key not in self.step.programs:
            program = jax.jit(functools.partial(make, self.step, *settings), donate_argnums=0)
            # a loop asks for memory at every step, and a long one for much
            long = self.kind == "loop" and self.costs is not ACCELERATOR
            self.step.programs[key] = LongProgram(program) if long else program
        return self.step.programs[key]


def _costs(data: Examples | None) -> Costs:
    """What steps cost on the device that holds the data, or that computes where batches are handed over."""
    if (data.platforms if data else {jax.default_backend()}) == {"cpu"}:
        return CPU if native.load().names else PORTABLE
    return ACCELERATOR


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


def _gathered(
    step: Step, layout: Layout, carry: tuple[State, Logs], constant: State, data: Any, at: Any
) -> tuple[State, Logs]:
    return _once(step, carry, constant, _with_rows(layout.gather(data, at[0][None], 0), at[1]))


def _many(
    step: Step,
    layout: Layout,
    known: int | None,
    carry: tuple[State, Logs],
    constant: State,
    data: Any,
    at: Any,
    count: Any = None,
) -> tuple[State, Logs]:
    # The length of the loop is an argument, so that one program serves every number of steps; or it is known, where the host
    # would have to read it from a GPU after every step. XLA's own gathering costs more than a small step, so it is done for
    # all of them at once.
    indices, rows = at
    batches = None if layout.hosted else layout.gather(data, indices[None], 0)

    def body(i: Any, carry: tuple[State, Logs]) -> tuple[State, Logs]:
        batch = layout.gather(data, indices, i) if layout.hosted else jax.tree.map(lambda a: a[i], batches)
        return _advanced(step, carry, constant, _with_rows(batch, None if rows is None else rows[i]))

    with looping():
        carry = jax.lax.fori_loop(0, count if known is None else known, body, carry)
    return _finished(step, carry, constant)


def _with_rows(batch: Any, rows: Any) -> Any:
    """The batch; where not all of its rows count, with which do."""
    return batch if rows is None else (batch, rows)


def _filled(steps: np.ndarray, count: int) -> np.ndarray:
    """As many steps as ``count``; those that are missing are zeros."""
    return steps if len(steps) == count else np.pad(steps, [(0, count - len(steps)), (0, 0)])


def _zeros(step: Step) -> Logs:
    return (
        {name: np.zeros((), value.dtype) for name, value in step.results.items()},
        {name: np.zeros((), "float32") for name in step.results if step.finish is None},
    )
