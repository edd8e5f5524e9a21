import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import check_estimator

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.families.autoencoder import Autoencoder, default_hidden
from lamina.families.autoencoder_variational import VariationalAutoencoder
from lamina.families.base import load


@pytest.fixture(scope="module")
def curve():
    """Points on a bent line in space: one number says where, but no plane holds them."""
    t = np.random.default_rng(0).uniform(-1, 1, 300)
    return np.stack([t, t**2, np.sin(3 * t)], axis=1) * [1.0, 10.0, 100.0] + 5.0


@pytest.fixture(scope="module")
def pictures():
    """A bright square somewhere on a dark ground."""
    rng = np.random.default_rng(0)
    x = np.zeros((120, 10, 9), "uint8")
    for picture, (top, left) in zip(x, rng.integers(0, 6, (120, 2)), strict=True):
        picture[top : top + 4, left : left + 3] = 200
    return x


@pytest.fixture(scope="module")
def fitted(curve):
    return Autoencoder(1, hidden=(32,), epochs=60, learning_rate=1e-2, batch_size=32, random_state=0).fit(curve)


@pytest.fixture(scope="module")
def fitted_to_pictures(pictures):
    return Autoencoder(8, hidden=(8, 32), epochs=30, learning_rate=1e-2, batch_size=32, random_state=0).fit(pictures)


@pytest.fixture(scope="module")
def variational(curve):
    return VariationalAutoencoder(
        2, hidden=(32,), epochs=40, learning_rate=1e-2, batch_size=32, patience=0, random_state=0
    ).fit(curve)


def relative_error(x, again):
    return float(np.mean((x - again) ** 2 / x.var(axis=0)))


def test_one_number_along_a_curve_says_more_than_one_along_a_line(curve, fitted):
    line = PCA(1).fit(curve / curve.std(axis=0))
    straight = line.inverse_transform(line.transform(curve / curve.std(axis=0))) * curve.std(axis=0)
    assert relative_error(curve, fitted.reconstruct(curve)) < 0.3 * relative_error(curve, straight)


def test_reconstruction_is_transform_and_back(curve, fitted):
    codes = fitted.transform(curve)
    assert codes.shape == (300, 1)
    np.testing.assert_allclose(fitted.inverse_transform(codes), fitted.reconstruct(curve), rtol=1e-5)
    assert fitted.get_feature_names_out().tolist() == ["autoencoder0"]


def test_anomalies_score_higher_and_scores_are_in_units_of_the_spread(curve, fitted):
    scores = fitted.anomaly_scores(curve)
    assert fitted.score(curve) == pytest.approx(-scores.mean())
    assert scores.mean() == pytest.approx(relative_error(curve, fitted.reconstruct(curve)), rel=1e-3)
    odd = curve[:5] + np.array([0.0, 30.0, 0.0])
    assert fitted.anomaly_scores(odd).min() > 10 * scores.mean()


def test_a_row_does_not_depend_on_the_others(curve, fitted):
    alone = np.concatenate([fitted.transform(curve[i : i + 1]) for i in range(5)])
    assert (alone == fitted.transform(curve)[:5]).all()


def test_constant_columns_come_back_exactly(curve):
    x = np.hstack([curve, np.full((300, 1), 12345.0)])
    again = Autoencoder(2, hidden=(4,), epochs=1, random_state=0).fit(x).reconstruct(x)
    assert (again[:, 3] == 12345.0).all()
    assert np.isfinite(again).all()


def test_pictures_go_through_convolutions_and_come_back_as_they_were(pictures, fitted_to_pictures):
    names = [type(layer).__name__ for layer in fitted_to_pictures.model.encoder.layers]
    assert "Conv2D" in names
    again = fitted_to_pictures.reconstruct(pictures)
    assert again.shape == pictures.shape
    assert again.dtype == np.uint8
    middle = pictures.mean(axis=0)
    assert np.mean((again - pictures.astype(float)) ** 2) < 0.5 * np.mean((middle - pictures) ** 2)
    assert fitted_to_pictures.transform(pictures[..., None]).shape == (120, 8)


