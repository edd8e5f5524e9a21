import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import schedules
from lamina.core import registry
from lamina.core.errors import ConfigError

GOLDEN = np.load(Path(__file__).parent / "golden/row3_schedules.npz")
CASES = [json.loads(case) for case in GOLDEN["cases"]]
NAMES = [n for n in registry.names("schedules") if registry.lookup("schedules", n).__module__ == "lamina.schedules"]


@pytest.mark.parametrize(("index", "case"), list(enumerate(CASES)), ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_values_are_those_of_keras_traced_or_not(index, case):
    name, config = case
    made = registry.lookup("schedules", name)(**config)
    schedule = registry.deserialize(json.loads(json.dumps(registry.serialize(made))))
    steps, wanted = GOLDEN["steps"], GOLDEN[f"out_{index}"]
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(steps), wanted, rtol=2e-5, atol=1e-8)
    found = schedule(int(steps[3]))
    assert found.shape == ()
    assert float(found) == pytest.approx(float(wanted[3]), rel=2e-5)


def test_every_schedule_has_a_golden_case():
    assert {name for name, _ in CASES} == set(NAMES)


@pytest.mark.parametrize("t_mul", [1.3, 2.0, 3.0])
def test_restarts_begin_at_the_top(t_mul):
    lengths = 7 * t_mul ** np.arange(8)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    schedule = schedules.CosineDecayRestarts(1.0, 7, t_mul=t_mul)
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(jnp.ceil(starts)), 1, atol=0.06)
    whole = schedules.CosineDecayRestarts(1.0, 10, t_mul=2.0, m_mul=0.5)
    tops = 10 * (2 ** np.arange(10) - 1)
    np.testing.assert_allclose(jax.jit(jax.vmap(whole))(tops), 0.5 ** np.arange(10), rtol=1e-5)


def test_cosine_with_warmup_by_its_formula():
    schedule = schedules.CosineDecay(0.1, 40, alpha=0.2, warmup_target=1.0, warmup_steps=10)
    assert float(schedule(5)) == pytest.approx(0.55)
    assert float(schedule(10)) == pytest.approx(1.0)
    assert float(schedule(30)) == pytest.approx(0.6)
    assert float(schedule(50)) == float(schedule(5000)) == pytest.approx(0.2)


def test_large_steps_in_double_precision():
    with jax.enable_x64(True):
        rate = schedules.PolynomialDecay(1.0, 10**8, 0.0)(jnp.asarray(10**8 - 1, "float64"))
        assert float(rate) == pytest.approx(1e-8, rel=1e-6)


def test_bad_arguments():
    for name in ("ExponentialDecay", "InverseTimeDecay"):
        with pytest.raises(ConfigError, match="decay_steps above 0"):
            registry.lookup("schedules", name)(0.1, 0, 0.5)
    for name in ("PolynomialDecay", "CosineDecay", "CosineDecayRestarts"):
        with pytest.raises(ConfigError, match="decay_steps above 0"):
            registry.lookup("schedules", name)(0.1, 0)
    with pytest.raises(ConfigError, match="one value more"):
        schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.2])
    with pytest.raises(ConfigError, match="that grow"):
        schedules.PiecewiseConstantDecay([2, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ConfigError, match="warmup_steps"):
        schedules.CosineDecay(0.1, 5, warmup_steps=-1)
    with pytest.raises(ConfigError, match="t_mul of at least 1"):
        schedules.CosineDecayRestarts(0.1, 5, t_mul=0.5)
    with pytest.raises(NotImplementedError, match="__call__"):
        schedules.LearningRateSchedule()(0)
