"""Composes the part of a report on what runs recorded inside; nothing where none did."""

from collections.abc import Sequence

import numpy as np

from polyprompt.analysis.attention import attention_profile
from polyprompt.experiments.recorded_account import (
    POOLED,
    Recorded,
    alignment_of,
    recorded_of,
    recorded_tables,
)
from polyprompt.experiments.results import Setting
from polyprompt.experiments.store import RunFolder
from polyprompt.records import READERS
from polyprompt.report.chapters import Block, Chapter, Notes
from polyprompt.report.figure import Figure
from polyprompt.report.recorded_figures import alignment_figure, attention_figure, path_figure

_MOST = 4
"""Settings whose attention and paths are drawn."""


def inside_chapter(settings: Sequence[Setting]) -> Chapter | None:
    """Show alignment of states, attention and paths of prompts."""
    found = [recorded_of(setting) for setting in settings]
    tables, notes = recorded_tables(settings)
    if not tables and not notes:
        return None
    figures = [
        *_alignments([one for one in found if one.states]),
        *_attention([one for one in found if one.attention][:_MOST]),
        *_paths([one for one in found if one.paths][:_MOST]),
    ]
    blocks: list[Block] = [*figures, *tables, Notes(notes)]
    return Chapter("Inside the model", blocks, folded=True)


def _alignments(found: Sequence[Recorded]) -> list[Figure]:
    """Draw alignment, of each kind of state; runs of another model or depth are left out."""
    kept = [one for one in found if one.setting.records[0]["parallel"]]
    if not kept:
        return []
    model = kept[0].setting.records[0]["backbone_identity"]
    same = [one for one in kept if one.setting.records[0]["backbone_identity"] == model]
    return [
        alignment_figure(
            f"alignment_{pooled}",
            {one.setting.title: alignment_of(one, pooled) for one in same},
            title,
        )
        for pooled, title in POOLED.items()
    ]


def _attention(found: Sequence[Recorded]) -> list[Figure]:
    """Draw where the attention of the state that the head reads goes, setting by setting."""
    figures = []
    for number, one in enumerate(found, start=1):
        runs = [_profiles(run, one.setting.sources) for run in one.attention]
        groups = dict.fromkeys(name for own in runs for name in own)
        profiles = {
            name: np.mean([own[name] for own in runs if name in own], axis=0) for name in groups
        }
        figure = attention_figure(f"attention_{number}", profiles, READERS[-1])
        title = f"{one.setting.title}: {figure.title[0].lower()}{figure.title[1:]}"
        figures.append(Figure(figure.name, title, figure.caption, figure.svg))
    return figures


def _profiles(run: RunFolder, sources: Sequence[str]) -> dict[str, np.ndarray]:
    """Average a run's attention over the source languages, and over the others."""
    weights = run.arrays("attention")["weights"]
    languages = run.recorded_items()["language"].to_list()
    known = list(dict.fromkeys(languages))
    groups = {
        "source": [code for code in known if code in sources],
        "other languages": [code for code in known if code not in sources],
    }
    return {
        name: attention_profile(weights, languages, codes)
        for name, codes in groups.items()
        if codes
    }


def _paths(found: Sequence[Recorded]) -> list[Figure]:
    """Draw the paths of prompts, setting by setting."""
    figures = []
    for number, one in enumerate(found, start=1):
        paths = {}
        for run in one.paths:
            own = run.arrays("prompt_path")
            if "vectors" in own and len(own["vectors"]) > 1:
                paths[_seeds(run)] = own["vectors"], int(own["kept"][0])
        if paths:
            figure = path_figure(f"path_{number}", paths)
            title = f"{one.setting.title}: {figure.title[0].lower()}{figure.title[1:]}"
            figures.append(Figure(figure.name, title, figure.caption, figure.svg))
    return figures


def _seeds(run: RunFolder) -> str:
    """Name a run by its seeds."""
    record = run.record()
    draw, train = record["draw_seed"], record["train_seed"]
    return f"seed {train}" if draw == train else f"draw {draw}, training {train}"
