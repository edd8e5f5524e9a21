import math
import os
import pickle
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone

import lamina as lm
from lamina.core.errors import ConfigError, DataError, FileError, ShapeError, StateError
from lamina.core.keys import chances
from lamina.families import TransformerClassifier, TransformerLanguageModel
from lamina.families.base import load
from lamina.families.tokenizer import (
    END,
    UNKNOWN,
    CharacterTokenizer,
    SubwordTokenizer,
    read_texts,
    texts_in,
    tokenizer_from,
)
from lamina.families.transformer_classifier import hidden
from lamina.families.transformer_network import LanguageModel, TextVectors, Transformer, writable
from lamina.kernels.drawing import draw

VERSE = "to be or not to be, that is the question. " * 30
SMALL = {"layers": 1, "width": 32, "heads": 2, "context": 16, "batch_size": 16, "verbose": 0, "random_state": 0}


def language_model(**changes):
    return TransformerLanguageModel(**SMALL | {"epochs": 40, "learning_rate": 1e-2} | changes)


@pytest.fixture(scope="module")
def poet():
    return language_model().fit(VERSE)


# -- tokenizers --------------------------------------------------------------------------------------------------------


def test_characters_have_one_token_each_and_come_back():
    tokenizer = CharacterTokenizer.train(["hello", "wörld"])
    tokens = tokenizer.encode(["hello wörld"])[0]
    assert tokens[0] == END
    assert tokens[6] == UNKNOWN  # the space
    assert tokenizer.decode(tokens) == "hellowörld"
    assert tokenizer.encode([""])[0].tolist() == [END]
    assert tokenizer.encode(["hello"], limit=3)[0].tolist() == tokens[:3].tolist()


def test_byte_pairs_hold_any_text_and_keep_to_their_size():
    tokenizer = SubwordTokenizer.train([VERSE], 280)
    assert tokenizer.size == 280
    text = "to be  or 東京 <end>\n"
    tokens = tokenizer.encode([text])[0]
    assert tokens[0] == END
    assert END not in tokens[1:]
    assert tokenizer.decode(tokens[1:]) == text
    assert len(tokenizer.encode(["that is the question"])[0]) < 12
    again = tokenizer_from(tokenizer.to_json())
    assert again.encode([text])[0].tolist() == tokens.tolist()
    assert again.encode([text], limit=3)[0].tolist() == tokens[:3].tolist()


def test_texts_are_lists_of_strings():
    assert texts_in(np.array(["a", ""])) == ["a", ""]
    for column in (np.array([["a"], [""]]), pd.DataFrame({"t": ["a", ""]}), pl.DataFrame({"t": ["a", ""]})):
        assert texts_in(column) == ["a", ""]
    with pytest.raises(DataError, match=r"Write:  \[X\]"):
        texts_in("one text")
    with pytest.raises(DataError, match=r"X\[1\] is None"):
        texts_in(["a", None])
    with pytest.raises(DataError, match="no text"):
        texts_in([])


# -- the network -------------------------------------------------------------------------------------------------------


def test_the_cache_gives_what_the_whole_text_gives():
    model = LanguageModel(Transformer(20, 12, depth=2, width=16, heads=4, causal=True))
    tokens = np.random.default_rng(0).integers(0, 20, (1, 12)).astype("int32")
    model.build((None, 12))
    write = lm.jit(model.transformer.write)
    chance = np.zeros(1, "float32")
    _, at_once = write(model.transformer.empty_caches(), tokens[0], chance, length=12)
    _, caches = write(model.transformer.empty_caches(), tokens[0, :5], chance, length=5)
    for place in range(5, 12):
        _, caches = write(caches, tokens[0, place : place + 1], chance, position=place)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), caches, at_once)


def test_the_likeliest_token_is_that_of_the_whole_text():
    model = LanguageModel(Transformer(20, 12, depth=2, width=16, heads=4, causal=True))
    tokens = np.random.default_rng(0).integers(0, 20, (1, 4)).astype("int32")
    model.build((None, 12))
    numbers = np.int32(3), np.int32(0), np.int32(1)
    drawing = np.zeros(1, "float32"), np.float32(0), None, None, writable(20, True)
    found, caches = model.write(model.transformer.empty_caches(), tokens[0], *numbers, *drawing)
    seen = [*tokens[0, :3].tolist(), int(found[0])]
    numbers = np.int32(1), np.int32(3), np.int32(9)
    drawing = np.zeros(9, "float32"), np.float32(0), None, None, writable(20, False)
    seen += np.asarray(model.write(caches, np.array(seen[-1:], "int32"), *numbers, *drawing)[0]).tolist()
    for at in range(3, 12):
        scores = model.predict(np.array([seen[:at]], "int32"))[0, -1]
        assert seen[at] == np.where(writable(20, at == 3), scores, -np.inf).argmax()


