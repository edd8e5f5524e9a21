"""JAX's transformations, carrying variables in and out: ``value_and_grad``, ``jit``, ``scan``, ``vmap``, ``remat``.

Each runs its function in a scope of its own, hands the variables' values through the transformation as ordinary arrays,
and assigns afterwards what the function assigned inside.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.loops import looping
from lamina.core.module import Module
from lamina.core.random import next_key
from lamina.core.state import Array, Scope, Variable, child, current_scope


@jax.tree_util.register_pytree_with_keys_class
class Gradients(dict[str, Array]):
    """The gradient of each variable, by path; remembers the variables, so that an optimizer needs nothing else."""

    def __init__(self, values: Mapping[str, Any], variables: Mapping[str, Variable]) -> None:
        super().__init__(values)
        self.variables = dict(variables)

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[tuple[str, ...], dict[str, Variable]]]:
        return [(jax.tree_util.DictKey(k), v) for k, v in self.items()], (tuple(self), self.variables)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[tuple[str, ...], dict[str, Variable]]]:
        return tuple(self.values()), (tuple(self), self.variables)

    @classmethod
    def tree_unflatten(cls, aux: tuple[tuple[str, ...], dict[str, Variable]], values: Iterable[Any]) -> "Gradients":
        return cls(dict(zip(aux[0], values, strict=True)), aux[1])


def trainable_variables(target: Any) -> dict[str, Variable]:
    """The trainable variables of a module, or of a list or dictionary of modules and variables, by path."""
    if isinstance(target, Module):
        return target.named_variables(trainable=True)
    if isinstance(target, Variable):
        return {target.path: target} if target.trainable else {}
    if isinstance(target, Mapping | list | tuple):
        named = target.items() if isinstance(target, Mapping) else enumerate(target)
        found: dict[str, Variable] = {}
        for name, item in named:
            for path, variable in trainable_variables(item).items():
                if variable not in found.values():
                    found[f"{name}/{path}"] = variable
        return found
    raise ConfigError(f"gradients are taken for a layer, model or variables (or a list of them), not {target!r}")


def value_and_grad(fn: Callable[..., Any], wrt: Any, *, has_aux: bool = False) -> Callable[..., Any]:
    r"""A function that returns what ``fn`` returns and its gradient :math:`\partial f / \partial w` for each variable.

    Args:
        fn: returns a scalar; with ``has_aux``, a pair of a scalar and anything else.
        wrt: the model, layer or variables whose trainable variables are meant.
        has_aux: whether ``fn`` returns a pair.

    Returns:
        A function with the arguments of ``fn`` that returns ``(value, gradients)``; with ``has_aux``,
        ``((value, aux), gradients)``. The gradients are a dictionary ``path -> array`` for ``optimizer.apply``.

    >>> w = Variable(jnp.array(3.0), name="w")
    >>> value, gradients = value_and_grad(lambda x: w * w * x, w)(2.0)
    >>> float(value), float(gradients["w"])
    (18.0, 12.0)
    """

    @functools.wraps(fn)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        if _unbuilt(wrt):  # the layers make their weights when they are first called, so let that be now
            _discover(lambda: fn(*args, **kwargs))
        variables = trainable_variables(wrt)

        def pure(values: dict[str, Array]) -> Any:
            with child({variables[path]: value for path, value in values.items()}) as scope:
                out = fn(*args, **kwargs)
                value, aux = out if has_aux else (out, None)
                if jnp.shape(value) != ():
                    raise ShapeError(
                        f"value_and_grad differentiates a function that returns one number; {_name(fn)} returned an "
                        f"array of shape {jnp.shape(value)}.\nWrite:  return lm.ops.mean(value)"
                    )
                return jnp.asarray(value), (aux, scope.written, scope.touched)

        # The record of the scope holds variables as keys, so it leaves by a side door, and its arrays as a list.
        record: dict[str, Any] = {}

        def arrays_only(values: dict[str, Array]) -> Any:
            value, (aux, written, touched) = pure(values)
            record["written"], record["touched"] = list(written), touched
            return value, (aux, list(written.values()))

        start = {path: variable.raw for path, variable in variables.items()}
        (value, (aux, new)), gradients = jax.value_and_grad(arrays_only, has_aux=True)(start)
        _after(record["touched"], dict(zip(record["written"], new, strict=True)))
        result = (value, aux) if has_aux else value
        return result, Gradients(gradients, variables)

    return differentiated


def grad(fn: Callable[..., Any], wrt: Any) -> Callable[..., Gradients]:
    """As :func:`value_and_grad`, without the value."""
    both = value_and_grad(fn, wrt)

    @functools.wraps(fn)
    def differentiated(*args: Any, **kwargs: Any) -> Gradients:
        return both(*args, **kwargs)[1]

    return differentiated


def jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` compiled; variables that it reads enter as arguments, and those that it assigns come out.

    Arrays and numbers among the arguments are traced; anything else (``True``, strings, models, functions) is fixed,
    and another one compiles again.

    >>> count = Variable(jnp.array(0), name="count")
    >>> @jit
    ... def bump(by):
    ...     count.assign_add(by)
    >>> bump(2); bump(3); print(count.value)
    5
    """
    compiled: dict[Any, tuple[list[Variable], list[Variable], Callable[..., Any], Any]] = {}

    @functools.wraps(fn)
    def jitted(*args: Any, **kwargs: Any) -> Any:
        arrays, rebuild, static = _split((args, kwargs))
        signature = (static, tuple((np.shape(a), jnp.result_type(a)) for a in arrays), _scope_signature())
        if signature not in compiled:
            reads, writes, _ = _discover(lambda *a: _call(fn, rebuild(a)), *arrays)
            tree: dict[str, Any] = {}

            @jax.jit
            def pure(values: list[Array], key: Array, arrays: tuple[Any, ...]) -> Any:
                with child(dict(zip(reads, values, strict=True)), key=key) as scope:
                    leaves, tree["out"] = jax.tree.flatten(_call(fn, rebuild(arrays)))
                    return [jnp.asarray(leaf) for leaf in leaves], [scope.values[v] for v in writes], scope.losses

            compiled[signature] = (reads, writes, pure, tree)
        reads, writes, run, tree = compiled[signature]
        out, new, losses = run([v.raw for v in reads], next_key(), tuple(arrays))
        _after(reads, dict(zip(writes, new, strict=True)), losses)
        return jax.tree.unflatten(tree["out"], out)

    return jitted


