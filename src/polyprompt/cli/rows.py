"""Reads rows of CSV, TSV, JSON lines or plain lines, one after the other."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from polyprompt.errors import DataError, listing, nearest

FORMATS = ("csv", "tsv", "jsonl", "lines")
_ENDINGS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_BINARY = {".parquet", ".xlsx", ".xls", ".gz", ".zip"}
_LONGEST_CELL = 2**31 - 1


@dataclass(frozen=True)
class Row:
    """One row as it was read.

    Attributes:
        texts: What is to be answered, by the names of the task's fields.
        language: SIB-200 code; empty where it is not known.
        value: The cells of a table, or the object of a JSON line.
        where: Its place in the input, for messages.
        fault: Why it could not be read; empty where it could.
    """

    texts: Mapping[str, str]
    language: str
    value: Any
    where: str
    fault: str = ""


@dataclass(frozen=True)
class Wanted:
    """What is read of a row.

    Attributes:
        fields: Columns or keys of the task's texts, by the fields' names.
        language: Column or key of a row's language; empty where all rows have the same.
        default: The language of rows that say none; empty where it is not known.
    """

    fields: Mapping[str, str]
    language: str = ""
    default: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that there have to be."""
        return tuple(filter(None, [*self.fields.values(), self.language]))


@dataclass(frozen=True)
class Rows:
    """An input that is read once.

    Attributes:
        kind: Its format.
        columns: Of a CSV or TSV file, or the one of plain lines.
        items: The rows.
        where: Its name, for messages.
        names: Of the columns or keys of the texts, by the fields' names.
    """

    kind: str
    columns: tuple[str, ...]
    items: Iterator[Row]
    where: str
    names: Mapping[str, str]


@contextmanager
def open_rows(file: str, kind: str, wanted: Wanted) -> Iterator[Rows]:
    """Open a file or standard input and check what can be checked before reading on.

    Args:
        file: ``-`` is standard input.
        kind: One of ``FORMATS``; by the file's ending if empty.
        wanted: What is read of a row.

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
        yield _rows(stream, kind, wanted, where)


def _rows(stream: TextIO, kind: str, wanted: Wanted, where: str) -> Rows:
    """Begin to read a stream."""
    if kind == "lines":
        if len(wanted.columns) > 1:
            raise DataError(
                f"{where}: a plain line is one text, and a row has {listing(wanted.columns)} here. "
                "Give CSV, TSV or JSON lines (--format)."
            )
        return Rows(kind, ("text",), _line_rows(stream, wanted, where), where, wanted.fields)
    if kind == "jsonl":
        return Rows(kind, (), _json_rows(stream, wanted, where), where, wanted.fields)
    csv.field_size_limit(_LONGEST_CELL)
    lines = _decoded(stream, where)
    if kind == "tsv":
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines)
    columns = tuple(next(reader, ()))
    if not columns:
        raise DataError(f"{where} is empty; expected a line of column names.")
    _check_columns(columns, wanted, where)
    items = _table_rows(reader, columns, wanted)
    return Rows(kind, columns, items, where, wanted.fields)


def _check_columns(columns: Sequence[str], wanted: Wanted, where: str) -> None:
    """Find out whether a table has all columns that there have to be.

    Raises:
        DataError: It has not.
    """
    missing = next((column for column in wanted.columns if column not in columns), None)
    if missing is None:
        return
    option = "--text-column" if len(wanted.fields) == 1 else "--column FIELD=COLUMN"
    option = "--language-column" if missing == wanted.language else option
    raise DataError(
        f"{where} has no column '{missing}'.{nearest(missing, columns)} It has: "
        f"{listing(columns)}. Name it with {option}."
    )


def _line_rows(stream: TextIO, wanted: Wanted, where: str) -> Iterator[Row]:
    """Read plain lines, each a text."""
    (field,) = wanted.fields
    for number, line in enumerate(_decoded(stream, where), start=1):
        text = line.rstrip("\r\n")
        yield Row({field: text}, wanted.default, [text], f"row {number}")


def _decoded(stream: TextIO, where: str) -> Iterator[str]:
    """Read lines, and explain a file that is no UTF-8 text."""
    try:
        yield from stream
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not UTF-8 text (byte {error.object[error.start]:#x}). Save it as UTF-8."
        ) from error


def _table_rows(reader: Any, columns: Sequence[str], wanted: Wanted) -> Iterator[Row]:
    """Read the rows of a table; one with too many or too few cells has a fault."""
    places = {field: columns.index(column) for field, column in wanted.fields.items()}
    spoken = columns.index(wanted.language) if wanted.language else None
    for number, cells in enumerate(filter(None, reader), start=1):
        if len(cells) != len(columns):
            fault = (
                f"the row does not have {len(columns)} cells but {len(cells)}. A text with the "
                "separator in it needs quotation marks around it."
            )
            yield Row({}, "", cells, f"line {reader.line_num}", fault)
            continue
        texts = {field: cells[place] for field, place in places.items()}
        own = "" if spoken is None else cells[spoken].strip()
        yield Row(texts, own or wanted.default, cells, f"row {number}")


def _json_rows(stream: TextIO, wanted: Wanted, where: str) -> Iterator[Row]:
    """Read the objects of JSON lines; empty lines are passed over."""
    for number, line in enumerate(_decoded(stream, where), start=1):
        if line.strip():
            yield _json_row(line, wanted, f"line {number}")


def _json_row(line: str, wanted: Wanted, where: str) -> Row:
    """Read one object; a line that is none, or lacks a text, has a fault."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row({}, "", {}, where, f"not JSON ({error}).")
    own = value if isinstance(value, dict) else {}
    for column in wanted.fields.values():
        if not isinstance(own.get(column), str):
            return Row({}, "", own, where, f"expected an object with a text '{column}'.")
    spoken = own.get(wanted.language) if wanted.language else None
    if not isinstance(spoken, str | None):
        return Row({}, "", own, where, f"the language '{wanted.language}' is no text.")
    texts = {field: own[column] for field, column in wanted.fields.items()}
    return Row(texts, (spoken or "").strip() or wanted.default, own, where)
