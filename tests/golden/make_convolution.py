"""Writes convolution.npz: what Keras's convolution, pooling and reshaping layers give, and their gradients.

Run with Keras 3 on JAX:  KERAS_BACKEND=jax python tests/golden/make_convolution.py
"""

import json
from pathlib import Path

import numpy as np

#: layer, its arguments, the input's shape
CASES = [
    ("Conv1D", {"filters": 4, "kernel_size": 3}, (2, 7, 3)),
    ("Conv1D", {"filters": 4, "kernel_size": 4, "strides": 3, "padding": "same"}, (2, 8, 3)),
    ("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}, (2, 9, 2)),
    ("Conv1D", {"filters": 3, "kernel_size": 2, "padding": "causal", "strides": 2, "activation": "relu"}, (2, 9, 2)),
    ("Conv2D", {"filters": 4, "kernel_size": 3}, (2, 6, 7, 1)),
    ("Conv2D", {"filters": 4, "kernel_size": (3, 2), "strides": (2, 3), "padding": "same"}, (2, 7, 8, 3)),
    ("Conv2D", {"filters": 4, "kernel_size": (4, 5), "strides": 2, "padding": "same"}, (1, 7, 8, 2)),
    ("Conv2D", {"filters": 4, "kernel_size": 3, "dilation_rate": (2, 1), "padding": "same"}, (1, 7, 6, 2)),
    ("Conv2D", {"filters": 6, "kernel_size": 2, "groups": 2, "strides": 2}, (2, 6, 5, 4)),
    ("Conv2D", {"filters": 6, "kernel_size": 3, "groups": 3, "padding": "same"}, (1, 5, 5, 3)),
    ("Conv2D", {"filters": 3, "kernel_size": 1, "strides": 2, "use_bias": False}, (2, 5, 4, 2)),
    ("Conv3D", {"filters": 3, "kernel_size": (2, 3, 1), "strides": (1, 2, 1), "padding": "same"}, (1, 3, 4, 5, 2)),
    ("Conv3D", {"filters": 2, "kernel_size": 2}, (1, 3, 4, 3, 2)),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}, (2, 4, 2)),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 2, "strides": 3}, (2, 4, 2)),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 5, "strides": 2, "padding": "same"}, (2, 4, 2)),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 1, "strides": 3, "padding": "same"}, (2, 4, 2)),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2, "padding": "same"}, (2, 5, 2)),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}, (1, 3, 4, 2)),
    (
        "Conv2DTranspose",
        {"filters": 3, "kernel_size": (4, 3), "strides": (2, 3), "padding": "same", "output_padding": (1, 2)},
        (1, 3, 4, 2),
    ),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "output_padding": 1}, (1, 3, 3, 2)),
    ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "dilation_rate": (1, 2)}, (1, 3, 3, 2)),
    ("Conv3DTranspose", {"filters": 2, "kernel_size": 2, "strides": (1, 2, 1), "padding": "same"}, (1, 2, 3, 2, 2)),
    ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"}, (2, 5, 3)),
    ("DepthwiseConv1D", {"kernel_size": 3, "strides": 2}, (2, 8, 3)),
    ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "strides": 2}, (1, 6, 5, 3)),
    ("DepthwiseConv2D", {"kernel_size": 2, "depth_multiplier": 3, "dilation_rate": 2}, (1, 5, 6, 2)),
    ("SeparableConv1D", {"filters": 3, "kernel_size": 3, "depth_multiplier": 2, "padding": "same"}, (2, 6, 2)),
    ("SeparableConv2D", {"filters": 3, "kernel_size": (3, 2), "strides": 2, "activation": "tanh"}, (1, 6, 7, 2)),
    ("MaxPooling1D", {}, (2, 7, 3)),
    ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}, (2, 8, 3)),
    ("MaxPooling2D", {}, (2, 5, 6, 2)),
    ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, (1, 7, 6, 2)),
    ("MaxPooling2D", {"pool_size": (3, 2), "strides": (1, 3)}, (1, 7, 6, 2)),
    ("MaxPooling2D", {"padding": "same"}, (1, 5, 7, 2)),
    ("MaxPooling3D", {"pool_size": (1, 2, 3), "strides": (1, 1, 2), "padding": "same"}, (1, 2, 4, 5, 2)),
    ("AveragePooling1D", {"pool_size": 2}, (2, 7, 3)),
    ("AveragePooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}, (2, 8, 3)),
    ("AveragePooling2D", {"pool_size": 2}, (2, 5, 6, 2)),
    ("AveragePooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, (1, 7, 6, 2)),
    ("AveragePooling2D", {"pool_size": (3, 2), "strides": 1}, (1, 5, 6, 2)),
    ("AveragePooling3D", {"pool_size": 2, "padding": "same"}, (1, 3, 4, 5, 2)),
    ("GlobalMaxPooling1D", {}, (2, 5, 3)),
    ("GlobalMaxPooling2D", {"keepdims": True}, (2, 3, 4, 3)),
    ("GlobalMaxPooling3D", {}, (2, 2, 3, 2, 3)),
    ("GlobalAveragePooling1D", {"keepdims": True}, (2, 5, 3)),
    ("GlobalAveragePooling2D", {}, (2, 3, 4, 3)),
    ("GlobalAveragePooling3D", {}, (2, 2, 3, 2, 3)),
    ("AdaptiveMaxPooling1D", {"output_size": 3}, (2, 7, 2)),
    ("AdaptiveMaxPooling2D", {"output_size": (2, 3)}, (1, 5, 7, 2)),
    ("AdaptiveMaxPooling3D", {"output_size": (1, 2, 3)}, (1, 2, 5, 4, 2)),
    ("AdaptiveAveragePooling1D", {"output_size": 3}, (2, 7, 2)),
    ("AdaptiveAveragePooling2D", {"output_size": (2, 3)}, (1, 5, 7, 2)),
    ("AdaptiveAveragePooling3D", {"output_size": (1, 2, 3)}, (1, 2, 5, 4, 2)),
    ("Flatten", {}, (2, 3, 4)),
    ("Flatten", {"data_format": "channels_first"}, (2, 3, 4)),
    ("Reshape", {"target_shape": (4, -1)}, (2, 3, 4)),
    ("Permute", {"dims": (3, 1, 2)}, (2, 3, 4, 5)),
    ("RepeatVector", {"n": 3}, (2, 4)),
    ("UpSampling1D", {"size": 3}, (2, 4, 2)),
    ("UpSampling2D", {"size": (2, 3)}, (1, 3, 2, 2)),
    ("UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"}, (1, 3, 2, 2)),
    ("UpSampling2D", {"interpolation": "bicubic"}, (1, 4, 3, 1)),
    ("UpSampling2D", {"interpolation": "lanczos3"}, (1, 4, 3, 1)),
    ("UpSampling2D", {"interpolation": "lanczos5"}, (1, 4, 3, 1)),
    ("UpSampling3D", {"size": (1, 2, 2)}, (1, 2, 3, 2, 1)),
    ("ZeroPadding1D", {"padding": (1, 2)}, (2, 3, 2)),
    ("ZeroPadding2D", {"padding": (1, 2)}, (1, 3, 2, 2)),
    ("ZeroPadding2D", {"padding": ((0, 1), (2, 0))}, (1, 3, 2, 2)),
    ("ZeroPadding3D", {}, (1, 2, 1, 2, 1)),
    ("Cropping1D", {}, (2, 4, 2)),
    ("Cropping2D", {"cropping": ((0, 1), (2, 0))}, (1, 3, 4, 2)),
    ("Cropping2D", {}, (1, 3, 4, 2)),
    ("Cropping3D", {"cropping": (0, 1, 1)}, (1, 2, 3, 4, 1)),
]


