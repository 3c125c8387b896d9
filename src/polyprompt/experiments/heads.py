"""Builds the heads of runs from their settings, and puts saved ones back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polyprompt.data.encoded import Encoded
from polyprompt.engine.engine import Engine
from polyprompt.head_settings import (
    ChoiceSettings,
    ClassifierSettings,
    GeneratorSettings,
    HeadSettings,
    LanguageModelSettings,
    LinearMapSettings,
    SimilaritySettings,
    TaggerSettings,
    VerbalizerSettings,
)
from polyprompt.heads.choice import ChoiceHead
from polyprompt.heads.classifier import IGNORED, ClassifierHead, TaggerHead
from polyprompt.heads.generator import GeneratorHead, writing_of
from polyprompt.heads.head import Head
from polyprompt.heads.language_model import LanguageModelHead
from polyprompt.heads.similarity import SimilarityHead, class_means
from polyprompt.heads.verbalizer import VerbalizerHead, Words, label_pieces
from polyprompt.models.backbone import Backbone
from polyprompt.prediction.written import AnswerReader
from polyprompt.seeds import generator
from polyprompt.tuning.linear_map import LinearMap

HEAD = "head"
"""Name of a trained head's weights among a run's parts."""


def words_of(head: HeadSettings, labels: Sequence[str], backbone: Backbone) -> Words | None:
    """Tokenize the label words of a head that has them.

    Raises:
        ConfigError: A word cannot be scored; shows its pieces.
    """
    if not isinstance(head, VerbalizerSettings):
        return None
    assert head.words is not None
    return label_pieces(backbone, head.words, labels, head)


def reader_of(head: HeadSettings, backbone: Backbone) -> AnswerReader | None:
    """Build what reads a head's written answers; None for heads that score labels."""
    if not isinstance(head, GeneratorSettings):
        return None
    return AnswerReader(backbone.tokenizer, head.words or {}, head.fallback)


@dataclass(frozen=True)
class HeadMaker:
    """Builds the heads of a group's runs.

    Attributes:
        engine: The group's.
        words: Pieces of the label words, for heads that score them.
        descriptions: Vectors of the label descriptions, for heads that compare with them.
        classes: Labels of the task (C).
    """

    engine: Engine
    words: Words | None
    descriptions: Float[Tensor, "C D"] | None
    classes: int

    def weights(self, settings: HeadSettings, seed: int) -> LinearMap | None:
        """Build the weights of a trained head, from the run's own stream; None for other heads."""
        if not isinstance(settings, LinearMapSettings):
            return None
        backbone = self.engine.backbone
        width = backbone.layer_facts.width
        rng = generator(seed, "initial", HEAD)
        if isinstance(settings, LanguageModelSettings):
            return None if backbone.has_words else _into_table(width, backbone).to(backbone.device)
        made = LinearMap(width, self.classes, settings.bound, settings.dropout, rng)
        return made.to(backbone.device)

    def head(
        self,
        settings: HeadSettings,
        weights: LinearMap | None,
        examples: tuple[Sequence[Encoded], Tensor],
    ) -> Head:
        """Build the head a run trains with.

        Args:
            settings: The run's.
            weights: Of a trained head.
            examples: Training examples with their labels.
        """
        backbone = self.engine.backbone
        if isinstance(settings, VerbalizerSettings):
            assert self.words is not None
            return VerbalizerHead(backbone, self.words, settings)
        if isinstance(settings, ChoiceSettings):
            return ChoiceHead(backbone, settings, self.classes)
        if isinstance(settings, SimilaritySettings):
            return self._similarity(settings, examples)
        if isinstance(settings, LanguageModelSettings | GeneratorSettings):
            return _of_words(settings, weights, backbone)
        assert weights is not None
        if isinstance(settings, ClassifierSettings):
            assert settings.pooling is not None
            return ClassifierHead(weights, settings.pooling)
        return TaggerHead(weights, _log_shares(examples[1], self.classes))

    def _similarity(
        self, settings: SimilaritySettings, examples: tuple[Sequence[Encoded], Tensor]
    ) -> Head:
        """Build a head that compares with class vectors.

        Without descriptions the class vectors of training are the class means of the unprompted
        training vectors.
        """
        descriptions, weights = self.descriptions, settings.prototypes
        assert descriptions is not None
        if weights.descriptions == 0:
            train, labels = examples
            bare = self.engine.bare(train).mean
            descriptions = class_means(bare, labels.to(bare.device), descriptions)
        return SimilarityHead(
            descriptions, settings.temperature, weights.descriptions, weights.examples
        )


def _of_words(
    settings: LanguageModelSettings | GeneratorSettings,
    weights: LinearMap | None,
    backbone: Backbone,
) -> Head:
    """Build a head that guesses words."""
    if isinstance(settings, GeneratorSettings):
        return GeneratorHead(backbone, writing_of(backbone, settings))
    return LanguageModelHead(backbone, weights)


def _into_table(width: int, backbone: Backbone) -> LinearMap:
    """Begin a map from states into the space of the word table: small, and each number its own."""
    begun = MAP_BEGINS * torch.eye(backbone.facts.width, width)
    return LinearMap.of(begun, torch.zeros(len(begun))).requires_grad_(requires_grad=True)


MAP_BEGINS = 0.1
"""Diagonal of a map from states to the word table, at first."""


def _log_shares(labels: Tensor, classes: int) -> Float[Tensor, " C"]:
    """Give the logarithms of the classes' shares among labels, one more of each counted."""
    counts = torch.bincount(labels[labels != IGNORED], minlength=classes).float() + 1
    return (counts / counts.sum()).log()


def saved_head(settings: HeadSettings, saved: Mapping[str, Tensor], backbone: Backbone) -> Head:
    """Build the head of a finished run from its tensors.

    Raises:
        KeyError: A tensor is missing.
    """
    device = backbone.device
    if isinstance(settings, VerbalizerSettings):
        pieces = tuple(tuple(i for i in row if i >= 0) for row in saved["pieces"].tolist())
        prior = saved["prior"].to(device) if "prior" in saved else None
        return VerbalizerHead(backbone, Words(pieces), settings, prior)
    if isinstance(settings, ChoiceSettings):
        return ChoiceHead(backbone, settings, int(saved["choices"]))
    if isinstance(settings, SimilaritySettings):
        return SimilarityHead(
            saved["descriptions"].to(device),
            settings.temperature,
            settings.prototypes.descriptions,
            settings.prototypes.examples,
            saved["examples"].to(device) if "examples" in saved else None,
        )
    if isinstance(settings, GeneratorSettings):
        return _of_words(settings, None, backbone)
    return _with_weights(settings, saved, backbone)


def _with_weights(
    settings: LanguageModelSettings | TaggerSettings | ClassifierSettings,
    saved: Mapping[str, Tensor],
    backbone: Backbone,
) -> Head:
    """Build a head with weights of its own from its tensors."""
    device = backbone.device
    if isinstance(settings, LanguageModelSettings) and "weight" not in saved:
        return LanguageModelHead(backbone)
    weights = LinearMap.of(saved["weight"].to(device), saved["bias"].to(device))
    if isinstance(settings, LanguageModelSettings):
        return LanguageModelHead(backbone, weights)
    if isinstance(settings, TaggerSettings):
        return TaggerHead(weights, saved["fallback"].to(device))
    assert settings.pooling is not None
    return ClassifierHead(weights, settings.pooling)
