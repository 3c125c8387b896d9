"""What was answered instead: counts of answers by label, and the most confident mistakes.

Axes: C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int

MISTAKES, PER_LANGUAGE = 20, 2


@dataclass(frozen=True)
class Mistake:
    """A wrong answer.

    Attributes:
        language: SIB-200 code.
        id: Of the item.
        label: The right answer.
        prediction: What was answered.
        probability: That the run gave to it; mean over the runs that gave it.
        runs: How many gave it.
    """

    language: str
    id: str
    label: str
    prediction: str
    probability: float
    runs: int


def own_answers(predictions: pl.DataFrame) -> pl.DataFrame:
    """Give the answers of the runs themselves to items that have labels."""
    return predictions.filter(pl.col("baseline").is_null(), pl.col("label").is_not_null())


def confusions(
    predictions: pl.DataFrame, labels: Sequence[str]
) -> dict[str, Int[np.ndarray, "C C+1"]]:
    """Count answers by label, language by language, over all runs.

    Args:
        predictions: Of one setting.
        labels: Rows, and columns; the last column counts answers that are none of them.
    """
    place = {label: number for number, label in enumerate(labels)}
    found: dict[str, Int[np.ndarray, "C C+1"]] = {}
    counted = own_answers(predictions).group_by("language", "label", "prediction").len()
    for language, label, prediction, number in counted.iter_rows():
        table = found.setdefault(str(language), np.zeros((len(labels), len(labels) + 1), dtype=int))
        if label in place:
            table[place[label], place.get(prediction, len(labels))] += number
    return found


def recalls(counts: Int[np.ndarray, "C C+1"], labels: Sequence[str]) -> dict[str, float]:
    """Give each label's share of right answers; labels without items are left out."""
    totals = counts.sum(1)
    return {
        label: float(counts[i, i] / totals[i]) for i, label in enumerate(labels) if totals[i] > 0
    }


def confident_mistakes(
    predictions: pl.DataFrame,
    labels: Sequence[str],
    *,
    most: int = MISTAKES,
    per_language: int = PER_LANGUAGE,
) -> list[Mistake]:
    """Find the wrong answers that runs were surest of.

    Args:
        predictions: Of one setting, with the scores of all labels.
        labels: In the order of the scores.
        most: In all.
        per_language: Of one language, so that they do not all come from the weakest.

    Returns:
        The surest first; nothing where scores are no scores of labels.
    """
    wrong = own_answers(predictions).filter(
        pl.col("prediction") != pl.col("label"), pl.col("prediction").is_in(list(labels))
    )
    wrong = wrong.filter(pl.col("scores").list.eval(pl.element().is_finite()).list.all())
    if not wrong.height or wrong["scores"].list.len().unique().to_list() != [len(labels)]:
        return []
    scores = np.array(wrong["scores"].to_list(), dtype=np.float64)
    scores -= scores.max(1, keepdims=True)
    sure = 1 / np.exp(scores).sum(1)
    found = (
        wrong.select("language", "id", "label", "prediction")
        .with_columns(probability=pl.Series(sure))
        .group_by("language", "id", "label", "prediction", maintain_order=True)
        .agg(pl.col("probability").mean(), pl.len().alias("runs"))
        .sort("probability", descending=True, maintain_order=True)
    )
    chosen = found.group_by("language", maintain_order=True).head(per_language)
    rows = chosen.sort("probability", descending=True, maintain_order=True).head(most)
    return [Mistake(**row) for row in rows.iter_rows(named=True)]
