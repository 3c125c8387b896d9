"""Answers rows block after block and writes each with all it had."""

import csv
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from polyprompt.cli.rows import Row, Rows
from polyprompt.errors import ConfigError, DataError

if TYPE_CHECKING:
    from polyprompt.predictor import Answer, Predictor

ROWS_PER_BLOCK = 256


def write_rows(rows: Rows, predictor: "Predictor", stream: TextIO) -> None:
    """Answer block after block and write each row with all it had.

    Raises:
        DataError: A row cannot be used; all rows before it are written.
    """
    writer = _json_writer if rows.kind == "jsonl" else _table_writer
    write = writer(rows, _names(predictor), stream)
    for block, fault in _blocks(_checked(rows, predictor)):
        languages = [row.language for row in block]
        found = predictor.answer([row.texts for row in block], languages)
        for row, one in zip(block, found, strict=True):
            write(row.value, _cells(one, predictor))
        stream.flush()
        if fault is not None:
            raise fault


def _names(predictor: "Predictor") -> list[str]:
    """Name what is added to a row."""
    if predictor.tags:
        return ["prediction", "probabilities"]
    if not predictor.writes:
        return ["prediction", *(f"probability:{label}" for label in predictor.labels)]
    return ["prediction", *(["written"] if predictor.labels else []), "log_probability"]


def _checked(rows: Rows, predictor: "Predictor") -> Iterator[Row]:
    """Give the rows.

    Raises:
        DataError: One cannot be answered; says which.
    """
    for number, row in enumerate(rows.items, start=1):
        fault = _fault(row, predictor)
        if fault:
            raise DataError(
                f"{rows.where}, row {number}: {fault} The {number - 1} rows before it are "
                "written. Take it out and run again."
            )
        yield row


def _blocks(rows: Iterator[Row]) -> Iterator[tuple[list[Row], DataError | None]]:
    """Give rows in blocks, with the last the error that stands behind it; an empty one at least."""
    block: list[Row] = []
    try:
        for row in rows:
            block.append(row)
            if len(block) == ROWS_PER_BLOCK:
                yield block, None
                block = []
    except DataError as error:
        yield block, error
        return
    yield block, None


def _fault(row: Row, predictor: "Predictor") -> str:
    """Say what is wrong with a row; nothing if it can be answered."""
    empty = [name for name, text in row.texts.items() if not text.strip()]
    if empty:
        named = "" if len(row.texts) == 1 else f" '{empty[0]}'"
        return f"the text{named} is empty."
    try:
        predictor.check_language(row.language)
    except ConfigError as error:
        return str(error)
    return ""


def _cells(one: "Answer", predictor: "Predictor") -> list[Any]:
    """Give what is added to a row."""
    if predictor.tags:
        return [one.prediction, " ".join(f"{own:.6f}" for own in one.probabilities)]
    if not predictor.writes:
        return [one.prediction, *one.probabilities]
    written = [one.written] if predictor.labels else []
    return [one.prediction, *written, one.mean_log]


def _table_writer(rows: Rows, names: Sequence[str], stream: TextIO) -> Any:
    """Write the head of a table; returns what writes a row."""
    if rows.kind == "tsv":
        table = csv.writer(
            stream, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None
        )
    else:
        table = csv.writer(stream, lineterminator="\n")
    table.writerow([*rows.columns, *(_free(name, rows.columns) for name in names)])

    def write(cells: list[str], answer: list[Any]) -> None:
        told = (f"{own:.6f}" if isinstance(own, float) else own for own in answer)
        table.writerow([*cells, *told])

    return write


def _json_writer(_rows: Rows, names: Sequence[str], stream: TextIO) -> Any:
    """Return what writes an object with the answer added."""

    def write(value: dict[str, Any], answer: list[Any]) -> None:
        told = [round(own, 6) if isinstance(own, float) else own for own in answer]
        added = {_free(name, value): a for name, a in zip(names, told, strict=True)}
        stream.write(json.dumps(value | added, ensure_ascii=False) + "\n")

    return write


def _free(name: str, taken: Any) -> str:
    """Give a name that the row does not have yet."""
    return f"polyprompt:{name}" if name in taken else name
