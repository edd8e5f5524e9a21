"""A small model file of every family and of a plain model, with what they predict; writes the folder ``models``.

The files of a format stay: every later version has to load them. A new format gets files of its own, beside these.
Run:  python -m tests.golden.make_models
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lamina as lm
from lamina import families

FOLDER = Path(__file__).parent / "models"
FORMAT = 1
COMMON: dict[str, Any] = {"epochs": 1, "verbose": 0, "random_state": 0}
TEXTS = ["good film", "bad film", "good play", "bad play"] * 6
RHYME = "one two three four five " * 8


def table() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(24, 3)).astype("float32")


def pictures(size: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (24, size, size, 1)).astype("uint8")


def halves(x: np.ndarray) -> np.ndarray:
    return np.where(
        x.reshape(len(x), -1).astype(float).sum(1) > np.median(x.reshape(len(x), -1).sum(1)), "much", "little"
    )


def plain() -> Any:
    x = lm.Input((3,), name="x")
    h = lm.layers.BatchNormalization()(lm.layers.Dense(4, "relu", kernel_regularizer="l2")(x))
    model = lm.Model(x, lm.layers.Dense(1)(lm.ops.concatenate([h, x], axis=-1)), name="plain")
    model.compile(lm.optimizers.Adam(lm.schedules.ExponentialDecay(0.01, 10, 0.9)), "mse", metrics=["mae"])
    model.fit(table(), table().sum(1), epochs=1, verbose=0)
    return model


def forecaster() -> Any:
    model = families.RNNForecaster(horizon=2, window=4, units=4, members=2, **COMMON)
    return model.fit(np.sin(np.arange(60) / 3))


#: name -> how it is made, and what it is asked
MODELS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "model": (plain, lambda m: m.predict(table()[:5])),
    "fcnn_classifier": (
        lambda: families.FCNNClassifier(hidden=(4,), members=2, **COMMON).fit(table(), halves(table())),
        lambda m: m.predict_proba(table()[:5]),
    ),
    "fcnn_regressor": (
        lambda: families.FCNNRegressor(hidden=(4,), members=2, **COMMON).fit(table(), table().sum(1)),
        lambda m: m.predict(table()[:5]),
    ),
    "cnn_classifier": (
        lambda: families.CNNClassifier(width=2, augment=None, **COMMON).fit(pictures(), halves(pictures())),
        lambda m: m.predict_proba(pictures()[:3]),
    ),
    "rnn_classifier": (
        lambda: families.RNNClassifier(units=3, embedding=3, max_words=20, **COMMON).fit(TEXTS, ["a", "b"] * 12),
        lambda m: m.predict_proba(TEXTS[:4]),
    ),
    "rnn_forecaster": (forecaster, lambda m: m.predict()),
    "rnn_language": (
        lambda: families.RNNLanguageModel(units=4, embedding=3, length=10, **COMMON).fit(RHYME),
        lambda m: [m.score(RHYME)],
    ),
    "autoencoder": (
        lambda: families.Autoencoder(n_components=2, hidden=(4,), **COMMON).fit(table()),
        lambda m: m.transform(table()[:5]),
    ),
    "autoencoder_variational": (
        lambda: families.VariationalAutoencoder(n_components=2, hidden=(4,), **COMMON).fit(table()),
        lambda m: m.transform(table()[:5]),
    ),
    "gan": (
        lambda: families.GAN(latent=2, filters=2, batch_size=8, **COMMON).fit(pictures()),
        lambda m: m.sample(2),
    ),
    "super_resolution": (
        lambda: families.SuperResolution(filters=2, blocks=1, crops=4, **COMMON).fit(pictures(16)),
        lambda m: np.asarray(m.upscale(pictures()[:1])),
    ),
    "translator": (
        lambda: families.ImageTranslator(width=2, depth=1, patch=8, **COMMON).fit(pictures(), pictures()),
        lambda m: np.asarray(m.predict(pictures()[:1])),
    ),
    "transformer_language": (
        lambda: families.TransformerLanguageModel(
            layers=1, width=8, heads=2, context=8, steps_per_epoch=2, **COMMON
        ).fit(RHYME),
        lambda m: [m.score(RHYME[:40])],
    ),
    "transformer_classifier": (
        lambda: families.TransformerClassifier(
            layers=1, width=8, heads=2, context=8, tokenizer="characters", pretrain_epochs=1, **COMMON
        ).fit(TEXTS, ["a", "b"] * 12),
        lambda m: m.predict_proba(TEXTS[:4]),
    ),
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    answers = {}
    for name, (make, ask) in MODELS.items():
        path = FOLDER / f"{name}.{FORMAT}.safetensors"
        make().save(path)
        again = lm.load_model(path) if name == "model" else families.load(path)
        answers[name] = np.asarray(ask(again))
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    np.savez_compressed(FOLDER / f"answers.{FORMAT}.npz", **answers)


if __name__ == "__main__":
    main()
