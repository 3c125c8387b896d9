"""Refuses, before anything loads, settings that do not make sense together."""

from collections.abc import Sequence
from pathlib import Path

from polyprompt.capabilities import (
    FAMILIES,
    Attention,
    HeadSettings,
    RunSettings,
    VerbalizerSettings,
)
from polyprompt.errors import ConfigError, LayoutError, listing, nearest
from polyprompt.models.locate import locate
from polyprompt.part_settings import InitialSettings
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.layout import Layout, parse_layout


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
    _check_family(settings)
    _check_head(head_of(settings), card)
    _check_instruction(head_of(settings), card)
    _check_weights(settings)
    soft = settings.soft_prompts
    if not settings.weight_parts and not any(part.trained for part in soft.values()):
        raise ConfigError("Nothing is trained: no part has trained: true.")
    if not settings.weight_parts and not layout.slots:
        raise ConfigError("Nothing is trained: the layout has no slot, e.g. {task:10}.")
    for slot in layout.slots:
        _check_initial(slot.name, slot.length, soft[slot.name].initial, card)
        if soft[slot.name].reparameteriser is not None and not soft[slot.name].trained:
            raise ConfigError(
                f"parts.{slot.name}: with trained: false there is nothing to reparameterise. Take "
                "one of the two out."
            )
    positions = locate(settings.backbone).max_positions
    if positions is not None:
        check_positions(settings, layout.prompt_length, positions, settings.backbone.name)


def check_positions(
    settings: RunSettings, prompt_length: int, positions: int, backbone: str
) -> None:
    """Check that the longest input fits into the positions a model has.

    Args:
        settings: For the most tokens of a text.
        prompt_length: Soft tokens, and those of a label word behind them.
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
    raise ConfigError(
        f"A prompt of {prompt_length} tokens and texts of up to {limit} need "
        f"{prompt_length + limit} positions; {backbone} has {positions}. {hint}."
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


def check_record(settings: RunSettings, tested: Sequence[str]) -> None:
    """Check that recorded states can be compared with the source languages'.

    Raises:
        ConfigError: A source language is not tested.
    """
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
        ConfigError: One of them trains the weights.
    """
    if settings.weight_parts:
        raise ConfigError(
            "A fit trains soft prompts alone, because its folds share one frozen model. Train "
            "weights in a study (polyprompt run)."
        )
    return settings


def _check_weights(settings: RunSettings) -> None:
    """Check the parts that reach the weights against one another and against the backbone."""
    names = list(settings.weight_parts)
    if len(names) > 1:
        raise ConfigError(f"parts: {listing(names)} all train the weights. Keep one of them.")
    if not names:
        return
    where = f"parts.{names[0]} (kind {settings.parts[names[0]].kind})"
    if settings.backbone.quantization is not None:
        raise ConfigError(
            f"{where}: weights of {settings.backbone.quantization} cannot be trained. Take "
            "backbone.quantization out."
        )
    if settings.backbone.device_map is not None:
        raise ConfigError(
            f"{where}: weights that are spread over devices are not trained. Set backbone.device "
            "instead of backbone.device_map."
        )


def _check_family(settings: RunSettings) -> None:
    """Check attention and head against what the backbone's family offers."""
    name, head = settings.backbone.family, head_of(settings)
    assert name is not None
    family, attention = FAMILIES[name], attention_of(settings)
    if attention not in family.attentions:
        offered = listing([str(a) for a in family.attentions])
        raise ConfigError(f"backbone.attention={attention}: the family '{name}' offers {offered}.")
    if head.kind not in family.heads:
        raise ConfigError(
            f"head.kind={head.kind}: the family '{name}' answers through {listing(family.heads)}."
        )


def _check_head(head: HeadSettings, card: TaskCard) -> None:
    """Check what a head is made of."""
    if isinstance(head, VerbalizerSettings):
        words = head.words or {}
        faults = [
            f"there is no label '{label}'.{nearest(label, card.labels)}"
            for label in words
            if label not in card.labels
        ]
        missing = [label for label in card.labels if label not in words]
        faults += [f"the label '{label}' has no word" for label in missing]
        if faults:
            raise ConfigError(f"head.words: {'; '.join(faults)}.")
    elif head.prototypes.descriptions == 0 and head.prototypes.examples == 0:
        raise ConfigError("head.prototypes: descriptions and examples cannot both be 0.")


def _check_instruction(head: HeadSettings, card: TaskCard) -> None:
    """Check the layout with which a decoder is asked without a prompt."""
    if isinstance(head, VerbalizerSettings):
        try:
            parse_layout(card.instruction_layout(), card.columns.fields)
        except LayoutError as error:
            raise LayoutError(f"The card's instruction: {error}") from error


def _check_initial(slot: str, length: int, initial: InitialSettings, card: TaskCard) -> None:
    """Check that an initial value has what it needs."""
    where = f"parts.{slot}.initial"
    if initial.kind == "text" and not (initial.text or "").strip():
        raise ConfigError(f"{where}: kind=text needs words: set {where}.text.")
    if initial.kind == "descriptions" and length < len(card.labels):
        raise ConfigError(
            f"A prompt of length {length} cannot hold {len(card.labels)} label descriptions. "
            f"Set its length to {len(card.labels)} or more, or choose another initial value."
        )
    if initial.kind == "file" and not (initial.path and Path(initial.path).is_file()):
        raise ConfigError(f"{where}: there is no file '{initial.path}'. Set {where}.path.")
