"""How a soft prompt moved while it was trained.

Axes: C checkpoints, P soft tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

COMPONENTS = 3


@dataclass(frozen=True)
class PathFacts:
    """What can be said of a path.

    Attributes:
        moved: Distance of the kept checkpoint from the start, in lengths of the start's vector;
            mean over tokens.
        travelled: Length of the path up to the kept checkpoint, in the same unit.
        cosine: Of the kept vectors with those of the start; mean over tokens.
        components: Shares of the whole path's variance along its first principal components.
    """

    moved: float
    travelled: float
    cosine: float
    components: tuple[float, ...]

    @property
    def straightness(self) -> float:
        """Distance moved over length of the path; 1 for a straight line, NaN if nothing moved."""
        return self.moved / self.travelled if self.travelled else float("nan")


def path_facts(vectors: Float[np.ndarray, "C P D"], kept: int) -> PathFacts:
    """Describe a path.

    Args:
        vectors: At the start and at every later checkpoint.
        kept: The checkpoint that the run ended in.
    """
    vectors = vectors.astype(np.float64)
    unit = np.linalg.norm(vectors[0], axis=1).clip(min=1e-12)
    steps = np.linalg.norm(np.diff(vectors[: kept + 1], axis=0), axis=2)
    start, end = vectors[0], vectors[kept]
    norms = np.linalg.norm(start, axis=1) * np.linalg.norm(end, axis=1)
    return PathFacts(
        float((np.linalg.norm(end - start, axis=1) / unit).mean()),
        float((steps.sum(0) / unit).mean()),
        float(((start * end).sum(1) / norms.clip(min=1e-12)).mean()),
        principal_shares(vectors),
    )


def principal_shares(vectors: Float[np.ndarray, "C P D"]) -> tuple[float, ...]:
    """Give the shares of a path's variance along its first principal components."""
    flat = vectors.reshape(len(vectors), -1)
    values = np.linalg.svd(flat - flat.mean(0), compute_uv=False) ** 2
    total = values.sum()
    shares = values[:COMPONENTS] / total if total > 0 else np.zeros(len(values[:COMPONENTS]))
    return tuple(float(share) for share in shares)


def plane_of(
    paths: Sequence[Float[np.ndarray, "_C P D"]],
) -> tuple[list[Float[np.ndarray, "_C 2"]], float]:
    """Project paths onto the plane in which all of them together vary most.

    Args:
        paths: Of prompts of one length.

    Returns:
        Places of every checkpoint, and the plane's share of the variance (1 where nothing varies).
    """
    flat = [path.reshape(len(path), -1).astype(np.float64) for path in paths]
    every = np.concatenate(flat)
    mean = every.mean(0)
    _, values, axes = np.linalg.svd(every - mean, full_matrices=False)
    whole = float((values**2).sum())
    share = float((values[:2] ** 2).sum()) / whole if whole > 0 else 1.0
    axes = axes[:2]
    found = [(own - mean) @ axes.T for own in flat]
    missing = 2 - len(axes)
    return [np.pad(own, ((0, 0), (0, missing))) for own in found], share
