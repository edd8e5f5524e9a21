"""What metrics promise beyond Keras's values: exact counts, no silent stretching, names, masks, second sources."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from lamina import metrics
from lamina.core import masks, registry, transforms
from lamina.core.errors import ConfigError, ShapeError
from lamina.metrics.base import Total
from lamina.metrics.confusion import confusion
from tests.metrics.cases import CASES

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("case", CASES)
def test_config_round_trip(case):
    name, arguments, _ = CASES[case]
    metric = getattr(metrics, name)(**arguments)
    saved = registry.serialize(metric)
    again = registry.deserialize(saved)
    assert type(again) is type(metric)
    assert registry.serialize(again) == saved
    assert {key: saved["config"][key] for key in arguments} == arguments


@pytest.mark.parametrize("compiled", [False, True])
def test_totals_are_exact_where_single_precision_is_not(compiled):
    total = Total((2,))
    add = transforms.jit(total.add) if compiled else total.add
    add(np.array([2.0**26, 1e8]))
    for _ in range(5):
        add(np.array([1.0, 0.25]))
    high, low = total.high.numpy().astype("float64"), total.low.numpy().astype("float64")
    np.testing.assert_array_equal(high + low, [2.0**26 + 5, 1e8 + 1.25])


def test_mean_of_many_steps():
    metric = metrics.Mean()

    def body(carry, x):
        metric.update_state(x)
        return carry, None

    transforms.scan(body, 0.0, jnp.full((20_000, 1), 0.1))
    metric.count.add(2.0**24)
    metric.update_state(jnp.ones(1))
    np.testing.assert_allclose(float(metric.total.value), 2001.0, rtol=1e-7)
    assert int(metric.count) == 2**24 + 20_001


def test_large_loss_is_not_hidden():
    metric = metrics.Mean()
    assert np.isinf(metric(jnp.array([jnp.inf])))
    metric.reset_state()
    assert np.isnan(metric(jnp.array([jnp.nan])))
    metric.reset_state()
    assert float(metric(jnp.array([1.0, jnp.nan]), sample_weight=[1.0, 0.0])) == 1.0


def test_weights_of_steps_and_of_examples():
    values = RNG.uniform(size=(3, 4, 2)).astype("float32")
    for shape in ((3,), (3, 4), (3, 4, 2), (3, 1, 1)):
        weights = RNG.uniform(size=shape).astype("float32")
        full = np.broadcast_to(weights.reshape(shape + (1,) * (3 - len(shape))), values.shape)
        metric = metrics.Mean()
        np.testing.assert_allclose(metric(values, weights), (values * full).sum() / full.sum(), rtol=1e-6)
        np.testing.assert_allclose(metrics.Sum()(values, weights), (values * full).sum(), rtol=1e-6)
    with pytest.raises(ShapeError, match="sample_weight"):
        metrics.Mean()(values, np.ones(4))


def test_masks_travel_with_predictions():
    y = jnp.array([[1.0, 2.0, 3.0]])
    pred = masks.set_mask(jnp.array([[2.0, 2.0, 9.0]]), jnp.array([[True, True, False]]))
    assert float(metrics.MeanMetricWrapper(lambda t, p: jnp.abs(t - p), "error")(y, pred)) == 0.5
    classes = masks.set_mask(jnp.array([[[0.1, 0.9], [0.9, 0.1]]]), jnp.array([[True, False]]))
    assert float(metrics.SparseCategoricalAccuracy()(jnp.array([[1, 1]]), classes)) == 1.0


def test_vectors_count_each_example():
    metric = metrics.MeanSquaredError()
    metric.update_state([1.0, 2.0, 3.0], [1.0, 2.0, 6.0])
    assert float(metric([0.0], [1.0])) == 2.5
    assert float(metrics.MeanAbsoluteError()([1.0, 2.0], [2.0, 4.0], sample_weight=[3.0, 1.0])) == 1.25


def test_second_source():
    y, p = RNG.integers(0, 2, 500), RNG.uniform(size=500).astype("float32")
    w = RNG.uniform(size=500).astype("float32")
    p = np.where(y == 1, np.sqrt(p), p)
    roc = sklearn.metrics.roc_auc_score(y, p, sample_weight=w)
    np.testing.assert_allclose(metrics.AUC(1000)(y, p, w), roc, atol=2e-3)
    np.testing.assert_allclose(metrics.AUC(1000, "PR")(y, p), sklearn.metrics.average_precision_score(y, p), atol=2e-2)
    np.testing.assert_allclose(
        metrics.Precision()(y, p, w), sklearn.metrics.precision_score(y, p > 0.5, sample_weight=w)
    )
    np.testing.assert_allclose(metrics.Recall()(y, p), sklearn.metrics.recall_score(y, p > 0.5), rtol=1e-6)
    t = 1000 + RNG.normal(size=(200, 2))
    q = t + RNG.normal(size=(200, 2))
    metric = metrics.R2Score()
    for part in np.split(np.arange(200), 4):
        metric.update_state(t[part], q[part])
    np.testing.assert_allclose(metric.result(), sklearn.metrics.r2_score(t, q), rtol=1e-3)
    labels = (RNG.uniform(size=(60, 3)) > 0.5).astype(int)
    scores = RNG.uniform(size=(60, 3))
    for average in ("micro", "macro", "weighted", None):
        expected = sklearn.metrics.f1_score(labels, scores > 0.5, average=average)
        np.testing.assert_allclose(metrics.F1Score(average, 0.5)(labels, scores), expected, rtol=1e-5)


def test_counts_at_many_thresholds_equal_counting():
    thresholds = RNG.permutation(np.linspace(0, 1, 50))
    y, p = RNG.integers(0, 2, (20, 2)), RNG.uniform(size=(20, 2)).astype("float32")
    p[0] = [0.0, 1.0]
    found = confusion(y, p, thresholds, per_label=True)
    above = p[None] > thresholds.astype("float32")[:, None, None]
    np.testing.assert_array_equal(found.true_positives, (above & (y == 1)).sum(1))
    np.testing.assert_array_equal(found.false_negatives, (~above & (y == 1)).sum(1))
    np.testing.assert_array_equal(found.true_negatives, (~above & (y == 0)).sum(1))
    few = confusion(y, p, thresholds[:4])
    np.testing.assert_array_equal(few.false_positives, (above & (y == 0)).sum((1, 2))[:4])


def test_iou_weights_are_not_truncated():
    metric = metrics.MeanIoU(2)
    result = metric(np.array([0, 1, 1]), np.array([0, 1, 0]), sample_weight=np.array([0.5, 0.5, 0.25]))
    assert float(result) == pytest.approx((0.5 / 0.75 + 0.5 / 0.75) / 2)


@pytest.mark.parametrize(
    ("identifier", "y", "pred", "loss", "kind"),
    [
        ("accuracy", (8, 1), (8, 1), None, "BinaryAccuracy"),
        ("acc", (8,), (8,), None, "BinaryAccuracy"),
        ("accuracy", (8,), (8, 5), None, "SparseCategoricalAccuracy"),
        ("accuracy", (8, 1), (8, 5), None, "SparseCategoricalAccuracy"),
        ("accuracy", (8, 6), (8, 6, 5), None, "SparseCategoricalAccuracy"),
        ("accuracy", (8, 5), (8, 5), None, "CategoricalAccuracy"),
        ("accuracy", (8, 5), (8, 5), "binary_crossentropy", "BinaryAccuracy"),
        ("crossentropy", (8, 1), (8, 1), None, "BinaryCrossentropy"),
        ("ce", (8,), (8, 5), None, "SparseCategoricalCrossentropy"),
        ("mse", (8, 1), (8, 1), None, "MeanSquaredError"),
        ("AUC", (8, 1), (8, 1), None, "AUC"),
        (metrics.Precision, (8, 1), (8, 1), None, "Precision"),
        (metrics.Recall(name="found"), (8, 1), (8, 1), None, "Recall"),
        (metrics.mean_squared_error, (8, 1), (8, 1), None, "MeanMetricWrapper"),
    ],
)
def test_names_stand_for_metrics(identifier, y, pred, loss, kind):
    metric = metrics.for_outputs(identifier, y, "int32", pred, loss)
    assert type(metric).__name__ == kind
    if isinstance(identifier, str):
        assert metric.name == identifier


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.for_outputs("accurcy", (8, 1), "int32", (8, 1)), "Did you mean 'accuracy'"),
        (lambda: metrics.for_outputs(3, (8, 1), "int32", (8, 1)), "a metric is a name"),
        (lambda: metrics.Precision(thresholds=[0.5, 1.5]), "thresholds from 0 to 1"),
        (lambda: metrics.Recall(top_k=0), "top_k of at least 1"),
        (lambda: metrics.PrecisionAtRecall(1.5), "from 0 to 1"),
        (lambda: metrics.PrecisionAtRecall(0.5, num_thresholds=0), "num_thresholds"),
        (lambda: metrics.AUC(1), "at least 2"),
        (lambda: metrics.AUC(curve="RO"), "Did you mean 'ROC'"),
        (lambda: metrics.AUC(num_labels=2), "multi_label=True"),
        (lambda: metrics.AUC(thresholds=[2.0]), "from 0 to 1"),
        (lambda: metrics.R2Score("mean"), "class_aggregation"),
        (lambda: metrics.R2Score(num_regressors=-1), "num_regressors"),
        (lambda: metrics.F1Score("average"), "average"),
        (lambda: metrics.FBetaScore(beta=0), "beta"),
        (lambda: metrics.FBetaScore(threshold=0.0), "threshold"),
        (lambda: metrics.IoU(2, [2]), "target_class_ids"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("metric", "y", "pred"),
    [
        (metrics.MeanSquaredError(), (4,), (4, 3)),
        (metrics.RootMeanSquaredError(), (4, 1), (4, 3)),
        (metrics.BinaryAccuracy(), (4, 1), (4, 3)),
        (metrics.Accuracy(), (3,), (4,)),
        (metrics.CategoricalAccuracy(), (4,), (4, 3)),
        (metrics.SparseCategoricalAccuracy(), (4, 3), (4, 3)),
        (metrics.SparseTopKCategoricalAccuracy(), (3,), (4, 3)),
        (metrics.Precision(), (4,), (4, 3)),
        (metrics.Precision(top_k=1), (4,), (4,)),
        (metrics.AUC(multi_label=True), (4,), (4,)),
        (metrics.R2Score(), (4, 2, 2), (4, 2, 2)),
        (metrics.F1Score(), (4,), (4,)),
        (metrics.IoU(2, [0]), (4,), (4, 2)),
        (metrics.PearsonCorrelation(), (4, 2), (4, 3)),
    ],
)
def test_shapes_never_stretch(metric, y, pred):
    with pytest.raises(ShapeError):
        metric.update_state(np.zeros(y), np.zeros(pred))


def test_variables_have_paths_and_reset():
    metric = metrics.MeanSquaredError()
    metric([[1.0]], [[3.0]])
    assert set(metric.named_variables()) == {"total/high", "total/low", "count/high", "count/low"}
    assert metric.named_variables(trainable=True) == {}
    metric.reset_state()
    assert float(metric.result()) == 0.0
    assert float(metrics.R2Score().result()) == 0.0


def test_wrapper_keeps_its_function():
    metric = metrics.MeanMetricWrapper(metrics.binary_crossentropy, from_logits=True)
    assert metric.name == "binary_crossentropy"
    assert metric.get_config()["from_logits"] is True
    np.testing.assert_allclose(metric([[1.0]], [[0.0]]), np.log(2), rtol=1e-6)


def test_a_metric_is_made_without_a_program(caplog):
    with jax.log_compiles():
        total = metrics.Metric("m").add_total((3, 1, 7))
    assert not caplog.records
    assert total.value.shape == (3, 1, 7)
    assert not np.any(total.value)
