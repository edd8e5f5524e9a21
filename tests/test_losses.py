import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import activations, losses
from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.masks import set_mask
from lamina.core.scores import get_scores
from lamina.losses.base import reduce_losses

GOLDEN = np.load(Path(__file__).parent / "golden/row3_losses.npz")
CASES = [json.loads(case) for case in GOLDEN["cases"]]
NAMES = [n for n in registry.names("losses") if registry.lookup("losses", n).__module__.startswith("lamina.losses")]
IDS = [f"{name}-{kind}-{','.join(config)}" for name, config, kind in CASES]
REDUCTIONS = ("sum_over_batch_size", "sum", "mean_with_sample_weight")


def once(fn):
    """``fn()`` as one program, compiled fast rather than well."""
    return jax.jit(
        fn, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    )()


def data(kind):
    return GOLDEN[f"{kind}_true"], GOLDEN[f"{kind}_pred"]


def case(index):
    """The loss, with its configuration saved and read again, and its targets and predictions."""
    name, config, kind = CASES[index]
    made = registry.lookup("losses", name)(**config)
    return registry.deserialize(json.loads(json.dumps(registry.serialize(made)))), *data(kind)


@pytest.fixture(scope="module")
def found():
    """Losses, and then numbers in the golden order; all in one program, which is compiled faster than many."""

    def one(index):
        loss, y_true, y_pred = case(index)
        loss.reduction = "none"
        values, numbers = loss(y_true, y_pred), []
        for weight in (None, GOLDEN["weights"][: len(y_true)]):
            for loss.reduction in REDUCTIONS:
                numbers.append(loss(y_true, y_pred, weight))
        return values, numbers

    return once(lambda: [one(index) for index in range(len(CASES))])


