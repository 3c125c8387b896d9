"""Baselines on the frozen backbone's vectors: zero-shot, logistic regression, a closed form."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from polyprompt.seeds import derive_seed

C_GRID = (0.1, 1.0, 10.0, 100.0, 1000.0)
FOLDS = 4
Vectors = NDArray[np.float32]


def unit(vectors: Vectors) -> Vectors:
    """Scale vectors to length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-12)


def closed_form(
    descriptions: Vectors, train: Vectors, labels: NDArray[np.int64], weight: float, test: Vectors
) -> Vectors:
    """Score by cosine to ``description + weight × class mean`` (weight 0: zero-shot).

    Args:
        descriptions: Vectors of the label descriptions, C × D.
        train: Vectors of the training examples, N × D.
        labels: Their classes, N.
        weight: Of the mean unit vector of a class.
        test: Vectors to classify, M × D.

    Returns:
        Cosines, M × C.
    """
    vectors = unit(descriptions)
    for label in range(len(descriptions)):
        members = train[labels == label]
        if len(members):
            vectors[label] += weight * unit(members).mean(0)
    return unit(test) @ unit(vectors).T


def logistic_regression(
    train: Vectors,
    labels: NDArray[np.int64],
    extra: Vectors | None,
    test: Vectors,
    classes: int,
    seed: int,
) -> Vectors:
    """Fit a logistic regression on unit vectors; C is chosen by cross-validated log-loss.

    Args:
        train: Vectors of the training examples, N × D.
        labels: Their classes, N.
        extra: One further row per class (label descriptions), in every fold's training set.
        test: Vectors to classify, M × D.
        classes: C.
        seed: Of the folds.

    Returns:
        Log-probabilities, M × C; classes never seen have the least of them.
    """
    rows, of_extra = unit(train), unit(extra) if extra is not None else None
    best = _choose_c(rows, labels, of_extra, seed)
    model = _fit(rows, labels, of_extra, best)
    scores = np.full((len(test), classes), -1e9, dtype=np.float32)
    scores[:, model.classes_] = model.predict_log_proba(unit(test))
    return scores


def _choose_c(train: Vectors, labels: NDArray[np.int64], extra: Vectors | None, seed: int) -> float:
    """Choose C from the grid; with one example per class there is nothing to validate on."""
    folds = min(FOLDS, int(np.bincount(labels)[np.unique(labels)].min()))
    if folds < 2:
        return 100.0
    splitter = StratifiedKFold(folds, shuffle=True, random_state=derive_seed(seed, "folds") % 2**32)
    losses = np.zeros(len(C_GRID))
    for inside, outside in splitter.split(train, labels):
        for index, c in enumerate(C_GRID):
            model = _fit(train[inside], labels[inside], extra, c)
            probabilities = model.predict_proba(unit(train[outside]))
            losses[index] += log_loss(labels[outside], probabilities, labels=model.classes_)
    return C_GRID[int(losses.argmin())]


def _fit(
    train: Vectors, labels: NDArray[np.int64], extra: Vectors | None, c: float
) -> LogisticRegression:
    """Fit one regression, with the extra rows below the examples."""
    if extra is not None:
        train = np.concatenate([train, extra])
        labels = np.concatenate([labels, np.arange(len(extra))])
    return LogisticRegression(C=c, max_iter=2000).fit(train, labels)
