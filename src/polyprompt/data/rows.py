"""Turns the rows of a table into checked examples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import polars as pl

from polyprompt.errors import DataError, listing, nearest
from polyprompt.records import Example
from polyprompt.scoring.answers import entity_text
from polyprompt.scoring.entities import entities
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.card_parts import Columns

LANGUAGE = "polyprompt_language"


def check_columns(frame: pl.DataFrame, columns: Columns, where: str) -> None:
    """Refuse a table that lacks a column the card names.

    Raises:
        DataError: One is missing; names it.
    """
    needed = [
        *filter(None, [columns.label]),
        *columns.fields.values(),
        *columns.ids,
        *columns.choices,
    ]
    for name in needed:
        if name not in frame.columns:
            raise DataError(
                f"{where} has no column '{name}'.{nearest(name, frame.columns)} "
                f"It has: {listing(frame.columns)}"
            )


def rows_to_examples(frame: pl.DataFrame, card: TaskCard, where: str) -> tuple[Example, ...]:
    """Build examples from rows and check every label and text.

    Raises:
        DataError: An unknown label or an empty text; names the row.
    """
    named = card.columns.language
    column = named if named in frame.columns and named is not None else LANGUAGE
    build = _KINDS[card.form or card.kind]
    return tuple(
        build(row, card, row[column], f"{where}, row {row['polyprompt_row'] + 1}")
        for row in frame.iter_rows(named=True)
    )


def _classified(row: Mapping[str, Any], card: TaskCard, language: str, where: str) -> Example:
    """Check one row and make an example with one label of it."""
    fields = _fields(row, card, where)
    label = _label(row[card.columns.label], card, where)
    return Example(_identity(row, card), language, fields, label)


def _tagged(row: Mapping[str, Any], card: TaskCard, language: str, where: str) -> Example:
    """Check one row and make an example with tagged words of it."""
    ((name, column),) = card.columns.fields.items()
    words, tags = _listed(row[column]), _listed(row[card.columns.label])
    if len(words) != len(tags):
        raise DataError(f"{where}: {len(words)} words and {len(tags)} tags; expected as many.")
    kept = [tag not in card.columns.omit for tag in tags]
    words, tags = [*compress(words, kept)], [*compress(tags, kept)]
    if not any(word.strip() for word in words):
        raise DataError(f"{where}: there are no words.")
    label = " ".join(_label(tag, card, where) for tag in tags)
    text = " ".join(words)
    return Example(_identity(row, card), language, {name: text}, label, words=tuple(words))


def _chosen(row: Mapping[str, Any], card: TaskCard, language: str, where: str) -> Example:
    """Check one row and make an example with several answers of it."""
    found = [row[column] for column in card.columns.choices]
    if len(found) == 1 and isinstance(found[0], str):
        raise DataError(
            f"{where}: '{card.columns.choices[0]}' holds a text; expected a list of answers, or a "
            "column for each of them in columns.choices."
        )
    choices = _listed(found[0]) if len(found) == 1 else [str(text or "") for text in found]
    fields = _fields(row, card, where)
    label = _label(row[card.columns.label], card, where)
    empty = [number for number, text in enumerate(choices, start=1) if not text.strip()]
    if empty or not choices:
        raise DataError(f"{where}: answer {empty[0] if empty else 1} is empty.")
    if int(label) > len(choices):
        raise DataError(f"{where}: the right answer is {label}, and there are {len(choices)}.")
    return Example(_identity(row, card), language, fields, label, choices=tuple(choices))


def _entities(row: Mapping[str, Any], card: TaskCard, language: str, where: str) -> Example:
    """Check one row of tagged words and make an example whose entities are written."""
    tagged = _tagged(row, card, language, where)
    listed = entity_text(tagged.words, [*entities(tagged.tags)])
    return replace(tagged, label=listed, words=(), is_open=True)


def _answers(value: Any) -> list[Any]:
    """List the accepted answers of a cell; an empty text where none is published."""
    if value is None:
        return [""]
    if isinstance(value, Mapping):
        value = value.get("text", value)
    if isinstance(value, str) or not isinstance(value, Sequence | pl.Series):
        return [value]
    found = [one.get("text") if isinstance(one, Mapping) else one for one in value]
    return ["" if one is None else one for one in found]


def _begin(value: Any) -> int | None:
    """Say where the first accepted answer begins in its text, where a cell says so."""
    if isinstance(value, Mapping):
        found = value.get("answer_start")
    elif isinstance(value, Sequence | pl.Series) and len(value) and isinstance(value[0], Mapping):
        found = value[0].get("answer_start")
    else:
        return None
    if isinstance(found, Sequence | pl.Series):
        found = found[0] if len(found) else None
    is_place = type(found) is int and found >= 0
    return found if is_place else None


def _asked(row: Mapping[str, Any], card: TaskCard, language: str, where: str) -> Example:
    """Check one row and make an example whose answer is written.

    An empty list says that the text has no answer; an empty text or cell, that none is published.
    """
    texts = _answers(row[card.columns.label])
    if any(not isinstance(text, str) for text in texts):
        raise DataError(
            f"{where}: cannot read the answers in '{card.columns.label}'; expected them as SQuAD "
            "has them, {text: […], answer_start: […]}, a list of texts, or one text."
        )
    answers = dict.fromkeys(" ".join(text.split()) for text in texts)
    known = [answer for answer in answers if answer]
    label = "\n".join(known) if known or not answers else None  # empty texts: not published
    identity, fields = _identity(row, card), _fields(row, card, where)
    begin = _begin(row[card.columns.label])
    return Example(identity, language, fields, label, is_open=True, answer_start=begin)


_KINDS = {
    "classification": _classified,
    "tagging": _tagged,
    "choice": _chosen,
    "labels": _classified,
    "entities": _entities,
    "answers": _asked,
}
"""How rows are read: by the form of the answers where they are written, else by the kind."""


def _fields(row: Mapping[str, Any], card: TaskCard, where: str) -> dict[str, str]:
    """Read the texts of a row."""
    texts = {name: str(row[c] or "") for name, c in card.columns.fields.items()}
    for name, text in texts.items():
        if not text.strip():
            raise DataError(f"{where}: the text '{name}' is empty.")
    return texts


def _label(value: Any, card: TaskCard, where: str) -> str:
    """Read a label."""
    label = card.columns.values.get(str(value), str(value))
    if label not in card.labels:
        raise DataError(
            f"{where}: unknown label '{label}'."
            f"{nearest(label, card.labels)} The task's labels: {listing(card.labels)}"
        )
    return label


def _identity(row: Mapping[str, Any], card: TaskCard) -> str:
    """Name an item."""
    return "/".join(str(row[c]) for c in card.columns.ids) or str(row["polyprompt_row"] + 1)


def _listed(value: Any) -> list[str]:
    """Read a list of words; one that a text table holds has spaces between them."""
    if value is None or isinstance(value, str):
        return (value or "").split()
    found: Sequence[Any] = list(value)
    return [str("" if word is None else word) for word in found]
