import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import regularizers
from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError

GOLDEN = np.load(Path(__file__).parent / "golden/row3_regularizers.npz")
CASES = [json.loads(case) for case in GOLDEN["cases"]]
NAMES = [
    n for n in registry.names("regularizers") if registry.lookup("regularizers", n).__module__ == "lamina.regularizers"
]


@pytest.mark.parametrize(("index", "case"), list(enumerate(CASES)), ids=[f"{n}-{c}" for n, c, _ in CASES])
def test_values_are_those_of_keras(index, case):
    name, config, kind = case
    made = registry.lookup("regularizers", name)(**config)
    again = registry.deserialize(json.loads(json.dumps(registry.serialize(made))))
    for regularizer in (made, again):
        np.testing.assert_allclose(regularizer(GOLDEN[kind]), GOLDEN[f"out_{index}"], rtol=1e-6)


def test_names():
    assert isinstance(registry.get("regularizers", "l1"), regularizers.L1)
    assert isinstance(registry.get("regularizers", "l2"), regularizers.L2)
    assert isinstance(registry.get("regularizers", "l1_l2"), regularizers.L1L2)
    assert isinstance(registry.get("regularizers", "orthogonal_regularizer"), regularizers.OrthogonalRegularizer)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_match_finite_differences(name):
    config = {"l1": 0.1, "l2": 0.2} if name == "L1L2" else {}
    with jax.enable_x64(True):
        f = jax.jit(registry.lookup("regularizers", name)(**config))
        x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)))
        d = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))
        slope = (f(x + 1e-6 * d) - f(x - 1e-6 * d)) / 2e-6
        assert abs(float(jnp.sum(jax.grad(f)(x) * d) - slope)) < 1e-8


def test_half_precision_sums_do_not_overflow():
    assert float(regularizers.L2(1.0)(jnp.full((300,), 300.0, "float16"))) == pytest.approx(2.7e7)


def test_nothing_to_penalize():
    assert float(regularizers.L1L2()(jnp.ones(3))) == 0
    assert float(regularizers.OrthogonalRegularizer()(jnp.ones((1, 3)))) == 0
    assert np.isfinite(jax.jit(jax.grad(regularizers.OrthogonalRegularizer()))(jnp.zeros((2, 3)))).all()


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf"), "a", True])
def test_bad_factors(bad):
    for make in (regularizers.L1, regularizers.L2, regularizers.L1L2, regularizers.OrthogonalRegularizer):
        with pytest.raises(ConfigError, match="finite number of at least 0"):
            make(bad)


def test_bad_mode_and_shape():
    with pytest.raises(ConfigError, match="'rows' or 'columns'"):
        regularizers.OrthogonalRegularizer(mode="both")
    with pytest.raises(ShapeError, match="expects a matrix"):
        regularizers.OrthogonalRegularizer()(jnp.ones(3))
