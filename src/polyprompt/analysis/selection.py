"""Chooses among points of a search by their accuracy and loss on dev items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import log_softmax

from polyprompt.scoring.metrics import counts_of
from polyprompt.scoring.score import metric_of


@dataclass(frozen=True)
class Tried:
    """One point of a search.

    Attributes:
        point: Its settings.
        accuracies: On the dev items, one per draw; whatever the task is measured by.
        loss: Mean cross-entropy on the same items over all draws (nats); None where answers are
            written, and that of the true ones is not known.
        epochs: Of its round, where points are tried in rounds.
        metric: What the task is measured by.
    """

    point: Mapping[str, object]
    accuracies: tuple[float, ...]
    loss: float | None
    epochs: int | None = None
    metric: str = "accuracy"

    @property
    def accuracy(self) -> float:
        """Mean over the draws."""
        return float(np.mean(self.accuracies))

    @property
    def standard_error(self) -> float:
        """Of the mean over the draws; 0 with one draw."""
        draws = len(self.accuracies)
        return float(np.std(self.accuracies, ddof=1) / np.sqrt(draws)) if draws > 1 else 0.0


def measure(
    point: Mapping[str, object], runs: Sequence[pl.DataFrame], labels: Sequence[str]
) -> Tried:
    """Measure a point by the predictions of its runs, baselines left out.

    Args:
        point: Its settings.
        runs: Predictions, one table per draw.
        labels: In the order of the scores.
    """
    own = [table.filter(pl.col("baseline").is_null()) for table in runs]
    metric = metric_of(own[0])
    accuracies = tuple(counts_of(metric, table).value() for table in own)
    if "answer" in own[0].columns:
        return Tried(point, accuracies, None, metric=metric)
    losses = [_mean_loss(table, labels) for table in own]
    return Tried(point, accuracies, float(np.mean(losses)), metric=metric)


def _mean_loss(own: pl.DataFrame, labels: Sequence[str]) -> float:
    """Give the mean cross-entropy of a run's predictions (nats), of every word that is tagged."""
    if "loss" in own.columns:  # words are tagged
        return float(np.average(own["loss"].to_numpy(), weights=own["words"].to_numpy()))
    index = {label: i for i, label in enumerate(labels)}
    truth = np.array([index[label] for label in own["label"]])
    scores = log_softmax(np.stack(own["scores"].to_list()).astype(float), axis=1)
    return float(-scores[np.arange(len(truth)), truth].mean())


def choose(tried: Sequence[Tried]) -> Tried:
    """Choose the least loss among the points within one standard error of the best accuracy.

    Of points with the same accuracy the one with the less loss is the best; a point whose loss is
    not a number comes last. The order of the points decides nothing but between equal ones.
    """
    best = min(tried, key=rank)
    near = [t for t in tried if t.accuracy >= best.accuracy - best.standard_error]
    return min(near, key=_loss)


def rank(one: Tried) -> tuple[float, float]:
    """Give what points are sorted by: the best accuracy first, of equal ones the least loss."""
    return -one.accuracy, _loss(one)


def _loss(one: Tried) -> float:
    """Give a point's loss; one that is not a number comes last.

    Where none is known it is what the metric lacks.
    """
    if one.loss is None:
        return 1 - one.accuracy
    return one.loss if np.isfinite(one.loss) else float("inf")