def inputs(index: int, shape: tuple[int, ...]) -> np.ndarray:
    """The input of a case: no two entries equal, so that a maximum is one entry."""
    order = np.random.default_rng(index).permutation(int(np.prod(shape)))
    return np.sin(order * 0.37 + 0.1).reshape(shape).astype("float32")


def weights(index: int, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """The weights of a case."""
    rng = np.random.default_rng(1000 + index)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def factors(shape: tuple[int, ...]) -> np.ndarray:
    """What each entry of the output is multiplied with before all are added up to the number that has the gradients."""
    return np.cos(np.arange(int(np.prod(shape)), dtype="float32")).reshape(shape)


def main() -> None:
    """Run every case."""
    import jax
    import keras

    out: dict[str, np.ndarray] = {"cases": np.array(json.dumps(CASES))}
    for index, (name, kwargs, shape) in enumerate(CASES):
        layer = getattr(keras.layers, name)(**kwargs)
        x = inputs(index, shape)
        layer.build(shape)
        values = weights(index, [tuple(w.shape) for w in layer.weights])
        layer.set_weights(values)

        def run(x, values, layer=layer):
            y, _ = layer.stateless_call(values, [], x)
            return (y * factors(y.shape)).sum(), y

        (dx, dw), y = jax.grad(run, (0, 1), has_aux=True)(x, values)
        out[f"{index}_y"] = np.asarray(y)
        out[f"{index}_gradients"] = np.concatenate([np.ravel(g) for g in (dx, *dw)])
    np.savez_compressed(Path(__file__).with_name("convolution.npz"), **out)


if __name__ == "__main__":
    main()
