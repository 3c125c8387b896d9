"""How far the probabilities of predictions are from what they promise, language by language."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
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
