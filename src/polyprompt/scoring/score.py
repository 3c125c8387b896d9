"""Turns predictions into scores per language, of the run and of its baselines."""

import polars as pl

from polyprompt.scoring.metrics import METRICS, OF_TAGS

SCORE_COLUMNS = ("run", "baseline", "task", "language", "metric", "value", "n")


def metric_of(predictions: pl.DataFrame) -> str:
    """Name the metric that a table of predictions is measured by."""
    return str(predictions["metric"][0]) if "metric" in predictions.columns else "accuracy"


def score_predictions(predictions: pl.DataFrame) -> pl.DataFrame:
    """Score every metric for every language and baseline.

    Args:
        predictions: Columns run, baseline (null for the run itself), task, language, label,
            prediction; rows without a label are left out.

    Returns:
        Columns run, baseline, task, language, metric, value (0–1), n (items).
    """
    keys = ["run", "baseline", "task", "language"]
    rows: list[tuple[object, ...]] = []
    wanted = _metrics(metric_of(predictions))
    labelled = predictions.filter(pl.col("label").is_not_null())
    for key, group in labelled.group_by(keys, maintain_order=True):
        truth, predicted = group["label"].to_list(), group["prediction"].to_list()
        values = {m: METRICS[m](truth, predicted).value() for m in wanted}
        rows += [(*key, metric, value, len(truth)) for metric, value in values.items()]
    schema = {
        "run": pl.String, "baseline": pl.String, "task": pl.String, "language": pl.String,
        "metric": pl.String, "value": pl.Float64, "n": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _metrics(asked: str) -> tuple[str, ...]:
    """Name the metrics that make sense beside the one that is asked for."""
    if asked == "entity_f1":
        return "entity_f1", "word_accuracy"
    return (asked,) if asked in OF_TAGS else ("accuracy", "macro_f1")
