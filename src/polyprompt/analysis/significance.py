"""Tests and intervals for few seeds, paired answers, and lists of comparisons.

Axes: S seeds, N items, L languages, D draws, T trainings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats

from polyprompt.scoring.intervals import Interval
from polyprompt.seeds import generator

PERMUTATIONS = 10_000
_SIGNS_AT_ONCE = 4_000_000
"""Signs that are drawn together, 32 MB of them."""


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Compute Student's interval of a mean over few seeds.

    Args:
        values: One per seed, two or more.
        level: Of confidence.

    Raises:
        ValueError: There are fewer than two.
    """
    if len(values) < 2:
        raise ValueError("A t interval needs two seeds or more.")
    mean, error = float(np.mean(values)), float(stats.sem(values))
    half = error * float(stats.t.ppf((1 + level) / 2, len(values) - 1))
    return Interval(mean, mean - half, mean + half)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Compute the exact p of McNemar's test.

    Args:
        first: Which items one setting answers rightly.
        second: Which the other does, in the same order.
    """
    gained, lost = int((~first & second).sum()), int((first & ~second).sum())
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def permutation_test(
    difference: Float[np.ndarray, "S N"], over: str, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """Compute the two-sided p that a mean difference is 0 by flipping signs of what was sampled.

    Args:
        difference: Setting minus setting, paired by seed and item.
        over: ``items`` flips whole items, seeds as they are; ``seeds`` whole seeds, exactly, all
            2 ** S of them: with 4 seeds the least p is 0.125.
        permutations: Draws of signs where not all can be tried.
        seed: Of the draws.
    """
    units = difference.mean(0) if over == "items" else difference.mean(1)
    observed = abs(units.mean())
    if len(units) <= 13:
        signs = np.array(np.meshgrid(*[[-1, 1]] * len(units))).reshape(len(units), -1).T
        return float((abs(signs @ units / len(units)) >= observed - 1e-12).mean())
    rng = generator(seed, "permutation")
    extreme, left = 0, permutations
    while left:
        rows = min(left, max(1, _SIGNS_AT_ONCE // len(units)))
        signs = rng.choice(np.array([-1.0, 1.0]), size=(rows, len(units)))
        extreme += int((abs(signs @ units / len(units)) >= observed - 1e-12).sum())
        left -= rows
    return (extreme + 1) / (permutations + 1)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjust the p of a study's named contrasts so that one false finding among all is rare."""
    from statsmodels.stats.multitest import multipletests

    return _adjusted(p, lambda values: np.asarray(multipletests(values, method="holm")[1]))


def benjamini_hochberg(p: Mapping[str, float]) -> dict[str, float]:
    """Adjust the p of a list, such as one per language, by the rate of false findings in it."""
    return _adjusted(p, stats.false_discovery_control)


def _adjusted(
    p: Mapping[str, float], method: Callable[[list[float]], NDArray[np.float64]]
) -> dict[str, float]:
    """Adjust values that have names; none where there are none."""
    return dict(zip(p, map(float, method(list(p.values()))), strict=True)) if p else {}


@dataclass(frozen=True)
class Components:
    """Variance of a right answer (0 or 1), by what it comes from; estimates below 0 count as 0.

    Attributes:
        draws: Which examples were drawn.
        trainings: Initial value and order of examples.
        both: What is particular to a draw with a training.
        items: Which test items were asked.
        rest: What is left within an item.
    """

    draws: float
    trainings: float
    both: float
    items: float
    rest: float

    def of_mean(self, draws: int, trainings: int, items: int) -> float:
        """Give the standard error of an accuracy from so many draws, trainings and items."""
        runs = draws * trainings
        return float(
            np.sqrt(
                self.draws / draws
                + self.trainings / trainings
                + self.both / runs
                + self.items / items
                + self.rest / (runs * items)
            )
        )


def variance_components(values: Float[np.ndarray, "D T N"]) -> Components:
    """Estimate components of a crossed design by equating mean squares with expectations.

    Args:
        values: Right answers of every draw × training × item, two or more of each; an average
            over languages where items are parallel.
    """
    d, t, n = values.shape
    total = values.mean()
    cell, draw, training, item = (
        values.mean(2),
        values.mean((1, 2)),
        values.mean((0, 2)),
        values.mean((0, 1)),
    )
    ms_draw = t * n * ((draw - total) ** 2).sum() / (d - 1)
    ms_training = d * n * ((training - total) ** 2).sum() / (t - 1)
    both = cell - draw[:, None] - training[None] + total
    ms_both = n * (both**2).sum() / ((d - 1) * (t - 1))
    ms_item = d * t * ((item - total) ** 2).sum() / (n - 1)
    rest = values - cell[:, :, None] - item + total
    ms_rest = (rest**2).sum() / ((d * t - 1) * (n - 1))
    estimates = (
        (ms_draw - ms_both) / (t * n),
        (ms_training - ms_both) / (d * n),
        (ms_both - ms_rest) / n,
        (ms_item - ms_rest) / (d * t),
        ms_rest,
    )
    return Components(*(max(0.0, float(value)) for value in estimates))
