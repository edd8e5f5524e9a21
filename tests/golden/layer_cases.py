"""Layers with weights, inputs and masks drawn from a seed: the same in Keras, which made the stored values, and us."""

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class GoldenCase:
    """One call of one layer.

    Attributes:
        name: the prefix of its arrays in the file.
        layer: the name of the class.
        config: arguments of the class.
        shapes: the shape of each positional input; a list stands for a list of arrays.
        kwargs: further arguments of the call.
        masks: arguments of the call that are random masks, by name, with their shapes; a list for a list of masks.
        travel: the shapes of masks that travel with the inputs, in order; ``None`` for an input without.
        training: whether the call is one of training.
        steps: further calls in training after the first, whose changes to the weights are stored.
    """

    name: str
    layer: str
    config: dict[str, Any]
    shapes: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, Any] = field(default_factory=dict)
    travel: tuple[Any, ...] = ()
    training: bool = False
    steps: int = 0

    def _rng(self, what: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{self.name}/{what}".encode()))

    def inputs(self, step: int = 0) -> list[Any]:
        """The positional inputs of a call."""
        rng = self._rng(f"inputs{step}")
        return [_draw(shape, lambda s: rng.normal(0.3, 1.2, s).astype("float32")) for shape in self.shapes]

    def mask_arguments(self) -> dict[str, Any]:
        """The masks that are arguments: about two thirds True, the first entry always."""
        rng = self._rng("masks")
        return {name: _draw(shape, lambda s: _mask(rng, s)) for name, shape in self.masks.items()}

    def travelling(self) -> list[Any]:
        """The masks that travel with the inputs."""
        rng = self._rng("travel")
        return [None if shape is None else _mask(rng, shape) for shape in self.travel]

    def weights(self, shapes: list[tuple[int, ...]], names: list[str]) -> list[np.ndarray]:
        """Values for weights of these shapes and names."""
        rng = self._rng("weights")
        drawn = [rng.normal(0.2, 0.6, shape).astype("float32") for shape in shapes]
        return [
            np.abs(w) + 0.5 if "variance" in name or "stddev" in name else w
            for w, name in zip(drawn, names, strict=True)
        ]

    def cotangent(self, shape: tuple[int, ...]) -> np.ndarray:
        """What the output is multiplied by for a loss to differentiate."""
        return self._rng("cotangent").normal(size=shape).astype("float32")


def _draw(shape: Any, draw: Any) -> Any:
    return [None if s is None else draw(s) for s in shape] if isinstance(shape, list) else draw(shape)


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = rng.random(shape) < 0.67
    mask[..., 0] = True
    return mask


def record(cases: list[GoldenCase], path: str, **more: np.ndarray) -> None:
    """Run ``cases`` in Keras and store outputs, gradients and changed weights in the file ``path``."""
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras
    from keras.src import backend

    arrays = dict(more)
    for case in cases:
        layer = getattr(keras.layers, case.layer)(**case.config)
        inputs = [jax.tree.map(jax.numpy.asarray, x) for x in case.inputs()]
        masks = jax.tree.map(jax.numpy.asarray, case.mask_arguments())
        extra = {"training": case.training} if _takes_training(layer) else {}

        def call(trainable, inputs, layer=layer, case=case, masks=masks, extra=extra):
            leaves = jax.tree.leaves(inputs)
            for x, mask in zip(leaves, case.travelling(), strict=False):
                if mask is not None:
                    backend.set_keras_mask(x, jax.numpy.asarray(mask))
            frozen = [v.value for v in layer.non_trainable_variables]
            outputs, _ = layer.stateless_call(trainable, frozen, *inputs, **case.kwargs, **masks, **extra)
            return outputs

        layer(*inputs, **case.kwargs, **masks, **dict.fromkeys(extra, False))
        weights = layer.weights
        layer.set_weights(case.weights([w.shape for w in weights], [w.name for w in weights]))
        trainable = [v.value for v in layer.trainable_variables]
        outputs = call(trainable, inputs)
        leaves = list(outputs) if isinstance(outputs, tuple) else [outputs]
        cotangent = case.cotangent(leaves[0].shape)

        def loss(trainable, inputs, call=call, cotangent=cotangent):
            outputs = call(trainable, inputs)
            return jax.numpy.sum((outputs[0] if isinstance(outputs, tuple) else outputs) * cotangent)

        gradients = jax.tree.leaves(jax.grad(loss, argnums=(0, 1))(trainable, inputs))
        arrays |= {f"{case.name}/output{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        arrays |= {f"{case.name}/gradient{i}": np.asarray(leaf) for i, leaf in enumerate(gradients)}
        for step in range(case.steps):
            layer(*case.inputs(step), **case.kwargs, **masks, training=True)
        if case.steps:
            arrays |= {f"{case.name}/weight{i}": np.asarray(w.value) for i, w in enumerate(weights)}
    np.savez_compressed(path, **{name: np.float32(array) for name, array in arrays.items()})


def _takes_training(layer: Any) -> bool:
    import inspect

    return "training" in inspect.signature(layer.call).parameters