@pytest.mark.parametrize("index", range(len(CASES)), ids=IDS)
def test_values_are_those_of_keras(found, index):
    wanted, (values, numbers) = GOLDEN[f"out_{index}"], found[index]
    np.testing.assert_allclose(values.ravel(), wanted[6:], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(numbers, wanted[:6], rtol=2e-5)


def test_every_loss_has_a_golden_case():
    assert {name for name, _, _ in CASES} == set(NAMES)


def test_masks_of_predictions_as_in_keras():
    y_true, y_pred = data("steps")
    found = []
    for reduction in REDUCTIONS:
        loss = losses.MeanSquaredError(reduction)
        for weight in (None, GOLDEN["weights"][:3]):
            found.append(loss(y_true, y_pred, weight, mask=GOLDEN["mask"]))
            carried = loss(y_true, set_mask(jnp.array(y_pred), jnp.array(GOLDEN["mask"])), weight)
            np.testing.assert_allclose(carried, found[-1])
    np.testing.assert_allclose(found, GOLDEN["masked"], rtol=1e-5)


def test_masked_samples_are_as_if_they_were_not_there():
    def one(index):
        loss, y_true, y_pred = case(index)
        keep = len(y_true) - 1
        return loss(y_true, y_pred, mask=np.arange(keep + 1) < keep), loss(y_true[:keep], y_pred[:keep])

    indices = [index for index, (name, _, _) in enumerate(CASES) if name != "CTC"]
    for index, (masked, short) in zip(indices, once(lambda: [one(i) for i in indices]), strict=True):
        np.testing.assert_allclose(masked, short, rtol=1e-5, err_msg=IDS[index])


def test_gradients_match_finite_differences():
    def one(index):
        loss, y_true, y_pred = case(index)
        y_pred = jnp.asarray(y_pred, "float64")
        d = np.random.default_rng(0).normal(size=y_pred.shape)
        values = jax.vmap(lambda h: loss(y_true, y_pred + h * d))(jnp.array([1e-6, -1e-6]))
        assert values.dtype == "float64"
        return jnp.sum(jax.grad(lambda p: loss(y_true, p))(y_pred) * d), (values[0] - values[1]) / 2e-6

    # CTC is optax's; the predictions of "extreme" are where probabilities are cut off
    indices = [index for index, (name, _, kind) in enumerate(CASES) if name != "CTC" and kind != "extreme"]
    with jax.enable_x64(True):
        for index, (gradient, slope) in zip(indices, once(lambda: [one(i) for i in indices]), strict=True):
            np.testing.assert_allclose(gradient, slope, rtol=2e-5, atol=1e-7, err_msg=IDS[index])


@pytest.mark.parametrize("name", ["BinaryCrossentropy", "BinaryFocalCrossentropy"])
def test_extreme_binary_logits_are_finite(name):
    loss = registry.lookup("losses", name)(from_logits=True)
    value, gradient = jax.value_and_grad(lambda x: loss(jnp.array([[1.0], [0.0]]), x))(jnp.array([[-1e4], [1e4]]))
    assert float(value) == pytest.approx(1e4, rel=1e-5)
    np.testing.assert_allclose(gradient, [[-0.5], [0.5]], rtol=1e-5)


def test_extreme_logits_of_classes_are_exact():
    logits = jnp.array([[1e4, 0.0, -1e4]])
    assert float(losses.SparseCategoricalCrossentropy(from_logits=True)([2], logits)) == 2e4
    assert float(losses.CategoricalCrossentropy(from_logits=True)([[0.0, 0.0, 1.0]], logits)) == 2e4


@pytest.mark.parametrize(
    ("name", "function", "y_true", "scores", "value"),
    [
        ("BinaryCrossentropy", activations.sigmoid, [[1.0], [0.0]], [[-200.0], [200.0]], 200.0),
        ("BinaryFocalCrossentropy", activations.sigmoid, [[1.0], [0.0]], [[-200.0], [200.0]], 200.0),
        ("CategoricalCrossentropy", activations.softmax, [[0.0, 1.0]], [[200.0, -200.0]], 400.0),
        ("CategoricalFocalCrossentropy", activations.softmax, [[0.0, 1.0]], [[200.0, -200.0]], 100.0),
        ("SparseCategoricalCrossentropy", activations.softmax, [1], [[200.0, -200.0]], 400.0),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sure_and_wrong_probabilities_of_an_activation_keep_their_gradient(
    name, function, y_true, scores, value, dtype
):
    loss = registry.lookup("losses", name)()
    scores = jnp.array(scores, dtype)
    found, gradient = jax.value_and_grad(lambda x: loss(y_true, function(x)))(scores)
    assert float(found) == value
    assert float(jnp.abs(gradient).max()) > 0.1
    # the same numbers from elsewhere are probabilities and no more
    assert float(loss(y_true, jnp.array(np.asarray(function(scores))))) < 20


def test_scores_do_not_outlive_what_is_done_to_probabilities():
    p = activations.softmax(jnp.array([[3.0, -3.0]]))
    assert get_scores(p, "softmax") is not None
    assert get_scores(p, "softmax", 1) is not None
    assert get_scores(p, "softmax", 0) is get_scores(p, "sigmoid") is get_scores(p * 1, "softmax") is None
    flat = jnp.array([[0.5, 0.5]])
    loss = losses.CategoricalCrossentropy()
    assert float(loss(flat, (p + flat) / 2)) == pytest.approx(float(loss(flat, jnp.array(np.asarray(p + flat)) / 2)))


def test_half_precision_predictions_are_lifted():
    for index in range(len(CASES)):
        loss, y_true, y_pred = case(index)
        half = jax.ShapeDtypeStruct(y_pred.shape, "bfloat16")
        assert jax.eval_shape(lambda p, loss=loss, y=y_true: loss(y, p), half).dtype == "float32", IDS[index]
    y_true, half = data("binary")[0], jnp.asarray(data("binary")[1], "bfloat16")
    for loss in (losses.BinaryCrossentropy(), losses.MeanSquaredError()):
        assert loss(y_true, half) == loss(y_true, half.astype("float32"))


def test_sparse_and_one_hot_targets_agree():
    sparse, one_hot = losses.SparseCategoricalCrossentropy(), losses.CategoricalCrossentropy()
    p = data("sparse")[1]
    np.testing.assert_allclose(sparse(data("sparse")[0], p), one_hot(data("onehot")[0], p), rtol=1e-6)
    np.testing.assert_allclose(sparse(data("sparse")[0].astype("float32"), p), sparse(data("sparse")[0], p))


def test_ctc_against_all_alignments():
    logits = np.random.default_rng(5).normal(size=(1, 3, 3)).astype("float32")
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    paths = ["011", "001", "100", "010", "110", "111"]  # of three steps, what reads "1" without blanks and repeats
    total = sum(np.prod([p[t, int(c)] for t, c in enumerate(path)]) for path in paths)
    mask = jnp.array([[True, True, False]])
    whole, short = once(lambda: (losses.ctc([[1, 0]], logits), losses.ctc([[1, 0]], logits[:, :2])))
    np.testing.assert_allclose(whole, [-np.log(total)], rtol=1e-4)
    np.testing.assert_allclose(once(lambda: losses.ctc([[1, 0]], logits, mask)), short, rtol=1e-4)
    np.testing.assert_allclose(losses.CTC()([[1, 0]], set_mask(jnp.array(logits), mask)), short[0], rtol=1e-4)


def test_labels_that_are_no_class_give_nan():
    p = jnp.full((3, 2), 0.5)
    found = losses.sparse_categorical_crossentropy([0, 2, -1], p)
    assert np.isnan(found).tolist() == [False, True, True]
    ignoring = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    assert float(ignoring([0, -1, -1], p)) == pytest.approx(np.log(2))
    gradient = jax.grad(lambda p: ignoring([0, -1, -1], p, mask=jnp.array([True, True, False])))(p)
    assert np.isfinite(gradient).all()


def test_nothing_left_gives_zero():
    loss = losses.MeanSquaredError()
    assert float(loss(jnp.ones((2, 1)), jnp.zeros((2, 1)), mask=[False, False])) == 0
    ignoring = losses.SparseCategoricalCrossentropy(ignore_class=0)
    assert float(ignoring([0, 0], jnp.full((2, 2), 0.5))) == 0
    assert float(losses.MeanSquaredError("mean_with_sample_weight")(jnp.ones((2, 1)), jnp.zeros((2, 1)), [0, 0])) == 0


def test_what_is_masked_may_be_nan():
    loss = losses.MeanSquaredError()
    assert float(loss(jnp.zeros((2, 1)), jnp.array([[1.0], [jnp.nan]]), mask=[True, False])) == 1


def test_one_number_for_each_sample():
    y, p = jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 1.0, 1.0])
    for true in (y, y[:, None]):
        for pred in (p, p[:, None]):
            assert float(losses.MeanSquaredError()(true, pred, [0.0, 1.0, 1.0])) == pytest.approx(5 / 3)
            assert losses.MeanSquaredError("none")(true, pred).shape == (3,)


def test_carried_masks_of_another_shape_do_not_apply():
    p = set_mask(jnp.ones((2, 3)), jnp.zeros((2, 5), bool))
    assert float(losses.MeanSquaredError()(jnp.zeros((2, 3)), p)) == 1
    p = set_mask(jnp.ones((2, 3, 1)), jnp.array([[True, False, False], [True, True, True]]))
    assert losses.MeanSquaredError("none")(jnp.zeros((2, 3)), p).tolist() == [[1, 0, 0], [1, 1, 1]]


def test_reductions_by_hand():
    values, weights, mask = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1.0, 3.0]), jnp.array([[True, False]] * 2)
    assert float(reduce_losses(values, weights, mask, "mean")) == 5.0
    assert float(reduce_losses(values, weights, mask, "sum")) == 10.0
    assert float(reduce_losses(values, weights, mask, "mean_with_sample_weight")) == 2.5
    assert reduce_losses(values, weights, mask, "none").tolist() == [[1, 0], [9, 0]]