def test_a_causal_network_does_not_look_ahead_and_padding_is_not_seen():
    rows = np.array([[1, 2, 3, 4], [1, 2, 9, 9]], "int32")
    causal = Transformer(10, 8, depth=1, width=8, heads=2, causal=True).predict(rows)
    np.testing.assert_allclose(causal[0, :2], causal[1, :2], atol=1e-6)
    assert np.abs(causal[0, 2:] - causal[1, 2:]).min() > 0.01
    both = Transformer(10, 8, depth=1, width=8, heads=2)
    longer = np.pad(rows[:1], [(0, 0), (0, 2)], constant_values=-1)
    np.testing.assert_allclose(both.predict(longer)[0, :4], both.predict(rows)[0], atol=1e-6)
    for pooling in ("mean", "cls", "last"):
        vectors = TextVectors(both, pooling)
        np.testing.assert_allclose(vectors.predict(longer)[0], vectors.predict(rows)[0], atol=1e-6)
        assert not np.any(vectors.predict(np.full((1, 4), -1, "int32")))


@pytest.mark.parametrize("normalize_first", [True, False])
def test_long_texts_with_padding_are_what_they_are_without(normalize_first):
    rng = np.random.default_rng(0)
    lengths = rng.integers(40, 101, 8)  # with so many rows that padding is left out of the products
    tokens = np.where(np.arange(100) < lengths[:, None], rng.integers(0, 20, (8, 100)), -1).astype("int32")
    model = Transformer(20, 100, depth=2, width=16, heads=2, normalize_first=normalize_first)
    together = model.predict(tokens)
    for row, length in enumerate(lengths[:2]):
        alone = model.predict(tokens[row : row + 1, :length])[0]
        np.testing.assert_allclose(together[row, :length], alone, rtol=0, atol=1e-5)


def test_drawing_keeps_to_temperature_top_k_and_top_p():
    scores = jnp.array([9.0, 9.0, 9.0, 1.0, 3.0, 2.0])

    def all_drawn(*settings, may_end=False):
        writing = jnp.where(writable(6, may_end), scores, -jnp.inf)
        return {int(draw(writing, float(chance), *settings)) for chance in chances(jax.random.key(1), 0, 60)}

    assert all_drawn(1.0, 6, 1.0) == {3, 4, 5}
    assert all_drawn(0.0, 6, 1.0) == {4}
    assert all_drawn(1.0, 2, 1.0) == {4, 5}
    assert all_drawn(1.0, 6, 0.7) == {4, 5}
    assert all_drawn(1.0, 6, 0.5) == {4}
    assert all_drawn(1.0, 6, 1.0, may_end=True) >= {0}


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match="heads that divide the width 10"):
        Transformer(5, 4, width=10, heads=3)
    with pytest.raises(ConfigError, match="vocabulary"):
        Transformer(0, 4)
    with pytest.raises(ConfigError, match="pooling is one of"):
        TextVectors(Transformer(5, 4), "max")
    for shape in ((3,), (1, 4, 2)):
        with pytest.raises(ShapeError, match=r"tokens of shape \(batch, length\); received shape \("):
            Transformer(5, 4, depth=1, width=8, heads=2)(jnp.ones(shape, "int32"))


# -- the language model ------------------------------------------------------------------------------------------------


def test_a_language_model_learns_what_follows(poet):
    assert poet.perplexity(VERSE) < 1.6  # of about 20 characters
    assert poet.generate("to be or not ", max_tokens=12, temperature=0).startswith("to be")
    assert poet.score("question") > poet.score("zzzzzzzz")
    assert poet.steps_ == poet.n_iter_ * 5


def test_score_is_the_mean_over_all_pieces_of_a_text(poet):
    text = "that is the question, or not to be, that is it"
    tokens = poet.tokenizer_.encode([text])[0]
    found = []
    for at in range(0, len(tokens) - 1, 16):
        piece = tokens[at : at + 17]
        shares = jax.nn.log_softmax(poet.model_(piece[None, :-1]))[0]
        found += [float(shares[i, after]) for i, after in enumerate(piece[1:])]
    assert math.isclose(poet.score(text), np.mean(found), rel_tol=1e-4)
    assert math.isclose(poet.perplexity(text), math.exp(-np.mean(found)), rel_tol=1e-3)


