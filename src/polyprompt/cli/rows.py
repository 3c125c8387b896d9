"""Streams rows of CSV, TSV, JSON lines or plain lines through a classifier, in order."""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from polyprompt.errors import DataError, listing, nearest

if TYPE_CHECKING:
    from polyprompt.classifier import Classifier

FORMATS = ("csv", "tsv", "jsonl", "lines")
_ENDINGS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True)
class Rows:
    """An input that is read once.

    Attributes:
        kind: Its format.
        columns: Of a CSV or TSV file.
        text_column: Where the texts are.
        items: The rows, each with its text under ``text_column``.
        where: Its name, for messages.
    """

    kind: str
    columns: tuple[str, ...]
    text_column: str
    items: Iterator[dict[str, Any]]
    where: str


@contextmanager
def open_rows(file: str, kind: str, text_column: str) -> Iterator[Rows]:
    """Open a file or standard input and check what can be checked before reading on.

    Raises:
        DataError: There is no such file, format or column, or it is empty.
    """
    kind = kind or _ENDINGS.get(Path(file).suffix.lower(), "lines")
    if kind not in FORMATS:
        raise DataError(
            f"There is no format '{kind}'.{nearest(kind, FORMATS)} Use {listing(FORMATS)}."
        )
    if file == "-":
        yield _rows(sys.stdin, kind, text_column, "standard input")
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open(encoding="utf-8-sig", newline=""))
        except OSError as error:
            raise DataError(f"Cannot read {file}: {error.strerror}.") from error
        yield _rows(stream, kind, text_column, file)


def _rows(stream: TextIO, kind: str, text_column: str, where: str) -> Rows:
    """Begin to read a stream."""
    if kind == "lines":
        items = ({"text": line.rstrip("\r\n")} for line in stream)
        return Rows(kind, ("text",), "text", items, where)
    if kind == "jsonl":
        return Rows(kind, (), text_column, _json_rows(stream, text_column, where), where)
    reader = csv.DictReader(stream, delimiter="\t" if kind == "tsv" else ",", restkey="")
    columns = tuple(reader.fieldnames or ())
    if not columns:
        raise DataError(f"{where} is empty; expected a line of column names.")
    if text_column not in columns:
        raise DataError(
            f"{where} has no column '{text_column}'.{nearest(text_column, columns)} It has: "
            f"{listing(columns)}. Name it with --text-column."
        )
    return Rows(kind, columns, text_column, _table_rows(reader, where), where)


def _table_rows(reader: "csv.DictReader[str]", where: str) -> Iterator[dict[str, Any]]:
    """Read the rows of a table; one with too many or too few cells is an error."""
    for row in reader:
        if "" in row or None in row.values():
            raise DataError(
                f"{where}, line {reader.line_num}: the row does not have "
                f"{len(reader.fieldnames or ())} cells. A text with the separator in it needs "
                "quotation marks around it."
            )
        yield row


def _json_rows(stream: TextIO, text_column: str, where: str) -> Iterator[dict[str, Any]]:
    """Read the objects of JSON lines; empty lines are passed over."""
    for number, line in enumerate(stream, start=1):
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
        yield value


def write_rows(rows: Rows, classifier: "Classifier", stream: TextIO) -> None:
    """Answer row after row and write each with all it had.

    Raises:
        DataError: A text is empty; the rows before its block are written.
    """
    names = _new_columns(rows, classifier.labels)
    separator = "\t" if rows.kind == "tsv" else ","
    table = csv.writer(stream, delimiter=separator, lineterminator="\n")
    if rows.kind != "jsonl":
        table.writerow([*rows.columns, *names])
    kept: list[dict[str, Any]] = []

    def texts() -> Iterator[str]:
        for number, item in enumerate(rows.items, start=1):
            if not item[rows.text_column].strip():
                raise DataError(
                    f"{rows.where}, row {number}: the text is empty. Rows before it are written "
                    "in blocks; take it out and run again."
                )
            kept.append(item)
            yield item[rows.text_column]

    for probabilities in classifier.stream(texts()):
        item = kept.pop(0)
        label = classifier.labels[int(probabilities.argmax())]
        if rows.kind == "jsonl":
            stream.write(
                json.dumps(item | _answer(names, label, probabilities), ensure_ascii=False) + "\n"
            )
        else:
            cells = [item[column] for column in rows.columns]
            table.writerow([*cells, label, *(f"{p:.6f}" for p in probabilities)])
    stream.flush()


def _new_columns(rows: Rows, labels: tuple[str, ...]) -> list[str]:
    """Name the columns that are added; one that is taken gets a longer name."""
    names = ["prediction", *(f"probability:{label}" for label in labels)]
    return [f"polyprompt:{name}" if name in rows.columns else name for name in names]


def _answer(names: list[str], label: str, probabilities: Any) -> dict[str, Any]:
    """Compose what is added to a JSON object."""
    return {
        names[0]: label,
        **{n: round(float(p), 6) for n, p in zip(names[1:], probabilities, strict=True)},
    }
