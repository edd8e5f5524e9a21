"""Compare a layer with what Keras gave for the same weights, inputs and masks (``tests/golden/layer_cases.py``)."""

from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import registry
from lamina.core.masks import set_mask
from lamina.core.state import bind
from tests.golden.layer_cases import GoldenCase


@cache
def stored(topic: str) -> dict[str, np.ndarray]:
    """The arrays of ``tests/golden/<topic>.npz``."""
    with np.load(Path(__file__).parents[1] / "golden" / f"{topic}.npz") as file:
        return dict(file)


def close(ours: Any, theirs: Any, what: str = "", tolerance: float = 1e-5) -> None:
    """Assert that the largest difference is ``tolerance`` of the largest value, or of 1 if that is larger."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, np.abs(theirs).max()), err_msg=what)


def check(case: GoldenCase, topic: str, skip: Any = None) -> None:
    """Assert that outputs, gradients and changed weights are Keras's.

    Args:
        case: the case.
        topic: the file of stored values.
        skip: function of an output's index that gives the entries to compare, where Keras's are arbitrary elsewhere.
    """
    golden = {name.split("/")[1]: x for name, x in stored(topic).items() if name.startswith(f"{case.name}/")}
    layer = registry.lookup("layers", case.layer)(**case.config)
    masks = case.mask_arguments()

    def call(values: list[Any], inputs: list[Any], training: bool) -> Any:
        for x, mask in zip(jax.tree.leaves(inputs), case.travelling(), strict=False):
            set_mask(x, None if mask is None else jnp.asarray(mask))
        with bind(dict(zip(layer.weights, values, strict=False)), abstract=True) as scope:
            outputs = layer(*inputs, **case.kwargs, **masks, training=training)
            changed = [scope.read(weight) for weight in layer.weights]
        return outputs if isinstance(outputs, tuple) else (outputs,), changed

    jax.eval_shape(lambda inputs: call([], inputs, False), case.inputs())  # builds the layer
    names = [weight.path.split("/")[-1] for weight in layer.weights]
    weights = case.weights([weight.shape for weight in layer.weights], names)

    @jax.jit  # one compilation for all that follows
    def results(weights: list[Any], inputs: list[Any], steps: list[Any]) -> Any:
        def loss(learned: list[Any], inputs: list[Any]) -> Any:
            rest = iter(learned)
            values = [
                next(rest) if w in layer.trainable_weights else v for w, v in zip(layer.weights, weights, strict=True)
            ]
            outputs, _ = call(values, inputs, case.training)
            return jnp.sum(outputs[0] * case.cotangent(outputs[0].shape)), outputs

        learned = [v for w, v in zip(layer.weights, weights, strict=True) if w in layer.trainable_weights]
        gradients, outputs = jax.grad(loss, argnums=(0, 1), has_aux=True)(learned, inputs)
        for step in steps:
            _, weights = call(weights, step, True)
        return outputs, jax.tree.leaves(gradients), weights

    steps = [case.inputs(step) for step in range(case.steps)]
    outputs, gradients, changed = results(weights, case.inputs(), steps)
    for index, leaf in enumerate(outputs):
        where = slice(None) if skip is None else skip(index)
        close(np.asarray(leaf)[where], golden[f"output{index}"][where], f"output {index}")
    assert len(gradients) == sum(name.startswith("gradient") for name in golden)
    for index, gradient in enumerate(gradients if skip is None else ()):
        close(gradient, golden[f"gradient{index}"], f"gradient {index}")
    for index, weight in enumerate(changed if case.steps else ()):
        close(weight, golden[f"weight{index}"], f"weight {index}")
