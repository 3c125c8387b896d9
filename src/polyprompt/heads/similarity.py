"""The similarity head: cosines between an input's mean state and class vectors."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from polyprompt.heads.head import Head, States


@dataclass(frozen=True)
class SimilarityHead(Head):
    """Scores are cosines to class vectors over a temperature.

    Attributes:
        descriptions: Vectors of the label descriptions by the frozen backbone, C D.
        examples: Mean unit vectors of each class's training examples, C D; None before they are
            known, and class vectors are then the descriptions alone.
        temperature: Of the softmax.
        description_weight: Weight of the unit description vector in a class vector.
        example_weight: Weight of the class's mean vector.
    """

    descriptions: Float[Tensor, "C D"]
    temperature: float
    description_weight: float = 1.0
    example_weight: float = 1.0
    examples: Float[Tensor, "C D"] | None = None

    def class_vectors(self) -> Float[Tensor, "C D"]:
        """Compose the unit class vectors."""
        described = normalize(self.descriptions.float(), dim=-1)
        if self.examples is None:
            return described
        both = self.description_weight * described + self.example_weight * self.examples.float()
        return normalize(both, dim=-1)

    def scores(self, states: States) -> Float[Tensor, "N C"]:
        """Score the labels by cosine / temperature."""
        return normalize(states.mean.float(), dim=-1) @ self.class_vectors().T / self.temperature

    @property
    def uses_examples(self) -> bool:
        """Whether class vectors hold class means."""
        return self.example_weight != 0

    def fitted(self, states: States, labels: Int[Tensor, " N"]) -> "SimilarityHead":
        """Add the class means of the training vectors, weighted by ``example_weight``."""
        if self.example_weight == 0:
            return self
        return replace(self, examples=class_means(states.mean.detach(), labels, self.descriptions))

    def tensors(self) -> dict[str, Tensor]:
        """Give descriptions and, where known, class means."""
        saved = {"descriptions": self.descriptions}
        return saved if self.examples is None else saved | {"examples": self.examples}


def class_means(
    vectors: Float[Tensor, "N D"], labels: Int[Tensor, " N"], fallback: Float[Tensor, "C D"]
) -> Float[Tensor, "C D"]:
    """Average each class's unit vectors; a class without examples takes its unit ``fallback``."""
    member = torch.nn.functional.one_hot(labels, len(fallback)).to(torch.float32)
    sums = member.T @ normalize(vectors.float(), dim=-1)
    counts = member.sum(0)[:, None]
    return torch.where(counts > 0, sums / counts.clamp(min=1), normalize(fallback.float(), dim=-1))
