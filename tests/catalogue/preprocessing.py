import numpy as np

from lamina.layers.preprocessing import (
    CategoryEncoding,
    CenterCrop,
    Discretization,
    Normalization,
    Rescaling,
    Resizing,
)
from tests.catalogue import Case

TABLE = np.random.default_rng(0).normal(3, 5, (20, 3))

CASES = [
    Case(lambda: Rescaling(2.0, offset=-1.0), ((2, 4, 3),), masked=True),
    Case(lambda: Rescaling([1.0, 2.0, 3.0]), ((2, 3),), label="channels"),
    Case(Normalization, ((4, 3),), prepare=lambda layer: layer.adapt(TABLE)),
    Case(lambda: Normalization(axis=None), ((4, 3),), prepare=lambda layer: layer.adapt(TABLE), label="all"),
    Case(lambda: Normalization((1, 2), [1.0, 2.0], [4.0, 9.0], invert=True), ((2, 3, 2),), label="given"),
    Case(lambda: Discretization([-0.5, 0.0, 1.0]), ((2, 3),), differentiable=False),
    Case(
        lambda: Discretization(num_bins=4, output_mode="one_hot"),
        ((2, 3),),
        prepare=lambda layer: layer.adapt(TABLE),
        differentiable=False,
        label="adapted",
    ),
    Case(lambda: CategoryEncoding(5), ((3, 4),), integers=5, differentiable=False),
    Case(lambda: CategoryEncoding(5, "one_hot"), ((3, 4),), integers=5, differentiable=False, label="one_hot"),
    Case(lambda: Resizing(5, 3), ((2, 4, 6, 2),)),
    Case(lambda: Resizing(2, 2, "bicubic", pad_to_aspect_ratio=True), ((2, 4, 6, 2),), label="padded"),
    Case(lambda: CenterCrop(3, 2), ((2, 4, 6, 2),)),
    Case(lambda: CenterCrop(3, 5, data_format="channels_first"), ((2, 2, 4, 4),), label="enlarged"),
]
