"""Composes the part of a report that shows how far probabilities are to be believed."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from polyprompt.analysis.confidence import (
    Bin,
    Confidence,
    arrays_of,
    averaged,
    confidence_by_language,
    reliability,
)
from polyprompt.experiments.results import Setting
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.temperature import calibration_of
from polyprompt.languages.catalogue import language_name
from polyprompt.report.chapters import Chapter, Words
from polyprompt.report.confidence_figures import reliability_figure
from polyprompt.report.confidence_tables import confidence_rows
from polyprompt.scoring.calibration import calibrated


def probability_chapter(setting: Setting, name: str) -> Chapter | None:
    """Compose it, of a setting that scores the labels of whole texts; None of others.

    Args:
        setting: Its complete runs.
        name: Of its figures' files.
    """
    record = setting.records[0]
    if record.get("kind", "classification") != "classification" or record.get("form"):
        return None
    temperatures = {run.name: _temperature(run) for run in setting.runs}
    answers = {run.name: _scored(run) for run in setting.runs}
    found = _by_language(answers, record["labels"], temperatures)
    if not found:
        return None
    groups = {
        title: bins for title, bins in _groups(setting, answers, temperatures).items() if bins
    }
    changed = sum(value != 1 for value in temperatures.values())
    verb = "was" if changed == 1 else "were"
    told = (
        "No run was calibrated; 'polyprompt calibrate RUN' does it."
        if not changed
        else f"{changed} of {len(temperatures)} runs {verb} calibrated, on train and dev examples "
        f"of the source: temperature {_range(temperatures)}."
    )
    return Chapter(
        "Probabilities",
        (
            Words(told),
            reliability_figure(f"{name}_reliability", groups),
            confidence_rows(found, len(setting.runs), calibrated=bool(changed)),
        ),
        folded=True,
    )


def _temperature(run: RunFolder) -> float:
    """Give the temperature that a run answers with."""
    known = calibration_of(run)
    return 1.0 if known is None else known.temperature


def _range(temperatures: Mapping[str, float]) -> str:
    """Write the temperatures of runs."""
    low, high = min(temperatures.values()), max(temperatures.values())
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


def _by_language(
    answers: Mapping[str, pl.DataFrame], labels: Sequence[str], temperatures: Mapping[str, float]
) -> dict[str, Confidence]:
    """Measure every language, and average the runs."""
    of_language: dict[str, list[Confidence]] = {}
    for run, own in answers.items():
        for one in confidence_by_language(own, labels, temperatures[run]):
            of_language.setdefault(one.language, []).append(one)
    return {language_name(code): averaged(own) for code, own in of_language.items()}


def _groups(
    setting: Setting, answers: Mapping[str, pl.DataFrame], temperatures: Mapping[str, float]
) -> dict[str, list[Bin]]:
    """Put the answers of all runs into bins: those to the source languages, and all others."""
    labels = setting.records[0]["labels"]
    named = " and ".join(map(language_name, setting.sources))
    is_source = pl.col("language").is_in(setting.sources)
    found = {}
    for title, chosen in ((named, is_source), ("other languages", ~is_source)):
        pairs = {run: arrays_of(own.filter(chosen), labels) for run, own in answers.items()}
        probabilities = [calibrated(own, temperatures[run]) for run, (own, _) in pairs.items()]
        truth = [right for _, right in pairs.values()]
        found[title] = reliability(np.concatenate(probabilities), np.concatenate(truth))
    return found


def _scored(run: RunFolder) -> pl.DataFrame:
    """Read a run's own answers, where they have a score per label, all of them numbers."""
    predictions = run.predictions().filter(pl.col("baseline").is_null())
    finite = pl.col("scores").list.eval(pl.element().is_finite()).list.all()
    return predictions.filter(pl.col("scores").list.len() > 1, finite)
