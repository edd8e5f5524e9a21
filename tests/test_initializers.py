import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina as lm
from lamina import initializers
from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError

GOLDEN = np.load(Path(__file__).parent / "golden/row3_initializers.npz")
CASES = [json.loads(case) for case in GOLDEN["cases"]]
NAMES = [
    n for n in registry.names("initializers") if registry.lookup("initializers", n).__module__ == "lamina.initializers"
]
DRAWING = [name for name in NAMES if issubclass(registry.lookup("initializers", name), initializers.RandomInitializer)]


@pytest.mark.parametrize(("index", "case"), list(enumerate(CASES)), ids=[f"{n}-{c}" for n, c, _ in CASES])
def test_values_are_those_of_keras(index, case):
    name, config, shape = case
    found = registry.lookup("initializers", name)(**config)(shape)
    np.testing.assert_allclose(found, GOLDEN[f"out_{index}"], atol=2e-6)


SHAPE = (3, 3, 40, 60)  # of a convolution: 360 inputs, 540 outputs
VARIANCES = {
    "glorot_uniform": 2 / (360 + 540),
    "glorot_normal": 2 / (360 + 540),
    "he_uniform": 2 / 360,
    "he_normal": 2 / 360,
    "lecun_uniform": 1 / 360,
    "lecun_normal": 1 / 360,
    "variance_scaling": 1 / 360,
    "random_normal": 0.05**2,
    "random_uniform": 0.1**2 / 12,
    "truncated_normal": (0.05 * 0.87962566) ** 2,
}


@pytest.mark.parametrize(("name", "variance"), list(VARIANCES.items()))
def test_mean_and_variance(name, variance):
    drawn = np.asarray(registry.get("initializers", name)(SHAPE, key=jax.random.key(3)), "float64")
    assert drawn.shape == SHAPE
    assert abs(drawn.mean()) < 4 * math.sqrt(variance / drawn.size)
    assert abs(drawn.var() / variance - 1) < 0.05
    if "uniform" in name:
        limit = math.sqrt(3 * variance)
        assert limit * 0.99 < np.abs(drawn).max() <= limit * (1 + 1e-6)
    elif name in ("random_normal",):
        assert np.abs(drawn).max() > 3 * math.sqrt(variance)
    else:
        assert np.abs(drawn).max() < 2 * math.sqrt(variance) / 0.8796


@pytest.mark.parametrize(
    ("config", "variance"),
    [
        ({"mode": "fan_out", "scale": 3.0}, 3 / 540),
        ({"mode": "fan_avg", "distribution": "uniform"}, 1 / 450),
        ({"distribution": "untruncated_normal"}, 1 / 360),
        ({"input_axes": [0, 1], "output_axes": [2, 3]}, 1 / 9),
    ],
)
def test_variance_scaling_modes(config, variance):
    drawn = initializers.VarianceScaling(**config)(SHAPE, key=jax.random.key(3))
    assert abs(float(drawn.var()) / variance - 1) < 0.05


def test_fans():
    fans = initializers.compute_fans
    assert fans(()) == (1, 1)
    assert fans((7,)) == (7, 7)
    assert fans((3, 5)) == (3, 5)
    assert fans((4, 3, 5)) == (12, 20)
    assert fans((2, 2, 3, 5)) == (12, 20)
    assert fans((2, 3, 5), [0], [1, 2]) == (2, 15)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (2, 3, 4)])
def test_orthogonal(shape):
    w = np.asarray(initializers.Orthogonal(gain=2.0, seed=1)(shape)).reshape(-1, shape[-1])
    product = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


def test_orthogonal_matrices_have_either_orientation():
    corners = [float(initializers.Orthogonal(seed=seed)((2, 2))[0, 0]) for seed in range(12)]
    assert min(corners) < 0 < max(corners)


