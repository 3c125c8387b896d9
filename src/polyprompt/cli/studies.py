"""Commands on studies: run, check, report."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyprompt.errors import PolypromptError, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from polyprompt.experiments.config import Study
    from polyprompt.experiments.results import Setting
    from polyprompt.experiments.store import RunFolder

StudyPath = Annotated[str, typer.Argument(metavar="STUDY", help="A study's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, e.g. shots=4."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]

Profile = Annotated[
    bool, typer.Option("--profile", help="Print what each stage cost, and how near the limit.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Probe and print what would be computed; compute nothing else."),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try runs again that failed in an earlier call.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print progress and results as lines of JSON.")
]


def run(
    study: StudyPath,
    overrides: Overrides = None,
    quiet: Quiet = False,  # noqa: FBT002 (a flag of the command line)
    as_json: AsJson = False,  # noqa: FBT002 (a flag of the command line)
    retry_failed: RetryFailed = False,  # noqa: FBT002 (a flag of the command line)
    profile: Profile = False,  # noqa: FBT002 (a flag of the command line)
    dry_run: DryRun = False,  # noqa: FBT002 (a flag of the command line)
) -> None:
    """Run a study and print its table; what is already complete is not run again."""
    if dry_run and as_json:
        raise typer.BadParameter("--dry-run prints a table: leave --json out")
    if dry_run:
        show_estimate(study, overrides or [], quiet=quiet)
        return
    from polyprompt.cli.console import ProgressView, make_console
    from polyprompt.experiments.config import load_study
    from polyprompt.experiments.failures import FailedRunsError
    from polyprompt.experiments.launch.together import follow, follows
    from polyprompt.experiments.study import run_study

    console = make_console()
    checked = load_study(study, overrides or [])
    if follows(checked.settings.launch):
        follow(checked.settings.launch)
        return
    failed: FailedRunsError | None = None
    with ProgressView(console, quiet=quiet, as_json=as_json).open() as view:
        try:
            for event in run_study(checked, retry_failed=retry_failed):
                view.show(event)
        except FailedRunsError as error:
            failed = error  # what did not fail is shown first
    try:
        show_results(console, checked, failed, as_json=as_json)
    except PolypromptError as error:
        if failed is None:
            raise
        console.print(f"no tables: {error}", markup=False)
    if profile and not as_json:
        from polyprompt.experiments.store import complete_runs

        show_profile(console, list(complete_runs(checked.folder)))
    if failed is not None:
        raise failed


def show_results(
    console: "Console", study: "Study", failed: Exception | None, *, as_json: bool
) -> None:
    """Print a study's tables and write its reports, of what is complete if runs have failed."""
    from polyprompt.cli.console import print_table
    from polyprompt.experiments.language_results import learns_languages
    from polyprompt.experiments.remote import Store, is_url
    from polyprompt.experiments.reports import write_reports
    from polyprompt.experiments.results import gather, ordered
    from polyprompt.experiments.search import choices, search_table
    from polyprompt.experiments.study import study_folders

    folders: list[RunFolder] = []
    with suppress(*[StoreError] if failed else []):  # its search has failed
        folders = [folder for folder in study_folders(study) if folder.is_complete()]
    if not folders and failed is not None:
        return
    if learns_languages(folders):
        show_languages(console, study, folders, as_json=as_json)
        return
    settings = ordered(study.folder, gather(folders))
    if not as_json:
        show_settings(console, settings)  # before figures are drawn
        if study.settings.search is not None:
            print_table(console, search_table(choices(study)))
    paths = write_reports(study.folder, study.settings.title or study.settings.name, settings)
    if is_url(study.settings.output):
        Store(study.settings.output).put(study.folder)
    if as_json:
        headlines = {setting.title: setting.section().headline for setting in settings}
        files = {name: str(path) for name, path in paths.items()}
        console.file.write(json.dumps({"results": headlines, "files": files}) + "\n")
        return
    show_next(console, settings, study.folder, paths)


def show_languages(
    console: "Console", study: "Study", folders: "list[RunFolder]", *, as_json: bool
) -> None:
    """Write the reports of runs that learnt languages and print their table."""
    from polyprompt.cli.console import print_table
    from polyprompt.experiments.language_results import write_language_reports
    from polyprompt.experiments.remote import Store, is_url

    title = study.settings.title or study.settings.name
    section, paths = write_language_reports(study.folder, title, folders)
    if is_url(study.settings.output):
        Store(study.settings.output).put(study.folder)
    if as_json:
        files = {name: str(path) for name, path in paths.items()}
        done = {"results": {section.title: section.headline}, "files": files}
        console.file.write(json.dumps(done) + "\n")
        return
    for table in section.tables:
        print_table(console, table)
    console.print(section.headline, style="bold", markup=False)
    for warning in section.warnings:
        console.print(f"! {warning}", markup=False)
    for note in section.notes:
        console.print(f"- {note}", style="dim", markup=False)
    console.print(f"Files: {study.folder}", markup=False)
    for name, path in paths.items():
        console.print(f"  {name:<8} {path}", markup=False)
    console.print("A task takes these parts with", markup=False)
    source = f"{study.folder}/{{language}}"
    for name, part in study.settings.parts.items():
        taken = f"  parts: {{{name}: {{kind: {part.kind}, source: '{source}'}}}}"
        console.print(taken, markup=False, soft_wrap=True)


