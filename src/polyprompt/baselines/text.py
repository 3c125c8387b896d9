"""Baselines that see no backbone: the majority class, character n-grams, known words' tags."""

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


def word_tags(
    train: Sequence[tuple[str, int]], classes: int, words: Sequence[str]
) -> NDArray[np.float32]:
    """Score a word's tags by how often the word has each of them, an unknown one's by all words.

    Args:
        train: Words with their tags.
        classes: C.
        words: To be tagged, U.

    Returns:
        Shares, U × C; ties go to the tag listed first.
    """
    known: dict[str, NDArray[np.float32]] = {}
    of_all = np.zeros(classes, dtype=np.float32)
    for word, tag in train:
        known.setdefault(word.casefold(), np.zeros(classes, dtype=np.float32))[tag] += 1
        of_all[tag] += 1
    rows = [known.get(word.casefold(), of_all) for word in words]
    counts = np.stack(rows) if rows else np.zeros((0, classes), dtype=np.float32)
    return counts / counts.sum(1, keepdims=True).clip(min=1)
