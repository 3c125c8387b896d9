"""Streams rows of CSV, TSV, JSON lines or plain lines through a classifier, in order."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from polyprompt.errors import DataError, listing, nearest

if TYPE_CHECKING:
    from polyprompt.classifier import Classifier

FORMATS = ("csv", "tsv", "jsonl", "lines")
ROWS_PER_BLOCK = 256
_ENDINGS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_BINARY = {".parquet", ".xlsx", ".xls", ".gz", ".zip"}
_LONGEST_CELL = 2**31 - 1


@dataclass(frozen=True)
class Row:
    """One row as it was read.

    Attributes:
        text: What is to be labelled.
        value: The cells of a table, or the object of a JSON line.
    """

    text: str
    value: Any


@dataclass(frozen=True)
class Rows:
    """An input that is read once.

    Attributes:
        kind: Its format.
        columns: Of a CSV or TSV file, or the one of plain lines.
        items: The rows.
        where: Its name, for messages.
    """

    kind: str
    columns: tuple[str, ...]
    items: Iterator[Row]
    where: str


@contextmanager
def open_rows(file: str, kind: str, text_column: str) -> Iterator[Rows]:
    """Open a file or standard input and check what can be checked before reading on.

    Raises:
        DataError: There is no such file, format or column, or it is empty or no UTF-8 text.
    """
    ending = Path(file).suffix.lower()
    if not kind and ending in _BINARY:
        raise DataError(f"Cannot read {file}: export it as CSV, TSV or JSON lines first.")
    kind = kind or _ENDINGS.get(ending, "lines")
    if kind not in FORMATS:
        raise DataError(
            f"There is no format '{kind}'.{nearest(kind, FORMATS)} Use {listing(FORMATS)}."
        )
    with ExitStack() as stack:
        if file == "-":
            stream, where = sys.stdin, "standard input"
        else:
            try:
                stream = stack.enter_context(Path(file).open(encoding="utf-8-sig", newline=""))
            except OSError as error:
                raise DataError(f"Cannot read {file}: {error.strerror}.") from error
            where = file
        yield _rows(stream, kind, text_column, where)


def _rows(stream: TextIO, kind: str, text_column: str, where: str) -> Rows:
    """Begin to read a stream."""
    if kind == "lines":
        lines = (line.rstrip("\r\n") for line in _decoded(stream, where))
        return Rows(kind, ("text",), (Row(line, [line]) for line in lines), where)
    if kind == "jsonl":
        return Rows(kind, (), _json_rows(stream, text_column, where), where)
    csv.field_size_limit(_LONGEST_CELL)
    lines = _decoded(stream, where)
    if kind == "tsv":
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines)
    columns = tuple(next(reader, ()))
    if not columns:
        raise DataError(f"{where} is empty; expected a line of column names.")
    if text_column not in columns:
        raise DataError(
            f"{where} has no column '{text_column}'.{nearest(text_column, columns)} It has: "
            f"{listing(columns)}. Name it with --text-column."
        )
    place = columns.index(text_column)
    return Rows(kind, columns, _table_rows(reader, len(columns), place, where), where)


def _decoded(stream: TextIO, where: str) -> Iterator[str]:
    """Read lines, and explain a file that is no UTF-8 text."""
    try:
        yield from stream
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not UTF-8 text (byte {error.object[error.start]:#x}). Save it as UTF-8."
        ) from error


def _table_rows(reader: Any, width: int, place: int, where: str) -> Iterator[Row]:
    """Read the rows of a table; one with too many or too few cells is an error."""
    for cells in reader:
        if not cells:
            continue
        if len(cells) != width:
            raise DataError(
                f"{where}, line {reader.line_num}: the row does not have {width} cells but "
                f"{len(cells)}. A text with the separator in it needs quotation marks around it."
            )
        yield Row(cells[place], cells)


def _json_rows(stream: TextIO, text_column: str, where: str) -> Iterator[Row]:
    """Read the objects of JSON lines; empty lines are passed over."""
    for number, line in enumerate(_decoded(stream, where), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}, line {number}: not JSON ({error}).") from error
        if not isinstance(value, dict) or not isinstance(value.get(text_column), str):
            raise DataError(
                f"{where}, line {number}: expected an object with a text '{text_column}'."
            )
        yield Row(value[text_column], value)


def write_rows(rows: Rows, classifier: "Classifier", stream: TextIO) -> None:
    """Answer block after block and write each row with all it had.

    Raises:
        DataError: A row cannot be used; all rows before it are written.
    """
    names = ["prediction", *(f"probability:{label}" for label in classifier.labels)]
    writer = _json_writer if rows.kind == "jsonl" else _table_writer
    write = writer(rows, names, stream)
    block: list[Row] = []

    def answer() -> None:
        if block:
            probabilities = classifier.predict_proba([row.text for row in block])
            for row, values in zip(block, probabilities, strict=True):
                write(row.value, classifier.labels[int(values.argmax())], values.tolist())
            block.clear()
        stream.flush()

    try:
        for number, row in enumerate(rows.items, start=1):
            if not row.text.strip():
                raise DataError(
                    f"{rows.where}, row {number}: the text is empty. The {number - 1} rows before "
                    "it are written. Take it out and run again."
                )
            block.append(row)
            if len(block) == ROWS_PER_BLOCK:
                answer()
    finally:
        answer()


def _table_writer(rows: Rows, names: Sequence[str], stream: TextIO) -> Any:
    """Write the head of a table; returns what writes a row."""
    if rows.kind == "tsv":
        table = csv.writer(
            stream, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None
        )
    else:
        table = csv.writer(stream, lineterminator="\n")
    table.writerow([*rows.columns, *(_free(name, rows.columns) for name in names)])

    def write(cells: list[str], label: str, probabilities: list[float]) -> None:
        table.writerow([*cells, label, *(f"{p:.6f}" for p in probabilities)])

    return write


def _json_writer(_rows: Rows, names: Sequence[str], stream: TextIO) -> Any:
    """Return what writes an object with the answer added."""

    def write(value: dict[str, Any], label: str, probabilities: list[float]) -> None:
        answers = [label, *(round(p, 6) for p in probabilities)]
        added = {_free(name, value): a for name, a in zip(names, answers, strict=True)}
        stream.write(json.dumps(value | added, ensure_ascii=False) + "\n")

    return write


def _free(name: str, taken: Any) -> str:
    """Give a name that the row does not have yet."""
    return f"polyprompt:{name}" if name in taken else name
