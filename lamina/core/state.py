"""State: every value that training changes is a Variable, and one scope says where its present value is.

A step of training is a pure function from one dictionary ``path -> array`` to the next. Layers are written in plain
stateful style all the same: :func:`bind` gives the variables values for a while, and collects what is assigned.
"""

import contextlib
import contextvars
import functools
import operator
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import get_opaque_trace_state

from lamina.core import allowance
from lamina.core.config import config
from lamina.core.errors import ShapeError, StateError
from lamina.core.keys import fold_in, key_of

Array = jax.Array
_scope: contextvars.ContextVar["Scope | None"] = contextvars.ContextVar("scope", default=None)
#: the dtype in which the layer that is being called computes; variables are read in it
_compute_dtype: contextvars.ContextVar[str | None] = contextvars.ContextVar("compute_dtype", default=None)


def _array(value: Any, dtype: Any) -> Array:
    """``value`` as an array of that dtype, if any is given, that is not weakly typed: a step would be compiled twice."""
    if isinstance(value, jax.Array) and dtype in (None, value.dtype) and not value.weak_type:
        return value  # converting it would compile a program for its shape
    if isinstance(value, np.ndarray | np.generic | int | float) and dtype is not None:
        return on_device(np.asarray(value, jnp.dtype(dtype)))
    array = jnp.asarray(value, dtype)
    return jnp.asarray(array, array.dtype)


def on_device(values: np.ndarray) -> Array:
    """A copy of NumPy's array as one of JAX's, for which ``jnp.asarray`` would compile a program for its shape."""
    return jax.device_put(values, may_alias=False)


@jax.tree_util.register_pytree_node_class
class Variable:
    """An array that training may change, with a path.

    Operators and every ``jnp`` and ``lm.ops`` function take it as it is; a bare ``lax`` function wants ``.value``.
    Its first value is drawn when first read, from the seed and the path alone.

    Args:
        initial: the first value, or a function ``(shape, dtype, key) -> array`` that draws it.
        shape: the shape, when ``initial`` is a function.
        dtype: the dtype it is kept in.
        name: the last part of its path.
        trainable: whether gradients change it.
        autocast: whether a layer that computes in another dtype reads it in that dtype.
        regularizer: a function from the value to a number that is added to the loss.
        constraint: a function applied to the value after each update.

    >>> v = Variable(jnp.ones(2), name="scale")
    >>> v.assign(v * 3); print(v.value)
    [3. 3.]
    """

    def __init__(
        self,
        initial: Any,
        *,
        shape: Sequence[int] | None = None,
        dtype: Any = None,
        name: str = "variable",
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Callable[[Array], Array] | None = None,
        constraint: Callable[[Array], Array] | None = None,
    ) -> None:
        self.name = self.path = name
        self.trainable, self.autocast = trainable, autocast
        self.regularizer, self.constraint = regularizer, constraint
        self.initializer: Callable[..., Array] | None = None
        if callable(initial):
            self.initializer = initial
            self._shape, self._dtype = tuple(shape or ()), jnp.dtype(dtype or "float32")
        else:
            self.stored = _array(initial, dtype)
            self._shape, self._dtype = self.stored.shape, self.stored.dtype

    @functools.cached_property
    def stored(self) -> Array:
        """The value outside any scope, in the dtype it is kept in; drawn now if this is the first look."""
        allowance.spend(f"variable {self.path!r}", numbers=self.size)
        with jax.ensure_compile_time_eval():
            key = derive(key_of(config.seed), self.path)
            assert self.initializer is not None
            return _array(self.initializer(self._shape, self._dtype, key), self._dtype)

    @property
    def is_drawn(self) -> bool:
        """Whether there is a value already."""
        return "stored" in vars(self)

    @property
    def raw(self) -> Array:
        """The present value in the dtype it is kept in."""
        scope = _scope.get()
        return self.stored if scope is None else scope.read(self)

    @property
    def value(self) -> Array:
        """The present value, in the dtype in which the calling layer computes."""
        value, dtype = self.raw, _compute_dtype.get()
        if dtype and self.autocast and value.dtype != dtype and jnp.issubdtype(value.dtype, jnp.floating):
            return value.astype(dtype)
        return value

    def assign(self, new: Any) -> None:
        """Give the variable a new value of the same shape; it is kept in the variable's own dtype.

        Raises:
            ShapeError: if the shape differs.
            StateError: inside a JAX transformation that does not carry variables out.
        """
        new = jnp.asarray(new, self._dtype)
        if new.shape != self._shape:
            raise ShapeError(f"variable {self.path!r} has shape {self._shape}; it cannot take a value of {new.shape}")
        scope = _scope.get()
        if scope is not None:
            scope.write(self, new)
        elif isinstance(new, jax.core.Tracer):
            raise _leak(self.path)
        else:
            self.stored = new

    def assign_add(self, change: Any) -> None:
        """Add ``change`` to the value."""
        self.assign(self.raw + jnp.asarray(change, self._dtype))

    def numpy(self) -> np.ndarray:
        """A copy of the present value as a NumPy array."""
        return np.array(self.raw)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self._shape

    @property
    def dtype(self) -> Any:
        """The dtype that a reader sees now."""
        dtype = _compute_dtype.get()
        return (
            jnp.dtype(dtype) if dtype and self.autocast and jnp.issubdtype(self._dtype, jnp.floating) else self._dtype
        )

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return int(np.prod(self._shape, dtype=np.int64))

    def __jax_array__(self) -> Array:
        return self.value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.raw, dtype)

    def __getitem__(self, index: Any) -> Array:
        return self.value[index]

    def __len__(self) -> int:
        return self._shape[0]

    def __float__(self) -> float:
        return float(self.raw)

    def __int__(self) -> int:
        return int(self.raw)

    def __neg__(self) -> Array:
        return -self.value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.value, name)

    def __repr__(self) -> str:
        return f"Variable({self.path!r}, shape={self._shape}, dtype={self._dtype.name}, trainable={self.trainable})"

    def tree_flatten(self) -> tuple[tuple[Array], None]:
        return (self.value,), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> "Variable":
        new = object.__new__(cls)
        new.name = new.path = "unnamed"
        new.trainable = new.autocast = True
        new.regularizer = new.constraint = new.initializer = None
        new.stored = children[0]
        new._shape = getattr(children[0], "shape", ())
        new._dtype = getattr(children[0], "dtype", jnp.dtype("float32"))
        return new


