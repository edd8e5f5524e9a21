import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_classifier_multioutput, parametrize_with_checks

from lamina import families
from lamina.core.errors import ConfigError, DataError, FileError, ShapeError
from lamina.families.fcnn import FCNNClassifier, FCNNRegressor
from lamina.families.fcnn_network import left_out

SMALL = {"hidden": (16,), "members": 2, "epochs": 30, "batch_size": 32, "verbose": 0, "random_state": 0}


# the second one without what the first one shows already, as it is trained fifty times
@parametrize_with_checks(
    [
        FCNNClassifier(**SMALL | {"random_state": None}),
        FCNNRegressor(**SMALL | {"random_state": None, "hidden": ()}, validation_fraction=0.0),
    ]
)
def test_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


def test_several_labels_are_as_scikit_learn_wants_them():
    # not among the checks above: several classes a row are refused, so scikit-learn's tag for that is not set
    check_classifier_multioutput("FCNNClassifier", FCNNClassifier(**SMALL | {"epochs": 1}))


def people(rows=200, seed=0):
    """A table of every kind of column, and two targets that depend on them."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 70, rows)
    color = rng.choice(["red", "green", "blue"], rows)
    month = rng.integers(1, 13, rows)
    score = (age - 45) / 25 + 2.0 * (color == "red") - 0.5 + 0.5 * (month > 6)
    frame = pl.DataFrame(
        {
            "age": [None if i % 10 == 3 else a for i, a in enumerate(age)],
            "color": [None if i % 17 == 5 else c for i, c in enumerate(color)],
            "when": [f"2020-{m:02}-01" for m in month],
            "same": ["x"] * rows,
        }
    )
    return frame, np.where(score > 0.3, "yes", "no"), 1000 + 50 * score


def test_tables_with_every_kind_of_column():
    frame, answer, _ = people()
    model = FCNNClassifier(**SMALL).fit(frame, answer)
    assert model.score(frame, answer) > 0.85 > max(np.mean(answer == "yes"), np.mean(answer == "no"))
    assert model.feature_names_in_.tolist() == ["age", "color", "when", "same"]
    p = model.predict_proba(frame)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    # pandas and polars, and a category that was not there in training
    np.testing.assert_allclose(model.predict_proba(pd.DataFrame(frame.to_dict(as_series=False))), p, rtol=1e-6)
    strange = frame.with_columns(pl.lit("violet").alias("color"))
    assert np.isfinite(model.predict_proba(strange)).all()


def test_what_is_wrong_with_a_table_is_told():
    frame, answer, _ = people(60)
    model = FCNNClassifier(**SMALL | {"epochs": 1}).fit(frame, answer)
    with pytest.raises(DataError, match="column 'age', row 2: expected a number: 'old'"):
        model.predict(frame.with_columns(pl.Series("age", ["30", "old"] + ["31"] * 58)))
    with pytest.raises(ValueError, match="Feature names seen at fit time, yet now missing:\n- color"):
        model.predict(frame.drop("color"))
    with pytest.raises(ValueError, match="Feature names unseen at fit time:\n- more"):
        model.predict(frame.with_columns(pl.lit(1).alias("more")))
    with pytest.raises(DataError, match="every example has the class 'a'"):
        FCNNClassifier(**SMALL).fit(frame, ["a"] * 60)
    with pytest.raises(DataError, match="no column to learn from"):
        FCNNClassifier(**SMALL).fit(frame.select("same"), answer)
    with pytest.raises(DataError, match=r"y\[0\]: expected a number: .*\nFor classes, write:  FCNNClassifier"):
        FCNNRegressor(**SMALL).fit(frame, answer)
    with pytest.raises(DataError, match=r"missing classes .* the first is y\[1\]"):
        FCNNClassifier(**SMALL).fit(frame, np.array(["yes", None] * 30, object))
    with pytest.raises(ConfigError, match=r"Write:  sklearn.multioutput.MultiOutputClassifier\(FCNNClassifier\(\)\)"):
        FCNNClassifier(**SMALL).fit(frame, np.arange(120).reshape(60, 2) % 3)
    with pytest.raises(DataError, match="infinity in single precision"):
        FCNNRegressor(**SMALL).fit(np.array([[1.0], [1e300]]), [1.0, 2.0])


def test_a_text_in_a_column_of_numbers_is_named():
    X = np.arange(40.0).reshape(20, 2).astype(object)
    X[3, 1] = "old"
    with pytest.raises(DataError, match=r"X\[3, 1\]: expected a number: 'old'.\n.* categories in a data frame"):
        FCNNRegressor(**SMALL).fit(X, np.arange(20.0))
    fitted = FCNNRegressor(**SMALL | {"epochs": 1, "validation_fraction": 0.0}).fit(np.eye(20, 2), np.arange(20.0))
    with pytest.raises(DataError, match=r"X\[3, 1\]: expected a number: 'old'.\n.* trained on an array of numbers"):
        fitted.predict(X)
    with pytest.raises(ValueError, match="X has 3 features, but FCNNRegressor is expecting 2"):
        fitted.predict(np.zeros((2, 3)))
    few = pd.DataFrame({"a": [*range(19), "old"], "b": ["x", "y"] * 10})
    with pytest.warns(UserWarning, match=r"column 'a': all but 1 of its 20 values are numbers; row 20 has 'old'"):
        FCNNClassifier(**SMALL)._features(few, reset=True)


@pytest.mark.parametrize(
    "change",
    [
        {"members": 0},
        {"hidden": 8},
        {"hidden": (8, 0)},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"validation_fraction": 1.0},
        {"patience": -1},
        {"verbose": "loud"},
        {"random_state": -1},
        {"class_weight": {"maybe": 2.0}},
    ],
)
def test_settings_out_of_range_are_named(change):
    X = np.arange(40.0).reshape(20, 2)
    with pytest.raises(ConfigError, match=next(iter(change))):
        FCNNClassifier(**SMALL | change).fit(X, ["a", "b"] * 10)


def test_several_numbers_in_their_own_units():
    frame, _, number = people()
    both = np.stack([number, -3e-4 * number], axis=1)
    model = FCNNRegressor(**SMALL | {"epochs": 60}).fit(frame, both)
    assert model.predict(frame).shape == both.shape
    error = np.sqrt(np.mean((model.predict(frame) - both) ** 2, axis=0))
    assert np.all(error < 0.5 * both.std(0))
    assert FCNNRegressor(**SMALL).fit(frame, number).predict(frame).shape == (200,)


def test_several_labels_at_once():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    labels = (X > 0).astype(int)
    model = FCNNClassifier(**SMALL | {"epochs": 60}).fit(X, labels)
    assert (model.predict(X) == labels).mean() > 0.95
    assert model.predict_proba(X).shape == (200, 3)


def test_constant_and_empty_columns_do_nothing():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 1))
    wide = np.concatenate([X, np.full((60, 1), 7.0), np.full((60, 1), np.nan)], axis=1)
    model = FCNNRegressor(**SMALL).fit(wide, X[:, 0])
    assert np.isfinite(model.predict(wide)).all()
    assert model.score(wide, X[:, 0]) > 0.5


def test_class_weight_moves_the_border():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (190, 1)), rng.normal(1, 1, (10, 1))])
    y = np.repeat([0, 1], [190, 10])
    plain, balanced = (FCNNClassifier(**SMALL, class_weight=weight).fit(X, y) for weight in (None, "balanced"))
    assert plain.predict(X).sum() < 10 < 40 < balanced.predict(X).sum()
    with pytest.raises(ValueError, match="class_weight"):
        FCNNClassifier(**SMALL, class_weight="even").fit(X, y)


def test_calibration_makes_probabilities_of_the_unseen_likelier():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 8))
    y = (X[:, 0] + 2 * rng.normal(size=300) > 0).astype(int)
    new = rng.normal(size=(2000, 8))
    truth = (new[:, 0] + 2 * rng.normal(size=2000) > 0).astype(int)
    settings = SMALL | {"epochs": 60, "hidden": (64,), "patience": 0, "members": 8}
    losses = []
    for calibrate in (False, True):
        p = FCNNClassifier(**settings, calibrate=calibrate, dropout=0.0).fit(X, y).predict_proba(new)
        losses.append(-np.log(p[np.arange(2000), truth]).mean())
    assert losses[1] < losses[0] - 0.005


def test_members_leave_out_different_rows_of_every_class():
    classes = np.repeat([0, 1], [160, 40])
    unseen = left_out(200, 8, 0.125, 3, classes)
    assert unseen.shape == (200, 8)
    assert (unseen.sum(1) == 1).all()
    np.testing.assert_array_equal(unseen[:160].sum(0), np.full(8, 20))
    np.testing.assert_array_equal(unseen[160:].sum(0), np.full(8, 5))
    assert not left_out(19, 8, 0.125, 3, None).any()
    for seed in range(20):  # the only row of a class is learnt from, whatever is drawn
        assert not left_out(200, 1, 0.5, seed, (np.arange(200) == 7).astype(int))[7].any()


def test_a_class_with_one_row_is_learnt():
    X = np.arange(30.0)[:, None]
    X[29] = 90.0
    model = FCNNClassifier(**SMALL | {"epochs": 60, "learning_rate": 0.02}).fit(X, ["a", "b"] * 14 + ["a", "rare"])
    assert model.classes_.tolist() == ["a", "b", "rare"]
    assert model.predict_proba([[90.0], [3.0]])[:, 2].round().tolist() == [1, 0]


def test_same_seed_same_bytes_and_back_from_a_file(tmp_path):
    frame, answer, number = people(80)
    settings = SMALL | {"epochs": 3}
    first, second, other = (FCNNClassifier(**settings | {"random_state": s}).fit(frame, answer) for s in (0, 0, 1))
    for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.predict_proba(frame), other.predict_proba(frame))
    first.save(tmp_path / "people.safetensors")
    again = families.load(tmp_path / "people.safetensors")
    assert type(again) is FCNNClassifier
    assert again.get_params() == first.get_params()
    assert again.history_ == first.history_
    np.testing.assert_array_equal(again.predict_proba(frame), first.predict_proba(frame))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).predict(frame), first.predict(frame))
    with pytest.raises(FileError, match=r"holds a FCNNClassifier.\nWrite:  FCNNClassifier.load"):
        FCNNRegressor.load(tmp_path / "people.safetensors")
    assert not hasattr(clone(first), "model_")
    regressor = FCNNRegressor(**settings).fit(frame, number)
    regressor.save(tmp_path / "number.safetensors")
    np.testing.assert_array_equal(
        FCNNRegressor.load(tmp_path / "number.safetensors").predict(frame), regressor.predict(frame)
    )


def test_warm_start_goes_on():
    frame, _, number = people(100)
    model = FCNNRegressor(**SMALL | {"epochs": 10}, warm_start=True).fit(frame, number)
    before = model.history_["loss"]
    model.fit(frame, number)
    assert model.history_["loss"][0] < 0.8 * before[0]
    # columns and scale are those of then
    found = model.predict(frame)
    model.set_params(epochs=1, learning_rate=1e-9).fit(frame, 100 * number)
    np.testing.assert_allclose(model.predict(frame), found, rtol=1e-3)
    with pytest.raises(ValueError, match="Feature names"):
        model.fit(frame.drop("color"), number)
    with pytest.raises(ShapeError, match="1 targets a row as before; received 2"):
        model.fit(frame, np.stack([number, number], axis=1))


def test_warm_start_keeps_classes():
    X, y = np.arange(40.0).reshape(20, 2), np.array(["a", "b"] * 10)
    model = FCNNClassifier(**SMALL | {"epochs": 1}, warm_start=True, validation_fraction=0.0).fit(X, y)
    model.fit(X[::2], y[::2])  # not every class has to be there again
    assert model.classes_.tolist() == ["a", "b"]
    with pytest.raises(DataError, match=r"classes are those of before: \['a', 'b'\]; received 'c'"):
        model.fit(X, np.array(["a", "c"] * 10))
    with pytest.raises(DataError, match="form of before"):
        model.fit(X, np.eye(2, dtype=int)[np.arange(20) % 2])
    assert model.classes_.tolist() == ["a", "b"]
