"""Intervals that resample what was sampled: seeds and items, not languages × items."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyprompt.seeds import generator

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with a percentile interval.

    Attributes:
        mean: Of the values as observed.
        low: 2.5 % quantile over resamples.
        high: 97.5 % quantile over resamples.
    """

    mean: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Say whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(
    values: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Bootstrap a mean over seeds × items.

    Both axes are drawn with replacement, independently: a language's accuracy, or a mean over
    languages of parallel items, averaged over the languages beforehand, so that an item drawn
    twice counts twice in every language.

    Args:
        values: S seeds × N items; an accuracy per item, or a difference of two.
        resamples: Number of bootstrap draws.
        seed: Of the draws.
    """
    seeds, items = values.shape
    rng = generator(seed, "bootstrap")
    item_weights = rng.multinomial(items, np.full(items, 1 / items), size=resamples) / items
    seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    means = np.einsum("bs,sn,bn->b", seed_weights, values, item_weights, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_mean_over_languages(
    values: Sequence[NDArray[np.float64]],
    *,
    parallel: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Bootstrap a mean over languages in which every language counts the same.

    Args:
        values: Per language, S seeds × N items.
        parallel: Whether item n is the same sentence in every language; if not, items are drawn
            for each language on its own. Seeds are drawn for all languages together.
        resamples: Number of bootstrap draws.
        seed: Of the draws.
    """
    if parallel or len(values) == 1:
        return bootstrap_mean(np.mean(values, axis=0), resamples, seed)
    rng = generator(seed, "bootstrap")
    seeds = len(values[0])
    seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    means = np.zeros(resamples)
    for language in values:
        items = language.shape[1]
        weights = rng.multinomial(items, np.full(items, 1 / items), size=resamples) / items
        means += np.einsum("bs,sn,bn->b", seed_weights, language, weights, optimize=True)
    low, high = np.quantile(means / len(values), [0.025, 0.975])
    observed = float(np.mean([language.mean() for language in values]))
    return Interval(observed, float(low), float(high))


def proportion_interval(right: int, n: int) -> Interval:
    """Compute Wilson's 95 % interval of a proportion from ``right`` of ``n`` independent items."""
    from scipy.stats import binomtest  # takes a second to import, and few need it

    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return Interval(right / n, float(interval.low), float(interval.high))
