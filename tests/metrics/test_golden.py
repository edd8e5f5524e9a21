"""Three updates of every metric against the values that Keras 3 gives."""

import re
from pathlib import Path

import numpy as np
import pytest

from lamina import metrics
from lamina.core import transforms
from tests.metrics.cases import CASES, data

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "metrics.npz"))


@pytest.mark.parametrize("case", CASES)
def test_result_equals_keras(case):
    name, arguments, kind = CASES[case]
    y_true, y_pred, weights = data(kind)
    metric = getattr(metrics, name)(**arguments)
    for how in ("plain", "weighted"):
        for update in range(len(y_true)):
            metric.update_state(y_true[update], y_pred[update], weights[update] if how == "weighted" else None)
        expected = GOLDEN[f"{case}/{how}"]
        assert np.shape(metric.result()) == expected.shape
        np.testing.assert_allclose(metric.result(), expected, rtol=3e-6, atol=1e-7)
        metric.reset_state()
    # Keras numbers the metrics of one kind.
    assert metric.name == re.sub(r"_\d+$", "", GOLDEN["names"][list(CASES).index(case)])


@pytest.mark.parametrize("case", ["scce", "auc", "r2", "f1-macro", "iou"])
def test_scanned_equals_eager(case):
    name, arguments, kind = CASES[case]
    metric = getattr(metrics, name)(**arguments)

    def body(carry, batch):
        metric.update_state(*batch)
        return carry, None

    transforms.scan(body, 0.0, data(kind))
    np.testing.assert_allclose(metric.result(), GOLDEN[f"{case}/weighted"], rtol=3e-6)
