"""Operations in several forms: a native one for CPUs, in C++, one for GPUs, and a portable one that stands in elsewhere.

Which one a program gets is decided when it is lowered for a platform, so that one traced program runs everywhere and can
be exported. Derivatives of any order come from the portable form where no native one is given.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax._src import dispatch
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from lamina import native
from lamina.core.typing import Array
from lamina.kernels.flops import count_flops

Arrays = tuple[Array, ...]


class Operation:
    """A function of arrays, and of settings given by name, as a primitive of JAX.

    Args:
        name: what programs call it.
        portable: the function in JAX.
        multiple: whether it gives a tuple of arrays rather than an array.
        native: the same by kernels in C++; called when lowered for a CPU.
        targets: the kernels it needs, by their names in ``lamina/native``.
        half: the native form for arrays of bfloat16, if there is one: some processors multiply such numbers faster, and
            they are less to read. Without it they are computed in float32.
        half_targets: the kernels that ``half`` needs.
        half_takes: whether arrays, of which the first is bfloat16, have the dtypes that it takes; without it, all are to
            be bfloat16, but for those of whole numbers and truth values.
        half_supports: whether it can do what it is asked to; asked only where ``supports`` holds.
        supports: whether the native form can do what it is asked to, from shapes, dtypes and settings.
        cuda: the same by libraries for GPUs by NVIDIA; called when lowered for one.
        cuda_supports: whether they can do what is asked.
        forward: for derivatives: the function's results, and whatever else :attr:`backward` wants to have.
        backward: the gradients. Called with the arguments, what ``forward`` gave, the gradients of the results, and for
            each argument whether its gradient is wanted; gives one for each argument, anything where it is not wanted.
            Without it, derivatives are those of the portable form.
        sparse: whether ``backward`` gets ``None``, not zeros, for a result on which nothing depends.

    >>> square = Operation("square", portable=lambda x: x * x)
    >>> float(square(3.0)), float(jax.grad(square)(3.0)), float(jax.grad(jax.grad(square))(3.0))
    (9.0, 6.0, 2.0)
    """

    def __init__(
        self,
        name: str,
        portable: Callable[..., Any],
        *,
        multiple: bool = False,
        native: Callable[..., Any] | None = None,
        targets: Sequence[str] = (),
        half: Callable[..., Any] | None = None,
        half_targets: Sequence[str] = (),
        half_takes: Callable[..., bool] | None = None,
        half_supports: Callable[..., bool] | None = None,
        supports: Callable[..., bool] | None = None,
        cuda: Callable[..., Any] | None = None,
        cuda_supports: Callable[..., bool] | None = None,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        backward: Callable[..., Sequence[Any]] | None = None,
        sparse: bool = False,
    ) -> None:
        self.name, self.portable, self.multiple, self.native, self.targets = name, portable, multiple, native, targets
        self.supports, self.forward, self.backward, self.sparse = supports, forward, backward, sparse
        self.half, self.half_targets, self.half_supports = half, half_targets, half_supports
        self.half_takes = half_takes or all_half
        self._known: dict[Any, tuple[list[Any], float]] = {}
        self.primitive = Primitive(name)
        setattr(self.primitive, "flops", self.flops)  # noqa: B010 - for count_flops
        self.primitive.multiple_results = True
        self.primitive.def_impl(functools.partial(xla.apply_primitive, self.primitive))
        self.primitive.def_abstract_eval(self._shapes)
        mlir.register_lowering(self.primitive, mlir.lower_fun(self._portable, multiple_results=True))
        if native is not None:
            special = functools.partial(self._lower, self._by_kernels, self.is_native)
            mlir.register_lowering(self.primitive, special, platform="cpu")
        if cuda is not None and cuda_supports is not None:
            mlir.register_lowering(self.primitive, functools.partial(self._lower, cuda, cuda_supports), platform="cuda")
            # such forms may be partitioned over devices, and JAX hands those only to primitives that it knows to ask
            dispatch.prim_requires_devices_during_lowering.add(self.primitive)
        batching.primitive_batchers[self.primitive] = self._batched
        ad.primitive_jvps[self.primitive] = self._jvp
        self.tangent = _tangent_of(self) if backward is not None else None

    def __call__(self, *arrays: Any, **settings: Any) -> Any:
        results = self.primitive.bind(*map(jnp.asarray, arrays), **settings)
        return tuple(results) if self.multiple else results[0]

    def is_native(self, *arrays: Any, **settings: Any) -> bool:
        """Whether these arguments are computed by the native form when the program runs on a CPU."""
        return (
            self.native is not None
            and native.load().names.issuperset(self.targets)
            and (self.supports is None or self.supports(*map(_single, arrays), **settings))
        )

    def is_half(self, *arrays: Any, **settings: Any) -> bool:
        """Whether the native form for bfloat16 computes these arguments."""
        return (
            self.half is not None
            and native.load().names.issuperset(self.half_targets)
            and arrays[0].dtype == jnp.bfloat16
            and self.half_takes(*arrays)
            and (self.half_supports is None or self.half_supports(*arrays, **settings))
        )

    def _by_kernels(self, *arrays: Array, **settings: Any) -> Any:
        """The native form; bfloat16 is computed in float32, or summed up in it, and rounded once at the end."""
        assert self.native is not None
        if self.is_half(*arrays, **settings):
            assert self.half is not None
            return self.half(*arrays, **settings)
        results = self.native(*(a.astype("float32") if a.dtype == jnp.bfloat16 else a for a in arrays), **settings)
        dtypes = [shape.dtype for shape in self._shapes(*arrays, **settings)]
        found = [r.astype(dtype) for r, dtype in zip(self._listed(results), dtypes, strict=True)]
        return found if self.multiple else found[0]

    def _portable(self, *arrays: Array, **settings: Any) -> list[Array]:
        return self._listed(self.portable(*arrays, **settings))

    def flops(self, *arrays: Any, **settings: Any) -> float:
        """Floating-point operations of the portable form, of arrays or their shapes."""
        return self._seen(arrays, settings)[1]

    def _shapes(self, *avals: Any, **settings: Any) -> list[Any]:
        return self._seen(avals, settings)[0]

    def _seen(self, arrays: Sequence[Any], settings: dict[str, Any]) -> tuple[list[Any], float]:
        """The shapes of the results, and the number of operations; traced once for shapes of the arguments."""
        given = tuple((a.shape, a.dtype) for a in arrays), tuple(settings.items())
        if given not in self._known:
            shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
            jaxpr, found = jax.make_jaxpr(functools.partial(self._portable, **settings), return_shape=True)(*shapes)
            self._known[given] = [jax.core.ShapedArray(a.shape, a.dtype) for a in found], count_flops(jaxpr.jaxpr)
        return self._known[given]

    def _lower(
        self,
        special: Callable[..., Any],
        supports: Callable[..., bool],
        context: Any,
        *arrays: Any,
        **settings: Any,
    ) -> Any:
        chosen = special if supports(*context.avals_in, **settings) else self.portable

        def listed(*arrays: Array, **settings: Any) -> list[Array]:
            return self._listed(chosen(*arrays, **settings))

        return mlir.lower_fun(listed, multiple_results=True)(context, *arrays, **settings)

    def _listed(self, results: Any) -> list[Array]:
        return list(results) if self.multiple else [results]

    def _batched(self, arrays: Sequence[Any], axes: Sequence[Any], **settings: Any) -> tuple[Any, list[int]]:
        results = jax.vmap(functools.partial(self._portable, **settings), tuple(axes))(*arrays)
        return results, [0] * len(results)

    def _jvp(self, primals: Sequence[Any], tangents: Sequence[Any], **settings: Any) -> tuple[Any, Any]:
        if self.tangent is None:
            tangents = [ad.instantiate_zeros(t) for t in tangents]
            return jax.jvp(functools.partial(self._portable, **settings), tuple(primals), tuple(tangents))
        if self.forward is None:
            results = residuals = self.primitive.bind(*primals, **settings)
        else:
            results, residuals = self.forward(*primals, **settings)
            results = self._listed(results)
        wanted = tuple(not isinstance(t, ad.Zero) for t in tangents)
        given = [t for t in tangents if not isinstance(t, ad.Zero)]
        leaves, tree = jax.tree.flatten(residuals)
        moved = self.tangent.bind(
            *primals, *leaves, *given, wanted=wanted, tree=tree, settings=tuple(sorted(settings.items()))
        )
        return results, moved


def _tangent_of(operation: Operation) -> Primitive:
    """The derivative of an operation at some place, a linear function, whose transpose is the operation's ``backward``."""
    tangent = Primitive(f"{operation.name}_tangent")
    tangent.multiple_results = True

    def moved(*arrays: Any, wanted: tuple[bool, ...], tree: Any, settings: tuple[tuple[str, Any], ...]) -> list[Array]:
        primals, given = arrays[: len(wanted)], iter(arrays[len(wanted) + tree.num_leaves :])
        tangents = [next(given) if is_wanted else _no_tangent(p) for p, is_wanted in zip(primals, wanted, strict=True)]
        return jax.jvp(functools.partial(operation._portable, **dict(settings)), primals, tuple(tangents))[1]

    def shapes(*avals: Any, wanted: Any, tree: Any, settings: Any) -> list[Any]:
        return operation._shapes(*avals[: len(wanted)], **dict(settings))

    def transpose(cotangents: Sequence[Any], *arrays: Any, wanted: Any, tree: Any, settings: Any) -> list[Any]:
        count = len(wanted)
        if all(isinstance(c, ad.Zero) for c in cotangents):
            return [None] * len(arrays)
        absent = (lambda c: None) if operation.sparse else ad.instantiate_zeros
        cotangents = [absent(c) if isinstance(c, ad.Zero) else c for c in cotangents]
        primals, leaves = arrays[:count], arrays[count : count + tree.num_leaves]
        assert operation.backward is not None
        gradients = operation.backward(primals, tree.unflatten(leaves), cotangents, wanted, **dict(settings))
        found = [g for g, is_wanted in zip(gradients, wanted, strict=True) if is_wanted]
        return [None] * (count + tree.num_leaves) + found

    def batched(arrays: Sequence[Any], axes: Sequence[Any], **parameters: Any) -> tuple[Any, list[int]]:
        results = jax.vmap(functools.partial(moved, **parameters), tuple(axes))(*arrays)
        return results, [0] * len(results)

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **parameters: Any) -> tuple[Any, Any]:
        tangents = [ad.instantiate_zeros(t) for t in tangents]
        return jax.jvp(functools.partial(moved, **parameters), tuple(primals), tuple(tangents))

    tangent.def_impl(functools.partial(xla.apply_primitive, tangent))
    tangent.def_abstract_eval(shapes)
    mlir.register_lowering(tangent, mlir.lower_fun(moved, multiple_results=True))
    batching.primitive_batchers[tangent] = batched
    ad.primitive_transposes[tangent] = transpose
    ad.primitive_jvps[tangent] = jvp
    return tangent


