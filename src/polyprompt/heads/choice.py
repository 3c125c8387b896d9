"""The choice head: an answer's score is the log-likelihood of its text behind the input."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from polyprompt.head_settings import ChoiceSettings
from polyprompt.heads.head import Head, States
from polyprompt.models.backbone import Backbone

ROWS_AT_ONCE = 64
"""States whose scores of the whole vocabulary are computed at once."""

NO_CHOICE = -1e9
"""Score of an answer that an input does not offer."""


@dataclass(frozen=True)
class ChoiceHead(Head):
    """Scores the texts that an input offers as answers, by the language model alone.

    Attributes:
        backbone: For its LM head.
        settings: Sum or mean over pieces.
        choices: Most answers that an input offers (C).
    """

    backbone: Backbone
    settings: ChoiceSettings
    choices: int

    @property
    def reads_vocabulary(self) -> bool:
        """Say that a piece's probability depends on the whole vocabulary."""
        return True

    def on(self, backbone: Backbone) -> "ChoiceHead":
        """Score by another copy's LM head."""
        return replace(self, backbone=backbone)

    def scores(self, states: States) -> Float[Tensor, "N C"]:
        """Score the answers of every input."""
        found, rows = states.in_turn()
        words: list[int] = []
        owners: list[int] = []
        for index, tails in enumerate(states.tails):
            for choice, pieces in enumerate(tails):
                words += pieces
                owners += [index * self.choices + choice] * len(pieces)
        owner = torch.tensor(owners, device=found.device)
        terms = self._log_probabilities(found, rows, words)
        sums = terms.new_zeros(len(states.tails) * self.choices).index_add(0, owner, terms)
        counts = torch.bincount(owner, minlength=len(sums))
        if self.settings.several_pieces == "mean":
            sums = sums / counts.clamp(min=1)
        return sums.masked_fill(counts == 0, NO_CHOICE).unflatten(0, (-1, self.choices))

    def tensors(self) -> dict[str, Tensor]:
        """Give the number of answers; the head has nothing else of its own."""
        return {"choices": torch.tensor(self.choices)}

    def _log_probabilities(
        self, states: Tensor, rows: Sequence[int], words: Sequence[int]
    ) -> Float[Tensor, " M"]:
        """Compute the log-probability of words behind tokens, some of them at a time."""
        terms = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            chosen = slice(start, start + ROWS_AT_ONCE)
            of_vocabulary = self.backbone.unembed(states[list(rows[chosen])]).float()
            wanted = torch.tensor(words[chosen], device=of_vocabulary.device)
            terms.append(of_vocabulary.log_softmax(1).gather(1, wanted[:, None])[:, 0])
        return torch.cat(terms)
