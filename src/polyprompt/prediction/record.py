"""The table of predictions: one row per test item, for the run and for each of its baselines."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from polyprompt.data.encoding import Encoded
from polyprompt.records import Example


def prediction_table(
    run: str,
    task: str,
    labels: Sequence[str],
    examples: Sequence[Example],
    encoded: Sequence[Encoded],
    answers: Mapping[str | None, NDArray[np.float32]],
) -> pl.DataFrame:
    """Build the table.

    Args:
        run: The run's name.
        task: The task's name.
        labels: In the order of the scores.
        examples: The test items.
        encoded: The same items as the backbone read them.
        answers: Scores per item and label, N × C, by baseline; None is the run itself.

    Returns:
        Columns run, baseline, task, language, id, label, prediction, scores (list, in the order of
        the labels), tokens, words, characters, truncated (pieces of text cut off).
    """
    names = np.array(labels)
    items = _item_columns(examples, encoded)
    frames = []
    for baseline, scores in answers.items():
        frames.append(
            pl.DataFrame(
                {
                    "run": [run] * len(examples),
                    "baseline": pl.Series([baseline] * len(examples), dtype=pl.String),
                    "task": [task] * len(examples),
                    "prediction": names[scores.argmax(1)].tolist(),
                    "scores": pl.Series(
                        scores.astype(np.float32).tolist(), dtype=pl.List(pl.Float32)
                    ),
                    **items,
                },
                schema_overrides={"label": pl.String},
            )
        )
    columns = ["run", "baseline", "task", "language", "id", "label", "prediction", "scores"]
    return pl.concat(frames).select(*columns, "tokens", "words", "characters", "truncated")


def _item_columns(
    examples: Sequence[Example], encoded: Sequence[Encoded]
) -> dict[str, list[str] | list[str | None] | list[int]]:
    """Give the columns that say which items these are and how long."""
    return {
        "language": [e.language for e in examples],
        "id": [e.id for e in examples],
        "label": [e.label for e in examples],
        "tokens": [e.tokens for e in encoded],
        "words": [e.words for e in encoded],
        "characters": [e.characters for e in encoded],
        "truncated": [e.dropped for e in encoded],
    }
