"""Builds what turns a run's examples into token ids, and encodes what it learns from."""

from collections.abc import Sequence
from typing import Any

from polyprompt.capabilities import RunSettings
from polyprompt.data.corruption import CorruptedInputs, Corruption, whole_length
from polyprompt.data.encoded import NOTHING_SOURCED, Encoded, Reading, Sourced
from polyprompt.data.encoding import Encoder
from polyprompt.data.lazy import inputs_of
from polyprompt.data.pieces import pieces_behind, vocabulary_of
from polyprompt.data.segmentation import segmentation_of
from polyprompt.data.windows import Windowing, with_answers
from polyprompt.errors import ConfigError
from polyprompt.experiments.compatibility import check_positions, head_of
from polyprompt.experiments.plan import RunPlan
from polyprompt.families import FAMILIES
from polyprompt.head_settings import (
    ChoiceSettings,
    GeneratorSettings,
    HeadSettings,
    LanguageModelSettings,
    TaggerSettings,
)
from polyprompt.heads.generator import writing_of
from polyprompt.models.backbone import Backbone
from polyprompt.records import Example
from polyprompt.scoring.answers import accepted
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.layout import Layout, parse_layout


def train_inputs(run: RunPlan, card: TaskCard, encoder: Encoder, ahead: int) -> Sequence[Encoded]:
    """Encode a run's training examples; texts whose words are guessed are hidden anew each epoch.

    Args:
        run: The run.
        card: Its task.
        encoder: Of its layout.
        ahead: Most examples that are encoded before they are used.
    """
    examples = run.draw.train
    windowing = windowing_of(head_of(run.settings), card.form)
    if windowing is not None:
        return inputs_of(
            lambda some: encoder.encode(with_answers(encoder, some, windowing)), examples, ahead
        )
    if encoder.corruption is None:
        return inputs_of(encoder.encode, examples, ahead)
    names = [f"{example.language}/{example.id}" for example in examples]
    seed = run.settings.train_seed or 0
    texts = inputs_of(encoder.whole, examples, ahead)
    return CorruptedInputs(texts, encoder.corruption, seed, names)


def build_encoder(
    layout: Layout,
    settings: RunSettings,
    backbone: Backbone,
    *,
    begins: bool = True,
    continued: int = 0,
    sourced: Sourced = NOTHING_SOURCED,
    learns: bool = False,
) -> Encoder:
    """Build the encoder of a layout and check that its longest input fits.

    Args:
        layout: Where text, words and slots stand.
        settings: Of the backbone.
        backbone: For its tokenizer and positions.
        begins: Whether the tokenizer's beginning tokens open the input.
        continued: Tokens that are read behind the input, of label words of several pieces.
        sourced: Frozen parts of earlier runs that it is read with.
        learns: Whether the answers that are to be written stand behind the inputs.
    """
    facts, chosen, head = backbone.facts, settings.backbone, head_of(settings)
    reading, cut = reading_of(head), settings.segmentation
    if isinstance(head, GeneratorSettings):
        continued = head.max_pieces or 0
        reading = _learning(head, backbone) if learns else Reading()
    if chosen.family == "seq2seq":
        layout = layout.with_decoder()
    most = chosen.max_tokens
    if isinstance(head, LanguageModelSettings) and head.objective == "spans":
        most = whole_length(most, head)  # of which so many are left once spans are left out
    behind = layout.prompt_length + layout.given_length + settings.deep_places
    behind += max(continued, reading.continued)
    check_positions(settings, behind, facts.max_positions, facts.name)
    assert chosen.family is not None
    return Encoder(
        backbone.tokenizer,  # type: ignore[arg-type]  # transformers' class has more overloads
        layout,
        facts.text_prefix,
        most,
        begins=begins and chosen.special_tokens,
        ends=chosen.special_tokens and FAMILIES[chosen.family].adds_end_token,
        reading=reading,
        segmentation=cut and segmentation_of(cut, backbone.tokenizer),
        sourced=sourced,
        start=backbone.start_token,
        corruption=Corruption(head, vocabulary_of(backbone.tokenizer))  # type: ignore[arg-type]  # as above
        if isinstance(head, LanguageModelSettings)
        else None,
    )


def reading_of(head: HeadSettings) -> Reading:
    """Say which tokens a head reads one by one."""
    if isinstance(head, TaggerSettings):
        return Reading(piece=head.piece)
    if isinstance(head, ChoiceSettings):
        return Reading(continued=head.max_pieces, leading_space=head.leading_space)
    return Reading()


def _learning(head: GeneratorSettings, backbone: Backbone) -> Reading:
    """Say what stands behind inputs whose answers are learnt."""
    words, (end,) = head.words or {}, writing_of(backbone, head).ends
    _check_lengths(head, backbone)

    def target(example: Example) -> str | None:
        if example.label is None:
            return None
        return words[example.label] if words else accepted(example.label)[0]

    return Reading(
        continued=head.max_pieces or 0, leading_space=head.leading_space, target=target, end=end
    )


def _check_lengths(head: GeneratorSettings, backbone: Backbone) -> None:
    """Find label words that are too long to be written.

    Raises:
        ConfigError: There is one; shows its pieces.
    """
    most = head.max_pieces or 0
    tokenizer: Any = backbone.tokenizer  # transformers' class has more overloads
    for label, word in (head.words or {}).items():
        pieces = pieces_behind(tokenizer, " " * head.leading_space + word)
        if len(pieces) >= most:
            shown = " + ".join(repr(piece) for piece in tokenizer.convert_ids_to_tokens(pieces))
            raise ConfigError(
                f"head.max_pieces={most}: the word {word!r} for '{label}' is {len(pieces)} pieces "
                f"and an end, {shown}. Set head.max_pieces={len(pieces) + 1} or more, or a shorter "
                "word (head.words)."
            )


def windowing_of(head: HeadSettings, form: str | None) -> Windowing | None:
    """Say how long texts are read; None where they are cut off.

    Args:
        head: Of the run.
        form: Of its task's answers, where they are written.
    """
    if not isinstance(head, GeneratorSettings) or head.stride is None:
        return None
    return Windowing(head.stride, lists=form == "entities")


def instruction_of(card: TaskCard, backbone: Backbone) -> Layout:
    """Give the layout with which a backbone is asked without a prompt."""
    mask = " {mask}" if backbone.facts.guesses_masks else ""
    return parse_layout(card.instruction_layout() + mask, card.columns.fields)