def test_a_loss_of_ones_own():
    class Own(losses.Loss):
        def call(self, y_true, y_pred):
            return jnp.sum(jnp.abs(y_true - y_pred), axis=-1)

    own = Own(reduction="sum", name="mine")
    assert (float(own(jnp.zeros((2, 2)), jnp.ones((2, 2)))), own.name) == (4.0, "mine")
    assert Own().name == "own"
    with pytest.raises(NotImplementedError, match="def call"):
        losses.Loss()(jnp.zeros(2), jnp.zeros(2))


def test_names_aliases_and_what_a_head_has_to_be():
    for alias, cls in {
        "mse": losses.MeanSquaredError,
        "MAE": losses.MeanAbsoluteError,
        "mape": losses.MeanAbsolutePercentageError,
        "msle": losses.MeanSquaredLogarithmicError,
        "bce": losses.BinaryCrossentropy,
        "kld": losses.KLDivergence,
        "kl_divergence": losses.KLDivergence,
        "logcosh": losses.LogCosh,
        "ctc": losses.CTC,
    }.items():
        assert type(registry.get("losses", alias)) is cls
    assert losses.BinaryCrossentropy().from_logits is False
    assert losses.SparseCategoricalCrossentropy(from_logits=True).from_logits is True
    assert losses.MeanSquaredError().from_logits is None
    assert losses.MeanSquaredError().targets is None
    assert losses.CategoricalCrossentropy().targets == "categorical"
    with pytest.raises(ConfigError, match="Did you mean 'mean_squared_error'"):
        registry.get("losses", "mean_square_error")


