"""What holds for every family."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from lamina import families
from lamina.core.errors import ConfigError, DataError
from lamina.families.base import above_zero, refuse_text, share, wholes
from lamina.families.labels import class_weights, encoded

FAMILIES = [getattr(families, name) for name in families.__all__ if name != "load"]
PICTURES = np.zeros((1, 8, 8), "uint8")
#: what can be asked of a fitted estimator only
USES = {
    "predict": {"RNNClassifier": ["a"], "TransformerClassifier": ["a"], "FCNNClassifier": [[0.0]], "FCNNRegressor": [[0.0]]},
    "score": {"RNNLanguageModel": "ab", "TransformerLanguageModel": "ab", "Autoencoder": [[0.0]], "RNNForecaster": [0.0]},
    "transform": {"Autoencoder": [[0.0]], "VariationalAutoencoder": [[0.0]], "TransformerEncoder": ["a"]},
    "sample": {"GAN": 1, "VariationalAutoencoder": 1},
    "upscale": {"SuperResolution": PICTURES},
    "generate": {"RNNLanguageModel": "a", "TransformerLanguageModel": "a"},
    "inverse_transform": {"Autoencoder": [[0.0]]},
}  # fmt: skip


@pytest.mark.parametrize("kind", FAMILIES)
def test_settings_are_those_of_scikit_learn(kind):
    estimator = kind()
    assert clone(estimator).get_params() == estimator.get_params()
    if "random_state" in estimator.get_params():
        assert {"validation_fraction", "patience"} <= set(estimator.get_params()) or kind.__name__ == "GAN"
        assert {"epochs", "batch_size", "learning_rate", "verbose", "warm_start"} <= set(estimator.get_params())
        assert estimator.set_params(random_state=3).random_state == 3
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        estimator.set_params(nonsense=1)


@pytest.mark.parametrize("kind", FAMILIES)
def test_scikit_learn_knows_them(kind):
    tags = get_tags(kind())
    for tag, name in (("classifier", "Classifier"), ("regressor", "Regressor")):
        assert (tags.estimator_type == tag) == kind.__name__.endswith(name)
    assert (tags.transformer_tags is not None) == hasattr(kind, "transform")
    assert repr(kind()) == f"{kind.__name__}()"
    assert kind.__name__ in kind()._repr_html_()
    if "random_state" in kind().get_params():
        assert repr(kind(verbose=0, random_state=3)) == f"{kind.__name__}(random_state=3, verbose=0)"
        twin = pickle.loads(pickle.dumps(kind(random_state=3)))
        assert twin.get_params() == kind(random_state=3).get_params()


@pytest.mark.parametrize(("use", "name"), [(use, name) for use, names in USES.items() for name in names])
def test_nothing_is_asked_of_what_is_not_fitted(use, name, tmp_path):
    estimator = getattr(families, name)()
    with pytest.raises(NotFittedError):
        getattr(estimator, use)(USES[use][name])
    with pytest.raises(NotFittedError):
        estimator.save(tmp_path / "m.safetensors")
    with pytest.raises(NotFittedError):
        estimator.model  # noqa: B018


def test_arguments_are_checked_by_name():
    assert wholes("hidden", (3, np.int64(4))) == [3, 4]
    with pytest.raises(ConfigError, match=r"hidden is several whole numbers; received 8.\nWrite:  hidden=\(8,\)"):
        wholes("hidden", 8)
    with pytest.raises(ConfigError, match="every number in hidden is a whole number of at least 1; received 0"):
        wholes("hidden", (3, 0))
    for value in (0, -1.0, "fast", True, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="learning_rate is a number above 0"):
            above_zero("learning_rate", value)
    for value in (1, -0.1, "half", None):
        with pytest.raises(ConfigError, match="validation_fraction is a number from 0 to less than 1"):
            share("validation_fraction", value)


def test_a_text_among_numbers_is_named_by_its_place():
    with pytest.raises(DataError, match=r"X\[1, 0\]: expected a number: 'old'.\nWrite"):
        refuse_text([[1, 2], ["old", 3]], "X", "Write it out.")
    refuse_text([[1, 2], ["3", 4]], "X", "")  # numbers in text are numbers


def test_classes_of_before_stay():
    before = np.array(["a", "b", "c"])
    classes, places = encoded(["c", "a"], 2, before=before)
    assert (classes.tolist(), places.tolist()) == (["a", "b", "c"], [2, 0])
    with pytest.raises(DataError, match=r"those of before: \['a', 'b', 'c'\]; received 'd'"):
        encoded(["c", "d"], 2, before=before)
    assert class_weights("balanced", before, np.array([0, 0, 1])) == {0: 0.5, 1: 1.0, 2: 1.0}
