"""The language-model head: how likely the words of a text are that a model is to guess.

Axes: M words that are guessed, D width, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from polyprompt.data.encoded import Encoded, words_of
from polyprompt.heads.classifier import IGNORED, Weights
from polyprompt.heads.head import Head, States
from polyprompt.models.backbone import Backbone

ROWS_AT_ONCE = 128
"""States whose scores of the whole vocabulary are held at once."""

Scoring = Callable[[Float[Tensor, "N D"]], Float[Tensor, "N V"]]


class _WordLosses(torch.autograd.Function):
    """Cross-entropies over a frozen vocabulary, of which some rows at a time are computed.

    The gradient for the states is computed with the loss, so that no row of scores is kept.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, words: Tensor, scoring: Scoring) -> Tensor:
        """Compute the loss of every word (nats)."""
        wanted = ctx.needs_input_grad[0]
        losses, gradients = [], []
        for rows, own in zip(hidden.split(ROWS_AT_ONCE), words.split(ROWS_AT_ONCE), strict=True):
            with torch.set_grad_enabled(wanted):
                states = rows.detach().requires_grad_(wanted)
                some = cross_entropy(scoring(states).float(), own, reduction="none")
                if wanted:
                    gradients += torch.autograd.grad(some.sum(), states)
            losses.append(some.detach())
        if wanted:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        """Scale the states' gradients."""
        (gradients,) = ctx.saved_tensors
        return gradients * outputs[0][:, None].to(gradients.dtype), None, None


def word_losses(
    scoring: Scoring, hidden: Float[Tensor, "M D"], words: Int[Tensor, " M"]
) -> Float[Tensor, " M"]:
    """Compute what guessing words from states costs (nats), with little memory.

    Args:
        scoring: Scores of the whole vocabulary; nothing in it may be trained.
        hidden: Gradients flow into them.
        words: The true ones.
    """
    if not len(hidden):
        return hidden.sum(1).float()
    found = _WordLosses.apply(hidden, words, scoring)
    assert isinstance(found, Tensor)
    return found


@dataclass(frozen=True)
class LanguageModelHead(Head):
    """Guesses words: from the states that encoding names, or one after the other behind the input.

    Attributes:
        backbone: For its language-model head, or its word table.
        weights: For a backbone without such a head: a trained map from its states to vectors that
            the rows of its word table are compared with.
    """

    backbone: Backbone
    weights: Weights | None = None

    @property
    def reads_vocabulary(self) -> bool:
        """Say that all words are scored."""
        return True

    def on(self, backbone: Backbone) -> "LanguageModelHead":
        """Guess by another copy's head."""
        return replace(self, backbone=backbone)

    def scores(self, states: States) -> Float[Tensor, "N C"]:
        """Refuse: there are no labels."""
        raise NotImplementedError("a model of language has no labels to score")

    def losses(self, states: States, words: Int[Tensor, " M"]) -> Float[Tensor, " M"]:
        """Compute the loss of every word, input by input (nats)."""
        hidden = states.tokens
        if any(states.tails):
            found, rows = states.in_turn()
            hidden = found[rows]
        scoring, vectors = self.backbone.unembed, hidden
        if self.weights is not None:
            scoring, vectors = self._by_table, self.weights(hidden)
        if any(p.requires_grad for p in self.backbone.model.parameters()):
            return cross_entropy(scoring(vectors).float(), words, reduction="none")
        return word_losses(scoring, vectors, words)

    def loss(self, states: States, labels: Int[Tensor, "N W"]) -> Float[Tensor, ""]:
        """Compute the mean over the words that are guessed (nats)."""
        words = labels[labels != IGNORED]
        losses = self.losses(states, words)
        return losses.mean() if len(losses) else losses.sum()

    def answered(self, labels: Int[Tensor, "N W"]) -> int:
        """Count the words that are guessed."""
        return int((labels != IGNORED).sum())

    def accuracy(self, states: States, labels: Int[Tensor, "N W"]) -> float:  # noqa: ARG002 (it would cost as much as the loss)
        """Give nothing: a loss is what is wanted of it."""
        return 0.0

    def learns_from(self, rows: Sequence[int], states: States) -> None:
        """Be told which training texts the next loss is of."""
        if self.weights is not None:
            self.weights.reads([*zip(rows, states.sizes.tolist(), strict=True)])

    def answers(self, states: States, inputs: Sequence[Encoded]) -> Float[Tensor, "U 1"]:
        """Give the sum of the losses of each text's words (nats), with the sign of a score."""
        sizes = [len(words_of(one)) for one in inputs]
        words = torch.tensor([word for one in inputs for word in words_of(one)], dtype=torch.long)
        losses = self.losses(states, words.to(states.tokens.device))
        return torch.stack([-own.sum() for own in losses.split(sizes)])[:, None]

    def tensors(self) -> dict[str, Tensor]:
        """Give the map; nothing where the backbone has a head of its own."""
        if self.weights is None:
            return {"words": torch.zeros(0)}
        return {name: value.detach().clone() for name, value in self.weights.named_parameters()}

    def _by_table(self, vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Compare vectors with the rows of the word table."""
        return linear(vectors, self.backbone.table.to(vectors.dtype))
