"""From a method written in stateful style to a pure, compiled step over one flat dictionary ``path -> array``."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp

from lamina.core.config import config
from lamina.core.errors import ConfigError, StateError
from lamina.core.module import Module
from lamina.core.state import Array, Variable, bind
from lamina.kernels.flops import count_flops

State = dict[str, Array]
Tree = TypeVar("Tree")


class Trainable(Protocol):
    """What ``fit`` trains: a module with a step; every :class:`lamina.Model` is one."""

    progress: "Progress | None"

    def train_step(self, batch: Any) -> dict[str, Any]:
        """One step of training; returns what to log."""
        ...

    def named_variables(self, trainable: bool | None = None) -> dict[str, Variable]:
        """All variables, by path."""
        ...

    def modules(self) -> dict[str, Module]:
        """All modules, by path."""
        ...


class Progress(Module):
    """How far training is, and the root of its random numbers."""

    def __init__(self) -> None:
        self.step = Variable(0, dtype="int32", name="step", trainable=False)
        self.seed = Variable(config.seed, dtype="uint32", name="seed", trainable=False)


class Step:
    """A method of a module as a pure function ``(changing, constant, batch) -> (changing, logs)``.

    Which variables the method assigns is found by tracing it once for shapes; those are *changing*, and are handed from
    step to step. The others are *constant* and only read.

    Args:
        owner: the module that holds every variable.
        method: what to run with a batch; its results are the logs.
        training: whether layers behave as in training; the step counter then goes up by one.
        example: a batch (arrays or shapes), for tracing.
        logs: whether what the method returns are logs, single numbers by name.
        finish: gives the logs from the state alone, where they need not be worked out after every step.

    Attributes:
        flops: floating-point operations in one step, see :func:`lamina.kernels.flops.count_flops`.
        results: the shapes of the logs.

    Raises:
        StateError: if the method assigns a variable that ``owner`` does not hold.
    """

    def __init__(
        self,
        owner: Any,
        method: Callable[..., Any],
        training: bool,
        example: Any,
        logs: bool = True,
        finish: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self.owner, self.method, self.training, self.finish = owner, method, training, finish
        owner.adopt()
        traced: dict[str, Any] = {}

        def trace(batch: Any) -> Any:
            with self._scope({}, abstract=True) as scope:
                traced["scope"] = scope
                results = self._run(batch)
                return jax.tree.map(jnp.asarray, results if finish is None else self._logs())

        jaxpr, self.results = jax.make_jaxpr(trace, return_shape=True)(example)
        self.flops = count_flops(jaxpr.jaxpr)
        self.programs: dict[Any, Callable[..., Any]] = {}
        if logs:
            _check_logs(method, self.results)
        owner.adopt()  # building made new variables: weights at the first call, optimizer slots at the first update
        self.variables: dict[str, Variable] = owner.named_variables()
        scope = traced["scope"]
        known = set(self.variables.values())
        stray = [variable for variable in scope.written if variable not in known]
        if stray:
            raise StateError(
                f"{getattr(method, '__name__', 'the step')} assigns variable {stray[0].path!r}, which the model does "
                "not hold.\nKeep it, or the layer, optimizer or metric that owns it, as an attribute of the model."
            )
        self.changing = [path for path, variable in self.variables.items() if variable in scope.written]
        self.constant = [path for path, variable in self.variables.items() if variable not in scope.written]

    def _scope(self, values: dict[Variable, Any], **settings: Any) -> Any:
        progress: Progress | None = self.owner.progress
        key = None
        if self.training and progress is not None:
            seed = values.get(progress.seed, progress.seed.stored)
            key = jax.random.fold_in(jax.random.key(seed), values.get(progress.step, progress.step.stored))
        paths = {id(module): path for path, module in self.owner.modules().items()}
        return bind(values, training=self.training, key=key, paths=paths, **settings)

    def _run(self, batch: Any) -> Any:
        logs = self.method(batch)
        self.names = list(logs) if isinstance(logs, dict) else []  # as logged: JAX sorts a dictionary's names
        if self.training:
            self.owner.progress.step.assign_add(1)
        return logs

    def __call__(self, changing: State, constant: State, batch: Any) -> tuple[State, Any]:
        with self._scope({self.variables[path]: value for path, value in (changing | constant).items()}) as scope:
            results = self._run(batch)
            changed = {path: scope.values[self.variables[path]] for path in self.changing}
            return changed, results if self.finish is None else {}

    def logs(self, changing: State, constant: State) -> dict[str, Any]:
        """The logs that the state holds, where there is a ``finish``."""
        with self._scope({self.variables[path]: value for path, value in (changing | constant).items()}):
            return self._logs()

    def _logs(self) -> dict[str, Any]:
        assert self.finish is not None
        found = self.finish()
        self.names = list(found)
        return found

    def state(self) -> tuple[State, State]:
        """The present values of the changing variables, as copies that may be donated, and of the constant ones."""
        changing = {path: self.variables[path].stored for path in self.changing}
        return copied(changing), {path: self.variables[path].stored for path in self.constant}

    def commit(self, changing: State) -> None:
        """Make these the stored values of the variables."""
        for path, value in changing.items():
            self.variables[path].stored = value


def copied(state: Tree) -> Tree:
    """The same values in memory of their own; one call for all of them, which costs less than one for each."""
    copy: Tree = jax.device_put(state, may_alias=False) if state else state
    return copy


def _check_logs(method: Callable[..., Any], results: Any) -> None:
    name = getattr(method, "__name__", "the step")
    if not isinstance(results, dict) or any(getattr(value, "shape", None) != () for value in results.values()):
        raise ConfigError(
            f"{name} returns what to log: a dictionary of single numbers. Received {jax.tree.map(_describe, results)}.\n"
            'Write:  return {"loss": loss}'
        )


def _describe(leaf: Any) -> str:
    return f"array of shape {leaf.shape}"


def shapes_of(tree: Any, batch: int | None = None) -> Any:
    """The shapes and dtypes of arrays as a step gets them; with so many examples, if ``batch`` is given."""

    def spec(a: Any) -> Any:
        dtype = jax.dtypes.canonicalize_dtype(a.dtype)
        return jax.ShapeDtypeStruct(a.shape if batch is None else (batch, *a.shape[1:]), dtype)

    return jax.tree.map(spec, tree)
