"""Says of a study what it cost, what was left out of its report, and how it was made."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl
import yaml
from pydantic import ValidationError

from polyprompt.errors import StoreError
from polyprompt.experiments.overview import State, read_plan, run_states
from polyprompt.experiments.results import Setting
from polyprompt.experiments.store import study_settings
from polyprompt.languages.catalogue import catalogue
from polyprompt.report.chapters import Listing
from polyprompt.report.score_tables import Table
from polyprompt.study_settings import StudySettings
from polyprompt.tables import read_json

_STAGES = ("train", "read")


def cost_table(settings: Sequence[Setting]) -> Table:
    """Tabulate what a run of each setting cost, as a mean over its runs."""
    rows = tuple(_cost(setting) for setting in settings)
    columns = (
        "setting", "trained numbers", "share of the model", "on disk", "steps", "training",
        "reading", "tokens trained on", "tokens read", "most memory", "engine",
    )  # fmt: skip
    title = "A run's cost, mean over runs (runs that were computed together share it evenly)"
    return Table(title, columns, rows, "lrrrrrrrrrl")


def _cost(setting: Setting) -> tuple[str, ...]:
    """Write one setting."""
    found = [record["accounting"] for record in setting.records if "accounting" in record]
    first = setting.records[0]
    shown = [setting.title, f"{first['trained_parameters']:,}"]
    if not found:
        return (*shown, *["–"] * 8, str(first["engine"]))
    peaks = [
        f"{max(one['peak_memory_bytes'].get(place, 0) for one in found) / 2**30:.1f} GiB{named}"
        for place, named in (("host", ""), ("device", " on the device"))
        if any(place in one["peak_memory_bytes"] for one in found)
    ]
    return (
        *shown,
        f"{found[0]['trained_share']:.4%}",
        f"{mean(one['stored_bytes'] for one in found) / 1000:,.0f} kB",
        f"{mean(record['steps'] for record in setting.records):.0f}",
        *(f"{_stage(found, stage, 'seconds'):,.1f} s" for stage in _STAGES),
        *(f"{_stage(found, stage, 'tokens'):,.0f}" for stage in _STAGES),
        ", ".join(peaks),
        str(first["engine"]),
    )


def _stage(found: Sequence[dict[str, Any]], stage: str, what: str) -> float:
    """Average what a stage took."""
    return mean(one["stages"].get(stage, {}).get(what, 0) for one in found)


def left_out(study: Path, settings: Sequence[Setting]) -> list[str]:
    """Say what the report does not count, and why."""
    notes = [*_runs_left_out(study), *_languages_left_out(settings)]
    for setting in settings:
        notes += [f"{setting.title}: {note}" for note in _items_left_out(setting.predictions())]
    return notes or ["Nothing."]


def _runs_left_out(study: Path) -> list[str]:
    """Name runs of the study's plan that are not complete."""
    try:
        states = run_states(study, read_plan(study))
    except StoreError:
        return ["The study's plan is not at hand: whether runs are missing is not known."]
    counts = Counter(one.state for one in states if one.state is not State.DONE)
    notes = [
        f"{number} of {len(states)} runs are {state.value}." for state, number in counts.items()
    ]
    failed = [one for one in states if one.state is State.FAILED]
    return [*notes, *(f"Failed run {one.name}: {one.note}" for one in failed)]


def _languages_left_out(settings: Sequence[Setting]) -> list[str]:
    """Name languages that not all settings have, and those of which facts are missing."""
    codes = [{row.code for row in setting.summary.languages} for setting in settings]
    every, common = set.union(*codes), set.intersection(*codes)
    notes = []
    if every - common:
        named = ", ".join(sorted(every - common))
        notes.append(f"Not tested in all settings, and left out where they are paired: {named}.")
    unknown = sorted(code for code in every if code not in catalogue())
    if unknown:
        notes.append(
            f"Not in the table of languages, so without family, place and distances: "
            f"{', '.join(unknown)}."
        )
    return notes


def _items_left_out(predictions: pl.DataFrame) -> list[str]:
    """Count items without a label, texts that were cut off and answers that could not be read."""
    answers = predictions.filter(pl.col("baseline").is_null())
    own = answers.unique(["language", "id"])
    notes = []
    unlabelled = own.filter(pl.col("label").is_null()).height
    if unlabelled:
        notes.append(f"{unlabelled} items without a label are not scored.")
    cut = own.filter(pl.col("truncated") > 0).height if "truncated" in own.columns else 0
    if cut:
        notes.append(f"{cut} of {own.height} texts were cut off, their ends not read.")
    if "unread" in own.columns and (unread := answers.filter(pl.col("unread")).height):
        notes.append(f"{unread} of {answers.height} written answers could not be read as a label.")
    return notes


def listings(study: Path, settings: Sequence[Setting]) -> list[Listing]:
    """Give a study's settings as they were written, the versions, and what the search chose."""
    record = settings[0].records[0]
    versions = {
        **record.get("versions", {}),
        "python": record.get("python", ""),
        "platform": record.get("platform", ""),
        "backbones and contents": _named(settings, "backbone", "backbone_identity"),
        "tasks and data contents": _named(settings, "task", "data_identity"),
    }
    found = [
        Listing("Versions", yaml.safe_dump(versions, sort_keys=False, allow_unicode=True)),
        Listing("Settings of the first run, defaults written out", _config(settings[0])),
    ]
    asked = _asked(study)
    if asked:
        found.insert(0, Listing("The study's settings, without defaults", asked, opened=True))
    chosen = study / "chosen.json"
    if chosen.is_file():
        text = yaml.safe_dump(read_json(chosen), sort_keys=False, allow_unicode=True)
        found.append(Listing("What the search chose on dev", text))
    return found


def _named(settings: Sequence[Setting], name: str, identity: str) -> list[str]:
    """Name what settings have with what it holds, each once."""
    records = [setting.records[0] for setting in settings]
    return list(dict.fromkeys(f"{one[name]} ({one[identity]})" for one in records))


def _asked(study: Path) -> str:
    """Give what a study's file sets, in the form of a file that sets the same."""
    given = study_settings(study)
    known = {key: value for key, value in given.items() if key in StudySettings.model_fields}
    try:
        settings = StudySettings.model_validate(known)
    except ValidationError:  # of an earlier version
        return yaml.safe_dump(given, sort_keys=False, allow_unicode=True) if given else ""
    found = settings.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True)


def _config(setting: Setting) -> str:
    """Read the settings of a run."""
    return yaml.safe_dump(setting.runs[0].config(), sort_keys=False, allow_unicode=True)
