"""Composes one setting's part of a report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from polyprompt.analysis.change import Change, changes_from_baselines
from polyprompt.analysis.mistakes import Mistake, confident_mistakes, confusions, recalls
from polyprompt.analysis.summary import BASELINE_TITLES
from polyprompt.experiments.explaining import facts_of
from polyprompt.experiments.probability_page import probability_chapter
from polyprompt.experiments.results import Setting
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.test_texts import TestTexts
from polyprompt.languages.catalogue import language_name
from polyprompt.languages.distance import KINDS
from polyprompt.report.chapters import Block, Chapter, Confusion, Notes, Words
from polyprompt.report.distance_figures import (
    against_facts,
    against_table,
    distance_figure,
)
from polyprompt.report.language_figures import (
    TrainingCurve,
    curve_figure,
    group_figure,
    label_figure,
)
from polyprompt.report.language_tables import full_language_table, mistake_table
from polyprompt.report.score_tables import difference_table, script_table
from polyprompt.report.world import world_map
from polyprompt.scoring.metrics import gives_classes

FACTS = (*KINDS, "log_corpus", "tokens", "fertility")
"""Drawn against the results, where they are known."""
_CURVES = {"loss": "training loss", "dev_loss": "dev loss", "dev_accuracy": "dev score"}
"""What is drawn of a run's steps, by its name in ``steps.jsonl``."""
_MOST_LABELS = 30
_ALL = "all languages but the source"


def setting_chapter(setting: Setting, name: str, title: str, *, folded: bool) -> Chapter:
    """Compose a setting's part.

    Args:
        setting: Its complete runs.
        name: Of its figures' files.
        title: Of the part.
        folded: Whether it begins closed.
    """
    section, predictions = setting.section(), setting.predictions()
    changes = changes_from_baselines(setting.title, predictions)
    known = setting.summary.overall.baselines
    constant = next((one for one in ("majority", "positive") if one in known), None)
    blocks: list[Block | None] = [
        *section.opening(),
        Notes([_where(change) for change in changes]) if changes else None,
        world_map(f"{name}_map", setting.summary, constant),
        full_language_table(setting.summary),
        *([difference_table(setting.summary)] if setting.summary.differences else []),
        Notes(section.notes),
    ]
    parts = (
        _groups(setting, name),
        _distances(setting, name),
        _training(setting, name),
        _answers(setting, name, predictions),
        probability_chapter(setting, name),
    )
    found = [one for one in parts if one is not None]
    return Chapter(
        title, [block for block in blocks if block is not None], found, folded, optional=True
    )


def _where(change: Change) -> str:
    """Say in which languages a baseline is better, and in how many the setting is."""
    title = BASELINE_TITLES.get(change.first, change.first)
    title = title[:1].upper() + title[1:]
    better, worse = change.better(), change.worse()
    number = len(change.languages)
    if not better and not worse:
        return f"{title}: in none of {number} languages can it be told from the prompt."
    names = f" ({', '.join(map(language_name, worse))})" if worse else ""
    rest = "" if len(better) + len(worse) == number else "; in the others they cannot be told apart"
    return (
        f"{title}: the prompt is better in {len(better)} of {number} languages, the baseline in "
        f"{len(worse) or 'none'}{names}{rest}."
    )


def _groups(setting: Setting, name: str) -> Chapter | None:
    """Show languages by family and script."""
    if len(setting.summary.languages) < 3:
        return None
    figures = [group_figure(f"{name}_{by}", setting.summary, by) for by in ("family", "script")]
    return Chapter("Families and scripts", (*figures, script_table(setting.summary)))


def _distances(setting: Setting, name: str) -> Chapter | None:
    """Show results against distances and other facts of languages."""
    facts = facts_of(setting, setting.arm(), None, "attested")
    found = against_facts(setting.summary, facts, setting.sources, FACTS)
    figure = distance_figure(f"{name}_distance", setting.summary, facts, setting.sources, found)
    if figure is None or not any(one.correlation.r is not None for one in found):
        return None
    words = Words(
        "Seen from the source language, of several from the nearest. 'polyprompt analyse' gives "
        "ranks, corpus sizes, slopes between settings and what else goes with it."
    )
    return Chapter("Distance from the source", (words, figure, against_table(found)))


def _training(setting: Setting, name: str) -> Chapter | None:
    """Show how training went."""
    figure = curve_figure(f"{name}_training", _curves(setting))
    return Chapter("Training", (figure,)) if figure else None


def _curves(setting: Setting) -> list[TrainingCurve]:
    """Read the losses of a setting's runs and what was measured on dev in between."""
    pairs = zip(setting.runs, setting.records, strict=True)
    return [curve for run, record in pairs for curve in _curves_of(run, record)]


def _curves_of(run: RunFolder, record: Mapping[str, Any]) -> Iterator[TrainingCurve]:
    """Read the curves of one run; what was measured once is none."""
    lines = (run.path / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    draw, train = record["draw_seed"], record["train_seed"]
    named = f"seed {train}" if draw == train else f"draw {draw}, training {train}"
    for key, title in _CURVES.items():
        there = [step for step in steps if step.get(key) is not None]
        if len(there) > 1:
            epochs, values = [one["epoch"] for one in there], [one[key] for one in there]
            yield TrainingCurve(named, title, epochs, values)


def _answers(setting: Setting, name: str, predictions: pl.DataFrame) -> Chapter | None:
    """Show what was answered instead, where answers are labels."""
    labels = setting.records[0]["labels"]
    classes = gives_classes(setting.summary.metric) or setting.summary.metric == "accuracy"
    if not classes or not 2 <= len(labels) <= _MOST_LABELS:
        return None
    found = confusions(predictions, labels)
    order = sorted(setting.summary.languages, key=lambda row: -row.accuracy.mean)
    of_language = {row.code: found[row.code] for row in order if row.code in found}
    shares = {language_name(code): recalls(own, labels) for code, own in of_language.items()}
    others = [own for code, own in of_language.items() if code not in setting.sources]
    counts = {_ALL: sum(others[1:], others[0])} if len(others) > 1 else {}
    counts |= {language_name(code): own for code, own in of_language.items()}
    blocks: list[Block] = [
        label_figure(f"{name}_labels", shares, labels),
        Confusion("Answers over all runs", labels, counts),
        *_mistakes(setting, confident_mistakes(predictions, labels)),
    ]
    return Chapter("Labels and mistakes", blocks)


def _mistakes(setting: Setting, found: Sequence[Mistake]) -> list[Block]:
    """Show the most confident mistakes with their texts."""
    if not found:
        return []
    texts = TestTexts(setting)
    table = mistake_table(
        found, {key: texts.of(*key) for key in {(m.language, m.id) for m in found}}
    )
    return [table, *([Words(texts.why_not)] if texts.why_not else [])]
