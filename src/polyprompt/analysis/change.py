"""What one setting, or a baseline, changes in every language, and where that is clear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from polyprompt.analysis.account import Arm, p_of_language, paired
from polyprompt.analysis.significance import benjamini_hochberg
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
    return _change(first.title, second.title, paired(first), paired(second))


def changes_from_baselines(title: str, predictions: pl.DataFrame) -> list[Change]:
    """Compare a setting with each of its baselines.

    Args:
        title: Of the setting.
        predictions: Of its runs and their baselines.
    """
    own = item_values(predictions, None)
    names = [name for name in predictions["baseline"].unique(maintain_order=True) if name]
    return [_change(name, title, item_values(predictions, name), own) for name in names]


def _change(
    first: str,
    second: str,
    one: Mapping[str, NDArray[np.float64]],
    other: Mapping[str, NDArray[np.float64]],
) -> Change:
    """Compare answers, language by language."""
    languages: Sequence[str] = [code for code in one if code in other]
    p = benjamini_hochberg({code: p_of_language(one[code], other[code]) for code in languages})
    return Change(
        first,
        second,
        {code: bootstrap_mean(other[code] - one[code], resamples=1000) for code in languages},
        frozenset(code for code, value in p.items() if value < LEVEL),
    )
