"""Ten steps of every optimizer against the values that Keras 3 gives."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import optimizers
from lamina.core import transforms
from lamina.core.state import Variable
from lamina.core.transforms import Gradients
from tests.optimizers.cases import CASES

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "optimizers.npz"))
NAMES = ("kernel", "bias")
STEPS = len(GOLDEN["gradients/kernel"])


def start():
    return {name: Variable(GOLDEN[f"start/{name}"], name=name) for name in NAMES}


def gradients(**other):
    return {name: jnp.asarray(other.get(name, GOLDEN[f"gradients/{name}"])) for name in NAMES}


def looped(optimizer, variables, gradients, wrap=lambda fn: fn):
    def step(at):
        optimizer.apply(Gradients({name: gradients[name][at] for name in NAMES}, variables))

    optimizer.build(variables)
    step = wrap(step)
    path = {name: [] for name in NAMES}
    for index in range(STEPS):
        step(jnp.asarray(index))
        for name in NAMES:
            path[name].append(variables[name].numpy())
    return {name: np.array(path[name]) for name in NAMES}


def compare(path, variables, case):
    for name in NAMES:
        expected = GOLDEN[f"{case}/{name}"]
        np.testing.assert_allclose(path[name], expected[:-1], rtol=2e-6, atol=2e-7)
        np.testing.assert_allclose(variables[name].numpy(), expected[-1], rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("case", CASES)
def test_trajectory_equals_keras(case):
    kind, arguments = CASES[case]
    optimizer, variables = getattr(optimizers, kind)(**arguments), start()
    path = looped(optimizer, variables, gradients(), transforms.jit)
    optimizer.finalize_variable_values(variables)
    compare(path, variables, case)
    assert int(optimizer.iterations) == STEPS // (arguments.get("gradient_accumulation_steps") or 1)


def test_schedule_counts_calls():
    variables = start()
    optimizer = optimizers.Adam(lambda step: 0.1 * 0.5 ** (step / 3), gradient_accumulation_steps=2)
    compare(looped(optimizer, variables, gradients()), variables, "schedule")


def test_dynamic_loss_scale():
    variables = start()
    inner = optimizers.Adam(0.05)
    optimizer = optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3)
    scaled = {"kernel": 8 * GOLDEN["gradients/kernel"], "bias": GOLDEN["gradients/dynamic/bias"]}
    compare(looped(optimizer, variables, gradients(**scaled), transforms.jit), variables, "dynamic")
    assert float(optimizer.dynamic_scale) == GOLDEN["dynamic/scale"]
    assert int(optimizer.iterations) == STEPS - 2


@pytest.mark.parametrize("case", ["sgd-nesterov", "adam", "nadam", "accumulation", "ema-overwrite"])
def test_eager_jitted_and_scanned_agree(case):
    kind, arguments = CASES[case]

    def run(how):
        optimizer, variables = getattr(optimizers, kind)(**arguments), start()
        optimizer.build(variables)
        if how == "scan":

            def body(carry, at):
                optimizer.apply(Gradients({name: at[name] for name in NAMES}, variables))
                return carry, None

            transforms.scan(body, jnp.zeros(()), gradients())
        else:
            looped(optimizer, variables, gradients(), transforms.jit if how == "jit" else lambda fn: fn)
        return [v.numpy() for v in [*variables.values(), *optimizer.variables]]

    eager, jitted, scanned = run("eager"), run("jit"), run("scan")
    for a, b, c in zip(eager, jitted, scanned, strict=True):
        # The compiler may contract a product and a sum into one rounding in one form and not in another.
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=3e-7)
        np.testing.assert_allclose(b, c, rtol=3e-6, atol=3e-7)
    assert jax.tree.all(jax.tree.map(lambda x: np.isfinite(x).all(), eager))
