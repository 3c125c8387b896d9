"""Has answers written by every run of a group, and reads what was written."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyprompt.data.encoded import Encoded
from polyprompt.data.windows import NEXT_WINDOW, NO_PIECE
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.writing import Written, write
from polyprompt.heads.head import Head
from polyprompt.prediction.predict import Answers, answer
from polyprompt.records import Writing
from polyprompt.scoring.answers import answer_words, united_entities
from polyprompt.tasks.card import TaskCard

INPUTS_AT_ONCE = 64
"""Inputs whose answers are written before they are kept."""


def answer_columns(heads: Sequence[Head], card: TaskCard) -> int:
    """Count the columns of an answer: one per label, or what a written one needs."""
    writings = [head.writing for head in heads if head.writing is not None]
    return columns_of(writings) if writings else max(len(card.labels), 1)


def answers_to(
    engine: Engine,
    prompts: Prompts,
    heads: Sequence[Head],
    inputs: Sequence[Encoded],
    *,
    bare: bool,
    known: Collection[int] = (),
) -> Iterator[Answers]:
    """Answer inputs as ``answer`` does, or have the answers written where heads do that."""
    writings = [head.writing for head in heads if head.writing is not None]
    if writings:
        return written_answers(engine, prompts, writings, inputs, known)
    return answer(engine, prompts, heads, inputs, bare=bare, known=known)


def written_answers(
    engine: Engine,
    prompts: Prompts,
    writings: Sequence[Writing],
    inputs: Sequence[Encoded],
    known: Collection[int] = (),
) -> Iterator[Answers]:
    """Have inputs answered, sorted by length across languages, some after others.

    Args:
        engine: Computes states.
        prompts: Of R runs.
        writings: Of the same runs.
        inputs: In any order.
        known: Rows that are left out.

    Yields:
        Answers; the scores of each are its mean log-probability, and then its pieces.
    """
    left = sorted(set(range(len(inputs))) - set(known), key=lambda row: (inputs[row].tokens, row))
    for start in range(0, len(left), INPUTS_AT_ONCE):
        rows = left[start : start + INPUTS_AT_ONCE]
        chosen = [inputs[row] for row in rows]
        tables = [
            as_scores(write(engine, chosen, prompts.only(run), writing), columns_of(writings))
            for run, writing in enumerate(writings)
        ]
        yield Answers(rows, np.stack(tables), None)


def columns_of(writings: Sequence[Writing]) -> int:
    """Count the columns of a table of answers."""
    return 1 + max(writing.most for writing in writings)


def as_scores(answers: Sequence[Written], columns: int) -> NDArray[np.float32]:
    """Tabulate answers: mean log-probability, pieces, and then ``NO_PIECE``, N × columns."""
    table = np.full((len(answers), columns), NO_PIECE, dtype=np.float32)
    for row, one in zip(table, answers, strict=True):
        row[0] = one.mean_log
        row[1 : 1 + len(one.pieces)] = one.pieces
    return table


@dataclass(frozen=True)
class AnswerReader:
    """Reads what was written.

    What was written for several windows of a text is a list each, and they are united.

    Attributes:
        tokenizer: Of the backbone, a transformers tokenizer.
        words: What is written for each label; empty where the answer is a text of its own.
        fallback: The label that counts where none of these is written.
    """

    tokenizer: Any
    words: Mapping[str, str] = field(default_factory=dict)
    fallback: str | None = None

    def texts(self, scores: NDArray[np.float32]) -> list[str]:
        """Give the first line of every answer, single spaces between its words."""
        rows = [_pieces(row) for row in scores]
        windows = [own for row in rows for own in row]
        found = self.tokenizer.batch_decode(windows, skip_special_tokens=True) if windows else []
        lines = iter([_first_line(text) for text in found])
        texts = [[next(lines) for _ in row] for row in rows]
        return [own[0] if len(own) == 1 else united_entities(own) for own in texts]

    def answer(self, text: str) -> str:
        """Read an answer: a label, the fallback or nothing; or the text itself.

        Capitals and punctuation do not count.
        """
        if not self.words:
            return text
        label = self._label(text)
        return (self.fallback or "") if label is None else label

    def can_read(self, text: str) -> bool:
        """Say whether an answer is one of the labels' words; a text of its own always is."""
        return not self.words or self._label(text) is not None

    def _label(self, text: str) -> str | None:
        """Find the label whose words were written."""
        written = answer_words(text, "")
        found = (own for own, word in self.words.items() if answer_words(word, "") == written)
        return next(found, None)


def _pieces(row: NDArray[np.float32]) -> list[list[int]]:
    """Give the pieces that were written for each window of an item."""
    ids = row[1:].astype(int)
    windows = np.split(ids, np.flatnonzero(ids == NEXT_WINDOW))
    return [own[(own != NO_PIECE) & (own != NEXT_WINDOW)].tolist() for own in windows]


def _first_line(text: str) -> str:
    """Give the first line of an answer, single spaces between its words."""
    return " ".join((text.strip().splitlines() or [""])[0].split())
