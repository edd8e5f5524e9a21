"""Convolutional networks for pictures: a folder per class in, classes out."""

import numpy as np

from lamina.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dropout,
    GlobalAveragePooling2D,
    Input,
    Layer,
    MaxPooling2D,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    Rescaling,
)
from lamina.models.head import head_for
from lamina.models.sequential import Sequential
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay


def network(shape: tuple[int, int, int], classes: int, width: int = 32, flip: bool = False) -> Sequential:
    """A network for pictures of one size: pairs of convolutions, each pair at half the resolution and twice the width.

    Pictures go in as they are stored, with values from 0 to 255; scaling and augmentation are layers inside.

    Args:
        shape: height, width and channels.
        classes: how many classes there are.
        width: the filters of the first convolution.
        flip: whether a picture and its mirror image mean the same.
    """
    stack: list[Layer] = [Rescaling(1 / 127.5, offset=-1.0)]
    if flip:
        stack.append(RandomFlip("horizontal"))
    stack += [
        RandomTranslation(0.1, 0.1, fill_mode="nearest"),
        RandomRotation(0.03, fill_mode="nearest"),
        RandomZoom(0.1, fill_mode="nearest"),
    ]
    side, filters = min(shape[:2]), width
    while True:
        for _ in range(2):
            stack += [
                Conv2D(filters, 3, padding="same", use_bias=False),
                BatchNormalization(momentum=0.9),
                Activation("relu"),
            ]
        if side < 8 or filters >= 4 * width:
            break
        stack.append(MaxPooling2D())
        side, filters = side // 2, filters * 2
    stack += [GlobalAveragePooling2D(), Dropout(0.2), head_for(np.arange(classes)).layer]
    return Sequential([Input(shape, dtype="uint8"), *stack])


def epochs_for(pictures: int) -> int:
    """How many epochs to allow: more passes over small collections."""
    return int(np.clip(40_000 / pictures, 5, 60))


def optimizer_for(steps: int) -> AdamW:
    """The optimizer for so many steps: a learning rate that rises for a tenth of them and falls along a cosine."""
    warm = max(1, steps // 10)
    schedule = CosineDecay(1e-4, steps - warm, warmup_target=4e-3, warmup_steps=warm)
    return AdamW(schedule, weight_decay=1e-2)