def scan(
    fn: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None, **options: Any
) -> tuple[Any, Any]:
    """``jax.lax.scan`` for a function that may read and assign variables and draw random numbers.

    Args:
        fn: ``(carry, x) -> (carry, y)``.
        init: the first carry.
        xs: arrays whose first axis is run over.
        length: the number of steps, where there is no ``xs``.
        options: ``reverse`` and ``unroll``, as in ``jax.lax.scan``.

    Returns:
        The last carry and the stacked ``y``.
    """
    xs = jax.tree.map(jnp.asarray, xs)
    first = jax.tree.map(lambda x: x[0], xs)
    init = jax.tree.map(jnp.asarray, init)
    reads, writes, _ = _discover(fn, init, first)
    steps = length if length is not None else jax.tree.leaves(xs)[0].shape[0]
    key = next_key()

    def body(carry: Any, step: Any) -> Any:
        (values, carry), (index, x) = carry, step
        with child(dict(zip(writes, values, strict=True)), key=jax.random.fold_in(key, index), draws={}) as scope:
            carry, y = fn(carry, x)
            return ([scope.read(v) for v in writes], carry), y

    start = ([v.raw for v in writes], init)
    with looping():
        (new, carry), ys = jax.lax.scan(body, start, (jnp.arange(steps), xs), length=steps, **options)
    _after(reads, dict(zip(writes, new, strict=True)))
    return carry, ys


