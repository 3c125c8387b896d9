"""The generator: the language model writes the answer, piece by piece."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyprompt.errors import ConfigError
from polyprompt.head_settings import GeneratorSettings
from polyprompt.heads.classifier import IGNORED
from polyprompt.heads.head import Head, States
from polyprompt.heads.language_model import LanguageModelHead
from polyprompt.models.backbone import Backbone
from polyprompt.records import Writing

ROWS_AT_ONCE = 128
"""States whose scores of the whole vocabulary are held at once."""


def writing_of(backbone: Backbone, settings: GeneratorSettings) -> Writing:
    """Say how a backbone writes answers.

    Raises:
        ConfigError: Its tokenizer has no end token, so that no answer would end.
    """
    end = getattr(backbone.tokenizer, "eos_token_id", None)
    if end is None:
        raise ConfigError(
            f"head.kind=generator: the tokenizer of {backbone.facts.name} has no end token, so "
            "that no answer would end. Take another backbone, or head.kind=verbalizer."
        )
    assert settings.max_pieces is not None
    return Writing(settings.max_pieces, (int(end),), settings.beams, settings.length_penalty)


@dataclass(frozen=True)
class GeneratorHead(Head):
    """Learns true answers piece by piece (teacher forcing), and has answers written.

    Attributes:
        backbone: For its language-model head.
        how: How answers are written.
    """

    backbone: Backbone
    how: Writing

    @property
    def writing(self) -> Writing:
        """How answers are written."""
        return self.how

    @property
    def reads_vocabulary(self) -> bool:
        """Say that all words are scored."""
        return True

    def on(self, backbone: Backbone) -> "GeneratorHead":
        """Write by another copy's head."""
        return replace(self, backbone=backbone)

    def scores(self, states: States) -> Float[Tensor, "N C"]:
        """Refuse: an answer is written, and no label is scored."""
        raise NotImplementedError("answers are written; there are no labels to score")

    def loss(self, states: States, labels: Int[Tensor, "N W"]) -> Float[Tensor, ""]:
        """Compute the mean over the pieces of the true answers (nats)."""
        return LanguageModelHead(self.backbone).loss(states, labels)

    def answered(self, labels: Int[Tensor, "N W"]) -> int:
        """Count the pieces of the true answers."""
        return int((labels != IGNORED).sum())

    def accuracy(self, states: States, labels: Int[Tensor, "N W"]) -> float:
        """Give the share of pieces that are guessed right behind the true ones in front of them."""
        words = labels[labels != IGNORED]
        found, rows = states.in_turn()
        guessed = [self.backbone.unembed(own).argmax(1) for own in found[rows].split(ROWS_AT_ONCE)]
        return float((torch.cat(guessed) == words).float().mean()) if len(words) else 0.0

    def tensors(self) -> dict[str, Tensor]:
        """Give the ids that end an answer; the head has nothing else of its own."""
        return {"ends": torch.tensor(self.how.ends)}
