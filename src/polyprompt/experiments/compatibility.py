"""Refuses, before anything loads, settings that do not make sense together."""

import re
from collections.abc import Sequence

from polyprompt.capabilities import RunSettings
from polyprompt.errors import ConfigError, listing
from polyprompt.experiments.head_checks import check_head, check_instruction
from polyprompt.experiments.part_checks import (
    check_deep_prompts,
    check_soft_prompts,
    check_trained,
    check_weights,
)
from polyprompt.families import FAMILIES, Attention
from polyprompt.head_settings import (
    HEADS_OF_TASKS,
    ChoiceSettings,
    GeneratorSettings,
    HeadSettings,
    VerbalizerSettings,
)
from polyprompt.models.locate import locate
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.layout import Layout


def attention_of(settings: RunSettings) -> Attention:
    """Give the attention a completed run's backbone is used with."""
    assert settings.backbone.attention is not None
    return settings.backbone.attention


def head_of(settings: RunSettings) -> HeadSettings:
    """Give a completed run's head."""
    assert settings.head is not None
    return settings.head


def check_parts(settings: RunSettings, layout: Layout, card: TaskCard) -> None:
    """Check family, head, parts, initial values and, where it is known, the number of positions.

    Raises:
        ConfigError: Something does not fit; says what to set.
    """
    _check_sources(settings)
    _check_family(settings, card)
    _check_layout(settings, layout)
    check_head(head_of(settings), card)
    check_instruction(head_of(settings), card)
    check_weights(settings)
    check_trained(settings)
    check_soft_prompts(settings, layout, card)
    check_deep_prompts(settings, layout)
    positions = locate(settings.backbone).max_positions
    if positions is not None:
        head = head_of(settings)
        answer = head.max_pieces if isinstance(head, ChoiceSettings) else 0
        places = layout.prompt_length + layout.given_length + settings.deep_places + answer
        check_positions(settings, places, positions, settings.backbone.name)


def check_positions(
    settings: RunSettings, prompt_length: int, positions: int, backbone: str
) -> None:
    """Check that the longest input fits into the positions a model has.

    Args:
        settings: For the most tokens of a text.
        prompt_length: Places of prompts, and of a label word or an answer behind them.
        positions: Of the model.
        backbone: Its name.

    Raises:
        ConfigError: It does not; says which lengths would.
    """
    limit = settings.backbone.max_tokens
    room = positions - prompt_length
    if limit <= room:
        return
    hint = (
        f"Set backbone.max_tokens={room} or less, or a shorter prompt"
        if room >= 16
        else f"Set the prompt's length to {max(positions - limit, 1)} or less"
    )
    head = settings.head
    of_answer = ""
    if isinstance(head, ChoiceSettings | GeneratorSettings):
        of_answer = f", answers (head.max_pieces={head.max_pieces}) counted,"
        hint += ", or a smaller head.max_pieces"
    raise ConfigError(
        f"A prompt of {prompt_length} tokens{of_answer} and texts of up to {limit} need "
        f"{prompt_length + limit} positions; {backbone} has {positions}. {hint}."
    )


def check_slots(settings: RunSettings) -> None:
    """Check that the layout names no part that has no slot.

    Raises:
        ConfigError: It names a deep prompt, or a part that trains weights.
    """
    for name, part in settings.parts.items():
        stands = re.search(rf"\{{{re.escape(name)}[:}}]", settings.layout or "")
        if part.kind != "soft_prompt" and stands:
            raise ConfigError(
                f"layout: '{name}' is a part of kind {part.kind} and stands in no slot. Take "
                f"{{{name}}} out of the layout."
            )


def check_gap(settings: RunSettings, card: TaskCard) -> None:
    """Check that an article gap can be kept.

    Raises:
        ConfigError: Ids say nothing about articles, or nothing is drawn.
    """
    if settings.article_gap is None:
        return
    if not card.ids_are_positions:
        raise ConfigError(
            f"article_gap: the card '{card.name}' does not say that its ids are positions "
            "(ids_are_positions: true). Take article_gap out."
        )
    if settings.shots == "all":
        raise ConfigError("article_gap: with shots=all nothing is drawn. Take one of them out.")


_READS_OTHERS = frozenset({"tagger", "choice", "language_model", "generator"})
"""Heads that read other states than the one of an input that is recorded."""


def check_record(settings: RunSettings, tested: Sequence[str]) -> None:
    """Check that what is to be recorded is there, and states can be compared with the source's.

    Raises:
        ConfigError: A source language is not tested, or layers are asked for that a deep prompt
            stands beside.
    """
    if "epochs" in settings.record and head_of(settings).kind == "language_model":
        raise ConfigError(
            "record: epochs of texts whose own words are guessed are not recorded; steps.jsonl has "
            "the loss of those held out for choosing. Take it out of record."
        )
    inside = sorted({"states", "attention"}.intersection(settings.record))
    if inside and settings.deep_prompts:
        raise ConfigError(
            f"record: {listing(inside)} of layers with a deep prompt beside them are not recorded. "
            "Take it out of record."
        )
    if inside and settings.backbone.family == "seq2seq":
        raise ConfigError(
            f"record: {listing(inside)} of an encoder with a decoder are not recorded. Take it out "
            "of record."
        )
    head = head_of(settings)
    assert settings.backbone.family is not None
    usual = FAMILIES[settings.backbone.family].pooling
    pooled = getattr(head, "pooling", usual) == usual
    masked = settings.backbone.family == "masked" and head.kind == "verbalizer"
    if inside and (masked or not pooled or head.kind in _READS_OTHERS):
        raise ConfigError(
            f"record: {listing(inside)} are recorded for heads that read the {usual} state of this "
            f"backbone; this {head.kind} reads others. Take it out of record."
        )
    missing = set(settings.source).difference(tested)
    if "states" in settings.record and missing:
        raise ConfigError(
            "record: states are compared with those of the source language, and "
            f"{', '.join(sorted(missing))} is not among the targets. Add it, or take states out."
        )


