"""Writes metrics.npz: three updates of every metric, without and with weights, as Keras 3 computes them.

Run from the repository's root, with Keras and JAX installed:  KERAS_BACKEND=jax python tests/golden/make_metrics.py
"""

import sys
from pathlib import Path

import keras
import numpy as np

root = Path(__file__).parents[2]
sys.path.insert(0, str(root / "tests" / "metrics"))
from cases import CASES, data  # noqa: E402

out = {}
for case, (name, arguments, kind) in CASES.items():
    y_true, y_pred, weights = data(kind)
    for weighted in (False, True):
        metric = getattr(keras.metrics, name)(**arguments)
        for update in range(len(y_true)):
            metric.update_state(y_true[update], y_pred[update], weights[update] if weighted else None)
        out[f"{case}/{'weighted' if weighted else 'plain'}"] = np.asarray(metric.result())

out["names"] = np.array([getattr(keras.metrics, name)(**arguments).name for name, arguments, _ in CASES.values()])
np.savez_compressed(Path(__file__).with_name("metrics.npz"), **out)