def test_generation_is_as_asked_for(poet):
    assert poet.generate("to", max_tokens=0) == ""
    free = {"max_tokens": 40, "random_state": 3, "temperature": 1.5}
    text = poet.generate("to", **free)
    assert len(text) == 40  # longer than the context; one text alone has no end to learn
    assert poet.generate("to", **free) == text
    assert poet.generate("to", **free | {"random_state": 4}) != text
    pieces = list(poet.generate("to", **free, stream=True))
    assert len(pieces) > 1
    assert "".join(pieces) == text
    word = text[5:8]
    before = text[: text.index(word)]
    assert poet.generate("to", **free, stop=word) == before
    assert "".join(poet.generate("to", **free, stop=["never there", word], stream=True)) == before
    greedy = poet.generate("to", max_tokens=40, temperature=0)
    assert poet.generate("to", max_tokens=40, top_k=1) == greedy
    assert poet.generate("to", max_tokens=40, top_p=1e-6) == greedy
    assert poet.generate("to", **free, top_k=10**12) == text
    huge = poet.generate("to", **free | {"random_state": 2**70 + free["random_state"]})  # as in fit
    assert huge == text
    assert len(poet.generate("", max_tokens=5)) == 5
    assert len(poet.generate("§ unknown", max_tokens=5)) == 5
    assert len(poet.generate(VERSE, max_tokens=5)) == 5


def test_nothing_is_compiled_from_token_to_token(poet, caplog):
    poet.generate("to be", max_tokens=30)
    with jax.log_compiles():
        poet.generate("or not to be", max_tokens=40, temperature=0.3, top_k=3, top_p=0.9, random_state=1)
    assert not [record for record in caplog.records if "step" in record.getMessage()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1}, "temperature is"),
        ({"top_p": 0}, "top_p is"),
        ({"top_k": 0}, "top_k is"),
        ({"max_tokens": -1}, "max_tokens is"),
        ({"stop": ""}, "stop is"),
        ({"stop": 3}, "stop is"),
        ({"random_state": -1}, "random_state is"),
    ],
)
def test_generation_refuses_what_it_cannot_do(poet, settings, message):
    with pytest.raises(ConfigError, match=message):
        poet.generate("to", **settings)


def test_texts_come_to_an_end_where_several_were_given():
    model = language_model(epochs=60).fit(["abc", "abc", "abc"] * 40)
    assert model.generate("a", max_tokens=30, temperature=0) == "bc"
    assert model.generate("", max_tokens=30, temperature=0) == "abc"


def test_a_language_model_is_saved_whole(poet, tmp_path):
    poet.save(tmp_path / "poet.safetensors")
    again = load(tmp_path / "poet.safetensors")
    assert again.get_params() == poet.get_params()
    assert again.score(VERSE) == poet.score(VERSE)
    assert again.generate("to", random_state=1) == poet.generate("to", random_state=1)
    assert isinstance(lm.load_model(tmp_path / "poet.safetensors"), LanguageModel)


def test_the_same_seed_gives_the_same_network_and_a_clone_is_unfitted(poet):
    short = {"epochs": 1, "steps_per_epoch": 2, "dropout": 0.1, "validation_fraction": 0.0}
    first, second = (language_model(**short).fit(VERSE) for _ in range(2))
    for a, b in zip(first.model_.get_weights(), second.model_.get_weights(), strict=True):
        assert np.array_equal(a, b)
    other = language_model(**short | {"random_state": 1}).fit(VERSE)
    assert not np.array_equal(other.model_.get_weights()[0], first.model_.get_weights()[0])
    assert not hasattr(clone(poet), "model_")


def test_byte_pairs_files_and_steps(tmp_path):
    (tmp_path / "verse.txt").write_text(VERSE, encoding="utf-8")
    settings = {
        "tokenizer": "bpe",
        "vocabulary_size": 300,
        "epochs": 2,
        "steps_per_epoch": 3,
        "validation_fraction": 0.0,
    }
    from_path = language_model(**settings).fit(tmp_path / "verse.txt")
    assert from_path.steps_ == 6
    assert read_texts(str(tmp_path / "verse.txt")) == [VERSE]
    assert read_texts("word " * 150) == ["word " * 150]  # longer than any name of a file
    assert from_path.vocabulary_ == SubwordTokenizer.train([VERSE], 300).to_json()
    assert from_path.score(VERSE) > math.log(1 / 300)
    with pytest.raises(FileError, match="cannot be read"):
        from_path.fit(tmp_path / "missing.txt")


def test_a_warm_start_goes_on(poet):
    model = language_model(epochs=2, warm_start=True, validation_fraction=0.0).fit(VERSE)
    loss = model.score(VERSE)
    assert model.fit(VERSE).score(VERSE) > loss
    assert model.steps_ == 2 * 2 * 5


