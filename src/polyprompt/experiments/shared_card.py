"""Composes the model card of a run that is shared."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from polyprompt.analysis.summary import Summary
from polyprompt.capabilities import RunSettings
from polyprompt.cautions import contamination_notes
from polyprompt.errors import ConfigError
from polyprompt.exchange.hub import files_of
from polyprompt.exchange.peft import CONFIG as ADAPTER
from polyprompt.experiments.language_results import language_section
from polyprompt.experiments.reopen import settings_of
from polyprompt.experiments.results import LANGUAGE_KIND, gather
from polyprompt.experiments.sourced import LANGUAGE
from polyprompt.experiments.store import RunFolder
from polyprompt.languages.catalogue import catalogue
from polyprompt.report.model_card import Shared, model_card
from polyprompt.report.section import Section
from polyprompt.tables import write_text
from polyprompt.tasks.card import load_card

CARD = "README.md"
_ONE = (
    "It is one run of a study of {total}, the first by its name and not by its scores; another "
    "draw of examples or another seed gives other numbers."
)


def write_card(
    run: RunFolder, shared: RunFolder, repository: str, licence: str = "", of_study: int = 1
) -> str:
    """Write the model card of what is shared, beside it.

    Args:
        run: The run itself, with its answers.
        shared: As ``stage`` has written it.
        repository: ``owner/name``.
        licence: Of the parts, as the Hub abbreviates it; empty for none.
        of_study: Complete runs of the study that it was taken from.

    Returns:
        The card.
    """
    record, settings = shared.record(), settings_of(shared)
    summary, section = _results(run, shared)
    name = settings.backbone.name
    card = model_card(
        Shared(
            repository=repository,
            record=record,
            files=[*files_of(shared.path), CARD],
            summary=summary,
            section=section,
            licence=licence,
            base="" if name.startswith("pypi:") else name,
            data=_data_on_the_hub(settings_of(run)),
            adapter=(shared.path / ADAPTER).is_file(),
            languages=_languages(settings),
            origin=_ONE.format(total=of_study) if of_study > 1 else "",
        )
    )
    write_text(shared.path / CARD, card)
    return card


def _results(run: RunFolder, shared: RunFolder) -> tuple[Summary | None, Section | None]:
    """Sum a run's answers up; nothing where none were held out."""
    if run.record().get("kind") == LANGUAGE_KIND:
        return None, language_section([run])
    own = pl.col("baseline").is_null() & pl.col("label").is_not_null()
    if not run.predictions().filter(own).height:
        return None, None
    (found,) = gather([run])
    seen = contamination_notes(run.record()["backbone_notes"])  # stand on the card by themselves
    warnings = tuple(text for text in found.warnings if text not in seen)
    setting = replace(found, records=(shared.record(),), warnings=warnings)
    return setting.summary, _without_languages(setting.section(), setting.summary)


def _without_languages(section: Section, summary: Summary) -> Section:
    """Leave out what is said language by language, where nobody knows the language."""
    if any(row.code in catalogue() for row in summary.languages):
        return section
    return replace(
        section,
        headline=section.headline.replace(" over 1 language", ""),
        warnings=[text for text in section.warnings if " of a language " not in text],
        tables=[
            replace(table, title=table.title.replace(", mean over languages", ""))
            for table in section.tables[: 1 if summary.differences else 0]
        ],
        notes=[note for note in section.notes if not note.startswith("Above ")],
    )


def _languages(settings: RunSettings) -> bool:
    """Say whether texts are read with what belongs to their language."""
    each = any(LANGUAGE in (part.source or "") for part in settings.sourced.values())
    return each or bool(settings.instructions)


def _data_on_the_hub(settings: RunSettings) -> str:
    """Name a run's data set as the Hub does; empty where it comes from elsewhere."""
    try:
        hub = load_card(settings.task).hub
    except ConfigError:  # a fit has made it, or it has gone
        return ""
    return "" if hub is None or settings.data is not None or Path(hub.path).exists() else hub.path
