"""Metrics of predictions as means of ratios of sums, so that they can be taken apart item by item.

An item adds to the numerator and to the denominator of each of K ratios; a metric is the mean of
the ratios of their sums. Accuracy is right answers over answers; an F1 is twice the hits over what
was predicted and what is true; macro-F1 has a ratio per class.

Axes: N items, K ratios.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from polyprompt.scoring.answers import best_f1, is_exact, listed_entities
from polyprompt.scoring.entities import entities


@dataclass(frozen=True)
class Counts:
    """What items add to a metric's ratios.

    Attributes:
        hits: Numerators, N K.
        sizes: Denominators, N K.
    """

    hits: Float[np.ndarray, "N K"]
    sizes: Float[np.ndarray, "N K"]

    def ratios(self) -> Float[np.ndarray, " K"]:
        """Give the ratio of the sums of each pair; 0 where there is nothing to be right about."""
        hits, sizes = self.hits.sum(0), self.sizes.sum(0)
        return np.divide(hits, sizes, out=np.zeros_like(hits), where=sizes > 0)

    def value(self) -> float:
        """Give the metric, 0–1: the mean of the ratios that anything adds to."""
        used = self.sizes.sum(0) > 0
        return float(self.ratios()[used].mean()) if used.any() else 0.0

    def of_items(self) -> Float[np.ndarray, " N"]:
        """Give a number per item, whose mean is the metric.

        It is the metric and what it would change by, to first order, if the item weighed more:
        means of resampled items vary as the metric does. Of one ratio with one answer per item it
        is 1 for a right and 0 for a wrong one.
        """
        used = self.sizes.sum(0) > 0
        if not used.any():
            return np.zeros(len(self.hits))
        hits, sizes, ratios = self.hits[:, used], self.sizes[:, used], self.ratios()[used]
        return (ratios + (hits - ratios * sizes) / sizes.mean(0)).mean(1)


def accuracy(truth: Sequence[str], predicted: Sequence[str]) -> Counts:
    """Count the right answers."""
    right = np.asarray(truth) == np.asarray(predicted)
    return Counts(right[:, None].astype(float), np.ones((len(right), 1)))


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> Counts:
    """Count for the unweighted mean of F1 over the classes that occur in truth or predictions.

    An empty prediction is none of the classes: an answer that could not be read.
    """
    classes = np.unique([one for one in (*truth, *predicted) if one])
    true, found = (np.asarray(one)[:, None] == classes for one in (truth, predicted))
    return Counts(2.0 * (true & found), true.astype(float) + found)


def word_accuracy(truth: Sequence[str], predicted: Sequence[str]) -> Counts:
    """Count words with the right tag; an item is the tags of a sentence joined by spaces."""
    pairs = [(one.split(), other.split()) for one, other in zip(truth, predicted, strict=True)]
    right = [sum(map(str.__eq__, *pair)) for pair in pairs]
    return Counts(_column(right), _column([len(tags) for tags, _ in pairs]))


def entity_f1(truth: Sequence[str], predicted: Sequence[str]) -> Counts:
    """Count for the F1 of entities of the right type and extent, as seqeval reads IOB2 tags."""
    hits, sizes = [], []
    for one, other in zip(truth, predicted, strict=True):
        true, found = entities(one.split()), entities(other.split())
        hits.append(2 * len(true & found))
        sizes.append(len(true) + len(found))
    return Counts(_column(hits), _column(sizes))


def span_f1(truth: Sequence[str], predicted: Sequence[str]) -> Counts:
    """Count for the F1 of entities that are written out, type and name, as often as they are."""
    hits, sizes = [], []
    for one, other in zip(truth, predicted, strict=True):
        true, found = listed_entities(one), listed_entities(other)
        hits.append(2 * (true & found).total())
        sizes.append(true.total() + found.total())
    return Counts(_column(hits), _column(sizes))


def f1_of(positive: str, truth: Sequence[str], predicted: Sequence[str]) -> Counts:
    """Count for the F1 of one label."""
    true, found = (np.asarray(one) == positive for one in (truth, predicted))
    return Counts(_column(2 * (true & found)), _column(true.astype(int) + found))


def _column(values: Sequence[float] | np.ndarray) -> Float[np.ndarray, "N 1"]:
    """Write numbers one below the other."""
    return np.asarray(values, dtype=float)[:, None]


METRICS: dict[str, Callable[[Sequence[str], Sequence[str]], Counts]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "word_accuracy": word_accuracy,
    "entity_f1": entity_f1,
    "span_f1": span_f1,
}

_OF_ANSWERS: dict[str, Callable[[str, str, str], float]] = {
    "answer_f1": best_f1,
    "exact_match": is_exact,
}
"""Metrics of written answers, which depend on their language."""

OF_TAGS = ("word_accuracy", "entity_f1")
"""Metrics of sentences whose words are tagged."""


def counts_of(metric: str, rows: pl.DataFrame) -> Counts:
    """Count what items add to a metric.

    Args:
        metric: Its name; ``f1:LABEL`` is the F1 of a label.
        rows: Predictions: columns language, label, prediction; rows without a label are left out.
    """
    rows = rows.filter(pl.col("label").is_not_null())
    truth, predicted = rows["label"].to_list(), rows["prediction"].to_list()
    if metric in _OF_ANSWERS:
        triples = zip(truth, predicted, rows["language"].to_list(), strict=True)
        values = _column([_OF_ANSWERS[metric](*one) for one in triples])
        return Counts(values, np.ones_like(values))
    name, _, positive = metric.partition(":")
    return f1_of(positive, truth, predicted) if positive else METRICS[name](truth, predicted)


def gives_classes(metric: str) -> bool:
    """Say whether an item's answer is one of the labels."""
    return metric not in {*OF_TAGS, *_OF_ANSWERS, "span_f1"}


def beside(metric: str) -> tuple[str, ...]:
    """Name the metrics that make sense beside one, itself the first."""
    if metric in _OF_ANSWERS:
        return metric, *(name for name in _OF_ANSWERS if name != metric)
    if metric == "entity_f1":
        return "entity_f1", "word_accuracy"
    if not gives_classes(metric):
        return (metric,)
    usual = ("accuracy", "macro_f1")
    return usual if metric in usual else (metric, *usual)


def title_of(metric: str) -> str:
    """Say how tables name a metric."""
    name, _, positive = metric.partition(":")
    return f"F1 of '{positive}'" if positive else TITLES[name]


TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "word_accuracy": "accuracy of tags",
    "entity_f1": "entity F1",
    "span_f1": "F1 of written entities",
    "answer_f1": "F1 of answers",
    "exact_match": "exact match",
}
"""How tables name the metrics."""
