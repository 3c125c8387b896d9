"""The table of predictions: one row per test item, for the run and for each of its baselines."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import log_softmax

from polyprompt.data.encoded import Encoded, words_of
from polyprompt.prediction.predict import answer_starts
from polyprompt.prediction.written import AnswerReader
from polyprompt.records import Example
from polyprompt.tasks.card import TaskCard

_COLUMNS = ("run", "baseline", "task", "language", "id", "label", "prediction", "scores")
_SIZES = ("tokens", "words", "characters", "truncated", "pieces", "singles")


def prediction_table(
    run: str,
    card: TaskCard,
    examples: Sequence[Example],
    encoded: Sequence[Encoded],
    answers: Mapping[str | None, NDArray[np.float32]],
    reader: AnswerReader | None = None,
) -> pl.DataFrame:
    """Build the table.

    Args:
        run: The run's name.
        card: The task.
        examples: The test items.
        encoded: The same items as the backbone read them.
        answers: Scores per answer and label, U × C, by baseline; None is the run itself.
        reader: Reads answers that are written.

    Returns:
        Columns run, baseline, task, language, id, label, prediction, scores (list, in the order of
        the labels), tokens, words, characters, truncated (pieces of text cut off), pieces (of the
        text), singles (those that hold one character or none), metric (absent for accuracy). Where
        words are tagged, labels and predictions are tags joined by spaces, scores the probability
        of every word's own, and loss the mean of their true tags' (nats). Of texts whose own words
        are guessed, loss is the mean over those that are, and guessed their number. Where answers
        are written, answer is what was written, unread whether it is none of the labels' words, and
        scores has its mean log-probability alone.
    """
    items = _item_columns(examples, encoded)
    if card.measured_by != "accuracy":
        items["metric"] = [card.measured_by] * len(examples)
    frames = []
    for baseline, scores in answers.items():
        if reader is not None:
            own = _written(reader, scores)
        else:
            own = _answers(card, examples, encoded, scores)
        columns = {
            "run": [run] * len(examples),
            "baseline": pl.Series([baseline] * len(examples), dtype=pl.String),
            "task": [card.name] * len(examples),
        }
        frames.append(
            pl.DataFrame({**columns, **own, **items}, schema_overrides={"label": pl.String})
        )
    extra = [
        name
        for name in ("metric", "loss", "guessed", "answer", "unread")
        if name in frames[0].columns
    ]
    return pl.concat(frames).select(*_COLUMNS, *_SIZES, *extra)


def _answers(
    card: TaskCard,
    examples: Sequence[Example],
    encoded: Sequence[Encoded],
    scores: NDArray[np.float32],
) -> dict[str, Any]:
    """Give the columns of the answers, by the kind of task."""
    if card.kind == "language":
        return _guessed(encoded, scores)
    return _tagged(card, examples, encoded, scores) if card.tags_words else _whole(card, scores)


def _guessed(encoded: Sequence[Encoded], scores: NDArray[np.float32]) -> dict[str, Any]:
    """Give the columns of texts whose own words are guessed."""
    guessed = [len(words_of(one)) for one in encoded]
    sums = -scores[:, 0].astype(np.float64)
    return {
        "prediction": pl.Series([None] * len(encoded), dtype=pl.String),
        "scores": pl.Series([[]] * len(encoded), dtype=pl.List(pl.Float32)),
        "loss": (sums / np.maximum(guessed, 1)).tolist(),
        "guessed": guessed,
    }


def _written(reader: AnswerReader, scores: NDArray[np.float32]) -> dict[str, Any]:
    """Give the columns of answers that are written."""
    texts = reader.texts(scores)
    return {
        "prediction": [reader.answer(text) for text in texts],
        "unread": [not reader.can_read(text) for text in texts],
        "scores": pl.Series(scores[:, :1].tolist(), dtype=pl.List(pl.Float32)),
        "answer": texts,
    }


def _whole(card: TaskCard, scores: NDArray[np.float32]) -> dict[str, Any]:
    """Give the columns of items with one answer each."""
    names = np.array(card.labels)
    listed = scores.astype(np.float32).tolist()
    return {
        "prediction": names[scores.argmax(1)].tolist(),
        "scores": pl.Series(listed, dtype=pl.List(pl.Float32)),
    }


def _tagged(
    card: TaskCard,
    examples: Sequence[Example],
    encoded: Sequence[Encoded],
    scores: NDArray[np.float32],
) -> dict[str, Any]:
    """Give the columns of items with one answer per word."""
    names, starts = np.array(card.labels), answer_starts(encoded)
    logs = log_softmax(scores.astype(np.float64), axis=1)
    best = scores.argmax(1)
    tags, sure = names[best], np.exp(logs[np.arange(len(best)), best]).astype(np.float32)
    slices = [slice(*pair) for pair in pairwise(starts)]
    found: dict[str, Any] = {
        "prediction": [" ".join(tags[one]) for one in slices],
        "scores": pl.Series([sure[one].tolist() for one in slices], dtype=pl.List(pl.Float32)),
    }
    if all(example.tags for example in examples):
        index = {name: i for i, name in enumerate(card.labels)}
        truth = np.array([index[tag] for example in examples for tag in example.tags], dtype=int)
        losses = -logs[np.arange(len(truth)), truth]
        found["loss"] = [float(losses[one].mean()) for one in slices]
    return found


def _item_columns(examples: Sequence[Example], encoded: Sequence[Encoded]) -> dict[str, Any]:
    """Give the columns that say which items these are and how long."""
    return {
        "language": [e.language for e in examples],
        "id": [e.id for e in examples],
        "label": [e.label for e in examples],
        "tokens": [e.tokens for e in encoded],
        "words": [e.words for e in encoded],
        "characters": [e.characters for e in encoded],
        "truncated": [e.dropped for e in encoded],
        "pieces": [e.pieces for e in encoded],
        "singles": [e.singles for e in encoded],
    }
