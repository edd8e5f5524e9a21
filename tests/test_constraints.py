import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from lamina import constraints
from lamina.core import registry
from lamina.core.errors import ConfigError

GOLDEN = np.load(Path(__file__).parent / "golden/row3_constraints.npz")
CASES = [json.loads(case) for case in GOLDEN["cases"]]
NAMES = [
    n for n in registry.names("constraints") if registry.lookup("constraints", n).__module__ == "lamina.constraints"
]


@pytest.mark.parametrize(("index", "case"), list(enumerate(CASES)), ids=[f"{n}-{c}" for n, c, _ in CASES])
def test_values_are_those_of_keras(index, case):
    name, config, kind = case
    made = registry.lookup("constraints", name)(**config)
    again = registry.deserialize(json.loads(json.dumps(registry.serialize(made))))
    for constraint in (made, again):
        np.testing.assert_allclose(constraint(GOLDEN[kind]), GOLDEN[f"out_{index}"], rtol=1e-6)


def test_norms_end_where_they_should():
    w = np.random.default_rng(0).normal(size=(5, 4)).astype("float32") * 3

    def norms(x):
        return np.linalg.norm(x, axis=0)

    np.testing.assert_allclose(norms(constraints.UnitNorm()(w)), 1, rtol=1e-5)
    assert (norms(constraints.MaxNorm(1.5)(w)) <= 1.5 + 1e-5).all()
    bounded = norms(constraints.MinMaxNorm(0.5, 0.75)(w))
    assert (bounded >= 0.5 - 1e-5).all()
    assert (bounded <= 0.75 + 1e-5).all()
    assert (np.asarray(constraints.NonNeg()(w)) == np.maximum(w, 0)).all()


@pytest.mark.parametrize("name", NAMES)
def test_dtype_is_kept_and_zeros_stay_finite(name):
    w = registry.get("constraints", name)(jnp.zeros((3, 2), "bfloat16"))
    assert w.dtype == "bfloat16"
    assert np.isfinite(np.asarray(w, "float32")).all()


def test_bad_arguments():
    with pytest.raises(ConfigError, match="at least 0"):
        constraints.MaxNorm(-1)
    with pytest.raises(ConfigError, match="min_value <= max_value"):
        constraints.MinMaxNorm(2.0, 1.0)
    with pytest.raises(ConfigError, match="rate"):
        constraints.MinMaxNorm(rate=0.0)
    with pytest.raises(ConfigError, match="Did you mean 'max_norm'"):
        registry.get("constraints", "max_nrom")