@pytest.mark.parametrize(
    ("texts", "changes", "error", "message"),
    [
        ("", {}, DataError, "no text"),
        (["", ""], {}, DataError, "no text"),
        ([1, 2], {}, DataError, "a int"),
        ("short", {}, DataError, r"context=1\)"),
        (VERSE, {"tokenizer": "words"}, ConfigError, "tokenizer is"),
        (VERSE, {"tokenizer": "bpe", "vocabulary_size": 10}, ConfigError, "at least 259"),
        (VERSE, {"width": 30, "heads": 4}, ConfigError, "heads"),
        (VERSE, {"epochs": 0}, ConfigError, "epochs"),
        (VERSE, {"steps_per_epoch": 0}, ConfigError, "steps_per_epoch"),
        (VERSE, {"patience": -1}, ConfigError, "patience"),
        (VERSE, {"learning_rate": 0}, ConfigError, "learning_rate"),
        (VERSE, {"validation_fraction": 1}, ConfigError, "validation_fraction"),
        (VERSE, {"random_state": "a"}, ConfigError, "random_state"),
    ],
)
def test_a_language_model_refuses_what_it_cannot_learn(texts, changes, error, message):
    with pytest.raises(error, match=message):
        language_model(**changes).fit(texts)


# -- the classifier ----------------------------------------------------------------------------------------------------

rng = np.random.default_rng(0)
WEATHER = [" ".join(rng.permutation(["the", "day", "is", "so", word])) for word in ["sunny", "rainy"] * 60]
GOOD = np.array(["good", "bad"] * 60)


def classifier(**changes):
    settings = {"epochs": 25, "learning_rate": 5e-3, "vocabulary_size": 300, "pretrain_epochs": 15}
    return TransformerClassifier(**SMALL | settings | changes)


def test_a_classifier_learns_and_is_saved_whole(tmp_path):
    model = classifier().fit(WEATHER[:80], GOOD[:80])
    assert model.score(WEATHER[80:], GOOD[80:]) == 1
    assert model.classes_.tolist() == ["bad", "good"]
    shares = model.predict_proba([*WEATHER[80:], "", "sunny " * 50])
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(shares[:3], model.predict_proba(WEATHER[80:83]))  # a text's result is its own
    model.save(tmp_path / "weather.safetensors")
    again = TransformerClassifier.load(tmp_path / "weather.safetensors")
    np.testing.assert_array_equal(again.predict_proba(WEATHER), model.predict_proba(WEATHER))
    assert not hasattr(clone(model), "model_")


def test_long_texts_are_read_in_pieces():
    texts = [("the day " * 12 + text)[-90:] for text in WEATHER]  # the word that decides is in the last third or so
    settings = {"tokenizer": "characters", "context": 16, "epochs": 8, "patience": 0}
    models = [classifier(**settings, pieces=pieces).fit(texts[:80], GOOD[:80]) for pieces in (1, 8)]
    scores = [model.score(texts[80:], GOOD[80:]) for model in models]
    assert scores[0] < 0.7
    assert scores[1] > 0.9
    pieces, texts_of = models[1]._pieces(["", "the day", "a" * 40])
    assert [len(piece) for piece in pieces] == [1, 8, 16, 16, 11]
    assert texts_of.tolist() == [0, 1, 2, 2, 2]
    assert len({int(piece[0]) for piece in pieces}) == 1
    shares = models[1].predict_proba(["", "the day", *texts[:3]])
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    with pytest.raises(ConfigError, match="pieces"):
        classifier(pieces=0).fit(texts, GOOD)


def test_pretraining_guesses_hidden_tokens_and_is_where_fit_starts(tmp_path):
    settings = {"learning_rate": 1e-9, "epochs": 1, "validation_fraction": 0.0}
    model = classifier(**settings, pretrain_learning_rate=1e-2).pretrain(WEATHER)
    losses = model.history_["loss"]
    assert losses[-1] < 0.7 * losses[0]
    with pytest.raises(StateError, match="knows no classes yet"):
        model.predict(WEATHER)
    model.save(tmp_path / "pretrained.safetensors")
    table = model.pretrained_.transformer.tokens.embeddings.numpy()
    again = TransformerClassifier.load(tmp_path / "pretrained.safetensors")
    again.fit(WEATHER, GOOD)
    np.testing.assert_allclose(again.model_.vectors.transformer.tokens.embeddings.numpy(), table, atol=1e-5)
    assert again.pretrained_.transformer.tokens.embeddings.numpy().tolist() == table.tolist()
    model.fit(WEATHER, GOOD)
    assert np.array_equal(model.predict_proba(WEATHER), again.predict_proba(WEATHER))  # the same seed, the same bytes


