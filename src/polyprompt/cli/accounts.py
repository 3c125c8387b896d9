"""Commands that explain a study: analyse."""

from pathlib import Path
from typing import Annotated

import typer

StudyFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A study's folder, e.g. runs/demo.")
]
Corpus = Annotated[
    str, typer.Option("--corpus", help="Corpus whose sizes explain: bloom, xglm, xlmr, mt5.")
]
Predicted = Annotated[
    bool, typer.Option("--predicted", help="Distances over predicted features too.")
]


def analyse(
    study: StudyFolder,
    corpus: Corpus = "",
    predicted: Predicted = False,  # noqa: FBT002 (a flag of the command line)
    reference: Annotated[
        str, typer.Option("--reference", help="The setting that all others are compared with.")
    ] = "",
) -> None:
    """Explain a study: correlations with distance, slopes, gains, groups, scripts, lengths."""
    from polyprompt.cli.console import make_console, print_table
    from polyprompt.experiments.analyse import (
        account_of,
        read_groups,
        read_interactions,
        write_account,
    )
    from polyprompt.experiments.cohort import Request
    from polyprompt.experiments.recorded_account import recorded_tables
    from polyprompt.experiments.results import gather, ordered
    from polyprompt.experiments.store import complete_runs, study_settings, study_title

    console = make_console()
    config = study_settings(study)
    settings = ordered(study, gather(list(complete_runs(study))))
    request = Request(
        corpus=corpus or None,
        origin="predicted" if predicted else "attested",
        reference=reference or None,
        groups=read_groups(config),
        interactions=read_interactions(config),
    )
    tables, notes = account_of(settings, request)
    of_arrays, on_arrays = recorded_tables(settings, request.origin, request.reference)
    tables, notes = [*tables, *of_arrays], [*notes, *on_arrays]
    path = write_account(study, study_title(study), tables, notes)
    for table in tables:
        print_table(console, table)
    for note in notes:
        console.print(f"- {note}", style="dim", markup=False)
    console.print(f"Written: {path}", markup=False)


def compare(
    study: StudyFolder,
    table: Annotated[
        str, typer.Option("--with", help="The printed table, e.g. philippy2024.table4.")
    ],
    column: Annotated[
        str, typer.Option("--column", help="One of its columns, language by language.")
    ] = "",
) -> None:
    """Set a study's accuracies beside those that a paper prints."""
    from polyprompt.analysis.reference import columns
    from polyprompt.analysis.reference import compare as beside
    from polyprompt.cli.console import make_console, print_table
    from polyprompt.errors import ConfigError
    from polyprompt.experiments.results import gather, markdown_tables
    from polyprompt.experiments.store import complete_runs, study_title
    from polyprompt.report.reference_tables import comparison_table, side_by_side
    from polyprompt.tables import write_text

    printed = columns(table, column)
    found = []
    for setting in gather(list(complete_runs(study))):
        ours = {row.code: row.accuracy.mean for row in setting.summary.languages}
        chosen = [name for name in printed if set(ours).intersection(printed[name])]
        found += [beside(setting.title, ours, name, printed[name]) for name in chosen]
    if not found:
        raise ConfigError(f"{study} has no language of {table}. Run it in some of its languages.")
    tables = [comparison_table(found)]
    tables += [side_by_side(one, printed[one.column]) for one in found] if column else []
    path = study / f"beside_{table}.md"
    write_text(path, f"# {study_title(study)} beside {table}\n\n{markdown_tables(tables)}")
    console = make_console()
    for one in tables:
        print_table(console, one)
    console.print(f"Written: {path}", markup=False)


def recommend(
    studies: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Folders of studies, e.g. runs/e5_freezing."),
    ],
    corpus: Corpus = "",
) -> None:
    """Recommend a setting per target language, from dev splits of other families."""
    from polyprompt.cli.console import make_console, print_table
    from polyprompt.experiments.explaining import corpus_of
    from polyprompt.experiments.recommending import recommendation_tables, recommendations
    from polyprompt.experiments.results import gather, markdown_tables
    from polyprompt.experiments.store import complete_runs, study_title
    from polyprompt.tables import write_text

    runs = {run.name: run for study in studies for run in complete_runs(study)}
    settings = gather(list(runs.values()))
    found = recommendations(settings, corpus_of(settings, corpus or None))
    tables = recommendation_tables(found)
    path = studies[0] / "recommend.md"
    title = "; ".join(map(study_title, studies))
    write_text(path, f"# {title}: recommended\n\n{markdown_tables(tables)}")
    console = make_console()
    for table in tables:
        print_table(console, table)
    console.print(f"Written: {path}", markup=False)
