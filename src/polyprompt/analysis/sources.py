"""Source languages as an axis: a matrix of sources × targets and its row and column effects."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from polyprompt.analysis.account import Arm, paired
from polyprompt.scoring.intervals import Interval, bootstrap_mean


@dataclass(frozen=True)
class SourceMatrix:
    """Accuracies of every source language in every target.

    Attributes:
        sources: Names of the rows.
        targets: SIB-200 codes of the columns.
        accuracy: Means over seeds and items.
        rows: How much better a source is than the mean of all, its own language left out of all
            rows, with an interval over seeds and items.
        columns: How much easier a target is than the mean.
        residual: Standard deviation of what row and column do not explain.
        best: The best source of every target.
        others: Targets that are no source, over which the rows are; all targets if all are.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    accuracy: Float[np.ndarray, "R C"]
    rows: dict[str, Interval]
    columns: dict[str, float]
    residual: float
    best: dict[str, str]
    others: tuple[str, ...]


def source_matrix(
    arms: Mapping[str, Arm], of_source: Mapping[str, tuple[str, ...]]
) -> SourceMatrix:
    """Build the matrix.

    Args:
        arms: By the name of the source or sources; paired by seed, with the same parallel items.
        of_source: The source languages' codes, by the same names. Where a target is a source of
            any row, the column is left out of the row effects, so that no source gains by being
            tested on itself.
    """
    answers = {name: paired(arm) for name, arm in arms.items()}
    names = tuple(answers)
    targets = tuple(next(iter(answers.values())))
    table = np.array([[answers[name][code].mean() for code in targets] for name in names])
    used = {code for codes in of_source.values() for code in codes}
    others = [code for code in targets if code not in used] or list(targets)
    over = {name: np.mean([answers[name][code] for code in others], axis=0) for name in names}
    average = np.mean(list(over.values()), axis=0)
    fitted = table.mean(1, keepdims=True) + table.mean(0) - table.mean()
    freedom = max((len(names) - 1) * (len(targets) - 1), 1)
    return SourceMatrix(
        names,
        targets,
        table,
        {name: bootstrap_mean(own - average) for name, own in over.items()},
        dict(zip(targets, (table.mean(0) - table.mean()).tolist(), strict=True)),
        float(np.sqrt(((table - fitted) ** 2).sum() / freedom)),
        {code: names[int(table[:, i].argmax())] for i, code in enumerate(targets)},
        tuple(others),
    )