def test_pictures_of_floats_with_channels_stay_in_their_units(pictures):
    x = np.stack([pictures, pictures], axis=-1) / 100.0 - 1.0
    coder = Autoencoder(2, hidden=(2, 4), epochs=1, validation_fraction=0.0, random_state=0).fit(x)
    again = coder.reconstruct(x)
    assert again.shape == x.shape
    assert again.dtype == np.float32
    assert coder.scale_ == 2.0
    assert np.abs(again - x).mean() < np.abs(x).mean()


def test_noise_is_learnt_to_be_removed(curve):
    noisy = curve + np.random.default_rng(1).normal(size=curve.shape) * 0.3 * curve.std(axis=0)
    settings = {"hidden": (32,), "epochs": 40, "learning_rate": 1e-2, "batch_size": 32, "random_state": 0}
    plain, denoising = (Autoencoder(3, noise=noise, **settings).fit(curve) for noise in (0.0, 0.3))
    errors = [relative_error(curve, coder.reconstruct(noisy)) for coder in (plain, denoising)]
    assert errors[1] < 0.9 * errors[0]


def test_saving_and_loading_change_nothing(tmp_path, curve, fitted, fitted_to_pictures, variational, pictures):
    for coder, x in ((fitted, curve), (fitted_to_pictures, pictures), (variational, curve)):
        coder.save(tmp_path / "coder.safetensors")
        again = load(tmp_path / "coder.safetensors")
        assert type(again) is type(coder)
        assert (again.transform(x) == coder.transform(x)).all()
        assert (again.reconstruct(x) == coder.reconstruct(x)).all()
        assert again.score(x) == coder.score(x)


@pytest.mark.parametrize("kind", [Autoencoder, VariationalAutoencoder])
def test_the_same_seed_gives_the_same_bytes(kind, curve):
    def codes(seed):
        coder = kind(2, hidden=(), epochs=1, validation_fraction=0.0, batch_size=30, random_state=seed)
        return coder.fit(curve).transform(curve).tobytes()

    assert codes(1) == codes(1) != codes(2)


def test_warm_start_goes_on(curve, fitted):
    coder = Autoencoder(1, hidden=(32,), epochs=3, batch_size=32, warm_start=True, random_state=0).fit(curve)
    first = coder.history_["loss"][0]
    assert coder.fit(curve).history_["loss"][0] < first
    assert clone(coder).get_params() == coder.get_params()


def test_training_stops_early_and_keeps_its_best_epoch(curve):
    coder = Autoencoder(1, hidden=(), epochs=50, patience=2, learning_rate=0.5, random_state=0).fit(curve)
    assert coder.n_iter_ < 50


@pytest.mark.parametrize(("shape", "hidden"), [((5,), (128, 64)), ((28, 28, 1), (16, 32, 128)), ((3, 3, 1), (128,))])
def test_layers_are_chosen_by_the_shape(shape, hidden):
    assert default_hidden(shape) == hidden


