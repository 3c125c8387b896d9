"""An example as token ids, and what of it is wanted one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polyprompt.records import Example

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Encoded:
    """An example as the backbone reads it.

    Attributes:
        hard: Token ids between the slots: n slots separate n + 1 runs, some of them empty.
        dropped: Pieces of text that truncation took away.
        words: White-space words of the example's fields.
        characters: Of the example's fields.
        own: Which of the hard tokens are the fields' own, and not the layout's words or the
            tokenizer's special tokens; in the shape of ``hard``.
        reads: Which hard tokens, counted over all runs, are read one by one: a piece of each word
            that is tagged, -1 for words that were cut off, or the masks.
        masks: Which hard tokens are masks.
        continuations: Pieces of the texts one of which is the answer.
        pieces: Of the example's fields, before anything is cut off.
        singles: Those of them that hold one character or none.
        answers: How many answers are wanted: one per word that is tagged, or one.
        given: How many of the hard tokens are frozen soft prompts.
        variant: Whose frozen adapters it is read with: a language; empty for none.
        decoder: Which of the hard runs is the first of the decoder; 0 where there is none.
        targets: Words that the tokens which are read one by one are to guess, where a model of
            language learns; in the order of ``reads``.
    """

    hard: tuple[NDArray[np.int64], ...]
    dropped: int
    words: int
    characters: int
    own: tuple[NDArray[np.bool_], ...] = ()
    reads: NDArray[np.int64] = field(default_factory=_NONE.copy)
    masks: NDArray[np.int64] = field(default_factory=_NONE.copy)
    continuations: tuple[tuple[int, ...], ...] = ()
    pieces: int = 0
    singles: int = 0
    answers: int = 1
    given: int = 0
    variant: str = ""
    decoder: int = 0
    targets: NDArray[np.int64] = field(default_factory=_NONE.copy)

    @property
    def tokens(self) -> int:
        """Hard tokens of the input (T)."""
        return sum(len(run) for run in self.hard)

    @property
    def continued(self) -> int:
        """Tokens that are read behind it, those of its continuations but for their last pieces."""
        return sum(max(len(pieces) - 1, 0) for pieces in self.continuations)


@dataclass(frozen=True)
class Reading:
    """Which tokens of an input a head reads one by one.

    Attributes:
        piece: Which piece of each word that is tagged; None where none are.
        continued: Most pieces of a text one of which is the answer.
        leading_space: Whether such a text is tokenized as it stands behind another word.
        target: Says what is to be written for an example, in the place of texts to choose from.
        end: Id that closes what is written.
    """

    piece: Literal["first", "last"] | None = None
    continued: int = 0
    leading_space: bool = True
    target: Callable[[Example], str | None] | None = None
    end: int = 0


@dataclass(frozen=True)
class Sourced:
    """Frozen parts that an input is read with, by its language.

    Attributes:
        words: Ids of frozen soft prompts, by name and language; a language may have none.
        variants: Languages that have frozen adapters.
    """

    words: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    variants: frozenset[str] = frozenset()


ANSWER_ALONE = Reading()
"""For heads that read one state of an input."""

NOTHING_SOURCED = Sourced()
"""For inputs without frozen parts."""


def words_of(encoded: Encoded) -> list[int]:
    """Give the words of a text that are to be guessed."""
    return [*encoded.targets.tolist(), *(word for own in encoded.continuations for word in own)]
