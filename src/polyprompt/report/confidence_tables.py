"""Tables of how far probabilities are from what they promise."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean

from polyprompt.analysis.confidence import Confidence
from polyprompt.report.score_tables import Table, percent


def confidence_rows(
    found: Mapping[str, Confidence], runs: int = 1, *, calibrated: bool = True
) -> Table:
    """Tabulate languages, the largest error first, and the mean over them.

    Args:
        found: By the language's name.
        runs: Whose means they are.
        calibrated: Whether any of them was, so that there are two errors.
    """
    order = sorted(found.items(), key=lambda item: -item[1].error)
    rows: list[tuple[str, ...]] = [
        (
            name,
            one.language,
            str(one.n),
            percent(one.accuracy),
            percent(one.confidence),
            percent(one.error_before),
            percent(one.error),
        )
        for name, one in order
    ]
    every = list(found.values())
    if len(every) > 1:
        means = (
            mean(one.accuracy for one in every),
            mean(one.confidence for one in every),
            mean(one.error_before for one in every),
            mean(one.error for one in every),
        )
        rows.append(("mean over languages", "", "", *map(percent, means)))
    columns = (
        "language", "code", "n", "accuracy", "mean probability", "calibration error as it was",
        "calibrated",
    )  # fmt: skip
    title = "Expected calibration error of test answers (points, 15 bins; large with few items)"
    if runs > 1:
        title += f", means over {runs} seeds"
    whole = Table(title, columns, tuple(rows), "llrrrrr", totals=int(len(every) > 1))
    if calibrated:
        return whole
    columns = (*columns[:5], "calibration error")
    return replace(
        whole, columns=columns, rows=tuple(row[:6] for row in whole.rows), alignment="llrrrr"
    )
