import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import activations
from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError

GOLDEN = np.load(Path(__file__).parent / "golden/row3_activations.npz")
CASES = [json.loads(case) for case in GOLDEN["cases"]]
NAMES = [
    n for n in registry.names("activations") if registry.lookup("activations", n).__module__ == "lamina.activations"
]
#: those that sum over an axis, or need more arguments
WIDE = {"softmax", "log_softmax", "sparsemax", "glu", "threshold"}
ELEMENTWISE = [name for name in NAMES if name not in WIDE]


@pytest.fixture(scope="module")
def found():
    """All of them in one program, which is compiled faster than many."""
    return jax.jit(lambda x: [registry.get("activations", name)(x, **config) for name, config in CASES])(GOLDEN["x"])


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{n}-{c}" for n, c in CASES])
def test_values_are_those_of_keras(found, index):
    assert found[index].dtype == "float32"
    np.testing.assert_allclose(found[index], GOLDEN[f"out_{index}"], rtol=2e-6, atol=2e-6)


def test_golden_covers_all():
    assert {name for name, _ in CASES} == set(NAMES)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_dtype_is_kept(dtype):
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((2, 6), dtype)
        for name in NAMES:
            config = {"threshold": 0.5, "default_value": 0.0} if name == "threshold" else {}
            f = functools.partial(registry.get("activations", name), **config)
            assert jax.eval_shape(f, x).dtype == dtype, name


def test_gradients_match_finite_differences_and_stay_finite_far_out():
    @jax.jit
    def both(x):
        fs = {name: registry.get("activations", name) for name in ELEMENTWISE}
        return {name: (jax.vmap(jax.grad(f))(x), (f(x + 1e-6) - f(x - 1e-6)) / 2e-6) for name, f in fs.items()}

    with jax.enable_x64(True):
        x = jnp.array([-4.1, -2.2, -0.83, -0.3, 0.2, 0.77, 2.3, 6.4, -1e5, -1e3, 1e3, 1e5], "float64")
        for name, (gradient, slope) in both(x).items():
            np.testing.assert_allclose(gradient[:8], slope[:8], atol=1e-7, err_msg=name)
            assert np.isfinite(gradient).all() or name == "exponential", name


def test_softmax_in_half_precision_is_computed_in_single():
    x = np.random.default_rng(0).normal(size=(1, 4096)).astype("float32")
    half = jnp.asarray(x, "bfloat16")
    exact = jax.nn.softmax(half.astype("float32")).astype("bfloat16")
    assert (activations.softmax(half) == exact).all()


def test_sparsemax_is_the_projection_onto_probabilities():
    rng = np.random.default_rng(1)
    z = rng.normal(size=5) * 2
    p = np.asarray(activations.sparsemax(z), "float64")
    assert p.min() == 0
    assert abs(p.sum() - 1) < 1e-6
    others = rng.dirichlet(np.full(5, 0.3), 2000)
    assert (((others - z) ** 2).sum(1) >= ((p - z) ** 2).sum() - 1e-5).all()


def test_names_and_aliases():
    assert registry.get("activations", "swish") is activations.silu
    assert registry.get("activations", "hard_swish") is activations.hard_silu
    assert registry.get("activations", None) is None
    assert activations.linear("anything") == "anything"
    saved = registry.serialize(activations.gelu)
    assert registry.deserialize(saved) is activations.gelu
    with pytest.raises(ConfigError, match="Did you mean 'relu'"):
        registry.get("activations", "rellu")


def test_integers_and_lists_are_taken():
    assert activations.relu([-1, 2]).tolist() == [0, 2]
    assert activations.softmax(jnp.array([1, 1])).tolist() == [0.5, 0.5]


def test_glu_refuses_an_odd_axis():
    with pytest.raises(ShapeError, match="even length along axis -1"):
        activations.glu(jnp.ones((2, 3)))
