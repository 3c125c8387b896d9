"""Writes out what a run's settings leave to backbone and card, before anything is loaded."""

from polyprompt.capabilities import FAMILIES, RunSettings, SimilaritySettings, VerbalizerSettings
from polyprompt.models.locate import locate
from polyprompt.models.precision import reading_dtype
from polyprompt.tasks.card import TaskCard

_WEIGHT_RATES = {"full": 1e-5, "lora": 2e-4}
"""Peak rates of parts that reach the weights, where none is set; the smallest of a run counts."""
_HEADS = {"similarity": SimilaritySettings, "verbalizer": VerbalizerSettings}


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
            "attention": settings.backbone.attention or family.attentions[0],
            "revision": place.commit or None,
            "reading_dtype": reading_dtype(settings.backbone),
        }
    )
    head = settings.head or _HEADS[family.heads[0]]()
    if isinstance(head, VerbalizerSettings):
        words = card.words_for(place.model_type) | (head.words or {})
        head = head.model_copy(update={"words": words})
    rate = settings.training.learning_rate or _learning_rate(settings, family.learning_rate)
    training = settings.training.model_copy(update={"learning_rate": rate})
    return settings.model_copy(update={"backbone": backbone, "head": head, "training": training})


def _learning_rate(settings: RunSettings, of_prompts: float) -> float:
    """Give the rate of a run that sets none."""
    rates = [_WEIGHT_RATES[part.kind] for part in settings.weight_parts.values()]
    return min(rates, default=of_prompts)
