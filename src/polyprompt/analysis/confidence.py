"""How far the probabilities of predictions are from what they promise, language by language."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from numpy.typing import NDArray

from polyprompt.scoring.calibration import (
    Calibration,
    calibrated,
    calibration_error,
    fit_temperature,
)


@dataclass(frozen=True)
class Confidence:
    """One language.

    Attributes:
        language: SIB-200 code.
        n: Items.
        accuracy: Share of right answers.
        confidence: Mean probability of what was answered, with the temperature.
        error_before: Expected calibration error without it.
        error: With it.
    """

    language: str
    n: int
    accuracy: float
    confidence: float
    error_before: float
    error: float


@dataclass(frozen=True)
class Bin:
    """Answers whose probabilities lie close to one another.

    Attributes:
        confidence: Their mean probability.
        accuracy: Share of them that is right.
        n: How many, over all runs.
    """

    confidence: float
    accuracy: float
    n: int


def averaged(found: Sequence[Confidence]) -> Confidence:
    """Average what several runs came to in one language."""
    first = found[0]
    return Confidence(
        first.language,
        first.n,
        mean(one.accuracy for one in found),
        mean(one.confidence for one in found),
        mean(one.error_before for one in found),
        mean(one.error for one in found),
    )


def reliability(
    probabilities: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"], bins: int = 10
) -> list[Bin]:
    """Compare what probabilities promise with what comes true, in bins of equal width.

    Source: Guo et al. (2017), section 2, equation 2.

    Args:
        probabilities: Of all labels.
        labels: The right columns.
        bins: From 0 to 1.

    Returns:
        The bins that have answers, the lowest first.
    """
    surest, right = probabilities.max(1), probabilities.argmax(1) == labels
    own = np.minimum((surest * bins).astype(int), bins - 1)
    return [
        Bin(float(surest[own == i].mean()), float(right[own == i].mean()), int((own == i).sum()))
        for i in range(bins)
        if (own == i).any()
    ]


def from_predictions(predictions: pl.DataFrame, labels: Sequence[str]) -> Calibration:
    """Fit a temperature to predictions of items that were held out, such as a fit's own folds.

    Args:
        predictions: Of one run, with the scores of all labels.
        labels: In the order of the scores.
    """
    return fit_temperature(*arrays_of(predictions, labels))


def confidence_by_language(
    predictions: pl.DataFrame, labels: Sequence[str], temperature: float
) -> list[Confidence]:
    """Measure how far probabilities are off in each language that was tested.

    Args:
        predictions: Of one run, with the scores of all labels.
        labels: In the order of the scores.
        temperature: Of the run.

    Returns:
        In the order of the data.
    """
    found = []
    for (language,), own in predictions.group_by(["language"], maintain_order=True):
        scores, truth = arrays_of(own, labels)
        with_it = calibrated(scores, temperature)
        if not len(truth):
            continue
        found.append(
            Confidence(
                str(language),
                len(truth),
                float((with_it.argmax(1) == truth).mean()),
                float(with_it.max(1).mean()),
                calibration_error(calibrated(scores, 1.0), truth),
                calibration_error(with_it, truth),
            )
        )
    return found


def arrays_of(
    predictions: pl.DataFrame, labels: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give the scores and right columns of a run's own answers."""
    own = predictions.filter(pl.col("baseline").is_null(), pl.col("label").is_not_null())
    if not own.height:
        return np.zeros((0, len(labels))), np.zeros(0, dtype=np.int64)
    place = {label: number for number, label in enumerate(labels)}
    scores = np.array(own["scores"].to_list(), dtype=np.float64)
    return scores, np.array([place[label] for label in own["label"]])
