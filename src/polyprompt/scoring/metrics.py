"""Metrics of one language's predictions; all values are 0–1."""

from collections.abc import Callable, Sequence

import numpy as np


def accuracy(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Compute the share of right answers."""
    return float(np.mean(np.asarray(truth) == np.asarray(predicted)))


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Compute the unweighted mean of F1 over the classes that occur in truth or predictions."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="macro"))


METRICS: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
}
