"""Commands that share runs on the Hub and take shared ones up: push, pull."""

from pathlib import Path
from typing import Annotated

import typer

Repository = Annotated[str, typer.Argument(metavar="REPO", help="owner/name on the Hub.")]


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run or a study.")],
    repository: Repository,
    licence: Annotated[
        str, typer.Option(help="Of the trained parts, as the Hub abbreviates it: cc-by-4.0.")
    ] = "",
    base: Annotated[
        str,
        typer.Option(
            help="How others load the backbone (pypi:NAME, or OWNER/NAME of the Hub), where the "
            "run took it from a folder; that it answers the same is checked."
        ),
    ] = "",
    peft: Annotated[  # noqa: FBT002 (a flag)
        bool, typer.Option("--peft", help="Put PEFT's adapter beside it.")
    ] = False,
    private: Annotated[  # noqa: FBT002 (a flag)
        bool, typer.Option("--private", help="Make a new repository a private one.")
    ] = False,
    dry_run: Annotated[  # noqa: FBT002 (a flag)
        bool, typer.Option("--dry-run", help="Upload nothing; show the files and the card.")
    ] = False,
) -> None:
    """Share a run on the Hub, with a model card made from its results."""
    from polyprompt.cli.console import make_console
    from polyprompt.sharing import push as pushed

    console = make_console()
    found = pushed(
        run, repository, licence=licence, base=base, peft=peft, private=private, upload=not dry_run
    )
    for name, size in found.files.items():
        console.print(f"{size / 1000:9,.1f} kB  {name}", markup=False, highlight=False)
    if found.of_study > 1:
        console.print(
            f"Run {found.run.name}, the first by its name of {found.of_study} complete runs. Name "
            "another run's folder to share that.",
            markup=False,
        )
    if dry_run:
        typer.echo(f"\n{found.card}")
        return
    console.print(f"Shared: {found.address}", markup=False)
    if not licence:
        console.print(
            "No licence is named, so others may not use it. Name one with --licence.", markup=False
        )


def pull(
    repository: Repository,
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the run.")],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; the newest if left out.")
    ] = None,
) -> None:
    """Take up a run that somebody has shared on the Hub."""
    from polyprompt.cautions import contamination_notes, marked
    from polyprompt.cli.console import make_console, program_name
    from polyprompt.languages.catalogue import catalogue
    from polyprompt.sharing import can_predict
    from polyprompt.sharing import pull as pulled

    run = pulled(repository, output, revision)
    record, console = run.record(), make_console()
    known = [code for code in record["source"] if code in catalogue()]
    source = f", learnt from {', '.join(known)}" if known else ""
    for line in (
        f"{record['task_title']}: {record['trained_parameters']:,} trained numbers on "
        f"{marked(record['backbone'])}{source}.",
        *contamination_notes(record["backbone_notes"]),
        f"Run folder: {run.path}",
        *([f"Next: {program_name()} predict {run.path} FILE"] if can_predict(record) else ()),
    ):
        console.print(line, markup=False)
