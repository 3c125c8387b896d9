"""Composes the report of a study: what came out, what it goes with, what it cost, how it was made.

Reads runs on disk; ``report`` writes what is composed here.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from polyprompt.analysis.account import are_paired
from polyprompt.analysis.change import Change, change_between
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
    summaries = {setting.title: setting.summary for setting in settings}
    ordered = sorted(settings, key=lambda one: -one.summary.overall.accuracy.mean)
    best = ordered[0]
    metrics = {one.summary.metric for one in settings}
    words = [
        Words(f"Highest mean of {len(settings)} settings: {best.title}. {best.section().headline}",
              "headline"),
        Words(
            "It is the highest on the test items themselves, so its mean is flattered; choose a "
            "setting on dev splits (search, recommend)."
        ),
    ]  # fmt: skip
    drawn: list[Figure | None] = []
    if len(metrics) == 1:
        drawn = [
            overview(summaries),
            *_trends(settings),
            paired_dots(summaries),
            heat_map(summaries),
        ]
    figures: list[Block] = [figure for figure in drawn if figure is not None]
    changes = _changes(settings) if len(metrics) == 1 else []
    below = [Chapter("What changes in which language", changes, folded=True)] if changes else []
    return Chapter("Settings", (*words, setting_table(settings), *figures), below)


def _trends(settings: Sequence[Setting]) -> list[Figure]:
    """Draw means along every number that sets settings apart."""
    metric = settings[0].summary.metric
    return [
        trend(f"trend_{number}", lines, metric)
        for number, lines in enumerate(trends_of(settings), start=1)
    ]


def _changes(settings: Sequence[Setting]) -> list[Figure]:
    """Draw what settings change against the first, where they have its seeds and items."""
    return [
        change_figure(f"change_{number}", change)
        for number, change in enumerate(_compared(settings), start=1)
    ]


def _compared(settings: Sequence[Setting]) -> list[Change]:
    """Compare settings with the first of the same backbone and task."""
    first, *others = settings
    reference = first.arm()
    arms = chain(one.arm() for one in others[:_MOST_CHANGES])
    return [change_between(reference, arm) for arm in arms if are_paired(reference, arm)]