@pytest.mark.parametrize(
    "settings",
    [
        {"n_components": 0},
        {"hidden": (3, 0)},
        {"noise": -1.0},
        {"epochs": 0},
        {"batch_size": 2.5},
        {"learning_rate": 0.0},
        {"validation_fraction": 1.0},
        {"patience": -1},
        {"verbose": "loud"},
        {"random_state": -1},
    ],
)
def test_settings_out_of_range_are_named(curve, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Autoencoder(**settings).fit(curve)


def test_bad_data_are_told(tmp_path, curve, pictures, fitted, fitted_to_pictures):
    with pytest.raises(ShapeError, match=r"fitted on \(10, 9, 1\)"):
        fitted_to_pictures.transform(np.zeros((2, 8, 8), "uint8"))
    with pytest.raises(ShapeError, match=r"codes of shape \(n, 1\)"):
        fitted.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(DataError, match="2 shapes"):
        Autoencoder().fit([np.zeros((8, 8)), np.zeros((8, 9))])
    with pytest.raises(DataError, match="NaN"):
        Autoencoder().fit(np.full((3, 8, 8), np.nan))
    with pytest.raises(DataError, match="no folder"):
        Autoencoder().fit(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no pictures in this folder"):
        Autoencoder().fit(tmp_path)
    with pytest.raises(ConfigError, match="hidden"):
        Autoencoder(hidden=()).fit(pictures)
    with pytest.raises(DataError, match="trained on whole numbers from 0 to 255"):
        fitted_to_pictures.transform(pictures / 255)


def test_bad_tables_are_told(curve, fitted):
    texts = pd.DataFrame(curve, columns=["a", "b", "c"]).astype({"b": object})
    texts.loc[3, "b"] = "old"
    for kind in (Autoencoder, VariationalAutoencoder):
        with pytest.raises(DataError, match=r"X, column 'b', row 4: expected a number: 'old'.\n.*get_dummies"):
            kind().fit(texts)
    with pytest.raises(DataError, match=r"X\[3, 1\]: expected a number: 'old'"):
        fitted.transform(texts.to_numpy(object))
    with pytest.raises(ValueError, match="X has 2 features, but Autoencoder is expecting 3"):
        fitted.transform(curve[:, :2])
    with pytest.raises(ValueError, match="contains NaN"):
        Autoencoder().fit(np.where(curve > 0, np.nan, curve))
    with pytest.raises(ConfigError, match=r"Write:  hidden=\(8,\)"):
        Autoencoder(hidden=8).fit(curve)


def test_settings_changed_after_fit_change_nothing_before_the_next(curve, fitted, variational):
    changed = pickle.loads(pickle.dumps(fitted)).set_params(n_components=3)
    np.testing.assert_array_equal(changed.inverse_transform(changed.transform(curve)), fitted.reconstruct(curve))
    changed = pickle.loads(pickle.dumps(variational)).set_params(n_components=3)
    np.testing.assert_array_equal(changed.sample(4), variational.sample(4))
    assert changed.transform(curve).shape == (300, 2)


def test_the_variational_one_draws_rows_like_those_it_saw(curve, variational):
    drawn = variational.sample(300)
    assert drawn.shape == (300, 3)
    together = np.corrcoef(drawn.T) - np.corrcoef(curve.T)
    assert np.abs(together).max() < 0.3 < np.corrcoef(curve.T)[0, 2]
    assert np.all(drawn.std(axis=0) > 0.5 * curve.std(axis=0))
    assert (variational.sample(300) == drawn).all()


def test_its_codes_are_spread_like_a_normal_distribution(curve, variational):
    settings = variational.get_params() | {"beta": 0.0, "epochs": 10, "validation_fraction": 0.0}
    loose = VariationalAutoencoder(**settings).fit(curve)
    assert variational.history_["kl_loss"][-1] < loose.history_["kl_loss"][-1]
    assert np.all(np.abs(variational.transform(curve).mean(axis=0)) < 0.5)


def test_its_losses_are_kept_and_the_weight_warms_up(variational):
    history = variational.history_
    for name in ("loss", "reconstruction_loss", "kl_loss", "squared_error", "val_loss", "val_kl_loss"):
        assert len(history[name]) == 40
    assert history["beta"][0] < 0.2
    assert history["beta"][-1] == pytest.approx(1.0)
    last = {name: values[-1] for name, values in history.items()}
    assert last["loss"] == pytest.approx(last["reconstruction_loss"] + last["kl_loss"], rel=1e-4)


def test_its_settings_are_checked(curve, variational):
    with pytest.raises(ConfigError, match="beta"):
        VariationalAutoencoder(beta=-1.0).fit(curve)
    with pytest.raises(ConfigError, match="warmup"):
        VariationalAutoencoder(warmup=2.0).fit(curve)
    with pytest.raises(ConfigError, match="n_samples"):
        variational.sample(0)


def test_scikit_learn_finds_nothing_wrong():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the checks provoke on purpose
        results = check_estimator(
            Autoencoder(hidden=(), epochs=1, validation_fraction=0.0), on_fail="raise", on_skip=None
        )
    skipped = [result["check_name"] for result in results if result["status"] == "skipped"]
    assert set(skipped) <= {"check_array_api_input"}
