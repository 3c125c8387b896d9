"""Says in words what looks wrong with a setting's runs."""

import math
from collections.abc import Mapping, Sequence

import polars as pl

from polyprompt.analysis.summary import BASELINE_TITLES, Summary, item_values
from polyprompt.languages.catalogue import language_name
from polyprompt.scoring.intervals import Interval
from polyprompt.scoring.metrics import gives_classes
from polyprompt.scoring.score import metric_of

ONE_CLASS_SHARE = 0.8
SEED_RANGE = 0.10
UNREAD_SHARE = 0.05


def diagnose(
    predictions: pl.DataFrame,
    summary: Summary,
    last_losses: Mapping[str, float | None],
    labels: Sequence[str],
) -> list[str]:
    """Find what a reader should be warned of.

    Args:
        predictions: Of the setting's runs and their baselines.
        summary: Of the same.
        last_losses: Mean training loss over the last epoch (nats) by run; None where unknown.
        labels: Of the task.

    Returns:
        Sentences, the most serious first; empty if nothing was found.
    """
    return [
        *_unread(predictions),
        *_untrained(last_losses, len(labels)),
        *_below_zero_shot(predictions),
        *_one_class(predictions),
        *_seeds_apart(predictions),
        *_better_baseline(summary),
    ]


def _unread(predictions: pl.DataFrame) -> list[str]:
    """Find runs that often write what is none of the labels' words."""
    if "unread" not in predictions.columns:
        return []
    own = predictions.filter(pl.col("baseline").is_null())
    found = []
    for (run,), part in own.group_by(["run"], maintain_order=True):
        unread = part.filter(pl.col("unread"))
        if len(unread) <= UNREAD_SHARE * len(part):
            continue
        most = unread["answer"].value_counts(sort=True)["answer"][0]
        counted = unread["prediction"][0]
        found.append(
            f"Run {run}: {100 * len(unread) / len(part):.0f} % of what it wrote is none of the "
            f"labels' words, most often '{most[:60]}'; it counts as "
            f"{repr(counted) if counted else 'wrong'}."
        )
    return found


def _untrained(last_losses: Mapping[str, float | None], classes: int) -> list[str]:
    """Find runs whose training loss is no better than guessing."""
    if not classes:  # what is guessed is no class
        return []
    limit = math.log(classes)
    return [
        f"Run {run}: the training loss of its last epoch is {loss:.2f}, not below guessing "
        f"(log {classes} = {limit:.2f}). It has not learnt; try another learning rate."
        for run, loss in last_losses.items()
        if loss is not None and loss >= limit
    ]


def _below_zero_shot(predictions: pl.DataFrame) -> list[str]:
    """Find runs that are worse than the frozen backbone without examples."""
    known = set(predictions["baseline"].unique()) & {"zero_shot", "zero_shot_instruction"}
    if not known:
        return []
    own = _mean_by_run(predictions, None)
    zero = _mean_by_run(predictions, known.pop())
    return [
        f"Run {run}: below zero-shot ({100 * own[run]:.1f} against {100 * zero[run]:.1f}, mean "
        "over languages): the examples did harm."
        for run in own
        if own[run] < zero[run]
    ]


def _one_class(predictions: pl.DataFrame) -> list[str]:
    """Find runs that give nearly all answers of a language as one class."""
    if not gives_classes(metric_of(predictions)):
        return []
    own = predictions.filter(pl.col("baseline").is_null())
    counts = own.group_by("run", "language", "prediction").len()
    totals = own.group_by("run", "language").agg(pl.len().alias("all"))
    shares = counts.join(totals, on=["run", "language"])
    shares = shares.with_columns(share=pl.col("len") / pl.col("all"))
    rows = shares.filter(pl.col("share") > ONE_CLASS_SHARE)
    rows = rows.sort("share", "language", descending=[True, False])
    found: dict[str, list[str]] = {}
    for row in rows.iter_rows(named=True):
        found.setdefault(row["run"], []).append(
            f"{language_name(row['language'])} {100 * row['share']:.0f} % '{row['prediction']}'"
        )
    return [
        f"Run {run}: nearly all answers of a language are one class, so that its scores say "
        f"little: {', '.join(found[run])}."
        for run in sorted(found)
    ]


def _seeds_apart(predictions: pl.DataFrame) -> list[str]:
    """Find seeds that differ by more than the limit, in their mean over languages."""
    means = _mean_by_run(predictions, None)
    low, high = min(means.values()), max(means.values())
    if high - low <= SEED_RANGE:
        return []
    return [
        f"The seeds lie {100 * (high - low):.1f} points apart ({100 * low:.1f} to "
        f"{100 * high:.1f}): one seed says little here; use more seeds or more examples."
    ]


def _better_baseline(summary: Summary) -> list[str]:
    """Say which baselines are better than the trained prompt."""
    better = {
        name: difference for name, difference in summary.differences.items() if difference.mean < 0
    }
    return [
        f"The baseline {BASELINE_TITLES.get(name, name)} is {_how(d)} by {-100 * d.mean:.1f} "
        f"points (95 % interval {-100 * d.high + 0.0:.1f} to {-100 * d.low + 0.0:.1f})."
        for name, d in sorted(better.items(), key=lambda item: item[1].mean)
    ]


def _how(difference: Interval) -> str:
    """Say what can be said of a baseline whose mean is the higher one."""
    return "better" if difference.excludes_zero() else "higher, but not told apart,"


def _mean_by_run(predictions: pl.DataFrame, baseline: str | None) -> dict[str, float]:
    """Average each run's accuracy over languages."""
    runs = sorted(predictions["run"].unique().to_list())
    values = item_values(predictions, baseline)
    return {
        run: float(sum(v[index].mean() for v in values.values()) / len(values))
        for index, run in enumerate(runs)
    }
