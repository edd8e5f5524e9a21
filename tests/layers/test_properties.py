"""What holds for every layer, over the whole catalogue."""

import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina as lm
from lamina import layers
from lamina.core import registry
from lamina.core.masks import get_mask, set_mask
from lamina.core.state import bind
from lamina.core.symbolic import SymbolicTensor
from lamina.layers.base import Layer
from lamina.layers.host import HostLayer
from tests.catalogue import CASES, Case

IDS = [f"{case.name}-{number}" for number, case in enumerate(CASES)]
every = pytest.mark.parametrize("case", CASES, ids=IDS)
compiled = [case for case in CASES if case.compiled]
COMPILED_IDS = [name for name, case in zip(IDS, CASES, strict=True) if case.compiled]
every_compiled = pytest.mark.parametrize("case", compiled, ids=COMPILED_IDS)


def symbols(inputs, batch=None):
    """Symbolic values like ``inputs``, the batch axis unknown."""

    def one(x):
        x = np.asarray(x)
        dtype = "string" if x.dtype.kind in "OSUT" else jax.dtypes.canonicalize_dtype(x.dtype)
        return SymbolicTensor((batch, *x.shape[1:]), dtype)

    return jax.tree.map(one, inputs)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def shapes(case: Case, layer: Layer, inputs):
    """What the layer gives, as shapes; where it is compiled, nothing is computed, but its weights are made."""
    if not case.compiled:
        return layer(*inputs, **case.kwargs)
    return jax.eval_shape(lambda *inputs: layer(*inputs, **case.kwargs), *inputs)


def outputs(case: Case, layer: Layer, inputs):
    """What the layer gives, with the same random numbers each time; as one program where it is compiled.

    The weights are arguments: one program serves layers with other weights.
    """
    variables = layer.weights

    def run(values, *inputs):
        with bind(dict(zip(variables, values, strict=True)), key=jax.random.key(1)):
            return layer(*inputs, **case.kwargs)

    return (jax.jit(run) if case.compiled else run)([variable.stored for variable in variables], *inputs)


def built(case: Case, dtype: str = "float32"):
    """The layer with its weights made, and its inputs."""
    layer, inputs = case.layer(), case.inputs(dtype)
    shapes(case, layer, inputs)
    return layer, inputs


def fixed(case: Case, training: bool):
    """The layer, and a function of its inputs whose random numbers are the same at every call."""
    layer, inputs = built(case)

    def run(values, *inputs):
        with bind(values, training=training, key=jax.random.key(3)) as scope:
            return layer(*inputs, **case.kwargs), {v.path: scope.values[v] for v in scope.written}

    return layer, inputs, run


def acts_differently(case: Case) -> bool:
    """Whether the layer, or one inside it, knows training from inference."""
    modules = [module for module in case.make().modules().values() if isinstance(module, Layer)]
    return any("training" in inspect.signature(module.call).parameters for module in modules)


def test_every_layer_is_in_the_catalogue():
    public = {
        found
        for name, found in vars(layers).items()
        if inspect.isclass(found) and issubclass(found, Layer) and not name.startswith("_")
    }
    base = {Layer, HostLayer}
    missing = {cls.__name__ for cls in public - base - {type(case.make()) for case in CASES}}
    assert not missing - {"RandomLayer", "AugmentationLayer"}


@every
def test_inferred_shapes_are_computed_shapes(case: Case):
    layer, inputs = case.layer(), case.inputs()
    inferred = layer(*symbols(inputs), **case.kwargs)
    computed = outputs(case, layer, inputs)
    symbolic = jax.tree.leaves(inferred, is_leaf=lambda x: isinstance(x, SymbolicTensor))
    arrays = jax.tree.leaves(computed)
    assert len(symbolic) == len(arrays)
    for symbol, array in zip(symbolic, arrays, strict=True):
        assert len(symbol.shape) == array.ndim
        assert all(want in (None, have) for want, have in zip(symbol.shape, array.shape, strict=True))
        assert jnp.dtype(symbol.dtype) == array.dtype


@every
def test_config_and_weights_round_trip(case: Case):
    layer, inputs = built(case)
    saved = registry.serialize(layer)
    again = registry.deserialize(json.loads(json.dumps(saved)))
    assert registry.serialize(again) == saved
    shapes(case, again, inputs)
    rng = np.random.default_rng(4)
    weights = [w + 0.1 * rng.random(w.shape).astype(w.dtype) if w.dtype.kind == "f" else w for w in layer.get_weights()]
    layer.set_weights(weights)  # not those of the seed, which both have anyway
    again.set_weights(weights)
    for a, b in zip(leaves(outputs(case, layer, inputs)), leaves(outputs(case, again, inputs)), strict=True):
        np.testing.assert_array_equal(a, b)