def test_a_loss_in_double_precision():
    with jax.enable_x64(True):
        loss = losses.MeanSquaredError(dtype="float64")
        assert loss(jnp.ones((2, 1), "float32"), jnp.zeros((2, 1), "float32")).dtype == "float64"
        assert loss.get_config()["dtype"] == "float64"


def test_nothing_is_stretched():
    one, three = jnp.ones((4, 1)), jnp.ones((4, 3))
    for name in ("mse", "bce", "hinge", "dice", "poisson", "kld", "log_cosh", "categorical_hinge", "tversky"):
        with pytest.raises(ShapeError, match=r"y_true of shape \(4, 1\) and y_pred of shape \(4, 3\)"):
            registry.get("losses", name)(one, three)
    with pytest.raises(ShapeError, match=r"Dense\(3\) as the last layer"):
        losses.MeanSquaredError()(three, one)
    with pytest.raises(ShapeError, match=r"Dense\(1\) as the last layer.*\n?.*sparse_categorical"):
        losses.MeanSquaredError()(jnp.ones(4), three)
    with pytest.raises(ShapeError, match="as many targets"):
        losses.MeanSquaredError()(jnp.ones((5, 3)), three)
    with pytest.raises(ShapeError, match="Change the last layer"):
        losses.MeanSquaredError()(jnp.ones((4, 3, 2)), three)


def test_classes_and_targets_have_to_match():
    p = jnp.full((4, 3), 1 / 3)
    with pytest.raises(ShapeError, match="loss='sparse_categorical_crossentropy'"):
        losses.CategoricalCrossentropy()(jnp.zeros(4), p)
    with pytest.raises(ShapeError, match="loss='categorical_crossentropy'"):
        losses.SparseCategoricalCrossentropy()(jnp.zeros((4, 3)), p)
    with pytest.raises(ShapeError, match=r"class indices of shape \(4,\)"):
        losses.SparseCategoricalCrossentropy()(jnp.zeros((4, 2)), p)
    with pytest.raises(ShapeError, match="loss='binary_crossentropy'"):
        losses.SparseCategoricalCrossentropy()(jnp.zeros(4), jnp.ones((4, 1)))
    with pytest.raises(ShapeError, match="loss='binary_crossentropy'"):
        losses.CategoricalCrossentropy()(jnp.zeros((4, 1)), jnp.ones((4, 1)))
    with pytest.raises(ShapeError, match="circle expects"):
        losses.Circle()(jnp.zeros((4, 3)), p)
    with pytest.raises(ShapeError, match="ctc expects"):
        losses.CTC()(jnp.zeros((4, 3)), p)


def test_weights_and_masks_have_to_match():
    y = jnp.ones((4, 5, 2))
    loss = losses.MeanSquaredError()
    for good in ((4,), (4, 1), (4, 5), (4, 5, 1), (1, 5), ()):
        assert float(loss(y, y + 1, sample_weight=jnp.full(good, 2.0))) == 2
    with pytest.raises(ShapeError, match=r"sample_weight of shape \(5,\).\nGive one of shape \(4, 5\) or \(4,\)"):
        loss(y, y, sample_weight=jnp.ones(5))
    with pytest.raises(ShapeError, match=r"mask of shape \(4, 5, 2\)"):
        loss(y, y, mask=jnp.ones((4, 5, 2)))


def test_bad_arguments():
    with pytest.raises(ConfigError, match="Did you mean 'sum'"):
        losses.MeanSquaredError("summ")
    with pytest.raises(ConfigError, match="label_smoothing from 0 to 1"):
        losses.BinaryCrossentropy(label_smoothing=2)
    with pytest.raises(ConfigError, match="axis as a whole number"):
        losses.CategoricalCrossentropy(axis=True)
    with pytest.raises(ConfigError, match="delta above 0"):
        losses.Huber(0)
    with pytest.raises(ConfigError, match="q between 0 and 1"):
        losses.CategoricalGeneralizedCrossEntropy(1.0)
