"""What every optimizer has: arguments, configuration, slots, learning rate, weight decay, constraints and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lamina import optimizers
from lamina.core import registry, transforms
from lamina.core.errors import ConfigError, ShapeError, StateError
from lamina.core.state import Variable
from lamina.core.transforms import Gradients
from lamina.optimizers.rules import advance
from tests.optimizers.cases import CASES

KINDS = sorted({kind for kind, _ in CASES.values()})


def weights(**values):
    return {name: Variable(jnp.asarray(value, "float32"), name=name) for name, value in values.items()}


def descend(optimizer, variables, gradients):
    optimizer.apply(Gradients({name: jnp.asarray(g, "float32") for name, g in gradients.items()}, variables))


@pytest.mark.parametrize("case", CASES)
def test_config_round_trip(case):
    kind, arguments = CASES[case]
    optimizer = getattr(optimizers, kind)(**arguments)
    saved = registry.serialize(optimizer)
    again = registry.deserialize(saved)
    assert type(again) is type(optimizer)
    assert registry.serialize(again) == saved
    for name, value in arguments.items():
        assert saved["config"][name] == value


@pytest.mark.parametrize("case", CASES)
def test_the_next_values_are_the_values_and_their_changes(case):
    kind, arguments = CASES[case]
    rule = getattr(optimizers, kind)(**arguments).transform(0.1, 3)
    gradients, values = ({name: jnp.cos(jnp.arange(6.0) + i).reshape(2, 3) for name in "ab"} for i in range(2))
    state = jax.tree.map(lambda slot: jnp.asarray(slot + 0.5), rule.init(values))
    found, after = advance(rule, gradients, state, values)
    changes, expected = rule.update(gradients, state, values)
    assert jax.tree.structure(after) == jax.tree.structure(expected)
    for mine, other in zip(
        jax.tree.leaves((found, after)), jax.tree.leaves((optax.apply_updates(values, changes), expected)), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_gradient_of_whole_numbers_counts_as_such_numbers(kind):
    whole, real = weights(w=[0.0, 1.0]), weights(w=[0.0, 1.0])
    for variables, dtype in ((whole, "int32"), (real, "float32")):
        getattr(optimizers, kind)(0.1).apply([jnp.array([2, -3], dtype)], list(variables.values()))
    assert not np.allclose(real["w"].numpy(), [0.0, 1.0])
    np.testing.assert_allclose(whole["w"].numpy(), real["w"].numpy(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_gradient_of_another_shape_is_spread_or_refused(kind):
    variables = weights(w=np.zeros((2, 3)))
    expected = weights(w=np.zeros((2, 3)))
    for gradient in (1.0, np.ones(3)):
        descend(getattr(optimizers, kind)(0.1), variables, {"w": gradient})
        descend(getattr(optimizers, kind)(0.1), expected, {"w": np.ones((2, 3))})
        np.testing.assert_allclose(variables["w"].numpy(), expected["w"].numpy(), rtol=1e-6)
    with pytest.raises(ShapeError, match=r"'w' has shape \(2, 3\); it cannot take a value of \(4, 2, 3\)"):
        descend(getattr(optimizers, kind)(0.1), variables, {"w": np.ones((4, 2, 3))})


def test_config_has_the_present_learning_rate():
    optimizer = optimizers.Adam(0.1)
    optimizer.learning_rate = 0.003
    assert optimizer.get_config()["learning_rate"] == 0.003
    wrapped = registry.deserialize(registry.serialize(optimizers.LossScaleOptimizer(optimizer, 4.0, 7, name="scaled")))
    assert float(wrapped.learning_rate) == pytest.approx(0.003)
    assert (wrapped.initial_scale, wrapped.dynamic_growth_steps, wrapped.name) == (4.0, 7, "scaled")


def test_names_find_optimizers():
    for kind in KINDS:
        for name in (kind, kind.lower()):
            assert type(registry.get("optimizers", name)) is getattr(optimizers, kind)
    with pytest.raises(ConfigError, match="Did you mean 'adam'"):
        registry.get("optimizers", "adm")


def test_defaults_equal_keras():
    assert optimizers.SGD().get_config()["learning_rate"] == 0.01
    assert optimizers.AdamW().weight_decay == 0.004
    assert optimizers.RMSprop().rho == 0.9
    assert optimizers.Adam().name == "adam"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.SGD(lr=0.1), "no argument 'lr'"),
        (lambda: optimizers.Adam(weight_decy=0.1), "Did you mean 'weight_decay'"),
        (lambda: optimizers.SGD(-0.1), "learning_rate as one number of at least 0"),
        (lambda: optimizers.SGD(True), "learning_rate as a number, a schedule or a function"),
        (lambda: optimizers.SGD(float("nan")), "learning_rate"),
        (lambda: optimizers.SGD(momentum=1.5), "momentum as a number from 0 to 1"),
        (lambda: optimizers.Adam(beta_1=1.0), "beta_1"),
        (lambda: optimizers.Lion(beta_1=0.0), "beta_1"),
        (lambda: optimizers.AdamW(weight_decay=None), "AdamW expects weight_decay"),
        (lambda: optimizers.Ftrl(learning_rate_power=0.1), "learning_rate_power"),
        (lambda: optimizers.SGD(clipnorm=1.0, clipvalue=1.0), "one of clipnorm"),
        (lambda: optimizers.SGD(clipnorm=-1.0), "clipnorm as a number above 0"),
        (lambda: optimizers.SGD(gradient_accumulation_steps=1), "gradient_accumulation_steps as a whole number from 2"),
        (lambda: optimizers.SGD(use_ema=True, ema_momentum=2), "ema_momentum"),
        (lambda: optimizers.LossScaleOptimizer(optimizers.LossScaleOptimizer("sgd")), "another optimizer to wrap"),
        (lambda: optimizers.LossScaleOptimizer("sgd", initial_scale=0), "initial_scale"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_slots_have_readable_paths():
    variables = weights(**{"dense/kernel": np.ones((2, 3)), "dense/bias": np.ones(3)})
    found = {}
    for kind in ("SGD", "Adam", "RMSprop", "Adafactor", "Nadam", "Muon"):
        optimizer = getattr(optimizers, kind)(**({"momentum": 0.9} if kind in ("SGD", "RMSprop") else {}))
        optimizer.build(variables)
        found[kind] = set(optimizer.named_variables()) - {"iterations", "learning_rate"}
    each = ("dense/kernel", "dense/bias")
    assert found["SGD"] == {f"slots/momentum/{path}" for path in each}
    assert found["Adam"] == {f"slots/{kind}/{path}" for kind in ("momentum", "velocity") for path in each}
    assert found["RMSprop"] == found["Adam"]
    assert found["Adafactor"] == {"slots/row/dense/kernel", "slots/column/dense/kernel", "slots/velocity/dense/bias"}
    assert found["Nadam"] == found["Adam"] | {"slots/u_product"}
    assert found["Muon"] == found["Adam"] - {"slots/velocity/dense/kernel"}
    assert not any(variable.trainable for variable in optimizer.variables)


def test_options_that_are_off_cost_nothing():
    optimizer = optimizers.SGD()
    variables = weights(w=1.0)
    optimizer.build(variables)
    assert set(optimizer.named_variables()) == {"iterations", "learning_rate"}


def test_learning_rate_can_be_assigned_between_compiled_steps():
    variables = weights(w=1.0)
    optimizer = optimizers.SGD(0.5)
    optimizer.build(variables)
    step = transforms.jit(lambda: descend(optimizer, variables, {"w": 1.0}))
    step()
    optimizer.learning_rate = 0.25
    step()
    assert float(variables["w"]) == 0.25
    assert int(optimizer.iterations) == 2


def test_schedule_gives_the_learning_rate():
    variables = weights(w=0.0)
    optimizer = optimizers.SGD(lambda step: 1.0 / (step + 1))
    for _ in range(3):
        descend(optimizer, variables, {"w": 1.0})
    assert float(variables["w"]) == pytest.approx(-(1 + 1 / 2 + 1 / 3))
    assert float(optimizer.learning_rate) == 0.25
    assert "learning_rate" not in optimizer.named_variables()
    with pytest.raises(ConfigError, match="follows a schedule"):
        optimizer.learning_rate = 0.1
    plain = optimizers.SGD(0.1)
    plain.learning_rate = lambda step: 0.5
    assert plain.learning_rate == 0.5


def test_weight_decay_leaves_excluded_variables_alone():
    for exclude in ({"var_names": ["bias"]}, {}):
        variables = weights(**{"dense/kernel": 1.0, "dense/bias": 1.0})
        optimizer = optimizers.SGD(0.5, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(**(exclude or {"var_list": [variables["dense/bias"]]}))
        descend(optimizer, variables, {"dense/kernel": 0.0, "dense/bias": 0.0})
        assert float(variables["dense/kernel"]) == 0.75
        assert float(variables["dense/bias"]) == 1.0
    with pytest.raises(StateError, match="too late"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


def test_constraint_is_applied_after_the_update():
    variable = Variable(jnp.ones(2), name="w", constraint=lambda w: jnp.maximum(w, 0))
    descend(optimizers.SGD(1.0), {"w": variable}, {"w": [3.0, 0.5]})
    assert variable.numpy().tolist() == [0.0, 0.5]


def test_unknown_variables_are_refused_and_frozen_ones_skipped():
    variables = weights(a=1.0, b=1.0)
    optimizer = optimizers.SGD(0.5, momentum=0.5)
    descend(optimizer, variables, {"a": 1.0, "b": 1.0})
    kept = optimizer.slots["momentum/b"].numpy()
    descend(optimizer, {"a": variables["a"]}, {"a": 0.0})
    assert float(variables["a"]) == 0.25
    assert (float(variables["b"]), optimizer.slots["momentum/b"].numpy()) == (0.5, kept)
    with pytest.raises(StateError, match=r"built for 'a', 'b'; it cannot update 'c'"):
        descend(optimizer, weights(c=1.0), {"c": 1.0})


def test_keras_ways_of_calling():
    variables = weights(a=1.0, b=2.0)
    pair = list(variables.values())
    optimizer = optimizers.SGD(1.0)
    optimizer.apply_gradients(zip([jnp.ones(()), jnp.ones(())], pair, strict=True))
    optimizer.apply([jnp.ones(()), jnp.ones(())], pair)
    assert [float(v) for v in pair] == [-1.0, 0.0]
    optimizer.apply(Gradients({}, {}))
    assert int(optimizer.iterations) == 2
    with pytest.raises(ConfigError, match="list of arrays and the list of as many variables"):
        optimizer.apply([jnp.ones(())])
    with pytest.raises(ConfigError, match="same path"):
        optimizers.SGD().build([Variable(0.0, name="w"), Variable(0.0, name="w")])


def test_any_optax_rule_serves():
    class Yogi(optimizers.Optimizer):
        def transform(self, learning_rate, step):
            return optax.yogi(learning_rate)

    variables, gradients = weights(w=[1.0, -2.0]), {"w": jnp.array([0.5, 0.1])}
    optimizer = Yogi(0.1)
    rule = optax.yogi(jnp.float32(0.1))
    expected, state = {"w": variables["w"].value}, None
    for _ in range(4):
        descend(optimizer, variables, gradients)
        state = rule.init(expected) if state is None else state
        change, state = rule.update(gradients, state)
        expected = optax.apply_updates(expected, change)
    np.testing.assert_allclose(variables["w"].numpy(), expected["w"], rtol=1e-6)
    assert {"count", "mu/w", "nu/w"} == set(optimizer.slots)
    with pytest.raises(NotImplementedError, match="has no rule"):
        optimizers.Optimizer(0.1).build(variables)


def test_what_is_no_rule_is_refused():
    class Halfway(optimizers.Optimizer):
        def transform(self, learning_rate, step):
            return lambda gradients: gradients

    with pytest.raises(
        ConfigError, match=r"Halfway.transform gives a transformation with init and update; received <fun"
    ):
        Halfway(0.1).build(weights(w=[1.0]))


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "use_ema": True}])
def test_half_precision_weights(options):
    variable = Variable(jnp.ones(3, "bfloat16"), name="w")
    optimizer = optimizers.Adam(0.125, **options)
    step = transforms.jit(
        lambda: optimizer.apply(Gradients({"w": jnp.array([1e-3, -1.0, 4.0], "bfloat16")}, {"w": variable}))
    )
    for _ in range(2):
        step()
    assert {v.raw.dtype for v in [variable, *optimizer.slots.values()]} == {jnp.dtype("bfloat16")}
    updates = 1 if options else 2
    np.testing.assert_allclose(
        variable.numpy().astype("float32"), 1 - 0.125 * updates * np.array([1, -1, 1]), rtol=1e-2
    )


def test_double_precision():
    with jax.enable_x64(True):
        variable = Variable(np.array([1.0, 2.0]), name="w")
        optimizer = optimizers.Adam(0.1)
        optimizer.apply_gradients([(np.array([1.0, -3.0]), variable)])
        assert variable.raw.dtype == "float64"
        # At the first step Adam moves by the learning rate times g / (|g| + epsilon / sqrt(1 - beta_2)).
        expected = np.array([1.0, 2.0]) - 0.1 * np.array([1, -3]) / (np.array([1, 3]) + 1e-7 / np.sqrt(0.001))
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-12)


def test_loss_scale_multiplies_the_loss():
    assert float(optimizers.SGD(loss_scale_factor=8.0).scale_loss(jnp.float32(0.5))) == 4.0
    assert float(optimizers.SGD().scale_loss(jnp.float32(0.5))) == 0.5
    optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(1.0), initial_scale=4.0)
    variables = weights(w=1.0)
    _, gradients = transforms.value_and_grad(lambda: optimizer.scale_loss(variables["w"] * 3), variables["w"])()
    optimizer.apply(gradients)
    assert float(variables["w"]) == -2.0
    descend(optimizer, variables, {"w": jnp.inf})
    assert (float(variables["w"]), float(optimizer.dynamic_scale), int(optimizer.iterations)) == (-2.0, 2.0, 1)
    assert "inner_optimizer/iterations" in optimizer.named_variables()


def test_averages_start_at_the_first_value_and_finalize():
    variables = weights(w=1.0)
    optimizer = optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.finalize_variable_values(variables)
    for _ in range(2):
        descend(optimizer, variables, {"w": 1.0})
    assert float(variables["w"]) == -1.0
    optimizer.finalize_variable_values(list(variables.values()))
    assert float(variables["w"]) == -0.5


def test_muon_chooses_matrices():
    optimizer = optimizers.Muon(exclude_layers=["head"])
    shapes = {"dense/kernel": (3, 2), "head/kernel": (3, 2), "embedding/embeddings": (3, 2), "dense/bias": (2,)}
    optimizer.build({path: Variable(jnp.ones(shape), name=path) for path, shape in shapes.items()})
    adam = {name.removeprefix("velocity/") for name in optimizer.slots if name.startswith("velocity/")}
    assert adam == set(shapes) - {"dense/kernel"}
    singular = np.linalg.svd(optimizer.orthogonalize(jnp.array([[1.0, 2.0], [0.5, -1.0], [0.3, 0.1]])))[1]
    assert np.all((singular > 0.5) & (singular < 1.3))


def test_slots_are_made_for_variables_that_come_later():
    late = optimizers.SGD(0.5, momentum=0.5, use_ema=True, ema_momentum=0.5)
    variables = weights(a=1.0, b=8.0)
    descend(late, {"a": variables["a"]}, {"a": 1.0})
    late.build(variables)
    descend(late, variables, {"a": 0.0, "b": 2.0})
    assert float(variables["b"]) == 7.0
    late.finalize_variable_values(variables)
    assert float(variables["b"]) == 7.5  # halfway between the value it came with and the next
    with pytest.raises(StateError, match="cannot update 'a'"):
        late.build(weights(a=1.0))