def _single(array: Any) -> Any:
    """The shape of an array, and its dtype, with float32 for bfloat16."""
    return jax.ShapeDtypeStruct(array.shape, "float32" if array.dtype == jnp.bfloat16 else array.dtype)


def all_half(*arrays: Any) -> bool:
    """Whether all are bfloat16, but for whole numbers and truth values."""
    return all(array.dtype == jnp.bfloat16 for array in arrays if jnp.issubdtype(array.dtype, jnp.inexact))


def _no_tangent(primal: Array) -> Any:
    return jnp.zeros(primal.shape, jax.dtypes.float0 if not jnp.issubdtype(primal.dtype, jnp.inexact) else primal.dtype)


def of_dtype(target: str, array: Array) -> str:
    """The name of a kernel that there is in two forms, for arrays of float32 and of bfloat16: of that for ``array``."""
    return f"half_{target}" if array.dtype == jnp.bfloat16 else target


def call(target: str, results: Any, *arrays: Array, in_place: dict[int, int] | None = None, **attributes: Any) -> Any:
    """Call a kernel of ``lamina/native``; see :func:`jax.ffi.ffi_call`.

    Args:
        target: the kernel's name.
        results: shapes and dtypes of what it gives.
        arrays: what it is given.
        in_place: number of an array -> number of the result that takes its memory.
        attributes: numbers, as NumPy's own types.
    """
    function = jax.ffi.ffi_call(native.PREFIX + target, results, input_output_aliases=in_place)
    return function(*arrays, **attributes)
