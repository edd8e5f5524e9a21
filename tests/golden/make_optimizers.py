"""Writes optimizers.npz: ten steps of every optimizer as Keras 3 takes them.

Run from the repository's root, with Keras and JAX installed:  KERAS_BACKEND=jax python tests/golden/make_optimizers.py
"""

import sys
from pathlib import Path

import keras
import numpy as np

root = Path(__file__).parents[2]
sys.path.insert(0, str(root / "tests" / "optimizers"))
from cases import CASES  # noqa: E402

rng = np.random.default_rng(0)
STEPS = 10
start = {"kernel": rng.normal(size=(3, 4)).astype("float32"), "bias": rng.normal(size=(4,)).astype("float32")}
gradients = {name: rng.normal(size=(STEPS, *value.shape)).astype("float32") for name, value in start.items()}
out = {f"start/{name}": value for name, value in start.items()}
out |= {f"gradients/{name}": value for name, value in gradients.items()}


def run(optimizer, gradients):
    variables = [keras.Variable(start[name], name=name) for name in start]
    path = {name: [] for name in start}
    optimizer.build(variables)
    for step in range(STEPS):
        new, state = optimizer.stateless_apply(
            [v.value for v in optimizer.variables],
            [gradients[name][step] for name in start],
            [v.value for v in variables],
        )
        for variable, value in zip([*variables, *optimizer.variables], [*new, *state], strict=True):
            variable.assign(value)
        for name, variable in zip(start, variables, strict=True):
            path[name].append(np.asarray(variable.value))
    optimizer.finalize_variable_values(variables)
    return {name: np.array([*path[name], np.asarray(v.value)]) for (name, v) in zip(start, variables, strict=True)}


for case, (name, arguments) in CASES.items():
    for variable, path in run(getattr(keras.optimizers, name)(**arguments), gradients).items():
        out[f"{case}/{variable}"] = path

schedule = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=3, decay_rate=0.5)
for variable, path in run(keras.optimizers.Adam(schedule, gradient_accumulation_steps=2), gradients).items():
    out[f"schedule/{variable}"] = path

scaled = {name: value * 8 for name, value in gradients.items()}
scaled["bias"] = scaled["bias"].copy()
scaled["bias"][[2, 6], 1] = np.inf
inner = keras.optimizers.Adam(0.05)
dynamic = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3)
for variable, path in run(dynamic, scaled).items():
    out[f"dynamic/{variable}"] = path
out["gradients/dynamic/bias"] = scaled["bias"]
out["dynamic/scale"] = np.asarray(dynamic.dynamic_scale.value)

np.savez_compressed(Path(__file__).with_name("optimizers.npz"), **out)
