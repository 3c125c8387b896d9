"""The cross-lingual account of a study: what accuracy goes with, and what each setting changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import polars as pl
from jaxtyping import Float
from numpy.typing import NDArray

from polyprompt.analysis.correlation import (
    Correlation,
    Difference,
    Method,
    compare_dependent,
    correlate,
)
from polyprompt.analysis.facts import Facts
from polyprompt.analysis.significance import (
    benjamini_hochberg,
    holm,
    mcnemar,
    permutation_test,
)
from polyprompt.analysis.summary import Values, have_the_same_items, item_values
from polyprompt.analysis.tokenization import MEASURES, are_cut_alike, as_cut
from polyprompt.analysis.transfer import Regression, Slopes, mixed_model, regress
from polyprompt.scoring.intervals import Interval, bootstrap_mean, bootstrap_mean_over_languages

EXPLAINED = ("log_corpus", "corpus", "other_script", "tokens", *MEASURES)
"""Facts besides the distances that accuracies are correlated with."""


ROUGH_PERMUTATIONS = 2000
"""Draws of signs for a test per language, of which there are many."""


@dataclass(frozen=True)
class Arm:
    """One setting's answers.

    Attributes:
        title: Its name.
        predictions: Of its runs.
        pairs: Draw and training seed of each run, by the run's name.
    """

    title: str
    predictions: pl.DataFrame
    pairs: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def answers(self) -> Values:
        """Give what each item adds to the metric, runs × items, per language."""
        return item_values(self.predictions, None)


@dataclass(frozen=True)
class Correlations:
    """What one setting's accuracies go with.

    Attributes:
        title: Of the setting.
        pearson: By fact, source languages left out.
        spearman: The same by ranks.
        above_chance: Pearson without languages whose interval reaches the majority class.
        with_source: Pearson with the source languages.
        at_chance: How many languages ``above_chance`` leaves out.
    """

    title: str
    pearson: dict[str, Correlation]
    spearman: dict[str, Correlation]
    above_chance: dict[str, Correlation]
    with_source: dict[str, Correlation]
    at_chance: int


@dataclass(frozen=True)
class Contrast:
    """Two settings compared.

    Attributes:
        first: The one compared with.
        second: The other; differences are second minus first.
        difference: Of mean accuracies, resampling seeds and items.
        p_items: Permutation over items.
        p_seeds: Exact permutation over seeds; NaN with one seed.
        p_holm: ``p_items`` adjusted for all contrasts of the study.
        slopes: Mixed model per distance.
        correlations: Difference of r per fact, second minus first.
        gains: The difference regressed on each distance: alone, with corpus size, and with seen.
        tokenization: The difference and each measure of how finely the tokenizer cuts a language:
            correlated, and regressed on it beside corpus size; empty where the two settings' texts
            are not cut alike.
        better: Languages in which the second is better by McNemar's exact test of the answers that
            more than half of the seeds give (where items are not right or wrong, by permutation of
            items), after Benjamini–Hochberg (5 %).
        worse: Languages in which it is worse.
        tested: Languages that were tested.
    """

    first: str
    second: str
    difference: Interval
    p_items: float
    p_seeds: float
    p_holm: float
    slopes: dict[str, Slopes | None]
    correlations: dict[str, Difference]
    gains: dict[str, dict[str, Regression | None]]
    tokenization: dict[str, tuple[Correlation, Regression | None]]
    better: tuple[str, ...]
    worse: tuple[str, ...]
    tested: int


def correlations(
    arm: Arm, facts: Facts, sources: Sequence[str], majority: Mapping[str, float]
) -> Correlations:
    """Correlate a setting's accuracies with the facts of languages.

    Args:
        arm: The setting.
        facts: Of its languages, in any order.
        sources: Languages left out, as their distance to themselves is 0 by definition.
        majority: Share of the commonest class of the test items, per language.
    """
    answers = arm.answers()
    accuracy = np.array([answers[code].mean() for code in facts.languages])
    target = np.array([code not in sources for code in facts.languages])
    low = np.array([_low(answers[code]) for code in facts.languages])
    above = low > np.array([majority.get(code, 0.0) for code in facts.languages])
    names = [*facts.distances, *(name for name in EXPLAINED if name in facts.values)]

    def over(chosen: NDArray[np.bool_], method: Method = "pearson") -> dict[str, Correlation]:
        y = np.where(chosen, accuracy, np.nan)
        return {name: correlate(facts.values[name], y, facts.families, method) for name in names}

    return Correlations(
        arm.title,
        over(target),
        over(target, "spearman"),
        over(target & above),
        over(np.ones_like(target)),
        int((target & ~above).sum()),
    )


def _low(values: Float[np.ndarray, "S N"]) -> float:
    """Give the lower end of a language's accuracy."""
    return bootstrap_mean(values, resamples=500).low


def contrasts(
    arms: Sequence[Arm], facts: Facts, sources: Sequence[str], *, reference: str | None = None
) -> list[Contrast]:
    """Compare settings with a reference, or every pair of up to three with one another.

    Args:
        arms: Settings tested with the same seeds on the same items; others are passed over.
        facts: Of the languages.
        sources: Left out of slopes and correlations.
        reference: Title of the setting that all others are compared with.
    """
    if reference is not None:
        first = next(arm for arm in arms if arm.title == reference)
        pairs = [(first, arm) for arm in arms if arm is not first]
    elif len(arms) <= 3:
        pairs = list(combinations(arms, 2))
    else:
        pairs = [(arms[0], arm) for arm in arms[1:]]
    found = [
        _contrast(one, other, facts, sources) for one, other in pairs if are_paired(one, other)
    ]
    return adjusted(found)


