"""Turns predictions into scores per language, of the run and of its baselines."""

import polars as pl

from polyprompt.scoring.metrics import beside, counts_of

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
        Columns run, baseline, task, language, metric, value (0–1; a loss in nats), n (items).
    """
    keys = ["run", "baseline", "task", "language"]
    rows: list[tuple[object, ...]] = []
    if metric_of(predictions) == "loss":
        return _losses(predictions, keys)
    wanted = beside(metric_of(predictions))
    labelled = predictions.filter(pl.col("label").is_not_null())
    for key, group in labelled.group_by(keys, maintain_order=True):
        values = {metric: counts_of(metric, group).value() for metric in wanted}
        rows += [(*key, metric, value, len(group)) for metric, value in values.items()]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


_SCHEMA = {
    "run": pl.String, "baseline": pl.String, "task": pl.String, "language": pl.String,
    "metric": pl.String, "value": pl.Float64, "n": pl.Int64,
}  # fmt: skip


def _losses(predictions: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Average what words cost that were guessed (nats); n counts the texts."""
    rows: list[tuple[object, ...]] = []
    for key, own in predictions.group_by(keys, maintain_order=True):
        losses, guessed = own["loss"].to_numpy(), own["guessed"].to_numpy()
        value = float((losses * guessed).sum() / max(guessed.sum(), 1))
        rows.append((*key, "loss", value, len(own)))
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")
