"""Probabilities that mean what they say: one temperature, and how far off they are.

Axes: N items, C labels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

LEAST = 50
"""Items under which no temperature is fitted: it would follow a handful of mistakes."""
SHRINKING = 50
"""Items at which a fitted temperature counts half: its logarithm times n / (n + 50) is taken."""
BINS = 15
_WIDEST = 3.0
"""Of the logarithm of a temperature."""


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to the items it was fitted on.

    Attributes:
        temperature: Scores are divided by it before the softmax; 1 leaves them as they are.
        fitted: The temperature of the least loss, before it was shrunk towards 1; None where none
            was fitted.
        n: Items that were held out, or could have been.
        loss_before: Their mean negative log-likelihood (nats) at 1.
        loss_after: With the temperature.
        error_before: Expected calibration error at 1.
        error_after: With the temperature. These four are None where nothing was held out.
    """

    temperature: float
    fitted: float | None
    n: int
    loss_before: float | None
    loss_after: float | None
    error_before: float | None
    error_after: float | None


def calibrated(scores: Float[np.ndarray, "N C"], temperature: float) -> Float[np.ndarray, "N C"]:
    """Turn scores into probabilities.

    Source: Guo et al. (2017), section 4.2, temperature scaling.
    """
    return softmax(np.asarray(scores, dtype=np.float64) / temperature, axis=1)


def fit_temperature(scores: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"]) -> Calibration:
    """Fit one temperature to scores of items that were not learnt from.

    Args:
        scores: Logits, or anything that a softmax makes probabilities of.
        labels: The right columns.

    Returns:
        With temperature 1 where there are fewer than ``LEAST`` items.
    """
    scores, n = np.asarray(scores, dtype=np.float64), len(labels)
    if not n:
        return untouched(n)

    def loss(logarithm: float) -> float:
        """Mean negative log-likelihood at a temperature."""
        found = log_softmax(scores / np.exp(logarithm), axis=1)
        return float(-found[np.arange(n), labels].mean())

    fitted, shrunk = None, 0.0
    if n >= LEAST:
        best = minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded")
        logarithm = float(best.x)  # type: ignore[union-attr]
        fitted, shrunk = float(np.exp(logarithm)), logarithm * n / (n + SHRINKING)
    temperature = float(np.exp(shrunk))
    errors = [calibration_error(calibrated(scores, t), labels) for t in (1.0, temperature)]
    return Calibration(temperature, fitted, n, loss(0.0), loss(shrunk), *errors)


def untouched(n: int) -> Calibration:
    """Leave probabilities as they are, of too few items to hold any out."""
    return Calibration(1.0, None, n, None, None, None, None)


def calibration_error(
    probabilities: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"], bins: int = BINS
) -> float:
    """Measure the expected calibration error: how far confidence is from accuracy.

    The mean over items of the difference between the two in the item's bin, bins of equal width.
    With few items in a bin it is too large by chance alone: 0 is not reached by a calibrated model.
    Source: Guo et al. (2017), section 2, equation 3.

    Args:
        probabilities: Of all labels.
        labels: The right columns.
        bins: Of confidence, from 0 to 1.
    """
    if not len(labels):
        return float("nan")
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    own = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(own, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
