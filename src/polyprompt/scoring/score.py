"""Turns predictions into scores per language, of the run and of its baselines."""

import polars as pl

from polyprompt.scoring.metrics import METRICS

SCORE_COLUMNS = ("run", "baseline", "task", "language", "metric", "value", "n")


def score_predictions(predictions: pl.DataFrame) -> pl.DataFrame:
    """Score every metric for every language and baseline.

    Args:
        predictions: Columns run, baseline (null for the run itself), task, language, label,
            prediction; rows without a label are left out.

    Returns:
        Columns run, baseline, task, language, metric, value (0–1), n.
    """
    keys = ["run", "baseline", "task", "language"]
    rows = []
    labelled = predictions.filter(pl.col("label").is_not_null())
    for key, group in labelled.group_by(keys, maintain_order=True):
        truth, predicted = group["label"].to_list(), group["prediction"].to_list()
        for metric, compute in METRICS.items():
            rows.append((*key, metric, compute(truth, predicted), len(truth)))
    schema = {
        "run": pl.String, "baseline": pl.String, "task": pl.String, "language": pl.String,
        "metric": pl.String, "value": pl.Float64, "n": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")
