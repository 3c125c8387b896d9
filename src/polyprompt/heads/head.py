"""What a head reads and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from polyprompt.data.encoded import Encoded
from polyprompt.models.backbone import Backbone
from polyprompt.records import Writing

_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class States:
    """Last-layer states of N inputs, pooled in the ways heads ask for.

    Attributes:
        mean: Over all tokens of the input, soft ones included, … D.
        last: Of the input's last token, … D.
        branches: Of the tokens of the engine's continuations, one after the other, … A D.
        tokens: Of the tokens that are read one by one, input by input, M D: those that encoding
            names, then those of the input's own continuations but for their last pieces.
        sizes: How many of these each input has, N.
        tails: Pieces of each input's own continuations, N.
    """

    mean: Float[Tensor, "*N D"]
    last: Float[Tensor, "*N D"]
    branches: Float[Tensor, "*N A D"]
    tokens: Float[Tensor, "M D"]
    sizes: NDArray[np.int64]
    tails: tuple[tuple[tuple[int, ...], ...], ...]

    def vectors(self, pooling: Literal["mean", "last"]) -> Float[Tensor, "*N D"]:
        """Give one vector per input."""
        return self.mean if pooling == "mean" else self.last

    def rows(self, index: slice | Sequence[int]) -> "States":
        """Select inputs."""
        if isinstance(index, slice):
            chosen = np.arange(len(self.sizes))[index]
        else:
            chosen = np.asarray(index, dtype=np.int64)
        tokens = self.tokens
        if len(tokens):
            sizes = self.sizes.tolist()
            stops = np.cumsum(self.sizes).tolist()
            pieces = [np.arange(stops[i] - sizes[i], stops[i]) for i in chosen.tolist()]
            tokens = tokens[torch.from_numpy(np.concatenate([_NOTHING, *pieces])).to(tokens.device)]
        tails = tuple(self.tails[i] for i in chosen)
        own = self.mean[index], self.last[index], self.branches[index]
        return States(*own, tokens, self.sizes[chosen], tails)

    def in_turn(self) -> tuple[Float[Tensor, "K D"], list[int]]:
        """Say which states the pieces of the inputs' own continuations are guessed from.

        Returns:
            States, and which of them every piece is guessed from: input by input, continuation by
            continuation, piece by piece. The first of each is guessed from the input's last state.
        """
        rows: list[int] = []
        at = len(self.last)
        for index, tails in enumerate(self.tails):
            for pieces in tails:
                rows += [index, *range(at, at + len(pieces) - 1)][: len(pieces)]
                at += max(len(pieces) - 1, 0)
        return torch.cat([self.last, self.tokens]), rows

    def lots(self, size: int) -> "Iterator[States]":
        """Give the inputs in lots of one size."""
        for start in range(0, len(self.mean), size):
            yield self.rows(slice(start, start + size))

    @staticmethod
    def joined(parts: "Sequence[States]") -> "States":
        """Put the states of several lots of inputs one after the other."""
        return States(
            torch.cat([part.mean for part in parts]),
            torch.cat([part.last for part in parts]),
            torch.cat([part.branches for part in parts]),
            torch.cat([part.tokens for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            tuple(tails for part in parts for tails in part.tails),
        )


class Head(ABC):
    """Turns states into one score per label."""

    @property
    def branches(self) -> tuple[tuple[int, ...], ...]:
        """Continuations whose states it reads besides the input's own; none for most heads."""
        return ()

    @property
    def reads_vocabulary(self) -> bool:
        """Whether its loss depends on words of the whole vocabulary."""
        return False

    @property
    def word_ids(self) -> tuple[int, ...]:
        """Words whose rows of the language model's head it reads."""
        return ()

    @property
    def writing(self) -> Writing | None:
        """How answers are written; None for heads that score labels."""
        return None

    @abstractmethod
    def scores(self, states: States) -> Float[Tensor, "N C"]:
        """Score the labels; a softmax over them gives probabilities."""

    def loss(self, states: States, labels: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """Compute the mean cross-entropy over the labels (nats)."""
        return torch.nn.functional.cross_entropy(self.scores(states).float(), labels)

    def answers(
        self,
        states: States,
        inputs: Sequence[Encoded],  # noqa: ARG002 (for heads that answer word by word)
    ) -> Float[Tensor, "U C"]:
        """Score the labels of everything that is to be answered: inputs, or all their words."""
        return self.scores(states)

    def answered(self, labels: Int[Tensor, "N *W"]) -> int:
        """Count the answers that the mean of ``loss`` is over."""
        return len(labels)

    def learns_from(
        self,
        rows: Sequence[int],  # noqa: ARG002 (for heads with dropout)
        states: States,  # noqa: ARG002 (as above)
    ) -> None:
        """Be told which training examples the next loss is of; matters to heads with dropout."""
        return

    def accuracy(self, states: States, labels: Int[Tensor, " N"]) -> float:
        """Give the share of right answers."""
        return float((self.scores(states).argmax(1) == labels).float().mean())

    def on(self, backbone: Backbone) -> "Head":  # noqa: ARG002 (for heads that compute with the model)
        """Give the head as it answers on another copy of its backbone."""
        return self

    @property
    def uses_examples(self) -> bool:
        """Whether ``fitted`` takes anything from the training examples."""
        return False

    def fitted(self, states: States, labels: Int[Tensor, " N"]) -> "Head":  # noqa: ARG002 (for heads that learn from examples)
        """Give the head with what it takes from the training examples in closed form."""
        return self

    def calibrated(self, neutral: States) -> "Head":  # noqa: ARG002 (for heads with priors)
        """Give the head with what inputs without content score taken away."""
        return self

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Give what has to be saved to answer again."""
