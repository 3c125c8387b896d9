"""Settings that differ in one number, such as the prompt's length: averages, slope, best value.

Axes: P settings, L languages, S seeds, N items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyprompt.analysis.account import Arm, paired
from polyprompt.analysis.facts import Facts
from polyprompt.analysis.summary import have_the_same_items
from polyprompt.analysis.transfer import Slopes, best_setting, mixed_model
from polyprompt.scoring.intervals import Interval, bootstrap_mean_over_languages


@dataclass(frozen=True)
class Best:
    """A language's best value.

    Attributes:
        value: With the highest accuracy.
        shares: How often each value is best when seeds and items are drawn again.
    """

    value: float
    shares: dict[float, float]


@dataclass(frozen=True)
class Trend:
    """Settings along a number, each by the runs that it has.

    Attributes:
        name: Of the number.
        rest: What else sets these settings apart from the study's others; empty for nothing.
        means: Metric over all languages, by value.
        seeds: The fewest runs of a value.
    """

    name: str
    rest: str
    means: dict[float, Interval]
    seeds: int


@dataclass(frozen=True)
class Series:
    """Settings along a number.

    Attributes:
        name: Of the number.
        means: Accuracy over all languages, by value.
        slopes: Per distance: mixed model of accuracy on distance × log2 of the value.
        best: Per language.
    """

    name: str
    means: dict[float, Interval]
    slopes: dict[str, Slopes | None]
    best: dict[str, Best]


def series(name: str, arms: Mapping[float, Arm], facts: Facts, sources: Sequence[str]) -> Series:
    """Describe settings that differ in one number.

    Args:
        name: Of the number.
        arms: By its value, paired by seed and item.
        facts: Of the languages.
        sources: Left out of the slopes.
    """
    values = sorted(arms)
    answers = {value: paired(arms[value]) for value in values}
    parallel = have_the_same_items(arms[values[0]].predictions)
    means = {
        value: bootstrap_mean_over_languages(list(own.values()), parallel=parallel)
        for value, own in answers.items()
    }
    target = np.array([code not in sources for code in facts.languages])
    accuracy = np.stack(
        [np.stack([answers[v][code].mean(1) for code in facts.languages]) for v in values]
    )
    steps = np.log2(values).tolist()
    slopes = {
        kind: mixed_model(accuracy, np.where(target, distance, np.nan), steps)
        for kind, distance in facts.distances.items()
    }
    best = {}
    for code in facts.languages:
        shares = best_setting(np.stack([answers[value][code] for value in values]))
        highest = values[int(np.argmax([answers[value][code].mean() for value in values]))]
        best[code] = Best(highest, dict(zip(values, map(float, shares), strict=True)))
    return Series(name, means, slopes, best)
