"""What families of backbones offer, known without loading torch."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Attention(StrEnum):
    """Who may look at whom.

    ``causal``: every token at what stands before it (decoders). ``one_way``: words at words,
    soft tokens at everything (encoders whose text can be cached). ``full``: all at all.
    ``encoder_decoder``: all of an encoder's tokens at one another, a decoder's at all of these and
    at what stands before them in the decoder.
    """

    CAUSAL = "causal"
    ONE_WAY = "one_way"
    FULL = "full"
    ENCODER_DECODER = "encoder_decoder"

    @property
    def answers_in_order(self) -> bool:
        """Whether live tokens see only those of their block that do not stand behind them."""
        return self in {Attention.CAUSAL, Attention.ENCODER_DECODER}


class FamilyTraits(BaseModel):
    """What a family of backbones offers.

    Attributes:
        attentions: Kinds of attention it can be run with; the first is the default.
        heads: Heads that can turn its states into answers; of those that can answer a task, the
            first is the default.
        learning_rate: Peak rate of training where none is set.
        adds_end_token: Whether the tokenizer's end token closes the input; a decoder goes on with
            the answer instead.
        pooling: Which state stands for a text where baselines want one vector: the mean over its
            tokens, or the last, the only one of a decoder that has seen it all.
        piece: Which piece of a word is read where words are tagged: the first, or the last, the
            only one of a decoder that has seen them all.
        objective: What a model of language guesses.
    """

    model_config = ConfigDict(frozen=True)

    attentions: tuple[Attention, ...]
    heads: tuple[str, ...]
    learning_rate: float
    adds_end_token: bool
    pooling: Literal["mean", "last"]
    piece: Literal["first", "last"] = "first"
    objective: Literal["next_word", "masked_words", "spans"] = "masked_words"


FAMILIES = {
    "embedding": FamilyTraits(
        attentions=(Attention.ONE_WAY, Attention.FULL),
        heads=("similarity", "classifier", "tagger", "language_model"),
        learning_rate=0.03,
        adds_end_token=True,
        pooling="mean",
    ),
    "causal": FamilyTraits(
        attentions=(Attention.CAUSAL,),
        heads=("verbalizer", "classifier", "tagger", "choice", "language_model", "generator"),
        learning_rate=0.01,
        adds_end_token=False,
        pooling="last",
        piece="last",
        objective="next_word",
    ),
    "masked": FamilyTraits(
        attentions=(Attention.ONE_WAY, Attention.FULL),
        heads=("verbalizer", "classifier", "tagger", "language_model"),
        learning_rate=0.01,
        adds_end_token=True,
        pooling="mean",
    ),
    "seq2seq": FamilyTraits(
        attentions=(Attention.ENCODER_DECODER,),
        heads=("verbalizer", "choice", "language_model", "generator"),
        learning_rate=0.3,
        adds_end_token=True,
        pooling="mean",
        objective="spans",
    ),
}
"""Families of backbones by name."""
