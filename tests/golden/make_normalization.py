"""Makes normalization.npz: normalization, merge and activation layers in Keras, and BatchNorm in PyTorch.

Run with a Python that has Keras and PyTorch:  python -m tests.golden.make_normalization
"""

from pathlib import Path

import numpy as np

from tests.golden.layer_cases import GoldenCase, record

BATCH = (4, 3, 2, 5)
NORMALIZATION = [
    GoldenCase("batch_train", "BatchNormalization", {}, (BATCH,), training=True, steps=3),
    GoldenCase("batch_infer", "BatchNormalization", {}, (BATCH,)),
    GoldenCase("batch_frozen", "BatchNormalization", {"trainable": False}, ((6, 5),), training=True, steps=1),
    GoldenCase(
        "batch_axis",
        "BatchNormalization",
        {"axis": 1, "center": False, "momentum": 0.8, "epsilon": 0.1},
        (BATCH,),
        training=True,
        steps=3,
    ),
    GoldenCase("batch_plain", "BatchNormalization", {"scale": False}, ((6, 5),), training=True, steps=3),
    GoldenCase("batch_masked", "BatchNormalization", {}, ((3, 4, 5),), masks={"mask": (3, 4)}, training=True, steps=3),
    GoldenCase(
        "batch_renorm",
        "BatchNormalization",
        {"renorm": True, "renorm_clipping": {"rmax": 1.5, "rmin": 0.5, "dmax": 0.7}, "renorm_momentum": 0.7},
        ((6, 5),),
        training=True,
        steps=3,
    ),
    GoldenCase("layer_last", "LayerNormalization", {}, ((2, 3, 5),)),
    GoldenCase("layer_axes", "LayerNormalization", {"axis": [1, 3], "epsilon": 0.1}, (BATCH,)),
    GoldenCase("layer_middle", "LayerNormalization", {"axis": 2, "center": False}, (BATCH,)),
    GoldenCase("layer_plain", "LayerNormalization", {"scale": False, "center": False}, ((3, 5),)),
    GoldenCase("layer_rms", "LayerNormalization", {"rms_scaling": True}, ((3, 5),)),
    GoldenCase("group_two", "GroupNormalization", {"groups": 2}, ((3, 4, 3, 6),)),
    GoldenCase("group_axis", "GroupNormalization", {"groups": 3, "axis": 1, "scale": False}, ((2, 6, 3, 4),)),
    GoldenCase("group_instance", "GroupNormalization", {"groups": -1, "center": False}, ((2, 4, 3),)),
    GoldenCase("group_dense", "GroupNormalization", {"groups": 2}, ((3, 6),)),
    GoldenCase("rms_last", "RMSNormalization", {}, ((2, 3, 5),)),
    GoldenCase("rms_axes", "RMSNormalization", {"axis": [1, 2], "epsilon": 0.1}, ((2, 3, 5),)),
    GoldenCase("unit_last", "UnitNormalization", {}, ((2, 3, 5),)),
    GoldenCase("unit_axes", "UnitNormalization", {"axis": [1, 2]}, ((2, 3, 5),)),
]

ACTIVATION = [
    GoldenCase("relu", "ReLU", {"max_value": 1.5, "negative_slope": 0.1, "threshold": 0.2}, ((3, 7),)),
    GoldenCase("relu_plain", "ReLU", {}, ((3, 7),)),
    GoldenCase("leaky_relu", "LeakyReLU", {}, ((3, 7),)),
    GoldenCase("elu", "ELU", {"alpha": 0.7}, ((3, 7),)),
    GoldenCase("prelu", "PReLU", {}, ((2, 3, 4),)),
    GoldenCase("prelu_shared", "PReLU", {"shared_axes": [1, 2]}, (BATCH,)),
    GoldenCase("softmax", "Softmax", {}, ((3, 5),)),
    GoldenCase("softmax_axes", "Softmax", {"axis": [1, 2]}, ((2, 3, 4),)),
    GoldenCase("softmax_masked", "Softmax", {}, ((4, 5),), masks={"mask": (4, 5)}),
]

TWO, THREE = ([(2, 3, 4)] * 2,), ([(2, 3, 4)] * 3,)
STEPS = (2, 3)
MERGE = [
    *[GoldenCase(name.lower(), name, {}, THREE) for name in ("Add", "Average", "Maximum", "Minimum", "Multiply")],
    GoldenCase("subtract", "Subtract", {}, TWO),
    GoldenCase("add_ranks", "Add", {}, ([(2, 4), (2, 3, 4)],)),
    *[
        GoldenCase(f"{name.lower()}_masked", name, {}, THREE, travel=(STEPS, STEPS, STEPS))
        for name in ("Add", "Maximum", "Minimum", "Multiply")
    ],
    *[
        GoldenCase(f"{name.lower()}_part_masked", name, {}, THREE, travel=(STEPS, None, STEPS))
        for name in ("Maximum", "Multiply")
    ],
    GoldenCase("concatenate", "Concatenate", {}, ([(2, 3, 4), (2, 3, 2)],)),
    GoldenCase("concatenate_axis", "Concatenate", {"axis": 1}, ([(2, 3, 4), (2, 1, 4)],), travel=(STEPS, (2, 1))),
    GoldenCase("dot", "Dot", {"axes": (2, 1)}, ([(2, 3, 4), (2, 4, 5)],)),
    GoldenCase("dot_vectors", "Dot", {"axes": 1, "normalize": True}, ([(3, 4), (3, 4)],)),
    GoldenCase("dot_ranks", "Dot", {"axes": (1, 2)}, ([(2, 4), (2, 3, 4)],)),
    GoldenCase("dot_many", "Dot", {"axes": (2, 3), "normalize": True}, ([(2, 3, 4, 2), (2, 3, 2, 4)],)),
]

CASES = NORMALIZATION + ACTIVATION + MERGE


def torch_batch_norm() -> dict[str, np.ndarray]:
    """Output, gradients and running statistics of BatchNorm2d after three steps; PyTorch's variance is unbiased."""
    import torch

    x = np.random.default_rng(7).normal(2.0, 3.0, (4, 3, 2, 5)).astype("float32")
    norm = torch.nn.BatchNorm2d(5, eps=1e-3, momentum=0.1)
    inputs = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 1.5, 5))
        norm.bias.copy_(torch.linspace(-1.0, 1.0, 5))
    for _ in range(3):
        output = norm(inputs)
    (output**3).sum().backward()
    return {
        "torch/input": x,
        "torch/output": np.moveaxis(output.detach().numpy(), 1, -1),
        "torch/gradient": np.moveaxis(inputs.grad.numpy(), 1, -1),
        "torch/gamma_gradient": norm.weight.grad.numpy(),
        "torch/mean": norm.running_mean.numpy(),
        "torch/variance": norm.running_var.numpy(),
    }


if __name__ == "__main__":
    record(CASES, str(Path(__file__).with_name("normalization.npz")), **torch_batch_norm())