def vmap(fn: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """``jax.vmap`` for a function that may read variables and draw random numbers, different ones for each row.

    Raises:
        ConfigError: if the function assigns a variable, since there would be one new value for each row.
    """

    @functools.wraps(fn)
    def mapped(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, list | tuple) else (in_axes,) * len(args)
        size = next(
            np.shape(leaf)[axis]
            for arg, axis in zip(args, axes, strict=True)
            if isinstance(axis, int)
            for leaf in jax.tree.leaves(arg)
        )
        key = next_key()
        touched: dict[Variable, None] = {}

        def one(index: Array, *args: Any) -> Any:
            with child(key=jax.random.fold_in(key, index), draws={}) as scope:
                out = fn(*args)
                if scope.written:
                    path = next(iter(scope.written)).path
                    raise ConfigError(
                        f"{_name(fn)} assigns variable {path!r} inside lm.vmap, where each row would give another "
                        "value.\nReturn the values and assign after the vmap."
                    )
                touched.update(scope.touched)
                return out

        out = jax.vmap(one, in_axes=(0, *axes), out_axes=out_axes)(jnp.arange(size), *args)
        _after(touched, {})
        return out

    return mapped


def remat(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``fn`` whose intermediate values are computed again in the backward pass instead of kept in memory.

    Args:
        fn: any function; layers and models too.
        options: ``policy`` and ``prevent_cse``, as in ``jax.checkpoint``.
    """

    @functools.wraps(fn)
    def rematerialized(*args: Any, **kwargs: Any) -> Any:
        arrays, rebuild, _ = _split((args, kwargs))
        reads, writes, _ = _discover(lambda *a: _call(fn, rebuild(a)), *arrays)
        key = next_key()

        @functools.partial(jax.checkpoint, **options)  # type: ignore[call-arg]
        def pure(values: list[Array], key: Array, arrays: tuple[Any, ...]) -> Any:
            with child(dict(zip(reads, values, strict=True)), key=key, draws={}) as scope:
                return _call(fn, rebuild(arrays)), [scope.values[v] for v in writes], scope.losses

        out, new, losses = pure([v.raw for v in reads], key, tuple(arrays))
        _after(reads, dict(zip(writes, new, strict=True)), losses)
        return out

    return rematerialized


def _unbuilt(target: Any) -> bool:
    """Whether a module in ``target`` has yet to make its weights."""
    if isinstance(target, Module):
        return not all(getattr(module, "built", True) for module in target.modules().values())
    if isinstance(target, Mapping | list | tuple):
        return any(_unbuilt(item) for item in (target.values() if isinstance(target, Mapping) else target))
    return False


def _call(fn: Callable[..., Any], arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    return fn(*arguments[0], **arguments[1])


def _name(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


def _split(tree: Any) -> tuple[list[Any], Callable[[Iterable[Any]], Any], Any]:
    """The arrays and numbers of ``tree``, how to put them back, and a hashable rest."""
    leaves, structure = jax.tree.flatten(tree)
    dynamic = [isinstance(x, jax.Array | np.ndarray | np.generic | int | float | complex) for x in leaves]
    dynamic = [d and not isinstance(x, bool) for d, x in zip(dynamic, leaves, strict=True)]
    fixed = tuple(None if d else x for d, x in zip(dynamic, leaves, strict=True))

    def rebuild(arrays: Iterable[Any]) -> Any:
        source = iter(arrays)
        return jax.tree.unflatten(structure, [next(source) if d else x for d, x in zip(dynamic, fixed, strict=True)])

    return [x for d, x in zip(dynamic, leaves, strict=True) if d], rebuild, (structure, fixed)


def _discover(fn: Callable[..., Any], *args: Any) -> tuple[list[Variable], list[Variable], Any]:
    """Which variables ``fn`` reads and which it assigns, found by tracing it for shapes only."""
    found: dict[str, Scope] = {}

    def traced(*args: Any) -> Any:
        # Draws are counted apart: this run must not shift the keys of the real one.
        with child(abstract=True, key=jax.random.key(0), draws={}) as scope:
            found["scope"] = scope
            return jax.tree.map(jnp.asarray, fn(*args))

    shapes = jax.eval_shape(traced, *args)
    return list(found["scope"].touched), list(found["scope"].written), shapes


def _scope_signature() -> Any:
    scope = current_scope()
    return None if scope is None else (scope.training, scope.abstract)


def _after(touched: Iterable[Variable], written: Mapping[Variable, Array], losses: Iterable[Array] = ()) -> None:
    """Tell the outer scope what was read and what was added to the loss, and assign what was written."""
    scope = current_scope()
    if scope is not None:
        scope.touched.update(dict.fromkeys(touched))
        scope.losses.extend(losses)
    for variable, new in written.items():
        variable.assign(new)
