"""Gathers a study's complete runs by setting, for tables and reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from polyprompt.analysis.account import Arm
from polyprompt.analysis.diagnosis import diagnose
from polyprompt.analysis.summary import Summary, summarise
from polyprompt.capabilities import RunSettings
from polyprompt.cautions import contamination_notes, marked
from polyprompt.errors import ConfigError, StoreError, nearest
from polyprompt.experiments.nested import flatten, varying
from polyprompt.experiments.store import RunFolder, study_settings
from polyprompt.fingerprint import fingerprint
from polyprompt.report.score_tables import (
    Table,
    difference_table,
    footnotes,
    headline,
    language_table,
    markdown,
    script_table,
)
from polyprompt.report.section import Section

LANGUAGE_KIND = "language"
"""Kind of the tasks in which texts' own words are guessed."""
_NOT_A_SETTING = {"seed", "draw_seed", "train_seed", "data", "record", "record_items"}


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seeds only.

    Attributes:
        title: What sets it apart from the study's other settings.
        config: Of its runs, seeds and places left out; nested settings have dotted names.
        runs: Their folders.
        records: Their ``run.json``.
        summary: Of their predictions.
        warnings: What looks wrong, in words.
    """

    title: str
    config: dict[str, Any]
    runs: tuple[RunFolder, ...]
    records: tuple[dict[str, Any], ...]
    summary: Summary
    warnings: tuple[str, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The languages of its training examples."""
        return tuple(self.config["source"])

    def predictions(self) -> pl.DataFrame:
        """Read the predictions of all its runs and of their baselines."""
        return pl.concat([run.predictions() for run in self.runs])

    def arm(self) -> Arm:
        """Give its answers and seeds."""
        pairs = {
            run.name: (record["draw_seed"], record["train_seed"])
            for run, record in zip(self.runs, self.records, strict=True)
        }
        return Arm(self.title, self.predictions().filter(pl.col("baseline").is_null()), pairs)

    def section(self) -> Section:
        """Compose the setting's part of a report."""
        return Section(
            self.title,
            headline(self.summary),
            self.warnings,
            (
                *([difference_table(self.summary)] if self.summary.differences else ()),
                script_table(self.summary),
                language_table(self.summary),
            ),
            footnotes(self.summary, self.records),
        )


def gather(folders: Sequence[RunFolder]) -> list[Setting]:
    """Sum complete runs up, setting by setting.

    Raises:
        StoreError: None of them is complete.
    """
    complete = [folder for folder in folders if folder.is_complete()]
    if not complete:
        raise StoreError("No run of this study is complete yet. Run it first.")
    if any(folder.record().get("kind") == LANGUAGE_KIND for folder in complete):
        raise StoreError(
            f"The runs in {complete[0].path.parent} have learnt languages, and answer nothing. "
            "'polyprompt report' shows what came of them; a task takes their parts with source."
        )
    groups: dict[str, list[tuple[RunFolder, dict[str, Any]]]] = {}
    for folder in complete:
        config = _comparable(folder)
        groups.setdefault(fingerprint(config), []).append((folder, config))
    flat = [(flatten(members[0][1]), members) for members in groups.values()]
    configs = [config for config, _ in flat]
    differing = varying(configs)
    flat.sort(key=lambda pair: [_order(pair[0].get(key)) for key in differing])
    return [
        _setting(_title(config, configs), config, [folder for folder, _ in members])
        for config, members in flat
    ]


def ordered(study: Path, settings: Sequence[Setting], reference: str = "") -> list[Setting]:
    """Put settings into the order of their study's arms, one that all are compared with in front.

    Args:
        study: Its folder.
        settings: As ``gather`` gives them.
        reference: Title of the one in front; empty for none.

    Raises:
        ConfigError: There is no such setting.
    """
    titles = [setting.title for setting in settings]
    if reference and reference not in titles:
        raise ConfigError(
            f"There is no setting '{reference}' to compare with.{nearest(reference, titles)} "
            f"There are: {', '.join(titles)}."
        )
    arms = list(study_settings(study).get("arms") or {})
    places = {arm: place for place, arm in enumerate(arms)}
    return sorted(
        settings, key=lambda one: (one.title != reference, places.get(one.config.get("arm", ""), 0))
    )


def _order(value: Any) -> tuple[bool, float, str]:
    """Give a value its place among others: numbers by size, and then words."""
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, "" if number else str(value)


def _comparable(folder: RunFolder) -> dict[str, Any]:
    """Give what of a run's configuration sets it apart, settings newer than the run filled in.

    Raises:
        StoreError: It was written by a version that noted less.
    """
    record = folder.record()
    if "data_identity" not in record:
        raise StoreError(
            f"{folder.path} was written by an early version, which noted less. Delete it and run "
            "the study again."
        )
    known = {k: v for k, v in folder.config().items() if k in RunSettings.model_fields}
    config = RunSettings.model_validate(known).model_dump(mode="json", exclude=_NOT_A_SETTING)
    del config["backbone"]["device"]
    return config | {"contents": f"{record['data_identity']}, {record['backbone_identity']}"}


def _setting(title: str, config: dict[str, Any], folders: Sequence[RunFolder]) -> Setting:
    """Sum one setting up."""
    predictions = pl.concat([folder.predictions() for folder in folders])
    records = [folder.record() for folder in folders]
    summary = summarise(predictions, parallel=bool(records[0]["parallel"]))
    losses = {folder.name: _last_loss(folder) for folder in folders}
    found = diagnose(predictions, summary, losses, records[0]["labels"])
    warnings = (*contamination_notes(records[0]["backbone_notes"]), *found)
    return Setting(title, config, tuple(folders), tuple(records), summary, warnings)


def _last_loss(folder: RunFolder) -> float | None:
    """Average the training loss over a run's last epoch; None where it is not over the labels."""
    head = folder.config()["head"]
    if head.get("loss") == "vocabulary" or head["kind"] == "generator":
        return None
    lines = (folder.path / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [step for step in map(json.loads, lines) if step["loss"] is not None]
    last = [step["loss"] for step in steps if step["epoch"] > steps[-1]["epoch"] - 1]
    return sum(last) / len(last) if last else None


def _title(config: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> str:
    """Name a setting by what differs between settings, or between those of its arm."""
    arm = config.get("arm", "")
    keys = varying([other for other in configs if other.get("arm", "") == arm])
    shown = dict(config) | {"backbone.name": marked(str(config["backbone.name"]))}
    named = [arm] if arm else []
    return ", ".join([*named, *(f"{key}={_shown(shown.get(key))}" for key in keys)]) or "All runs"


def _shown(value: Any) -> str:
    """Write a value as people do: several joined by a plus."""
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def markdown_report(title: str, sections: Sequence[Section]) -> str:
    """Write a report as Markdown."""
    lines = [f"# {title}", ""]
    for section in sections:
        if len(sections) > 1:
            lines += [f"## {section.title}", ""]
        lines += [section.headline, ""]
        lines += [f"- Warning: {text}" for text in section.warnings]
        lines += [""] if section.warnings else []
        lines += [markdown_tables(section.tables)]
        lines += [f"- {note}" for note in section.notes] + [""]
    return "\n".join(lines)


def markdown_tables(tables: Sequence[Table]) -> str:
    """Write tables as Markdown, one below the other."""
    return "".join(f"**{table.title}**\n\n{markdown(table)}\n\n" for table in tables)
