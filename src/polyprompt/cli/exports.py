"""Commands that take a run elsewhere: export."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ExportFormat(StrEnum):
    """Forms of a run for other programs."""

    PEFT = "peft"
    TOKENS = "tokens"
    EMBEDS = "embeds"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run or a study.")],
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder, for the files.")],
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="peft: an adapter; tokens: the model with the prompt as new words; embeds: the "
            "rows of --rows as embeddings.",
        ),
    ] = ExportFormat.PEFT,
    base: Annotated[
        str, typer.Option(help="How others load the model; the run's name for it if left out.")
    ] = "",
    rows: Annotated[
        Path | None, typer.Option(help="JSON lines with the fields of the task, for embeds.")
    ] = None,
) -> None:
    """Write a run for other programs: PEFT, any program that loads the model, a server."""
    from polyprompt.cli.console import make_console
    from polyprompt.experiments.export_tokens import to_tokens
    from polyprompt.experiments.exporting import to_peft
    from polyprompt.experiments.store import find_run
    from polyprompt.tables import check_new

    folder = find_run(run)
    check_new(output)
    if base and form is not ExportFormat.PEFT:
        raise typer.BadParameter(f"--base is for peft; {form} names the model it was made from")
    console = make_console()
    if form is ExportFormat.EMBEDS:
        count = _embeds(folder.path, output, rows)
        console.print(f"{count} tensors in {output / 'prompt_embeds.safetensors'}", markup=False)
        return
    found = (
        to_peft(folder, output, base) if form is ExportFormat.PEFT else to_tokens(folder, output)
    )
    console.print(f"Written: {output}", markup=False)
    console.print(f"Input: {found['text']!r}", markup=False)
    console.print(
        f"The tokenizer's own beginning tokens: {'yes' if found['add_special_tokens'] else 'no'}. "
        f"Answer: {found['answer']}.",
        markup=False,
    )


def _embeds(run: Path, output: Path, rows: Path | None) -> int:
    """Write rows as embeddings; returns how many."""
    from safetensors.torch import save_file

    from polyprompt.experiments.export_tokens import prompt_embeds
    from polyprompt.experiments.store import RunFolder
    from polyprompt.tables import replacing

    if rows is None:
        raise typer.BadParameter("--format embeds needs --rows FILE, JSON lines with the fields")
    folder = RunFolder(run)
    tensors = prompt_embeds(folder, _rows(rows, folder.record()["fields"]))
    with replacing(output / "prompt_embeds.safetensors") as temporary:
        save_file({f"{i:06}": own.contiguous() for i, own in enumerate(tensors)}, temporary)
    return len(tensors)


def _rows(path: Path, fields: list[str]) -> list[dict[str, str]]:
    """Read JSON lines, each with a text for every field.

    Raises:
        DataError: There are none, or one is something else.
    """
    import json

    from polyprompt.errors import DataError

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {path}: {error}. Expected JSON lines.") from error
    if not found:
        raise DataError(f"{path} has no rows.")
    for number, row in enumerate(found, start=1):
        own = row if isinstance(row, dict) else {}
        wrong = next((name for name in fields if not _is_text(own.get(name))), None)
        if wrong is not None:
            raise DataError(f"{path}, row {number}: expected an object with a text '{wrong}'.")
    return found


def _is_text(value: object) -> bool:
    """Say whether a value is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())
