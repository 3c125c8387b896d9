"""The plain values that travel between the layers."""

from collections.abc import Mapping
from dataclasses import dataclass

READERS = ("text", "prompt", "answer")
"""What attends where attention is recorded: the example's fields, soft tokens, and the state the
head reads (the last token, or the mean over all)."""

KINDS = ("text", "prompt", "fixed")
"""What is attended to: the example's fields, soft tokens, and fixed words with special tokens."""


@dataclass(frozen=True)
class Example:
    """One item of a task in one language.

    Attributes:
        id: The item's name in its data set; parallel sets use one id in all languages.
        language: SIB-200 code, e.g. ``swh_Latn``; empty where the data does not say.
        fields: The texts a layout can name; words that are tagged are joined by spaces.
        label: One of the task's labels; the words' tags joined by spaces; the number of the right
            one of ``choices``, from 1; or None for data without answers.
        words: The words that are tagged one by one; empty for other tasks.
        choices: Texts one of which is the answer; empty for other tasks.
        is_open: Whether its answer is a text of its own: ``label`` has the accepted ones, one a
            line, or the entities of a sentence.
        answer_start: How many letters of its text stand in front of the first accepted answer;
            None where the data does not say.
    """

    id: str
    language: str
    fields: Mapping[str, str]
    label: str | None = None
    words: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    is_open: bool = False
    answer_start: int | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        """The words' tags; empty for data without answers."""
        return tuple((self.label or "").split()) if self.words else ()

    @property
    def answers(self) -> int:
        """How many answers it has: one per word that is tagged, or one."""
        return len(self.words) or 1


@dataclass(frozen=True)
class Draw:
    """What a run learns from.

    Attributes:
        train: Examples the prompt is trained on.
        dev: Examples that choose the checkpoint; may be empty.
        note: How they were drawn, in words, for the report.
    """

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    note: str = ""


@dataclass(frozen=True)
class Writing:
    """How answers are written.

    Attributes:
        most: Pieces of an answer at the most.
        ends: Ids that end an answer; they are not part of it.
        beams: 1 writes greedily.
        length_penalty: Power of the length that a beam's log-probability is divided by.
    """

    most: int
    ends: tuple[int, ...]
    beams: int = 1
    length_penalty: float = 1.0


@dataclass(frozen=True)
class StepRecord:
    """One line of ``steps.jsonl``.

    Attributes:
        run: Index of the run in its group.
        step: Optimiser steps taken, from 1; 0 for the state before training.
        epoch: Epochs completed, a fraction within an epoch.
        loss: Mean training loss of the step (nats); None at step 0.
        learning_rate: Rate of this step.
        gradient_norm: Before clipping.
        dev_loss: Mean dev loss (nats), at the end of an epoch only.
        dev_accuracy: 0–1, at the end of an epoch only.
    """

    run: int
    step: int
    epoch: float
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    dev_loss: float | None = None
    dev_accuracy: float | None = None
