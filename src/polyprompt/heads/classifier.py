"""Trained heads: a class of the whole input, or a tag of each of its words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from polyprompt.data.encoded import Encoded
from polyprompt.heads.head import Head, States

IGNORED = -100
"""Stands in tables of tags where a sentence has no further word that is read."""


@runtime_checkable
class Weights(Protocol):
    """What turns states into scores; trained with the parts."""

    def __call__(self, states: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """Score states."""
        ...

    def reads(self, examples: Sequence[tuple[int, int]]) -> None:
        """Be told whose states are scored next, and how many of each."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name what is trained."""
        ...


@dataclass(frozen=True)
class ClassifierHead(Head):
    """Scores classes by a linear map of one state per input.

    Attributes:
        weights: From D to C; trained with the parts.
        pooling: Which state.
    """

    weights: Weights
    pooling: Literal["mean", "last"]

    def scores(self, states: States) -> Float[Tensor, "N C"]:
        """Score the classes."""
        return self.weights(states.vectors(self.pooling))

    def learns_from(self, rows: Sequence[int], states: States) -> None:  # noqa: ARG002 (one state each)
        """Be told which training examples the next loss is of."""
        self.weights.reads([(row, 1) for row in rows])

    def tensors(self) -> dict[str, Tensor]:
        """Give the map."""
        return _parameters(self.weights)


@dataclass(frozen=True)
class TaggerHead(Head):
    """Scores the tags of words, each by a linear map of the state of one of its pieces.

    Attributes:
        weights: From D to C; trained with the parts.
        fallback: Scores of words that were cut off: logarithms of the tags' shares among those
            that were learnt from, C.
    """

    weights: Weights
    fallback: Float[Tensor, " C"]

    def scores(self, states: States) -> Float[Tensor, "M C"]:
        """Score the tags of all words that were read."""
        return self.weights(states.tokens)

    def answers(self, states: States, inputs: Sequence[Encoded]) -> Float[Tensor, "U C"]:
        """Score the tags of all words, of those that were cut off by ``fallback``."""
        scores = self.scores(states)
        read = np.concatenate([encoded.reads for encoded in inputs]) >= 0
        found = self.fallback.to(scores).expand(len(read), -1).clone()
        found[torch.from_numpy(read).to(scores.device)] = scores
        return found

    def loss(self, states: States, labels: Int[Tensor, "N W"]) -> Float[Tensor, ""]:
        """Compute the mean cross-entropy over the words that were read (nats)."""
        scores = self.scores(states)
        return cross_entropy(scores, _of_read(labels)) if len(scores) else scores.sum()

    def answered(self, labels: Int[Tensor, "N W"]) -> int:
        """Count the words that were read."""
        return len(_of_read(labels))

    def learns_from(self, rows: Sequence[int], states: States) -> None:
        """Be told which training examples the next loss is of."""
        self.weights.reads([*zip(rows, states.sizes.tolist(), strict=True)])

    def accuracy(self, states: States, labels: Int[Tensor, "N W"]) -> float:
        """Give the share of read words whose tag is right."""
        right = self.scores(states).argmax(1) == _of_read(labels)
        return float(right.float().mean()) if len(right) else 0.0

    def tensors(self) -> dict[str, Tensor]:
        """Give the map and the fallback."""
        return {**_parameters(self.weights), "fallback": self.fallback.contiguous()}


def _parameters(weights: Weights) -> dict[str, Tensor]:
    """Name a module's parameters, without what serves training alone."""
    return {name: value.detach().clone() for name, value in weights.named_parameters()}


def _of_read(labels: Int[Tensor, "N W"]) -> Int[Tensor, " M"]:
    """Give the tags of the words that were read, sentence by sentence."""
    return labels[labels != IGNORED]
