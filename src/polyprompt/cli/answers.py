"""Answers rows block after block and writes each with all it had."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from polyprompt.cli.rows import Row, Rows
from polyprompt.errors import DataError

if TYPE_CHECKING:
    from polyprompt.predictor import Answer, Predictor

ROWS_PER_BLOCK = 256


@dataclass(frozen=True)
class Asking:
    """How rows are answered.

    Attributes:
        predictor: Answers them.
        measured: What the run reached in each language, and on how many items; None where rows do
            not say their language.
        metric: What that is.
        threshold: Answers with a lower probability are withheld.
        skips: Whether rows that cannot be answered are left out; else the first of them ends it.
        tell: Is told of rows that are left out.
    """

    predictor: "Predictor"
    measured: Mapping[str, tuple[float, int]] | None = None
    metric: str = "accuracy"
    threshold: float = 0.0
    skips: bool = False
    tell: Callable[[str], None] = print


@dataclass
class Count:
    """What became of the rows so far.

    Attributes:
        written: Answered, or withheld.
        withheld: Of these, those without an answer.
        skipped: Left out.
    """

    written: int = 0
    withheld: int = 0
    skipped: int = 0


def write_rows(rows: Rows, asking: Asking, stream: TextIO) -> tuple[Count, BaseException | None]:
    """Answer block after block and write each row with all it had.

    Args:
        rows: To be read.
        asking: How they are answered.
        stream: To be written to.

    Returns:
        What became of them, and what ended it in front of the end: a row that cannot be used, or
        somebody who broke it off.
    """
    writer = _json_writer if rows.kind == "jsonl" else _table_writer
    write = writer(rows, _names(asking), stream)
    count = Count()
    for block, fault in _blocks(_checked(rows, asking, count)):
        languages = [row.language for row in block]
        texts = [row.texts for row in block]
        try:
            found = asking.predictor.answer(texts, languages, first=count.written + 1)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (raised again by the caller)
            return count, error
        for row, one in zip(block, found, strict=True):
            withheld = bool(one.probabilities) and max(one.probabilities) < asking.threshold
            count.withheld += withheld
            write(row.value, _cells(one, row, asking, withheld=withheld))
        stream.flush()
        count.written += len(block)
        if fault is not None:
            return count, fault
    return count, None


def _names(asking: Asking) -> list[str]:
    """Name what is added to a row."""
    measured = [f"measured:{asking.metric}", "measured:n"] if asking.measured is not None else []
    return [*_answer_names(asking.predictor), *measured]


def _answer_names(predictor: "Predictor") -> list[str]:
    """Name what an answer consists of."""
    if predictor.tags:
        return ["prediction", "probabilities"]
    if not predictor.writes:
        return ["prediction", *(f"probability:{label}" for label in predictor.labels)]
    written = ["written", "unread"] if predictor.labels else []
    return ["prediction", *written, "log_probability"]


def _checked(rows: Rows, asking: Asking, count: Count) -> Iterator[Row]:
    """Give the rows that can be answered.

    Raises:
        DataError: One cannot, and none is to be skipped; says which.
    """
    good = 0
    for row in rows.items:
        fault = row.fault or asking.predictor.fault(row.texts, row.language, rows.names)
        if not fault:
            good += 1
            yield row
        elif asking.skips:
            count.skipped += 1
            asking.tell(f"skipped: {rows.where}, {row.where}: {fault}")
        else:
            raise DataError(
                f"{rows.where}, {row.where}: {fault} The {good} rows before it are written. Mend "
                "it and run again, or leave such rows out with --bad-rows skip."
            )


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


def _cells(one: "Answer", row: Row, asking: Asking, *, withheld: bool) -> list[Any]:
    """Give what is added to a row; a measured value is missing where there is none."""
    cells = _answer_cells(one, asking.predictor, "" if withheld else one.prediction)
    if asking.measured is None:
        return cells
    return [*cells, *asking.measured.get(row.language, (None, None))]


def _answer_cells(one: "Answer", predictor: "Predictor", prediction: str) -> list[Any]:
    """Give what an answer consists of."""
    if predictor.tags:
        return [prediction, " ".join(f"{own:.6f}" for own in one.probabilities)]
    if not predictor.writes:
        return [prediction, *one.probabilities]
    written = [one.written, one.unread] if predictor.labels else []
    return [prediction, *written, one.mean_log]


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
    if value is None:
        return ""
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
