"""How alike two languages' layer states of the same sentences are: debiased CKA.

Centred kernel alignment with a linear kernel (Kornblith et al. 2019), by the unbiased estimator of
HSIC (Song et al. 2012): with more dimensions than sentences, the plain estimator calls anything
alike.

Axes: N items, E layer states, D width, L languages, B halves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from polyprompt.seeds import generator

HALVES = 200
SHUFFLES = 20


@dataclass(frozen=True)
class Alignment:
    """How alike languages' states are to the source's.

    Attributes:
        languages: All but the source, in order.
        cka: Of each layer state and language.
        shuffled: The same with the items of the target shuffled, mean over shuffles and languages:
            what would be found if nothing were shared but the languages' own spread.
        items: How many were compared.
        halves: Mean over languages in random halves of the items; the same halves in every call
            with as many items. Their spread is that of the estimate from all items, where drawing
            with replacement would compare sentences with their own copies.
    """

    languages: tuple[str, ...]
    cka: Float[np.ndarray, "E L"]
    shuffled: Float[np.ndarray, " E"]
    items: int
    halves: Float[np.ndarray, "B E"]

    @property
    def mean(self) -> Float[np.ndarray, " E"]:
        """Over languages."""
        return self.cka.mean(1)

    def interval(self) -> tuple[Float[np.ndarray, " E"], Float[np.ndarray, " E"]]:
        """Give the 95 % interval of the mean over languages, for other sentences."""
        return _around(self.mean, self.halves)

    def minus(
        self, other: "Alignment"
    ) -> tuple[Float[np.ndarray, " E"], Float[np.ndarray, " E"], Float[np.ndarray, " E"]]:
        """Give the difference of two means over languages and its 95 % interval, item by item.

        Both are of the same model, languages and items.
        """
        difference = self.mean - other.mean
        return difference, *_around(difference, self.halves - other.halves)


def _around(
    value: NDArray[np.float64], halves: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Put the spread of halves around an estimate."""
    low, high = np.quantile(halves - halves.mean(0), [0.025, 0.975], axis=0)
    return value + low, value + high


def grams(states: Float[np.ndarray, "N E D"]) -> Float[np.ndarray, "E N N"]:
    """Multiply the states of every two items, layer by layer."""
    layers = np.ascontiguousarray(states.transpose(1, 0, 2), dtype=np.float64)
    layers -= layers.mean(1, keepdims=True)  # changes nothing but rounding
    return layers @ layers.transpose(0, 2, 1)


def hsic(
    first: Float[np.ndarray, "*A N N"], second: Float[np.ndarray, "*B N N"]
) -> NDArray[np.float64]:
    """Estimate HSIC without bias (Song et al. 2012, equation 5); 4 items are the least.

    Args:
        first: Gram matrices; what stands on their diagonals does not matter.
        second: Gram matrices of the same items; axes in front of the items' broadcast.
    """
    n = first.shape[-1]
    off = 1 - np.eye(n)
    k, m = first * off, second * off
    rows = k.sum(-1), m.sum(-1)
    trace = np.einsum("...ij,...ij->...", k, m)
    whole = rows[0].sum(-1) * rows[1].sum(-1) / ((n - 1) * (n - 2))
    cross = 2 / (n - 2) * (rows[0] * rows[1]).sum(-1)
    return (trace + whole - cross) / (n * (n - 3))


def debiased_cka(
    first: Float[np.ndarray, "*A N N"], second: Float[np.ndarray, "*B N N"]
) -> NDArray[np.float64]:
    """Compare Gram matrices: 1 for the same up to rotation and scale, about 0 for unrelated ones.

    Not a number where one of them does not vary.
    """
    own = hsic(first, first), hsic(second, second)
    scale = np.sqrt(np.maximum(own[0], 0) * np.maximum(own[1], 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, hsic(first, second) / scale, np.nan)


def align(
    states: Mapping[str, Float[np.ndarray, "N E D"]],
    sources: Sequence[str],
    *,
    halves: int = HALVES,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Alignment:
    """Compare the states of languages with the source's.

    Args:
        states: Of each language, the same items in the same order; sources among them.
        sources: With several, the mean over them counts.
        halves: Random halves of the items.
        shuffles: Of the items of the targets.
        seed: Of both.
    """
    languages = tuple(code for code in states if code not in sources)
    of_source = [grams(states[code])[:, None] for code in sources]
    targets = np.stack([grams(states[code]) for code in languages], axis=1)
    items = targets.shape[-1]
    rng = generator(seed, "cka")
    parts = [rng.permutation(items)[: items // 2] for _ in range(halves)]
    orders = [rng.permutation(items) for _ in range(shuffles)]

    def against(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compare the sources' items ``rows`` with the targets' items ``columns``."""
        theirs = targets[..., columns[:, None], columns]
        found = [debiased_cka(one[..., rows[:, None], rows], theirs) for one in of_source]
        return np.mean(found, axis=0)

    every = np.arange(items)
    return Alignment(
        languages,
        against(every, every),
        np.mean([against(every, order).mean(1) for order in orders], axis=0),
        items,
        np.stack([against(part, part).mean(1) for part in parts]),
    )


def mean_alignment(found: Sequence[Alignment]) -> Alignment:
    """Average the alignments of runs that looked at the same items."""
    return Alignment(
        found[0].languages,
        np.mean([one.cka for one in found], axis=0),
        np.mean([one.shuffled for one in found], axis=0),
        found[0].items,
        np.mean([one.halves for one in found], axis=0),
    )
