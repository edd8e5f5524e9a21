"""Symbolic values: what a layer or an ``lm.ops`` function gives when it is called before there are data.

A :class:`SymbolicTensor` knows its shape, its dtype and the call that makes it; ``lamina.models`` turns a set of them
into a network.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from lamina.core import registry
from lamina.core.errors import StateError
from lamina.core.shapes import Shape, TensorSpec, infer


@dataclass(eq=False)
class Call:
    """One call in a network: an operation (a layer, or a function registered under ``ops``) and its arguments."""

    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any = None

    def inputs(self) -> list["SymbolicTensor"]:
        """The symbolic values among the arguments, in order."""
        return [leaf for leaf in jax.tree.leaves((self.args, self.kwargs), is_leaf=is_symbolic) if is_symbolic(leaf)]


@dataclass(eq=False)
class SymbolicTensor:
    """An array that is not there yet.

    Attributes:
        shape: its shape; ``None`` for axes known only with the data, such as the batch.
        dtype: its dtype.
        call: the call that makes it; ``None`` for an input.
        index: which of the call's results it is.
        name: the name of an input.
    """

    shape: Shape
    dtype: Any
    call: Call | None = None
    index: int = 0
    name: str | None = field(default=None)

    #: NumPy leaves operators to this class
    __array_ufunc__ = None

    @property
    def spec(self) -> TensorSpec:
        """Shape and dtype."""
        return TensorSpec(self.shape, self.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"SymbolicTensor(shape={self.shape}, dtype={self.dtype}, name={self.name!r})"

    def __getitem__(self, index: Any) -> "SymbolicTensor":
        return registry.lookup("ops", "get_item")(self, index)

    def _refuse(self, *_: Any) -> Any:
        raise StateError(
            "a symbolic value has no numbers yet: it stands for data that come later.\n"
            "Use lm.ops.* and layers on it, not jnp, numpy, if, for or float()."
        )

    __bool__ = __float__ = __int__ = __array__ = __len__ = __iter__ = _refuse


def _define_operators() -> None:
    binary = {
        "add": "add",
        "sub": "subtract",
        "mul": "multiply",
        "truediv": "true_divide",
        "floordiv": "floor_divide",
        "mod": "mod",
        "pow": "power",
        "matmul": "matmul",
    }
    compare = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
    unary = {"neg": "negative", "abs": "absolute"}

    def forward(op: str) -> Callable[..., Any]:
        return lambda self, other: registry.lookup("ops", op)(self, other)

    def backward(op: str) -> Callable[..., Any]:
        return lambda self, other: registry.lookup("ops", op)(other, self)

    def single(op: str) -> Callable[..., Any]:
        return lambda self: registry.lookup("ops", op)(self)

    for name, op in {**binary, **compare}.items():
        setattr(SymbolicTensor, f"__{name}__", forward(op))
    for name, op in binary.items():
        setattr(SymbolicTensor, f"__r{name}__", backward(op))
    for name, op in unary.items():
        setattr(SymbolicTensor, f"__{name}__", single(op))


_define_operators()


def is_symbolic(value: Any) -> bool:
    """Whether ``value`` is a symbolic value."""
    return isinstance(value, SymbolicTensor)


def any_symbolic(tree: Any) -> bool:
    """Whether a symbolic value stands anywhere in ``tree``."""
    return any(is_symbolic(leaf) for leaf in jax.tree.leaves(tree, is_leaf=is_symbolic))


def specs_of(tree: Any) -> Any:
    """``tree`` with each symbolic value replaced by its spec."""
    return jax.tree.map(lambda x: x.spec if is_symbolic(x) else x, tree, is_leaf=is_symbolic)


def record(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The symbolic results of calling ``operation`` with arguments some of which are symbolic."""
    call = Call(operation, args, kwargs)
    specs = infer(lambda args, kwargs: operation(*args, **kwargs), *specs_of((args, kwargs)))
    leaves, tree = jax.tree.flatten(specs, is_leaf=lambda x: isinstance(x, TensorSpec))
    call.outputs = jax.tree.unflatten(
        tree, [SymbolicTensor(spec.shape, spec.dtype, call, index) for index, spec in enumerate(leaves)]
    )
    return call.outputs
