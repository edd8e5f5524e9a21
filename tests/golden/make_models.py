"""A small model file of every family and of a plain model, with what they predict; writes the folder ``models``.

The files of a format stay: every later version has to load them. So those that are there are not made again, and a new
format gets files of its own, beside these.
Run:  python -m tests.golden.make_models
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lamina as lm
from lamina import families
from lamina.saving.tensors import write_tensors

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


def encoder() -> Any:
    """Of a network of GPT-2's shape with two letters, as Hugging Face's folders have it."""
    sizes = {"n_embd": 4, "n_inner": None, "n_head": 2, "n_layer": 1, "n_positions": 4, "vocab_size": 3}
    config = {"model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, **sizes}
    norms = dict.fromkeys(("ln_f", "h.0.ln_1", "h.0.ln_2"), (4,))
    dense = {"h.0.attn.c_attn": (4, 12), "h.0.attn.c_proj": (4, 4), "h.0.mlp.c_fc": (4, 16), "h.0.mlp.c_proj": (16, 4)}
    shapes = {f"{name}.weight": shape for name, shape in (norms | dense).items()}
    shapes |= {f"{name}.bias": shape[-1:] for name, shape in (norms | dense).items()}
    normal = np.random.default_rng(2).normal
    tensors = {name: normal(size=shape).astype("float32") for name, shape in shapes.items()}
    tensors |= {"wte.weight": normal(size=(3, 4)).astype("float32"), "wpe.weight": np.eye(4, dtype="float32")}
    words = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    parts = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    tokenizer = {"version": "1.0", "added_tokens": [], "model": words, **dict.fromkeys(parts)}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        (Path(folder) / "tokenizer.json").write_text(json.dumps(tokenizer))
        write_tensors(Path(folder) / "model.safetensors", tensors, {})
        return families.TransformerEncoder.from_pretrained(folder)


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
    "cnn_regressor": (
        lambda: families.CNNRegressor(width=2, augment=None, **COMMON).fit(pictures(), pictures().mean((1, 2, 3))),
        lambda m: m.predict(pictures()[:3]),
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
    "transformer_encoder": (encoder, lambda m: m.transform(["a", "abab", "baaba"])),
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    kept = FOLDER / f"answers.{FORMAT}.npz"
    answers = dict(np.load(kept)) if kept.exists() else {}
    for name, (make, ask) in MODELS.items():
        path = FOLDER / f"{name}.{FORMAT}.safetensors"
        if path.exists():
            continue
        make().save(path)
        again = lm.load_model(path) if name == "model" else families.load(path)
        answers[name] = np.asarray(ask(again))
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    np.savez_compressed(kept, **answers)


if __name__ == "__main__":
    main()
