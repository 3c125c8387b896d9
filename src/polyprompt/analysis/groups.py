"""What a setting changes in groups of languages, and between two scripts of one language."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polyprompt.analysis.account import Arm, paired
from polyprompt.analysis.facts import in_group
from polyprompt.analysis.significance import holm
from polyprompt.analysis.summary import have_the_same_items
from polyprompt.analysis.transfer import script_pairs
from polyprompt.scoring.intervals import Interval, bootstrap_mean, bootstrap_mean_over_languages


@dataclass(frozen=True)
class GroupContrast:
    """How much more a setting changes in some languages than in others.

    Attributes:
        name: As the study names it.
        settings: First and second.
        sizes: Languages of the one and the other group.
        gains: The change in each group.
        difference: Of these changes, resampling seeds and items.
        p_languages: Permutation of languages between the groups; NaN where one has one language.
        p_holm: The same adjusted for all named contrasts of the study; NaN likewise.
    """

    name: str
    settings: tuple[str, str]
    sizes: tuple[int, int]
    gains: tuple[float, float]
    difference: Interval
    p_languages: float
    p_holm: float = float("nan")


@dataclass(frozen=True)
class ScriptPair:
    """One language in two scripts: the same sentences, written differently.

    Attributes:
        title: Of the setting.
        first: Code.
        second: Code.
        difference: Accuracy of the second minus the first, paired by seed and item.
    """

    title: str
    first: str
    second: str
    difference: Interval


def group_contrast(
    name: str,
    groups: tuple[Sequence[str], Sequence[str]],
    arms: tuple[Arm, Arm],
    sources: Sequence[str] = (),
    *,
    permutations: int = 10_000,
) -> GroupContrast | None:
    """Compare what a setting changes in two groups of languages.

    Args:
        name: Of the contrast.
        groups: Families, branches, scripts or codes of the one and the other group.
        arms: First and second setting, paired by seed and item.
        sources: Left out.
        permutations: Of languages between the groups.

    Returns:
        None where a group has no language, or a language is of both.
    """
    one, other = (paired(arm) for arm in arms)
    targets = [code for code in one if code not in sources]
    sides = [[code for code in targets if in_group(code, own)] for own in groups]
    if not all(sides) or set(sides[0]).intersection(sides[1]):
        return None
    changes = [[other[code] - one[code] for code in side] for side in sides]
    means = [np.array([change.mean() for change in side]) for side in changes]
    difference = _between(*changes, parallel=have_the_same_items(arms[0].predictions))
    p = _permuted_languages(np.concatenate(means), len(sides[0]), permutations)
    titles = arms[0].title, arms[1].title
    sizes, gains = (len(sides[0]), len(sides[1])), (float(means[0].mean()), float(means[1].mean()))
    return GroupContrast(name, titles, sizes, gains, difference, p)


def adjusted(found: Sequence[GroupContrast]) -> list[GroupContrast]:
    """Adjust the p of all named contrasts of a study by Holm."""
    known = {str(i): one.p_languages for i, one in enumerate(found) if np.isfinite(one.p_languages)}
    values = holm(known)
    return [
        replace(one, p_holm=values.get(str(index), float("nan"))) for index, one in enumerate(found)
    ]


def _between(
    first: Sequence[NDArray[np.float64]], second: Sequence[NDArray[np.float64]], *, parallel: bool
) -> Interval:
    """Bootstrap the difference of two groups' mean changes over seeds and items."""
    if parallel:
        return bootstrap_mean(np.mean(first, axis=0) - np.mean(second, axis=0))
    one, other = (bootstrap_mean_over_languages(g, parallel=False) for g in (first, second))
    mean = one.mean - other.mean
    low = float(np.hypot(one.mean - one.low, other.high - other.mean))
    high = float(np.hypot(one.high - one.mean, other.mean - other.low))
    return Interval(mean, mean - low, mean + high)


def _permuted_languages(values: NDArray[np.float64], size: int, permutations: int) -> float:
    """Compute the two-sided p of a difference of two groups' means by exchanging languages.

    Returns:
        NaN where a group has a single language.
    """
    from scipy import stats

    if min(size, len(values) - size) < 2:
        return float("nan")
    found = stats.permutation_test(
        (values[:size], values[size:]),
        lambda a, b, axis=-1: a.mean(axis=axis) - b.mean(axis=axis),
        permutation_type="independent",
        n_resamples=permutations,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def script_contrasts(arm: Arm) -> list[ScriptPair]:
    """Compare languages that were tested in two scripts, where their items are the same."""
    answers = arm.answers()
    if not have_the_same_items(arm.predictions):
        return []
    return [
        ScriptPair(arm.title, one, other, bootstrap_mean(answers[other] - answers[one]))
        for one, other in script_pairs(list(answers))
    ]
