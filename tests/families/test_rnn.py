import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.core.masks import set_mask
from lamina.families.base import load
from lamina.families.rnn import PoolOverTime, RNNClassifier, RNNForecaster, RNNLanguageModel, words_and_signs
from lamina.families.rnn_forecaster import ForecastNetwork, _rank, numbers, without_the_obvious
from lamina.families.rnn_language import LanguageNetwork, _examples

COMMON = {"units": 4, "random_state": 0, "verbose": 0}
TEXTS = {"embedding": 8, "epochs": 15, "learning_rate": 0.03, "batch_size": 8}


# -- classes of texts and series -----------------------------------------------------------------------------------------


def reviews(count, seed=0):
    """Texts with one telling word among others; "not" before it turns it around."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        good, turned = rng.integers(2, size=2)
        words = list(rng.choice(["this", "film", "was", "one", "I", "saw"], rng.integers(1, 5)))
        words.insert(rng.integers(len(words) + 1), ("not " if turned else "") + ("good!" if good else "bad!"))
        texts.append(" ".join(words))
        labels.append("praise" if good != turned else "blame")
    return texts, labels


@pytest.fixture(scope="module")
def trained():
    return RNNClassifier(**COMMON, **TEXTS).fit(*reviews(200))


def test_the_order_of_words_is_understood(trained):
    texts, labels = reviews(100, seed=1)
    assert trained.score(texts, labels) > 0.9
    p = trained.predict_proba(["not good!", "not bad!", "", "unheard of"])
    assert trained.classes_.tolist() == ["blame", "praise"]
    assert p[0, 0] > 0.5 > p[1, 0]
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)


def test_texts_come_in_any_column(trained):
    texts, _ = reviews(5, seed=2)
    expected = trained.predict_proba(texts)
    frames = [kind({"text": texts}) for kind in (pd.DataFrame, pl.DataFrame)]
    for column in (
        np.array(texts),
        np.array(texts)[:, None],
        pd.Series(texts),
        pl.Series(texts),
        tuple(texts),
        *frames,
    ):
        np.testing.assert_array_equal(trained.predict_proba(column), expected)


def test_a_file_and_a_seed_give_the_same_predictions(trained, tmp_path):
    texts, labels = reviews(200)
    expected = trained.predict_proba(texts[:9])
    trained.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors").predict_proba(texts[:9]), expected)
    np.testing.assert_array_equal(clone(trained).fit(texts, labels).predict_proba(texts[:9]), expected)


def rising(count, seed=0):
    rng = np.random.default_rng(seed)
    signs = rng.integers(3, size=count)
    return [np.cumsum(rng.normal((s - 1) * 2, 1, rng.integers(3, 9)))[:, None] for s in signs], signs + 10


def test_series_of_unequal_lengths():
    x, y = rising(80)
    settings = COMMON | {"cell": "lstm", "bidirectional": False, "epochs": 20, "learning_rate": 0.03, "batch_size": 8}
    model = RNNClassifier(**settings, class_weight="balanced", dropout=0.0, validation_fraction=0).fit(x, y)
    assert model.classes_.tolist() == [10, 11, 12]
    assert model.score(*rising(60, seed=1)) > 0.8
    # the padding of others changes nothing, nor do longer series than those of training
    alone = np.concatenate([model.predict_proba([one]) for one in x[:4]])
    np.testing.assert_allclose(model.predict_proba([*x[:4], np.zeros((12, 1))])[:4], alone, rtol=1e-5)
    with pytest.raises(ShapeError, match="1 features; received series with 2"):
        model.predict(np.zeros((2, 5, 2)))
    with pytest.raises(DataError, match="trained on series"):
        model.predict(["text"])
    table = np.zeros((2, 5))
    np.testing.assert_array_equal(model.predict_proba(pd.DataFrame(table)), model.predict_proba(table))
    model.set_params(warm_start=True)
    with pytest.raises(DataError, match="class '10' has 1 example"):
        clone(model).fit(x, np.where(np.arange(80) == 3, 10, 11))
    with pytest.raises(DataError, match=r"those of before: \[10, 11, 12\]; received 13"):
        model.fit(x, y + 1)


def test_pooling_sees_only_the_steps_that_count():
    x = jnp.array([[[1.0, -5.0], [3.0, -7.0], [99.0, 99.0]], [[1.0, 1.0]] * 3])
    set_mask(x, jnp.array([[True, True, False], [False] * 3]))
    assert PoolOverTime()(x).tolist() == [[3, -5, 2, -6], [0, 0, 0, 0]]


def test_signs_are_words():
    assert words_and_signs(np.array(["Win $100 NOW!!"], object)).tolist() == ["win $ 100 now ! !"]


@pytest.mark.parametrize(
    ("x", "change", "error", "words"),
    [
        ("a text", {}, DataError, "a list of texts"),
        (["a", None, "b", "c"], {}, DataError, r"X\[1\] is None"),
        ([float("nan"), "a", "b", "c"], {}, DataError, r'X\[0\] is nan, a float.\nWrite ""'),
        ([""] * 4, {}, DataError, "every text is empty"),
        (pd.DataFrame({"a": ["x"] * 4, "b": ["y"] * 4}), {}, DataError, r"columns \['a', 'b'\].\nWrite:  X\['a'\]"),
        (["a"] * 4, {"patience": -1}, ConfigError, "patience"),
        (["a"] * 4, {"learning_rate": 0}, ConfigError, "learning_rate"),
        ([[1.0], [2.0], [3.0], ["b"]], {}, DataError, "to hold numbers"),
        (np.full((4, 3, 1), np.nan), {}, DataError, "NaN"),
        ([np.zeros((3, 1)), np.zeros((3, 2))] * 2, {}, ShapeError, "has 1 features a step"),
        (np.zeros((4, 3, 1, 1)), {}, ShapeError, "steps, features"),
        (4, {}, DataError, "texts or series are expected"),
        (["a"] * 4, {"cell": "gro"}, ConfigError, "Did you mean 'gru'"),
        (["a"] * 4, {"units": 0}, ConfigError, "units"),
        (["a"] * 3, {}, ShapeError, "each of 3 examples"),
    ],
)
def test_mistakes_of_classifiers_are_named(x, change, error, words):
    with pytest.raises(error, match=words):
        RNNClassifier(**COMMON | change).fit(x, [0, 1, 0, 1])


# -- forecasts -----------------------------------------------------------------------------------------------------------

FORECAST = COMMON | {"members": 2, "epochs": 40, "learning_rate": 0.01}


def growing(steps, seed=0, noise=0.2):
    t = np.arange(steps)
    return 100 + 0.3 * t + np.array([0.0, 5.0, -3.0, 1.0])[t % 4] + np.random.default_rng(seed).normal(0, noise, steps)


@pytest.fixture(scope="module")
def forecaster():
    return RNNForecaster(horizon=6, window=8, season=4, trend=True, **FORECAST).fit(growing(200)[:150])


def test_seasons_and_growth_are_followed(forecaster):
    y = growing(200)
    found, truth = forecaster.backtest(y, start=150)
    assert found.shape == truth.shape == (45, 6)
    np.testing.assert_array_equal(truth[3], y[153:159].astype("float32"))
    naive = np.stack([y[t - 4 + np.arange(6) % 4] for t in range(150, 195)])
    assert np.abs(found - truth).mean() < 0.5 * np.abs(naive - truth).mean()
    assert np.abs(found - truth).mean() < 0.4
    assert forecaster.score(y) > 0.99
    # by default, forecasts follow the training series
    np.testing.assert_allclose(forecaster.predict(), found[0], rtol=1e-6)
    np.testing.assert_allclose(forecaster.predict(y[:160]), found[10], rtol=1e-6)


def test_intervals_hold_as_often_as_they_say(forecaster):
    y = growing(2000, seed=1)[:1000]
    found, truth = forecaster.backtest(y)
    for level in (0.5, 0.8):
        low, high = forecaster.predict_interval(level, y[:200])
        middle = forecaster.predict(y[:200])
        np.testing.assert_allclose(middle - low, high - middle, rtol=1e-6)
        covered = np.mean(np.abs(found - truth) <= (high - low) / 2)
        assert abs(covered - level) < 0.2
    with pytest.raises(ConfigError, match="needs at least 99 windows in the validation part; there are 13"):
        forecaster.predict_interval(0.99)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        forecaster.predict_interval(90)
    with pytest.raises(DataError, match=r"y has 5 steps; the network looks at the last 12.\nGive the series from"):
        forecaster.predict(y[:5])
    with pytest.raises(DataError, match="y has 15 steps; a window of 12 and 6 steps ahead need at least 18"):
        forecaster.backtest(y[:15])
    assert [next(n for n in range(1, 100) if _rank(n, level) <= n) for level in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]


def test_a_forecaster_and_its_file_agree(forecaster, tmp_path):
    forecaster.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(), forecaster.predict())
    np.testing.assert_array_equal(again.predict_interval(0.8), forecaster.predict_interval(0.8))
    np.testing.assert_array_equal(clone(forecaster).fit(growing(200)[:150]).predict(), forecaster.predict())
    np.testing.assert_array_equal(again.set_params(horizon=2).predict(), forecaster.predict())  # until the next fit


def test_several_series_and_known_inputs():
    rng = np.random.default_rng(0)
    price = rng.normal(size=140)
    y = pd.DataFrame({"sold": 20 - 3 * price, "left": 5 + 3 * price})
    x = pl.DataFrame({"price": price})
    model = RNNForecaster(horizon=2, window=3, **FORECAST | {"epochs": 80, "cell": "lstm"}).fit(y[:120], x[:120])
    found = model.predict(X_future=x[120:122])
    assert found.shape == (2, 2)
    np.testing.assert_allclose(found, y[120:122], atol=1.0)
    np.testing.assert_allclose(model.backtest(y, x, start=120)[0][0], found, rtol=1e-5)
    with pytest.raises(DataError, match="those of the next 2 steps are needed"):
        model.predict()
    with pytest.raises(ShapeError, match=r"shape \(2,\) or \(2, columns\)"):
        model.predict(X_future=x[120:125])
    with pytest.raises(DataError, match=r"X_future has the columns \['cost'\]; fit got \['price'\]"):
        model.predict(X_future=x[120:122].rename({"price": "cost"}))
    with pytest.raises(DataError, match="needed beside y"):
        model.predict(y[:50], X_future=x[50:52])
    with pytest.raises(ShapeError, match="y has 1 columns; fit got 2"):
        model.predict(np.zeros(50), x[:50], X_future=x[50:52])


def test_missing_values_are_filled_in():
    assert numbers("y", pl.Series([None, 1.0, None, 2.0]))[:, 0].tolist() == [1, 1, 1.5, 2]
    assert numbers("y", pd.Series([1, None, 3], dtype="Int64"))[:, 0].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="column 1 of y holds no value"):
        numbers("y", [[1.0, np.nan], [2.0, np.nan]])


def test_what_is_obvious_is_forecast_without_learning():
    past = growing(20, noise=0)[None, :, None]
    changes, ahead = without_the_obvious(past[:, :12], 8, 4, True)
    np.testing.assert_allclose(ahead, past[:, 12:], rtol=1e-6)
    np.testing.assert_allclose(changes, 0, atol=1e-6)
    assert without_the_obvious(past, 2, None, True)[1].tolist() == [[[past[0, -1, 0]]] * 2]
    network = ForecastNetwork(8, 4, True, [0.0], [1.0], [], [], units=2, members=1)
    np.testing.assert_allclose(network({"past": past[:, :12].astype("float32")})[:, 0], past[:, 12:], rtol=1e-5)


@pytest.mark.parametrize(
    ("y", "change", "error", "words"),
    [
        (
            np.arange(10.0),
            {"window": 20},
            DataError,
            "y has 10 steps; a window of 20 and 3 steps ahead need at least 24",
        ),
        (
            np.arange(23.0),
            {"window": 20},
            DataError,
            "y has 23 steps; a window of 20 and 3 steps ahead need at least 24",
        ),
        (["a", "b"], {}, DataError, r"y\[0\]: expected a number: 'a'"),
        (pd.DataFrame({"n": [1, "b"]}), {}, DataError, "y, column 'n', row 2: expected a number: 'b'"),
        ([np.arange(9.0), np.arange(5.0)], {}, DataError, "several series are the columns of one array"),
        (pd.DataFrame({"day": pd.to_datetime(["2020-01-01"] * 50)}), {}, DataError, "column 'day' holds dates"),
        (
            pl.DataFrame({"day": pl.Series(["2020-01-01"] * 50).str.to_date(), "n": range(50)}),
            {},
            DataError,
            "holds dates",
        ),
        (np.arange(50.0), {"patience": -1}, ConfigError, "patience"),
        (np.full(50, np.inf), {}, DataError, "infinity, in step 0"),
        (np.zeros((50, 2, 2)), {}, ShapeError, "expected to have shape"),
        (np.arange(50.0), {"horizon": 0}, ConfigError, "horizon"),
        (np.arange(50.0), {"season": 1}, ConfigError, "season"),
        (np.arange(50.0), {"cell": "rnn"}, ConfigError, "cell='rnn'"),
        (np.arange(50.0), {"validation_fraction": 1}, ConfigError, "validation_fraction"),
    ],
)
def test_mistakes_of_forecasters_are_named(y, change, error, words):
    with pytest.raises(error, match=words):
        RNNForecaster(**COMMON | {"horizon": 3} | change).fit(y)


# -- language ------------------------------------------------------------------------------------------------------------

LANGUAGE = {
    "units": 24,
    "embedding": 8,
    "length": 11,
    "epochs": 40,
    "learning_rate": 0.02,
    "random_state": 0,
    "verbose": 0,
}
RHYME = "one two three four five " * 30


@pytest.fixture(scope="module")
def writer():
    return RNNLanguageModel(**LANGUAGE).fit(RHYME)


def test_it_writes_on(writer):
    assert writer.generate("one two", 12, temperature=0) == " three four "
    assert len(writer.generate("", 30)) == 30
    assert writer.generate("one two", 12, top_k=1) == " three four "
    assert writer.generate("one two", 40, temperature=0, stop="four") == " three "
    assert "".join(writer.generate("one two", 12, temperature=0, stream=True)) == " three four "
    assert writer.score(RHYME) > -0.3
    assert writer.score("xx") < -3
    assert writer.score("eviv ruof eerht owt") < writer.score("two three four five")


def test_the_seed_and_the_temperature_of_writing(writer):
    assert writer.generate("o", 40, random_state=1) == writer.generate("o", 40, random_state=1)
    wild = {writer.generate("o", 40, temperature=3.0, random_state=i) for i in range(4)}
    assert len(wild) == 4
    assert set("".join(wild)) <= set(RHYME)
    with pytest.raises(ConfigError, match="temperature"):
        writer.generate("o", temperature=-1)
    with pytest.raises(ConfigError, match="max_tokens"):
        writer.generate("o", -1)
    with pytest.raises(DataError, match="prompt"):
        writer.generate(3)


def test_the_state_carries_all_that_came_before(writer):
    tokens = jnp.asarray(writer._numbers(list("one two three")))[None]
    whole = writer.model_(tokens)
    states, scores = writer.model_.start(), []
    for i in range(tokens.shape[1]):
        out, states = writer.model_.scores(tokens[:, i : i + 1], states)
        scores.append(out[:, 0])
    np.testing.assert_allclose(jnp.stack(scores, 1), whole, atol=1e-5)


def test_a_writer_and_its_file_agree(writer, tmp_path):
    writer.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.generate("th", 20, random_state=1) == writer.generate("th", 20, random_state=1)
    assert again.score(RHYME) == writer.score(RHYME)


def test_words_are_joined_as_they_were():
    model = RNNLanguageModel(**LANGUAGE | {"level": "word", "cell": "lstm", "layers": 2}, max_tokens=5).fit([RHYME] * 2)
    assert len(model.tokens_) == 6
    assert model._split("Ah, well!\nSo") == ["Ah", ",", " well", "!", "\n", "So"]
    text = model.generate("one two", 4, temperature=0)
    assert set(text.split()) <= {"one", "two", "three", "four", "five"}
    assert text.startswith(" ")
    assert model.set_params(level="character").generate("one two", 4, temperature=0) == text  # until the next fit


def test_pieces_cover_every_token_once():
    x, y = _examples(np.arange(11), 4, overlap=True)
    assert x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [6, 7, 8, 9]]
    assert y.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [-1, -1, 9, 10]]
    assert _examples(np.arange(9), 4)[1].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert LanguageNetwork(5, units=3, depth=2)(jnp.zeros((2, 4), "int32")).shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("x", "change", "error", "words"),
    [
        ("", {}, DataError, "the text is empty"),
        ("short", {}, DataError, "5 tokens to learn from; at least length"),
        (["a", 1], {}, DataError, r"X\[1\] is 1, a int"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), {}, DataError, "one column of texts"),
        (RHYME, {"verbose": "loud"}, ConfigError, "verbose"),
        (RHYME, {"level": "byte"}, ConfigError, "level"),
        (RHYME, {"cell": "lst"}, ConfigError, "Did you mean 'lstm'"),
    ],
)
def test_mistakes_of_writers_are_named(x, change, error, words):
    with pytest.raises(error, match=words):
        RNNLanguageModel(**LANGUAGE | {"validation_fraction": 0.0} | change).fit(x)
