"""scikit-learn: ``MLPClassifier``, an epoch at a time by ``partial_fit``. Of two classes it weighs one output only."""

import numpy as np
from sklearn.neural_network import MLPClassifier

from benchmarks.data import Arrays
from benchmarks.works import LEARNING_RATE, SEED, Job, Work


def prepare(work: Work, data: Arrays, way: str) -> Job | None:
    x, y = data
    if work.kind == "product":

        def multiply() -> None:
            for _ in range(work.steps):
                x @ x

        return Job(multiply)
    if work.network != "mlp" or work.kind not in ("train", "predict"):
        return None
    model = MLPClassifier(
        work.size["hidden"],
        batch_size=min(work.batch, len(x)),
        alpha=0.0,
        learning_rate_init=LEARNING_RATE,
        random_state=SEED,
    )
    classes = np.arange(work.classes)

    def train() -> float:
        return model.partial_fit(x, y, classes=classes).loss_

    def predict() -> None:
        for _ in range(work.steps):
            model.predict_proba(x)

    if work.kind == "predict":
        train()  # makes the weights
    return Job(
        train if work.kind == "train" else predict, lambda: sum(some.size for some in model.coefs_ + model.intercepts_)
    )
