"""Whether a gain is another one where something else is changed too: two gains compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from polyprompt.analysis.account import Arm, are_paired, paired
from polyprompt.analysis.significance import holm, permutation_test
from polyprompt.analysis.summary import have_the_same_items
from polyprompt.scoring.intervals import Interval, bootstrap_mean_over_languages

Pairs = tuple[tuple[str, str], tuple[str, str]]
"""Titles of settings; a pair's gain is what the second has more than the first."""


@dataclass(frozen=True)
class Interaction:
    """Two gains compared.

    Attributes:
        name: As the study names it.
        pairs: The settings.
        gains: Means over languages.
        difference: The second gain minus the first, resampling seeds and items.
        p_items: Permutation over items.
        p_holm: The same adjusted for all interactions of the study.
        p_seeds: Exact permutation over seeds; NaN with one seed.
    """

    name: str
    pairs: Pairs
    gains: tuple[float, float]
    difference: Interval
    p_items: float
    p_seeds: float
    p_holm: float = float("nan")


def interaction(name: str, pairs: Pairs, arms: Sequence[Arm]) -> Interaction | None:
    """Compare two gains.

    Args:
        name: Of the comparison.
        pairs: Titles of the four settings.
        arms: Among which they are.

    Returns:
        None where a setting is missing, or they have not the same seeds and items.
    """
    known = {arm.title: arm for arm in arms}
    titles = [title for pair in pairs for title in pair]
    if not known.keys() >= set(titles):
        return None
    chosen = [known[title] for title in titles]
    if not all(are_paired(chosen[0], other) for other in chosen[1:]):
        return None
    gains = [_gain(chosen[0], chosen[1]), _gain(chosen[2], chosen[3])]
    changes = [second - first for first, second in zip(*gains, strict=True)]
    parallel = have_the_same_items(chosen[0].predictions)
    units = np.mean(changes, axis=0) if parallel else np.concatenate(changes, axis=1)
    return Interaction(
        name,
        pairs,
        (
            float(np.mean([own.mean() for own in gains[0]])),
            float(np.mean([own.mean() for own in gains[1]])),
        ),
        bootstrap_mean_over_languages(changes, parallel=parallel),
        permutation_test(units, "items"),
        permutation_test(units, "seeds") if len(units) > 1 else float("nan"),
    )


def adjusted(found: Sequence[Interaction]) -> list[Interaction]:
    """Adjust ``p_items`` by Holm, for all interactions that are given together."""
    values = holm({str(i): one.p_items for i, one in enumerate(found)})
    return [replace(one, p_holm=values[str(index)]) for index, one in enumerate(found)]


def _gain(first: Arm, second: Arm) -> list[Float[np.ndarray, "S N"]]:
    """Give what the second setting has more, runs × items, language by language."""
    one, other = paired(first), paired(second)
    return [other[code] - one[code] for code in sorted(one)]
