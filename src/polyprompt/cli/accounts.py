"""Commands that explain a study: analyse."""

from pathlib import Path
from typing import Annotated

import typer

StudyFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A study's folder, e.g. runs/demo.")
]
Predicted = Annotated[
    bool, typer.Option("--predicted", help="Distances over predicted features too.")
]


def analyse(
    study: StudyFolder,
    corpus: Annotated[
        str,
        typer.Option("--corpus", help="Corpus whose sizes explain: bloom, xglm, xlmr, mt5."),
    ] = "",
    predicted: Predicted = False,  # noqa: FBT002 (a flag of the command line)
    reference: Annotated[
        str, typer.Option("--reference", help="The setting that all others are compared with.")
    ] = "",
) -> None:
    """Explain a study: correlations with distance, slopes, gains, groups, scripts, lengths."""
    from polyprompt.cli.console import make_console, print_table
    from polyprompt.experiments.analyse import Request, account_of, read_groups, write_account
    from polyprompt.experiments.results import gather
    from polyprompt.experiments.store import complete_runs, study_settings, study_title

    console = make_console()
    config = study_settings(study)
    order = list(config.get("arms") or {})
    settings = gather(list(complete_runs(study)))
    settings.sort(key=lambda s: order.index(s.config["arm"]) if s.config.get("arm") in order else 0)
    request = Request(
        corpus=corpus or None,
        origin="predicted" if predicted else "attested",
        reference=reference or None,
        groups=read_groups(config),
    )
    tables, notes = account_of(settings, request)
    for table in tables:
        print_table(console, table)
    for note in notes:
        console.print(f"- {note}", style="dim", markup=False)
    path = write_account(study, study_title(study), tables, notes)
    console.print(f"Written: {path}", markup=False)
