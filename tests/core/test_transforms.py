import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina as lm
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Variable, bind


@pytest.fixture
def w():
    return Variable(jnp.array([1.0, 2.0]), name="w")


@pytest.fixture
def count():
    return Variable(jnp.array(0), name="count", trainable=False)


def test_value_and_grad_gives_gradients_by_path_and_carries_assignments(w, count):
    def loss(x):
        count.assign_add(1)
        return jnp.sum(w * w * x)

    value, gradients = lm.value_and_grad(loss, [w, count])(3.0)
    assert float(value) == 15.0
    assert list(gradients) == ["0/w"]
    np.testing.assert_array_equal(gradients["0/w"], [6.0, 12.0])
    assert int(count.value) == 1
    doubled = jax.tree.map(lambda g: 2 * g, gradients)
    assert doubled.variables == {"0/w": w}
    np.testing.assert_array_equal(lm.grad(loss, w)(1.0)["w"], [2.0, 4.0])


def test_value_and_grad_with_aux(w):
    (value, aux), gradients = lm.value_and_grad(lambda: (w.value.sum(), {"twice": 2 * w}), w, has_aux=True)()
    assert float(value) == 3.0
    np.testing.assert_array_equal(aux["twice"], [2.0, 4.0])
    np.testing.assert_array_equal(gradients["w"], [1.0, 1.0])


def test_value_and_grad_wants_one_number(w):
    with pytest.raises(ShapeError, match=r"returned an array of shape \(2,\)"):
        lm.value_and_grad(lambda: w * 2, w)()
    with pytest.raises(ConfigError, match="layer, model or variables"):
        lm.value_and_grad(lambda: w.sum(), "w")()


def test_jit_reads_present_values_and_carries_assignments(w, count):
    traces = []

    @lm.jit
    def step(x, flag):
        traces.append(flag)
        count.assign_add(1)
        w.assign(w * x if flag else w - x)
        return w.value.sum()

    assert float(step(2.0, True)) == 6.0
    assert float(step(3.0, True)) == 18.0
    w.assign([1.0, 1.0])
    assert float(step(3.0, True)) == 6.0
    assert float(step(1.0, False)) == 4.0
    assert int(count.value) == 4
    assert traces == [True, True, False, False]  # for each flag once to discover, once to compile


def test_jit_draws_new_numbers_at_every_call():
    draw = lm.jit(lambda: lm.random.normal((2,)))
    assert not np.array_equal(draw(), draw())


def test_scan_carries_variables_and_draws_for_each_step(w, count):
    def body(carry, x):
        count.assign_add(1)
        w.assign(w + x)
        return carry + w.value.sum(), lm.random.uniform(())

    carry, noise = lm.scan(body, 0.0, jnp.arange(3.0))
    assert float(carry) == 3.0 + 5.0 + 9.0
    np.testing.assert_array_equal(w.value, [4.0, 5.0])
    assert int(count.value) == 3
    assert len(set(noise.tolist())) == 3


def test_scan_equals_a_loop(w):
    other = Variable(w.value, name="w")

    def step(variable, x):
        _, gradients = lm.value_and_grad(lambda: jnp.sum((variable - x) ** 2), variable)()
        variable.assign(variable - 0.1 * gradients["w"])

    lm.scan(lambda carry, x: (carry, step(w, x)), 0.0, jnp.arange(5.0))
    for x in jnp.arange(5.0):
        lm.jit(lambda x: step(other, x))(x)
    np.testing.assert_array_equal(w.value, other.value)


def test_vmap_maps_and_draws_for_each_row(w):
    out = lm.vmap(lambda x: (w * x).sum() + 0 * lm.random.normal(()))(jnp.arange(3.0))
    np.testing.assert_array_equal(out, [0.0, 3.0, 6.0])
    noise = lm.vmap(lambda x: lm.random.normal(()))(jnp.zeros(4))
    assert len(set(noise.tolist())) == 4
    with pytest.raises(ConfigError, match=r"assigns variable 'w' inside lm.vmap"):
        lm.vmap(lambda x: w.assign(w * x))(jnp.arange(3.0))


def test_remat_changes_no_number(w, count):
    def inner(x):
        count.assign_add(1)
        return jnp.sin(w * x)

    plain = lm.value_and_grad(lambda x: inner(x).sum(), w)(2.0)
    again = lm.value_and_grad(lambda x: lm.remat(inner)(x).sum(), w)(2.0)
    np.testing.assert_allclose(plain[0], again[0])
    np.testing.assert_allclose(plain[1]["w"], again[1]["w"])
    assert int(count.value) == 2


def test_transforms_nest_under_a_scope(w):
    @jax.jit
    def outer(value):
        with bind({w: value}) as scope:
            lm.jit(lambda: w.assign(w + 1))()
            lm.scan(lambda c, _: (c, w.assign(w * 2)), 0, length=2)
            return scope.values[w]

    np.testing.assert_array_equal(outer(jnp.array([1.0, 2.0])), [8.0, 12.0])
    np.testing.assert_array_equal(w.value, [1.0, 2.0])