def adjusted(found: Sequence[Contrast]) -> list[Contrast]:
    """Adjust ``p_items`` by Holm, for all contrasts that are given together."""
    values = holm({str(i): one.p_items for i, one in enumerate(found)})
    return [replace(one, p_holm=values[str(index)]) for index, one in enumerate(found)]


def on_common_seeds(arms: Sequence[Arm]) -> tuple[list[Arm], int]:
    """Leave out runs with seeds that not every setting has.

    Returns:
        The settings as they can be paired, and how many runs were left out; settings that have no
        seeds in common stay as they are, and none is left out.
    """
    common = set.intersection(*(set(arm.pairs.values()) for arm in arms)) if arms else set()
    if not common:
        return list(arms), 0
    kept = []
    for arm in arms:
        names = [run for run, seeds in arm.pairs.items() if seeds in common]
        own = arm.predictions.filter(pl.col("run").is_in(names))
        kept.append(Arm(arm.title, own, {name: arm.pairs[name] for name in names}))
    left = sum(len(arm.pairs) for arm in arms) - sum(len(arm.pairs) for arm in kept)
    return kept, left


def are_paired(one: Arm, other: Arm) -> bool:
    """Say whether two settings have runs with the same seeds and answered the same items."""
    if sorted(one.pairs.values()) != sorted(other.pairs.values()):
        return False
    keys = ["language", "id"]
    items = [
        arm.predictions.filter(pl.col("baseline").is_null()).select(keys).unique().sort(keys)
        for arm in (one, other)
    ]
    return items[0].equals(items[1])


def paired(arm: Arm) -> Values:
    """Give an arm's answers with its runs in the order of their seeds."""
    answers = arm.answers()
    names = sorted(arm.predictions["run"].unique().to_list())
    order = sorted(range(len(names)), key=lambda row: arm.pairs.get(names[row], (row, row)))
    return {code: values[order] for code, values in answers.items()}


def _contrast(first: Arm, second: Arm, facts: Facts, sources: Sequence[str]) -> Contrast:
    """Compare two settings."""
    one, other = paired(first), paired(second)
    change = {code: other[code] - one[code] for code in facts.languages}
    parallel = have_the_same_items(first.predictions)
    units = (
        np.mean(list(change.values()), axis=0)
        if parallel
        else np.concatenate(list(change.values()), axis=1)
    )
    target = np.array([code not in sources for code in facts.languages])
    seeds = [
        np.stack([values[code].mean(1) for code in facts.languages]) for values in (one, other)
    ]
    means = [np.where(target, table.mean(1), np.nan) for table in seeds]
    distances = {k: np.where(target, v, np.nan) for k, v in facts.distances.items()}
    raw = {code: p_of_language(one[code], other[code]) for code in facts.languages}
    clear = {code for code, p in benjamini_hochberg(raw).items() if p < 0.05}
    gain = means[1] - means[0]
    cut = as_cut(facts, first.predictions, sources)
    measured = (
        MEASURES if are_cut_alike(first.predictions, second.predictions, facts.languages) else ()
    )
    return Contrast(
        first=first.title,
        second=second.title,
        difference=bootstrap_mean_over_languages(list(change.values()), parallel=parallel),
        p_items=permutation_test(units, "items"),
        p_seeds=permutation_test(units, "seeds") if len(units) > 1 else float("nan"),
        p_holm=1.0,
        slopes={kind: mixed_model(np.stack(seeds), d) for kind, d in distances.items()},
        correlations={
            name: compare_dependent(facts.values[name], means[1], means[0], facts.families)
            for name in [*distances, "log_corpus"]
        },
        gains={kind: _gains(gain, d, facts) for kind, d in distances.items()},
        tokenization={name: _beside(gain, cut, name) for name in measured if name in facts.values},
        better=tuple(c for c in facts.languages if c in clear and change[c].mean() > 0),
        worse=tuple(c for c in facts.languages if c in clear and change[c].mean() < 0),
        tested=len(facts.languages),
    )


def p_of_language(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Test two settings in one language: of right and wrong answers, or of other items' values."""
    if all(set(np.unique(values)) <= {0.0, 1.0} for values in (one, other)):
        return mcnemar(*(values.mean(0) > 0.5 for values in (one, other)))
    return permutation_test(other - one, "items", permutations=ROUGH_PERMUTATIONS)


def _beside(
    gain: NDArray[np.float64], facts: Facts, name: str
) -> tuple[Correlation, Regression | None]:
    """Correlate a gain with a fact, and regress it on the fact beside corpus size."""
    values = facts.values[name]
    corpus = facts.values["log_corpus"]
    both = {"measure": values, "corpus size (log10)": corpus}
    predictors = both if np.isfinite(corpus).any() else {"measure": values}
    return correlate(values, gain, facts.families), regress(gain, predictors, facts.families)


def _gains(
    gain: NDArray[np.float64], distance: NDArray[np.float64], facts: Facts
) -> dict[str, Regression | None]:
    """Regress a gain on a distance, alone and beside what else may explain it."""
    corpus = {"corpus size (log10)": facts.values["log_corpus"]}
    seen = {"seen in pre-training": facts.seen}
    own = {"distance": distance}
    return {
        "alone": regress(gain, own, facts.families),
        "with corpus size": regress(gain, own | corpus, facts.families),
        "with seen or not": regress(gain, own | seen, facts.families),
    }
