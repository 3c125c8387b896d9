"""Sums a setting up: accuracy per language, per script and over all, baselines beside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from polyprompt.errors import StoreError
from polyprompt.languages.catalogue import catalogue, language_name, script_of
from polyprompt.scoring.intervals import (
    Interval,
    bootstrap_mean,
    bootstrap_mean_over_languages,
    proportion_interval,
)
from polyprompt.scoring.metrics import counts_of
from polyprompt.scoring.score import metric_of

Values = dict[str, NDArray[np.float64]]

BASELINE_TITLES = {
    "majority": "majority",
    "tfidf_svm": "TF-IDF + SVM",
    "word_tags": "known words",
    "zero_shot": "zero-shot",
    "zero_shot_instruction": "zero-shot",
    "in_context": "in-context",
    "logistic_regression": "logistic",
    "logistic_regression_descriptions": "logistic + descr.",
    "closed_form": "closed form",
    "without_parts": "as it is",
    "positive": "always positive",
}
"""How tables name the baselines."""


@dataclass(frozen=True)
class LanguageRow:
    """One language.

    Attributes:
        code: SIB-200 code.
        name: In English.
        script: ISO 15924.
        family: Top-level family; empty where unknown.
        n: Test items.
        accuracy: Mean over seeds, with an interval over seeds and items.
        deviation: Standard deviation over seeds; None with one seed.
        baselines: Their mean accuracies by name.
    """

    code: str
    name: str
    script: str
    family: str
    n: int
    accuracy: Interval
    deviation: float | None
    baselines: dict[str, float]


@dataclass(frozen=True)
class GroupRow:
    """A mean over the languages of one script, or over all.

    Attributes:
        name: Of the group.
        languages: How many.
        accuracy: Mean over languages and seeds; items that are parallel are resampled together.
        deviation: Standard deviation over seeds of the mean over languages.
        of_runs: That mean of every run.
        baselines: Their means by name.
    """

    name: str
    languages: int
    accuracy: Interval
    deviation: float | None
    of_runs: tuple[float, ...]
    baselines: dict[str, float]


@dataclass(frozen=True)
class Summary:
    """A setting's results.

    Attributes:
        languages: In the data set's order.
        scripts: Largest group first.
        overall: Over all languages.
        differences: Run minus baseline, paired by seed and item, over all languages.
        seeds: Number of runs.
        metric: What the values are.
        shared_items: Whether an item was resampled in all languages together.
    """

    languages: tuple[LanguageRow, ...]
    scripts: tuple[GroupRow, ...]
    overall: GroupRow
    differences: dict[str, Interval]
    seeds: int
    shared_items: bool
    metric: str = "accuracy"

    def best_baseline(self) -> str | None:
        """Name the baseline with the highest mean over all languages."""
        means = self.overall.baselines
        return max(means, key=lambda name: means[name]) if means else None


def item_values(predictions: pl.DataFrame, baseline: str | None) -> Values:
    """Tabulate what each item adds to the metric.

    Args:
        predictions: Columns run, baseline, language, id, label, prediction; metric where it is not
            accuracy.
        baseline: Whose answers; None for the runs themselves.

    Returns:
        Per language, runs × items of numbers whose mean over a run's items is its metric, items
        ordered by id; 1 for right and 0 for wrong answers where the metric is accuracy.
    """
    metric = metric_of(predictions)
    if metric != "accuracy":
        return _taken_apart(predictions, baseline, metric)
    chosen = predictions.filter(
        pl.col("baseline").is_null() if baseline is None else pl.col("baseline") == baseline,
        pl.col("label").is_not_null(),
    )
    runs = chosen["run"].n_unique()
    right = chosen.select(
        "run",
        "language",
        "id",
        (pl.col("prediction") == pl.col("label")).cast(pl.Float64).alias("right"),
    ).sort("run", "id", maintain_order=True)
    return {
        str(key[0]): part["right"].to_numpy().reshape(runs, -1)
        for key, part in right.partition_by("language", as_dict=True, maintain_order=True).items()
    }


def _taken_apart(predictions: pl.DataFrame, baseline: str | None, metric: str) -> Values:
    """Tabulate what each item adds to a metric that is no mean over items."""
    chosen = predictions.filter(
        pl.col("baseline").is_null() if baseline is None else pl.col("baseline") == baseline,
        pl.col("label").is_not_null(),
    ).sort("run", "id", maintain_order=True)
    found: dict[str, list[NDArray[np.float64]]] = {}
    for key, part in chosen.partition_by("language", "run", as_dict=True).items():
        counts = counts_of(metric, part)
        found.setdefault(str(key[0]), []).append(counts.of_items())
    return {language: np.stack(rows) for language, rows in found.items()}


def summarise(predictions: pl.DataFrame, *, parallel: bool) -> Summary:
    """Sum one setting's predictions up.

    Args:
        predictions: Of runs that differ in their seeds only.
        parallel: Whether one id is the same sentence in every language.
    """
    names = [name for name in predictions["baseline"].unique(maintain_order=True) if name]
    order = predictions["language"].unique(maintain_order=True).to_list()
    _check_whole(predictions)
    own = item_values(predictions, None)
    others = {name: item_values(predictions, name) for name in names}
    shared = parallel and have_the_same_items(predictions)
    by_script: dict[str, list[str]] = {}
    for code in order:
        by_script.setdefault(script_of(code) or "?", []).append(code)
    scripts = [
        _group(name, codes, own, others, parallel=shared) for name, codes in by_script.items()
    ]
    return Summary(
        languages=tuple(_language(code, own, others) for code in order),
        scripts=tuple(sorted(scripts, key=lambda row: -row.languages)),
        overall=_group("all languages", order, own, others, parallel=shared),
        differences={
            name: mean_difference(own, values, order, parallel=shared)
            for name, values in others.items()
        },
        seeds=len(next(iter(own.values()))),
        shared_items=shared,
        metric=metric_of(predictions),
    )


def _check_whole(predictions: pl.DataFrame) -> None:
    """Refuse runs that were tested on different items."""
    sizes = predictions.filter(pl.col("baseline").is_null()).group_by("run", "language").len()
    uneven = sizes.group_by("language").agg(pl.col("len").n_unique()).filter(pl.col("len") > 1)
    if uneven.height:
        language = uneven["language"][0]
        raise StoreError(
            f"The runs were tested on different items (language {language}): the data changed "
            "between them. Delete the older runs' folders or use another output folder."
        )


def have_the_same_items(predictions: pl.DataFrame) -> bool:
    """Say whether every language has the same item ids, so that items can be resampled together."""
    ids = predictions.group_by("language").agg(pl.col("id").unique().sort())["id"]
    return ids.n_unique() == 1


def mean_difference(
    own: Values, other: Values, languages: Sequence[str], *, parallel: bool
) -> Interval:
    """Bootstrap the mean difference of two sets of answers, paired by seed and item."""
    return _over_languages({code: own[code] - other[code] for code in languages}, parallel=parallel)


def _language(code: str, own: Values, others: dict[str, Values]) -> LanguageRow:
    """Sum one language up."""
    values = own[code]
    known = catalogue().get(code)
    return LanguageRow(
        code=code,
        name=language_name(code),
        script=script_of(code),
        family=known.family if known else "",
        n=values.shape[1],
        accuracy=_interval(values),
        deviation=_deviation(values.mean(1)),
        baselines={name: float(other[code].mean()) for name, other in others.items()},
    )


def _interval(values: NDArray[np.float64]) -> Interval:
    """Bootstrap a language's accuracy; Wilson's interval where all answers are alike."""
    return _alike({"": values}, parallel=True) or bootstrap_mean(values)


def _alike(values: Values, *, parallel: bool) -> Interval | None:
    """Give Wilson's interval where all answers are right, or all wrong; else None.

    Nothing can be resampled there. Items that languages share count once.
    """
    kinds = {value for own in values.values() for value in (own.min(), own.max())}
    if len(kinds) > 1 or not kinds <= {0, 1}:
        return None
    sizes = [own.shape[1] for own in values.values()]
    n = sizes[0] if parallel else sum(sizes)
    return proportion_interval(n * int(kinds.pop()), n)


def _group(
    name: str, codes: Sequence[str], own: Values, others: dict[str, Values], *, parallel: bool
) -> GroupRow:
    """Average over a group of languages, every language counting the same."""
    per_seed = np.mean([own[code].mean(1) for code in codes], axis=0)
    answers = {code: own[code] for code in codes}
    return GroupRow(
        name=name,
        languages=len(codes),
        accuracy=_alike(answers, parallel=parallel) or _over_languages(answers, parallel=parallel),
        deviation=_deviation(per_seed),
        of_runs=tuple(map(float, per_seed)),
        baselines={
            baseline: float(np.mean([values[code].mean() for code in codes]))
            for baseline, values in others.items()
        },
    )


def _over_languages(values: Values, *, parallel: bool) -> Interval:
    """Bootstrap a mean over languages, which may have different numbers of items."""
    return bootstrap_mean_over_languages(list(values.values()), parallel=parallel)


def _deviation(per_seed: NDArray[np.float64]) -> float | None:
    """Compute the sample standard deviation over seeds."""
    return float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None
