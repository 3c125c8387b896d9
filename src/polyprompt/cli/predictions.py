"""Answers somebody's own rows with a run: predict, calibrate."""

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from polyprompt.cli.answers import Asking, Count
    from polyprompt.cli.rows import Rows
    from polyprompt.experiments.store import RunFolder
    from polyprompt.predictor import Predictor
    from polyprompt.report.score_tables import Table
    from polyprompt.scoring.calibration import Calibration


class BadRows(StrEnum):
    """What becomes of rows that cannot be answered."""

    STOP = "stop"
    SKIP = "skip"


RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, a fit or a study.")]


def predict(
    run: RunPath,
    file: Annotated[
        str, typer.Argument(help="CSV, TSV, JSON lines or plain lines; - is standard input.")
    ],
    text_column: Annotated[
        str | None, typer.Option(help="Column or key of the texts; text if left out.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="FIELD=COLUMN: of a task with several texts a row, where a column is named "
            "otherwise than the field; repeatable."
        ),
    ] = None,
    file_format: Annotated[
        str,
        typer.Option(
            "--format", help="csv, tsv, jsonl or lines; by the file's ending if left out."
        ),
    ] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where to write; standard output if left out.")
    ] = "-",
    language: Annotated[
        str,
        typer.Option(
            help="Of the texts, e.g. swh_Latn: adds what the run reached there, and chooses the "
            "parts of a run that has some per language."
        ),
    ] = "",
    language_column: Annotated[
        str,
        typer.Option(help="Column or key of each row's language; --language is for rows of none."),
    ] = "",
    bad_rows: Annotated[
        BadRows,
        typer.Option(help="Rows that cannot be answered end it, or are reported and left out."),
    ] = BadRows.STOP,
    abstain_below: Annotated[
        float, typer.Option(min=0, max=1, help="Give no label with a lower probability than this.")
    ] = 0.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say no counts.")] = False,  # noqa: FBT002 (a flag of the command line)
) -> None:
    """Answer rows, in order: a label with probabilities, or what the model writes."""
    from polyprompt.cli.answers import Asking
    from polyprompt.cli.rows import Wanted, open_rows
    from polyprompt.experiments.store import find_run
    from polyprompt.predictor import Predictor

    fields = _columns_of(run, text_column, column or [])
    with open_rows(file, file_format, Wanted(fields, language_column, language)) as rows:
        predictor = Predictor.load(run)
        _check_threshold(predictor, abstain_below)
        if language or not language_column:
            predictor.check_language(language)
        measured, metric = measured_by_language(find_run(run))
        asking = Asking(
            predictor,
            measured if language or language_column else None,
            metric,
            abstain_below,
            bad_rows is BadRows.SKIP,
            _say,
        )
        started = time.perf_counter()
        count = _answered(rows, asking, output)
        if not quiet:
            _say(_told(count, time.perf_counter() - started))


def _answered(rows: "Rows", asking: "Asking", output: str) -> "Count":
    """Write answers to a file that is whole or as it was, or to standard output."""
    from polyprompt.cli.answers import write_rows
    from polyprompt.tables import replacing

    if output == "-":
        count, fault = write_rows(rows, asking, sys.stdout)
    else:
        with (
            replacing(Path(output)) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as stream,
        ):
            count, fault = write_rows(rows, asking, stream)
            if fault is not None and not count.written:
                raise fault  # the file stays as it was
    if fault is not None:
        raise fault
    return count


def _told(count: "Count", seconds: float) -> str:
    """Say what became of the rows."""
    parts = [f"{count.written} rows answered in {seconds:.1f} s"]
    if seconds > 0 and count.written:
        parts[0] += f" ({count.written / seconds:.0f} a second)"
    parts += [f"{count.withheld} of them without a label (--abstain-below)"] * bool(count.withheld)
    parts += [f"{count.skipped} skipped"] * bool(count.skipped)
    return ", ".join(parts) + "."


def _say(text: str) -> None:
    """Write to standard error."""
    sys.stderr.write(text + "\n")


