"""Commands on what studies have left on disk: status, scores, query."""

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl

    from polyprompt.experiments.overview import RunState

StudyFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A study's folder, e.g. runs/demo.")
]


class Format(StrEnum):
    """How a table is written."""

    CSV = "csv"
    PARQUET = "parquet"
    MARKDOWN = "markdown"
    LATEX = "latex"
    JSON = "json"


As = Annotated[Format, typer.Option("--format", help="How the table is written.")]
Every = Annotated[bool, typer.Option("--all", help="List runs that are done or missing, too.")]
To = Annotated[
    Path | None, typer.Option("--output", "-o", help="A file; standard output if left out.")
]


def status(
    study: StudyFolder,
    every: Every = False,  # noqa: FBT002 (a flag of the command line)
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 (a flag of the command line)
) -> None:
    """Say how far a study has come: runs done, running, failed and missing."""
    from polyprompt.experiments.overview import PLAN, State, read_plan, run_states, strangers

    planned = [folder for folder in (study / "search", study) if (folder / PLAN).is_file()]
    # while its search goes on, what a study itself consists of is not known
    parts = [(f, run_states(f, read_plan(f))) for f in planned or [study]]
    if as_json:
        sys.stdout.write(
            json.dumps([_as_plain(*part) for part in parts], ensure_ascii=False) + "\n"
        )
        return
    for folder, states in parts:
        _tell(folder, states, every=every)
    unplanned = strangers(study, read_plan(study).runs) if (study / PLAN).is_file() else []
    if unplanned:
        typer.echo(f"{len(unplanned)} complete runs there are not of the study as it is now")
    if any(one.state is State.FAILED for _, states in parts for one in states):
        typer.echo("'polyprompt run … --retry-failed' tries failed runs again")


def _as_plain(folder: Path, states: "Sequence[RunState]") -> dict[str, object]:
    """Put a study's states into plain values."""
    runs = [
        {"run": o.name, "state": str(o.state), "note": o.note, "settings": o.settings}
        for o in states
    ]
    return {"folder": str(folder), "counts": _counts(states), "runs": runs}


def _counts(states: "Sequence[RunState]") -> dict[str, int]:
    """Count runs by state."""
    from polyprompt.experiments.overview import State

    return {str(state): sum(one.state is state for one in states) for state in State}


def _tell(folder: Path, states: "Sequence[RunState]", *, every: bool) -> None:
    """Print how many runs are in which state, and what there is to say of single ones."""
    from polyprompt.experiments.overview import State

    told = ", ".join(f"{count} {state}" for state, count in _counts(states).items() if count)
    typer.echo(f"{folder}: {told} of {len(states)} runs" if told else f"{folder}: no runs")
    for one in states:
        if every or one.state in {State.RUNNING, State.FAILED}:
            typer.echo(f"  {one.state:<8}{one.name}  {_described(one)}".rstrip())


def _described(one: "RunState") -> str:
    """Write what sets a run apart, and its note."""
    settings = ", ".join(
        f"{key}={value}" for key, value in one.settings.items() if value is not None and value != ""
    )
    return f"{settings}: {one.note}" if one.note and settings else settings or one.note


def scores(
    study: StudyFolder,
    where: Annotated[
        str, typer.Option("--where", help="SQL, e.g. \"language = 'swh_Latn'\".")
    ] = "",
    written: As = Format.CSV,
    output: To = None,
) -> None:
    """Print the scores of all complete runs as one table."""
    from polyprompt.experiments.stored import filtered, score_table

    table = score_table(study)
    _write(filtered(table, where) if where else table, written, output)


def query(
    study: StudyFolder,
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="Over the tables scores, runs and predictions.")
    ],
    written: As = Format.CSV,
    output: To = None,
) -> None:
    """Answer an SQL query over a study's scores, runs and predictions."""
    from polyprompt.experiments import stored

    _write(stored.query(study, sql), written, output)


def _write(table: "pl.DataFrame", written: Format, output: Path | None) -> None:
    """Write a table to a file or to standard output."""
    from polyprompt.report.latex import latex_table, markdown_frame
    from polyprompt.tables import parquet_bytes, replacing

    if written is Format.PARQUET:
        data = parquet_bytes(table)
    elif written is Format.CSV:
        data = _without_lists(table).write_csv().encode()
    elif written is Format.JSON:
        data = table.write_ndjson().encode()
    else:
        write = latex_table if written is Format.LATEX else markdown_frame
        data = write(table).encode()
    if output is None:
        if written is Format.PARQUET and sys.stdout.isatty():
            raise typer.BadParameter("parquet is no text: name a file with --output FILE")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if output.is_dir():
        raise typer.BadParameter(f"{output} is a folder: name a file with --output FILE")
    with replacing(output) as temporary:
        temporary.write_bytes(data)


def _without_lists(table: "pl.DataFrame") -> "pl.DataFrame":
    """Write lists and structures as JSON, which CSV needs."""
    import polars as pl

    nested = [name for name, kind in table.schema.items() if kind.is_nested()]
    texts = [
        pl.Series(name, [json.dumps(value, default=str) for value in table[name].to_list()])
        for name in nested
    ]
    return table.with_columns(texts) if texts else table
