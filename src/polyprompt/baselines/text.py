"""Baselines that see no backbone: the majority class, and character n-grams with a linear SVM."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC


def majority(labels: Sequence[int], classes: int, n: int) -> NDArray[np.float32]:
    """Score by how frequent a class is among ``labels``; ties go to the class listed first.

    Returns:
        The same shares for all n texts, n × classes.
    """
    counts = Counter(labels)
    shares = np.array([counts[label] / max(len(labels), 1) for label in range(classes)])
    return np.tile(shares.astype(np.float32), (n, 1))


def tfidf_svm(
    train: Sequence[str], labels: NDArray[np.int64], classes: int, test: Sequence[str]
) -> NDArray[np.float32]:
    """Score texts by a linear SVM over TF-IDF of character 2–5-grams within words.

    Returns:
        Decision values, len(test) × classes; classes never seen have the least of them.
    """
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = LinearSVC(random_state=0).fit(vectorizer.fit_transform(train), labels)
    values = model.decision_function(vectorizer.transform(test))
    if values.ndim == 1:
        values = np.stack([-values, values], axis=1)
    scores = np.full((len(test), classes), -1e9, dtype=np.float32)
    scores[:, model.classes_] = values
    return scores
