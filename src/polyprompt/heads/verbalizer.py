"""The verbalizer: a label's score is the language model's own score of the word that names it.

Source: Schick and Schütze (2021) for the idea; Philippy et al. (2024), section 3, for soft prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from polyprompt.data.pieces import pieces_behind
from polyprompt.errors import ConfigError
from polyprompt.head_settings import VerbalizerSettings
from polyprompt.heads.head import Head, States
from polyprompt.models.backbone import Backbone

ROWS_AT_ONCE = 64
"""States whose scores of the whole vocabulary are held at once, where no gradient is wanted."""


@dataclass(frozen=True)
class Words:
    """The label words as token ids, one tuple of pieces per label.

    Attributes:
        pieces: In the order of the labels.
    """

    pieces: tuple[tuple[int, ...], ...]

    @property
    def branches(self) -> tuple[tuple[int, ...], ...]:
        """What an engine has to read behind the input: every word but for its last piece."""
        return tuple(word[:-1] for word in self.pieces if len(word) > 1)

    @property
    def are_single(self) -> bool:
        """Say whether every word is one piece."""
        return not self.branches


def label_pieces(
    backbone: Backbone, words: Mapping[str, str], labels: Sequence[str], head: VerbalizerSettings
) -> Words:
    """Tokenize the label words, once for training and answering.

    Args:
        backbone: For its tokenizer.
        words: One per label.
        labels: The task's.
        head: Whether a space leads, and whether several pieces are allowed.

    Raises:
        ConfigError: Words have no or several pieces, or two labels the same ones; shows them.
    """
    space = " " if head.leading_space else ""
    bare = [words[label].strip() for label in labels]
    texts = [space + word if word else "" for word in bare]
    tokenizer: Any = backbone.tokenizer  # transformers' class has more overloads
    pieces = tuple(pieces_behind(tokenizer, text) for text in texts)
    _check_pieces(backbone, dict(zip(labels, texts, strict=True)), pieces, head)
    return Words(pieces)


def _check_pieces(
    backbone: Backbone,
    texts: Mapping[str, str],
    pieces: Sequence[tuple[int, ...]],
    head: VerbalizerSettings,
) -> None:
    """Refuse words that cannot be told apart or have more pieces than is allowed."""
    shown = {
        label: " + ".join(map(repr, map(str, backbone.tokenizer.convert_ids_to_tokens(list(word)))))
        for label, word in zip(texts, pieces, strict=True)
    }
    faults = [
        f"the word {texts[label]!r} for '{label}' is {len(word)} pieces, {shown[label]}"
        for label, word in zip(texts, pieces, strict=True)
        if len(word) != 1 and (head.several_pieces == "refuse" or not word)
    ]
    unknown = backbone.tokenizer.unk_token_id
    faults += [
        f"the word {texts[label]!r} for '{label}' is not in the vocabulary, {shown[label]}"
        for label, word in zip(texts, pieces, strict=True)
        if unknown is not None and unknown in word
    ]
    if faults:
        raise ConfigError(
            f"{backbone.facts.name}: {'; '.join(faults)}. Choose words of one piece (head.words), "
            "set head.leading_space the other way, or score several pieces with "
            "head.several_pieces=mean or sum."
        )
    known: dict[tuple[int, ...], str] = {}
    for label, word in zip(texts, pieces, strict=True):
        if word in known:
            raise ConfigError(
                f"{backbone.facts.name}: the labels '{known[word]}' and '{label}' have the same "
                f"pieces, {shown[label]}. Give one of them another word (head.words)."
            )
        known[word] = label


@dataclass(frozen=True)
class VerbalizerHead(Head):
    """Scores labels by their words.

    Words of one piece are scored by their logits, of which only their rows of the LM head are
    computed; as soon as one has several, all are scored by log-probabilities over the whole
    vocabulary, which words of different lengths need.

    Attributes:
        backbone: For its LM head.
        words: The labels' pieces.
        settings: Loss, several pieces, calibration.
        prior: What inputs without content score, C; None where nothing is subtracted.
    """

    backbone: Backbone
    words: Words
    settings: VerbalizerSettings
    prior: Float[Tensor, " C"] | None = None

    def on(self, backbone: Backbone) -> "VerbalizerHead":
        """Score by another copy's LM head."""
        return replace(self, backbone=backbone)

    @property
    def branches(self) -> tuple[tuple[int, ...], ...]:
        """The words of several pieces, but for their last ones."""
        return self.words.branches

    def _state(self, states: States) -> Float[Tensor, "N D"]:
        """Give the state that the word is guessed from: the last, or that at the mask."""
        return states.tokens if self.backbone.facts.guesses_masks else states.last

    @property
    def reads_vocabulary(self) -> bool:
        """Whether all words are scored: for paper A's loss, and for words of several pieces."""
        return self.settings.loss == "vocabulary" or not self.words.are_single

    @property
    def word_ids(self) -> tuple[int, ...]:
        """The pieces of the label words."""
        return tuple(piece for word in self.words.pieces for piece in word)

    def scores(self, states: States) -> Float[Tensor, "N C"]:
        """Score the labels, calibrated."""
        raw = self._raw(states)
        return raw if self.prior is None else raw - self.prior.to(raw.device)

    def loss(self, states: States, labels: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """Compute the mean cross-entropy (nats) over the label words or the whole vocabulary."""
        if self.settings.loss == "labels":
            return cross_entropy(self.scores(states).float(), labels)
        if self.words.are_single:
            targets = torch.tensor([word[0] for word in self.words.pieces], device=labels.device)
            return cross_entropy(
                self.backbone.unembed(self._state(states)).float(), targets[labels]
            )
        return -self._log_probabilities(states).gather(1, labels[:, None]).mean()

    def calibrated(self, neutral: States) -> "VerbalizerHead":
        """Subtract what inputs without content score; without calibration nothing changes."""
        kind = self.settings.calibration
        if kind == "none":
            return self
        raw = self._raw(neutral).float()
        prior = raw.softmax(1).mean(0).log() if kind == "contextual" else raw.mean(0)
        return replace(self, prior=prior)

    def tensors(self) -> dict[str, Tensor]:
        """Give the prior, and the pieces so that a reader of the files knows the words."""
        longest = max(map(len, self.words.pieces))
        padded = [[*word, *[-1] * (longest - len(word))] for word in self.words.pieces]
        saved = {"pieces": torch.tensor(padded)}
        return saved if self.prior is None else saved | {"prior": self.prior.contiguous()}

    def _raw(self, states: States) -> Float[Tensor, "N C"]:
        """Score the labels without calibration."""
        if self.words.are_single:
            return self.backbone.unembed(
                self._state(states), [word[0] for word in self.words.pieces]
            )
        return self._log_probabilities(states)

    def _log_probabilities(self, states: States) -> Float[Tensor, "N C"]:
        """Score every word by the sum or mean of its pieces' log-probabilities."""
        columns, at = [], 0
        first = self._word_log_probabilities(
            self._state(states), sorted({word[0] for word in self.words.pieces})
        )
        for word in self.words.pieces:
            terms = [first[word[0]]]
            for piece in word[1:]:
                state = states.branches[..., at, :]
                terms.append(self._word_log_probabilities(state, [piece])[piece])
                at += 1
            total = torch.stack(terms).sum(0)
            columns.append(total / len(word) if self.settings.several_pieces == "mean" else total)
        return torch.stack(columns, dim=1)

    def _word_log_probabilities(self, hidden: Tensor, ids: Sequence[int]) -> dict[int, Tensor]:
        """Compute log-probabilities of some words over the whole vocabulary, in slices of rows."""
        parts = []
        for rows in hidden.split(ROWS_AT_ONCE):
            whole = self.backbone.unembed(rows).float().logsumexp(1, keepdim=True)
            parts.append(self.backbone.unembed(rows, ids) - whole)
        joined = torch.cat(parts)
        return {word: joined[:, index] for index, word in enumerate(ids)}
