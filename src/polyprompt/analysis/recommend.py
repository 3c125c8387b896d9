"""Recommends a setting for every target language from what other families' dev splits show.

Philippy et al. (2024) end with the question whether freezing, length and reparameterisation should
be chosen per target. Here the choice for a language sees no label of it and none of its family:
what each setting gained on the dev split of all other families is regressed on facts of the
languages, and the setting with the highest prediction is taken. It is scored on the test split.

Axes: L languages, P settings, F facts, S seeds, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from polyprompt.analysis.correlation import family_interval, groups_of
from polyprompt.analysis.facts import Facts
from polyprompt.languages.distance import KINDS
from polyprompt.scoring.intervals import Interval

LEAST_LANGUAGES = 8
PENALTIES = np.logspace(-1, 4, 11)


@dataclass(frozen=True)
class Recommendation:
    """What is recommended for one language.

    Attributes:
        language: SIB-200 code.
        setting: The recommended one.
        accuracy: Of it, on test.
        single: Of the setting that is best on average on the dev split of other families.
        own_dev: Of the setting that is best on the language's own dev split.
        oracle: Of the setting that is best on its test split.
    """

    language: str
    setting: str
    accuracy: float
    single: float
    own_dev: float
    oracle: float


@dataclass(frozen=True)
class Recommendations:
    """Recommendations for all languages, and what they are worth.

    Attributes:
        languages: One per language.
        best_single: The setting with the highest mean on the dev split of all languages.
        single: Its mean accuracy on test.
        gain: Recommended minus the best single setting, with an interval over families.
        missing: Facts that languages lack and the median stands in for.
    """

    languages: tuple[Recommendation, ...]
    best_single: str
    single: float
    gain: Interval
    missing: int

    def mean(self, name: str) -> float:
        """Average one of the accuracies over the languages."""
        return float(np.mean([getattr(one, name) for one in self.languages]))


def recommend(
    settings: Sequence[str],
    dev: Float[np.ndarray, "L P"],
    test: Float[np.ndarray, "L P"],
    facts: Facts,
    sources: Sequence[str],
) -> Recommendations:
    """Recommend a setting per language.

    Args:
        settings: Names.
        dev: Accuracies on the dev split, by language and setting.
        test: On the test split.
        facts: Of the languages, in the same order; distances over predicted features are complete.
        sources: Languages of the examples, for which nothing is recommended.

    Raises:
        ValueError: There are fewer than two settings, or too few languages or families.
    """
    targets = [i for i, code in enumerate(facts.languages) if code not in sources]
    if len(settings) < 2 or len(targets) < LEAST_LANGUAGES:
        raise ValueError(
            f"A recommendation needs two settings and {LEAST_LANGUAGES} target languages or more."
        )
    columns, missing = _columns(facts)
    found = []
    for target in targets:
        others = [i for i in targets if not _related(facts, i, target)]
        if len(others) < LEAST_LANGUAGES // 2:
            raise ValueError("There are too few languages outside a target's family to learn from.")
        predicted = _predict(columns[others], dev[others], columns[target])
        chosen = int(predicted.argmax())
        single = int(dev[others].mean(0).argmax())
        found.append(
            Recommendation(
                facts.languages[target],
                settings[chosen],
                float(test[target, chosen]),
                float(test[target, single]),
                float(test[target, int(dev[target].argmax())]),
                float(test[target].max()),
            )
        )
    best = int(dev[targets].mean(0).argmax())
    gains = np.array([one.accuracy for one in found]) - test[targets, best]
    groups = groups_of([facts.families[i] for i in targets])
    low, high = family_interval(groups, lambda rows: float(gains[rows].mean()))
    mean = float(gains.mean())
    interval = Interval(mean, mean if low is None else low, mean if high is None else high)
    return Recommendations(
        tuple(found), settings[best], float(test[targets, best].mean()), interval, missing
    )


def _related(facts: Facts, one: int, other: int) -> bool:
    """Say whether two languages are of one family; a language without a family is its own."""
    if one == other:
        return True
    return bool(facts.families[one]) and facts.families[one] == facts.families[other]


def _columns(facts: Facts) -> tuple[Float[np.ndarray, "L F"], int]:
    """Put facts side by side on one scale, missing ones at the median; and count these."""
    names = [*KINDS, "other_script", "tokens", "log_corpus"]
    columns, missing = [], 0
    for name in names:
        values = facts.values.get(name)
        if values is None or np.isnan(values).all():
            continue
        gaps = np.isnan(values)
        missing += int(gaps.sum())
        filled = np.where(gaps, np.nanmedian(values), values)
        spread = filled.std()
        if spread > 1e-9:
            columns.append((filled - filled.mean()) / spread)
    return np.stack(columns, axis=1), missing


def _predict(
    facts: NDArray[np.float64], dev: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Predict each setting's accuracy in a language, relative to the mean of all settings."""
    from sklearn.linear_model import RidgeCV

    relative = dev - dev.mean(1, keepdims=True)
    model = RidgeCV(alphas=PENALTIES).fit(facts, relative)
    return np.asarray(model.predict(target[None]))[0]
