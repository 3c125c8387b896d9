"""How much accuracy falls with distance, and whether a setting changes that.

A weaker correlation alone is not a smaller bias: it also falls when accuracies are noisier or
closer together. What is compared here is the slope, in points of accuracy per unit of distance.

Axes: L languages, S seeds, N items, P settings.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats

from polyprompt.analysis.correlation import LEAST, family_interval, groups_of
from polyprompt.scoring.metrics import counts_of
from polyprompt.scoring.score import metric_of
from polyprompt.seeds import generator

RESAMPLES = 2000


@dataclass(frozen=True)
class Effect:
    """An estimated effect.

    Attributes:
        value: The estimate.
        low: End of the 95 % interval.
        high: The other end.
        p: Two-sided, that it is 0.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Slopes:
    """A mixed model of accuracy on distance and setting.

    Attributes:
        slope: Accuracy per unit of distance in the first setting.
        change: What the setting adds to the slope, per unit of setting.
        gain: What the setting adds at the languages' mean distance, per unit of setting.
        n: Languages.
        converged: Whether the fit did.
    """

    slope: Effect
    change: Effect
    gain: Effect
    n: int
    converged: bool


def mixed_model(
    accuracy: Float[np.ndarray, "P L S"],
    distance: Float[np.ndarray, " L"],
    setting: Sequence[float] = (0.0, 1.0),
) -> Slopes | None:
    """Fit accuracy ~ distance × setting with random language, language × setting, seed and item.

    Every language is tested with the same seeds, and in every setting on the same items. What a
    seed adds is then in all cells alike, and an item's difficulty in all cells of its language (of
    all languages, where items are parallel): both move the intercept and no slope. So the model is
    fitted to means over seeds and items, with a random language; language × setting is what is
    left. Slopes and errors are those of the model of single answers (a test shows it).

    Along more than two values of a number every language has a slope of its own, too. In such
    balanced designs that model's estimates are the regressions of the languages' own lines on
    distance, which is how they are computed then.

    Args:
        accuracy: Of every setting, language and seed.
        distance: Of the languages; NaN leaves one out.
        setting: Value of each setting: 0 and 1, or for example log2 of prompt lengths.

    Returns:
        The slopes; None for fewer than ``LEAST`` languages, or distances or accuracies that are
        all alike.
    """
    import pandas as pd
    import statsmodels.formula.api as smf

    there = ~np.isnan(distance)
    languages = int(there.sum())
    alike = languages < LEAST or np.ptp(distance[there]) < 1e-9
    if alike or np.ptp(accuracy[:, there].mean(2)) < 1e-12:
        return None
    means, centred = accuracy[:, there].mean(2), distance[there] - distance[there].mean()
    if len(means) > 2:
        return _along(means, centred, np.asarray(setting, dtype=float))
    frame = _cells(means, centred, setting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance at its bound of 0 warns; convergence is told
        model = smf.mixedlm("accuracy ~ distance * setting", pd.DataFrame(frame), groups="language")
        fit = model.fit(reml=True, method="powell")  # gradients stall at bounds
    freedom = max(languages - 2, 1)
    effects = {
        name: _effect(float(fit.fe_params[name]), float(fit.bse_fe[name]), freedom)
        for name in ("distance", "distance:setting", "setting")
    }
    return Slopes(
        effects["distance"],
        effects["distance:setting"],
        effects["setting"],
        languages,
        bool(fit.converged),
    )


def _along(
    accuracy: NDArray[np.float64], distance: NDArray[np.float64], setting: NDArray[np.float64]
) -> Slopes:
    """Regress the languages' own lines along a number on distance.

    Args:
        accuracy: Settings × languages.
        distance: Centred.
        setting: Three values or more.
    """
    line = np.column_stack([np.ones(len(setting)), setting])
    starts, steps = np.linalg.lstsq(line, accuracy, rcond=None)[0]
    languages = len(distance)
    freedom = max(languages - 2, 1)
    design = np.column_stack([np.ones(languages), distance])
    inverse = np.linalg.inv(design.T @ design)

    def effect(values: NDArray[np.float64], column: int) -> Effect:
        """Regress values on distance and give one coefficient."""
        found = inverse @ design.T @ values
        rest = values - design @ found
        error = np.sqrt(inverse[column, column] * (rest @ rest) / freedom)
        return _effect(float(found[column]), float(error), freedom)

    return Slopes(effect(starts, 1), effect(steps, 1), effect(steps, 0), languages, converged=True)


def _cells(
    accuracy: NDArray[np.float64], distance: NDArray[np.float64], setting: Sequence[float]
) -> dict[str, NDArray[Any]]:
    """Write a table of accuracies, settings × languages, as columns."""
    arm, language = np.meshgrid(*map(np.arange, accuracy.shape), indexing="ij")
    return {
        "accuracy": accuracy.ravel(),
        "language": language.ravel(),
        "distance": distance[language.ravel()],
        "setting": np.asarray(setting, dtype=float)[arm.ravel()],
    }


def _effect(value: float, error: float, freedom: int) -> Effect:
    """Give an estimate its t interval over languages."""
    if not error > 0:
        return Effect(value, value, value, 1.0 if value == 0 else 0.0)
    half = error * float(stats.t.ppf(0.975, freedom))
    p = float(2 * stats.t.sf(abs(value) / error, freedom))
    return Effect(value, value - half, value + half, p)


@dataclass(frozen=True)
class Regression:
    """A regression over languages with intervals that resample families.

    Attributes:
        effects: Per predictor: per unit of it, accuracy.
        intercept: Accuracy where every predictor is 0.
        n: Languages that have all values.
        families: Of these languages.
        left_out: Languages that lack a value.
    """

    effects: Mapping[str, Effect]
    intercept: float
    n: int
    families: int
    left_out: int


def regress(
    y: Float[np.ndarray, " L"],
    predictors: Mapping[str, Float[np.ndarray, " L"]],
    families: Sequence[str],
) -> Regression | None:
    """Regress a value of languages, such as a gain, on several others at once.

    Args:
        y: What is explained.
        predictors: By name; NaN leaves a language out.
        families: Of the languages; p is by ordinary least squares with errors clustered by them.

    Returns:
        None where there are too few languages or families, or predictors depend on one another.
    """
    from statsmodels.regression.linear_model import OLS

    x = np.column_stack(list(predictors.values()))
    there = ~np.isnan(np.column_stack([x, y])).any(axis=1).reshape(-1)
    design = np.column_stack([np.ones(int(there.sum())), x[there]])
    own = [name for name, here in zip(families, there, strict=True) if here]
    groups = groups_of(own)
    enough = len(design) > design.shape[1] + 2 and len(groups) > 2
    if not enough or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    labels = np.zeros(len(design), dtype=int)
    for number, rows in enumerate(groups):
        labels[rows] = number
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few clusters; the interval resamples them
        fit = OLS(y[there], design).fit(cov_type="cluster", cov_kwds={"groups": labels})
    target = y[there]
    effects = {}
    for column, name in enumerate(predictors, start=1):

        def slope(rows: NDArray[np.int64], column: int = column) -> float:
            found, _, rank, _ = np.linalg.lstsq(design[rows], target[rows], rcond=None)
            return float(found[column]) if rank == design.shape[1] else float("nan")

        low, high = family_interval(groups, slope)
        value = float(fit.params[column])
        effects[name] = Effect(
            value,
            float("nan") if low is None else low,
            float("nan") if high is None else high,
            float(fit.pvalues[column]),
        )
    return Regression(effects, float(fit.params[0]), len(design), len(groups), int((~there).sum()))


def best_setting(
    answers: Float[np.ndarray, "P S N"], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Give how often each setting is a language's best when seeds and items are drawn again.

    Args:
        answers: Right answers (0 or 1) of every setting, paired by seed and item.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        A share per setting; settings that tie share.
    """
    _, seeds, items = answers.shape
    rng = generator(seed, "best setting")
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    of_items = rng.multinomial(items, np.full(items, 1 / items), size=resamples) / items
    means = np.einsum("bs,psn,bn->bp", of_seeds, answers, of_items, optimize=True)
    best = means >= means.max(1, keepdims=True) - 1e-12
    return (best / best.sum(1, keepdims=True)).mean(0)


def script_pairs(languages: Sequence[str]) -> list[tuple[str, str]]:
    """Find languages that stand there in two scripts: the same sentences, written differently.

    Args:
        languages: SIB-200 codes.

    Returns:
        Pairs of codes; of more than two scripts every pair.
    """
    known = sorted(languages)
    return [
        (first, second)
        for i, first in enumerate(known)
        for second in known[i + 1 :]
        if first.partition("_")[0] == second.partition("_")[0]
    ]


def accuracy_table(
    predictions: pl.DataFrame, languages: Sequence[str]
) -> tuple[Float[np.ndarray, "L S"], tuple[str, ...]]:
    """Tabulate a setting's accuracies.

    Args:
        predictions: Of its runs, baselines left out or not.
        languages: In the order wanted.

    Returns:
        Accuracies by language and run, NaN where one was not tested, and the runs' names.
    """
    own = predictions.filter(pl.col("baseline").is_null(), pl.col("label").is_not_null())
    metric = metric_of(own)
    runs = own["run"].unique(maintain_order=True).to_list()
    known = {
        key: counts_of(metric, part).value()
        for key, part in own.partition_by("run", "language", as_dict=True).items()
    }
    table = [[known.get((run, code), np.nan) for run in runs] for code in languages]
    return np.array(table, dtype=float), tuple(runs)