def _define_operators() -> None:
    def forward(op: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, other: op(self.value, other)

    def backward(op: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, other: op(other, self.value)

    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "matmul", "pow"):
        op = getattr(operator, name)
        setattr(Variable, f"__{name}__", forward(op))
        setattr(Variable, f"__r{name}__", backward(op))
    for name in ("lt", "le", "gt", "ge"):
        setattr(Variable, f"__{name}__", forward(getattr(operator, name)))


_define_operators()


def derive(key: Array, path: str, count: int = 0) -> Array:
    """A key that depends on ``key``, ``path`` and ``count`` and on nothing else."""
    return fold_in(fold_in(key, zlib.crc32(path.encode())), count)


def _leak(path: str) -> StateError:
    return StateError(
        f"variable {path!r} was assigned a traced value where it cannot be carried out.\n"
        "A plain jax transformation (jax.jit, jax.grad, jax.lax.scan, jax.vmap, jax.checkpoint) does not carry "
        "variables.\nWrite:  lm.jit, lm.value_and_grad, lm.scan, lm.vmap or lm.remat in its place."
    )


@dataclass(eq=False)
class Scope:
    """The values that variables have for a while, and what is assigned meanwhile.

    Attributes:
        values: the present value of each variable; one that is missing has its stored value.
        training: whether layers behave as in training, where nobody says otherwise.
        key: the root of the random numbers drawn inside; without one, they come from the process's seed.
        paths: the path of each module, by ``id``; what a module's random numbers depend on.
        abstract: only shapes matter inside, so variables that were never read are not drawn.
        written: what was assigned, in order.
        touched: the variables that were read or written.
        draws: how often each path has drawn a key.
        losses: what layers added to the loss.
    """

    values: dict[Variable, Array] = field(default_factory=dict)
    training: bool | None = None
    key: Array | None = None
    paths: Mapping[int, str] = field(default_factory=dict)
    abstract: bool = False
    written: dict[Variable, Array] = field(default_factory=dict)
    touched: dict[Variable, None] = field(default_factory=dict)
    draws: dict[str, int] = field(default_factory=dict)
    losses: list[Array] = field(default_factory=list)
    trace: Any = field(default_factory=get_opaque_trace_state)

    def read(self, variable: Variable) -> Array:
        """The variable's value in this scope."""
        self.touched[variable] = None
        if variable in self.values:
            return self.values[variable]
        if self.abstract and not variable.is_drawn:
            return jnp.zeros(variable._shape, variable._dtype)
        return variable.stored

    def write(self, variable: Variable, new: Array) -> None:
        """Record the variable's next value."""
        if isinstance(new, jax.core.Tracer) and get_opaque_trace_state() != self.trace:
            raise _leak(variable.path)
        self.touched[variable] = None
        self.values[variable] = self.written[variable] = new

    def draw(self, path: str) -> Array:
        """A key that depends on the scope's key, the path and how often this path has drawn."""
        count = self.draws[path] = self.draws.get(path, -1) + 1
        assert self.key is not None
        return derive(self.key, path, count)


def current_scope() -> Scope | None:
    """The innermost scope, or ``None`` in plain eager use."""
    return _scope.get()


@contextlib.contextmanager
def enter(scope: Scope) -> Iterator[Scope]:
    """Make ``scope`` the current one."""
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)


def bind(values: Mapping[Variable, Any], **settings: Any) -> contextlib.AbstractContextManager[Scope]:
    """A new scope in which the variables have these values; see :class:`Scope` for the settings.

    >>> v = Variable(jnp.zeros(()), name="v")
    >>> with bind({v: jnp.ones(())}) as scope:
    ...     v.assign(v + 1)
    >>> float(v.value), float(scope.written[v])
    (0.0, 2.0)
    """
    return enter(Scope(dict(values), **settings))


def child(values: Mapping[Variable, Any] | None = None, **settings: Any) -> contextlib.AbstractContextManager[Scope]:
    """A scope inside the current one: the same settings and values except those given, with a record of its own.

    Draws are counted together with the outer scope's, so that no key is used twice.
    """
    outer = _scope.get() or Scope()
    settings = {"written": {}, "touched": {}, "losses": [], "trace": get_opaque_trace_state()} | settings
    return enter(replace(outer, values={**outer.values, **(values or {})}, **settings))


@contextlib.contextmanager
def compute_in(dtype: str | None) -> Iterator[None]:
    """Inside, variables are read in ``dtype``."""
    token = _compute_dtype.set(dtype)
    try:
        yield
    finally:
        _compute_dtype.reset(token)
