"""What a head reads and what it answers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class States:
    """Last-layer states of N inputs, pooled in the ways heads ask for.

    Attributes:
        mean: Over all tokens of the input, soft ones included, … D.
        last: Of the input's last token, … D.
    """

    mean: Float[Tensor, "*N D"]
    last: Float[Tensor, "*N D"]

    def rows(self, index: slice | int) -> "States":
        """Select inputs."""
        return States(self.mean[index], self.last[index])


class Head(ABC):
    """Turns states into one score per label."""

    @abstractmethod
    def scores(self, states: States) -> Float[Tensor, "N C"]:
        """Score the labels; a softmax over them gives probabilities."""

    def loss(self, states: States, labels: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """Compute the mean cross-entropy over the labels (nats)."""
        return torch.nn.functional.cross_entropy(self.scores(states).float(), labels)

    @abstractmethod
    def fitted(self, states: States, labels: Int[Tensor, " N"]) -> "Head":
        """Give the head with what it takes from the training examples in closed form."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Give what has to be saved to answer again."""
