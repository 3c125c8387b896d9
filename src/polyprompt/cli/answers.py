"""Answers rows block after block and writes each with all it had."""

import csv
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from polyprompt.cli.rows import Row, Rows
from polyprompt.errors import DataError

if TYPE_CHECKING:
    from polyprompt.predictor import Answer, Predictor

ROWS_PER_BLOCK = 256


def write_rows(
    rows: Rows, predictor: "Predictor", stream: TextIO
) -> tuple[int, BaseException | None]:
    """Answer block after block and write each row with all it had.

    Args:
        rows: To be read.
        predictor: Answers them.
        stream: To be written to.

    Returns:
        How many rows are written, and what ended it in front of the end: a row that cannot be used,
        or somebody who broke it off.
    """
    writer = _json_writer if rows.kind == "jsonl" else _table_writer
    write = writer(rows, _names(predictor), stream)
    done = 0
    for block, fault in _blocks(_checked(rows, predictor)):
        languages = [row.language for row in block]
        texts = [row.texts for row in block]
        try:
            found = predictor.answer(texts, languages, first=done + 1)
        except KeyboardInterrupt as error:
            return done, error
        for row, one in zip(block, found, strict=True):
            write(row.value, _cells(one, predictor))
        stream.flush()
        done += len(block)
        if fault is not None:
            return done, fault
    return done, None


def _names(predictor: "Predictor") -> list[str]:
    """Name what is added to a row."""
    if predictor.tags:
        return ["prediction", "probabilities"]
    if not predictor.writes:
        return ["prediction", *(f"probability:{label}" for label in predictor.labels)]
    written = ["written", "unread"] if predictor.labels else []
    return ["prediction", *written, "log_probability"]


def _checked(rows: Rows, predictor: "Predictor") -> Iterator[Row]:
    """Give the rows.

    Raises:
        DataError: One cannot be answered; says which.
    """
    for number, row in enumerate(rows.items, start=1):
        fault = predictor.fault(row.texts, row.language, rows.names)
        if fault:
            raise DataError(
                f"{rows.where}, row {number}: {fault} The {number - 1} rows before it are "
                "written. Take it out and run again."
            )
        yield row


def _blocks(rows: Iterator[Row]) -> Iterator[tuple[list[Row], BaseException | None]]:
    """Give rows in blocks, with the last what ended them before their end; one block at least."""
    block: list[Row] = []
    try:
        for row in rows:
            block.append(row)
            if len(block) == ROWS_PER_BLOCK:
                yield block, None
                block = []
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (raised again once rows are written)
        yield block, error
        return
    yield block, None


def _cells(one: "Answer", predictor: "Predictor") -> list[Any]:
    """Give what is added to a row."""
    if predictor.tags:
        return [one.prediction, " ".join(f"{own:.6f}" for own in one.probabilities)]
    if not predictor.writes:
        return [one.prediction, *one.probabilities]
    written = [one.written, one.unread] if predictor.labels else []
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
        table.writerow([*cells, *map(_told, answer)])

    return write


def _told(value: Any) -> Any:
    """Write a value for a table."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else value


def _json_writer(_rows: Rows, names: Sequence[str], stream: TextIO) -> Any:
    """Return what writes an object with the answer added."""

    def write(value: dict[str, Any], answer: list[Any]) -> None:
        told = [round(own, 6) if isinstance(own, float) else own for own in answer]
        added = {_free(name, value): a for name, a in zip(names, told, strict=True)}
        stream.write(json.dumps(value | added, ensure_ascii=False) + "\n")

    return write


def _free(name: str, taken: Any) -> str:
    """Give a name that the row does not have yet."""
    while name in taken:
        name = f"polyprompt:{name}"
    return name