def _check_threshold(predictor: "Predictor", threshold: float) -> None:
    """Refuse a threshold where answers have no probability of their own.

    Raises:
        ConfigError: Words are tagged, or answers written.
    """
    from polyprompt.errors import ConfigError

    if threshold and (predictor.tags or predictor.writes):
        what = "tags words" if predictor.tags else "writes its answers"
        raise ConfigError(
            f"--abstain-below needs one probability a row, and {predictor.folder} {what}. Leave "
            "it out, and choose by the probabilities that are written."
        )


def measured_by_language(run: "RunFolder") -> tuple[dict[str, tuple[float, int]], str]:
    """Look up what a run reached in each language that it was tested in.

    Returns:
        Value and number of items by SIB-200 code, and the metric.
    """
    metric = run.record().get("metric", "accuracy")
    scores = run.scores()
    own = [row for row in scores.iter_rows(named=True) if row["baseline"] is None]
    found = {r["language"]: (r["value"], r["n"]) for r in own if r["metric"] == metric}
    return found, metric


def calibrate(
    run: RunPath,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,  # noqa: FBT002 (a flag of the command line)
) -> None:
    """Fit the temperature of a run's probabilities; predict uses it from then on."""
    from polyprompt.cli.console import ProgressView, make_console, print_table
    from polyprompt.experiments.calibrating import calibrate as calibrated
    from polyprompt.experiments.store import find_run

    console, folder = make_console(), find_run(run)
    with ProgressView(console, quiet=quiet).open() as view:
        events = calibrated(folder)
        try:
            while True:
                view.show(next(events))
        except StopIteration as ended:
            found: Calibration = ended.value
    for line in calibration_lines(found):
        console.print(line, markup=False)
    print_table(console, confidence_table(folder, found.temperature))
    console.print(f"Written: {folder.path}", markup=False)


def calibration_lines(found: "Calibration") -> list[str]:
    """Say which temperature was found, and what it does to the items it was fitted on."""
    from polyprompt.scoring.calibration import LEAST

    if found.fitted is None:
        return [
            f"Probabilities stay as they are: {found.n} examples could be held out, and under "
            f"{LEAST} a temperature would follow a handful of mistakes."
        ]
    numbers = (found.loss_before, found.loss_after, found.error_before, found.error_after)
    before, after, off_before, off_after = (value or 0.0 for value in numbers)
    return [
        f"Temperature {found.temperature:.3f}, from {found.fitted:.3f} shrunk towards 1, on "
        f"{found.n} held-out train and dev examples: loss {before:.3f} -> "
        f"{after:.3f} nats, expected calibration error {100 * off_before:.1f} -> "
        f"{100 * off_after:.1f} points (on the same examples)."
    ]


def confidence_table(run: "RunFolder", temperature: float) -> "Table":
    """Tabulate how far a run's probabilities are off in each language it was tested in."""
    from polyprompt.analysis.confidence import confidence_by_language
    from polyprompt.languages.catalogue import language_name
    from polyprompt.report.confidence_tables import confidence_rows

    labels = run.record()["labels"]
    found = confidence_by_language(run.predictions(), labels, temperature)
    return confidence_rows({language_name(one.language): one for one in found})


def _columns_of(run: Path, text_column: str | None, given: list[str]) -> dict[str, str]:
    """Say which column has each of the texts of a run's task.

    Raises:
        ConfigError: A column is given for no field, or one for all of several.
    """
    from polyprompt.errors import ConfigError, listing, nearest
    from polyprompt.experiments.store import find_run

    fields = find_run(run).record()["fields"]
    if len(fields) > 1 and text_column is not None:
        raise ConfigError(
            f"--text-column {text_column}: a row of this task has {listing(fields)}. Name their "
            "columns with --column FIELD=COLUMN."
        )
    columns = {field: field if len(fields) > 1 else text_column or "text" for field in fields}
    for pair in given:
        field, equals, name = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"Cannot read --column '{pair}': expected FIELD=COLUMN.")
        if field not in columns:
            raise ConfigError(
                f"--column {pair}: the task has no field '{field}'.{nearest(field, fields)} It "
                f"has: {listing(fields)}."
            )
        columns[field] = name
    return columns
