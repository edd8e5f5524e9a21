"""Row 7: ready-made networks, one file per family, each readable from top to bottom like one short program.

Each is a scikit-learn estimator: ``FCNNClassifier().fit(X, y).predict(X_new)``. A class is imported when first asked for.
"""

import importlib
from typing import Any

#: class -> the file it is in
_PLACES = {
    "FCNNClassifier": "fcnn",
    "FCNNRegressor": "fcnn",
    "CNNClassifier": "cnn",
    "CNNRegressor": "cnn",
    "ImageTranslator": "translator",
    "RNNClassifier": "rnn",
    "RNNForecaster": "rnn_forecaster",
    "RNNLanguageModel": "rnn_language",
    "Autoencoder": "autoencoder",
    "VariationalAutoencoder": "autoencoder_variational",
    "GAN": "gan",
    "SuperResolution": "super_resolution",
    "TransformerClassifier": "transformer_classifier",
    "TransformerLanguageModel": "transformer",
    "TransformerEncoder": "transformer_pretrained",
}

__all__ = ["load", *_PLACES]


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("lamina.families.base").load
    if name in _PLACES:
        return getattr(importlib.import_module(f"lamina.families.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'lamina.families' has no attribute {name!r}")
