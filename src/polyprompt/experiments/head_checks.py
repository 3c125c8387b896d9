"""Refuses, before anything loads, heads that do not fit their task."""

from collections.abc import Mapping

from polyprompt.errors import ConfigError, LayoutError, nearest
from polyprompt.head_settings import (
    GeneratorSettings,
    HeadSettings,
    SimilaritySettings,
    VerbalizerSettings,
)
from polyprompt.scoring.answers import answer_words
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.layout import parse_layout


def check_head(head: HeadSettings, card: TaskCard) -> None:
    """Check what a head is made of.

    Raises:
        ConfigError: A label has no word, or a word no label; or class vectors are made of nothing.
    """
    if isinstance(head, VerbalizerSettings | GeneratorSettings):
        _check_words(head, card)
        return
    weights = head.prototypes if isinstance(head, SimilaritySettings) else None
    if weights is not None and weights.descriptions == 0 and weights.examples == 0:
        raise ConfigError("head.prototypes: descriptions and examples cannot both be 0.")


def _check_words(head: VerbalizerSettings | GeneratorSettings, card: TaskCard) -> None:
    """Check that every label has a word, and nothing else."""
    fallback = head.fallback if isinstance(head, GeneratorSettings) else None
    if fallback is not None and fallback not in card.answer_labels:
        known = (
            nearest(fallback, card.answer_labels)
            if card.answer_labels
            else " The task has no labels."
        )
        raise ConfigError(f"head.fallback: there is no label '{fallback}'.{known}")
    words = head.words or {}
    faults = [
        f"there is no label '{label}'.{nearest(label, card.answer_labels)}"
        for label in words
        if label not in card.answer_labels
    ]
    missing = [label for label in card.answer_labels if label not in words]
    faults += [f"the label '{label}' has no word." for label in missing]
    if isinstance(head, GeneratorSettings):
        faults += _alike(words)
    if faults:
        raise ConfigError(f"head.words: {' '.join(faults)}")


def _alike(words: Mapping[str, str]) -> list[str]:
    """Find labels whose written words cannot be told from another's, or from nothing."""
    seen: dict[tuple[str, ...], str] = {}
    faults = []
    for label, word in words.items():
        read = tuple(answer_words(word, ""))
        if not read:
            faults.append(f"the word '{word}' of '{label}' has no letter or digit.")
        elif read in seen:
            faults.append(
                f"'{label}' and '{seen[read]}' have the same words; capitals and punctuation do "
                "not count."
            )
        seen.setdefault(read, label)
    return faults


def check_instruction(head: HeadSettings, card: TaskCard) -> None:
    """Check the layout with which a decoder is asked without a prompt.

    Raises:
        LayoutError: It is none, or has words of the text's language, which are a run's.
    """
    if isinstance(head, VerbalizerSettings):
        try:
            parsed = parse_layout(card.instruction_layout(), card.columns.fields)
        except LayoutError as error:
            raise LayoutError(f"The card's instruction: {error}") from error
        if parsed.has_instruction:
            raise LayoutError(
                "The card's instruction: {instruction} stands in a run's layout alone. Write the "
                "words."
            )
