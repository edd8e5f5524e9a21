"""Every metric that is compared with Keras: the name of a case, the class, its arguments and the kind of data."""

from typing import Any

import numpy as np

Case = tuple[str, dict[str, Any], str]
UPDATES, BATCH, CLASSES = 3, 12, 4

CASES: dict[str, Case] = {
    "accuracy": ("Accuracy", {}, "sparse_pairs"),
    "binary_accuracy": ("BinaryAccuracy", {"threshold": 0.4}, "labels"),
    "categorical_accuracy": ("CategoricalAccuracy", {}, "one_hot"),
    "sparse_categorical_accuracy": ("SparseCategoricalAccuracy", {}, "sparse"),
    "sparse_categorical_accuracy-column": ("SparseCategoricalAccuracy", {}, "sparse_column"),
    "top_k": ("TopKCategoricalAccuracy", {"k": 2}, "one_hot"),
    "sparse_top_k": ("SparseTopKCategoricalAccuracy", {"k": 3}, "sparse"),
    "mse": ("MeanSquaredError", {}, "numbers"),
    "rmse": ("RootMeanSquaredError", {}, "numbers"),
    "mae": ("MeanAbsoluteError", {}, "numbers"),
    "mape": ("MeanAbsolutePercentageError", {}, "numbers"),
    "msle": ("MeanSquaredLogarithmicError", {}, "positive"),
    "cosine": ("CosineSimilarity", {}, "numbers"),
    "logcosh": ("LogCoshError", {}, "numbers"),
    "r2": ("R2Score", {}, "numbers"),
    "r2-variance": ("R2Score", {"class_aggregation": "variance_weighted_average"}, "numbers"),
    "r2-each": ("R2Score", {"class_aggregation": None}, "numbers"),
    "r2-adjusted": ("R2Score", {"num_regressors": 5}, "numbers"),
    "pearson": ("PearsonCorrelation", {}, "numbers"),
    "concordance": ("ConcordanceCorrelation", {}, "numbers"),
    "bce": ("BinaryCrossentropy", {"label_smoothing": 0.1}, "labels"),
    "bce-logits": ("BinaryCrossentropy", {"from_logits": True}, "logits"),
    "cce": ("CategoricalCrossentropy", {"label_smoothing": 0.1}, "one_hot"),
    "scce": ("SparseCategoricalCrossentropy", {}, "sparse"),
    "kld": ("KLDivergence", {}, "positive"),
    "poisson": ("Poisson", {}, "positive"),
    "hinge": ("Hinge", {}, "logits"),
    "squared_hinge": ("SquaredHinge", {}, "logits"),
    "categorical_hinge": ("CategoricalHinge", {}, "one_hot"),
    "tp": ("TruePositives", {}, "flat"),
    "fp": ("FalsePositives", {"thresholds": [0.3, 0.6]}, "labels"),
    "tn": ("TrueNegatives", {"thresholds": 0.25}, "labels"),
    "fn": ("FalseNegatives", {"thresholds": [0.7, 0.2]}, "flat"),
    "precision": ("Precision", {}, "flat"),
    "precision-thresholds": ("Precision", {"thresholds": [0.2, 0.5, 0.8]}, "labels"),
    "precision-top_k": ("Precision", {"top_k": 2}, "labels"),
    "precision-class": ("Precision", {"class_id": 1}, "labels"),
    "recall": ("Recall", {}, "flat"),
    "recall-top_k-class": ("Recall", {"top_k": 2, "class_id": 0}, "labels"),
    "sensitivity": ("SensitivityAtSpecificity", {"specificity": 0.4}, "flat"),
    "specificity": ("SpecificityAtSensitivity", {"sensitivity": 0.6}, "flat"),
    "precision_at": ("PrecisionAtRecall", {"recall": 0.3, "num_thresholds": 20}, "flat"),
    "recall_at": ("RecallAtPrecision", {"precision": 0.4, "class_id": 2}, "labels"),
    "auc": ("AUC", {}, "flat"),
    "auc-logits": ("AUC", {"from_logits": True}, "logits"),
    "auc-minoring": ("AUC", {"num_thresholds": 11, "summation_method": "minoring"}, "flat"),
    "auc-pr": ("AUC", {"curve": "PR"}, "flat"),
    "auc-pr-majoring": ("AUC", {"curve": "PR", "summation_method": "majoring", "thresholds": [0.2, 0.5, 0.6]}, "flat"),
    "auc-prgain": ("AUC", {"curve": "PRGAIN", "num_thresholds": 20}, "flat"),
    "auc-labels": ("AUC", {"multi_label": True, "label_weights": [0.1, 0.2, 0.3, 0.4]}, "labels"),
    "auc-labels-pr": ("AUC", {"multi_label": True, "curve": "PR", "num_labels": 4}, "labels"),
    "auc-label_weights": ("AUC", {"label_weights": [0.1, 0.2, 0.3, 0.4]}, "labels"),
    "fbeta": ("FBetaScore", {"beta": 2.0, "threshold": 0.5}, "labels"),
    "fbeta-micro": ("FBetaScore", {"average": "micro", "beta": 0.5}, "one_hot"),
    "f1-macro": ("F1Score", {"average": "macro"}, "one_hot"),
    "f1-weighted": ("F1Score", {"average": "weighted", "threshold": 0.3}, "labels"),
    "iou": ("IoU", {"num_classes": 4, "target_class_ids": [0, 2], "dtype": "float32"}, "sparse_pairs"),
    "binary_iou": ("BinaryIoU", {"target_class_ids": [1], "threshold": 0.4, "dtype": "float32"}, "flat"),
    "mean_iou": ("MeanIoU", {"num_classes": 4, "ignore_class": 1, "dtype": "float32"}, "sparse_pairs"),
    "one_hot_iou": ("OneHotIoU", {"num_classes": 4, "target_class_ids": [1], "dtype": "float32"}, "one_hot"),
    "one_hot_mean_iou": ("OneHotMeanIoU", {"num_classes": 4, "dtype": "float32"}, "one_hot"),
}


def data(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, predictions and weights; the first axis is that of the updates."""
    rng = np.random.default_rng(7)
    shape = (UPDATES, BATCH, CLASSES)
    weights = rng.uniform(0.1, 2, shape[:2]).astype("float32")
    if kind == "numbers":
        y = rng.normal(size=shape)
        return y.astype("float32"), (y + rng.normal(size=shape)).astype("float32"), weights
    if kind == "positive":
        return (*rng.uniform(0.01, 1, (2, *shape)).astype("float32"), weights)
    if kind == "labels":
        return rng.integers(0, 2, shape).astype("float32"), rng.uniform(size=shape).astype("float32"), weights
    if kind == "logits":
        return rng.integers(0, 2, shape).astype("float32"), rng.normal(size=shape).astype("float32"), weights
    if kind == "flat":
        return rng.integers(0, 2, shape[:2]), rng.uniform(size=shape[:2]).astype("float32"), weights
    classes = rng.integers(0, CLASSES, shape[:2])
    if kind == "sparse_pairs":
        return classes, rng.integers(0, CLASSES, shape[:2]), weights
    scores = rng.uniform(0.01, 1, shape).astype("float32")
    scores /= scores.sum(-1, keepdims=True)
    targets = {"sparse": classes, "sparse_column": classes[..., None], "one_hot": np.eye(CLASSES)[classes]}
    return targets[kind], scores, weights