@pytest.mark.parametrize("name", DRAWING)
def test_seed_and_key_decide_the_values(name):
    make = registry.lookup("initializers", name)
    shape, one, two = (3, 4), jax.random.key(1), jax.random.key(2)
    assert (make()(shape, key=one) == make()(shape, key=one)).all()
    assert (make()(shape, key=one) != make()(shape, key=two)).any()
    assert (make()(shape) != make()(shape)).any()
    assert (make(seed=5)(shape, key=one) == make(seed=5)(shape, key=two)).all()
    assert (make(seed=5)(shape) != make(seed=6)(shape)).any()


def test_a_single_number_is_an_array_too():
    drawn = initializers.RandomUniform(seed=0)(())
    assert isinstance(drawn, jax.Array)
    assert drawn.shape == ()
    assert drawn == initializers.RandomUniform(seed=0)((2,))[0]


@pytest.mark.parametrize(
    "key", [3, "a", np.zeros(2), jax.random.split(jax.random.key(0), 2)], ids=["number", "text", "array", "two"]
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(
        ConfigError, match=r"(?s)key is one key of jax.random; received .*\nWrite:  key=jax.random.key\(0\)"
    ):
        initializers.GlorotUniform()((2, 3), key=key)
    with pytest.raises(ConfigError, match=r"key is one key of jax.random"):
        lm.random.normal((2, 3), key=key)


def test_dtype_jit_and_configuration():
    saved = json.loads(json.dumps([registry.serialize(registry.get("initializers", name)) for name in NAMES]))
    again = [registry.deserialize(one) for one in saved]
    assert [type(one).__name__ for one in again] == NAMES

    def draw(key, dtype):
        return [
            one((4, 1, 3) if name == "STFT" else (3, 4), dtype, key) for name, one in zip(NAMES, again, strict=True)
        ]

    eager, half = draw(jax.random.key(0), None), draw(jax.random.key(0), "bfloat16")
    compiled = jax.jit(lambda key: draw(key, "float32"))(jax.random.key(0))
    for name, one, two, three in zip(NAMES, eager, half, compiled, strict=True):
        assert (one.dtype, two.dtype) == ("float32", "bfloat16"), name
        np.testing.assert_allclose(three, one, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(two.astype("float32"), one, rtol=0.01, err_msg=name)


def test_constants():
    assert registry.get("initializers", "one")((2,)).tolist() == [1, 1]
    assert registry.get("initializers", "zeros")((2,), "int32").dtype == "int32"
    assert initializers.Constant([1.0, 2.0])((2, 2)).tolist() == [[1, 2], [1, 2]]
    config = initializers.Constant(jnp.array([1.0, 2.0])).get_config()
    assert initializers.Constant.from_config(config)((2,)).tolist() == [1, 2]


def test_bad_arguments():
    with pytest.raises(ConfigError, match="scale above 0"):
        initializers.VarianceScaling(scale=0)
    with pytest.raises(ConfigError, match="one of fan_in"):
        initializers.VarianceScaling(mode="fan")
    with pytest.raises(ConfigError, match="truncated_normal"):
        initializers.VarianceScaling(distribution="cauchy")
    with pytest.raises(ConfigError, match="together"):
        initializers.GlorotUniform(input_axes=[0])
    with pytest.raises(ConfigError, match="whole number"):
        initializers.HeNormal(seed="1")
    with pytest.raises(ConfigError, match="side"):
        initializers.STFT(side="left")
    with pytest.raises(ConfigError, match="scaling"):
        initializers.STFT(scaling="both")
    with pytest.raises(ConfigError, match="Did you mean 'glorot_uniform'"):
        registry.get("initializers", "glorot_unifrom")


def test_bad_shapes():
    with pytest.raises(ShapeError, match="Identity makes matrices"):
        initializers.Identity()((2, 2, 2))
    with pytest.raises(ShapeError, match="Orthogonal makes matrices"):
        initializers.Orthogonal()((2,))
    with pytest.raises(ShapeError, match="cannot start a weight"):
        initializers.Constant([1.0, 2.0, 3.0])((2, 2))
    with pytest.raises(ShapeError, match="steps, 1, frequencies"):
        initializers.STFT()((8, 2, 5))
    with pytest.raises(ShapeError, match="window of shape"):
        initializers.STFT(window=np.ones(3))((8, 1, 5))
