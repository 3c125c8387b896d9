"""Composes the report of a study: what came out, what it goes with, what it cost, how it was made.

Reads runs on disk; ``report`` writes what is composed here.
"""

from collections.abc import Sequence
from pathlib import Path

from polyprompt.analysis.account import are_paired
from polyprompt.analysis.change import change_between
from polyprompt.experiments.designs import trends_of
from polyprompt.experiments.inside_page import inside_chapter
from polyprompt.experiments.makings import cost_table, left_out, listings
from polyprompt.experiments.results import Setting
from polyprompt.experiments.setting_page import setting_chapter
from polyprompt.report.chapters import Block, Chapter, Notes, Words
from polyprompt.report.figure import Figure
from polyprompt.report.setting_figures import (
    change_figure,
    heat_map,
    overview,
    paired_dots,
    trend,
)
from polyprompt.report.setting_tables import setting_table

_MOST_CHANGES = 8
"""Settings that are each compared with the first in a figure of their own."""


def chapters_of(study: Path, settings: Sequence[Setting]) -> list[Chapter]:
    """Compose a study's report.

    Args:
        study: Its folder.
        settings: Of its complete runs.
    """
    several = len(settings) > 1
    titles = [setting.title if several else "Result" for setting in settings]
    parts = [
        setting_chapter(setting, f"setting{number}", title, folded=several)
        for number, (setting, title) in enumerate(zip(settings, titles, strict=True), start=1)
    ]
    inside = inside_chapter(settings)
    makings = listings(study, settings)
    return [
        *([_together(settings), Chapter("Setting by setting", (), parts)] if several else parts),
        *([inside] if inside else []),
        Chapter("What it cost", (cost_table(settings),)),
        Chapter("What was left out", (Notes(left_out(study, settings)),)),
        Chapter("How it was made", makings),
    ]


def _together(settings: Sequence[Setting]) -> Chapter:
    """Set settings beside one another."""
    table = setting_table(settings)
    measured = {(one.records[0]["task"], _items(one), one.summary.metric) for one in settings}
    if len(measured) > 1:
        words = Words(
            "The settings are of several tasks, data or metrics: none is called the best, and none "
            "is drawn beside another. Each has its own part below."
        )
        return Chapter("Settings", (words, table))
    best = max(settings, key=lambda one: one.summary.overall.accuracy.mean)
    highest = f"Highest mean of {len(settings)} settings: {best.title}. {best.section().headline}"
    flattered = (
        "It is the highest on the very items it is measured on, so its mean is flattered; choose a "
        "setting on dev splits (search, recommend)."
    )
    summaries = {setting.title: setting.summary for setting in settings}
    drawn = [
        overview(summaries), *_trends(settings), paired_dots(summaries), heat_map(summaries)
    ]  # fmt: skip
    figures: list[Block] = [figure for figure in drawn if figure is not None]
    words = (Words(highest, "headline"), Words(flattered))
    return Chapter("Settings", (*words, table, *figures), _changes(settings))


def _items(setting: Setting) -> str:
    """Name the data a setting was tested on."""
    return str(setting.records[0]["data_identity"])


def _trends(settings: Sequence[Setting]) -> list[Figure]:
    """Draw means along every number that sets settings apart."""
    metric = settings[0].summary.metric
    return [
        trend(f"trend_{number}", lines, metric)
        for number, lines in enumerate(trends_of(settings), start=1)
    ]


def _changes(settings: Sequence[Setting]) -> list[Chapter]:
    """Draw what settings change against the first, where they have its seeds and items."""
    first, *others = settings
    reference = first.arm()
    arms = [arm for one in others if are_paired(reference, arm := one.arm())]
    if not arms:
        return []
    figures: list[Block] = [
        change_figure(f"change_{number}", change_between(reference, arm))
        for number, arm in enumerate(arms[:_MOST_CHANGES], start=1)
    ]
    left = len(others) - len(figures)
    if left:
        figures.insert(0, Words(
            f"{left} settings are not drawn: they have other seeds or items than {first.title}, or "
            f"come behind the first {_MOST_CHANGES}."
        ))  # fmt: skip
    return [Chapter(f"What changes against {first.title}", figures, folded=True)]