def show_next(
    console: "Console", settings: "list[Setting]", folder: Path, paths: dict[str, Path]
) -> None:
    """Print which files were written, and commands that one may go on with."""
    from polyprompt.cli.console import program_name

    console.print(f"Files: {folder}", markup=False)
    for name, path in paths.items():
        console.print(f"  {name:<8} {path}", markup=False)
    console.print("Next:")
    name = program_name()
    record = settings[0].records[0]
    answers_texts = record.get("kind", "classification") == "classification"
    if answers_texts and len(record["fields"]) == 1:
        first = settings[0].runs[0].path
        known = sorted({code for own in record.get("sourced_parts", {}).values() for code in own})
        own = "deu_Latn" if "deu_Latn" in known else next(iter(known), "")
        language = f" --language {own}" if own else ""
        console.print(
            f"  echo 'Der Fluss fließt ins Meer.' | {name} predict {first} -{language}",
            markup=False,
        )
    console.print(f"  {name} fit YOUR.csv --text-column text --label-column label", markup=False)


def show_estimate(study: str, overrides: list[str], *, quiet: bool) -> None:
    """Print what a study would compute, and about how long that takes here."""
    from polyprompt.cli.console import ProgressView, make_console, print_table
    from polyprompt.experiments.config import load_study
    from polyprompt.experiments.estimate import Estimate, estimate_study, estimate_table

    console, found = make_console(), []
    with ProgressView(console, quiet=quiet).open() as view:
        for event in estimate_study(load_study(study, overrides)):
            if isinstance(event, Estimate):
                found.append(event)
            else:
                view.show(event)
    print_table(console, estimate_table(found))
    console.print("Loading, writing and other work of this machine come on top.", markup=False)


def check(study: StudyPath, overrides: Overrides = None) -> None:
    """Check all that can be known of a study before a model is loaded."""
    from polyprompt.cautions import marked
    from polyprompt.cli.console import make_console
    from polyprompt.experiments.config import load_study
    from polyprompt.experiments.plan import plan_study
    from polyprompt.experiments.readiness import backbone_note
    from polyprompt.experiments.store import RunFolder
    from polyprompt.tables import check_writable

    console = make_console()
    checked = load_study(study, overrides or [])
    groups = plan_study(checked)
    check_writable(checked.folder)
    for group in groups:
        test = group.data.splits["test"]
        first = group.runs[0]
        complete = sum(RunFolder(checked.folder / r.name).is_complete() for r in group.runs)
        lines = (
            f"{len(group.runs)} runs together ({complete} complete); {group.choice.reason}",
            f"  task {group.card.name}: {len(first.draw.train)} train, {len(first.draw.dev)} dev, "
            f"{len(test)} test items in {len(group.data.languages('test'))} languages "
            f"({group.data.origin})",
            f"  backbone {marked(first.settings.backbone.name)}: "
            f"{backbone_note(first.settings.backbone)}",
        )
        for line in lines:
            console.print(line, markup=False)
    console.print(f"{checked.settings.name}: no fault found.", markup=False)


def report(
    study: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A study's folder, e.g. runs/demo.")
    ],
    figures: Annotated[
        list[str] | None,
        typer.Option("--figures", help="Write figures as svg, png or pdf, too, and all tables."),
    ] = None,
    reference: Annotated[
        str, typer.Option("--reference", help="The setting that others are compared with.")
    ] = "",
) -> None:
    """Write a study's results as one HTML page and Markdown, from the runs on disk."""
    from polyprompt.cli.console import make_console
    from polyprompt.experiments.language_results import learns_languages, write_language_reports
    from polyprompt.experiments.reports import write_reports
    from polyprompt.experiments.results import gather, ordered
    from polyprompt.experiments.store import complete_runs, study_title
    from polyprompt.report.figure import FORMATS

    console = make_console()
    formats = list(dict.fromkeys(figures or []))
    if unknown := [name for name in formats if name not in FORMATS]:
        raise typer.BadParameter(f"no figures as {unknown[0]}; there are: {', '.join(FORMATS)}")
    folders = list(complete_runs(study))
    if learns_languages(folders):
        if formats or reference:
            what = "--figures" if formats else "--reference"
            raise typer.BadParameter(
                f"{what} is for studies of a task; runs that learnt languages have one table"
            )
        section, paths = write_language_reports(study, study_title(study), folders)
        console.print(section.headline, markup=False)
        for name, path in paths.items():
            console.print(f"  {name:<8} {path}", markup=False)
        return
    settings = ordered(study, gather(folders), reference)
    paths = write_reports(study, study_title(study), settings, formats)
    for setting in settings:
        console.print(setting.section().headline, markup=False)
    for name, path in paths.items():
        console.print(f"  {name:<8} {path}", markup=False)


def show_settings(console: "Console", settings: "list[Setting]") -> None:
    """Print every setting's tables, headline, warnings and notes."""
    from polyprompt.cli.console import print_table
    from polyprompt.report.score_tables import difference_table, language_table, script_table

    for setting in settings:
        section = setting.section()
        if len(settings) > 1:
            console.rule(setting.title)
        print_table(console, language_table(setting.summary))
        print_table(console, script_table(setting.summary))
        if setting.summary.differences:
            print_table(console, difference_table(setting.summary))
        console.print(section.headline, style="bold", markup=False)
        for warning in section.warnings:
            console.print(f"! {warning}", markup=False)
        for note in section.notes:
            console.print(f"- {note}", style="dim", markup=False)


def show_profile(console: "Console", folders: "list[RunFolder]") -> None:
    """Print what the stages of a study's groups cost."""
    from polyprompt.cli.console import print_table
    from polyprompt.experiments.profile import profile_table

    print_table(console, profile_table(folders))
