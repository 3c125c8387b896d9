"""Streams rows of CSV, TSV, JSON lines or plain lines through a finished run, in order."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from polyprompt.errors import ConfigError, DataError, listing, nearest

if TYPE_CHECKING:
    from polyprompt.predictor import Answer, Predictor

FORMATS = ("csv", "tsv", "jsonl", "lines")
ROWS_PER_BLOCK = 256
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
    """

    texts: Mapping[str, str]
    language: str
    value: Any


@dataclass(frozen=True)
class Wanted:
    """What is read of a row.

    Attributes:
        fields: Columns or keys of the task's texts, by the fields' names.
        language: Column or key of a row's language; empty where all rows have the same.
        default: The language of all rows; empty where it is not known.
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
    """

    kind: str
    columns: tuple[str, ...]
    items: Iterator[Row]
    where: str


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
        return Rows(kind, ("text",), _line_rows(stream, wanted, where), where)
    if kind == "jsonl":
        return Rows(kind, (), _json_rows(stream, wanted, where), where)
    csv.field_size_limit(_LONGEST_CELL)
    lines = _decoded(stream, where)
    if kind == "tsv":
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines)
    columns = tuple(next(reader, ()))
    if not columns:
        raise DataError(f"{where} is empty; expected a line of column names.")
    for column in wanted.columns:
        if column not in columns:
            option = "--text-column" if len(wanted.fields) == 1 else "--column FIELD=COLUMN"
            option = "--language-column" if column == wanted.language else option
            raise DataError(
                f"{where} has no column '{column}'.{nearest(column, columns)} It has: "
                f"{listing(columns)}. Name it with {option}."
            )
    return Rows(kind, columns, _table_rows(reader, columns, wanted, where), where)


def _line_rows(stream: TextIO, wanted: Wanted, where: str) -> Iterator[Row]:
    """Read plain lines, each a text.

    Raises:
        DataError: A row has several texts, or a language.
    """
    if len(wanted.columns) > 1:
        raise DataError(
            f"{where}: a plain line is one text, and a row has {listing(wanted.columns)} here. "
            "Give CSV, TSV or JSON lines (--format)."
        )
    (field,) = wanted.fields
    for line in _decoded(stream, where):
        text = line.rstrip("\r\n")
        yield Row({field: text}, wanted.default, [text])


def _decoded(stream: TextIO, where: str) -> Iterator[str]:
    """Read lines, and explain a file that is no UTF-8 text."""
    try:
        yield from stream
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not UTF-8 text (byte {error.object[error.start]:#x}). Save it as UTF-8."
        ) from error


def _table_rows(reader: Any, columns: Sequence[str], wanted: Wanted, where: str) -> Iterator[Row]:
    """Read the rows of a table; one with too many or too few cells is an error."""
    places = {field: columns.index(column) for field, column in wanted.fields.items()}
    spoken = columns.index(wanted.language) if wanted.language else None
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(columns):
            raise DataError(
                f"{where}, line {reader.line_num}: the row does not have {len(columns)} cells but "
                f"{len(cells)}. A text with the separator in it needs quotation marks around it."
            )
        texts = {field: cells[place] for field, place in places.items()}
        yield Row(texts, wanted.default if spoken is None else cells[spoken].strip(), cells)


def _json_rows(stream: TextIO, wanted: Wanted, where: str) -> Iterator[Row]:
    """Read the objects of JSON lines; empty lines are passed over."""
    for number, line in enumerate(_decoded(stream, where), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}, line {number}: not JSON ({error}).") from error
        own = value if isinstance(value, dict) else {}
        for column in wanted.columns:
            if not isinstance(own.get(column), str):
                raise DataError(
                    f"{where}, line {number}: expected an object with a text '{column}'."
                )
        texts = {field: own[column] for field, column in wanted.fields.items()}
        spoken = own[wanted.language].strip() if wanted.language else wanted.default
        yield Row(texts, spoken, own)


def write_rows(rows: Rows, predictor: "Predictor", stream: TextIO) -> None:
    """Answer block after block and write each row with all it had.

    Raises:
        DataError: A row cannot be used; all rows before it are written.
    """
    names = ["prediction", *(f"probability:{label}" for label in predictor.labels)]
    if predictor.writes:
        names = ["prediction", *(["written"] if predictor.labels else []), "log_probability"]
    writer = _json_writer if rows.kind == "jsonl" else _table_writer
    write = writer(rows, names, stream)
    block: list[Row] = []

    def answer() -> None:
        if block:
            languages = [row.language for row in block]
            found = predictor.answer([row.texts for row in block], languages)
            for row, one in zip(block, found, strict=True):
                write(row.value, _cells(one, predictor))
            block.clear()
        stream.flush()

    try:
        for number, row in enumerate(rows.items, start=1):
            fault = _fault(row, predictor)
            if fault:
                raise DataError(
                    f"{rows.where}, row {number}: {fault} The {number - 1} rows before it are "
                    "written. Take it out and run again."
                )
            block.append(row)
            if len(block) == ROWS_PER_BLOCK:
                answer()
    finally:
        answer()


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
