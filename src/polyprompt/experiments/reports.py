"""Writes what people read of a study's complete runs: the page, tables, figures, joined scores."""

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from polyprompt.experiments.pages import chapters_of
from polyprompt.experiments.results import Setting, markdown_report
from polyprompt.report.chapters import Chapter, lightened, named_figures, named_tables
from polyprompt.report.latex import latex_rows
from polyprompt.report.page import page
from polyprompt.report.score_tables import Table, markdown
from polyprompt.tables import replacing, write_parquet, write_text

OPTIONAL_CHARACTERS = 5_000_000
"""Of the figures of single settings on a page; settings beyond show tables alone."""


def write_reports(
    folder: Path, title: str, settings: Sequence[Setting], formats: Sequence[str] = ()
) -> dict[str, Path]:
    """Write a study's HTML report, Markdown table and joined scores into its folder.

    Args:
        folder: Of the study.
        title: Of the report.
        settings: Of its complete runs.
        formats: Of figures that are written as files, too, and all tables with them.
    """
    paths = {
        "report": folder / "report.html",
        "table": folder / "table.md",
        "scores": folder / "scores.parquet",
    }
    sections = [setting.section() for setting in settings]
    write_text(paths["table"], markdown_report(title, sections))
    scores = [run.scores() for setting in settings for run in setting.runs]
    write_parquet(paths["scores"], pl.concat(scores))
    chapters = chapters_of(folder, settings)
    write_text(paths["report"], page(title, lightened(chapters, OPTIONAL_CHARACTERS)))
    if formats:
        paths["figures"] = _write_figures(folder / "figures", chapters, formats)
        paths["tables"] = _write_tables(folder / "tables", chapters)
    return paths


def _write_figures(folder: Path, chapters: Sequence[Chapter], formats: Sequence[str]) -> Path:
    """Write every figure of a report as files."""
    lines = ["file\tpart\tfigure"]
    for part, figure in named_figures(chapters):
        lines.append(f"{figure.name}\t{part}\t{figure.title}")
        for form in formats:
            with replacing(folder / f"{figure.name}.{form}") as temporary:
                temporary.write_bytes(figure.encoded(form))
    write_text(folder / "index.tsv", "\n".join(lines) + "\n")
    return folder


def _write_tables(folder: Path, chapters: Sequence[Chapter]) -> Path:
    """Write every table of a report as CSV, Markdown and LaTeX."""
    lines = []
    for number, (part, table) in enumerate(named_tables(chapters), start=1):
        name = re.sub(r"[^a-z0-9]+", "_", table.title.lower()).strip("_")[:60]
        path = folder / f"{number:03}_{name}"
        lines.append(f"{path.name}\t{part}\t{table.title}")
        write_text(path.with_suffix(".csv"), _csv(table))
        write_text(path.with_suffix(".md"), f"{markdown(table)}\n")
        write_text(path.with_suffix(".tex"), latex_rows(table.columns, table.rows, table.alignment))
    write_text(folder / "index.tsv", "\n".join(["file\tpart\ttable", *lines]) + "\n")
    return folder


def _csv(table: Table) -> str:
    """Write a table as CSV."""
    rows = [dict(enumerate(row)) for row in table.rows]
    schema = {str(i): pl.String for i in range(len(table.columns))}
    frame = pl.DataFrame([tuple(row.values()) for row in rows], schema=schema, orient="row")
    head = pl.DataFrame([table.columns], schema=schema, orient="row")
    return pl.concat([head, frame]).write_csv(include_header=False)
