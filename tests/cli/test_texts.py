"""A text to go on with, and texts to tell apart."""

import csv

import numpy as np
import pytest

from tests.cli.conftest import TINY


@pytest.fixture(scope="module")
def book(place, at):
    (place / "book.txt").write_text("to be or not to be, that is the question. " * 20)
    return at("train", "book.txt", "--epochs", "1", "--batch-size", "4", *TINY["transformer"])


def test_a_text_from_training_to_writing(book, place, at):
    assert "840 characters of text, 15 different ones: a transformer that goes on writing" in book
    assert "Other families that fit (--family): rnn." in book
    assert len((place / "runs/book/sample.txt").read_text()) == 500
    assert 1 < float(at("evaluate", "runs/book", "book.txt").split("perplexity ")[1].split(",")[0]) < 20
    first, again = (at("generate", "runs/book", "--prompt", "to be", "--length", "20", "--seed", "3") for _ in range(2))
    assert first == again
    assert first.startswith("to be")
    assert len(first) == 26
    assert len(at("generate", "runs/book", "--length", "9", "--top-k", "3", "--stop", "xyz")) == 10


def test_few_words_are_gone_through_more_often(place):
    from lamina.cli.work import find_work

    work, text, _ = find_work(place / "book.txt", None, "rnn")
    learnt, unseen = work.split(text, None, 0)
    assert (len(learnt), len(unseen)) == (672, 168)
    assert work.estimator({}, learnt, unseen).epochs == 300  # 500 steps of 3,200 characters would be more
    assert work.estimator({"epochs": 2}, learnt, unseen).epochs == 2


def test_a_recurrent_network_writes_too(book, at):
    small = ("--set", "units=8", "--set", "embedding=4", "--set", "length=16", "--epochs", "1")
    out = at("train", "book.txt", "--family", "rnn", "--out", "runs/rnn", *small)
    assert "a recurrent network (RNN) that goes on writing" in out
    assert len(at("generate", "runs/rnn", "--prompt", "to", "--length", "9")) == 12
    assert len(at("generate", "runs/rnn", "--length", "9", "--top-k", "3", "--stop", "xyz")) == 10


def test_a_text_is_not_predicted_or_drawn(book, wrong):
    assert wrong("predict", "runs/book", "book.txt") == (
        "lamina predict is not for a model that goes on with a text. Write:  lamina generate RUN"
    )
    assert wrong("generate", "runs/book", "--count", "3") == "--count is not for a model that goes on with a text"
    assert "Write:  lamina generate RUN" in wrong("forecast", "runs/book")
    assert "Write:  lamina generate RUN" in wrong("reduce", "runs/book", "book.txt")
    assert "Write:  lamina generate RUN" in wrong("upscale", "runs/book", "book.txt")


@pytest.fixture(scope="module")
def mails(place, at):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        told = rng.choice([["prize", "winner", "money"], ["meeting", "report", "monday"]][i % 2], 3)
        words = rng.permutation([*told, *rng.choice(["the", "a", "of", "to", "and", "with", "in", "for"], 6)])
        rows.append(f'{i * i},"{" ".join(words)}","{" ".join(words[:3])} {i}",{["spam", "ham"][i % 2]}')
    (place / "mails.csv").write_text("\n".join(["size,body,subject,kind", *rows]) + "\n")
    return at("train", "mails.csv", "--target", "kind", *TINY["texts"])


def test_free_text_is_told_apart_by_a_recurrent_network(mails, place, at):
    assert (
        "body is free text, about 9 words long: a recurrent network (RNN) that tells the 2 classes of kind apart"
        in mails
    )
    assert "not learnt from: size, subject" in mails
    assert "Other families that fit (--family): transformer, fcnn." in mails
    assert (place / "runs/mails/confusion.png").is_file()
    assert float(at("evaluate", "runs/mails", "mails.csv").split("accuracy ")[1].split(",")[0]) > 0.9
    (place / "new.csv").write_text("body\nthe winner of a prize\nmonday meeting\n\n,\n".replace("\n\n,\n", "\n"))
    at("predict", "runs/mails", "new.csv", "--out", "kinds.csv")
    with (place / "kinds.csv").open() as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == ["spam", "ham"]
    assert "kind (classification) from the text in body" in at("inspect", "runs/mails")


def test_short_texts_are_learnt_from_where_there_is_nothing_else(mails, place):
    from lamina.cli.work import find_work

    (place / "short.csv").write_text("line,kind\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(40)))
    work, examples, others = find_work(place / "short.csv", "kind", None)
    assert (work.family, others) == ("rnn", ["transformer", "fcnn"])
    assert examples.x[3] == "word 3"
    (place / "names.csv").write_text(
        "name,age,kind\n" + "".join(f"Ann Lee {i},{i % 7},{'ab'[i % 2]}\n" for i in range(40))
    )
    work, _, others = find_work(place / "names.csv", "kind", None)
    assert (work.family, others) == ("fcnn", ["rnn", "transformer"])
    work, _, _ = find_work(place / "mails.csv", "kind", "transformer")
    assert work.estimator_class().__name__ == "TransformerClassifier"


def test_wrong_use(mails, place, wrong):
    (place / "sizes.csv").write_text("size,kind\n1,spam\n")
    assert "no column 'body'" in wrong("predict", "runs/mails", "sizes.csv")
    (place / "other.csv").write_text("body,kind\nhello,eggs\n")
    assert "not one of the classes learnt: 'eggs'" in wrong("evaluate", "runs/mails", "other.csv")
    assert "Write:  lamina predict RUN DATA" in wrong("generate", "runs/mails")
