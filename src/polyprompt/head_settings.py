"""How heads are set: the schema of ``head`` in ``study.yaml``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from polyprompt.part_settings import Settings


class PrototypeSettings(Settings):
    """What a class vector is made of: weights of the label description and of the examples."""

    descriptions: float = Field(default=1.0, ge=0)
    examples: float = Field(default=1.0, ge=0)


class SimilaritySettings(Settings):
    """Class scores are cosines to class vectors, divided by ``temperature``."""

    kind: Literal["similarity"] = "similarity"
    temperature: float = Field(default=0.01, gt=0)
    prototypes: PrototypeSettings = PrototypeSettings()


class VerbalizerSettings(Settings):
    """Label scores are the language model's own scores of one word per label.

    ``words`` None takes the card's, for the model's type, else its ``default``, else the labels
    themselves. ``leading_space`` tokenizes a word as it stands behind another one. A word of
    ``several_pieces`` is refused, or scored by the ``sum`` or ``mean`` of its pieces'
    log-probabilities. ``loss`` is the cross-entropy over the label words or over the whole
    ``vocabulary`` (paper A). ``calibration`` subtracts, label by label, what inputs without content
    score: ``contextual`` the log of the mean probability for "N/A", "[MASK]" and no text (Zhao et
    al. 2021), ``pmi`` the log-probability without the text (Holtzman et al. 2021).
    """

    kind: Literal["verbalizer"] = "verbalizer"
    words: dict[str, str] | None = None
    leading_space: bool = True
    several_pieces: Literal["refuse", "sum", "mean"] = "refuse"
    loss: Literal["labels", "vocabulary"] = "labels"
    calibration: Literal["none", "contextual", "pmi"] = "none"


class LinearMapSettings(Settings):
    """A trained map from states to scores.

    ``dropout`` is that on the state in training, ``bound`` the standard deviation with which the
    map begins.
    """

    dropout: float = Field(default=0.0, ge=0, lt=1)
    bound: float = Field(default=0.02, gt=0)


class ClassifierSettings(LinearMapSettings):
    """Class scores are a linear map of the input's state, trained with the parts.

    ``pooling`` takes the state of the ``last`` token or the ``mean`` over all; None that of the
    backbone's family.
    """

    kind: Literal["classifier"]
    pooling: Literal["last", "mean"] | None = None


class TaggerSettings(LinearMapSettings):
    """A tag's scores are a linear map of a word's state, trained with the parts.

    The state is that of the word's ``first`` or ``last`` ``piece``; None takes that of the
    backbone's family.
    """

    kind: Literal["tagger"]
    piece: Literal["first", "last"] | None = None


class ChoiceSettings(Settings):
    """An answer's score is the log-likelihood of its text behind the input.

    ``several_pieces`` takes the ``sum`` or the ``mean`` of its pieces' log-probabilities;
    ``leading_space`` tokenizes it as it stands behind another word. An answer is cut off after
    ``max_pieces``.
    """

    kind: Literal["choice"]
    several_pieces: Literal["sum", "mean"] = "mean"
    leading_space: bool = True
    max_pieces: int = Field(default=64, ge=1, le=1024)


class LanguageModelSettings(LinearMapSettings):
    """A text's own words are guessed; what is learnt is the language, not a task.

    ``objective`` None takes that of the backbone's family: the ``next_word`` of a decoder,
    ``masked_words`` of an encoder, ``spans`` of an encoder with a decoder (T5). ``density`` is the
    share of pieces that is masked or left out, ``mean_span`` the mean length of a span. A sentence
    encoder, which has no language-model head, learns a linear map into its word table with the
    parts.
    """

    kind: Literal["language_model"]
    objective: Literal["next_word", "masked_words", "spans"] | None = None
    density: float = Field(default=0.15, gt=0, lt=1)
    mean_span: float = Field(default=3.0, ge=1)


class GeneratorSettings(Settings):
    """An answer is written piece by piece behind the input.

    ``words`` says what is written for each label, ``fallback`` which label counts where nothing of
    this is written, ``max_pieces`` how many pieces an answer has at the most, its end counted; None
    takes what the card says. ``beams`` 1 writes greedily; scores of beams are divided by their
    length to the power of ``length_penalty``. ``leading_space`` tokenizes the answer that is
    learnt as it stands behind another word. A text that is too long is read in windows whose
    neighbours share ``stride`` pieces, and the answer that is the likeliest piece by piece counts,
    of entities those of all windows; None cuts it off instead.
    """

    kind: Literal["generator"]
    words: dict[str, str] | None = None
    fallback: str | None = None
    max_pieces: int | None = Field(default=None, ge=1, le=1024)
    beams: int = Field(default=1, ge=1, le=64)
    length_penalty: float = 1.0
    leading_space: bool = True
    stride: int | None = Field(default=64, ge=0)


def head_short(value: Any) -> Any:
    """Let ``head: NAME`` stand for ``head: {kind: NAME}``, and ``{}`` for the default."""
    return None if value == {} else {"kind": value} if isinstance(value, str) else value


def _head_kind(value: Any) -> str | None:
    """Find which head is meant; ``kind`` may be left out where a key tells."""
    if isinstance(value, BaseModel):
        return getattr(value, "kind", None)
    if not isinstance(value, dict) or "kind" in value:
        return value.get("kind") if isinstance(value, dict) else None
    known = sum(key in VerbalizerSettings.model_fields for key in value)
    return "verbalizer" if known else "similarity"


HeadSettings = Annotated[
    Annotated[SimilaritySettings, Tag("similarity")]
    | Annotated[VerbalizerSettings, Tag("verbalizer")]
    | Annotated[ClassifierSettings, Tag("classifier")]
    | Annotated[TaggerSettings, Tag("tagger")]
    | Annotated[ChoiceSettings, Tag("choice")]
    | Annotated[LanguageModelSettings, Tag("language_model")]
    | Annotated[GeneratorSettings, Tag("generator")],
    Discriminator(
        _head_kind,
        custom_error_type="head_kind",
        custom_error_message="there is no such head; expected kind 'similarity', 'verbalizer', "
        "'classifier', 'tagger', 'choice', 'language_model' or 'generator'",
    ),
]

HEADS_OF_TASKS = {
    "classification": ("similarity", "verbalizer", "classifier"),
    "tagging": ("tagger",),
    "choice": ("choice",),
    "language": ("language_model",),
    "question_answering": ("generator",),
    "text": ("generator",),
}
"""Heads that can answer a kind of task; ``text`` is one whose answers are written."""

TRAINED_HEADS = ("classifier", "tagger")
"""Heads that have weights of their own; so has ``language_model`` on a sentence encoder."""
