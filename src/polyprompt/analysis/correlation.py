"""Correlations over languages, with intervals that resample language families.

Languages of one family are not independent: Romance languages are close to English and do well for
one reason. An interval that draws whole families with replacement says how much a correlation
depends on which families were in the study.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats

from polyprompt.seeds import generator

RESAMPLES = 2000
LEAST = 4
"""Fewest languages of which a correlation is computed."""
LEAST_FAMILIES = 6
"""Fewest families that are resampled: of fewer, too many draws hold two or three of them."""

Method = Literal["pearson", "spearman"]


@dataclass(frozen=True)
class Correlation:
    """A signed correlation over languages.

    Attributes:
        r: None where there are fewer than ``LEAST`` languages, or all have one value.
        low: 2.5 % quantile over resamples of families; None as ``r``.
        high: 97.5 % quantile.
        p: Two-sided, as if languages were independent.
        n: Languages that had both values.
        families: Of these languages.
    """

    r: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    families: int


def correlate(
    x: Float[np.ndarray, " L"],
    y: Float[np.ndarray, " L"],
    families: Sequence[str],
    method: Method = "pearson",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Correlation:
    """Correlate two values of languages; a language that lacks one (NaN) is left out.

    Args:
        x: For example a distance.
        y: For example an accuracy; its sign counts.
        families: Of the languages; an empty name is a family of its own.
        method: ``pearson`` or ``spearman``.
        resamples: Of families.
        seed: Of the resamples.
    """
    there = ~(np.isnan(x) | np.isnan(y))
    x, y = x[there], y[there]
    groups = groups_of([name for name, here in zip(families, there, strict=True) if here])
    if not _varies(x) or not _varies(y):
        return Correlation(None, None, None, None, len(x), len(groups))
    found: Any = (stats.pearsonr if method == "pearson" else stats.spearmanr)(x, y)
    compute = coefficient(method)
    low, high = family_interval(groups, lambda rows: compute(x[rows], y[rows]), resamples, seed)
    return Correlation(float(found.statistic), low, high, float(found.pvalue), len(x), len(groups))


def coefficient(method: Method) -> Callable[[NDArray[np.float64], NDArray[np.float64]], float]:
    """Give the function that computes a correlation; NaN where a side does not vary."""

    def pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        x, y = x - x.mean(), y - y.mean()
        scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
        return float((x * y).sum()) / scale if scale > 1e-15 else float("nan")

    if method == "pearson":
        return pearson
    return lambda x, y: pearson(stats.rankdata(x), stats.rankdata(y))


def groups_of(families: Sequence[str]) -> list[NDArray[np.int64]]:
    """Give the rows of each family; languages without one stand alone."""
    rows: dict[str, list[int]] = {}
    for index, name in enumerate(families):
        rows.setdefault(name or f"?{index}", []).append(index)
    return [np.array(own) for own in rows.values()]


def family_interval(
    groups: Sequence[NDArray[np.int64]],
    compute: Callable[[NDArray[np.int64]], float],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float | None, float | None]:
    """Compute a percentile interval of a statistic over resampled families.

    Args:
        groups: Rows of each family.
        compute: The statistic of some rows; NaN where it is not defined.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        2.5 and 97.5 % quantiles; None where there are fewer than ``LEAST_FAMILIES``, or the
        statistic was undefined in every tenth resample or more.
    """
    if len(groups) < LEAST_FAMILIES:
        return None, None
    rng = generator(seed, "families")
    draws = rng.integers(len(groups), size=(resamples, len(groups)))
    values = np.array([compute(np.concatenate([groups[i] for i in draw])) for draw in draws])
    values = values[~np.isnan(values)]
    if len(values) < 0.9 * resamples:
        return None, None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """The difference of two correlations that share one side.

    Attributes:
        difference: First minus second; None where one of them is not defined.
        low: 2.5 % quantile over resamples of families.
        high: 97.5 % quantile.
        p: Of Williams' test, as if languages were independent.
        n: Languages that had all three values.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int


def compare_dependent(
    x: Float[np.ndarray, " L"],
    first: Float[np.ndarray, " L"],
    second: Float[np.ndarray, " L"],
    families: Sequence[str],
    method: Method = "pearson",
) -> Difference:
    """Compare r(x, first) with r(x, second) over the same languages.

    Args:
        x: For example a distance.
        first: Accuracies of one setting.
        second: Of another.
        families: Of the languages.
        method: ``pearson`` or ``spearman``.
    """
    there = ~(np.isnan(x) | np.isnan(first) | np.isnan(second))
    x, first, second = x[there], first[there], second[there]
    if not (_varies(x) and _varies(first) and _varies(second)):
        return Difference(None, None, None, None, len(x))
    compute = coefficient(method)
    a, b, between = compute(x, first), compute(x, second), compute(first, second)
    groups = groups_of([name for name, here in zip(families, there, strict=True) if here])
    low, high = family_interval(
        groups, lambda rows: compute(x[rows], first[rows]) - compute(x[rows], second[rows])
    )
    return Difference(a - b, low, high, williams(a, b, between, len(x)), len(x))


def williams(first: float, second: float, between: float, n: int) -> float:
    """Compute the two-sided p of Williams' test of two correlations that share a variable.

    Source: Williams (1959), as Steiger (1980), equation 7, recommends it.

    Args:
        first: Correlation of the shared variable with one other.
        second: With the other one.
        between: Of these two.
        n: Cases.
    """
    if n < LEAST or abs(between) >= 1:
        return 1.0
    determinant = 1 - first**2 - second**2 - between**2 + 2 * first * second * between
    average = (first + second) / 2
    spread = 2 * determinant * (n - 1) / (n - 3) + average**2 * (1 - between) ** 3
    if spread <= 0:
        return 1.0
    t = (first - second) * np.sqrt((n - 1) * (1 + between) / spread)
    return float(2 * stats.t.sf(abs(t), n - 3))


def _varies(values: NDArray[np.float64]) -> bool:
    """Say whether there are enough values, and not all alike."""
    return len(values) >= LEAST and bool(np.ptp(values) > 1e-12)
