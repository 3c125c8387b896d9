"""Refuses parts that do not go together, or do not go with the layout and the backbone."""

from pathlib import Path

from polyprompt.capabilities import RunSettings
from polyprompt.errors import ConfigError, listing, nearest
from polyprompt.families import Attention
from polyprompt.head_settings import TRAINED_HEADS
from polyprompt.part_settings import (
    AdapterInitialSettings,
    DeepInitialSettings,
    InitialSettings,
    LoraInitialSettings,
    LoraSettings,
    Reach,
)
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.layout import Layout


def check_trained(settings: RunSettings) -> None:
    """Check that something is trained.

    Raises:
        ConfigError: No part is, and the head has no weights.
    """
    _check_rates(settings)
    if settings.training.epochs == 0 or any(p.is_trained for p in settings.parts.values()):
        return
    if trains_head(settings):
        return
    if settings.parts:
        raise ConfigError(
            "Nothing is trained: no part has trained: true, or all have a source and are frozen."
        )
    raise ConfigError("Nothing is trained: there is no part, e.g. parts={task: {length: 10}}.")


def trains_head(settings: RunSettings) -> bool:
    """Say whether a run's head has weights of its own."""
    kind = None if settings.head is None else settings.head.kind
    into_words = kind == "language_model" and settings.backbone.family == "embedding"
    return kind in TRAINED_HEADS or into_words


def _check_rates(settings: RunSettings) -> None:
    """Check that whatever has a rate of its own is trained."""
    trained = {name for name, part in settings.parts.items() if part.is_trained}
    if trains_head(settings):
        trained.add("head")
    for name in settings.training.learning_rates:
        if name not in trained:
            raise ConfigError(
                f"training.learning_rates: '{name}' is no part or head that is trained."
                f"{nearest(name, sorted(trained))} There is: {listing(sorted(trained)) or 'none'}."
            )


def check_soft_prompts(settings: RunSettings, layout: Layout, card: TaskCard) -> None:
    """Check the soft prompts of a layout.

    Raises:
        ConfigError: An initial value lacks something, or nothing is there to reparameterise.
    """
    attention, head = settings.backbone.attention, settings.head
    assert attention is not None
    for slot in layout.slots:
        if (
            head is not None
            and head.kind == "tagger"
            and not _reaches(slot.name, layout, attention)
        ):
            raise ConfigError(
                f"parts.{slot.name}: the words that are tagged do not see it. Put it in front of "
                "them in a decoder, e.g. layout='{task:10}{text}'; set backbone.attention=full for "
                "an encoder; or take a part of kind deep_prompt."
            )
        part = settings.soft_prompts[slot.name]
        _check_initial(slot.name, slot.length, part.initial, card)
        if part.reparameteriser is not None and not part.trained:
            raise ConfigError(
                f"parts.{slot.name}: with trained: false there is nothing to reparameterise. Take "
                "one of the two out."
            )


def _reaches(slot: str, layout: Layout, attention: Attention) -> bool:
    """Say whether a soft prompt changes what the text's words compute."""
    return layout.reach(slot, attention) is Reach.WHOLE_SEQUENCE


def check_deep_prompts(settings: RunSettings, layout: Layout) -> None:
    """Check deep prompts against layout, head and attention.

    Raises:
        ConfigError: One that stands behind the text is read by nothing, or a file is missing.
    """
    for name, part in settings.deep_prompts.items():
        if part.projection is not None and not part.trained:
            raise ConfigError(
                f"parts.{name}: with trained: false there is nothing to project. Take one of the "
                "two out."
            )
        _check_file(name, part.initial)
        if part.position == "suffix":
            _check_suffix(name, settings, layout)


def _check_suffix(name: str, settings: RunSettings, layout: Layout) -> None:
    """Check that something reads a deep prompt behind the text."""
    where, attention = f"parts.{name}.position=suffix", settings.backbone.attention
    assert attention is not None
    if settings.head is not None and settings.head.kind == "tagger":
        raise ConfigError(
            f"{where}: the words that are tagged stand in front of it and do not see it. Set "
            "position=prefix."
        )
    if attention is Attention.FULL:
        raise ConfigError(
            f"{where}: with full attention nothing stands behind the text. Set position=prefix, "
            "which is the same there, or backbone.attention=one_way."
        )
    behind = [s for s in layout.slots if layout.reach(s.name, attention) is Reach.AFTER_INPUT]
    if not behind or len(behind) < len(layout.slots):
        raise ConfigError(
            f"{where}: it is read by soft tokens that stand behind all of the text, and by nothing "
            "else. Put one there, e.g. layout='{text}{task:1}', and none in front."
        )


def check_weights(settings: RunSettings) -> None:
    """Check the parts that reach the weights against one another and against the backbone.

    Raises:
        ConfigError: There are several, or the weights cannot be trained.
    """
    names = list(settings.weight_parts)
    if len(set(names).difference(settings.adapters)) > 1:
        raise ConfigError(f"parts: {listing(names)} all train the weights. Keep one of them.")
    if not names:
        return
    _check_adapters(settings)
    names = [name for name in names if name not in settings.adapters]
    if not names:
        return
    low_rank = settings.parts[names[0]]
    if isinstance(low_rank, LoraSettings):
        _check_file(names[0], low_rank.initial)
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


def _check_adapters(settings: RunSettings) -> None:
    """Check what adapters begin with.

    Raises:
        ConfigError: A file is missing.
    """
    for name, part in settings.adapters.items():
        _check_file(name, part.initial)


def _check_file(
    name: str, initial: DeepInitialSettings | AdapterInitialSettings | LoraInitialSettings
) -> None:
    """Check that what a part begins with is there.

    Raises:
        ConfigError: The file is missing.
    """
    if initial.kind == "file" and not (initial.path and Path(initial.path).is_file()):
        raise ConfigError(
            f"parts.{name}.initial: there is no file '{initial.path}'. Set "
            f"parts.{name}.initial.path."
        )


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
        raise ConfigError(
            f"{where}: there is no file '{initial.path}', and no complete run. Set {where}.path to "
            "a file, a run's folder, or a study's folder with a language behind it."
        )