def test_pretraining_that_was_stopped_goes_on_with_the_same_riddles(tmp_path):
    def pretrained(stop=None, **kept):
        def look(epoch, logs):
            if epoch == stop:
                os.kill(os.getpid(), signal.SIGTERM)

        watcher = lm.callbacks.LambdaCallback(on_epoch_end=look)
        model = classifier(pretrain_epochs=3).watch(watcher, **kept).pretrain(WEATHER)
        return model.history_, model.pretrained_.transformer.tokens.embeddings.numpy().tobytes()

    with pytest.raises(SystemExit):
        pretrained(1, checkpoint=tmp_path)
    assert pretrained(checkpoint=tmp_path) == pretrained()


def test_hidden_tokens():
    rows = np.array(
        [[0, 5, 6, 7, 8, 9, 10, 11, 12, 13], [0, 5, -1, -1, -1, -1, -1, -1, -1, -1], [0] + [-1] * 9], "int32"
    )
    counts = np.zeros(4)
    for seed in range(300):
        inputs, answers = hidden(rows, 2, 20, np.random.default_rng(seed))
        assert inputs["places"].shape == answers.shape == (3, 2)
        assert (answers[1:, 1] == -1).all()  # one token to guess in a short text
        for row, places, answer in zip(rows, inputs["places"], answers, strict=True):
            assert (row[places][answer >= 0] == answer[answer >= 0]).all()
        assert answers[1, 0] == 5
        changed = inputs["tokens"] != rows
        assert changed.sum(axis=1).max() <= 2
        assert (inputs["tokens"][rows < 0] == -1).all()
        shown = inputs["tokens"][1, 1]
        counts += [shown == 2, shown == 5, shown not in (2, 5), 1]
    assert 0.72 < counts[0] / 300 < 0.88
    assert 0.05 < counts[1] / 300 < 0.17


def test_class_weights_rare_classes_and_characters():
    y = np.where(np.arange(120) == 7, "rare", GOOD)
    settings = {"tokenizer": "characters", "epochs": 2, "validation_fraction": 0.0}
    heavy = classifier(**settings, class_weight={"good": 20.0}).fit(WEATHER, y).predict_proba(WEATHER)
    assert heavy.shape == (120, 3)
    assert heavy[:, 1].mean() > 0.7


@pytest.mark.parametrize(
    ("x", "y", "changes", "error", "message"),
    [
        (WEATHER, GOOD[:3], {}, ShapeError, "one class for each of 120"),
        (WEATHER, None, {}, DataError, r"Write:  fit\(X, y\)"),
        (WEATHER, ["same"] * 120, {}, DataError, "at least two classes"),
        (WEATHER, ["good", None] * 60, {}, DataError, r"missing classes .* the first is y\[1\]"),
        ([""] * 120, GOOD, {}, DataError, "every text of X is empty"),
        (pd.DataFrame({"a": WEATHER, "b": WEATHER}), GOOD, {}, DataError, r"Write:  X\['a'\]"),
        (WEATHER, GOOD, {"patience": -1}, ConfigError, "patience"),
        (WEATHER, GOOD, {"verbose": "loud"}, ConfigError, "verbose"),
        ("text", ["a"], {}, DataError, "one string"),
        (WEATHER, GOOD, {"class_weight": "even"}, ConfigError, "class_weight"),
        (WEATHER, GOOD, {"class_weight": {"ugly": 2.0}}, ConfigError, "'ugly'"),
        (WEATHER, GOOD, {"pooling": "max"}, ConfigError, "pooling"),
        (WEATHER, GOOD, {"encoder": "missing"}, FileError, "no folder"),
        (WEATHER, GOOD, {"warmup": 2}, ConfigError, "warmup"),
    ],
)
def test_a_classifier_refuses_what_it_cannot_learn(x, y, changes, error, message):
    with pytest.raises(error, match=message):
        classifier(**changes).fit(x, y)


def test_a_saved_estimator_is_read_by_a_process_that_has_imported_nothing(poet, tmp_path):
    poet.save(tmp_path / "poet.safetensors")
    code = f"from lamina.families import load; print(load({str(tmp_path / 'poet.safetensors')!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("TransformerLanguageModel(")


def test_copies_hold_their_networks(poet):
    again = pickle.loads(pickle.dumps(poet))
    assert again.score(VERSE) == poet.score(VERSE)