MODES = [
    pytest.param(case, training, id=f"{name}-{'training' if training else 'inference'}")
    for name, case in zip(COMPILED_IDS, compiled, strict=True)
    for training in (False, True)
    if not training or acts_differently(case)
]


@pytest.mark.parametrize(("case", "training"), MODES)
def test_eager_jitted_and_scanned_agree(case: Case, training: bool):
    _, inputs, run = fixed(case, training)
    inputs = jax.tree.map(jnp.asarray, inputs)
    eager = run({}, *inputs)

    @jax.jit  # one program for both, since compiling takes longer than running
    def both(*inputs):
        scanned = jax.lax.scan(lambda carry, _: (carry, run({}, *inputs)), 0, None, length=1)[1]
        return run({}, *inputs), scanned

    jitted, scanned = both(*inputs)
    for a, b, c in zip(leaves(eager), leaves(jitted), leaves(scanned), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(a, c[0], rtol=2e-5, atol=2e-6)


@pytest.fixture
def double():
    """64-bit numbers, for a test."""
    before = lm.config.dtype_policy
    jax.config.update("jax_enable_x64", True)
    lm.config.set_dtype_policy("float64")
    yield
    lm.config.set_dtype_policy(before)
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize(
    "case",
    [case for case in compiled if case.differentiable],
    ids=[name for name, case in zip(COMPILED_IDS, compiled, strict=True) if case.differentiable],
)
def test_gradients_are_those_of_finite_differences(case: Case, double):
    layer, inputs = built(case, "float64")
    inputs = jax.tree.map(jnp.asarray, inputs)
    variables = layer.trainable_weights
    floating = [jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(inputs)]
    flat, structure = jax.tree.flatten(inputs)
    moving = [x for x, is_floating in zip(flat, floating, strict=True) if is_floating]

    def output(moving, values):
        source = iter(moving)
        whole = [next(source) if is_floating else x for x, is_floating in zip(flat, floating, strict=True)]
        with bind(dict(zip(variables, values, strict=True)), training=True, key=jax.random.key(5)):
            results = layer(*jax.tree.unflatten(structure, whole), **case.kwargs)
        parts = [leaf for leaf in jax.tree.leaves(results) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        weigh = [jnp.cos(jnp.arange(part.size, dtype="float64") + 1).reshape(part.shape) for part in parts]
        return sum(jnp.sum(part * weight) for part, weight in zip(parts, weigh, strict=True))

    point = (moving, [v.stored for v in variables])
    rng = np.random.default_rng(7)
    direction = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), point)
    step = 1e-6

    @jax.jit
    def along(direction):
        def at(t):
            return output(*jax.tree.map(lambda p, d: p + t * d, point, direction))

        gradients = jax.grad(output, argnums=(0, 1))(*point)
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradients, direction)
        return (at(step) - at(-step)) / (2 * step), sum(jax.tree.leaves(products), start=jnp.zeros(()))

    # The inputs and the weights each have a turn, so that an error in one cannot hide in the other.
    for which in (0, 1):
        if point[which]:
            kept = [jax.tree.map(jnp.zeros_like, part) for part in direction]
            kept[which] = direction[which]
            numeric, exact = along(tuple(kept))
            assert float(exact) == pytest.approx(float(numeric), rel=2e-5, abs=1e-6)


@pytest.mark.parametrize(
    "case",
    [case for case in compiled if case.mixed],
    ids=[name for name, case in zip(COMPILED_IDS, compiled, strict=True) if case.mixed],
)
def test_mixed_precision_keeps_float32_weights(case: Case):
    before = lm.config.dtype_policy
    lm.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = case.layer()
        results = shapes(case, layer, case.inputs())
    finally:
        lm.config.set_dtype_policy(before)
    for variable in layer.weights:
        if jnp.issubdtype(variable.raw.dtype, jnp.floating):
            assert variable.raw.dtype == jnp.float32, variable.path
    for leaf in jax.tree.leaves(results):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert leaf.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.masked],
    ids=[name for name, case in zip(IDS, CASES, strict=True) if case.masked],
)
def test_masks_travel_on(case: Case):
    layer = case.layer()
    inputs = jax.tree.map(jnp.asarray, case.inputs())
    first = jax.tree.leaves(inputs)[0]
    mask = (
        jnp.arange(first.shape[1]) < jnp.array([first.shape[1] - 1] + [first.shape[1]] * (first.shape[0] - 1))[:, None]
    )
    for leaf in jax.tree.leaves(inputs):
        set_mask(leaf, mask)
    found = get_mask(jax.tree.leaves(layer(*inputs, **case.kwargs))[0])
    assert found is not None
    np.testing.assert_array_equal(found, mask)


@every
def test_weights_have_paths_of_their_own(case: Case):
    layer, _ = built(case)
    paths = list(layer.named_variables())
    assert len(set(paths)) == len(paths) == len(layer.weights)
