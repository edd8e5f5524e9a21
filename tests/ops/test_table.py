"""Every op on its examples: values from NumPy or Keras, and the same shapes in a network as with numbers."""

import functools
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import ops
from lamina.core import registry
from lamina.core.state import Variable
from lamina.core.symbolic import SymbolicTensor, is_symbolic
from tests.ops.examples import EXAMPLES, NOT_KERAS, Example

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ops.npz")
INDEX = {example.name: index for index, example in enumerate(EXAMPLES)}
#: control flow and transformations, which take functions; see test_core.py
TAKE_FUNCTIONS = {
    "associative_scan", "cond", "custom_gradient", "fori_loop", "jvp", "map", "scan", "switch", "vectorized_map",
    "while_loop",
}  # fmt: skip


def _find(name: str) -> Any:
    return registry.lookup("ops", name)


@functools.cache
def _computed(index: int) -> Any:
    """What an example gives; once for all tests."""
    example = EXAMPLES[index]
    return _find(example.op)(*example.args, **example.kwargs)


def _expected(example: Example) -> list[Any]:
    if example.from_keras:
        return [GOLDEN[key] for key in GOLDEN.files if key.rpartition("/")[0] == example.name]
    fn = getattr(np, example.op, None) or getattr(np.linalg, example.op)
    if example.op == "size":
        return [example.args[0].size]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jax.tree.leaves(fn(*example.args, **example.kwargs))


def test_every_op_has_an_example() -> None:
    assert set(registry.names("ops")) - {example.op for example in EXAMPLES} == TAKE_FUNCTIONS


def test_no_two_examples_have_one_name() -> None:
    names = [example.name for example in EXAMPLES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "example",
    [e for e in EXAMPLES if e.label != "shape" and e.op not in NOT_KERAS],
    ids=lambda example: example.name,
)
def test_values(example: Example) -> None:
    found, expected = jax.tree.leaves(_computed(INDEX[example.name])), _expected(example)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(np.asarray(one), other, rtol=3e-5, atol=1e-5)


def _replace(value: Any, make: Any) -> Any:
    if isinstance(value, np.ndarray):
        return make(value)
    if isinstance(value, list | tuple) and any(isinstance(item, np.ndarray) for item in value):
        return type(value)(_replace(item, make) for item in value)
    return value


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.symbolic], ids=lambda example: example.name)
def test_shapes_in_a_network(example: Example) -> None:
    op = _find(example.op)

    def symbol(x: np.ndarray) -> SymbolicTensor:
        return SymbolicTensor(x.shape, jax.dtypes.canonicalize_dtype(x.dtype), name="x")

    symbolic = [_replace(arg, symbol) for arg in example.args]
    results = op(*symbolic, **example.kwargs)
    found = jax.tree.leaves(results, is_leaf=is_symbolic)
    expected = jax.tree.leaves(_computed(INDEX[example.name]))
    assert [x.shape for x in found] == [jnp.shape(x) for x in expected]
    assert [x.dtype for x in found] == [jnp.asarray(x).dtype for x in expected]
    if found[0].call is not None:
        name = registry.key_of(found[0].call.operation).removeprefix("ops.")
        assert _find(name) is found[0].call.operation


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not e.symbolic], ids=lambda example: example.name)
def test_those_that_need_values_run(example: Example) -> None:
    _computed(INDEX[example.name])


#: these ask what they are given, or take arrays only
ASK = ("dtype", "shape", "is_tensor", "_index", "get_item", "elastic_transform")


@pytest.mark.parametrize(
    "example",
    [
        e
        for e in EXAMPLES
        if e.args
        and isinstance(e.args[0], np.ndarray)
        and e.args[0].shape == (3, 4)
        and not e.label
        and e.op not in ASK
    ],
    ids=lambda example: example.name,
)
def test_lists_and_variables_are_arrays(example: Example) -> None:
    op, (x, *rest) = _find(example.op), example.args
    x = np.asarray(x, jax.dtypes.canonicalize_dtype(x.dtype))
    variable = jax.tree.leaves(op(Variable(jnp.asarray(x)), *rest, **example.kwargs))
    listed = jax.tree.leaves(op(x.tolist(), *rest, **example.kwargs))
    expected = jax.tree.leaves(_computed(INDEX[example.name]))
    for one, two, three in zip(variable, listed, expected, strict=True):
        np.testing.assert_allclose(one, three, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(two, three, rtol=1e-6, atol=1e-7)


def test_ops_stand_in_the_package_under_their_names() -> None:
    for name in registry.names("ops"):
        assert hasattr(ops, name) or hasattr(ops.image, name) or name == "_index"