def _check_sources(settings: RunSettings) -> None:
    """Check that every source language has its share, and only one way of sharing is set."""
    shares = settings.source_shares
    if shares is None:
        return
    if settings.source_temperature is not None:
        raise ConfigError("source_shares and source_temperature both share k. Keep one of them.")
    if set(shares) != set(settings.source):
        raise ConfigError(
            f"source_shares names {listing(list(shares))}, source {listing(settings.source)}. Give "
            "every source language a share, and no other."
        )


def check_fit(settings: RunSettings) -> RunSettings:
    """Check that somebody's own examples can be fitted with these parts; returns the settings.

    Raises:
        ConfigError: One of them trains the weights, or the head writes answers.
    """
    if isinstance(settings.head, GeneratorSettings):
        raise ConfigError(
            "head.kind=generator: a fit scores labels, and this head writes answers. Take another "
            "head, or describe the task in a card and run a study (polyprompt run)."
        )
    if settings.weight_parts:
        raise ConfigError(
            "A fit trains soft prompts alone, because its folds share one frozen model. Train "
            "weights in a study (polyprompt run)."
        )
    if settings.sourced:
        raise ConfigError(
            f"parts.{next(iter(settings.sourced))}.source: a fit does not take parts of earlier "
            "runs. Take them up in a study (polyprompt run)."
        )
    return settings


def _check_family(settings: RunSettings, card: TaskCard) -> None:
    """Check attention and head against what the backbone's family offers, and the head's task."""
    name, head = settings.backbone.family, head_of(settings)
    assert name is not None
    family, attention = FAMILIES[name], attention_of(settings)
    if attention not in family.attentions:
        offered = listing([str(a) for a in family.attentions])
        raise ConfigError(f"backbone.attention={attention}: the family '{name}' offers {offered}.")
    if head.kind not in family.heads:
        raise ConfigError(
            f"head.kind={head.kind}: the family '{name}' answers through {listing(family.heads)}."
            + (" backbone.family=embedding reads it as a sentence encoder." * (name == "masked"))
        )
    if (
        name == "masked"
        and isinstance(head, VerbalizerSettings)
        and head.several_pieces != "refuse"
    ):
        raise ConfigError(
            f"head.several_pieces={head.several_pieces}: there is one mask, so that a word has one "
            "piece. Set head.several_pieces=refuse."
        )
    able = [kind for kind in HEADS_OF_TASKS[card.kind] if kind in family.heads]
    if head.kind not in able:
        advice = f"Set head.kind to {listing(able)}." if able else "Take a decoder, or T5."
        raise ConfigError(
            f"head.kind={head.kind} cannot answer the {card.kind} task '{card.name}'. {advice}"
        )


def _check_layout(settings: RunSettings, layout: Layout) -> None:
    """Check that there is a word to be guessed where the backbone guesses words, and only there."""
    guesses = settings.backbone.family == "masked" and head_of(settings).kind == "verbalizer"
    if guesses and layout.masks != 1:
        raise ConfigError(
            f"The layout has {layout.masks} masks; this backbone answers with the word at one. "
            "Write e.g. layout='{text} {mask}{task:10}', or set backbone.family=embedding to read "
            "it as a sentence encoder."
        )
    _check_decoder(settings, layout)
    if not guesses and layout.masks:
        raise ConfigError(
            "The layout has a {mask}, which only a verbalizer over a masked language model reads. "
            "Take it out."
        )


def _check_decoder(settings: RunSettings, layout: Layout) -> None:
    """Check what stands in a decoder, and that there is one.

    Raises:
        ConfigError: The backbone has none behind an encoder, or something else stands there than
            soft prompts; or a part is asked for that an encoder with a decoder has no place for.
    """
    has_decoder = settings.backbone.family == "seq2seq"
    if layout.decoder_run is not None and not has_decoder:
        raise ConfigError(
            "The layout has a {decoder}, which only an encoder with a decoder (T5, mT5) has. Take "
            "it out."
        )
    if layout.decoder_run is not None and any(layout.hard_runs()[layout.decoder_run :]):
        raise ConfigError(
            "The layout has words or texts behind {decoder}. Only soft prompts stand in the "
            "decoder, in front of its start token; put the others in front of {decoder}."
        )
    if has_decoder and settings.deep_prompts:
        name = next(iter(settings.deep_prompts))
        raise ConfigError(
            f"parts.{name}: an encoder with a decoder has no place for a part of kind deep_prompt. "
            "Take a soft_prompt, e.g. layout='{task:20}{text}', or a bottleneck_adapter."
        )
