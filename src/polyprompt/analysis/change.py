"""What one setting, or a baseline, changes in every language, and where that is clear."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from polyprompt.analysis.account import ROUGH_PERMUTATIONS, Arm, p_of_language, paired
from polyprompt.analysis.significance import benjamini_hochberg, permutation_test
from polyprompt.analysis.summary import item_values
from polyprompt.scoring.intervals import Interval, bootstrap_mean

LEVEL = 0.05


@dataclass(frozen=True)
class Change:
    """One set of answers minus another, language by language.

    Attributes:
        first: The setting compared with.
        second: The other one.
        languages: Second minus first; intervals over seeds and items.
        clear: Languages in which the difference is told from none, after Benjamini and Hochberg.
    """

    first: str
    second: str
    languages: Mapping[str, Interval]
    clear: frozenset[str]

    def better(self) -> list[str]:
        """Name the languages in which the second is clearly better."""
        return [code for code, own in self._clear() if own.mean > 0]

    def worse(self) -> list[str]:
        """Name those in which it is clearly worse."""
        return [code for code, own in self._clear() if own.mean < 0]

    def _clear(self) -> list[tuple[str, Interval]]:
        """Give the clear differences, in the order of the languages."""
        return [(code, own) for code, own in self.languages.items() if code in self.clear]


def change_between(first: Arm, second: Arm) -> Change:
    """Compare two settings that have the same seeds and items."""
    one, other = paired(first), paired(second)
    intervals = {code: bootstrap_mean(other[code] - one[code], resamples=1000) for code in one}
    return Change(first.title, second.title, intervals, _clear(one, other))


def changes_from_baselines(title: str, predictions: pl.DataFrame) -> list[Change]:
    """Compare a setting with each of its baselines; means alone, without intervals.

    Args:
        title: Of the setting.
        predictions: Of its runs and their baselines.
    """
    own = item_values(predictions, None)
    found = []
    for name in filter(None, predictions["baseline"].unique(maintain_order=True)):
        other = item_values(predictions, name)
        means = {code: float((own[code] - other[code]).mean()) for code in own}
        whole = {code: Interval(mean, mean, mean) for code, mean in means.items()}
        found.append(Change(name, title, whole, _clear(other, own)))
    return found


def _clear(
    one: Mapping[str, NDArray[np.float64]], other: Mapping[str, NDArray[np.float64]]
) -> frozenset[str]:
    """Name the languages in which two sets of answers are told apart."""
    p = benjamini_hochberg({code: _p(one[code], other[code]) for code in one})
    return frozenset(code for code, value in p.items() if value < LEVEL)


def _p(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Test two sets of answers in one language.

    Of one seed's right and wrong answers McNemar's exact test; of several the items' means over
    seeds, whose signs are permuted: a majority of seeds would make ties wrong for one side alone
    where the other does not vary.
    """
    if len(one) == 1:
        return p_of_language(one, other)
    return permutation_test(other - one, "items", permutations=ROUGH_PERMUTATIONS)
