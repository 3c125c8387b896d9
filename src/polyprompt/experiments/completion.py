"""Writes out what a run's settings leave to backbone and card, before anything is loaded."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from polyprompt.capabilities import RunSettings
from polyprompt.experiments.sourced import begun_from, with_lengths
from polyprompt.families import FAMILIES, Attention, FamilyTraits
from polyprompt.head_settings import (
    HEADS_OF_TASKS,
    ChoiceSettings,
    ClassifierSettings,
    GeneratorSettings,
    HeadSettings,
    LanguageModelSettings,
    SimilaritySettings,
    TaggerSettings,
    VerbalizerSettings,
)
from polyprompt.models.locate import locate
from polyprompt.models.precision import reading_dtype
from polyprompt.part_settings import PartSettings
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.card_parts import WrittenAnswers

_WEIGHT_RATES = {"full": 1e-5, "lora": 2e-4, "bottleneck_adapter": 1e-3}
"""Peak rates of parts that reach the weights, where none is set; the smallest of a run counts."""
_HEADS: Mapping[str, Callable[[], HeadSettings]] = {
    "similarity": SimilaritySettings,
    "verbalizer": VerbalizerSettings,
    "classifier": partial(ClassifierSettings, kind="classifier"),
    "tagger": partial(TaggerSettings, kind="tagger"),
    "choice": partial(ChoiceSettings, kind="choice"),
    "language_model": partial(LanguageModelSettings, kind="language_model"),
    "generator": partial(GeneratorSettings, kind="generator"),
}


def complete(settings: RunSettings, card: TaskCard) -> RunSettings:
    """Fill in family, attention, commit, reading precision, head, label words and learning rate.

    Raises:
        BackboneError: There is no such backbone, or its family cannot be told.
    """
    place = locate(settings.backbone)
    family = FAMILIES[place.family]
    backbone = settings.backbone.model_copy(
        update={
            "family": place.family,
            "attention": settings.backbone.attention or _default_attention(family, card),
            "revision": place.commit or None,
            "reading_dtype": reading_dtype(settings.backbone),
        }
    )
    head = _completed(settings.head or _default_head(family, card), family, card, place.model_type)
    rate = settings.training.learning_rate or _learning_rate(settings, family.learning_rate)
    training = settings.training.model_copy(update={"learning_rate": rate})
    words = card.written and card.written.prompt
    parts = {name: _begun(name, part, words) for name, part in with_lengths(settings).items()}
    update = {"backbone": backbone, "head": head, "training": training, "parts": parts}
    if card.kind == "language" and settings.targets is None:
        update["targets"] = settings.source  # what is learnt is measured, other languages if asked
    return settings.model_copy(update=update)


def _begun(name: str, part: PartSettings, words: str | None) -> PartSettings:
    """Write out what a part begins with: the file of an earlier run, or the card's words."""
    initial: Any = getattr(part, "initial", None)
    if initial is None:
        return part
    update = {}
    if initial.kind == "file" and initial.path is not None:
        update = {"path": begun_from(initial.path, name, part.kind)}
    elif initial.kind == "text" and initial.text is None and words:
        update = {"text": words}
    return part.model_copy(update={"initial": initial.model_copy(update=update)})


def _default_attention(family: FamilyTraits, card: TaskCard) -> Attention:
    """Give the family's first attention; where words are read, one in which they see prompts."""
    reached = [kind for kind in family.attentions if kind is not Attention.ONE_WAY]
    return (reached if card.tags_words or card.kind == "language" else family.attentions)[0]


def _default_head(family: FamilyTraits, card: TaskCard) -> HeadSettings:
    """Give the family's first head that can answer a task; its first one where none can."""
    fitting = [kind for kind in family.heads if kind in HEADS_OF_TASKS[card.kind]]
    return _HEADS[(fitting or family.heads)[0]]()


def _completed(
    head: HeadSettings, family: FamilyTraits, card: TaskCard, model_type: str
) -> HeadSettings:
    """Write out what a head leaves to family and card."""
    if isinstance(head, VerbalizerSettings):
        words = card.words_for(model_type) | (head.words or {})
        return head.model_copy(update={"words": words})
    if isinstance(head, ClassifierSettings):
        return head.model_copy(update={"pooling": head.pooling or family.pooling})
    if isinstance(head, LanguageModelSettings):
        return head.model_copy(update={"objective": head.objective or family.objective})
    if isinstance(head, GeneratorSettings):
        return _as_card_writes(head, card)
    if isinstance(head, TaggerSettings):
        return head.model_copy(update={"piece": head.piece or family.piece})
    return head


def _as_card_writes(head: GeneratorSettings, card: TaskCard) -> GeneratorSettings:
    """Write out what a generator leaves to the card."""
    written = card.written or WrittenAnswers()
    plain = {label: label.replace("_", " ") for label in card.answer_labels}
    words = plain | written.words | (head.words or {})
    update = {
        "words": words,
        "fallback": head.fallback or written.fallback,
        "max_pieces": head.max_pieces or written.max_pieces,
    }
    return head.model_copy(update=update)


def _learning_rate(settings: RunSettings, of_prompts: float) -> float:
    """Give the rate of a run that sets none."""
    rates = [_WEIGHT_RATES[part.kind] for part in settings.weight_parts.values()]
    return min(rates, default=of_prompts)
