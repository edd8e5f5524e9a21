import numpy as np

from lamina.layers import augmentation, coloring, geometric
from tests.catalogue import Case

PICTURES = ((2, 5, 6, 3),)
LABELLED = {
    "images": np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype("float32"),
    "labels": np.eye(3, dtype="float32"),
}
WIDE = {"value_range": (-9.0, 9.0)}

CASES = [
    Case(geometric.RandomFlip, PICTURES),
    Case(lambda: geometric.RandomRotation(0.2, fill_mode="constant", fill_value=0.5), PICTURES),
    Case(lambda: geometric.RandomTranslation(0.3, 0.3, fill_mode="wrap"), PICTURES),
    Case(lambda: geometric.RandomZoom(0.3, (-0.2, 0.4), data_format="channels_first", seed=3), PICTURES),
    Case(lambda: geometric.RandomShear(0.3, (0.1, 0.2), fill_mode="nearest"), PICTURES),
    Case(
        lambda: geometric.Pipeline(
            [
                geometric.RandomFlip(),
                geometric.RandomRotation(0.1),
                geometric.RandomZoom(0.2),
                augmentation.RandomCrop(3, 3),
            ],
            name="pipeline",  # what layers inside draw depends on their path, which begins with this name once saved
        ),
        PICTURES,
    ),
    Case(lambda: augmentation.RandomCrop(3, 4), PICTURES),
    Case(lambda: augmentation.RandomCrop(7, 4), PICTURES, label="enlarged"),
    Case(augmentation.MixUp, (), data=(LABELLED,), differentiable=False),
    Case(augmentation.CutMix, (), data=(LABELLED,), differentiable=False),
    Case(lambda: coloring.RandomBrightness(0.2, **WIDE), PICTURES),
    Case(lambda: coloring.RandomContrast(0.2, **WIDE), PICTURES),
    Case(lambda: coloring.RandomHue(0.3, **WIDE), PICTURES),
    Case(lambda: coloring.RandomSaturation((0.4, 0.6), **WIDE), PICTURES),
    Case(coloring.RandomGrayscale, PICTURES),
    Case(lambda: coloring.RandomInvert(0.9), PICTURES),
    Case(lambda: coloring.RandomPosterization((2, 4), **WIDE), PICTURES, differentiable=False),
    Case(lambda: coloring.RandomErasing(fill_value=[1.0, 2.0, 3.0]), PICTURES),
    Case(lambda: coloring.RandomErasing(factor=(1.0, 1.0)), PICTURES, label="noise"),
    Case(lambda: coloring.Solarization(0.2, 0.6, **WIDE), PICTURES),
]
