"""How soon training gets where it ends, language by language, and how steady it is there.

Axes: C evaluated epochs, the start first; L languages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

SHARE = 0.95


@dataclass(frozen=True)
class Curve:
    """The scores of one run.

    Attributes:
        steps: Of the evaluated epochs, C.
        epochs: The same in epochs, C.
        languages: L.
        values: C L.
    """

    steps: Sequence[int]
    epochs: Sequence[float]
    languages: tuple[str, ...]
    values: Float[np.ndarray, "C L"]

    @staticmethod
    def of(scores: pl.DataFrame) -> "Curve":
        """Read the scores of a run.

        Args:
            scores: Columns epoch, step, language, value.
        """
        languages = scores["language"].unique(maintain_order=True).to_list()
        places = scores.unique("step", maintain_order=True)
        values = scores["value"].to_numpy().reshape(places.height, len(languages))
        return Curve(places["step"].to_list(), places["epoch"].to_list(), tuple(languages), values)

    def only(self, languages: Sequence[str]) -> "Curve":
        """Give some of the languages."""
        chosen = [i for i, code in enumerate(self.languages) if code in languages]
        names = tuple(self.languages[i] for i in chosen)
        return Curve(self.steps, self.epochs, names, self.values[:, chosen])

    def without(self, languages: Sequence[str]) -> "Curve":
        """Give all but some of the languages."""
        return self.only([code for code in self.languages if code not in languages])

    @property
    def final(self) -> float:
        """Mean over languages at the end."""
        return float(self.values[-1].mean())

    def steps_to(self, share: float = SHARE) -> int:
        """Give the first evaluated step at which the mean over languages is a share of the final.

        What training adds to the start counts: without any training the share is 0.
        """
        means = self.values.mean(1)
        wanted = means[0] + share * (means[-1] - means[0])
        rising = means >= wanted - 1e-9 if means[-1] >= means[0] else means <= wanted + 1e-9
        return int(self.steps[int(np.argmax(rising))])

    @property
    def wobble(self) -> float:
        """Mean absolute change from one epoch to the next in the second half, over languages."""
        half = self.values[len(self.values) // 2 :]
        return float(np.abs(np.diff(half, axis=0)).mean()) if len(half) > 1 else 0.0

    @property
    def spread(self) -> float:
        """Standard deviation over languages at the end."""
        return float(np.std(self.values[-1], ddof=1)) if len(self.languages) > 1 else 0.0
